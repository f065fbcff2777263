//! Records that AWS refused before anything of them was taken: how they are mended.

use super::State;
use super::seal::client_token;
use super::state::{Phase, RecordState};
use crate::entry::{DimensionId, FixedAnew, Record, RecordKey};
use crate::hour::Timestamp;

impl RecordState {
    /// AWS refused it; a record that waits for a person before its first attempt was not.
    fn is_refused(&self) -> bool {
        self.phase == Phase::Held && self.attempts > 0
    }
}

impl State {
    /// The configuration has changed: what AWS refused is tried once more, as long as its window is open. A refusal by the
    /// product code is not mended by sending that again: see [`State::fix_anew`].
    pub(super) fn try_refused_again(&mut self, now: Timestamp) {
        let (window, product) = (self.window, &self.product_code);
        for record in self.records.values_mut().filter(|r| r.is_refused()) {
            if record.deadline(window) >= now && record.record.request.product_code == *product {
                record.phase = Phase::Pending;
            }
        }
    }

    /// The refused records that carry another product code than the one in force, fixed anew with it; for a log entry each.
    /// Those whose window has passed stay as they are: nothing could be sent.
    pub fn fix_anew(&self, now: Timestamp) -> Vec<Record> {
        let Some(instance) = self.name() else { return Vec::new() };
        let refused = self.records.values().filter(|r| r.is_refused() && r.deadline(self.window) >= now);
        let wrong = refused.filter(|r| {
            let key = r.record.key;
            r.record.request.product_code != self.product_code && key.times_fixed() < RecordKey::TIMES_FIXED_MAX
        });
        wrong.map(|old| self.under_this_product(&old.record, instance)).collect()
    }

    fn under_this_product(&self, old: &Record, instance: &str) -> Record {
        let mut record = old.clone();
        record.key.generation += 1;
        record.request.product_code.clone_from(&self.product_code);
        let request = &mut record.request;
        if record.key.account().is_none() {
            request.client_token = client_token(&self.product_code, instance, &request.dimension, &record.key);
        }
        record
    }

    /// The old generation ends as carried into its own hour: the new one stands for the same units.
    pub(super) fn apply_fixed_anew(&mut self, fixed: &FixedAnew) -> Vec<RecordState> {
        let key = fixed.record.key;
        let old = RecordKey { generation: key.generation.wrapping_sub(1), ..key };
        let Some(replaced) = self.records.get_mut(&old).filter(|r| r.phase == Phase::Held) else { return Vec::new() };
        replaced.phase = Phase::Carried;
        replaced.carried_into = Some(key.hour);
        self.ended.carried += 1;
        // Also above its ceiling: a person has let the old one go.
        let new = RecordState { phase: Phase::Pending, ..RecordState::sealed(fixed.record.clone()) };
        self.records.insert(key, new);
        self.finish(old)
    }

    /// The units were reported under the wrong dimension: they go into the next record of `into`, and in the books they
    /// have been received there.
    pub(super) fn move_to(&mut self, key: RecordKey, into: DimensionId) {
        let Some(record) = self.records.get(&key) else { return };
        let value = record.value();
        if let Some(dimension) = self.dimensions.get_mut(usize::from(key.dimension.0)) {
            dimension.totals.sealed -= value;
        }
        if let Some(dimension) = self.dimensions.get_mut(usize::from(into.0)) {
            dimension.totals.sealed += value;
        }
        self.carry(key, into);
    }
}
