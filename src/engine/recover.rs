//! From the log's bytes back to a state, and to an index beside it.

use super::{EngineError, keys};
use crate::disk::Disk;
use crate::entry::{self, Entry};
use crate::hour::Hour;
use crate::index::Index;
use crate::rollup::State;
use crate::rollup::state::RecordState;
use crate::wal::OpenError;
use crate::wal::open::{self as wal_open, Entry as LogEntry};

/// What a folded entry means for the index.
pub(super) enum Change {
    Usage(entry::Usage),
    Records(Vec<RecordState>),
}

impl Change {
    pub(super) fn into_index(self, index: &mut Index) {
        match self {
            Change::Usage(usage) => keys::index_keys(&usage, index),
            Change::Records(records) => records.into_iter().for_each(|r| index.add_record(r)),
        }
    }
}

/// Folds one entry of the log into `state`, and says what it means for the index.
pub(super) fn fold(state: &mut State, e: LogEntry<'_>, changed: &mut dyn FnMut(Change)) -> Result<(), String> {
    if e.kind == entry::kind::CHECKPOINT {
        *state = entry::decode(e.payload).map_err(|e| e.to_string())?;
        return Ok(());
    }
    let entry = Entry::decode(e.kind, e.payload).map_err(|e| e.to_string())?;
    let finished = state.apply(&entry);
    if !finished.is_empty() {
        changed(Change::Records(finished));
    }
    if let Entry::Usage(usage) = entry
        && keys::has_keys(&usage)
    {
        changed(Change::Usage(usage));
    }
    Ok(())
}

/// What a log is folded to, without touching it.
pub fn read_only<D: Disk>(disk: &D) -> Result<State, OpenError> {
    let mut state = State::default();
    wal_open::peek(disk, entry::kind::CHECKPOINT, &mut |e| fold(&mut state, e, &mut drop))?;
    Ok(state)
}

/// Reads into the index what the log has and it has not: all of it, if it is empty.
pub(super) fn catch_up<D: Disk>(disk: &D, index: &mut Index) -> Result<(), EngineError> {
    let applied = index.applied();
    tracing::info!(from = applied + 1, "bringing the index up to the log");
    let mut state = State::default();
    wal_open::replay(disk, applied + 1, entry::kind::CHECKPOINT, &mut |e| {
        let seq = e.seq;
        fold(&mut state, e, &mut |change| {
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
