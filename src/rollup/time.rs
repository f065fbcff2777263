//! The fold of what the clocks said.

use super::State;
use super::state::{DimensionState, Measured, OpenHour};
use crate::config::Measure;
use crate::decimal::Amount;
use crate::entry::{Alive, ClockSeen, Entry, Trust};
use crate::hour::{Hour, Timestamp};

/// Millionths of a second in a millisecond.
const MILLIONTHS_PER_MS: i128 = 1000;

/// When an entry was written, of one that is not about the clock itself.
pub(super) fn moment(entry: &Entry) -> Option<Timestamp> {
    match entry {
        Entry::Usage(e) => Some(e.received),
        Entry::Setup(e) => Some(e.at),
        Entry::Seal(e) => Some(e.at),
        Entry::Attempt(e) => Some(e.at),
        Entry::Answered(e) => Some(e.at),
        Entry::Closed(e) => Some(e.at),
        Entry::Settled(e) => Some(e.at),
        Entry::Released(e) => Some(e.at),
        Entry::FixedAnew(e) => Some(e.at),
        Entry::Damaged(e) => Some(e.at),
        Entry::Named(e) => Some(e.at),
        Entry::Disposed(e) => Some(e.at),
        // The start before it has told.
        Entry::Parted(_) => None,
        Entry::End(e) => Some(e.at),
        Entry::CalledOff(e) => Some(e.at),
        Entry::Accounts(e) => Some(e.at),
        Entry::SealedPart(e) => Some(e.at),
        Entry::BatchAttempt(e) => Some(e.at),
        Entry::BatchAnswered(e) => Some(e.at),
        Entry::Registered(e) => Some(e.at),
        Entry::CustomerEnded(e) => Some(e.at),
        Entry::RegisterRule(e) => Some(e.at),
        Entry::Started(_) | Entry::Alive(_) | Entry::Clock(_) | Entry::Echo(_) => None,
    }
}

impl State {
    /// Takes in when an entry was written. What the clock itself is about tells more than its moment.
    pub(super) fn apply_moment(&mut self, entry: &Entry) {
        if let Some(at) = moment(entry) {
            self.clocks.seen(at);
        }
    }

    pub(super) fn apply_alive(&mut self, alive: &Alive) {
        for (hour, ms) in &alive.ran {
            let hour = (*hour).max(self.open_from);
            let seconds = Amount::from_millionths(i128::from(*ms) * MILLIONTHS_PER_MS);
            let metered = |d: &&mut DimensionState| d.rules_for(hour).measure == Measure::Uptime && d.in_force(hour);
            for dimension in self.dimensions.iter_mut().filter(metered) {
                dimension.open_hour(hour).measured.see(seconds, alive.reading.at);
            }
        }
        self.clocks.alive(&alive.reading, alive.stopping);
    }

    pub(super) fn apply_clock(&mut self, seen: &ClockSeen) {
        match seen.trust {
            Trust::Doubted { expected, known } => self.clocks.doubted(&seen.reading, expected, known),
            Trust::Confirmed => {
                self.clocks.confirmed(&seen.reading);
                self.recall(seen.reading.at);
            }
        }
    }
}

impl DimensionState {
    /// Takes usage that a clock ahead of its time put into hours after `hour` back into it. Nothing of it is lost: only
    /// of distinct ids, which hours do not remember, the larger count stands, so that none is billed twice.
    pub(super) fn recall(&mut self, hour: Hour, now: Timestamp) {
        let ahead = self.open.split_off(&hour.next());
        for (_, from) in ahead {
            let into = self.open_hour(hour);
            into.absorb(from, now);
        }
    }
}

impl OpenHour {
    pub(super) fn absorb(&mut self, other: OpenHour, now: Timestamp) {
        self.increments += other.increments;
        self.late += other.late;
        match (&mut self.measured, other.measured) {
            (Measured::Total(sum), Measured::Total(more)) => sum.merge(more.iter()),
            (Measured::Distinct(count), Measured::Distinct(other)) | (Measured::Max(count), Measured::Max(other)) => {
                *count = other.max(*count);
            }
            (Measured::Last { at, value }, Measured::Last { value: later, .. }) => (*at, *value) = (now, later),
            // The rules changed between the two hours: what was measured by others counts as a level.
            (measured, other) => measured.see(other.total(), now),
        }
    }
}
