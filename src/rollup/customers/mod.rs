//! Customers of a SaaS product: their usage, customer by customer, in as little memory as many of them ask for.
//!
//! A customer's hour is measured, sealed and billed by the very rules that an instance's is: it is laid out as the state
//! of an instance (`seal`). What differs is how it is kept. Open hours are one row for each customer, dimension and
//! hour; what is sealed and was never sent is as short ([`Fresh`]). A record that is about to be sent, or that waits for a
//! person, becomes one like any other (`sent`).
//!
//! A customer is a number (see [`crate::entry::AccountId`]). One that is known without a licence learns its first one:
//! hours that are open then go out with it, those that are sealed without; so no hour of a customer is ever sent both ways.

pub mod register;
mod seal;
mod sent;
pub mod sums;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::State;
use super::apply::amount;
use super::state::{Measured, OpenHour};
use super::tagged::Tagged;
use crate::config::Measure;
use crate::decimal::Amount;
use crate::entry::{AccountId, Accounts, Buyer, Carry, DimensionId, Fresh, InCommon, Increment, Kept, RecordKey};
use crate::hour::{Hour, Timestamp};

/// All customers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Customers {
    /// By number, from 1 on.
    accounts: Vec<Account>,
    /// Hours that are not sealed.
    open: BTreeMap<(Hour, AccountId, DimensionId), Open>,
    /// What hours hand on; nothing is left out.
    left: BTreeMap<(AccountId, DimensionId), Box<Left>>,
    /// The hour that is being closed, part by part.
    sealing: Option<Sealing>,
    /// By hours that have records in `fresh`.
    common: BTreeMap<Hour, InCommon>,
    /// Records that were never sent.
    fresh: BTreeMap<RecordKey, Fresh>,
    /// Numbers by account id; follows from `accounts`.
    #[serde(skip)]
    numbers: BTreeSet<(u64, AccountId)>,
}

/// One customer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Account {
    /// Zero, which is no account: damage took who it is.
    customer: u64,
    license: Option<Box<str>>,
    /// The first hour whose records go out with the licence.
    since: Hour,
}

/// An open hour of a customer's dimension.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Open {
    /// A sum without tags and without late usage, in millionths.
    total: u64,
    increments: u32,
    /// Anything else, and what is too much for that: then all of it is in here.
    full: Option<Box<OpenHour>>,
}

/// What a dimension of a customer hands from hour to hour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Left {
    kept: Kept,
    carry: Vec<Carry>,
}

/// How far the close of an hour is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sealing {
    hour: Hour,
    through: AccountId,
    common: InCommon,
}

/// Which customer an increment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This one.
    Known(AccountId),
    /// This one, which learns its licence.
    Learns(AccountId),
    /// One that gets this number.
    New(AccountId),
    /// It has so many licences that the increment must say which.
    Several(usize),
    /// There is no number left.
    TooMany,
}

impl Customers {
    /// As read from a checkpoint: with what follows from the rest.
    pub(super) fn whole(mut self) -> Self {
        self.numbers = (1..).map(AccountId).zip(&self.accounts).map(|(id, a)| (a.customer, id)).collect();
        self.numbers.retain(|(customer, _)| *customer > 0);
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.accounts.len()
    }

    /// Finds `buyer`, or the number that it would get.
    pub fn find(&self, buyer: &Buyer) -> Found {
        let mut own = self.numbers_of(buyer.customer);
        let license = |id: &AccountId| self.account(*id).and_then(|a| a.license.as_deref());
        let next = AccountId(u32::try_from(self.accounts.len()).unwrap_or(u32::MAX).saturating_add(1));
        let new = if next > AccountId::MAX { Found::TooMany } else { Found::New(next) };
        match &buyer.license {
            None => match (own.next(), own.count()) {
                (None, _) => new,
                (Some(only), 0) => Found::Known(only),
                (Some(_), more) => Found::Several(more + 1),
            },
            Some(wanted) => {
                let own: Vec<AccountId> = own.collect();
                let known = own.iter().find(|id| license(id) == Some(wanted));
                let plain = own.iter().find(|id| license(id).is_none());
                known.map(|id| Found::Known(*id)).or(plain.map(|id| Found::Learns(*id))).unwrap_or(new)
            }
        }
    }

    /// What has no row at the close of a customer's hour is measured in another dimension's.
    fn drop_measured(&mut self, hour: Hour, id: AccountId) {
        let all = (hour, id, DimensionId(0))..=(hour, id, DimensionId(u16::MAX));
        let rest: Vec<_> = self.open.range(all).map(|(key, _)| *key).collect();
        rest.iter().for_each(|key| drop(self.open.remove(key)));
    }

    /// Of a customer that has ended no level goes on, also when it comes back.
    fn drop_levels(&mut self, id: AccountId) {
        let all = (id, DimensionId(0))..=(id, DimensionId(u16::MAX));
        self.left.range_mut(all).for_each(|(_, left)| left.kept.level = None);
    }

    fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get((id.0 as usize).checked_sub(1)?)
    }

    /// Every customer with its number, but for those of whom damage took who they are.
    pub fn accounts(&self) -> impl Iterator<Item = (AccountId, Buyer)> {
        self.accounts_from(AccountId(1))
    }

    /// Those from a number on.
    pub fn accounts_from(&self, first: AccountId) -> impl Iterator<Item = (AccountId, Buyer)> {
        let before = (first.0 as usize).saturating_sub(1);
        let known = (first.0..).map(AccountId).zip(self.accounts.iter().skip(before));
        known.filter(|(_, account)| account.customer > 0).map(|(id, _)| (id, self.who(id)))
    }

    /// The numbers of an account id: one for each of its licences.
    pub fn numbers_of(&self, customer: u64) -> impl Iterator<Item = AccountId> {
        self.numbers.range((customer, AccountId(0))..=(customer, AccountId::MAX)).map(|(_, id)| *id)
    }

    /// Who a customer is, as it is known now.
    pub fn who(&self, id: AccountId) -> Buyer {
        let Some(account) = self.account(id) else { return Buyer::default() };
        Buyer { customer: account.customer, license: account.license.as_deref().map(str::to_owned) }
    }

    /// Whom AWS bills for a customer's records of `hour`.
    pub fn buyer(&self, id: AccountId, hour: Hour) -> Buyer {
        let Some(account) = self.account(id) else { return Buyer::default() };
        let license = account.license.as_deref().filter(|_| hour >= account.since);
        Buyer { customer: account.customer, license: license.map(str::to_owned) }
    }

    /// Whether a customer's records of `hour` go out under a licence.
    pub fn is_licensed(&self, id: AccountId, hour: Hour) -> bool {
        self.account(id).is_some_and(|account| account.license.is_some() && hour >= account.since)
    }

    /// Numbers up to this one were given, also where damage took to whom.
    fn given_through(&mut self, id: AccountId) {
        if self.accounts.len() < id.0 as usize && id <= AccountId::MAX {
            self.accounts.resize(id.0 as usize, Account::default());
        }
    }

    /// `since`: the first hour that a licence holds for which it learns.
    fn define(&mut self, id: AccountId, buyer: &Buyer, since: Hour) {
        self.given_through(id);
        let Some(account) = (id.0 as usize).checked_sub(1).and_then(|at| self.accounts.get_mut(at)) else { return };
        let license = buyer.license.as_deref().map(Box::from);
        if account.customer == 0 {
            *account = Account { customer: buyer.customer, license, since: Hour::default() };
            self.numbers.insert((buyer.customer, id));
        } else if account.license.is_none() {
            (account.license, account.since) = (license, since);
        }
    }

    fn left_mut(&mut self, account: AccountId, dimension: DimensionId) -> &mut Left {
        self.left.entry((account, dimension)).or_default()
    }

    /// What is on its way into a customer's next record.
    pub(super) fn carry_mut(&mut self, account: AccountId, dimension: DimensionId) -> &mut Vec<Carry> {
        &mut self.left_mut(account, dimension).carry
    }

    /// The hour that is being closed.
    pub(super) fn sealing(&self) -> Option<Hour> {
        self.sealing.as_ref().map(|sealing| sealing.hour)
    }

    /// The first hour with usage that is not sealed, and the last.
    pub fn open_hours(&self) -> Option<(Hour, Hour)> {
        let first = self.open.first_key_value()?.0.0;
        Some((first, self.open.last_key_value()?.0.0))
    }

    /// The hour that is being closed, and the last customer that is.
    pub fn closed_through(&self) -> Option<(Hour, AccountId)> {
        self.sealing.as_ref().map(|sealing| (sealing.hour, sealing.through))
    }

    /// What is open: how much, and of a level since when.
    pub fn open(&self) -> impl Iterator<Item = ((Hour, AccountId, DimensionId), Amount, Timestamp)> {
        self.open.iter().map(|(key, open)| {
            let at = match open.full.as_ref().map(|full| &full.measured) {
                Some(Measured::Last { at, .. }) => *at,
                _ => Timestamp::default(),
            };
            (*key, open.usage(), at)
        })
    }

    /// What hours hand on.
    pub fn handed_on(&self) -> impl Iterator<Item = ((AccountId, DimensionId), &Kept, &[Carry])> {
        self.left.iter().map(|(place, left)| (*place, &left.kept, left.carry.as_slice()))
    }

    /// Whether `hour` has no usage, and no level that it might repeat.
    pub(super) fn is_quiet(&self, hour: Hour) -> bool {
        let from = (hour, AccountId(0), DimensionId(0));
        let reported = self.open.range(from..).next().is_some_and(|((first, _, _), _)| *first == hour);
        !reported && self.left.values().all(|left| left.kept.level.is_none())
    }
}

impl Open {
    fn of(measure: Measure) -> Open {
        let is_sum = matches!(measure, Measure::Sum | Measure::Count | Measure::Uptime);
        Open { full: (!is_sum).then(|| Box::new(OpenHour::of(measure))), ..Open::default() }
    }

    /// As an instance has it.
    fn hour(&self) -> OpenHour {
        if let Some(full) = &self.full {
            return (**full).clone();
        }
        let mut sum = Tagged::default();
        sum.add_plain(self.usage());
        OpenHour { measured: Measured::Total(sum), increments: u64::from(self.increments), late: Amount::ZERO }
    }

    fn full(&mut self) -> &mut OpenHour {
        let sum = std::mem::take(self);
        *self = Open {
            full: Some(sum.full.unwrap_or_else(|| Box::new(Open { full: None, ..sum }.hour()))),
            ..Open::default()
        };
        self.full.get_or_insert_with(|| Box::new(OpenHour::of(Measure::Sum)))
    }

    /// `quantity`: in millionths.
    fn add_plain(&mut self, quantity: u64, received: Timestamp) {
        match self.total.checked_add(quantity).filter(|_| self.full.is_none()) {
            Some(total) => {
                self.total = total;
                self.increments = self.increments.saturating_add(1);
            }
            None => {
                let open = self.full();
                open.increments += 1;
                open.measured.see(amount(quantity), received);
            }
        }
    }

    fn usage(&self) -> Amount {
        self.full.as_ref().map_or_else(|| amount(self.total), |open| open.measured.total())
    }
}

impl Left {
    fn is_nothing(&self) -> bool {
        *self == Left::default()
    }
}

impl State {
    /// The customers, of a SaaS product.
    pub fn customers(&self) -> Option<&Customers> {
        self.more.customers.as_deref()
    }

    pub(super) fn customers_mut(&mut self) -> &mut Customers {
        self.more.customers.get_or_insert_default()
    }

    /// The first hour that usage can count in.
    pub fn first_open(&self) -> Hour {
        let sealing = self.customers().and_then(Customers::sealing);
        sealing.map_or(self.open_from, |hour| hour.next().max(self.open_from))
    }

    pub(super) fn apply_accounts(&mut self, new: &Accounts) {
        // The first of them, of none, makes the log a SaaS product's.
        self.customers_mut();
        for (number, buyer) in (new.first.0..).zip(&new.buyers) {
            let since = self.licence_from(AccountId(number));
            self.customers_mut().define(AccountId(number), buyer, since);
        }
    }

    pub(super) fn add_customers(&mut self, hour: Hour, items: &[(AccountId, DimensionId, u64)], received: Timestamp) {
        for (account, dimension, quantity) in items {
            if let Some(open) = self.open_of(*account, *dimension, hour) {
                open.add_plain(*quantity, received);
            }
        }
    }

    pub(super) fn add_customer(&mut self, account: AccountId, increment: &Increment, received: Timestamp) {
        let Some(open) = self.open_of(account, increment.dimension, increment.hour) else { return };
        if open.full.is_none() && increment.tags.is_empty() && !increment.late {
            open.add_plain(increment.quantity, received);
        } else {
            open.full().add(increment, amount(increment.quantity), received);
        }
    }

    fn open_of(&mut self, account: AccountId, id: DimensionId, hour: Hour) -> Option<&mut Open> {
        let measure = self.dimension(id)?.rules_for(hour).measure;
        let customers = self.customers_mut();
        customers.given_through(account);
        Some(customers.open.entry((hour, account, id)).or_insert_with(|| Open::of(measure)))
    }

    /// What a clock ahead of its time put into later hours comes back.
    pub(super) fn recall_customers(&mut self, hour: Hour, now: Timestamp) {
        let firsts: BTreeMap<AccountId, Hour> = self.closed_alone();
        let Some(customers) = self.more.customers.as_deref_mut() else { return };
        let ahead = customers.open.split_off(&(hour.next(), AccountId(0), DimensionId(0)));
        for ((ahead, account, id), from) in ahead {
            // Never into an hour that was closed for this customer.
            let hour = firsts.get(&account).map_or(hour, |first| hour.max((*first).min(ahead)));
            match customers.open.get_mut(&(hour, account, id)) {
                Some(into) => into.full().absorb(from.hour(), now),
                None => {
                    customers.open.insert((hour, account, id), from);
                }
            }
        }
    }
}
