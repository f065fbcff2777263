//! Whose usage it is: what is set aside when a log wakes up under another name, and what a person makes of it. Also
//! keeps, per instance, what it took and what it was given, which nothing at AWS may pass.

use std::collections::BTreeMap;

use meterd::entry::{Disposed, Fate, Named, Parted, RecordKey, Seal};
use meterd::hour::{BootId, Hour, Timestamp};

use super::{Carry, Dimension, Ledger, Open, Place, Record, must, shares};

pub(super) type Hours = BTreeMap<Hour, Open>;

/// What stands apart, and in which boot of a machine that began.
#[derive(Default)]
pub struct Apart {
    boot: Option<BootId>,
    open: Vec<Hours>,
    /// What was reported since, by dimension.
    pub fresh: Vec<i128>,
}

impl Open {
    fn join(&mut self, later: Open) {
        later.total.into_iter().for_each(|(tags, n)| *self.total.entry(tags).or_default() += n);
        self.max = self.max.max(later.max);
        if later.last.0 >= self.last.0 {
            self.last = later.last;
        }
    }
}

fn join(before: &mut Hours, later: Hours) {
    for (hour, open) in later {
        before.entry(hour).or_default().join(open);
    }
}

impl Record {
    /// Whether AWS may have it, as far as anybody here can tell.
    fn may_be_taken(&self) -> bool {
        self.in_doubt || self.in_flight || matches!(self.place, Place::InDoubt | Place::Conflict)
    }
}

impl Ledger {
    /// What was reported counts for the instance that took it.
    pub(super) fn took(&mut self, dimension: usize, quantity: i128) {
        let dimensions = self.dimensions.len();
        let sums = match &mut self.apart {
            Some(apart) => &mut apart.fresh,
            None => self.mine.entry(self.name.clone()).or_default(),
        };
        sums.resize(dimensions, 0);
        sums[dimension] += quantity;
    }

    fn give(&mut self, name: &str, fresh: &[i128]) {
        let sums = self.mine.entry(name.to_owned()).or_default();
        sums.resize(self.dimensions.len(), 0);
        fresh.iter().zip(sums).for_each(|(n, sum)| *sum += n);
    }

    pub(super) fn parted(&mut self, parted: &Parted) -> Result<(), String> {
        must(!self.name.is_empty(), || "parted before the log had a name".into())?;
        let mut apart = self.apart.take().unwrap_or_default();
        must(apart.boot.is_none() || apart.boot != parted.reading.boot, || "parted twice in one boot".into())?;
        // What a machine took that went down before it was named goes with what was there before.
        let owner = self.name.clone();
        self.give(&owner, &apart.fresh);
        apart.open.resize_with(self.dimensions.len(), Hours::new);
        for (dimension, before) in self.dimensions.iter_mut().zip(&mut apart.open) {
            join(before, std::mem::take(&mut dimension.open));
        }
        self.apart = Some(Apart { boot: parted.reading.boot, open: apart.open, fresh: Vec::new() });
        Ok(())
    }

    pub(super) fn named(&mut self, named: &Named) -> Result<(), String> {
        let current = self.current(named.at);
        let known = self.open_from.ok_or("named before any configuration")?;
        must(named.open_from >= known, || format!("sealed hours are opened again: {named:?}"))?;
        let apart = self.apart.take();
        let other = named.instance != self.name;
        must(apart.is_some() || !other, || format!("another name, and nothing was parted: {named:?}"))?;
        let own = |ledger: &Ledger| ledger.dimensions.iter().filter_map(Dimension::first_open).min();
        if other && !self.doubt && !self.others.contains_key(&named.instance) {
            let first = own(self).unwrap_or(current).max(known);
            must(named.open_from == first, || format!("its hours begin at {first}: {named:?}"))?;
        }
        let apart = apart.unwrap_or_default();
        if other {
            self.set_aside(apart.open);
            self.name.clone_from(&named.instance);
            if let Some(mut mine) = self.others.remove(&named.instance) {
                self.records.append(&mut mine.records);
                self.merge(&mut mine);
                self.others.insert(named.instance.clone(), mine);
            }
        } else {
            for (dimension, mut before) in self.dimensions.iter_mut().zip(apart.open) {
                join(&mut before, std::mem::take(&mut dimension.open));
                dimension.open = before;
            }
        }
        self.give(&named.instance, &apart.fresh);
        self.open_from = Some(named.open_from);
        must(own(self).is_none_or(|hour| hour >= named.open_from), || format!("usage lies before {named:?}"))
    }

    fn set_aside(&mut self, mut open: Vec<Hours>) {
        open.resize_with(self.dimensions.len(), Hours::new);
        // What is over stays in the books here.
        let waits = |r: &Record| r.place == Place::Pending || r.place.with_person();
        let on_its_way = |key: &RecordKey, dimensions: &[Dimension]| {
            dimensions[usize::from(key.dimension.0)].carry.iter().any(|carry| carry.from == *key)
        };
        let (records, over) = std::mem::take(&mut self.records)
            .into_iter()
            .partition(|(key, r)| waits(r) || (r.place == Place::Carried && on_its_way(key, &self.dimensions)));
        self.records = over;
        let left = self.others.remove(&self.name);
        let mut other = Ledger { records, open_from: self.open_from, name: self.name.clone(), ..Ledger::default() };
        for (at, (dimension, open)) in self.dimensions.iter_mut().zip(open).enumerate() {
            let mut hours =
                left.as_ref().and_then(|left| left.dimensions.get(at)).map(|d| d.open.clone()).unwrap_or_default();
            join(&mut hours, open);
            other.dimensions.push(Dimension {
                name: dimension.name.clone(),
                since: dimension.since,
                until: dimension.until,
                rules: dimension.rules.clone(),
                open: hours,
                remainder: std::mem::take(&mut dimension.remainder),
                carry: std::mem::take(&mut dimension.carry),
                ..Dimension::default()
            });
        }
        self.others.insert(self.name.clone(), other);
    }

    fn merge(&mut self, other: &mut Ledger) {
        let open_from = self.open_from.unwrap_or_default();
        for (dimension, theirs) in self.dimensions.iter_mut().zip(&mut other.dimensions) {
            let mut open = theirs.open.split_off(&open_from);
            join(&mut open, std::mem::take(&mut dimension.open));
            dimension.open = open;
            for (tags, n) in std::mem::take(&mut theirs.remainder) {
                *dimension.remainder.entry(tags).or_default() += n;
            }
            dimension.carry.append(&mut theirs.carry);
            dimension.sealed += std::mem::take(&mut theirs.sealed);
            dimension.rounded += std::mem::take(&mut theirs.rounded);
        }
    }

    pub(super) fn disposed(&mut self, disposed: &Disposed) -> Result<(), String> {
        let other = self.others.remove(&disposed.instance);
        let mut other = other.ok_or_else(|| format!("nothing of {} is there", disposed.instance))?;
        match &disposed.fate {
            Fate::Adopted { seals, carried, open } => {
                must(*open && self.apart.is_none() && !self.doubt, || format!("not to be adopted now: {disposed:?}"))?;
                let given: Vec<i128> = (0..self.dimensions.len()).map(|at| other.everything(at)).collect();
                self.adopt(&mut other, seals, carried)?;
                let name = self.name.clone();
                self.give(&name, &given);
                self.others.insert(disposed.instance.clone(), other);
            }
            Fate::Discarded { open } => {
                for (at, dimension) in self.dimensions.iter_mut().enumerate() {
                    let told = open.iter().filter(|(id, _)| usize::from(id.0) == at).map(|(_, n)| n.millionths());
                    let summed = other.open(at);
                    must(told.sum::<i128>() == summed, || format!("{summed} of {at} is open there: {disposed:?}"))?;
                    let ends = other.records.iter().filter(|(key, _)| usize::from(key.dimension.0) == at);
                    let records: i128 = ends.map(|(_, r)| r.value).sum();
                    dimension.sealed += summed;
                    // Its records are in the books as what they are.
                    dimension.given_up += other.everything(at) - records;
                }
                for (key, mut record) in std::mem::take(&mut other.records) {
                    (record.place, record.elsewhere) = (Place::Discarded, true);
                    self.records.insert(key, record);
                }
            }
        }
        Ok(())
    }

    fn adopt(&mut self, other: &mut Ledger, seals: &[Seal], carried: &[RecordKey]) -> Result<(), String> {
        let open_from = self.open_from.unwrap_or_default();
        let carries: Vec<Vec<Carry>> = other.dimensions.iter_mut().map(|d| std::mem::take(&mut d.carry)).collect();
        for seal in seals {
            must(seal.hour < open_from, || format!("{} is open here and closed there", seal.hour))?;
            for at in 0..other.dimensions.len() {
                other.seal_dimension(at, seal)?;
            }
        }
        must(other.dimensions.iter().filter_map(Dimension::first_open).all(|hour| hour >= open_from), || {
            "an hour of the other one is left out".into()
        })?;
        for key in seals.iter().flat_map(|s| &s.dimensions).filter_map(|d| d.record.as_ref()).map(|r| r.key) {
            let record = other.records.remove(&key).ok_or("a closed hour without its record")?;
            let carry = Carry { from: key, units: shares(&record.request), value: record.value };
            other.dimensions[usize::from(key.dimension.0)].carry.push(carry);
        }
        other.dimensions.iter_mut().zip(carries).for_each(|(d, carries)| d.carry.extend(carries));
        for (key, mut record) in std::mem::take(&mut other.records) {
            let expected = !record.may_be_taken() && record.place != Place::Carried;
            must(carried.contains(&key) == expected, || format!("{key} is carried, or not: {record:?}"))?;
            if expected {
                record.place = Place::Carried;
                let carry = Carry { from: key, units: shares(&record.request), value: record.value };
                self.dimensions[usize::from(key.dimension.0)].carry.push(carry);
            } else if record.place == Place::Pending || record.place == Place::Held {
                record.place = Place::InDoubt;
            }
            self.records.insert(key, record);
        }
        self.merge(other);
        Ok(())
    }

    /// A record of another instance that a person decides about by itself, and that may have been taken.
    pub(super) fn claim(&mut self, key: RecordKey) {
        let found = self.others.values_mut().find_map(|other| other.records.remove(&key));
        if let Some(mut record) = found {
            if record.place != Place::Conflict {
                record.place = Place::InDoubt;
            }
            let (name, dimension) = (self.name.clone(), usize::from(key.dimension.0));
            let mut given = vec![0; self.dimensions.len()];
            given[dimension] = record.value;
            self.give(&name, &given);
            self.records.insert(key, record);
        }
    }

    /// Records of others that may have been taken, and about which nobody has decided yet.
    pub fn in_doubt_elsewhere(&self) -> impl Iterator<Item = (RecordKey, &Record)> {
        let all = self.others.values().flat_map(|other| &other.records);
        all.filter(|(_, r)| r.may_be_taken() && r.place != Place::Carried).map(|(key, r)| (*key, r))
    }

    /// Usage that a clock ahead of its time put into later hours comes back, also where it stands apart.
    pub(super) fn recall_apart(&mut self, now: Timestamp, current: Hour) {
        let Ledger { apart, dimensions, others, .. } = self;
        for (dimension, before) in dimensions.iter_mut().zip(apart.iter_mut().flat_map(|apart| &mut apart.open)) {
            std::mem::swap(&mut dimension.open, before);
            dimension.recall(now, current);
            std::mem::swap(&mut dimension.open, before);
        }
        for other in others.values_mut() {
            let current = other.current(now);
            other.dimensions.iter_mut().for_each(|dimension| dimension.recall(now, current));
        }
    }

    /// What the open hours come to, with what stands apart.
    pub(super) fn open(&self, at: usize) -> i128 {
        let Some(dimension) = self.dimensions.get(at) else { return 0 };
        let mut hours = self.apart.as_ref().and_then(|apart| apart.open.get(at)).cloned().unwrap_or_default();
        join(&mut hours, dimension.open.clone());
        hours.iter().map(|(hour, open)| dimension.measured(*hour, open)).sum()
    }

    /// As another instance's: all of it.
    pub(super) fn everything(&self, at: usize) -> i128 {
        let Some(dimension) = self.dimensions.get(at) else { return 0 };
        let carry: i128 = dimension.carry.iter().map(|carry| carry.value).sum();
        let mine = self.records.iter().filter(|(key, _)| usize::from(key.dimension.0) == at);
        let waits: i128 = mine.filter(|(_, r)| r.place != Place::Carried).map(|(_, r)| r.value).sum();
        self.open(at) + carry + dimension.remainder.values().sum::<i128>() + waits
    }

    /// Whether other instances have left anything.
    pub fn unsent_elsewhere(&self) -> Option<&str> {
        let left = |other: &Ledger| {
            !other.records.is_empty() || (0..other.dimensions.len()).any(|at| other.everything(at) != 0)
        };
        self.others.iter().find(|(_, other)| left(other)).map(|(name, _)| name.as_str())
    }
}
