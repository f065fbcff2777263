//! Whose usage it is, in the audit's [`Ledger`]: the same moves as in [`crate::rollup::foreign`], on sums alone.

use std::collections::BTreeMap;

use super::account::{Account, HourSum};
use super::ledger::Ledger;
use super::waiting::{Place, Waiting};
use crate::decimal::Amount;
use crate::entry::{Disposed, Fate, Named, RecordKey, Seal};
use crate::hour::Hour;

type Hours = BTreeMap<Hour, HourSum>;

impl Ledger {
    /// What comes from here on may be another instance's than what is open.
    pub(super) fn part(&mut self) {
        let mut before = self.parted.take().unwrap_or_default();
        before.resize(self.accounts.len(), Hours::new());
        for (account, before) in self.accounts.iter_mut().zip(&mut before) {
            let later = std::mem::take(&mut account.hours);
            account.join(before, later);
        }
        self.parted = Some(before);
    }

    pub(super) fn named(&mut self, named: &Named) {
        if self.instance.as_ref() == Some(&named.instance) {
            for (account, mut before) in self.accounts.iter_mut().zip(self.parted.take().unwrap_or_default()) {
                let later = std::mem::take(&mut account.hours);
                account.join(&mut before, later);
                account.hours = before;
            }
        } else {
            self.set_aside();
            self.instance = Some(named.instance.clone());
            if let Some(mut own) = self.others.remove(&named.instance) {
                self.records.append(&mut own.records);
                self.merge(&mut own, true);
                self.others.insert(named.instance.clone(), own);
            }
        }
        self.open_from = self.open_from.max(named.open_from);
    }

    /// All that is not settled stays with the name it came under.
    fn set_aside(&mut self) {
        if self.parted.is_none() {
            self.part();
        }
        let name = self.instance.take().unwrap_or_default();
        let mut left = self.others.remove(&name).map_or_else(Vec::new, |left| left.accounts).into_iter();
        let mut open = self.parted.take().unwrap_or_default().into_iter();
        let mut other = Ledger {
            records: std::mem::take(&mut self.records),
            open_from: self.open_from,
            instance: Some(name.clone()),
            ..Ledger::default()
        };
        for account in &mut self.accounts {
            let mut hours = left.next().map(|left| left.hours).unwrap_or_default();
            account.join(&mut hours, open.next().unwrap_or_default());
            other.accounts.push(Account {
                hours,
                remainder: std::mem::take(&mut account.remainder),
                spill: std::mem::take(&mut account.spill),
                ..account.empty()
            });
        }
        self.others.insert(name, other);
    }

    /// Takes over what is left of another ledger's sealed hours and, if `open`, its hours that are open here.
    fn merge(&mut self, other: &mut Ledger, open: bool) {
        for (account, theirs) in self.accounts.iter_mut().zip(&mut other.accounts) {
            if open {
                let mut hours = theirs.hours.split_off(&self.open_from);
                let own = std::mem::take(&mut account.hours);
                account.join(&mut hours, own);
                account.hours = hours;
            }
            let hours = std::mem::take(&mut theirs.hours);
            let taken = std::mem::replace(theirs, Account { hours, ..account.empty() });
            account.sealed += taken.sealed;
            account.included += taken.included;
            account.rounded += taken.rounded;
            account.remainder += taken.remainder;
            account.spill += taken.spill;
        }
    }

    pub(super) fn disposed(&mut self, disposed: &Disposed) -> Vec<String> {
        let Some(mut other) = self.others.remove(&disposed.instance) else {
            return vec![format!("nothing of {} is there to be decided about", disposed.instance)];
        };
        let mut wrong = Vec::new();
        match &disposed.fate {
            Fate::Adopted { seals, carried, open } => {
                self.adopt(&mut other, seals, carried, &mut wrong);
                self.merge(&mut other, *open);
                self.others.insert(disposed.instance.clone(), other);
            }
            Fate::Discarded { open } => {
                for (at, account) in self.accounts.iter_mut().enumerate() {
                    let told: Amount =
                        open.iter().filter(|(id, _)| usize::from(id.0) == at).map(|(_, amount)| *amount).sum();
                    let summed = other.never_sealed(at);
                    if account.plain && told != summed {
                        wrong.push(format!("{summed} of {} is open there, not {told}", account.name));
                    }
                    account.sealed += told;
                    account.discarded += told + (other.all(at) - summed);
                }
            }
        }
        wrong
    }

    fn adopt(&mut self, other: &mut Ledger, seals: &[Seal], carried: &[RecordKey], wrong: &mut Vec<String>) {
        let spills: Vec<Amount> = other.accounts.iter_mut().map(|a| std::mem::take(&mut a.spill)).collect();
        let open_from = other.open_from;
        for seal in seals {
            // One that was left when the name came back lies before those that it has sealed since.
            other.open_from = other.open_from.min(seal.hour);
            wrong.extend(other.seal(seal));
        }
        other.open_from = other.open_from.max(open_from);
        for record in seals.iter().flat_map(|seal| &seal.dimensions).filter_map(|sealed| sealed.record.as_ref()) {
            let closed = other.records.remove(&record.key);
            if let Some(account) = other.accounts.get_mut(usize::from(record.key.dimension.0)) {
                account.spill += closed.map_or(Amount::ZERO, |closed| closed.value);
            }
        }
        for (account, spill) in other.accounts.iter_mut().zip(spills) {
            account.spill += spill;
        }
        for (key, mut record) in std::mem::take(&mut other.records) {
            if carried.contains(&key) {
                if record.ambiguous || record.place == Place::Carried {
                    wrong.push(format!("record {key} is adopted, and may have been taken"));
                }
                record.place = Place::Carried;
            } else if record.place != Place::Carried {
                record.place = Place::Person;
            }
            self.records.insert(key, record);
        }
    }

    /// A record of another instance that a person decides about by itself.
    pub(super) fn claim(&mut self, key: RecordKey) {
        let found: Option<Waiting> = self.others.values_mut().find_map(|other| other.records.remove(&key));
        if let Some(mut record) = found {
            record.place = Place::Person;
            self.records.insert(key, record);
        }
    }

    /// What the open hours of an account come to, with what stands apart.
    pub(super) fn open(&self, at: usize, account: &Account) -> Amount {
        let Some(before) = self.parted.as_ref().and_then(|parted| parted.get(at)) else { return account.open() };
        let mut hours = before.clone();
        account.join(&mut hours, account.hours.clone());
        hours.values().map(|sum| sum.value).sum()
    }

    /// As another instance's: what its hours come to that were never sealed.
    pub(super) fn never_sealed(&self, at: usize) -> Amount {
        self.accounts.get(at).map_or(Amount::ZERO, Account::open)
    }

    /// As another instance's: everything.
    pub(super) fn all(&self, at: usize) -> Amount {
        let Some(account) = self.accounts.get(at) else { return Amount::ZERO };
        account.open() + account.spill + account.remainder + self.waits(at, None)
    }
}
