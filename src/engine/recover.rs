//! From the log's bytes back to a state, and to an index beside it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::echo::Folding;
use super::keys;
use super::stretch::{index_archive, month_of_file};
use crate::disk::Disk;
use crate::entry::{self, Entry, kind};
use crate::hour::Timestamp;
use crate::index::{Intake, Source};
use crate::rollup::State;
use crate::rollup::state::RecordState;
use crate::wal::open as wal_open;
use crate::wal::retain::{self, Event};
use crate::wal::{OpenError, archive};

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
    wal_open::peek(disk, kind::CHECKPOINT, &mut |e| folding.fold(e, &mut drop))?;
    Ok(folding.state)
}

/// What the log's history is made of, for one who only reads.
pub enum Happened {
    /// Records that became final.
    Final(Vec<RecordState>),
    /// The close of an hour, or a part of it; nothing else comes this way.
    Closed(Box<Entry>),
    /// An agent started.
    Started {
        /// The last moment that the log knew before; none if it begins here.
        seen: Option<Timestamp>,
        /// When.
        at: Timestamp,
    },
    /// Damage in this segment: what it took is not told.
    Damaged(u64),
}

/// Tells all that the log in `disk` still has, oldest first, without touching it; returns what it comes to. Segments that
/// an agent removes meanwhile are an error of kind `NotFound`.
pub fn history<D: Disk>(disk: &D, told: &mut dyn FnMut(Happened)) -> Result<State, OpenError> {
    let headers = retain::headers(disk)?;
    let mut folding = Folding::default();
    retain::walk(disk, &headers, &mut |event| {
        let e = match event {
            Event::Entry { entry, .. } => entry,
            Event::Damaged(segment) => {
                told(Happened::Damaged(segment));
                return Ok(ControlFlow::Continue(()));
            }
            Event::Retired(_) => return Ok(ControlFlow::Continue(())),
        };
        if matches!(e.kind, kind::SEAL | kind::SEALED_PART | kind::CUSTOMER_ENDED | kind::STARTED) {
            match Entry::decode(e.kind, e.payload).map_err(|e| e.to_string())? {
                Entry::Started(started) => {
                    told(Happened::Started { seen: folding.state.clocks.last_seen, at: started.reading.at });
                }
                closed => told(Happened::Closed(Box::new(closed))),
            }
        }
        folding.fold(e, &mut |change| told(Happened::Final(change.into_records())))?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(folding.state)
}

/// Tells the records in the archive that are of the months from the first through the last (as
/// [`crate::hour::Hour::year_month`] has them); returns whether there are older ones. What cannot be read is told by name.
pub fn archived<D: Disk>(
    disk: &D,
    (first, last): (u32, u32),
    told: &mut dyn FnMut(Result<RecordState, String>),
) -> Result<bool, OpenError> {
    let failed = |source| OpenError::Io { what: "listing the archive".into(), source };
    let mut older = false;
    for id in archive::list(disk).map_err(failed)? {
        let month = month_of_file(id);
        older |= month < u64::from(first);
        if !(u64::from(first)..=u64::from(last)).contains(&month) {
            continue;
        }
        let file = match archive::read(disk, id) {
            Err(error @ OpenError::Archive { .. }) => {
                told(Err(error.to_string()));
                continue;
            }
            read => read?,
        };
        if !file.is_whole() {
            told(Err(format!("{} is damaged: records are missing", archive::file_name(id))));
        }
        for (of, payload) in &file.entries {
            match entry::decode(payload) {
                Ok(record) if *of == kind::ARCHIVED => told(Ok(record)),
                _ => told(Err(format!("{} holds an entry of another version", archive::file_name(id)))),
            }
        }
    }
    Ok(older)
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
        let read = wal_open::replay(&*disk, from, kind::CHECKPOINT, &mut |e| {
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
