//! From the log's bytes back to a state, and to an index beside it.

use super::echo::Folding;
use super::stretch::index_archive;
use super::{EngineError, keys};
use crate::disk::Disk;
use crate::entry;
use crate::hour::Hour;
use crate::index::Index;
use crate::rollup::State;
use crate::rollup::state::RecordState;
use crate::wal::open as wal_open;
use crate::wal::{OpenError, retain};

/// What a folded entry means for the index.
pub(super) enum Change {
    Usage(entry::Usage),
    Records(Vec<RecordState>),
}

impl Change {
    /// The records that it says are final.
    pub(super) fn records(&self) -> impl Iterator<Item = &RecordState> {
        match self {
            Change::Usage(_) => [].iter(),
            Change::Records(records) => records.iter(),
        }
    }

    pub(super) fn into_index(self, index: &mut Index) {
        match self {
            Change::Usage(usage) => keys::index_keys(&usage, index),
            Change::Records(records) => records.into_iter().for_each(|r| index.add_record(r)),
        }
    }
}

/// What a log is folded to, without touching it.
pub fn read_only<D: Disk>(disk: &D) -> Result<State, OpenError> {
    let mut folding = Folding::default();
    wal_open::peek(disk, entry::kind::CHECKPOINT, &mut |e| folding.fold(e, &mut drop))?;
    Ok(folding.state)
}

/// Reads into the index what the log has and it has not: all of it, if it is empty.
pub(super) fn catch_up<D: Disk>(disk: &D, index: &mut Index) -> Result<(), EngineError> {
    let applied = index.applied();
    let headers = retain::headers(disk)?;
    if headers.first().is_some_and(|first| applied + 1 < first.first_seq) {
        // What the index has not seen begins in segments that are gone.
        index_archive(disk, index).map_err(EngineError::Rebuild)?;
    }
    tracing::info!(from = applied + 1, "bringing the index up to the log");
    let mut folding = Folding::default();
    wal_open::replay(disk, applied + 1, entry::kind::CHECKPOINT, &mut |e| {
        let seq = e.seq;
        folding.fold(e, &mut |change| {
            if seq > applied {
                change.into_index(index);
            }
        })?;
        if seq > applied {
            index.advance(seq, Hour::default(), false);
        }
        Ok(())
    })?;
    Ok(())
}
