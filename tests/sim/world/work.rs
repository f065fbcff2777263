//! What the agent does by itself while time passes: it seals and closes what is due, and its submitter asks, sends and
//! writes down, one call at a time. Sees the order of the agent's own loop. Cannot see its threads.

use std::time::Duration;

use meterd::engine::{Disposal, NotSettled, Sending};
use meterd::entry::{Decision, Peer, RecordKey, Request, Verdict};
use meterd::hour::{Hour, Timestamp};
use meterd::wal::LogError;

use super::aws::Proof;
use super::ledger::Place;
use super::{Flight, World};
use crate::setup::NAMES;

/// Calls in one stretch of work, so that no day is all back-off.
const CALLS_MAX: u64 = 40;
/// The agent comes back by then where the disk is full or the instance is unknown.
const AGAIN: Duration = Duration::from_secs(300);
/// Clocks further apart than this may disagree on which hour is over.
const SKEW_MAX: Duration = Duration::from_secs(300);

impl World {
    /// Time goes on, for AWS and for the agent.
    pub(super) fn pass(&mut self, span: Duration) -> Result<(), String> {
        self.time = self.time.plus(span);
        self.writers.clock(self.now());
        self.aws.arrive(self.time, false)
    }

    pub(super) fn work(&mut self, span: Duration) -> Result<(), String> {
        self.commit()?;
        let (end, calls) = (self.time.plus(span), self.aws.calls + self.aws.dry_runs);
        while self.engine.is_some() && !self.poisoned && !self.disk.is_halted() {
            self.heed()?;
            if self.poisoned || self.disk.is_halted() {
                break;
            }
            let now = self.now();
            if self.flight.is_some() {
                self.land()?;
                if self.flight.is_some() && self.time >= end {
                    // The disk is full, and AWS's word waits for room.
                    break;
                }
            } else if now >= self.tick_at {
                self.tick(now)?;
            } else if now >= self.submit_at {
                if self.aws.calls + self.aws.dry_runs >= calls + CALLS_MAX {
                    self.submit_at = now.plus(span);
                    continue;
                }
                self.submit(now)?;
                if self.flight.is_some() {
                    let took = Duration::from_millis(self.rng.u64(0..30_000));
                    self.pass(took)?;
                    if self.rng.u8(0..8) == 0 {
                        // The answer is still out when something else happens.
                        return Ok(());
                    }
                }
            } else {
                let next = self.tick_at.min(self.submit_at).since(now);
                if self.time >= end {
                    break;
                }
                self.pass(next.min(end.since(self.time)))?;
            }
        }
        Ok(())
    }

    fn tick(&mut self, now: Timestamp) -> Result<(), String> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let ticked = engine.tick(now);
        let next = engine.next_tick(now);
        // Something that stays due is looked at again in a while.
        self.tick_at = if next > now { next } else { now.plus(AGAIN) };
        self.submit_at = now;
        if self.done(ticked)? {
            self.commit()?;
        }
        Ok(())
    }

    fn submit(&mut self, now: Timestamp) -> Result<(), String> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match engine.next_sending(now) {
            Ok(Sending::Record(key, request)) => self.call(key, request, now),
            Ok(Sending::Probe(request)) => {
                let answer = self.aws.call(&request, true, self.time, &mut self.rng)?;
                self.heard(answer.spoke, answer.reply.aws_time, now);
                self.doubt &= !answer.spoke;
                let written = self.engine().probed(&answer.reply, now);
                if let Err(LogError::Full(_)) = written
                    && self.faulty
                {
                    self.submit_at = now.plus(AGAIN);
                    return Ok(());
                }
                self.tick_at = now;
                if self.done(written)? { self.look() } else { Ok(()) }
            }
            Ok(Sending::Batch(..) | Sending::ProbeBatch) => Err("this is no SaaS product".into()),
            Ok(Sending::Wait(until)) => {
                self.submit_at = until.max(now.plus(Duration::from_millis(1)));
                Ok(())
            }
            Ok(Sending::Idle) => {
                self.submit_at = now.plus(Duration::from_secs(1 << 30));
                Ok(())
            }
            Err(LogError::Full(_)) if self.faulty => {
                self.submit_at = now.plus(AGAIN);
                Ok(())
            }
            Err(error) => self.done(Err(error)).map(drop),
        }
    }

    /// A request leaves: everything that must be true of it, and of the log, at this moment.
    fn call(&mut self, key: RecordKey, request: Request, now: Timestamp) -> Result<(), String> {
        // Without a commit of ours: the attempt must be durable already.
        self.look()?;
        let of = |what: &str| Err(format!("record {key} is sent {what}"));
        if self.ledger.name != NAMES[self.aws.who] {
            return of("by another instance than its own");
        }
        if self.doubt {
            return of("while another one is in doubt and AWS has not spoken since");
        }
        if self.seen_skew.is_none_or(|skew| skew > SKEW_MAX) {
            return of("while the clocks are too far apart, or nobody has looked");
        }
        self.check_request(&request, now)?;
        let sealed = self.ledger.records.get(&key).ok_or("an unknown record is sent")?;
        if sealed.request != request {
            return Err(format!("sealed as {:?} and sent as {request:?}", sealed.request));
        }
        // Whether a power cut would leave it is looked at now and then, for it takes long.
        let lost = self.rng.u8(0..3) == 0 && !self.is_durable()?;
        if sealed.attempts <= self.aws.sent(&request.client_token) || lost {
            return of("without a durable attempt");
        }
        let answer = self.aws.call(&request, false, self.time, &mut self.rng)?;
        self.flight = Some(Flight { key, request, answer });
        Ok(())
    }

    fn check_request(&self, request: &Request, now: Timestamp) -> Result<(), String> {
        let hour = request.timestamp.hour();
        // What an end sealed waits for nothing; what waited when it came does not either.
        let early = request.timestamp < hour.last_second();
        let ending = self.engine.as_ref().is_some_and(|engine| engine.ending().is_some());
        let due = if early { request.timestamp } else { hour.end() };
        let grace = if early || ending { Duration::ZERO } else { self.config.grace };
        if now < due.plus(grace) {
            return Err(format!("{hour} is sent at {now}, before its grace is over"));
        }
        if now > request.timestamp.plus(self.config.window) {
            return Err(format!("{hour} is sent at {now}, past its deadline"));
        }
        Ok(())
    }

    fn heard(&mut self, spoke: bool, aws: Option<Timestamp>, now: Timestamp) {
        if spoke {
            let skew = aws.map_or(0, |aws| (aws.millis() - now.millis()).unsigned_abs());
            self.seen_skew = Some(Duration::from_millis(skew));
        }
    }

    /// The answer to the call under way arrives, and is written down.
    pub(super) fn land(&mut self) -> Result<(), String> {
        let now = self.now();
        let (Some(flight), Some(engine)) = (self.flight.take(), &mut self.engine) else { return Ok(()) };
        let written = engine.answered(flight.key, &flight.answer.reply, now);
        if let Err(LogError::Full(_)) = written
            && self.faulty
        {
            // AWS's word is offered again until there is room for it.
            self.flight = Some(flight);
            return self.pass(AGAIN);
        }
        // Not a word is forgotten, whatever becomes of it.
        self.doubt |= flight.answer.proof == Proof::MayBeTaken;
        if self.done(written)? {
            self.heard(flight.answer.spoke, flight.answer.reply.aws_time, now);
            self.tick_at = now;
            self.commit()?;
            self.judge(&flight)?;
        }
        Ok(())
    }

    /// What the agent made of an answer must be what the answer proves.
    fn judge(&self, flight: &Flight) -> Result<(), String> {
        let record = self.ledger.records.get(&flight.key).ok_or("an answer to no record")?;
        let deadline = flight.request.timestamp.plus(self.ledger.window);
        let too_old = flight.answer.reply.aws_time.is_some_and(|date| date > deadline);
        let fits = match (flight.answer.proof, &record.last) {
            (Proof::Accepted, Some(Verdict::Accepted { .. })) => record.place == Place::Accepted,
            (Proof::NotTaken, Some(Verdict::NotTaken)) | (Proof::Blocked, Some(Verdict::Blocked)) => true,
            (Proof::MayBeTaken, Some(Verdict::Ambiguous)) => record.in_doubt,
            (Proof::Conflict, Some(Verdict::Conflict)) | (Proof::Refused, Some(Verdict::Refused)) => true,
            (Proof::OutOfBounds, Some(Verdict::OutOfBounds { window_passed })) => *window_passed == too_old,
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("{:?} was judged {record:?}", flight.answer)) }
    }

    /// The end comes: whatever AWS does meanwhile, the hour that goes on is closed, if anything can be.
    pub(super) fn end_of_instance(&mut self, asked: bool) -> Result<(), String> {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        self.ends += 1;
        let closed_before = engine.ending().and_then(|ending| ending.closed);
        let ended = engine.end(asked.then(Peer::default), "drawn", now);
        (self.tick_at, self.submit_at) = (now, now);
        if !self.done(ended)? {
            return Ok(());
        }
        self.commit()?;
        let engine = self.engine();
        let can = engine.state().name().is_some() && engine.state().clocks.doubt.is_none();
        let closed = engine.ending().and_then(|ending| ending.closed);
        // A clock that was set back since opens no hour again.
        let expected = closed_before.max(can.then(|| now.hour()));
        let fits = closed == expected && (!can || engine.state().open_from > now.hour());
        // Asked for once more it changes nothing.
        let before = engine.log().next_seq();
        let again = engine.end(asked.then(Peer::default), "once more", now);
        let same = engine.log().next_seq() == before;
        if self.done(again)? && !(fits && same) {
            return Err(format!("the end at {now} closes {closed:?}, and twice is as good as once: {same}"));
        }
        Ok(())
    }

    pub(super) fn call_off(&mut self, asked: bool) -> Result<(), String> {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let by = asked.then(Peer::default);
        let ends = engine.ending().is_some_and(|ending| asked || ending.by.is_none());
        let called_off = engine.call_off(by, now);
        if let Ok(off) = called_off
            && off != ends
        {
            return Err(format!("called off: {off}, not {ends}"));
        }
        if self.done(called_off.map(drop))? { self.commit() } else { Ok(()) }
    }

    /// A person looks into AWS's own records and decides about one that waits.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.commit()?;
        self.aws.arrive(self.time, true)?;
        let now = self.now();
        let own = self.ledger.records.iter().filter(|(_, r)| r.place.with_person()).map(|(key, r)| (*key, r.clone()));
        let elsewhere = self.ledger.in_doubt_elsewhere().map(|(key, r)| (key, r.clone()));
        let waiting: Vec<_> = own.chain(elsewhere).collect();
        let (Some((key, record)), Some(engine)) = (self.rng.choice(&waiting), &mut self.engine) else { return Ok(()) };
        let decision = match record.place {
            _ if self.aws.holds(&record.request) => Decision::Accepted,
            Place::Held if !record.in_doubt && self.rng.bool() => Decision::Retry,
            _ if self.rng.bool() => Decision::Carry,
            _ => Decision::WriteOff,
        };
        let (name, hour): (&str, Hour) = (&record.request.dimension, key.hour);
        let late = now > record.request.timestamp.plus(self.ledger.window);
        match engine.settle(name, hour, decision, Peer::default(), now) {
            Ok(_) => {
                (self.tick_at, self.submit_at) = (now, now);
                self.commit()
            }
            Err(NotSettled::Log(error)) => self.done(Err(error)).map(drop),
            Err(NotSettled::DoesNotFit(_)) if decision == Decision::Retry && late => Ok(()),
            Err(error) => Err(format!("{decision:?} for {key}: {error}")),
        }
    }

    /// A person decides about what another instance left.
    pub(super) fn dispose(&mut self, adopt: bool) -> Result<(), String> {
        self.commit()?;
        let disposal = if adopt { Disposal::Adopt } else { Disposal::Discard };
        let (now, other) = (self.now(), self.ledger.unsent_elsewhere().map(str::to_owned));
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let lost = engine.state().clocks.doubt.is_some() || engine.state().more.begun_in_doubt;
        let unsure = lost || engine.state().name().is_none();
        match (engine.dispose(disposal, other.as_deref(), Peer::default(), now), other) {
            (Ok(_), Some(_)) => {
                (self.tick_at, self.submit_at) = (now, now);
                self.commit()
            }
            (Err(NotSettled::Log(error)), _) => self.done(Err(error)).map(drop),
            (Err(NotSettled::DoesNotFit(_)), None) => Ok(()),
            // What may have been taken is not adopted.
            (Err(NotSettled::DoesNotFit(why)), _) if adopt && (unsure || why.contains("may have been sent")) => Ok(()),
            (told, other) => Err(format!("{disposal:?} of {other:?}: {told:?}")),
        }
    }
}
