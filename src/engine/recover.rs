//! From the log's bytes back to a state, and to an index beside it.

use std::sync::Arc;

use super::keys;
use crate::disk::Disk;
use crate::entry::{self, Entry};
use crate::index::{Intake, Source};
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
    fn into_index(self, intake: &mut Intake<'_>) {
        match self {
            Change::Usage(usage) => keys::index_keys(&usage, intake),
            Change::Records(records) => records.into_iter().for_each(|r| intake.add_record(r)),
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

/// The log in `disk` as what an index is made from. It may be read while the log is written: a frame that was durable
/// before stays as it is, and later ones are passed over.
pub(super) fn source<D: Disk>(disk: Arc<D>) -> Source {
    Arc::new(move |from, through, intake| {
        let mut state = State::default();
        let read = wal_open::replay(&*disk, from, entry::kind::CHECKPOINT, &mut |e| {
            let seq = e.seq;
            if seq > through {
                return Ok(());
            }
            fold(&mut state, e, &mut |change| {
                if seq >= from {
                    change.into_index(intake);
                }
            })?;
            if seq >= from { intake.reached(seq) } else { Ok(()) }
        });
        read.map(drop).map_err(|e| e.to_string())
    })
}
