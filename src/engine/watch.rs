//! The engine's eye on the clocks: what it is told is held against the clock that nobody sets and against AWS's. While
//! the clock on the wall is in doubt usage is taken as ever, but no hour is sealed and no record closed or sent by it.

use std::time::Duration;

use super::Engine;
use crate::config::Measure;
use crate::disk::Disk;
use crate::entry::{Alive, ClockSeen, Entry, Started, Trust};
use crate::hour::{Reading, Timestamp};
use crate::rollup::clocks::{STEP_MAX, apart};
use crate::submit::answer::{self, Reply};
use crate::wal::LogError;
use crate::wal::spares::Need;

/// How often a dimension with measure `uptime` is metered: as much a power cut can take from it.
const METERED_EVERY: Duration = Duration::from_secs(60);
/// How often an agent that meters nothing itself says that it is running.
const ALIVE_EVERY: Duration = Duration::from_secs(300);

impl<D: Disk> Engine<D> {
    /// Tells the engine what the clocks say; to be called before anything else happens at that moment. Whether the clock
    /// on the wall is believed otherwise than before. Durable with the next commit.
    pub fn heed(&mut self, reading: impl Into<Reading>) -> Result<bool, LogError> {
        self.reading = reading.into();
        if !self.options.judge_clock {
            return Ok(false);
        }
        let clocks = &self.state.clocks;
        if clocks.doubt.is_some() {
            let back =
                clocks.expected(&self.reading).is_some_and(|expected| apart(expected, self.reading.at) <= STEP_MAX);
            if back {
                tracing::info!(clock = %self.reading.at, "the clock is back where it should be; hours are sealed again");
                self.trust(Trust::Confirmed)?;
            }
            return Ok(back);
        }
        let Some(expected) = clocks.unexplained(&self.reading) else { return Ok(false) };
        let known = clocks.expected(&self.reading).is_some();
        tracing::warn!(clock = %self.reading.at, %expected, "the clock jumped; no hour is sealed until it is confirmed");
        self.trust(Trust::Doubted { expected, known })?;
        Ok(true)
    }

    /// Holds the clock against AWS's, as an answer told it.
    pub(super) fn heed_aws(&mut self, reply: &Reply, now: Timestamp) -> Result<(), LogError> {
        let Some(aws) = reply.aws_time.filter(|_| self.options.judge_clock && answer::reached(reply)) else {
            return Ok(());
        };
        self.reading.at = now;
        let clocks = &self.state.clocks;
        // Before AWS spoke nothing may have told where the clock should be.
        let unknown = clocks.doubt.is_none() || clocks.trusted.is_none();
        match (apart(aws, now) <= STEP_MAX, clocks.doubt.is_some()) {
            (true, true) => {
                tracing::info!(clock = %now, "AWS's clock confirms this machine's; hours are sealed again");
                self.trust(Trust::Confirmed)
            }
            (false, _) if unknown => {
                tracing::warn!(clock = %now, %aws, "AWS's clock says otherwise; no hour is sealed until they agree");
                self.trust(Trust::Doubted { expected: aws, known: true })
            }
            _ => Ok(()),
        }
    }

    fn trust(&mut self, trust: Trust) -> Result<(), LogError> {
        self.flush_building(self.reading.at)?;
        let seen = ClockSeen { reading: self.reading, trust };
        self.record(&Entry::Clock(seen), Need::Control, self.reading.at)
    }

    /// Writes down that the agent has started, and how long the instance ran without it after a crash.
    pub(super) fn started(&mut self) -> Result<(), LogError> {
        let reading = self.reading;
        self.record(&Entry::Started(Started { reading }), Need::Control, reading.at)?;
        self.alive(false)
    }

    /// Writes down that the agent is running if that is due, and in any case before an hour is sealed that it meters.
    pub(super) fn alive_if_due(&mut self, now: Timestamp, sealing: bool) -> Result<(), LogError> {
        let due = self.alive_due(now).is_some_and(|due| due <= now);
        if due || (sealing && self.meters_uptime()) { self.alive(false) } else { Ok(()) }
    }

    /// Writes down how long the instance ran since the entry before. Nothing where no clock tells.
    pub(super) fn alive(&mut self, stopping: bool) -> Result<(), LogError> {
        let reading = self.reading;
        if reading.boot.is_none() {
            return Ok(());
        }
        let ran = self.state.clocks.ran(&reading, self.state.open_from);
        self.record(&Entry::Alive(Alive { reading, ran, stopping }), Need::Control, reading.at)
    }

    /// When the next such entry is due.
    pub(super) fn alive_due(&self, now: Timestamp) -> Option<Timestamp> {
        let every = match (self.meters_uptime(), self.options.judge_clock) {
            (true, _) => METERED_EVERY,
            (false, true) => ALIVE_EVERY,
            // Nobody asks how long an agent with a clock of its own was away.
            (false, false) => return None,
        };
        let elapsed = self.reading.elapsed_since(&self.state.clocks.metered?)?;
        Some(now.plus(every.saturating_sub(elapsed)))
    }

    fn meters_uptime(&self) -> bool {
        let hour = self.state.open_from;
        self.state.dimensions.iter().any(|d| d.in_force(hour) && d.rules_for(hour).measure == Measure::Uptime)
    }

    /// The moment at which usage counts as received, and by which it is put into an hour: while the clock on the wall is in
    /// doubt, where it should be, as far as that is known. Where a daemon set it back a little, the moment of the newest
    /// entry: the later of two reports must stay the later one, or a level would be billed that no longer holds.
    pub(super) fn placing(&self, now: Timestamp) -> Timestamp {
        let clocks = &self.state.clocks;
        if let Some(expected) = clocks.doubt.and_then(|_| clocks.expected(&self.reading)) {
            return expected;
        }
        clocks.last_seen.filter(|seen| *seen > now && apart(*seen, now) <= STEP_MAX).unwrap_or(now)
    }

    /// Whether the clock on the wall is in doubt and nothing tells where it should be.
    pub(super) fn is_lost_in_time(&self) -> bool {
        self.state.clocks.doubt.is_some() && self.state.clocks.expected(&self.reading).is_none()
    }
}
