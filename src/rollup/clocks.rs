//! What the log tells of the clocks: when the agent ran, and whether the clock on the wall is believed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hour::{Hour, Reading, Timestamp};

/// A difference that daemons may make at any time, and that decides nothing: AWS's hours are no sharper.
pub const STEP_MAX: Duration = Duration::from_secs(5 * 60);
/// How long a machine may have been away without anybody asking why. Longer than an agent that runs lets pass between
/// two entries, and the reboot after it.
pub const AWAY_MAX: Duration = Duration::from_secs(15 * 60);

/// The fold of every entry's moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clocks {
    /// The latest moment of an entry while the clock was believed.
    pub last_seen: Option<Timestamp>,
    /// What the clocks last said while the one on the wall was believed; in doubt, what they should have said, if that
    /// is known.
    pub trusted: Option<Reading>,
    /// The clock on the wall is not where it should be: no hour is sealed by it.
    pub doubt: Option<Doubt>,
    /// Up to where the instance's running time is metered.
    pub metered: Option<Reading>,
    /// Hours, first and last, in which no agent ran. Those before the first open hour are left out.
    pub away: Vec<(Hour, Hour)>,
}

/// A clock that is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// What the clocks said.
    pub reading: Reading,
    /// Where the clock on the wall should have been.
    pub expected: Timestamp,
}

impl Clocks {
    /// Where the clock on the wall should be, if it is not there and nothing explains why: the clock that nobody sets
    /// says otherwise, or the machine was started anew and was away for longer than a reboot takes (or goes back).
    pub fn unexplained(&self, reading: &Reading) -> Option<Timestamp> {
        if let Some(expected) = self.expected(reading) {
            return (apart(expected, reading.at) > STEP_MAX).then_some(expected);
        }
        let seen = self.last_seen?;
        (reading.at < seen.minus(STEP_MAX) || reading.at > seen.plus(AWAY_MAX)).then_some(seen)
    }

    /// Where the clock on the wall should be by the clock that nobody sets; `None` after the machine was started anew.
    pub fn expected(&self, reading: &Reading) -> Option<Timestamp> {
        let trusted = self.trusted?;
        Some(trusted.at.plus(reading.elapsed_since(&trusted)?))
    }

    /// How long the instance ran since that was last written down, in milliseconds, by the hours it counts in: from
    /// `reading` backwards, and never into a sealed hour.
    pub fn ran(&self, reading: &Reading, open_from: Hour) -> Vec<(Hour, u64)> {
        let elapsed = self.metered.and_then(|metered| reading.elapsed_since(&metered)).unwrap_or_default();
        let mut left = elapsed.as_millis() as u64;
        let mut end = reading.at;
        let mut ran = Vec::new();
        while left > 0 {
            // The hour of the millisecond before `end`.
            let hour = end.minus(Duration::from_millis(1)).hour();
            let part = end.since(hour.start()).as_millis() as u64;
            if hour <= open_from || part == 0 {
                ran.push((hour.max(open_from), left));
                break;
            }
            let part = part.min(left);
            ran.push((hour, part));
            left -= part;
            end = hour.start();
        }
        ran.reverse();
        ran
    }

    /// Whether no agent ran in this hour.
    pub fn is_away(&self, hour: Hour) -> bool {
        self.away.iter().any(|(first, last)| (*first..=*last).contains(&hour))
    }

    pub(super) fn seen(&mut self, at: Timestamp) {
        if self.doubt.is_none() {
            self.last_seen = Some(self.last_seen.map_or(at, |seen| seen.max(at)));
        }
    }

    pub(super) fn started(&mut self, reading: &Reading) {
        if self.doubt.is_none() {
            self.back(reading.at);
            self.seen(reading.at);
            self.trusted = Some(*reading);
        }
        // Within one boot the instance went on running without the agent, unless that stopped in order.
        if self.metered.and_then(|metered| reading.elapsed_since(&metered)).is_none() {
            self.metered = Some(*reading);
        }
    }

    pub(super) fn alive(&mut self, reading: &Reading, stopping: bool) {
        if self.doubt.is_none() {
            self.trusted = Some(*reading);
        }
        self.seen(reading.at);
        self.metered = (!stopping).then_some(*reading);
    }

    pub(super) fn doubted(&mut self, reading: &Reading, expected: Timestamp, known: bool) {
        self.doubt = Some(Doubt { reading: *reading, expected });
        self.trusted = known.then_some(Reading { at: expected, ..*reading });
    }

    pub(super) fn confirmed(&mut self, reading: &Reading) {
        if let Some(doubt) = self.doubt.take() {
            // The agent ran since the doubt arose; what is missing lies before that.
            let ran = reading.elapsed_since(&doubt.reading).unwrap_or_default();
            self.back(reading.at.minus(ran));
        }
        self.last_seen = Some(reading.at);
        self.trusted = Some(*reading);
    }

    /// The agent is there again at `at`.
    fn back(&mut self, at: Timestamp) {
        let Some(seen) = self.last_seen else { return };
        let (first, end) = (seen.hour().next(), at.hour());
        if first < end {
            self.away.push((first, end.previous()));
        }
    }

    pub(super) fn sealed_through(&mut self, through: Hour) {
        self.away.retain(|(_, last)| *last > through);
    }
}

/// How far two moments lie apart.
pub fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}
