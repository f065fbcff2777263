//! Records that AWS has not answered for: said in the log at set hours, so that nobody learns of them afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::entry::DimensionId;
use crate::hour::{Hour, Timestamp};
use crate::rollup::State;
use crate::rollup::customers::Customers;
use crate::rollup::state::Phase;

const HOUR: Duration = Duration::from_secs(3600);
/// Hours after its own hour at which what is pending of an hour is spoken of. AWS takes an instance's record for six, a
/// customer's for twenty-four.
const SAID_AT: [u32; 8] = [1, 2, 4, 5, 8, 12, 20, 23];

/// What has been said of which hour. In memory only: a restart says the last one again.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    said: BTreeMap<Hour, u32>,
}

/// What waits of one dimension's hour.
#[derive(Debug)]
struct Waits<'s> {
    records: u64,
    attempts: u32,
    deadline: Timestamp,
    last_error: Option<&'s str>,
}

impl Deadlines {
    /// Says what is due at `now`: a line for a dimension and hour, however many customers' records wait of it.
    pub(super) fn say(&mut self, state: &State, now: Timestamp) {
        let hours = pending_hours(state);
        self.said.retain(|hour, _| hours.contains(hour));
        for hour in hours {
            let Some(due) = SAID_AT.iter().rev().find(|h| hour.end().plus(HOUR * **h) <= now) else { continue };
            if self.said.insert(hour, *due) == Some(*due) {
                continue;
            }
            for (dimension, waits) in waiting(state, hour) {
                tracing::warn!(
                    %hour,
                    dimension = state.dimension(dimension).map(|d| d.rules.name.as_str()),
                    records = waits.records,
                    attempts = waits.attempts,
                    seconds_left = waits.deadline.since(now).as_secs(),
                    last_error = waits.last_error,
                    "not accepted by AWS {due} h after its hour"
                );
            }
        }
    }

    /// The next moment at which something is to be said.
    pub(super) fn next(state: &State, now: Timestamp) -> Option<Timestamp> {
        let hours = pending_hours(state).into_iter();
        let moments = hours.flat_map(|hour| SAID_AT.iter().map(move |h| hour.end().plus(HOUR * *h)));
        moments.filter(|moment| *moment > now).min()
    }
}

/// The hours of which records wait for AWS's answer.
fn pending_hours(state: &State) -> BTreeSet<Hour> {
    let tried = state.records.values().filter(|r| r.phase == Phase::Pending).map(|r| r.record.key.hour);
    tried.chain(state.customers().into_iter().flat_map(Customers::fresh_hours)).collect()
}

/// What waits of `hour`, by dimension: the most attempts, the earliest deadline and an error that AWS gave.
fn waiting(state: &State, hour: Hour) -> BTreeMap<DimensionId, Waits<'_>> {
    let mut all = BTreeMap::new();
    let pending = state.records.values().filter(|r| r.phase == Phase::Pending && r.record.key.hour == hour);
    let tried =
        pending.map(|r| (r.record.key.dimension, r.attempts, r.deadline(state.window), r.last_error.as_deref()));
    let fresh = state.customers().into_iter().flat_map(Customers::fresh).filter(|(key, _)| key.hour == hour);
    let fresh = fresh.filter_map(|(key, _)| Some((key.dimension, 0, state.deadline_of(&key)?, None)));
    for (dimension, attempts, deadline, last_error) in tried.chain(fresh) {
        let waits = all.entry(dimension).or_insert(Waits { records: 0, attempts, deadline, last_error });
        waits.records += 1;
        waits.attempts = waits.attempts.max(attempts);
        waits.deadline = waits.deadline.min(deadline);
        waits.last_error = waits.last_error.or(last_error);
    }
    all
}
