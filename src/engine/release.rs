//! A person lets go of a record that is above its dimension's ceiling.

use super::Engine;
use super::settle::NotSettled;
use crate::disk::Disk;
use crate::entry::{Buyer, Entry, Peer, Record, RecordKey, Released};
use crate::hour::{Hour, Timestamp};
use crate::rollup::seal::capped;
use crate::wal::spares::Need;

/// What became of a record that was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It is sent.
    ToAws,
    /// Its window has passed: its units go into the next record to be sealed.
    Carried,
}

impl<D: Disk> Engine<D> {
    /// Lets the held record of `dimension` and `hour` go, with at most `at_most` billed units: what is above that is
    /// given up. Durable when it returns.
    pub fn release(
        &mut self,
        dimension: &str,
        hour: Hour,
        at_most: Option<u32>,
        by: Peer,
        now: Timestamp,
    ) -> Result<Gone, NotSettled> {
        self.release_of(None, dimension, hour, at_most, by, now)
    }

    /// The same for a customer's record.
    pub fn release_of(
        &mut self,
        customer: Option<&Buyer>,
        dimension: &str,
        hour: Hour,
        at_most: Option<u32>,
        by: Peer,
        now: Timestamp,
    ) -> Result<Gone, NotSettled> {
        let customer = self.customer_of(customer)?;
        let missing = || NotSettled::NotHeld { dimension: dimension.to_owned(), hour };
        let id = self.state.dimension_named(dimension).ok_or_else(missing)?;
        let found = self.state.records.range(RecordKey::all_of(customer, id, hour)).find(|(_, r)| r.is_held_back());
        let (key, record) = found.ok_or_else(missing)?;
        let (key, quantity) = (*key, record.record.request.quantity);
        // A full record may have more behind it that did not fit in.
        let whole = at_most.is_none_or(|most| most >= quantity && record.spill.is_none());
        let capped = at_most.filter(|_| !whole).map(|most| self.cap(&record.record, most));
        let carried = now > record.deadline(self.state.window);
        let sent = capped.as_ref().map_or(quantity, |c| c.request.quantity);
        tracing::info!(%hour, dimension, quantity, sent, carried, uid = by.uid, "released by a person");
        self.flush_building(now)?;
        self.record(&Entry::Released(Released { key, at: now, by, capped, carried }), Need::Control, now)?;
        self.commit(now)?;
        Ok(if carried { Gone::Carried } else { Gone::ToAws })
    }

    /// The record with fewer units, as a new generation: the one before was never sent.
    fn cap(&self, record: &Record, at_most: u32) -> Box<Record> {
        let instance = self.state.instance.as_deref().unwrap_or_default();
        Box::new(capped(record, at_most, instance))
    }
}
