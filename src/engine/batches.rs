//! The engine's side of submission for customers: hands out calls whose attempt is durable, and writes down what came of
//! each record in them.

use super::{Engine, Sending};
use crate::disk::Disk;
use crate::entry::{BatchAnswered, BatchAttempt, Entry, RecordKey, Request, Verdict};
use crate::hour::Timestamp;
use crate::rollup::state::Phase;
use crate::submit::answer::{self, OfCall, Reply};
use crate::submit::dispatch::Next;
use crate::wal::LogError;
use crate::wal::spares::Need;

impl<D: Disk> Engine<D> {
    /// What the submitter is to do now. For a call the attempt is durable when this returns.
    pub(super) fn next_call(&mut self, now: Timestamp) -> Result<Sending, LogError> {
        let in_doubt = self.state.clocks.doubt.is_some();
        if self.state.name().is_none() && !in_doubt {
            return Ok(Sending::Idle);
        }
        let only_ask = in_doubt || (self.outbox.doubts_clock() && self.state.something_waits());
        let in_flight_max = self.options.calls_in_flight;
        let keys = match self.dispatch.next(&self.state, now, self.offset(), in_flight_max, only_ask) {
            Next::Idle => return Ok(Sending::Idle),
            Next::Wait(until) => return Ok(Sending::Wait(until)),
            Next::Probe => {
                self.dispatch.begun(now);
                return Ok(Sending::ProbeBatch);
            }
            Next::Send(keys) => keys,
        };
        let requests: Vec<Request> = keys.iter().filter_map(|key| self.request(*key)).collect();
        self.flush_building(now)?;
        self.record(&Entry::BatchAttempt(BatchAttempt { at: now, keys: keys.clone() }), Need::Control, now)?;
        self.commit(now)?;
        self.dispatch.begun(now);
        Ok(Sending::Batch(keys, requests))
    }

    /// Writes down what a call came to. Durable when it returns.
    pub fn answered_batch(&mut self, keys: &[RecordKey], reply: &Reply, now: Timestamp) -> Result<(), LogError> {
        let records = keys.iter().filter_map(|key| self.state.records.get(key));
        let requests: Vec<Request> = records.clone().map(|r| r.record.request.clone()).collect();
        let window = records.map(|r| r.deadline(self.state.window).since(r.record.request.timestamp)).next();
        let window = window.unwrap_or(self.state.window);
        let came_to = answer::judge_batch(reply, &requests, &self.state.product_code, window);
        let records = to_each(keys, &came_to, reply);
        let whole = of_the_call(&came_to);
        self.aws.calls.record(&whole);
        self.heard(reply, Some(&whole), now);
        self.heed_aws(reply, now)?;
        let accepted = records.iter().filter(|(_, verdict, _)| matches!(verdict, Verdict::Accepted { .. })).count();
        tracing::info!(records = records.len(), accepted, message = reply.message, "a call was answered by AWS");
        self.flush_building(now)?;
        let request_id = reply.request_id.clone();
        self.record(&Entry::BatchAnswered(BatchAnswered { at: now, request_id, records }), Need::Control, now)?;
        // Not before it is written down: what finds no room is offered again.
        self.dispatch.answered(keys, &came_to, reply.retry_after, now);
        let pending = |key: &&RecordKey| self.state.records.get(key).is_some_and(|r| r.phase == Phase::Pending);
        let done: Vec<&RecordKey> = keys.iter().filter(|key| !pending(key)).collect();
        done.into_iter().for_each(|key| self.dispatch.forget(key));
        self.commit(now)
    }
}

fn to_each(keys: &[RecordKey], came_to: &OfCall, reply: &Reply) -> Vec<(RecordKey, Verdict, String)> {
    let keys = keys.iter().copied();
    match came_to {
        OfCall::Records(each) => {
            keys.zip(each).map(|(key, (verdict, word))| (key, verdict.clone(), word.clone())).collect()
        }
        OfCall::Split => {
            keys.map(|key| (key, Verdict::NotTaken, format!("sent again in halves: {}", reply.message))).collect()
        }
        OfCall::All(verdict) => keys.map(|key| (key, verdict.clone(), reply.message.clone())).collect(),
    }
}

/// What the call as a whole says of AWS.
fn of_the_call(came_to: &OfCall) -> Verdict {
    match came_to {
        OfCall::All(verdict) => verdict.clone(),
        OfCall::Split => Verdict::Refused,
        OfCall::Records(each) => {
            let taken = each.iter().find(|(verdict, _)| matches!(verdict, Verdict::Accepted { .. }));
            taken.or(each.first()).map_or(Verdict::Ambiguous, |(verdict, _)| verdict.clone())
        }
    }
}
