//! The end of this instance: what waits is sent at once, the hour that goes on is sealed and sent before it is over, and
//! from then on nothing is taken, unless the end is called off.
//!
//! An hour that was sealed stays sealed: that, and not what is remembered here, keeps an end from being billed twice. So
//! an end is remembered in memory only, and any start of the agent calls it off. Usage goes into the next hour then, for
//! the first open one lies ahead of the clock.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use super::code::Code;
use super::take::{Refusal, refuse};
use crate::disk::Disk;
use crate::entry::{CalledOff, End, Entry, Peer, RecordKey, Seal};
use crate::hour::{Hour, Timestamp};
use crate::rollup::state::{Phase, RecordState};
use crate::wal::LogError;
use crate::wal::spares::Need;

/// An end under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndUnderWay {
    /// Since when.
    pub since: Timestamp,
    /// Who asked for it; none where instance metadata announced it.
    pub by: Option<Peer>,
    /// What for, in words.
    pub why: String,
    /// The hour that it closed; none while that cannot be done. Nothing is taken once there is one.
    pub closed: Option<Hour>,
    /// The records that waited when it closed the hour, and those of that hour.
    records: BTreeSet<RecordKey>,
    /// Those of them that have left the state, with what became of them.
    ended: Vec<RecordState>,
}

/// An end, or none, as it is told to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndSeen {
    /// The end under way.
    pub ending: Option<EndUnderWay>,
    /// What keeps the open hour from being sealed, and records from being sent.
    pub obstacle: Option<&'static str>,
    /// Records of this end that do not wait for AWS's answer any more, with what became of them.
    pub sent: Vec<RecordState>,
    /// Records that wait for AWS's answer.
    pub waiting: Vec<RecordState>,
    /// Usage that is in no record yet, by dimension, with the hour whose record takes it.
    pub left: Vec<(String, Hour, String)>,
}

impl<D: Disk> Engine<D> {
    /// This instance ends, as `by` says (none: as instance metadata does): what waits is sent from here on without a
    /// pause, and the hour that goes on is sealed and sent, now or as soon as that can be done. Asked again in the same
    /// hour it changes nothing. Durable when it returns.
    pub fn end(&mut self, by: Option<Peer>, why: &str, now: Timestamp) -> Result<(), LogError> {
        // A person's word on top of an announcement: then only a person calls it off.
        let joined = by.is_some() && self.ending.as_ref().is_some_and(|ending| ending.by.is_none());
        let hour_open = self.state.open_from <= now.hour();
        if self.ending.is_none() || joined || (hour_open && self.is_closed()) {
            tracing::warn!(why, "this instance ends: what waits and the hour that goes on are sent");
            self.flush_building(now)?;
            self.record(&Entry::End(End { at: now, by, why: why.to_owned() }), Need::Control, now)?;
            let before = self.ending.take();
            let closed = before.as_ref().and_then(|ending| ending.closed).filter(|_| !hour_open);
            let by = by.or(before.as_ref().and_then(|ending| ending.by));
            let (records, ended) = before.map_or_else(Default::default, |before| (before.records, before.ended));
            self.ending = Some(EndUnderWay { since: now, by, why: why.to_owned(), closed, records, ended });
        }
        match self.tick(now) {
            // It is under way: the hour is closed as soon as there is room.
            Err(LogError::Full(_)) => Ok(()),
            other => other,
        }
    }

    /// The end does not come: usage is taken again. An end that a person asked for is called off by a person only.
    /// Whether one was. Durable when it returns.
    pub fn call_off(&mut self, by: Option<Peer>, now: Timestamp) -> Result<bool, LogError> {
        if !self.ending.as_ref().is_some_and(|ending| by.is_some() || ending.by.is_none()) {
            return Ok(false);
        }
        self.flush_building(now)?;
        self.record(&Entry::CalledOff(CalledOff { at: now, by }), Need::Control, now)?;
        self.commit(now)?;
        self.ending = None;
        tracing::warn!(hour = %self.state.current_hour(now), "the end is called off: usage is taken again, into this hour");
        Ok(true)
    }

    /// The end under way.
    pub fn ending(&self) -> Option<&EndUnderWay> {
        self.ending.as_ref()
    }

    /// How far the end is.
    pub fn end_seen(&self) -> EndSeen {
        let records = self.ending.as_ref().map(|ending| &ending.records);
        let mine = |r: &&RecordState| records.is_some_and(|records| records.contains(&r.record.key));
        let (waiting, rest): (Vec<&RecordState>, Vec<&RecordState>) =
            self.state.records.values().partition(|r| r.phase == Phase::Pending);
        let ended = self.ending.iter().flat_map(|ending| &ending.ended);
        let mut sent: Vec<RecordState> = ended.chain(rest.into_iter().filter(mine)).cloned().collect();
        sent.sort_by_key(|r| r.record.key);
        let mut left = Vec::new();
        for dimension in &self.state.dimensions {
            let open = dimension.open.keys().map(|hour| (*hour, self.state.hourly(dimension, *hour).usage.total()));
            // Units on their way into the next record, adopted ones among them, go with the first open hour.
            let carried = (self.state.open_from, dimension.carry_value());
            let name = &dimension.rules.name;
            let all = [carried].into_iter().chain(open).filter(|(_, usage)| !usage.is_zero());
            left.extend(all.map(|(hour, usage)| (name.clone(), hour, usage.to_string())));
        }
        for (dimension, customers) in self.state.dimensions.iter().zip(self.state.customer_sums(None)) {
            let left_over = customers.open + customers.carry;
            if !left_over.is_zero() {
                left.push((dimension.rules.name.clone(), self.state.first_open(), left_over.to_string()));
            }
        }
        let fresh = self.state.customers().into_iter().flat_map(|customers| customers.fresh());
        let fresh = fresh.filter_map(|(key, _)| self.state.fresh_record(&key)).map(RecordState::sealed);
        let waiting = waiting.into_iter().cloned().chain(fresh).collect();
        let no_room = || (self.is_end_open() && self.log.no_room().is_some()).then_some("there is no room on the disk");
        let obstacle = self.obstacle().or_else(no_room);
        EndSeen { ending: self.ending.clone(), obstacle, sent, waiting, left }
    }

    /// What keeps hours from being sealed, and records from being sent.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        if self.state.clocks.doubt.is_some() {
            return Some(
                "this machine's clock is in doubt: no hour is sealed and no record sent until AWS's clock confirms it",
            );
        }
        self.state.name().is_none().then_some("the instance's id is not known yet: nothing can be sealed")
    }

    /// Whether an end is under way that could not close its hour yet.
    pub(super) fn is_end_open(&self) -> bool {
        self.ending.is_some() && !self.is_closed()
    }

    /// Whether an end has closed the hour: nothing new is taken.
    pub fn is_closed(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.closed.is_some())
    }

    /// Refuses what is new where an end has closed the hour. While it could not, usage is taken: it is in that record.
    pub(super) fn refuse_at_the_end(&self) -> Result<(), Refusal> {
        let Some(ending) = self.ending.as_ref().filter(|ending| ending.closed.is_some()) else { return Ok(()) };
        let message =
            format!("this instance ends ({}), and its last hour is closed; send it again if it lives on", ending.why);
        Err(refuse(Code::ShuttingDown, message))
    }

    /// Seals all hours up to the one that goes on, if that is still to be done. Records that wait are the end's too.
    pub(super) fn seal_for_the_end(&mut self, now: Timestamp) -> Result<(), LogError> {
        if !self.is_end_open() || self.obstacle().is_some() {
            return Ok(());
        }
        // What the agent meters itself, to this moment.
        self.alive(false)?;
        let first = self.state.open_from;
        let mut hour = first;
        while hour <= now.hour() {
            let moment = self.moment_for_aws(now);
            self.seal_customers(hour, Some(moment), now)?;
            let Some(seal) = self.state.seal_early(hour, now, moment) else { return Ok(()) };
            say_sealed(&seal);
            self.record(&Entry::Seal(seal), Need::Control, now)?;
            hour = self.state.open_from;
        }
        // Of these hours also what waits for a person.
        let mine = self.state.records.values().filter(|r| r.phase == Phase::Pending || r.record.key.hour >= first);
        let mut mine: BTreeSet<RecordKey> = mine.map(|r| r.record.key).collect();
        mine.extend(self.state.customers().into_iter().flat_map(|customers| customers.fresh()).map(|(key, _)| key));
        if let Some(ending) = &mut self.ending {
            ending.closed = Some(now.hour());
            ending.records.extend(mine);
        }
        Ok(())
    }

    /// This moment by the earlier of AWS's clock and ours: AWS takes no record of what is still to come.
    pub(super) fn moment_for_aws(&self, now: Timestamp) -> Timestamp {
        let ahead =
            self.aws().clock_skew_ms.filter(|_| self.options.judge_clock).map_or(0, |skew| skew.min(0).unsigned_abs());
        now.minus(Duration::from_millis(ahead))
    }

    /// Takes note of a record that has left the state.
    pub(super) fn ended_for_the_end(&mut self, record: &RecordState) {
        if let Some(ending) = &mut self.ending
            && ending.records.contains(&record.record.key)
        {
            ending.ended.push(record.clone());
        }
    }
}

/// Says what a seal fixed.
pub(super) fn say_sealed(seal: &Seal) {
    for record in seal.dimensions.iter().filter_map(|sealed| sealed.record.as_ref()) {
        let (dimension, quantity) = (&record.request.dimension, record.request.quantity);
        tracing::info!(hour = %seal.hour, dimension, quantity, "hour sealed");
    }
}
