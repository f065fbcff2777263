//! From the log's bytes back to a state, and to an index beside it.

use std::sync::Arc;

use super::echo::Folding;
use super::keys;
use super::stretch::index_archive;
use crate::disk::Disk;
use crate::entry;
use crate::index::{Intake, Source};
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
    pub(super) fn into_records(self) -> Vec<RecordState> {
        match self {
            Change::Usage(_) => Vec::new(),
            Change::Records(records) => records,
        }
    }

    fn into_index(self, intake: &mut Intake<'_>) {
        match self {
            Change::Usage(usage) => keys::index_keys(&usage, intake),
            Change::Records(records) => records.into_iter().for_each(|r| intake.add_record(r)),
        }
    }
}

/// What a log is folded to, without touching it.
pub fn read_only<D: Disk>(disk: &D) -> Result<State, OpenError> {
    let mut folding = Folding::default();
    wal_open::peek(disk, entry::kind::CHECKPOINT, &mut |e| folding.fold(e, &mut drop))?;
    Ok(folding.state)
}

/// The log in `disk` as what an index is made from. It may be read while the log is written: a frame that was durable
/// before stays as it is, and later ones are passed over.
pub(super) fn source<D: Disk>(disk: Arc<D>) -> Source {
    Arc::new(move |from, through, intake| {
        let headers = retain::headers(&*disk).map_err(|e| e.to_string())?;
        if headers.first().is_some_and(|first| from < first.first_seq) {
            // What the index has not seen begins in segments that are gone.
            index_archive(&*disk, intake)?;
        }
        let mut folding = Folding::default();
        let read = wal_open::replay(&*disk, from, entry::kind::CHECKPOINT, &mut |e| {
            let seq = e.seq;
            if seq > through {
                return Ok(());
            }
            folding.fold(e, &mut |change| {
                if seq >= from {
                    change.into_index(intake);
                }
            })?;
            if seq >= from { intake.reached(seq) } else { Ok(()) }
        });
        read.map(drop).map_err(|e| e.to_string())
    })
}
