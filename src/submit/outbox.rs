//! What to send next, and when: oldest first, in order per dimension, with pauses after failures. Pure, and in memory
//! only; after a restart the pauses begin anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::entry::{DimensionId, RecordKey, Verdict};
use crate::hour::Timestamp;
use crate::rollup::State;
use crate::rollup::state::{Phase, RecordState};

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// As long as AWS may ask for; beyond that we would rather ask again, for the window is short.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Range of the first pause.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Shortest pause, so that no jitter makes a busy loop.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Least time between two calls: a fifth of AWS's quota of ten a second for the whole account.
pub const SPACING: Duration = Duration::from_millis(500);

/// Clocks further apart than this may disagree on which hour has ended.
pub const SKEW_MAX: Duration = Duration::from_secs(300);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send this record.
    Send(RecordKey),
    /// Ask with a dry run of this record whether AWS answers.
    Probe(RecordKey),
    /// Ask with a dry run what time it is.
    Ask,
    /// Nothing before this moment.
    Wait(Timestamp),
    /// Nothing until a record is sealed.
    Idle,
}

/// Pauses and doubts of the submission.
#[derive(Debug, Default)]
pub struct Outbox {
    /// No call before this moment.
    not_before: Timestamp,
    /// Calls in a row that were not taken, as far as anybody can tell.
    failures: u32,
    pace: BTreeMap<RecordKey, Pace>,
    /// An attempt was ambiguous: until AWS answers a dry run no other record is tried, so that an outage leaves at most
    /// one record in doubt.
    probe_first: bool,
    /// AWS's clock and ours are so far apart that the hours themselves are in doubt: only dry runs go out, until their
    /// answers say otherwise.
    clock_doubt: bool,
}

#[derive(Debug, Default)]
struct Pace {
    not_before: Timestamp,
    failures: u32,
    /// AWS answers for others but not for this one: it no longer holds up the later hours of its dimension.
    stuck: bool,
}

impl Outbox {
    /// The outbox after a start. `unanswered`: some record has an attempt that was never answered. `judge_clock`: no
    /// record goes out before AWS's clock has been seen.
    pub fn new(unanswered: bool, judge_clock: bool) -> Self {
        Outbox { probe_first: unanswered, clock_doubt: judge_clock, ..Outbox::default() }
    }

    /// Calls in a row that failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What to do at `now`, where an hour's records go out `offset` after its end. Those of an hour that was sealed
    /// early do not wait for it.
    pub fn next(&self, state: &State, now: Timestamp, offset: Duration) -> Next {
        let mut blocked: BTreeSet<DimensionId> = BTreeSet::new();
        let mut wake: Option<Timestamp> = None;
        for record in state.records.values().filter(|r| is_sendable(r, state, now)) {
            let key = record.record.key;
            let pace = self.pace.get(&key);
            if blocked.contains(&key.dimension) {
                continue;
            }
            let pause = until(self.not_before, now).max(pace.map_or(now, |p| until(p.not_before, now)));
            // A record never lies in AWS's future.
            let stamped = record.record.request.timestamp;
            let over = if record.record.is_early() { stamped } else { key.hour.end().plus(offset) };
            let due = over.max(stamped).max(pause);
            if due <= now {
                return if self.probe_first || self.clock_doubt { Next::Probe(key) } else { Next::Send(key) };
            }
            wake = Some(wake.map_or(due, |w| w.min(due)));
            if !pace.is_some_and(|p| p.stuck) {
                blocked.insert(key.dimension);
            }
        }
        wake.map_or(Next::Idle, Next::Wait)
    }

    /// What to do while this machine's clock is in doubt: no record is sent.
    pub fn when(&self, now: Timestamp) -> Next {
        let due = until(self.not_before, now);
        if due <= now { Next::Ask } else { Next::Wait(due) }
    }

    /// Takes in what an attempt came to.
    pub fn answered(&mut self, key: RecordKey, verdict: &Verdict, retry_after: Option<Duration>, now: Timestamp) {
        let failed = matches!(verdict, Verdict::NotTaken | Verdict::Blocked | Verdict::Ambiguous);
        self.pause(failed, retry_after, now);
        match verdict {
            Verdict::Accepted { .. } | Verdict::Conflict => {
                self.pace.remove(&key);
            }
            Verdict::Refused | Verdict::NotTaken | Verdict::Blocked => {
                self.delay(key, false, retry_after, now);
            }
            Verdict::OutOfBounds { .. } => self.delay(key, true, retry_after, now),
            Verdict::Ambiguous => {
                self.probe_first = true;
                self.delay(key, true, retry_after, now);
            }
        }
    }

    /// Takes in what a dry run came to. `in_doubt`: what time it is is as open as before.
    pub fn probed(&mut self, reached: bool, in_doubt: bool, retry_after: Option<Duration>, now: Timestamp) {
        self.pause(!reached || in_doubt || self.clock_doubt, retry_after, now);
        self.probe_first &= !reached;
    }

    /// Takes in how far AWS's clock is from ours, as its last answer told (nothing where it did not tell).
    pub fn clock_seen(&mut self, skew: Duration) {
        self.clock_doubt = skew > SKEW_MAX;
    }

    /// Whether records wait because the clocks are too far apart.
    pub fn doubts_clock(&self) -> bool {
        self.clock_doubt
    }

    /// Forgets a record that nothing more is sent for.
    pub fn forget(&mut self, key: &RecordKey) {
        self.pace.remove(key);
    }

    fn pause(&mut self, failed: bool, retry_after: Option<Duration>, now: Timestamp) {
        if failed {
            self.failures = self.failures.saturating_add(1);
            self.not_before = now.plus(pause_after(self.failures, retry_after));
        } else {
            self.failures = 0;
            self.not_before = now.plus(SPACING);
        }
    }

    fn delay(&mut self, key: RecordKey, stuck: bool, retry_after: Option<Duration>, now: Timestamp) {
        let pace = self.pace.entry(key).or_default();
        pace.failures = pace.failures.saturating_add(1);
        pace.stuck = stuck;
        pace.not_before = now.plus(pause_after(pace.failures, retry_after));
    }
}

/// The end of a pause. One that lies further ahead than any pause lasts was begun by a clock that has been set back since,
/// and is over.
pub(super) fn until(end: Timestamp, now: Timestamp) -> Timestamp {
    if end > now.plus(RETRY_AFTER_MAX + PAUSE_MAX) { now } else { end }
}

/// Pending, not under way, and inside its window.
fn is_sendable(record: &RecordState, state: &State, now: Timestamp) -> bool {
    record.phase == Phase::Pending && !record.in_flight && !record.out_of_window && now <= record.deadline(state.window)
}

/// 2 to 12 minutes after the hour, always the same for one instance: a fleet that all sends at the hour breaks AWS's
/// quota for the account.
pub fn spread(product: &str, instance: &str) -> Duration {
    let mut digest = Sha256::new();
    for part in [product, instance] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let number = digest.finalize().iter().take(16).fold(0u64, |n, byte| (n << 8 | u64::from(*byte)) % 600);
    Duration::from_secs(120 + number)
}

/// Full jitter: anywhere up to a bound that doubles with each failure. AWS's own wish goes before.
pub(super) fn pause_after(failures: u32, retry_after: Option<Duration>) -> Duration {
    let bound = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let jitter = Duration::from_millis(fastrand::u64(0..=bound.as_millis() as u64));
    retry_after.map_or(jitter, |asked| asked.min(RETRY_AFTER_MAX) + jitter / 4).max(PAUSE_MIN)
}
