//! Customers' records on their way to AWS: one that was never sent becomes a record like any other when it is.

use super::super::State;
use super::super::state::RecordState;
use super::Customers;
use crate::entry::{
    Answered, Attempt, BatchAnswered, BatchAttempt, Carry, DimensionId, Fresh, InCommon, Record, RecordKey,
};
use crate::hour::{Hour, Timestamp};

impl Customers {
    /// The records that were never sent, oldest first.
    pub fn fresh(&self) -> impl Iterator<Item = (RecordKey, &Fresh)> {
        self.fresh.iter().map(|(key, fresh)| (*key, fresh))
    }

    /// The hours of which there are such records.
    pub fn fresh_hours(&self) -> impl Iterator<Item = Hour> {
        let mut next = self.fresh.keys().next().copied();
        std::iter::from_fn(move || {
            let hour = next?.hour;
            let later = RecordKey { hour: hour.next(), dimension: DimensionId(0), generation: 0 };
            next = self.fresh.range(later..).next().map(|(key, _)| *key);
            Some(hour)
        })
    }

    /// How many.
    pub fn fresh_count(&self) -> u64 {
        self.fresh.len() as u64
    }

    /// What the records of this one's hour have in common.
    pub fn in_common(&self, key: &RecordKey) -> Option<&InCommon> {
        self.common.get(&key.hour)
    }
}

impl State {
    /// A record that was never sent, in full.
    pub fn fresh_record(&self, key: &RecordKey) -> Option<Record> {
        let customers = self.customers()?;
        let (fresh, common) = (customers.fresh.get(key)?, customers.common.get(&key.hour)?);
        let name = &self.dimension(key.dimension)?.rules.name;
        Some(fresh.record(*key, name, common, &customers.buyer(key.account()?, key.hour)))
    }

    /// Until when a record that was never sent may be; of the one whose time ends first.
    pub fn fresh_deadline(&self) -> Option<(RecordKey, Timestamp)> {
        // By hours: all of one have the same stamp, and those of a later one a later.
        let (key, _) = self.customers()?.fresh().next()?;
        Some((key, self.deadline_of(&key)?))
    }

    /// Until when a record that was never sent may be.
    pub fn deadline_of(&self, key: &RecordKey) -> Option<Timestamp> {
        let common = self.customers()?.in_common(key)?;
        Some(super::super::state::deadline(key, common.timestamp, self.window))
    }

    /// From here on it is a record like any other.
    pub(in super::super) fn unfold(&mut self, key: &RecordKey) {
        if let Some(record) = self.fresh_record(key) {
            self.customers_mut().fresh.remove(key);
            self.records.insert(*key, RecordState::sealed(record));
        }
    }

    /// What damage took may have been that they were sent.
    pub(in super::super) fn damage_customers(&mut self) {
        let fresh: Vec<RecordKey> =
            self.customers().into_iter().flat_map(Customers::fresh).map(|(key, _)| key).collect();
        for key in fresh {
            self.unfold(&key);
            if let Some(record) = self.records.get_mut(&key) {
                record.ambiguous = true;
            }
        }
    }

    pub(in super::super) fn apply_batch_attempt(&mut self, attempt: &BatchAttempt) {
        for key in &attempt.keys {
            self.unfold(key);
            self.apply_attempt(&Attempt { key: *key, at: attempt.at });
        }
    }

    pub(in super::super) fn apply_batch_answered(&mut self, answered: &BatchAnswered) -> Vec<RecordState> {
        let mut finished = Vec::new();
        for (key, verdict, message) in &answered.records {
            finished.extend(self.apply_answered(&Answered {
                key: *key,
                at: answered.at,
                verdict: verdict.clone(),
                message: message.clone(),
                request_id: answered.request_id.clone(),
            }));
        }
        finished
    }

    /// What is on its way into the next record of a dimension, of the customer or instance whose record `of` is.
    pub(in super::super) fn carry_mut(&mut self, of: &RecordKey, into: DimensionId) -> Option<&mut Vec<Carry>> {
        match of.account() {
            Some(account) => Some(self.customers_mut().carry_mut(account, into)),
            None => self.dimensions.get_mut(usize::from(into.0)).map(|dimension| &mut dimension.carry),
        }
    }
}
