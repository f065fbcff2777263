//! The log's far end: which segments a start reads, and taking away those that nothing needs any more.
//!
//! Removing a segment can be undone by a power cut, each one on its own. So the intent stands in the log before the
//! first of them goes: an entry 253 that names the first segment kept. A start that finds a hole in the numbers looks
//! for one behind the hole; with it, what stands before the hole is a left-over, and without it a segment is missing.

use std::io;
use std::ops::ControlFlow;

use super::assemble::{Assembler, Holes};
use super::log::kind;
use super::open::{Entry, Loaded, quarantine, read_headers};
use super::report::io_error;
use super::segment::{self, FRAMES_AT, SegmentHeader};
use super::{OpenError, QUARANTINE};
use crate::disk::{Disk, DiskFile};
use crate::hour::Timestamp;

/// How many segments there are, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Segments.
    pub segments: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// What the segments in `disk` take.
pub fn measure<D: Disk>(disk: &D) -> io::Result<Footprint> {
    let mut sum = Footprint::default();
    for id in segment::list(disk)? {
        sum.bytes += disk.open(&segment::file_name(id))?.len()?;
        sum.segments += 1;
    }
    Ok(sum)
}

/// The payload of an entry [`kind::RETIRED`].
pub fn retired(first_kept: u64, at: Timestamp) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (first, when) = bytes.split_at_mut(8);
    first.copy_from_slice(&first_kept.to_le_bytes());
    when.copy_from_slice(&at.millis().to_le_bytes());
    bytes
}

/// The first segment kept, as such an entry says.
fn first_kept(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<8>().map(|first| u64::from_le_bytes(*first))
}

/// Of the segments' numbers, in order, those that a start reads: the row that ends with the newest. What stands before
/// a hole has been retired, and the log says so; otherwise a segment is missing.
pub(super) fn chain<D: Disk>(disk: &D, ids: &[u64]) -> Result<Vec<u64>, OpenError> {
    let hole = ids.windows(2).rposition(|pair| matches!(pair, [a, b] if a + 1 != *b));
    let Some(hole) = hole else { return Ok(ids.to_vec()) };
    let (before, row) = ids.split_at(hole + 1);
    let (Some(last_before), Some(first)) = (before.last(), row.first()) else { return Ok(ids.to_vec()) };
    let mut kept = 0;
    walk(disk, &read_headers(disk, row)?, &mut |event| {
        if let Event::Retired(first) = event {
            kept = kept.max(first);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if kept >= *first { Ok(row.to_vec()) } else { Err(OpenError::Missing(last_before + 1)) }
}

/// The headers of the segments that a start reads.
pub fn headers<D: Disk>(disk: &D) -> Result<Vec<SegmentHeader>, OpenError> {
    let ids = segment::list(disk).map_err(io_error("listing the segments"))?;
    read_headers(disk, &chain(disk, &ids)?)
}

/// What a walk through segments meets.
#[derive(Debug)]
pub enum Event<'a> {
    /// An entry, and the segment in which it began.
    Entry {
        /// The segment.
        segment: u64,
        /// Whether that segment begins with it.
        first: bool,
        /// The entry.
        entry: Entry<'a>,
    },
    /// The log says that segments before this one may be gone.
    Retired(u64),
    /// Damage in a segment. Told before the segment's entries.
    Damaged(u64),
}

/// Reads closed segments in order, each in one piece, until `see` has seen enough. The last of `headers` may be the
/// newest segment; what is torn there is passed over.
pub fn walk<D: Disk>(
    disk: &D,
    headers: &[SegmentHeader],
    see: &mut dyn FnMut(Event<'_>) -> Result<ControlFlow<()>, String>,
) -> Result<(), OpenError> {
    let mut assembler = Assembler::default();
    let mut holes = Holes::before(headers);
    let mut began = (0, false);
    for (at, header) in headers.iter().enumerate() {
        let end = headers.get(at + 1).map(|next| next.previous_end);
        let loaded = Loaded::read(disk, header, end)?;
        let failed = |seq, kind| move |why| OpenError::Entry { seq, kind, why };
        if !loaded.scanned.damage.is_empty() && see(Event::Damaged(header.id)).map_err(failed(0, 0))?.is_break() {
            return Ok(());
        }
        for (offset, frame) in loaded.frames() {
            if frame.header.part.begins() {
                began = (header.id, offset == FRAMES_AT);
            }
            let kind = frame.header.kind;
            let after_gap = holes.meet(&frame);
            let Some((seq, payload)) = assembler.push(&frame) else { continue };
            let event = match kind {
                kind::RETIRED => first_kept(payload).map(Event::Retired),
                kind if kind >= kind::CLEAN_STOP => None,
                kind => {
                    let (segment, first) = began;
                    holes.told();
                    Some(Event::Entry { segment, first, entry: Entry { seq, kind, payload, after_gap } })
                }
            };
            if let Some(event) = event
                && see(event).map_err(failed(seq, kind))?.is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Copies what is damaged in a segment to `quarantine/`, which recovery has done for what it read.
pub fn keep_damage<D: Disk>(disk: &D, header: &SegmentHeader, end: u64) -> Result<(), OpenError> {
    disk.create_dir(QUARANTINE).map_err(io_error("making quarantine"))?;
    let loaded = Loaded::read(disk, header, Some(end))?;
    loaded.scanned.damage.iter().try_for_each(|damage| quarantine(disk, "corrupt", header.id, damage.span))
}

/// Removes the segments before `first_kept`, and says what they took. An entry 253 with that number is durable.
pub fn remove<D: Disk>(disk: &D, first_kept: u64) -> io::Result<Footprint> {
    let mut gone = Footprint::default();
    for id in segment::list(disk)?.into_iter().filter(|id| *id < first_kept) {
        let name = segment::file_name(id);
        gone.bytes += disk.open(&name)?.len()?;
        gone.segments += 1;
        disk.remove(&name)?;
    }
    if gone.segments > 0 {
        disk.sync_dir(super::DIR)?;
    }
    Ok(gone)
}
