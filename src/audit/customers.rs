//! Customers in the audit's [`Ledger`]: what each has open and handed on, summed from its increments and rows.

use std::collections::BTreeMap;

use super::account::HourSum;
use super::ledger::Ledger;
use super::waiting::{Place, Waiting};
use crate::config::Measure;
use crate::decimal::Amount;
use crate::entry::{AccountId, Buyer, DimensionId, RecordKey, SealedPart, SealedRow};
use crate::hour::{Hour, Timestamp};
use crate::rollup::State;

/// What every customer has that is in no record.
#[derive(Debug, Clone, Default)]
pub(super) struct Customers {
    open: BTreeMap<(Hour, AccountId, DimensionId), HourSum>,
    left: BTreeMap<(AccountId, DimensionId), Left>,
    /// The hour that is being closed, and the last customer that is.
    closing: Option<(Hour, AccountId)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Left {
    remainder: Amount,
    spill: Amount,
}

impl Customers {
    pub(super) fn from_state(state: &State) -> Self {
        let Some(known) = state.customers() else { return Customers::default() };
        let mut customers = Customers { closing: known.closed_through(), ..Customers::default() };
        customers.open.extend(known.open().map(|(key, value, at)| (key, HourSum { value, at })));
        for (place, kept, carry) in known.handed_on() {
            let remainder = kept.remainder.iter().map(|(_, amount)| *amount).sum();
            let is_carried = |key: &RecordKey| state.records.get(key).is_some_and(|r| r.phase.name() == "carried");
            let mut carried: Vec<RecordKey> = carry.iter().map(|carry| carry.from).filter(is_carried).collect();
            carried.dedup();
            let in_records: Amount = carried.iter().filter_map(|key| state.records.get(key)).map(|r| r.value()).sum();
            let spill = carry.iter().map(|carry| carry.value).sum::<Amount>() - in_records;
            customers.left.insert(place, Left { remainder, spill });
        }
        customers
    }

    /// The first hour that increments can count in.
    pub(super) fn first_open(&self) -> Option<Hour> {
        self.closing.map(|(hour, _)| hour.next())
    }

    /// What is open of a dimension.
    pub(super) fn open_of(&self, at: usize) -> Amount {
        self.open.iter().filter(|((_, _, id), _)| usize::from(id.0) == at).map(|(_, sum)| sum.value).sum()
    }

    /// What is left of a dimension below one billed unit, and above what a record holds.
    pub(super) fn left_of(&self, at: usize) -> (Amount, Amount) {
        let mine = self.left.iter().filter(|((_, id), _)| usize::from(id.0) == at);
        mine.fold((Amount::ZERO, Amount::ZERO), |(remainder, spill), (_, left)| {
            (remainder + left.remainder, spill + left.spill)
        })
    }

    /// What did not fit into a record that waited for a person goes into the next one.
    pub(super) fn let_go(&mut self, account: AccountId, key: &RecordKey, spill: Amount) {
        self.left.entry((account, key.dimension)).or_default().spill += spill;
    }
}

impl Ledger {
    pub(super) fn add_customer(
        &mut self,
        account: AccountId,
        (id, hour, quantity): (DimensionId, Hour, u64),
        at: Timestamp,
    ) -> Option<String> {
        let Some(dimension) = self.accounts.get(usize::from(id.0)) else {
            return Some(format!("an increment of dimension number {}, which nobody has configured", id.0));
        };
        if hour < self.customers.first_open().unwrap_or_default().max(self.open_from) {
            return Some(format!("an increment counts in {hour}, which is sealed"));
        }
        let measure = dimension.measure_in(hour);
        let sum = self.customers.open.entry((hour, account, id)).or_default();
        sum.see(measure, Amount::from_millionths(i128::from(quantity)), at);
        None
    }

    pub(super) fn recall_customers(&mut self, hour: Hour, now: Timestamp) {
        let ahead = self.customers.open.split_off(&(hour.next(), AccountId(0), DimensionId(0)));
        for ((_, account, id), ahead) in ahead {
            let measure = self.accounts.get(usize::from(id.0)).map_or(Measure::Sum, |account| account.measure_in(hour));
            match self.customers.open.get_mut(&(hour, account, id)) {
                Some(sum) => sum.take_back(measure, ahead, now),
                None => drop(self.customers.open.insert((hour, account, id), ahead)),
            }
        }
    }

    pub(super) fn sealed_part(&mut self, part: &SealedPart) -> Vec<String> {
        let mut wrong = Vec::new();
        let after =
            self.customers.closing.filter(|(hour, _)| *hour == part.hour).map_or(AccountId(0), |(_, last)| last);
        if part.hour < self.open_from || part.rows.iter().any(|row| row.account <= after || row.account > part.through)
        {
            wrong.push(format!("a part of {} closes customers that are closed", part.hour));
        }
        for row in &part.rows {
            self.sealed_row(part, row, &mut wrong);
        }
        self.customers.closing = Some((part.hour, part.through));
        let first = (part.hour, AccountId(0), DimensionId(0));
        let last = (part.hour, part.through, DimensionId(u16::MAX));
        let rest: Vec<_> = self.customers.open.range(first..=last).map(|(key, sum)| (*key, sum.value)).collect();
        for (key, value) in rest {
            self.customers.open.remove(&key);
            let plain = self.accounts.get(usize::from(key.2.0)).filter(|account| account.plain && !value.is_zero());
            wrong.extend(
                plain.map(|a| format!("{value} of {} of customer {} in {} is in no part", a.name, key.1.0, key.0)),
            );
        }
        wrong
    }

    fn sealed_row(&mut self, part: &SealedPart, row: &SealedRow, wrong: &mut Vec<String>) {
        let Some(account) = self.accounts.get_mut(usize::from(row.dimension.0)) else {
            wrong.push(format!("dimension number {} is sealed, which nobody has configured", row.dimension.0));
            return;
        };
        let place = (row.account, row.dimension);
        let summed = self.customers.open.remove(&(part.hour, row.account, row.dimension)).unwrap_or_default().value;
        let usage = if account.plain { summed } else { row.usage() };
        let (name, customer) = (account.name.clone(), row.account.0);
        if usage != row.usage() {
            let says = row.usage();
            wrong.push(format!("{name} of customer {customer} in {} comes to {usage}, its row says {says}", part.hour));
        }
        account.sealed += usage;
        account.rounded += row.rounded();
        account.included += row.included();
        let left = self.customers.left.entry(place).or_default();
        let before = left.remainder + left.spill;
        left.remainder = row.remainder();
        let spill = row.spill().map_or(Amount::ZERO, |carry| carry.value);
        let after = left.remainder + spill + row.included();
        let Some(fresh) = &row.record else { return };
        let rest = fresh.rest.as_deref();
        let is_held = rest.is_some_and(|rest| rest.hold.is_some());
        // What does not fit into a record that waits for a person waits with it.
        let waits = if is_held { spill } else { Amount::ZERO };
        left.spill = spill - waits;
        let mut taken = Amount::ZERO;
        for key in rest.map_or(&[][..], |rest| &rest.took) {
            if self.records.get(key).is_some_and(|r| r.place == Place::Carried)
                && let Some(record) = self.records.remove(key)
            {
                taken += record.value;
            }
        }
        if before + taken + usage + row.rounded() != after + fresh.value() {
            wrong.push(format!(
                "{name} of customer {customer} in {} is not what was measured and taken over",
                part.hour
            ));
        }
        let key = RecordKey::of_customer(row.account, part.hour, row.dimension);
        let waiting = Waiting {
            value: fresh.value() + waits,
            spill: waits,
            place: if is_held { Place::Person } else { Place::Pending },
            ambiguous: false,
            request: fresh.record(key, &name, &part.common, &Buyer::default()).request,
            counts_in: row.dimension,
        };
        self.records.insert(key, waiting);
    }

    /// A seal ends the row of parts.
    pub(super) fn close_customers(&mut self, through: Hour, wrong: &mut Vec<String>) {
        self.customers.closing = None;
        let after = self.customers.open.split_off(&(through.next(), AccountId(0), DimensionId(0)));
        for ((hour, customer, id), sum) in std::mem::replace(&mut self.customers.open, after) {
            let plain = self.accounts.get(usize::from(id.0)).filter(|account| account.plain && !sum.value.is_zero());
            wrong
                .extend(plain.map(|a| {
                    format!("{} of {} of customer {} in {hour} is in no seal", sum.value, a.name, customer.0)
                }));
        }
    }
}
