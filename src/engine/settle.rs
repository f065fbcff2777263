//! A person's word on a record that waits for one.

use super::Engine;
use crate::disk::Disk;
use crate::entry::{Buyer, Decision, Entry, Peer, Settled};
use crate::hour::{Hour, Timestamp};
use crate::rollup::state::Phase;
use crate::wal::LogError;
use crate::wal::spares::Need;

/// Why a decision was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSettled {
    /// No such record waits for anybody.
    #[error("no record of {dimension} {hour} waits for a person; see `meterd records`")]
    NoSuchRecord {
        /// The dimension as given.
        dimension: String,
        /// The hour as given.
        hour: Hour,
    },
    /// No such record was held back.
    #[error("no record of {dimension} {hour} is held back by the agent; see `meterd records --state held`")]
    NotHeld {
        /// The dimension as given.
        dimension: String,
        /// The hour as given.
        hour: Hour,
    },
    /// The decision does not fit what is known.
    #[error("{0}")]
    DoesNotFit(String),
    /// It could not be written down.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl<D: Disk> Engine<D> {
    /// Writes down what a person decided about the record of `dimension` and `hour`, and tells what that came to: what
    /// is released after its window is carried. Durable when it returns.
    pub fn settle(
        &mut self,
        dimension: &str,
        hour: Hour,
        decision: Decision,
        by: Peer,
        now: Timestamp,
    ) -> Result<Decision, NotSettled> {
        self.settle_of(None, dimension, hour, decision, by, now)
    }

    /// The same for a customer's record.
    pub fn settle_of(
        &mut self,
        customer: Option<&Buyer>,
        dimension: &str,
        hour: Hour,
        mut decision: Decision,
        by: Peer,
        now: Timestamp,
    ) -> Result<Decision, NotSettled> {
        let customer = self.customer_of(customer)?;
        let waiting = self.waiting(customer, dimension, hour);
        let (key, record) = waiting.ok_or_else(|| self.not_waiting(dimension, hour))?;
        if decision == Decision::Retry {
            if record.phase != Phase::Held {
                let why =
                    "only a held record can be sent again: AWS has given its word on this one, or may have taken it";
                return Err(NotSettled::DoesNotFit(why.into()));
            }
            if now > record.deadline(self.state.window) {
                decision = Decision::Carry;
            }
        }
        tracing::info!(record = %key, ?decision, uid = by.uid, "settled by a person");
        self.flush_building(now)?;
        self.record(&Entry::Settled(Settled { key, at: now, by, decision }), Need::Control, now)?;
        self.outbox.forget(&key);
        self.dispatch.forget(&key);
        self.commit(now)?;
        Ok(decision)
    }

    /// The decision to carry a record of `dimension` into the dimension named `to`: they must count the same thing.
    pub fn carry_to(&self, dimension: &str, to: &str) -> Result<Decision, NotSettled> {
        let known = |name: &str| {
            let id = self.state.dimension_named(name)?;
            Some((id, self.state.dimension(id)?))
        };
        let (Some((_, from)), Some((id, into))) = (known(dimension), known(to)) else {
            return Err(NotSettled::DoesNotFit(format!("no dimension {to:?}; configured: {}", self.listed)));
        };
        if !into.configured {
            return Err(NotSettled::DoesNotFit(format!("{to} is not configured; configured: {}", self.listed)));
        }
        if self.options.dimensions.iter().any(|rules| rules.from.iter().any(|source| source.name == to)) {
            let why = format!("{to} is not billed by itself: another dimension is made of it; name that one");
            return Err(NotSettled::DoesNotFit(why));
        }
        if from.rules.unit != into.rules.unit {
            let why = format!(
                "{dimension} and {to} are billed in different units ({} and {})",
                from.rules.unit, into.rules.unit
            );
            return Err(NotSettled::DoesNotFit(why));
        }
        Ok(Decision::CarryTo(id))
    }
}
