//! The engine's side of submission: hands out requests whose attempt is durable, and writes down what came of them.

use std::time::Duration;

use crate::config::Offset;
use crate::disk::Disk;
use crate::entry::{Answered, Attempt, Entry, RecordKey, Request, Verdict};
use crate::hour::Timestamp;
use crate::submit::answer::{self, Outcome, Reply};
use crate::submit::outbox::{Next, spread};
use crate::wal::LogError;
use crate::wal::spares::Need;

use super::{Calls, Engine};

/// What the submitter is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// Send this request; its attempt is in the log.
    Record(RecordKey, Request),
    /// Send it as a dry run.
    Probe(Request),
    /// Send these requests in one call; their attempt is in the log.
    Batch(Vec<RecordKey>, Vec<Request>),
    /// Send a call with no record in it.
    ProbeBatch,
    /// Come back at this moment.
    Wait(Timestamp),
    /// Come back when something was sealed.
    Idle,
}

/// What was last heard of AWS. In memory only.
#[derive(Debug, Clone, Default)]
pub struct AwsSeen {
    /// What the last failed call said.
    pub last_error: Option<String>,
    /// The last failure was one of rights or credentials.
    pub blocked: bool,
    /// AWS called a record out of bounds that by its own clock is not.
    pub clock_refused: bool,
    /// AWS answered the last record with an error that nobody knows.
    pub unknown_answer: bool,
    /// AWS's clock less ours, in milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// Since when calls have been failing.
    pub failing_since: Option<Timestamp>,
    /// What calls came to since the start.
    pub calls: Calls,
}

impl<D: Disk> Engine<D> {
    /// What the submitter is to do now. For a record the attempt is durable when this returns.
    pub fn next_sending(&mut self, now: Timestamp) -> Result<Sending, LogError> {
        if self.options.saas {
            return self.next_call(now);
        }
        let next = match self.state.clocks.doubt {
            // Only a dry run, whose answer tells what time it is.
            Some(_) => self.outbox.when(now),
            // Whose records these are is not certain.
            None if self.state.name().is_none() => Next::Idle,
            None => self.outbox.next(&self.state, now, self.offset()),
        };
        match next {
            Next::Ask => Ok(Sending::Probe(self.clock_question(now))),
            Next::Idle => Ok(Sending::Idle),
            Next::Wait(until) => Ok(Sending::Wait(until)),
            Next::Probe(key) => Ok(self.request(key).map_or(Sending::Idle, Sending::Probe)),
            Next::Send(key) => {
                let Some(request) = self.request(key) else { return Ok(Sending::Idle) };
                self.flush_building(now)?;
                self.record(&Entry::Attempt(Attempt { key, at: now }), Need::Control, now)?;
                self.commit(now)?;
                Ok(Sending::Record(key, request))
            }
        }
    }

    /// How long after an hour its records go out; not before its grace is over. At the end of the instance at once.
    pub(super) fn offset(&self) -> Duration {
        if self.ending.is_some() {
            return Duration::ZERO;
        }
        let offset = match (self.options.offset, &self.state.instance) {
            (Offset::Fixed(offset), _) => offset,
            (Offset::Auto, instance) => spread(&self.state.product_code, instance.as_deref().unwrap_or_default()),
        };
        offset.max(self.options.grace)
    }

    pub(super) fn request(&self, key: RecordKey) -> Option<Request> {
        let known = self.state.records.get(&key).map(|r| r.record.request.clone());
        known.or_else(|| self.state.fresh_record(&key).map(|record| record.request))
    }

    /// Writes down what an attempt came to. Durable when it returns.
    pub fn answered(&mut self, key: RecordKey, reply: &Reply, now: Timestamp) -> Result<(), LogError> {
        let Some(request) = self.request(key) else { return Ok(()) };
        let verdict = answer::judge(reply, &request, self.state.window);
        self.aws.calls.record(&verdict);
        self.heard(reply, Some(&verdict), now);
        self.heed_aws(reply, now)?;
        self.outbox.answered(key, &verdict, reply.retry_after, now);
        let (dimension, hour) = (&request.dimension, key.hour);
        match &verdict {
            Verdict::Accepted { metering_record_id } => {
                tracing::info!(%hour, dimension, quantity = request.quantity, metering_record_id, "accepted by AWS");
            }
            other => tracing::warn!(%hour, dimension, verdict = ?other, message = reply.message, "not accepted by AWS"),
        }
        let (message, request_id) = (reply.message.clone(), reply.request_id.clone());
        self.flush_building(now)?;
        self.record(&Entry::Answered(Answered { key, at: now, verdict, message, request_id }), Need::Control, now)?;
        self.commit(now)
    }

    /// Takes in what a dry run came to. Durable when it returns.
    pub fn probed(&mut self, reply: &Reply, now: Timestamp) -> Result<(), LogError> {
        let reached = answer::reached(reply);
        self.aws.calls.dry_run(reached);
        self.heard(reply, None, now);
        self.heed_aws(reply, now)?;
        let in_doubt = self.state.clocks.doubt.is_some();
        self.outbox.probed(reached, in_doubt, reply.retry_after, now);
        if self.options.saas {
            self.dispatch.probed(reached, in_doubt || self.outbox.doubts_clock(), reply.retry_after, now);
        }
        self.commit(now)
    }

    /// A dry run that is about nothing: AWS's answer carries its clock, whatever it says.
    fn clock_question(&self, now: Timestamp) -> Request {
        let configured = self.options.dimensions.iter().find(|rules| rules.from.is_empty());
        let hour = now.hour().previous();
        Request {
            product_code: self.state.product_code.clone(),
            dimension: configured.map_or_else(String::new, |rules| rules.name.clone()),
            timestamp: hour.last_second(),
            quantity: 0,
            allocations: Vec::new(),
            client_token: format!("clock-{}", hour.index()),
        }
    }

    /// Whether records wait because AWS's clock and ours are too far apart.
    pub fn doubts_clock(&self) -> bool {
        self.outbox.doubts_clock()
    }

    /// What was heard of AWS, for status.
    pub fn aws(&self) -> &AwsSeen {
        &self.aws
    }

    /// Calls to AWS in a row that failed.
    pub fn failures(&self) -> u32 {
        if self.options.saas { self.dispatch.failures() } else { self.outbox.failures() }
    }

    pub(super) fn heard(&mut self, reply: &Reply, verdict: Option<&Verdict>, now: Timestamp) {
        if let Some(aws) = reply.aws_time {
            self.aws.clock_skew_ms = Some(aws.millis() - now.millis());
        }
        if self.options.judge_clock && answer::reached(reply) {
            let skew = reply.aws_time.map_or(0, |aws| (aws.millis() - now.millis()).unsigned_abs());
            self.outbox.clock_seen(Duration::from_millis(skew));
            reply.aws_time.into_iter().for_each(|moment| self.retention.confirm(moment));
        }
        let Some(verdict) = verdict else {
            if !answer::reached(reply) {
                self.note_failure(reply, now);
                self.aws.blocked = reply.outcome == Outcome::NoCredentials;
            }
            // A dry run that passed proves that AWS is there, not that it takes records.
            return;
        };
        self.aws.blocked = *verdict == Verdict::Blocked;
        self.aws.clock_refused = *verdict == Verdict::OutOfBounds { window_passed: false };
        self.aws.unknown_answer = answer::is_unknown(reply, verdict);
        let fine = !matches!(verdict, Verdict::NotTaken | Verdict::Blocked | Verdict::Ambiguous);
        if fine {
            self.aws.failing_since = None;
            self.aws.last_error = None;
        } else {
            self.note_failure(reply, now);
        }
    }

    fn note_failure(&mut self, reply: &Reply, now: Timestamp) {
        self.aws.failing_since.get_or_insert(now);
        self.aws.last_error = Some(reply.message.clone());
    }
}
