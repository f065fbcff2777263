//! One dimension's account in the audit's [`Ledger`](super::ledger::Ledger).

use std::collections::BTreeMap;

use crate::config::Measure;
use crate::decimal::Amount;
use crate::entry::Rules;
use crate::hour::{Hour, Timestamp};

/// An hour as measured: a total, or a level and since when it holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HourSum {
    pub(super) value: Amount,
    pub(super) at: Timestamp,
}

impl HourSum {
    pub(super) fn see(&mut self, measure: Measure, quantity: Amount, at: Timestamp) {
        match measure {
            Measure::Max => self.value = self.value.max(quantity),
            Measure::Last if at >= self.at => *self = HourSum { value: quantity, at },
            Measure::Last => {}
            Measure::Sum | Measure::Count | Measure::Unique | Measure::Uptime => self.value += quantity,
        }
    }

    /// What a clock ahead of its time put into a later hour.
    pub(super) fn take_back(&mut self, measure: Measure, ahead: HourSum, now: Timestamp) {
        match measure {
            Measure::Max | Measure::Unique => self.value = self.value.max(ahead.value),
            Measure::Last => *self = HourSum { value: ahead.value, at: now },
            Measure::Sum | Measure::Count | Measure::Uptime => self.value += ahead.value,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    /// Whether its increments alone decide what an hour comes to.
    pub(super) plain: bool,
    pub(super) measure: Measure,
    /// From an hour on, oldest first.
    pub(super) next: Vec<(Hour, Measure)>,
    pub(super) hours: BTreeMap<Hour, HourSum>,
    pub(super) sealed: Amount,
    pub(super) accepted: Amount,
    pub(super) expired: Amount,
    pub(super) discarded: Amount,
    pub(super) included: Amount,
    pub(super) lost: Amount,
    pub(super) rounded: Amount,
    pub(super) remainder: Amount,
    pub(super) spill: Amount,
}

impl Account {
    pub(super) fn new(rules: &Rules) -> Self {
        Account::of(&rules.name, is_plain(rules), rules.measure)
    }

    /// The same dimension with nothing in it.
    pub(super) fn empty(&self) -> Self {
        Account { next: self.next.clone(), ..Account::of(&self.name, self.plain, self.measure) }
    }

    fn of(name: &str, plain: bool, measure: Measure) -> Self {
        let nothing = Amount::ZERO;
        Account {
            name: name.to_owned(),
            plain,
            measure,
            next: Vec::new(),
            hours: BTreeMap::new(),
            sealed: nothing,
            accepted: nothing,
            expired: nothing,
            discarded: nothing,
            included: nothing,
            lost: nothing,
            rounded: nothing,
            remainder: nothing,
            spill: nothing,
        }
    }

    pub(super) fn add(&mut self, hour: Hour, quantity: Amount, at: Timestamp) {
        let measure = self.measure_in(hour);
        self.hours.entry(hour).or_default().see(measure, quantity, at);
    }

    /// Usage that a clock ahead of its time put into hours after `hour` counts in it.
    pub(super) fn recall(&mut self, hour: Hour, now: Timestamp) {
        for (_, ahead) in self.hours.split_off(&hour.next()) {
            let measure = self.measure_in(hour);
            self.hours.entry(hour).or_default().take_back(measure, ahead, now);
        }
    }

    /// Adds a part of the same hours that came later.
    pub(super) fn join(&self, before: &mut BTreeMap<Hour, HourSum>, later: BTreeMap<Hour, HourSum>) {
        for (hour, more) in later {
            let measure = self.measure_in(hour);
            let sum = before.entry(hour).or_default();
            match measure {
                Measure::Max => sum.value = sum.value.max(more.value),
                Measure::Last if more.at >= sum.at => *sum = more,
                Measure::Last => {}
                Measure::Sum | Measure::Count | Measure::Unique | Measure::Uptime => sum.value += more.value,
            }
        }
    }

    /// What its open hours come to.
    pub(super) fn open(&self) -> Amount {
        self.hours.values().map(|sum| sum.value).sum()
    }

    pub(super) fn measure_in(&self, hour: Hour) -> Measure {
        self.next.iter().rev().find(|(from, _)| *from <= hour).map_or(self.measure, |(_, measure)| *measure)
    }
}

/// Whether increments of a dimension alone decide what its hours come to.
pub(super) fn is_plain(rules: &Rules) -> bool {
    !rules.sticky && rules.from.is_empty() && rules.measure != Measure::Uptime
}
