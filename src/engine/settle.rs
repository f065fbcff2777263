//! A person's word on a record that waits for one.

use super::Engine;
use crate::disk::Disk;
use crate::entry::{Decision, Entry, Peer, RecordKey, Settled};
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
    /// Writes down what a person decided about the record of `dimension` and `hour`. Durable when it returns.
    pub fn settle(
        &mut self,
        dimension: &str,
        hour: Hour,
        decision: Decision,
        by: Peer,
        now: Timestamp,
    ) -> Result<(), NotSettled> {
        let missing = || NotSettled::NoSuchRecord { dimension: dimension.to_owned(), hour };
        let id = self.state.dimension_named(dimension).ok_or_else(missing)?;
        let mut waiting = self.state.records.range(RecordKey::all_of(id, hour)).filter(|(_, r)| r.phase.with_person());
        let (key, record) = waiting.next().ok_or_else(missing)?;
        let key = *key;
        if decision == Decision::Retry {
            if record.phase != Phase::Held {
                let why =
                    "only a held record can be sent again: AWS has given its word on this one, or may have taken it";
                return Err(NotSettled::DoesNotFit(why.into()));
            }
            if now > record.deadline(self.state.window) {
                let why = "its window has passed: AWS would refuse it; settle it with carry or write-off";
                return Err(NotSettled::DoesNotFit(why.into()));
            }
        }
        tracing::info!(record = %key, ?decision, uid = by.uid, "settled by a person");
        self.flush_building(now)?;
        self.record(&Entry::Settled(Settled { key, at: now, by, decision }), Need::Control, now)?;
        self.outbox.forget(&key);
        Ok(self.commit(now)?)
    }
}
