//! What is kept of segments that are gone: files of the log's own frames, each written whole and never appended to.
//!
//! A file has its name only when it is durable, and is replaced by a longer one under the same name: after a crash at
//! any moment the old one stands there or the new one.

use std::io;

use super::assemble::Assembler;
use super::frame::{self, FrameHeader};
use super::report::io_error;
use super::scan::{self, Damage, Span};
use super::segment::{FRAMES_AT, HeaderError, SegmentHeader};
use super::{LogId, OpenError, Purpose};
use crate::disk::{Disk, DiskFile};
use crate::hour::Timestamp;

/// Where the archive lies, below the state directory.
pub const DIR: &str = "archive";

const WRITING: &str = "archive/writing.tmp";

/// Whose archive it is, as every file of it says.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// The log.
    pub log: LogId,
    /// Whether that is a test's.
    pub purpose: Purpose,
}

/// A file of the archive as read.
#[derive(Debug, Clone)]
pub struct Archived {
    /// What it says of itself.
    pub header: SegmentHeader,
    /// Whether both copies of that hold.
    pub whole_header: bool,
    /// Its length in bytes.
    pub bytes: u64,
    /// Kinds and payloads of the entries that hold, in order.
    pub entries: Vec<(u8, Vec<u8>)>,
    /// What does not hold.
    pub damage: Vec<Damage>,
}

impl Archived {
    /// Whether all of it holds.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }
}

/// The file's name, below the state directory.
pub fn file_name(id: u64) -> String {
    format!("{DIR}/{id:016}.seg")
}

/// The files of an archive, by number; none if there is no archive.
pub fn list<D: Disk>(disk: &D) -> io::Result<Vec<u64>> {
    let names = disk.list(DIR)?;
    let mut ids: Vec<u64> = names.iter().filter_map(|n| n.strip_suffix(".seg")?.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Reads a file. An error is the disk's, or the header's.
pub fn read<D: Disk>(disk: &D, id: u64) -> Result<Archived, OpenError> {
    let name = file_name(id);
    let load = || -> io::Result<Vec<u8>> {
        let file = disk.open(&name)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = load().map_err(io_error(format!("reading {name}")))?;
    decode(id, &bytes).map_err(|source| OpenError::Archive { id, source })
}

/// What the bytes of file `id` hold.
pub fn decode(id: u64, bytes: &[u8]) -> Result<Archived, HeaderError> {
    let copies = SegmentHeader::archive_copies(bytes);
    let whole_header = copies.iter().all(Result::is_ok);
    let header = SegmentHeader::first_of(copies)?;
    if header.id != id {
        return Err(HeaderError::Damaged);
    }
    // A file that lost its end, or got one, is damaged there.
    let end = header.bytes.max(bytes.len() as u64);
    let mut scanned = scan::closed(bytes, &header, bytes.len() as u64);
    if header.bytes != bytes.len() as u64 && scanned.damage.last().is_none_or(|d| d.next_seq.is_some()) {
        let span = Span { from: scanned.end, to: end };
        scanned.damage.push(Damage {
            span,
            first_lost: header.first_seq + scanned.frames.len() as u64,
            next_seq: None,
        });
    }
    let mut assembler = Assembler::default();
    let mut entries = Vec::new();
    for frame in scanned.frames.iter().filter_map(|at| scan::frame_at(bytes, *at, &header)) {
        if let Some((_, payload)) = assembler.push(&frame) {
            entries.push((frame.header.kind, payload.to_vec()));
        }
    }
    Ok(Archived { header, whole_header, bytes: bytes.len() as u64, entries, damage: scanned.damage })
}

/// The bytes of a file with these entries, whose length goes into the header.
pub fn encode<'a>(mut header: SegmentHeader, entries: impl Iterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let (seed, mut frames, mut seq) = (header.seed(), Vec::new(), header.first_seq);
    for (kind, entry) in entries {
        for (part, piece) in frame::split(entry) {
            let lag = frames.len();
            let header = FrameHeader { kind, part, seq, durable_lag: u32::try_from(lag).unwrap_or(u32::MAX) };
            frame::encode(&header, &piece, FRAMES_AT + lag as u64, &seed, &mut frames);
            seq += 1;
        }
    }
    header.bytes = FRAMES_AT + frames.len() as u64;
    let mut file = header.archive_page();
    file.append(&mut frames);
    file
}

/// Writes a file whole, in place of one that may stand there. Durable when it returns.
pub fn write<'a, D: Disk>(
    disk: &D,
    id: u64,
    owner: Owner,
    at: Timestamp,
    entries: impl Iterator<Item = (u8, &'a [u8])>,
) -> io::Result<()> {
    let header = SegmentHeader {
        id,
        first_seq: 1,
        salt: fastrand::u64(..),
        log: owner.log,
        purpose: owner.purpose,
        created_ms: at.millis(),
        bytes: 0,
        previous_end: 0,
        previous_crc: 0,
    };
    let bytes = encode(header, entries);
    disk.create_dir(DIR)?;
    disk.sync_dir("")?;
    if disk.list(DIR)?.iter().any(|name| format!("{DIR}/{name}") == WRITING) {
        // Never over a file of which a sync may have failed.
        disk.remove(WRITING)?;
    }
    let fill = || -> io::Result<()> {
        let mut file = disk.create(WRITING)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()
    };
    if let Err(error) = fill() {
        // On a full disk what there is of it would take the last room. One that stays is removed the next time.
        let _ = disk.remove(WRITING);
        return Err(error);
    }
    disk.rename(WRITING, &file_name(id))?;
    disk.sync_dir(DIR)
}

/// Removes files that are out of date.
pub fn remove<D: Disk>(disk: &D, ids: &[u64]) -> io::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    ids.iter().try_for_each(|id| disk.remove(&file_name(*id)))?;
    disk.sync_dir(DIR)
}
