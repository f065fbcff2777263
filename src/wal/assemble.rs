//! From valid frames to entries: pieces put together, and frames that are missing noticed.

use super::frame::{Closing, Frame, Part};
use super::segment::SegmentHeader;

/// Puts entries together from frames; an entry whose last frame never came does not exist.
#[derive(Default)]
pub(super) struct Assembler {
    first_seq: u64,
    next_seq: u64,
    frames: u32,
    bytes: Vec<u8>,
}

impl Assembler {
    /// Takes the next valid frame; gives the entry's first frame number and bytes if this frame completes it.
    pub fn push<'a>(&'a mut self, frame: &Frame<'a>) -> Option<(u64, &'a [u8])> {
        let seq = frame.header.seq;
        match frame.header.part {
            Part::Whole => {
                self.frames = 0;
                Some((seq, frame.payload))
            }
            Part::First => {
                self.bytes.clear();
                self.bytes.extend_from_slice(frame.payload);
                (self.first_seq, self.next_seq, self.frames) = (seq, seq + 1, 1);
                None
            }
            Part::Middle | Part::Last if self.frames == 0 || seq != self.next_seq => {
                self.frames = 0;
                None
            }
            Part::Middle => {
                self.bytes.extend_from_slice(frame.payload);
                self.next_seq += 1;
                self.frames += 1;
                None
            }
            Part::Last => {
                let (data, closing) = Closing::split(frame.payload)?;
                self.bytes.extend_from_slice(data);
                let whole = closing.frames == self.frames + 1 && closing.digest == crc32fast::hash(&self.bytes);
                self.frames = 0;
                whole.then_some((self.first_seq, self.bytes.as_slice()))
            }
        }
    }
}

/// Whether frames are missing since the last entry that was handed on.
pub(super) struct Holes {
    next_seq: Option<u64>,
    open: bool,
}

impl Holes {
    /// In front of the frames of these segments.
    pub fn before(headers: &[SegmentHeader]) -> Self {
        Holes { next_seq: headers.first().map(|h| h.first_seq), open: false }
    }

    /// Takes the next valid frame; whether there is one.
    pub fn meet(&mut self, frame: &Frame<'_>) -> bool {
        self.open |= self.next_seq.is_some_and(|next| frame.header.seq != next);
        self.next_seq = Some(frame.header.seq + 1);
        self.open
    }

    /// An entry was handed on.
    pub fn told(&mut self) {
        self.open = false;
    }

    /// Whether frames are missing behind the last entry.
    pub fn is_open(&self) -> bool {
        self.open
    }
}
