//! Taking over what another instance left unsent: its hours that are sealed here are closed, and their units carried.

use super::State;
use super::foreign::By;
use super::state::Phase;
use crate::entry::{Carry, Damaged, RecordKey, Seal};
use crate::hour::Hour;

impl State {
    /// What closes the hours of a holding that are sealed here, by the rules that held for it; for a log entry. Nothing
    /// where damage may have taken their seals: they may have been sent.
    pub fn closing(&self, other: &State) -> Vec<Seal> {
        let mut seals = Vec::new();
        if other.damaged_through.is_some() {
            return seals;
        }
        let mut other = other.uncarried();
        let first = other.dimensions.iter().flat_map(|d| d.open.keys()).min().copied();
        let until = other.clocks.last_seen.unwrap_or_default();
        let last = other.dimensions.iter().flat_map(|d| d.open.keys()).max().map(|hour| hour.next());
        let last = last.unwrap_or_default().max(until.hour()).min(self.open_from);
        let mut hour = first.map_or(other.open_from, |first| first.min(other.open_from));
        while hour < last {
            if let Some(seal) = other.closing_one(hour) {
                other.close_one(&seal);
                seals.push(seal);
            }
            hour = hour.next();
        }
        seals
    }

    /// Without its carries, which are records of their own and not to be taken by the closing hours.
    fn uncarried(&self) -> State {
        let mut other = self.clone();
        other.dimensions.iter_mut().for_each(|d| d.carry.clear());
        other
    }

    /// As a holding: what closes one of its hours, if anything happened in it. In an hour before its first open one (it
    /// was left when the name came back, see [`State::take_back`]) that is what was measured: levels were repeated since.
    fn closing_one(&self, hour: Hour) -> Option<Seal> {
        if hour >= self.open_from {
            return if self.is_quiet(hour) { None } else { self.seal(hour, hour, hour.end()) };
        }
        let mut left = self.clone();
        left.dimensions.iter_mut().for_each(|dimension| dimension.level = None);
        if left.is_quiet(hour) { None } else { left.seal(hour, hour, hour.end()) }
    }

    /// As a holding: folds such a seal in. One of an hour that was left changes nothing that later hours go on from.
    fn close_one(&mut self, seal: &Seal) {
        let open_from = self.open_from;
        let kept: Vec<_> = self.dimensions.iter().map(|d| (d.level, d.used)).collect();
        self.apply_seal(seal);
        if seal.hour < open_from {
            self.open_from = open_from;
            for (dimension, (level, used)) in self.dimensions.iter_mut().zip(kept) {
                dimension.level = level;
                dimension.used = [used, dimension.used].into_iter().flatten().max_by_key(|used| used.since);
            }
        }
    }

    pub(super) fn adopt(&mut self, mut other: State, seals: &[Seal], carried: &[RecordKey], decided: By, open: bool) {
        let carries: Vec<Vec<Carry>> = other.dimensions.iter_mut().map(|d| std::mem::take(&mut d.carry)).collect();
        seals.iter().for_each(|seal| other.close_one(seal));
        // What these close never becomes a record of its own: its units are on their way at once.
        for record in seals.iter().flat_map(|seal| &seal.dimensions).filter_map(|sealed| sealed.record.as_ref()) {
            let closed = other.records.remove(&record.key);
            if let Some(dimension) = other.dimensions.get_mut(usize::from(record.key.dimension.0)) {
                dimension.carry.push(Carry::of(record));
                dimension.carry.extend(closed.and_then(|closed| closed.spill));
            }
        }
        for (dimension, carry) in other.dimensions.iter_mut().zip(carries) {
            dimension.carry.extend(carry);
        }
        for (key, mut record) in std::mem::take(&mut other.records) {
            let carried = carried.contains(&key);
            if !carried {
                record.phase = match record.phase_elsewhere() {
                    Phase::Held => Phase::InDoubt,
                    phase => phase,
                };
            } else {
                record.decided = Some(decided);
            }
            self.records.insert(key, record);
            if carried {
                self.carry(key, key.dimension);
            }
        }
        self.doubt(&other);
        self.merge(&mut other, open);
        self.keep(other);
    }

    /// What comes over of a holding that damage touched may be billed already: the next record then waits for a person.
    pub(super) fn doubt(&mut self, other: &State) {
        let comes_over = other.dimensions.iter().any(|d| !d.carry.is_empty() || !d.remainder.total().is_zero());
        if other.damaged_through.is_some() && comes_over {
            self.damaged_through = self.damaged_through.max(Some(self.open_from));
        }
    }

    /// What damage took may have been the word that adopted a holding, or a record of it.
    pub(super) fn damage_others(&mut self, damaged: &Damaged) {
        for other in self.more.others.values_mut() {
            other.damaged_through = other.damaged_through.max(Some(damaged.through));
            other.records.values_mut().for_each(|record| record.ambiguous = true);
        }
    }
}
