//! Whose usage it is: the fold of what the log tells about the instance it belongs to.
//!
//! A log that wakes up under another name keeps what the other instance had not sent as a state of its own (rules, open
//! hours, remainders, records), out of the way of everything that seals and sends; in the books it is with a person.
//! Hours are sealed once in a log, whoever's they are: so a record's key names one record for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::State;
use super::clocks::Clocks;
use super::state::{DimensionState, Measured, OpenHour, Phase, RecordState, Totals};
use crate::config::ZeroRecords;
use crate::decimal::Amount;
use crate::entry::{DimensionId, Disposed, Fate, Hold, Named, Parted, Peer, RecordKey, Used};
use crate::hour::{Hour, Reading, Timestamp};

/// Who decided, and when.
pub(super) type By = (Peer, Timestamp);

/// Open hours of one dimension.
type Hours = BTreeMap<Hour, OpenHour>;

/// What was open when an agent started that does not know yet which instance it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parting {
    /// What the clocks said then.
    pub reading: Reading,
    /// Levels from before are repeated in hours before this one only: in it nobody knows any more whose they are.
    pub until: Hour,
    /// By dimension number; dimensions that came later had nothing.
    pub open: Vec<Hours>,
}

impl State {
    /// The instance that meters, if it is certain: only then is anything sealed or sent.
    pub fn name(&self) -> Option<&str> {
        self.instance.as_deref().filter(|_| self.more.parting.is_none())
    }

    /// The holdings of other instances, each with the name. One that has nothing to bill in it is only remembered for when
    /// that name comes back.
    pub fn others(&self) -> impl Iterator<Item = (&str, &State)> {
        self.more.others.iter().map(|(name, other)| (name.as_str(), other))
    }

    /// What other instances have that is not final, each with the name, as it stands here.
    pub fn records_of_others(&self) -> impl Iterator<Item = (&str, RecordState)> {
        self.others().flat_map(|(name, other)| {
            other.records.values().map(move |r| (name, RecordState { phase: r.phase_elsewhere(), ..r.clone() }))
        })
    }

    /// What other instances have in hours that were never sealed, and all that waits with a person, the same included.
    pub(super) fn set_aside_of(&self, id: DimensionId) -> (Amount, Amount) {
        let mut sums = (Amount::ZERO, Amount::ZERO);
        for (_, other) in self.others() {
            let Some(dimension) = other.dimension(id) else { continue };
            let (open, held) = (other.open_usage(id, dimension), other.held_of(id, dimension));
            sums = (sums.0 + open, sums.1 + open + held);
        }
        sums
    }

    /// As a holding: what is on its way to AWS or left of a seal.
    fn held_of(&self, id: DimensionId, dimension: &DimensionState) -> Amount {
        let mine = self.records.values().filter(|r| r.record.key.dimension == id && r.phase != Phase::Carried);
        mine.map(RecordState::value).sum::<Amount>() + dimension.carry_value() + dimension.remainder.total()
    }

    /// As a holding: how much it has to bill, by dimension.
    pub fn unsent(&self) -> Vec<(&str, Amount)> {
        let dimensions = (0..).map(DimensionId).zip(&self.dimensions);
        let all = dimensions.map(|(id, d)| (d.rules.name.as_str(), self.open_usage(id, d) + self.held_of(id, d)));
        all.filter(|(_, amount)| !amount.is_zero()).collect()
    }

    /// As a holding: whether a person has anything to decide.
    pub fn has_unsent(&self) -> bool {
        !self.records.is_empty() || !self.unsent().is_empty()
    }

    /// The state as if the name were known, and the same as before: what stands apart put together.
    pub fn together(&self) -> std::borrow::Cow<'_, State> {
        if self.more.parting.is_none() {
            return std::borrow::Cow::Borrowed(self);
        }
        let mut whole = self.clone();
        whole.rejoin();
        std::borrow::Cow::Owned(whole)
    }

    pub(super) fn apply_parted(&mut self, parted: &Parted) {
        let before = self.more.parting.take();
        let until = match self.clocks.doubt {
            // By this clock nobody can tell: then as far as an agent was last seen.
            Some(_) => self.clocks.last_seen.map_or(self.open_from, |seen| seen.hour().next()),
            None => parted.reading.at.hour(),
        };
        let mut open = before.map_or_else(Vec::new, |before| before.open);
        open.resize(self.dimensions.len(), Hours::new());
        for (dimension, before) in self.dimensions.iter_mut().zip(&mut open) {
            join_all(before, std::mem::take(&mut dimension.open));
        }
        self.more.parting = Some(Parting { reading: parted.reading, until, open });
    }

    pub(super) fn apply_named(&mut self, named: &Named) {
        if self.instance.as_deref() == Some(&named.instance) {
            self.rejoin();
        } else {
            if self.more.parting.is_none() {
                self.apply_parted(&Parted { reading: named.at.into() });
            }
            self.set_aside();
            self.instance = Some(named.instance.clone());
            self.take_back();
        }
        self.more.begun_in_doubt = self.clocks.doubt.is_some() && self.more.begun_in_doubt;
        self.open_from = self.open_from.max(named.open_from);
    }

    fn rejoin(&mut self) {
        let Some(parting) = self.more.parting.take() else { return };
        for (dimension, mut before) in self.dimensions.iter_mut().zip(parting.open) {
            join_all(&mut before, std::mem::take(&mut dimension.open));
            dimension.open = before;
        }
    }

    /// Puts everything of the instance so far out of the way, all but what came since the parting.
    fn set_aside(&mut self) {
        let Some(Parting { reading, until, mut open }) = self.more.parting.take() else { return };
        open.resize(self.dimensions.len(), Hours::new());
        let away = self.clocks.away.clone();
        let clocks = Clocks { away, last_seen: Some(until.start()), trusted: Some(reading), ..Clocks::default() };
        let mut other = State {
            product_code: self.product_code.clone(),
            instance: self.instance.take(),
            window: self.window,
            late: self.late,
            // It reports nothing any more but what it has.
            zero_records: ZeroRecords::Off,
            region: self.region.clone(),
            open_from: self.open_from,
            records: std::mem::take(&mut self.records),
            clocks,
            damaged_through: self.damaged_through,
            ..State::default()
        };
        for (dimension, open) in self.dimensions.iter_mut().zip(open) {
            let carry = std::mem::take(&mut dimension.carry);
            other.dimensions.push(DimensionState {
                open,
                remainder: std::mem::take(&mut dimension.remainder),
                dust: std::mem::take(&mut dimension.dust),
                level: dimension.level.take(),
                used: dimension.used.take(),
                carry,
                totals: Totals::default(),
                rules: dimension.rules.clone(),
                next_rules: dimension.next_rules.clone(),
                ..*dimension
            });
        }
        for record in other.records.values_mut() {
            record.ambiguous |= std::mem::take(&mut record.in_flight);
        }
        self.more.begun_in_doubt = true;
        self.more.waiting_since = None;
        // A holding that is still there under this name has open hours and nothing else, see `take_back` and `adopt`.
        if let Some(left) = other.instance.as_ref().and_then(|name| self.more.others.remove(name)) {
            for (dimension, left) in other.dimensions.iter_mut().zip(left.dimensions) {
                let later = std::mem::replace(&mut dimension.open, left.open);
                join_all(&mut dimension.open, later);
            }
            other.damaged_through = other.damaged_through.max(left.damaged_through);
        }
        self.keep(other);
    }

    /// Remembers a holding, unless there is nothing in it.
    pub(super) fn keep(&mut self, other: State) {
        let has_kept = |d: &DimensionState| d.level.is_some() || d.used.is_some() || d.dust.iter().next().is_some();
        let has_open = |d: &DimensionState| !d.open.is_empty();
        if other.has_unsent() || other.dimensions.iter().any(|d| has_kept(d) || has_open(d)) {
            self.more.others.insert(other.instance.clone().unwrap_or_default(), other);
        }
    }

    /// What was set aside under the name that is now this instance's is its own again. Only hours that another one has
    /// sealed since stay where they are: a person may adopt them.
    fn take_back(&mut self) {
        let own = self.instance.as_ref().and_then(|name| self.more.others.remove(name));
        if let Some(mut other) = own {
            self.records.append(&mut other.records);
            self.doubt(&other);
            self.merge(&mut other, true);
            self.keep(other);
        }
    }

    /// Takes over what is left of a holding's sealed hours, its carries, and, if `open`, what it has in hours that are open
    /// here.
    pub(super) fn merge(&mut self, other: &mut State, open: bool) {
        let open_from = self.open_from;
        for (dimension, theirs) in self.dimensions.iter_mut().zip(&mut other.dimensions) {
            if open {
                let mut hours = theirs.open.split_off(&open_from);
                join_all(&mut hours, std::mem::take(&mut dimension.open));
                dimension.open = hours;
            }
            dimension.remainder.merge(std::mem::take(&mut theirs.remainder).iter());
            dimension.dust.merge(std::mem::take(&mut theirs.dust).iter());
            dimension.carry.append(&mut theirs.carry);
            dimension.level = dimension.level.or(theirs.level.take());
            dimension.used = both(dimension.used, theirs.used.take());
            dimension.totals.add(std::mem::take(&mut theirs.totals));
        }
    }

    /// As a holding: what its hours come to that were never sealed.
    pub fn never_sealed(&self) -> Vec<(DimensionId, Amount)> {
        let dimensions = (0..).map(DimensionId).zip(&self.dimensions);
        let open = dimensions.map(|(id, dimension)| (id, self.open_usage(id, dimension)));
        open.filter(|(_, amount)| !amount.is_zero()).collect()
    }

    /// What a clock ahead of its time put into later hours comes back, also where it stands apart.
    pub(super) fn recall(&mut self, now: Timestamp) {
        let hour = self.current_hour(now);
        self.recall_customers(hour, now);
        let mut before = self.more.parting.as_mut().map(|parting| parting.open.iter_mut());
        for dimension in &mut self.dimensions {
            dimension.recall(hour, now);
            if let Some(before) = before.as_mut().and_then(Iterator::next) {
                std::mem::swap(&mut dimension.open, before);
                dimension.recall(hour, now);
                std::mem::swap(&mut dimension.open, before);
            }
        }
        self.more.others.values_mut().for_each(|other| other.recall(now));
    }

    pub(super) fn apply_disposed(&mut self, disposed: &Disposed) -> Vec<RecordState> {
        let Some(other) = self.more.others.remove(&disposed.instance) else { return Vec::new() };
        let decided = (disposed.by, disposed.at);
        match &disposed.fate {
            Fate::Adopted { seals, carried, open } => {
                self.adopt(other, seals, carried, decided, *open);
                Vec::new()
            }
            Fate::Discarded { open } => self.discard(other, open, decided),
        }
    }

    /// Gives all of it up. Levels and the like are forgotten.
    fn discard(&mut self, mut other: State, open: &[(DimensionId, Amount)], decided: By) -> Vec<RecordState> {
        for (id, theirs) in (0..).map(DimensionId).zip(&other.dimensions) {
            let open: Amount = open.iter().filter(|(of, _)| *of == id).map(|(_, amount)| *amount).sum();
            if let Some(dimension) = self.dimensions.get_mut(usize::from(id.0)) {
                dimension.totals.sealed += open;
                dimension.totals.discarded += open + other.held_of(id, theirs);
            }
        }
        self.ended.discarded += other.records.len() as u64;
        let given_up = |r: RecordState| RecordState { phase: Phase::Discarded, decided: Some(decided), ..r };
        std::mem::take(&mut other.records).into_values().map(given_up).collect()
    }

    /// A person's word on one record of another instance that may have been taken: it comes over, and is decided here.
    pub(super) fn claim(&mut self, key: RecordKey) {
        let waits = |r: &RecordState| matches!(r.phase_elsewhere(), Phase::InDoubt | Phase::Conflict);
        for other in self.more.others.values_mut() {
            if other.records.get(&key).is_some_and(waits)
                && let Some(mut record) = other.records.remove(&key)
            {
                record.phase = record.phase_elsewhere();
                self.records.insert(key, record);
                return;
            }
        }
    }

    /// The first hour that this instance's records may name, where the other one's are not sealed yet: the first that has
    /// usage of its own, else the one that it is.
    pub fn begins(&self, now: Timestamp) -> Hour {
        let own = self.dimensions.iter().flat_map(|d| d.open.keys()).min().copied();
        own.unwrap_or_else(|| self.current_hour(now)).max(self.open_from)
    }
}

impl RecordState {
    /// Where a record of another instance stands here: nothing is sent of it, and what that one may have sent is in doubt.
    pub fn phase_elsewhere(&self) -> Phase {
        match self.phase {
            Phase::Pending | Phase::Held if self.ambiguous || self.in_flight => Phase::InDoubt,
            // Damage took entries of its hour: it may have been sent before.
            Phase::Held if self.record.hold == Some(Hold::Damaged) => Phase::InDoubt,
            Phase::Pending => Phase::Held,
            phase => phase,
        }
    }
}

impl Totals {
    fn add(&mut self, more: Totals) {
        let Totals { sealed, accepted, expired, included, discarded, lost, rounded } = more;
        self.sealed += sealed;
        self.accepted += accepted;
        self.expired += expired;
        self.included += included;
        self.discarded += discarded;
        self.lost += lost;
        self.rounded += rounded;
    }
}

/// How much of an included quantity is used up by two instances of which one replaces the other.
fn both(one: Option<Used>, other: Option<Used>) -> Option<Used> {
    match (one, other) {
        (Some(a), Some(b)) if a.since == b.since => Some(Used { amount: a.amount + b.amount, ..a }),
        (Some(a), Some(b)) => Some(if a.since > b.since { a } else { b }),
        (one, other) => one.or(other),
    }
}

/// Adds hours of one dimension that came later.
fn join_all(before: &mut Hours, later: Hours) {
    for (hour, open) in later {
        match before.get_mut(&hour) {
            Some(known) => known.join(open),
            None => {
                before.insert(hour, open);
            }
        }
    }
}

impl OpenHour {
    /// Adds another part of the same hour that came later.
    fn join(&mut self, later: OpenHour) {
        self.increments += later.increments;
        self.late += later.late;
        match (&mut self.measured, later.measured) {
            (Measured::Total(sum), Measured::Total(more)) => sum.merge(more.iter()),
            // Ids were told apart across both parts.
            (Measured::Distinct(count), Measured::Distinct(more)) => *count += more,
            (measured, Measured::Last { at, value }) => measured.see(value, at),
            // The rules changed in between: what was measured by others counts as a level.
            (measured, other) => measured.see(other.total(), Timestamp::default()),
        }
    }
}
