//! Which customers' records go into the next call, and when. Pure, and in memory only; after a restart pauses begin anew.
//!
//! Oldest first, up to 25 in a call, one call at a time; several while all goes well, where that is configured. A call that
//! AWS refuses because of one record in it goes again in halves, until that one stands alone. After a call that was not
//! answered nothing else is tried than that same one, and past its window a call about nothing, until AWS answers: so no
//! outage leaves more in doubt than was under way when it began.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::answer::OfCall;
use super::outbox::{pause_after, until};
use crate::entry::{RecordKey, Verdict};
use crate::hour::Timestamp;
use crate::rollup::State;
use crate::rollup::state::{Phase, RecordState};

/// Records in a call (AWS).
pub const RECORDS_MAX: usize = 25;
/// Bytes of a call, below AWS's 1 MB.
const CALL_BYTES_MAX: usize = 950_000;
/// Bytes of a record without its shares, as AWS reads it.
const RECORD_BYTES: usize = 1500;
/// Least time between the beginnings of two calls: below AWS's quota of ten a second.
pub const SPACING: Duration = Duration::from_millis(125);
/// So many records are looked at for those that fit into a call with the first one, those that are put off aside.
const LOOKED_AT_MAX: usize = 1000;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send these records.
    Send(Vec<RecordKey>),
    /// Ask with a call about nothing whether AWS answers, and what time it is.
    Probe,
    /// Nothing before this moment.
    Wait(Timestamp),
    /// Nothing until a record is sealed, or a call answered.
    Idle,
}

/// Pauses and doubts of the submission.
#[derive(Debug, Default)]
pub struct Dispatch {
    /// No call before this moment.
    not_before: Timestamp,
    /// Calls in a row that were not taken, as far as anybody can tell.
    failures: u32,
    in_flight: u32,
    /// Records that AWS puts off while it takes others.
    put_off: BTreeMap<RecordKey, (Timestamp, u32)>,
    /// Parts of calls that were refused, the next one last.
    halves: Vec<Vec<RecordKey>>,
    /// A call was not answered.
    unanswered: bool,
}

/// A record that may be sent.
struct Candidate<'a> {
    key: RecordKey,
    /// The product's code, of one that is sent with it.
    product: Option<&'a str>,
    bytes: usize,
    /// When its time has come.
    due: Timestamp,
}

impl Dispatch {
    /// After a start. `unanswered`: some record has an attempt that was never answered.
    pub fn new(unanswered: bool) -> Self {
        Dispatch { unanswered, ..Dispatch::default() }
    }

    /// Calls in a row that failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What to do at `now`, where an hour's records go out `offset` after its end. `in_flight_max`: so many calls at once.
    /// `only_ask`: what time it is is in doubt.
    pub fn next(
        &mut self,
        state: &State,
        now: Timestamp,
        offset: Duration,
        in_flight_max: u32,
        only_ask: bool,
    ) -> Next {
        let carefully = only_ask || self.unanswered || self.failures > 0;
        if self.in_flight >= if carefully { 1 } else { in_flight_max } {
            return Next::Idle;
        }
        let due = until(self.not_before, now);
        if due > now {
            return if only_ask || has_any(state) { Next::Wait(due) } else { Next::Idle };
        }
        if only_ask {
            return Next::Probe;
        }
        if self.unanswered {
            let batch = in_doubt(state, now);
            if !batch.is_empty() {
                return Next::Send(batch);
            }
            // Its window has passed, and the outage may still be on. What was in halves is found again.
            self.halves.clear();
            return match self.gather(state, now, offset) {
                Next::Send(_) => Next::Probe,
                wait => wait,
            };
        }
        while let Some(mut half) = self.halves.pop() {
            half.retain(|key| state.records.get(key).is_some_and(|r| is_sendable(r, state, now)));
            if !half.is_empty() {
                return Next::Send(half);
            }
        }
        self.gather(state, now, offset)
    }

    fn gather(&self, state: &State, now: Timestamp, offset: Duration) -> Next {
        let split: BTreeSet<&RecordKey> = self.halves.iter().flatten().collect();
        let mut wake: Option<Timestamp> = None;
        let mut batch = Vec::new();
        let (mut first, mut bytes, mut looked_at) = (None, 0, 0);
        for candidate in candidates(state, now, offset).filter(|c| !split.contains(&c.key)) {
            let put_off = self.put_off.get(&candidate.key).map(|(moment, _)| until(*moment, now));
            let due = candidate.due.max(put_off.unwrap_or(now));
            if due > now {
                wake = Some(wake.map_or(due, |moment| moment.min(due)));
                if put_off.is_none() {
                    // The others are of this hour or a later one.
                    break;
                }
                continue;
            }
            looked_at += 1;
            if *first.get_or_insert(candidate.product) == candidate.product && bytes + candidate.bytes <= CALL_BYTES_MAX
            {
                bytes += candidate.bytes;
                batch.push(candidate.key);
            }
            if batch.len() == RECORDS_MAX || looked_at == LOOKED_AT_MAX {
                break;
            }
        }
        match wake {
            _ if !batch.is_empty() => Next::Send(batch),
            Some(moment) => Next::Wait(moment),
            None => Next::Idle,
        }
    }

    /// A call has begun.
    pub fn begun(&mut self, now: Timestamp) {
        self.in_flight += 1;
        self.not_before = self.not_before.max(now.plus(SPACING));
    }

    /// Takes in what a call came to.
    pub fn answered(&mut self, keys: &[RecordKey], came_to: &OfCall, retry_after: Option<Duration>, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match came_to {
            OfCall::Split => {
                self.reached();
                let (first, second) = keys.split_at(keys.len() / 2);
                self.halves.extend([second.to_vec(), first.to_vec()]);
            }
            OfCall::Records(verdicts) => {
                // That it speaks of one of them says that AWS is there.
                let speaks = |verdict: &Verdict| !matches!(verdict, Verdict::NotTaken | Verdict::Ambiguous);
                if verdicts.iter().any(|(verdict, _)| speaks(verdict)) {
                    self.reached();
                } else {
                    self.failed(retry_after, now);
                }
                for (key, (verdict, _)) in keys.iter().zip(verdicts) {
                    if !matches!(verdict, Verdict::Accepted { .. } | Verdict::Conflict) {
                        let (moment, times) = self.put_off.entry(*key).or_default();
                        *times = times.saturating_add(1);
                        *moment = now.plus(pause_after(*times, retry_after));
                    }
                }
            }
            OfCall::All(verdict) => {
                self.failed(retry_after, now);
                self.unanswered |= *verdict == Verdict::Ambiguous;
            }
        }
    }

    /// Takes in what a call about nothing came to. `in_doubt`: what time it is is as open as before.
    pub fn probed(&mut self, reached: bool, in_doubt: bool, retry_after: Option<Duration>, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if reached && !in_doubt { self.reached() } else { self.failed(retry_after, now) }
    }

    /// Forgets a record that nothing more is sent for, or that a person sends again.
    pub fn forget(&mut self, key: &RecordKey) {
        self.put_off.remove(key);
    }

    fn reached(&mut self) {
        (self.failures, self.unanswered) = (0, false);
    }

    fn failed(&mut self, retry_after: Option<Duration>, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = self.not_before.max(now.plus(pause_after(self.failures, retry_after)));
    }
}

/// Pending, not under way, and inside its window.
fn is_sendable(record: &RecordState, state: &State, now: Timestamp) -> bool {
    record.phase == Phase::Pending && !record.in_flight && !record.out_of_window && now <= record.deadline(state.window)
}

fn has_any(state: &State) -> bool {
    state.something_waits()
}

/// The oldest call whose records may have been taken: those that are still open of it, as they were sent.
fn in_doubt(state: &State, now: Timestamp) -> Vec<RecordKey> {
    // What damage took the attempts of was not sent, as long as its customer is unknown.
    let is_sent = |r: &RecordState| r.attempts > 0 || !r.record.key.account().is_some_and(|of| state.withholds(of));
    let doubtful = || state.records.values().filter(|r| r.ambiguous && is_sent(r) && is_sendable(r, state, now));
    let Some(first) = doubtful().min_by_key(|r| r.last_attempt) else { return Vec::new() };
    let product = product_of(first);
    let same = doubtful().filter(|r| r.last_attempt == first.last_attempt && product_of(r) == product);
    same.take(RECORDS_MAX).map(|r| r.record.key).collect()
}

fn product_of(record: &RecordState) -> Option<&str> {
    let request = &record.record.request;
    (!request.is_licensed()).then_some(request.product_code.as_str())
}

/// Every record that may be sent, oldest first.
fn candidates(state: &State, now: Timestamp, offset: Duration) -> impl Iterator<Item = Candidate<'_>> {
    // An hour that was closed early does not wait for its end.
    let due = move |key: &RecordKey, stamped: Timestamp| {
        let over = if stamped < key.hour.last_second() { stamped } else { key.hour.end().plus(offset) };
        over.max(stamped)
    };
    // What a person let go of waits for the register like the rest of its customer's.
    let is_known = |r: &RecordState| r.record.key.account().is_some_and(|of| r.attempts > 0 || !state.withholds(of));
    let known = state.records.values().filter(move |r| is_known(r) && is_sendable(r, state, now));
    let known = known.map(move |r| Candidate {
        key: r.record.key,
        product: product_of(r),
        bytes: RECORD_BYTES + r.record.request.share_bytes(),
        due: due(&r.record.key, r.record.request.timestamp),
    });
    let fresh = state.customers().into_iter().flat_map(move |customers| {
        customers.fresh().filter_map(move |(key, fresh)| {
            let (common, account) = (customers.in_common(&key)?, key.account()?);
            let licensed = customers.is_licensed(account, key.hour);
            Some(Candidate {
                key,
                product: (!licensed).then_some(common.product_code.as_str()),
                bytes: RECORD_BYTES + fresh.share_bytes(),
                due: due(&key, common.timestamp),
            })
        })
    });
    let fresh = fresh.filter(move |c| state.deadline_of(&c.key).is_some_and(|deadline| now <= deadline));
    let (mut known, mut fresh) = (known.peekable(), fresh.peekable());
    std::iter::from_fn(move || match (known.peek(), fresh.peek()) {
        (Some(one), Some(other)) if other.key < one.key => fresh.next(),
        (Some(_), _) => known.next(),
        (None, _) => fresh.next(),
    })
}
