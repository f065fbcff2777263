//! The log as it lies on the disk, damage included, for `verify` and `inspect`: reads only, believes nothing that does
//! not hold, and works beside a running agent.

use std::io;

use super::assemble::Assembler;
use super::frame::{Frame, Part};
use super::scan::{self, Damage, Scanned, Span, Tail};
use super::segment::{self, FRAMES_AT, HeaderError, SegmentHeader};
use crate::disk::{Disk, DiskFile};

/// How often the newest segment is read again before damage in it is believed: a batch that is being written while it
/// is read looks like damage, and only until it is read once more.
const READ_AGAIN: usize = 5;

/// A segment's file, by its name and header.
#[derive(Debug, Clone)]
pub struct Found {
    /// The number in its name.
    pub id: u64,
    /// Both copies of its header.
    pub copies: [Result<SegmentHeader, HeaderError>; 2],
}

impl Found {
    /// The first copy that holds.
    pub fn header(&self) -> Result<&SegmentHeader, HeaderError> {
        let later = self.copies.iter().find_map(|copy| copy.as_ref().err().filter(|e| **e != HeaderError::Damaged));
        let good = self.copies.iter().flatten().find(|header| header.id == self.id);
        good.ok_or_else(|| later.cloned().unwrap_or(HeaderError::Damaged))
    }
}

/// All segments, oldest first.
pub fn look<D: Disk>(disk: &D) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for id in segment::list(disk)? {
        let copies = SegmentHeader::read_copies(&disk.open(&segment::file_name(id))?)?;
        found.push(Found { id, copies });
    }
    Ok(found)
}

/// A segment as read.
pub struct Segment {
    header: SegmentHeader,
    bytes: Vec<u8>,
    scanned: Scanned,
    /// Bytes behind the known end that are not zero.
    pub stray: Option<Span>,
}

/// What stands in a segment, in the order of its bytes.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A valid frame.
    Frame {
        /// Where it begins.
        offset: u64,
        /// The frame.
        frame: Frame<'a>,
    },
    /// Bytes that held frames once.
    Damage(Damage),
    /// What was being written, or was when the agent died: never acknowledged.
    Unsynced {
        /// Where.
        span: Span,
        /// It looks unlike a torn batch.
        suspicious: bool,
    },
}

/// Reads a segment. `end` is what its successor says of its end; without one it is the newest.
pub fn read<D: Disk>(disk: &D, header: &SegmentHeader, end: Option<u64>) -> io::Result<Segment> {
    let load = || -> io::Result<Segment> {
        let file = disk.open(&segment::file_name(header.id))?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let Some(end) = end else {
            let scanned = scan::newest(&bytes, header);
            return Ok(Segment { header: header.clone(), scanned, bytes, stray: None });
        };
        let behind = bytes.get(end as usize..).unwrap_or(&[]);
        let stray = behind.iter().position(|b| *b != 0).map(|first| Span {
            from: end + first as u64,
            to: end + behind.iter().rposition(|b| *b != 0).unwrap_or(first) as u64 + 1,
        });
        bytes.truncate(end as usize);
        Ok(Segment { header: header.clone(), scanned: scan::closed(&bytes, header, end), bytes, stray })
    };
    let mut read = load()?;
    for _ in 0..READ_AGAIN {
        if end.is_some() || read.scanned.damage.is_empty() {
            break;
        }
        read = load()?;
    }
    Ok(read)
}

impl Segment {
    /// Its header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Where its last frame ends.
    pub fn end(&self) -> u64 {
        self.scanned.end
    }

    /// What is damaged.
    pub fn damage(&self) -> &[Damage] {
        &self.scanned.damage
    }

    /// The number and the checksum of its last frame.
    pub fn last(&self) -> Option<(u64, u32)> {
        let frame = scan::frame_at(&self.bytes, *self.scanned.frames.last()?, &self.header)?;
        Some((frame.header.seq, frame.crc))
    }

    /// What stands in it, in order.
    pub fn pieces(&self) -> Vec<Piece<'_>> {
        let frame = |offset: &u64| Some((*offset, scan::frame_at(&self.bytes, *offset, &self.header)?));
        let frames = self.scanned.frames.iter().filter_map(frame);
        let mut pieces: Vec<(u64, Piece<'_>)> =
            frames.map(|(offset, frame)| (offset, Piece::Frame { offset, frame })).collect();
        pieces.extend(self.scanned.damage.iter().map(|damage| (damage.span.from, Piece::Damage(*damage))));
        pieces.sort_by_key(|(offset, _)| *offset);
        if let Tail::Torn { span, suspicious } = self.scanned.tail {
            pieces.push((span.from, Piece::Unsynced { span, suspicious }));
        }
        pieces.into_iter().map(|(_, piece)| piece).collect()
    }
}

/// An entry, put together from its frames.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// The number of its first frame.
    pub seq: u64,
    /// The segment in which it began.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// What it is.
    pub kind: u8,
    /// Its bytes.
    pub payload: &'a [u8],
}

impl Whole<'_> {
    /// Whether its segment begins with it.
    pub fn is_first(&self) -> bool {
        self.offset == FRAMES_AT
    }
}

/// What a frame makes of the entries around it.
#[derive(Debug)]
pub enum Put<'a> {
    /// It completes an entry.
    Whole(Whole<'a>),
    /// More is to come.
    More,
    /// All frames of an entry hold, and its checksum does not, or it has no beginning.
    Broken,
}

/// Puts entries together, frame by frame.
#[derive(Default)]
pub struct Entries {
    assembler: Assembler,
    began: (u64, u64),
    /// The first frame of an entry whose last one has not come.
    pub open: Option<u64>,
}

impl Entries {
    /// Takes the next valid frame.
    pub fn push<'a>(&'a mut self, segment: u64, offset: u64, frame: &Frame<'a>) -> Put<'a> {
        let part = frame.header.part;
        if part.begins() {
            self.began = (segment, offset);
        }
        self.open = match part {
            Part::First => Some(frame.header.seq),
            Part::Middle => self.open,
            Part::Whole | Part::Last => None,
        };
        let (segment, offset) = self.began;
        match self.assembler.push(frame) {
            Some((seq, payload)) => Put::Whole(Whole { seq, segment, offset, kind: frame.header.kind, payload }),
            None if part == Part::Last => Put::Broken,
            None => Put::More,
        }
    }
}
