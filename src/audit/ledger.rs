//! The books, summed from increments, seals and outcomes directly. Shares no sum with [`crate::rollup`], so that a
//! mistake there does not confirm itself; starts from a checkpoint's books where older segments are gone.

use std::collections::BTreeMap;

use crate::config::Measure;
use crate::decimal::Amount;
use crate::entry::{Decision, Ending, Entry, RecordKey, Run, Seal, SealedDimension, Setup, Usage, Verdict};
use crate::hour::{Hour, Timestamp};
use crate::rollup::State;
use crate::rollup::books::Books;
use crate::rollup::state::{Measured, Phase};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Pending,
    Person,
    Carried,
}

#[derive(Debug, Clone)]
struct Waiting {
    value: Amount,
    place: Place,
    ambiguous: bool,
}

/// An hour as measured: a total, or a level and since when it holds.
#[derive(Debug, Clone, Copy, Default)]
struct HourSum {
    value: Amount,
    at: Timestamp,
}

#[derive(Debug, Clone)]
struct Account {
    name: String,
    measure: Measure,
    next: Option<(Hour, Measure)>,
    hours: BTreeMap<Hour, HourSum>,
    sealed: Amount,
    accepted: Amount,
    expired: Amount,
    discarded: Amount,
    included: Amount,
    lost: Amount,
    rounded: Amount,
    remainder: Amount,
    spill: Amount,
}

/// Every dimension's account, and the records that are not final.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    accounts: Vec<Account>,
    records: BTreeMap<RecordKey, Waiting>,
    open_from: Hour,
    /// The last increment.
    pub seq: u64,
}

impl Ledger {
    /// The books as a checkpoint has them.
    pub(super) fn from_state(state: &State) -> Self {
        let account = |(at, books): (usize, Books)| {
            let dimension = state.dimensions.get(at)?;
            let hours = dimension.open.iter().map(|(hour, open)| {
                let at = match &open.measured {
                    Measured::Last { at, .. } => *at,
                    Measured::Total(_) | Measured::Max(_) => Timestamp::default(),
                };
                (*hour, HourSum { value: open.measured.total(), at })
            });
            let carried = |r: &&crate::rollup::state::RecordState| {
                r.phase == Phase::Carried && usize::from(r.record.key.dimension.0) == at
            };
            let carried: Amount = state.records.values().filter(carried).map(|r| r.record.value).sum();
            Some(Account {
                name: books.dimension,
                measure: dimension.rules.measure,
                next: dimension.next_rules.as_ref().map(|(from, rules)| (*from, rules.measure)),
                hours: hours.collect(),
                sealed: books.received - dimension.open_usage(),
                accepted: books.accepted,
                expired: books.expired,
                discarded: books.discarded,
                included: books.included,
                lost: books.lost,
                rounded: books.rounded,
                remainder: books.remainder,
                spill: dimension.carry_value() - carried,
            })
        };
        let records = state.records.iter().map(|(key, r)| {
            let place = match r.phase {
                Phase::Carried => Place::Carried,
                phase if phase.with_person() => Place::Person,
                _ => Place::Pending,
            };
            (*key, Waiting { value: r.record.value, place, ambiguous: r.ambiguous })
        });
        Ledger {
            accounts: state.books().into_iter().enumerate().filter_map(account).collect(),
            records: records.collect(),
            open_from: state.open_from,
            seq: state.accepted_seq,
        }
    }

    /// Takes in an entry; says what in it does not add up.
    pub(super) fn apply(&mut self, entry: &Entry) -> Vec<String> {
        match entry {
            Entry::Setup(setup) => self.setup(setup),
            Entry::Usage(usage) => return self.usage(usage),
            Entry::Seal(seal) => return self.seal(seal),
            Entry::Attempt(_) => {}
            Entry::Answered(answered) => {
                let Some(record) = self.records.get_mut(&answered.key) else {
                    return vec![format!("an answer for record {}, which waits for none", answered.key)];
                };
                match answered.verdict {
                    Verdict::Accepted { .. } => self.end(answered.key, |account| &mut account.accepted),
                    Verdict::Conflict => (record.place, record.ambiguous) = (Place::Person, false),
                    Verdict::Ambiguous => record.ambiguous = true,
                    Verdict::Refused if !record.ambiguous => record.place = Place::Person,
                    _ => {}
                }
            }
            Entry::Closed(closed) => match closed.ending {
                Ending::Expired => self.end(closed.key, |account| &mut account.expired),
                Ending::Carried => self.put(closed.key, Place::Carried),
                Ending::InDoubt => self.put(closed.key, Place::Person),
            },
            Entry::Settled(settled) => match settled.decision {
                Decision::Accepted => self.end(settled.key, |account| &mut account.accepted),
                Decision::WriteOff => self.end(settled.key, |account| &mut account.discarded),
                Decision::Carry => self.put(settled.key, Place::Carried),
                Decision::Retry => self.put(settled.key, Place::Pending),
            },
        }
        Vec::new()
    }

    fn setup(&mut self, setup: &Setup) {
        let hour = setup.at.hour().max(self.open_from);
        if self.open_from == Hour::default() {
            self.open_from = hour;
        }
        for (id, rules) in &setup.dimensions {
            match self.accounts.get_mut(usize::from(id.0)) {
                Some(known) => {
                    known.next = (known.measure != rules.measure).then(|| (hour.next(), rules.measure));
                }
                None => self.accounts.push(Account::new(rules.name.clone(), rules.measure)),
            }
        }
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
        for run in &usage.runs {
            match run {
                Run::Plain { hour, items } => {
                    items.iter().for_each(|(id, q)| add(usize::from(id.0), *hour, *q, usage.received));
                }
                Run::Full(i) => add(usize::from(i.dimension.0), i.hour, i.quantity, i.at.unwrap_or(usage.received)),
            }
        }
        wrong
    }

    fn seal(&mut self, seal: &Seal) -> Vec<String> {
        let mut wrong = Vec::new();
        if seal.hour < self.open_from || seal.through < seal.hour {
            wrong.push(format!("{} is sealed, and {} is the first open hour", seal.hour, self.open_from));
        }
        for sealed in &seal.dimensions {
            self.sealed(seal.hour, sealed, &mut wrong);
        }
        self.open_from = seal.through.next();
        for account in &mut self.accounts {
            let late = account.hours.split_off(&self.open_from);
            let left = std::mem::replace(&mut account.hours, late);
            for (hour, sum) in left.into_iter().filter(|(_, sum)| !sum.value.is_zero()) {
                wrong.push(format!("{} of {} in {hour} is in no seal", sum.value, account.name));
            }
            if let Some((_, measure)) = account.next.take_if(|(from, _)| *from <= self.open_from) {
                account.measure = measure;
            }
        }
        wrong
    }

    fn sealed(&mut self, hour: Hour, sealed: &SealedDimension, wrong: &mut Vec<String>) {
        let Some(account) = self.accounts.get_mut(usize::from(sealed.dimension.0)) else {
            wrong.push(format!("dimension number {} is sealed, which nobody has configured", sealed.dimension.0));
            return;
        };
        let usage = account.hours.remove(&hour).unwrap_or_default().value;
        let name = account.name.clone();
        if usage != sealed.usage {
            wrong.push(format!("the increments of {name} in {hour} come to {usage}, its seal says {}", sealed.usage));
        }
        let before = account.remainder + account.spill;
        account.sealed += usage;
        account.rounded += sealed.rounded;
        account.remainder = sealed.remainder.iter().map(|(_, amount)| *amount).sum();
        let after = account.remainder + sealed.spill.as_ref().map_or(Amount::ZERO, |carry| carry.value);
        let Some(record) = &sealed.record else { return };
        account.spill = sealed.spill.as_ref().map_or(Amount::ZERO, |carry| carry.value);
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
        let waiting = Waiting { value: record.value, place: Place::Pending, ambiguous: false };
        self.records.insert(record.key, waiting);
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

    /// The books of every dimension.
    pub(super) fn books(&self) -> Vec<Books> {
        let books = |(at, account): (usize, &Account)| {
            let waits = |place| -> Amount {
                let here =
                    self.records.iter().filter(|(key, r)| usize::from(key.dimension.0) == at && r.place == place);
                here.map(|(_, r)| r.value).sum()
            };
            let open: Amount = account.hours.values().map(|sum| sum.value).sum();
            Books {
                dimension: account.name.clone(),
                received: account.sealed + open,
                open: open + account.spill + waits(Place::Carried),
                pending: waits(Place::Pending),
                accepted: account.accepted,
                with_person: waits(Place::Person),
                expired: account.expired,
                included: account.included,
                discarded: account.discarded,
                lost: account.lost,
                rounded: account.rounded,
                remainder: account.remainder,
            }
        };
        self.accounts.iter().enumerate().map(books).collect()
    }
}

impl Account {
    fn new(name: String, measure: Measure) -> Self {
        let nothing = Amount::ZERO;
        Account {
            name,
            measure,
            next: None,
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

    fn add(&mut self, hour: Hour, quantity: Amount, at: Timestamp) {
        let measure = self.next.filter(|(from, _)| *from <= hour).map_or(self.measure, |(_, measure)| measure);
        let sum = self.hours.entry(hour).or_default();
        match measure {
            Measure::Max => sum.value = sum.value.max(quantity),
            Measure::Last if at >= sum.at => *sum = HourSum { value: quantity, at },
            Measure::Last => {}
            Measure::Sum | Measure::Count | Measure::Unique | Measure::Uptime => sum.value += quantity,
        }
    }
}
