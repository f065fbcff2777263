//! Increments that will share a frame.

use crate::entry::{AccountId, DimensionId, Increment, Peer, Run, Usage};
use crate::hour::{Hour, Timestamp};

/// Bytes of a usage entry before its runs: first number, moment, writer, count of runs.
const HEAD_BYTES: usize = 8 + 8 + 12 + 8;
/// Bytes of a plain run before its items: tag, hour, count.
const RUN_BYTES: usize = 4 + 4 + 8;
/// Bytes of a plain increment.
const ITEM_BYTES: usize = 2 + 8;
/// Bytes of a customer's number.
const ACCOUNT_BYTES: usize = 4;

/// The usage entry being put together, and how long it will be.
#[derive(Debug, Default)]
pub(super) struct Building {
    runs: Vec<Run>,
    peer: Peer,
    received: Timestamp,
    count: u64,
    bytes: usize,
}

impl Building {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The length of the entry as it stands.
    pub(super) fn bytes(&self) -> usize {
        HEAD_BYTES + self.bytes
    }

    /// Whether `peer` may go on in this entry.
    pub(super) fn is_of(&self, peer: Peer) -> bool {
        self.is_empty() || self.peer == peer
    }

    /// An upper bound for the bytes that `increment` adds.
    pub(super) fn cost(increment: &Increment) -> usize {
        let text = |s: &str| 8 + s.len();
        let tags: usize = increment.tags.iter().map(|(k, v)| text(k) + text(v)).sum();
        let key = increment.key.as_deref().map_or(0, text);
        let id = increment.id.as_deref().map_or(0, text);
        // Tag of the run, dimension, hour, late, quantity, at, key, tags, id.
        ACCOUNT_BYTES + (4 + 2 + 4 + 1 + 8 + 9 + 1 + key + 8 + tags + 1 + id).max(RUN_BYTES + ITEM_BYTES)
    }

    /// The bytes that a plain increment of `hour` adds.
    pub(super) fn plain_cost(&self, hour: Hour) -> usize {
        match self.runs.last() {
            Some(Run::Plain { hour: same, .. }) if *same == hour => ITEM_BYTES,
            _ => RUN_BYTES + ITEM_BYTES,
        }
    }

    pub(super) fn push_plain(&mut self, peer: Peer, dimension: DimensionId, hour: Hour, quantity: u64, now: Timestamp) {
        self.bytes += self.plain_cost(hour);
        self.begin(peer, now);
        match self.runs.last_mut() {
            Some(Run::Plain { hour: same, items }) if *same == hour => items.push((dimension, quantity)),
            _ => self.runs.push(Run::Plain { hour, items: vec![(dimension, quantity)] }),
        }
    }

    pub(super) fn push(&mut self, peer: Peer, account: Option<AccountId>, increment: Increment, now: Timestamp) {
        self.bytes += Self::cost(&increment);
        self.begin(peer, now);
        self.runs.push(match account {
            None => Run::Full(increment),
            Some(account) => Run::Customer(account, increment),
        });
    }

    /// A plain increment of a customer.
    pub(super) fn push_customer(
        &mut self,
        peer: Peer,
        account: AccountId,
        (dimension, hour, quantity): (DimensionId, Hour, u64),
        now: Timestamp,
    ) {
        let item = (account, dimension, quantity);
        self.begin(peer, now);
        self.bytes += ACCOUNT_BYTES + ITEM_BYTES;
        match self.runs.last_mut() {
            Some(Run::Customers { hour: same, items }) if *same == hour => items.push(item),
            _ => {
                self.bytes += RUN_BYTES;
                self.runs.push(Run::Customers { hour, items: vec![item] });
            }
        }
    }

    fn begin(&mut self, peer: Peer, now: Timestamp) {
        if self.count == 0 {
            (self.peer, self.received) = (peer, now);
        }
        self.count += 1;
    }

    /// The finished entry; the building is empty again.
    pub(super) fn finish(&mut self, first_seq: u64) -> Usage {
        let runs = std::mem::take(&mut self.runs);
        (self.count, self.bytes) = (0, 0);
        Usage { first_seq, received: self.received, peer: self.peer, runs }
    }
}
