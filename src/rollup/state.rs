//! Everything the agent knows, as of one entry of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clocks::Clocks;
use super::more::More;
use super::tagged::Tagged;
use crate::config::{Late, Measure, ZeroRecords};
use crate::decimal::Amount;
use crate::entry::{AccountId, Carry, DimensionId, Peer, Record, RecordKey, Rules, Used};
use crate::hour::{Hour, Timestamp};
use crate::tags::Tags;

/// The fold of the log. A [`Checkpoint`](super::Checkpoint) is this, as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// The product's code.
    pub product_code: String,
    /// The instance that meters, once known.
    pub instance: Option<String>,
    /// How long after its timestamp AWS takes a record.
    pub window: Duration,
    /// What becomes of a record past it.
    pub late: Late,
    /// Whether hours without usage are reported.
    pub zero_records: ZeroRecords,
    /// The Region that is configured; none is the instance's.
    pub region: Option<String>,
    /// By number.
    pub dimensions: Vec<DimensionState>,
    /// The number of the last increment.
    pub accepted_seq: u64,
    /// The first hour that is not sealed: usage never counts before it.
    pub open_from: Hour,
    /// Records that something can still happen to: pending, with a person, or carried and not yet taken.
    pub records: BTreeMap<RecordKey, RecordState>,
    /// How many records ended in each way, those that have left `records` included.
    pub ended: Ended,
    /// The last record that AWS accepted.
    pub last_success: Option<Timestamp>,
    /// The last attempt that AWS might have answered was not: the outage it met may still be on.
    pub unanswered: bool,
    /// When the agent ran, and whether the clock is believed.
    pub clocks: Clocks,
    /// Increments that damage to the disk took before their hour was sealed.
    pub lost_increments: u64,
    /// Hours up to this one may have been sealed by an entry that damage took.
    pub damaged_through: Option<Hour>,
    /// What came after the layout above was frozen: a field more goes in there.
    #[serde(skip)]
    pub more: More,
}

/// Records that are gone from [`State::records`], by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ended {
    /// Accepted by AWS.
    pub accepted: u64,
    /// Carried into a later hour.
    pub carried: u64,
    /// Given up past the window.
    pub expired: u64,
    /// Given up by a person.
    pub discarded: u64,
}

/// One dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimensionState {
    /// In force.
    pub rules: Rules,
    /// In force from an hour on, in order: more than one while hours are open that lie before and behind a change.
    pub next_rules: Vec<(Hour, Rules)>,
    /// Whether the configuration in force names it.
    pub configured: bool,
    /// The first hour it is in force.
    pub since: Hour,
    /// The first hour it is no longer, for one that the configuration dropped.
    pub until: Option<Hour>,
    /// Hours that are not sealed.
    pub open: BTreeMap<Hour, OpenHour>,
    /// Usage below one billed unit, by tags.
    pub remainder: Tagged,
    /// See [`crate::entry::Kept`].
    pub dust: Tagged,
    /// See [`crate::entry::Kept`].
    pub level: Option<Amount>,
    /// See [`crate::entry::Kept`].
    pub used: Option<Used>,
    /// Units for the next record.
    pub carry: Vec<Carry>,
    /// What has left the open hours and the records.
    pub totals: Totals,
}

/// Sums since the state directory was made, in usage units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Measured in sealed hours.
    pub sealed: Amount,
    /// In records that AWS accepted.
    pub accepted: Amount,
    /// In records given up past the window.
    pub expired: Amount,
    /// Covered by the base price.
    pub included: Amount,
    /// Given up by a person.
    pub discarded: Amount,
    /// Taken by damage to the disk.
    pub lost: Amount,
    /// Added by rounding (or, negative, taken away).
    pub rounded: Amount,
}

/// An hour of a dimension that is not sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenHour {
    /// What was measured so far.
    pub measured: Measured,
    /// How many increments.
    pub increments: u64,
    /// Of a sum: what came late from sealed hours.
    pub late: Amount,
}

/// What a measure has seen in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measured {
    /// `sum`, `count`, and the seconds of `uptime`.
    Total(Tagged),
    /// `unique`: how many ids so far.
    Distinct(Amount),
    /// `max`.
    Max(Amount),
    /// `last`: the value and the moment it was true.
    Last {
        /// When.
        at: Timestamp,
        /// How much.
        value: Amount,
    },
}

/// A record and what has happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordState {
    /// As sealed.
    pub record: Record,
    /// Where it stands.
    pub phase: Phase,
    /// Attempts begun.
    pub attempts: u32,
    /// An attempt has begun and not ended.
    pub in_flight: bool,
    /// An attempt may have been taken, and no conclusive answer has come since.
    pub ambiguous: bool,
    /// AWS calls it too old, by its own clock.
    pub out_of_window: bool,
    /// When the first attempt began.
    pub first_attempt: Option<Timestamp>,
    /// When the last attempt began.
    pub last_attempt: Option<Timestamp>,
    /// What the last attempt failed with.
    pub last_error: Option<String>,
    /// AWS's id of the record.
    pub metering_record_id: Option<String>,
    /// AWS's id of the request that settled it.
    pub request_id: Option<String>,
    /// The hour whose record took its units.
    pub carried_into: Option<Hour>,
    /// Units beyond what one record can hold, while it waits for a person.
    pub spill: Option<Carry>,
    /// Who decided about it last, and when.
    pub decided: Option<(Peer, Timestamp)>,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting to be sent.
    Pending,
    /// AWS has it.
    Accepted,
    /// AWS refuses it as it is, or it is above its dimension's ceiling; waits for a person.
    Held,
    /// Another quantity stands for its hour; waits for a person.
    Conflict,
    /// May have been taken; waits for a person.
    InDoubt,
    /// Its units are in a later record.
    Carried,
    /// Given up past its window.
    Expired,
    /// Given up by a person.
    Discarded,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 8] = [
        Phase::Pending,
        Phase::Accepted,
        Phase::Held,
        Phase::Conflict,
        Phase::InDoubt,
        Phase::Carried,
        Phase::Expired,
        Phase::Discarded,
    ];

    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Accepted => "accepted",
            Phase::Held => "held",
            Phase::Conflict => "conflict",
            Phase::InDoubt => "in_doubt",
            Phase::Carried => "carried",
            Phase::Expired => "expired",
            Phase::Discarded => "discarded",
        }
    }

    /// Whether a person has to decide.
    pub fn with_person(self) -> bool {
        matches!(self, Phase::Held | Phase::Conflict | Phase::InDoubt)
    }
}

impl RecordState {
    /// A record that was sealed just now.
    pub fn sealed(record: Record) -> Self {
        RecordState {
            phase: if record.hold.is_some() { Phase::Held } else { Phase::Pending },
            record,
            attempts: 0,
            in_flight: false,
            ambiguous: false,
            out_of_window: false,
            first_attempt: None,
            last_attempt: None,
            last_error: None,
            metering_record_id: None,
            request_id: None,
            carried_into: None,
            spill: None,
            decided: None,
        }
    }

    /// Whether it has waited for a person from the start, and was never sent.
    pub fn is_held_back(&self) -> bool {
        self.phase == Phase::Held && self.record.hold.is_some() && self.attempts == 0
    }

    /// What it stands for, in usage units, with what does not fit into it.
    pub fn value(&self) -> Amount {
        self.record.value + self.spill.as_ref().map_or(Amount::ZERO, |spill| spill.value)
    }

    /// Until when it may be sent.
    pub fn deadline(&self, window: Duration) -> Timestamp {
        deadline(&self.record.key, self.record.request.timestamp, window)
    }

    /// Whether nothing more can happen to it.
    pub fn is_final(&self) -> bool {
        match self.phase {
            Phase::Accepted | Phase::Expired | Phase::Discarded => true,
            Phase::Carried => self.carried_into.is_some(),
            Phase::Pending | Phase::Held | Phase::Conflict | Phase::InDoubt => false,
        }
    }
}

/// How long into a new month AWS takes customers' usage of the month before.
const MONTH_END_GRACE: Duration = Duration::from_secs(6 * 3600);

/// Until when a record with this timestamp may be sent.
pub(super) fn deadline(key: &RecordKey, timestamp: Timestamp, window: Duration) -> Timestamp {
    let end = timestamp.plus(window);
    match key.account() {
        Some(_) => end.min(timestamp.hour().next_month().start().plus(MONTH_END_GRACE)),
        None => end,
    }
}

impl Measured {
    /// The hour's usage as it stands.
    pub fn total(&self) -> Amount {
        match self {
            Measured::Total(tagged) => tagged.total(),
            Measured::Distinct(value) | Measured::Max(value) | Measured::Last { value, .. } => *value,
        }
    }

    /// By tags.
    pub fn into_tagged(self) -> Tagged {
        match self {
            Measured::Total(tagged) => tagged,
            Measured::Distinct(value) | Measured::Max(value) | Measured::Last { value, .. } => {
                let mut tagged = Tagged::default();
                tagged.add_plain(value);
                tagged
            }
        }
    }
}

impl DimensionState {
    /// A dimension that is new to the log.
    pub fn new(rules: Rules, since: Hour) -> Self {
        DimensionState {
            rules,
            next_rules: Vec::new(),
            configured: true,
            since,
            until: None,
            open: BTreeMap::new(),
            remainder: Tagged::default(),
            dust: Tagged::default(),
            level: None,
            used: None,
            carry: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// The rules that hold for `hour`, which is not sealed.
    pub fn rules_for(&self, hour: Hour) -> &Rules {
        self.next_rules.iter().rev().find(|(from, _)| *from <= hour).map_or(&self.rules, |(_, rules)| rules)
    }

    /// The rules that were configured last; they may still wait for their hour.
    pub fn newest_rules(&self) -> &Rules {
        self.next_rules.last().map_or(&self.rules, |(_, rules)| rules)
    }

    /// Whether it is made of others, now or with the next hour.
    pub fn has_sources(&self) -> bool {
        let next = self.next_rules.iter().map(|(_, rules)| rules);
        next.chain([&self.rules]).any(|rules| !rules.from.is_empty())
    }

    /// Whether the configuration in force in `hour` names it.
    pub fn in_force(&self, hour: Hour) -> bool {
        self.since <= hour && (self.configured || self.until.is_some_and(|until| hour < until))
    }

    /// What the units on their way into the next record stand for.
    pub fn carry_value(&self) -> Amount {
        self.carry.iter().map(|c| c.value).sum()
    }
}

/// Where an increment counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The hour.
    pub hour: Hour,
    /// It happened in an hour that is sealed.
    pub late: bool,
}

impl State {
    /// The dimension with this number.
    pub fn dimension(&self, id: DimensionId) -> Option<&DimensionState> {
        self.dimensions.get(usize::from(id.0))
    }

    /// The number of the dimension with this name.
    pub fn dimension_named(&self, name: &str) -> Option<DimensionId> {
        let at = self.dimensions.iter().position(|d| d.rules.name == name)?;
        u16::try_from(at).ok().map(DimensionId)
    }

    /// The hour that usage of this moment counts in: never a sealed one, whatever the clock says.
    pub fn current_hour(&self, now: Timestamp) -> Hour {
        now.hour().max(self.first_open())
    }

    /// Where usage of moment `at` (default `now`) counts, of a SaaS product's customer or the instance's; `None` if its hour is sealed and the measure cannot be taken
    /// into another one.
    pub fn place(
        &self,
        of: Option<AccountId>,
        measure: Measure,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Placed> {
        let first_open = of.map_or(self.first_open(), |of| self.first_open_of(of));
        let current = now.hour().max(first_open);
        let hour = at.map_or(current, |at| at.hour().min(current));
        if hour >= first_open {
            return Some(Placed { hour, late: false });
        }
        matches!(measure, Measure::Sum | Measure::Count).then_some(Placed { hour: current, late: true })
    }

    /// Units by tags, as one sum, for a row of carries.
    pub fn carried_units(carry: &[Carry]) -> BTreeMap<Tags, i64> {
        let mut units = BTreeMap::new();
        for (tags, n) in carry.iter().flat_map(|c| &c.units) {
            *units.entry(tags.clone()).or_default() += n;
        }
        units
    }
}
