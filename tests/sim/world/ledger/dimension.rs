//! What the oracle keeps of each dimension and record.

use std::collections::BTreeMap;

use meterd::config::Measure;
use meterd::entry::{RecordKey, Request, Rules, Verdict};
use meterd::hour::{Hour, Timestamp};
use meterd::tags::Tags;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Pending,
    Accepted,
    Held,
    Conflict,
    InDoubt,
    Carried,
    Expired,
    Discarded,
}

impl Place {
    pub fn with_person(self) -> bool {
        matches!(self, Place::Held | Place::Conflict | Place::InDoubt)
    }
}

#[derive(Debug, Clone)]
pub struct Record {
    pub request: Request,
    /// In usage millionths, what its quantity stands for.
    pub value: i128,
    pub place: Place,
    pub attempts: u64,
    pub(super) in_flight: bool,
    /// An attempt may have been taken, and nothing conclusive came since.
    pub in_doubt: bool,
    /// AWS's own `Date` was past its window.
    pub(super) too_old: bool,
    /// AWS answers for others and not for it: later hours need not wait for it.
    pub(super) stuck: bool,
    pub last: Option<Verdict>,
    /// Another instance's, and given up here: what became of it there nobody here can tell.
    pub elsewhere: bool,
}

/// An increment as the log has it.
#[derive(Debug, Clone)]
pub struct Taken {
    pub dimension: usize,
    pub quantity: u64,
    pub key: Option<String>,
    pub at: Option<Timestamp>,
    pub tags: Tags,
    pub uid: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Open {
    pub(super) total: BTreeMap<Tags, i128>,
    pub(super) max: i128,
    pub(super) last: (Timestamp, i128),
}

#[derive(Debug, Clone, Default)]
pub struct Dimension {
    pub name: String,
    /// The first hour it is billed in, and the first one it is not, of one that the configuration left out.
    pub(super) since: Hour,
    pub(super) until: Option<Hour>,
    /// From which hour on which rules hold.
    pub(super) rules: Vec<(Hour, Rules)>,
    pub(super) open: BTreeMap<Hour, Open>,
    /// What is below one billed unit, by tags; a share may have been rounded up and be negative.
    pub(super) remainder: BTreeMap<Tags, i128>,
    pub(super) carry: Vec<Carry>,
    pub(super) sealed: i128,
    pub rounded: i128,
    /// Of other instances, and not in records.
    pub given_up: i128,
    /// Everything that was ever reported, whatever is measured of it.
    pub reported: i128,
}

/// Billed units on the way into the next record.
#[derive(Debug, Clone)]
pub(super) struct Carry {
    pub(super) from: RecordKey,
    pub(super) units: BTreeMap<Tags, i128>,
    pub(super) value: i128,
}

impl Dimension {
    pub(super) fn rules(&self, hour: Hour) -> &Rules {
        let in_force = self.rules.iter().rev().find(|(from, _)| *from <= hour);
        in_force.map(|(_, rules)| rules).expect("rules from the first hour on")
    }

    pub(super) fn measured(&self, hour: Hour, open: &Open) -> i128 {
        match self.rules(hour).measure {
            Measure::Max => open.max,
            Measure::Last => open.last.1,
            _ => open.total.values().sum(),
        }
    }

    /// Takes usage that a clock ahead of its time put into later hours back into this one.
    pub(super) fn recall(&mut self, now: Timestamp, current: Hour) {
        for (_, ahead) in self.open.split_off(&current.next()) {
            let open = self.open.entry(current).or_default();
            ahead.total.into_iter().for_each(|(tags, n)| *open.total.entry(tags).or_default() += n);
            open.max = open.max.max(ahead.max);
            open.last = (now, ahead.last.1);
        }
    }

    pub fn first_open(&self) -> Option<Hour> {
        self.open.keys().next().copied()
    }

    pub fn is_drained(&self) -> bool {
        self.open.is_empty() && self.carry.is_empty()
    }
}
