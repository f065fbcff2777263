//! When AWS did not take records, as the records themselves tell: kept as long as these are.

use std::time::Duration;

use crate::hour::Timestamp;
use crate::rollup::state::{Phase, RecordState};

/// A shorter one is a retry, no outage.
const SHORTEST: Duration = Duration::from_secs(5 * 60);

/// From the first record that had to wait until the last one that did no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When it began to show.
    pub from: Timestamp,
    /// When it no longer did.
    pub until: Timestamp,
    /// How many records had to wait.
    pub records: u64,
}

/// How long this record was tried in vain, if it was.
pub fn waited(r: &RecordState, window: Duration) -> Option<Outage> {
    let sealed = r.record.request.timestamp;
    let tried = r.first_attempt.zip(r.last_attempt);
    let (from, until) = match (r.phase, r.decided, tried) {
        // Nobody took it, and nobody decided so: its window passed.
        (Phase::Carried | Phase::Expired, None, _) if r.carried_into != Some(r.record.key.hour) => {
            (r.first_attempt.unwrap_or(sealed), sealed.plus(window))
        }
        (_, _, Some((first, last))) if r.attempts > 1 => (first, last),
        _ => return None,
    };
    (until >= from.plus(SHORTEST)).then_some(Outage { from, until, records: 1 })
}

/// Those that touch, as one.
pub fn merged(mut all: Vec<Outage>) -> Vec<Outage> {
    all.sort_by_key(|outage| (outage.from, outage.until));
    let mut merged: Vec<Outage> = Vec::new();
    for next in all {
        match merged.last_mut().filter(|last| next.from <= last.until.plus(SHORTEST)) {
            Some(last) => {
                last.until = last.until.max(next.until);
                last.records += next.records;
            }
            None => merged.push(next),
        }
    }
    merged
}
