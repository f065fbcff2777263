//! How long AWS has owed a final word.

use std::time::Duration;

use super::Engine;
use crate::disk::Disk;
use crate::hour::Timestamp;

/// Metering fails: something was to be sent, and AWS has given no final word on anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: Timestamp,
    /// For how long by now.
    pub lasted: Duration,
    /// Whether anything tells what time it is: if not, nobody knows how long it has lasted.
    pub is_certain: bool,
}

impl<D: Disk> Engine<D> {
    /// Since when an hour with usage is to be sealed and cannot be.
    pub fn unsealed_since(&self, now: Timestamp) -> Option<Timestamp> {
        if self.obstacle().is_none() && self.log.no_room().is_none() {
            return None;
        }
        let customers = self.state.customers().and_then(|customers| customers.open_hours()).map(|(first, _)| first);
        let own = self.state.dimensions.iter().flat_map(|dimension| dimension.open.keys()).min().copied();
        let first = own.into_iter().chain(customers).min()?;
        let due = first.end().plus(self.options.grace);
        (self.placing(now) > due).then_some(due)
    }

    /// Whether metering fails, and since when: from the moment at which the first record was to go out, or since AWS's
    /// last final word. See [`crate::rollup::waiting`].
    pub fn failing(&self, now: Timestamp) -> Option<Failing> {
        let since = self.state.more.waiting_since?.plus(self.offset());
        // A clock that jumped ahead makes no outage longer.
        let now = self.placing(now);
        (now > since).then(|| Failing { since, lasted: now.since(since), is_certain: !self.is_lost_in_time() })
    }
}
