//! The books, summed from increments, seals and outcomes directly. Shares no sum with [`crate::rollup`], so that a
//! mistake there does not confirm itself; starts from a checkpoint's books where older segments are gone.
//!
//! What the hours of a dimension come to is summed from its increments where these alone decide it. Of one that repeats
//! a level, is metered by the agent, is made of others or makes another, the seals are believed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::account::{Account, HourSum, is_plain};
use super::customers::Customers;
use super::register::Register;
use super::waiting::{Place, Waiting};
use crate::decimal::Amount;
use crate::entry::{
    Decision, DimensionId, Ending, Entry, RecordKey, Released, Run, Seal, SealedDimension, Settled, Setup, Trust,
    Usage, Verdict,
};
use crate::hour::{Hour, Timestamp};
use crate::rollup::State;
use crate::rollup::books::Books;
use crate::rollup::state::{Measured, OpenHour, Phase, RecordState};

/// Every dimension's account, and the records that are not final.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pub(super) accounts: Vec<Account>,
    pub(super) records: BTreeMap<RecordKey, Waiting>,
    pub(super) open_from: Hour,
    pub(super) instance: Option<String>,
    /// By account: what was open when an agent started that did not know which instance it was on.
    pub(super) parted: Option<Vec<BTreeMap<Hour, HourSum>>>,
    /// What other instances left unsent, by name.
    pub(super) others: BTreeMap<String, Ledger>,
    pub(super) customers: Customers,
    pub(super) register: Register,
    /// The last increment.
    pub seq: u64,
}

impl Ledger {
    /// The books as a checkpoint has them.
    pub(super) fn from_state(state: &State) -> Self {
        let others = state.others().map(|(name, other)| (name.to_owned(), Ledger::from_state(other))).collect();
        let mut ledger = Ledger {
            open_from: state.open_from,
            instance: state.instance.clone(),
            others,
            customers: Customers::from_state(state),
            register: Register::from_state(state),
            seq: state.accepted_seq,
            ..Ledger::default()
        };
        let parted = state.more.parting.as_ref();
        ledger.parted = parted.map(|parting| parting.open.iter().map(sums).collect());
        for dimension in &state.dimensions {
            let mut account = Account::new(&dimension.rules);
            account.next = dimension.next_rules.iter().map(|(from, rules)| (*from, rules.measure)).collect();
            account.plain &= dimension.next_rules.iter().all(|(_, rules)| is_plain(rules));
            account.hours = sums(&dimension.open);
            let here = dimension.carry.iter().map(|carry| carry.from).collect::<BTreeSet<RecordKey>>();
            let carried = here.iter().filter_map(|key| state.records.get(key)).filter(|r| r.phase == Phase::Carried);
            let carried: Amount = carried.map(RecordState::value).sum();
            account.spill = dimension.carry_value() - carried;
            account.remainder = dimension.remainder.total();
            let totals = &dimension.totals;
            (account.sealed, account.accepted, account.expired) = (totals.sealed, totals.accepted, totals.expired);
            (account.discarded, account.included) = (totals.discarded, totals.included);
            (account.lost, account.rounded) = (totals.lost, totals.rounded);
            ledger.accounts.push(account);
        }
        let rules =
            state.dimensions.iter().flat_map(|d| d.next_rules.iter().map(|(_, r)| Some(r)).chain([Some(&d.rules)]));
        let sources: Vec<String> = rules.flatten().flat_map(|r| &r.from).map(|source| source.name.clone()).collect();
        ledger.believe_seals_of(&sources);
        for (key, r) in &state.records {
            ledger.records.insert(*key, Waiting::from_state(state, key, r));
        }
        let fresh = state.customers().into_iter().flat_map(|customers| customers.fresh());
        let unknown = state.register().into_iter().flat_map(|register| register.waiting());
        let fresh = fresh.map(|(key, _)| (key, Place::Pending)).chain(unknown.map(|(key, _)| (key, Place::Unknown)));
        for (key, place) in fresh {
            let record = state.fresh_record(&key).map(RecordState::sealed);
            let waiting = record.map(|r| Waiting { place, fresh: true, ..Waiting::from_state(state, &key, &r) });
            ledger.records.extend(waiting.map(|waiting| (key, waiting)));
        }
        ledger
    }

    fn believe_seals_of(&mut self, names: &[String]) {
        for account in self.accounts.iter_mut().filter(|account| names.contains(&account.name)) {
            account.plain = false;
        }
    }

    /// Takes in an entry; says what in it does not add up.
    pub(super) fn apply(&mut self, entry: &Entry) -> Vec<String> {
        match entry {
            Entry::Setup(setup) => self.setup(setup),
            Entry::Usage(usage) => return self.usage(usage),
            Entry::Seal(seal) => return self.seal(seal),
            Entry::Parted(_) => self.part(),
            Entry::Named(named) => self.named(named),
            Entry::Disposed(disposed) => return self.disposed(disposed),
            Entry::Attempt(_) | Entry::Started(_) | Entry::Alive(_) | Entry::Echo(_) => {}
            Entry::End(_) | Entry::CalledOff(_) => {}
            Entry::Damaged(damaged) => {
                let is_own = |key: &RecordKey| key.account().is_some() || damaged.records.contains(key);
                let own = self.records.iter_mut().filter(|(key, _)| is_own(key));
                let others = self.others.values_mut().flat_map(|other| other.records.iter_mut());
                own.chain(others).for_each(|(_, record)| record.ambiguous = true);
                for record in self.records.values_mut().filter(|record| record.fresh) {
                    record.fresh = false;
                    record.place = if record.place == Place::Unknown { Place::Pending } else { record.place };
                }
            }
            Entry::Clock(seen) => {
                if seen.trust == Trust::Confirmed {
                    self.recall(seen.reading.at);
                }
            }
            Entry::Released(released) => self.released(released),
            Entry::Answered(answered) => return self.answered(answered.key, &answered.verdict),
            Entry::Accounts(_) => {}
            Entry::BatchAttempt(attempt) => {
                for key in &attempt.keys {
                    self.records.entry(*key).and_modify(|record| record.fresh = false);
                }
            }
            Entry::Registered(registered) => self.registered(registered.account),
            Entry::CustomerEnded(ended) => return self.customer_ended(ended),
            Entry::RegisterRule(rule) => self.register_rule(rule.unknown),
            Entry::SealedPart(part) => return self.sealed_part(part),
            Entry::BatchAnswered(answered) => {
                return answered.records.iter().flat_map(|(key, verdict, _)| self.answered(*key, verdict)).collect();
            }
            Entry::Closed(closed) => match closed.ending {
                Ending::Expired => self.end(closed.key, |account| &mut account.expired),
                Ending::Carried => self.put(closed.key, Place::Carried),
                Ending::InDoubt => self.put(closed.key, Place::Person),
            },
            Entry::Settled(settled) => {
                self.claim(settled.key);
                self.settled(settled);
            }
            Entry::FixedAnew(fixed) => {
                let key = fixed.record.key;
                let old = RecordKey { generation: key.generation.wrapping_sub(1), ..key };
                if let Some(before) = self.records.remove(&old) {
                    let request = fixed.record.request.clone();
                    self.records.insert(key, Waiting { place: Place::Pending, request, ..before });
                }
            }
        }
        Vec::new()
    }

    fn answered(&mut self, key: RecordKey, verdict: &Verdict) -> Vec<String> {
        self.customer_accepted(&key, verdict);
        let Some(record) = self.records.get_mut(&key) else {
            return vec![format!("an answer for record {key}, which waits for none")];
        };
        match verdict {
            Verdict::Accepted { .. } => self.end(key, |account| &mut account.accepted),
            Verdict::Conflict => (record.place, record.ambiguous) = (Place::Person, false),
            Verdict::Ambiguous => record.ambiguous = true,
            Verdict::Refused if !record.ambiguous => record.place = Place::Refused,
            _ => {}
        }
        Vec::new()
    }

    fn settled(&mut self, settled: &Settled) {
        match settled.decision {
            Decision::Accepted => self.end(settled.key, |account| &mut account.accepted),
            Decision::WriteOff => self.end(settled.key, |account| &mut account.discarded),
            Decision::Carry => self.put(settled.key, Place::Carried),
            Decision::CarryTo(into) => self.move_to(settled.key, into),
            Decision::Retry => self.let_go(settled.key),
        }
    }

    fn setup(&mut self, setup: &Setup) {
        self.instance.clone_from(&setup.instance);
        let hour = setup.at.hour().max(self.open_from);
        if self.open_from == Hour::default() {
            self.open_from = hour;
        }
        for (id, rules) in &setup.dimensions {
            match self.accounts.get_mut(usize::from(id.0)) {
                Some(known) => {
                    known.next.retain(|(from, _)| *from <= hour);
                    known.next.push((hour.next(), rules.measure));
                    known.plain &= is_plain(rules);
                }
                None => self.accounts.push(Account::new(rules)),
            }
        }
        // What AWS refused is sent once more, inside its window and for the same product.
        let first = setup.at.minus(Duration::from_millis(setup.window_ms));
        let refused = self.records.values_mut().filter(|r| r.place == Place::Refused);
        let mended = refused.filter(|r| r.request.timestamp >= first && r.request.product_code == setup.product_code);
        mended.for_each(|record| record.place = Place::Pending);
        let from = setup.dimensions.iter().flat_map(|(_, rules)| &rules.from);
        let sources: Vec<String> = from.map(|source| source.name.clone()).collect();
        self.believe_seals_of(&sources);
    }

    fn usage(&mut self, usage: &Usage) -> Vec<String> {
        let mut wrong = Vec::new();
        if usage.first_seq != self.seq + 1 {
            wrong.push(format!("increment {} follows {}", usage.first_seq, self.seq));
        }
        self.seq = usage.first_seq + usage.count() - 1;
        let open_from = self.open_from;
        let mut add = |dimension: usize, hour: Hour, quantity: u64, at: Timestamp| match self
            .accounts
            .get_mut(dimension)
        {
            Some(_) if hour < open_from => wrong.push(format!("an increment counts in {hour}, which is sealed")),
            Some(account) => account.add(hour, Amount::from_millionths(i128::from(quantity)), at),
            None => wrong.push(format!("an increment of dimension number {dimension}, which nobody has configured")),
        };
        let mut customers = Vec::new();
        for run in &usage.runs {
            match run {
                Run::Plain { hour, items } => {
                    items.iter().for_each(|(id, q)| add(usize::from(id.0), *hour, *q, usage.received));
                }
                Run::Full(i) => add(usize::from(i.dimension.0), i.hour, i.quantity, i.at.unwrap_or(usage.received)),
                Run::Customers { hour, items } => {
                    customers.extend(items.iter().map(|(of, id, q)| (*of, (*id, *hour, *q), usage.received)));
                }
                Run::Customer(of, i) => {
                    customers.push((*of, (i.dimension, i.hour, i.quantity), i.at.unwrap_or(usage.received)));
                }
            }
        }
        wrong.extend(customers.into_iter().filter_map(|(of, what, at)| self.add_customer(of, what, at)));
        wrong
    }

    pub(super) fn seal(&mut self, seal: &Seal) -> Vec<String> {
        let mut wrong = Vec::new();
        if seal.hour < self.open_from || seal.through < seal.hour {
            wrong.push(format!("{} is sealed, and {} is the first open hour", seal.hour, self.open_from));
        }
        for sealed in &seal.dimensions {
            self.sealed(seal.hour, sealed, &mut wrong);
        }
        self.close_customers(seal.through, &mut wrong);
        self.open_from = seal.through.next();
        for account in &mut self.accounts {
            let late = account.hours.split_off(&self.open_from);
            let left = std::mem::replace(&mut account.hours, late);
            for (hour, sum) in left.into_iter().filter(|(_, sum)| account.plain && !sum.value.is_zero()) {
                wrong.push(format!("{} of {} in {hour} is in no seal", sum.value, account.name));
            }
            account.measure = account.measure_in(self.open_from);
            account.next.retain(|(from, _)| *from > self.open_from);
        }
        wrong
    }

    fn sealed(&mut self, hour: Hour, sealed: &SealedDimension, wrong: &mut Vec<String>) {
        let Some(account) = self.accounts.get_mut(usize::from(sealed.dimension.0)) else {
            wrong.push(format!("dimension number {} is sealed, which nobody has configured", sealed.dimension.0));
            return;
        };
        let summed = account.hours.remove(&hour).unwrap_or_default().value;
        let usage = if account.plain { summed } else { sealed.usage };
        let name = account.name.clone();
        if usage != sealed.usage {
            wrong.push(format!("the increments of {name} in {hour} come to {usage}, its seal says {}", sealed.usage));
        }
        let before = account.remainder + account.spill;
        account.sealed += usage;
        account.rounded += sealed.rounded;
        account.included += sealed.included;
        account.remainder = sealed.kept.remainder.iter().map(|(_, amount)| *amount).sum();
        let spill = sealed.spill.as_ref().map_or(Amount::ZERO, |carry| carry.value);
        let after = account.remainder + spill + sealed.included;
        let Some(record) = &sealed.record else { return };
        // What does not fit into a record that waits for a person waits with it.
        let waits = if record.hold.is_some() { spill } else { Amount::ZERO };
        account.spill = spill - waits;
        let mut taken = Amount::ZERO;
        for key in &record.took {
            if self.records.get(key).is_some_and(|r| r.place == Place::Carried)
                && let Some(record) = self.records.remove(key)
            {
                taken += record.value;
            }
        }
        if before + taken + usage + sealed.rounded != after + record.value {
            wrong.push(format!("record {} of {name} is not what was measured, taken over and left", record.key));
        }
        let place = if record.hold.is_some() { Place::Person } else { Place::Pending };
        let waiting = Waiting {
            value: record.value + waits,
            spill: waits,
            place,
            ambiguous: false,
            fresh: false,
            request: record.request.clone(),
            counts_in: record.key.dimension,
        };
        self.records.insert(record.key, waiting);
    }

    /// A person lets a record go, perhaps with less in it.
    fn released(&mut self, released: &Released) {
        let mut key = released.key;
        if let Some(capped) = &released.capped
            && let Some(before) = self.records.remove(&key)
        {
            key = capped.key;
            if let Some(account) = self.accounts.get_mut(usize::from(key.dimension.0)) {
                account.discarded += before.value - capped.value;
            }
            self.records.insert(key, Waiting { value: capped.value, spill: Amount::ZERO, ..before });
        }
        if released.carried { self.put(key, Place::Carried) } else { self.let_go(key) }
    }

    fn let_go(&mut self, key: RecordKey) {
        if let Some(record) = self.records.get_mut(&key)
            && let Some(account) = self.accounts.get_mut(usize::from(key.dimension.0))
        {
            let spill = std::mem::take(&mut record.spill);
            record.value -= spill;
            record.place = Place::Pending;
            match key.account() {
                Some(of) => self.customers.let_go(of, &key, spill),
                None => account.spill += spill,
            }
        }
    }

    /// Usage that a clock ahead of its time put into later hours counts in this one.
    fn recall(&mut self, now: Timestamp) {
        let hour = now.hour().max(self.open_from);
        self.recall_customers(hour, now);
        let mut parted = self.parted.as_mut().map(|parted| parted.iter_mut());
        for account in &mut self.accounts {
            account.recall(hour, now);
            if let Some(before) = parted.as_mut().and_then(Iterator::next) {
                std::mem::swap(&mut account.hours, before);
                account.recall(hour, now);
                std::mem::swap(&mut account.hours, before);
            }
        }
        self.others.values_mut().for_each(|other| other.recall(now));
    }

    /// The units were reported under the wrong dimension: `into` has received them, and takes them.
    fn move_to(&mut self, key: RecordKey, into: DimensionId) {
        let Some(record) = self.records.get_mut(&key) else { return };
        (record.place, record.counts_in) = (Place::Carried, into);
        let value = record.value;
        if let Some(account) = self.accounts.get_mut(usize::from(key.dimension.0)) {
            account.sealed -= value;
        }
        if let Some(account) = self.accounts.get_mut(usize::from(into.0)) {
            account.sealed += value;
        }
    }

    fn put(&mut self, key: RecordKey, place: Place) {
        if let Some(record) = self.records.get_mut(&key) {
            record.place = place;
        }
    }

    fn end(&mut self, key: RecordKey, total: impl Fn(&mut Account) -> &mut Amount) {
        if let Some(record) = self.records.remove(&key)
            && let Some(account) = self.accounts.get_mut(usize::from(key.dimension.0))
        {
            *total(account) += record.value;
        }
    }

    /// The books of every dimension, and whether its increments alone decide what its hours come to.
    pub(super) fn books(&self) -> Vec<(Books, bool)> {
        let books = |(at, account): (usize, &Account)| {
            let waits = |place| self.waits(at, Some(place));
            let open = self.open(at, account) + self.customers.open_of(at);
            let (remainder, spill) = self.customers.left_of(at);
            let elsewhere: Amount = self.others.values().map(|other| other.never_sealed(at)).sum();
            // Without their open hours, where increments alone do not decide what these come to.
            let believed = |other: &Ledger| if account.plain { Amount::ZERO } else { other.never_sealed(at) };
            let set_aside: Amount = self.others.values().map(|other| other.all(at) - believed(other)).sum();
            let books = Books {
                dimension: account.name.clone(),
                received: account.sealed + open + elsewhere,
                open: open + account.spill + spill + waits(Place::Carried),
                pending: waits(Place::Pending),
                accepted: account.accepted,
                with_person: waits(Place::Person) + waits(Place::Refused) + waits(Place::Unknown) + set_aside,
                unknown_customers: waits(Place::Unknown),
                expired: account.expired,
                included: account.included,
                discarded: account.discarded,
                lost: account.lost,
                rounded: account.rounded,
                remainder: account.remainder + remainder,
            };
            (books, account.plain)
        };
        self.accounts.iter().enumerate().map(books).collect()
    }

    /// What waits of an account, in one place or in all of them.
    pub(super) fn waits(&self, at: usize, place: Option<Place>) -> Amount {
        let mine = self.records.values().filter(|r| usize::from(r.counts_in.0) == at);
        mine.filter(|r| place.is_none_or(|place| r.place == place)).map(|r| r.value).sum()
    }
}

fn sums(open: &BTreeMap<Hour, OpenHour>) -> BTreeMap<Hour, HourSum> {
    let sum = |open: &OpenHour| {
        let at = match &open.measured {
            Measured::Last { at, .. } => *at,
            _ => Timestamp::default(),
        };
        HourSum { value: open.measured.total(), at }
    };
    open.iter().map(|(hour, open)| (*hour, sum(open))).collect()
}
