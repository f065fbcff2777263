//! Records that AWS has not answered for: said in the log at set hours, so that nobody learns of them afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::entry::RecordKey;
use crate::hour::Timestamp;
use crate::rollup::State;
use crate::rollup::state::Phase;

const HOUR: Duration = Duration::from_secs(3600);
/// Hours after its own hour at which a pending record is spoken of. AWS takes it for six.
const SAID_AT: [u32; 4] = [1, 2, 4, 5];

/// What has been said of which record. In memory only: a restart says the last one again.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    said: BTreeMap<RecordKey, u32>,
}

impl Deadlines {
    /// Says what is due at `now`.
    pub(super) fn say(&mut self, state: &State, now: Timestamp) {
        self.said.retain(|key, _| state.records.get(key).is_some_and(|r| r.phase == Phase::Pending));
        for record in state.records.values().filter(|r| r.phase == Phase::Pending) {
            let key = record.record.key;
            let Some(due) = SAID_AT.iter().rev().find(|h| key.hour.end().plus(HOUR * **h) <= now) else { continue };
            if self.said.insert(key, *due) == Some(*due) {
                continue;
            }
            tracing::warn!(
                hour = %key.hour,
                dimension = record.record.request.dimension,
                attempts = record.attempts,
                seconds_left = record.deadline(state.window).since(now).as_secs(),
                last_error = record.last_error,
                "not accepted by AWS {due} h after its hour"
            );
        }
    }

    /// The next moment at which something is to be said.
    pub(super) fn next(state: &State, now: Timestamp) -> Option<Timestamp> {
        let pending = state.records.values().filter(|r| r.phase == Phase::Pending);
        let moments = pending.flat_map(|r| SAID_AT.iter().map(move |h| r.record.key.hour.end().plus(HOUR * *h)));
        moments.filter(|moment| *moment > now).min()
    }
}
