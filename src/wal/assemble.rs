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
    /// Checkpoints are not missed.
    checkpoint_kind: Option<u8>,
    next_seq: Option<u64>,
    open: bool,
    /// The last frame closed an entry other than a checkpoint.
    may_end: bool,
    /// The first frame of the checkpoint that is passing by.
    checkpoint: Option<u64>,
    /// Frames are missing that may have been more than its own.
    doubtful: bool,
}

impl Holes {
    /// In front of the frames of these segments.
    pub fn before(headers: &[SegmentHeader]) -> Self {
        let next_seq = headers.first().map(|h| h.first_seq);
        Holes { checkpoint_kind: None, next_seq, open: false, may_end: false, checkpoint: None, doubtful: false }
    }

    /// The same, but the checkpoint with which a segment begins is not missed: who folds everything before it knows what
    /// it says.
    pub fn but_for_checkpoints(self, kind: u8) -> Self {
        Holes { checkpoint_kind: Some(kind), ..self }
    }

    /// Goes on in the next segment. Where the one before it is whole and ends with an entry, it begins with a checkpoint.
    /// (Or, where recovery had to begin it, with a gap entry, which nobody misses either.) Only behind a checkpoint that
    /// fills its segment it may begin with what that made way for.
    pub fn segment(&mut self, header: &SegmentHeader) {
        if self.checkpoint_kind.is_some() && self.may_end && !self.open && self.next_seq == Some(header.first_seq) {
            self.checkpoint = Some(header.first_seq);
        }
    }

    /// Takes the next valid frame; whether there is one.
    pub fn meet(&mut self, frame: &Frame<'_>) -> bool {
        let (seq, part) = (frame.header.seq, frame.header.part);
        let is_checkpoint = self.checkpoint_kind == Some(frame.header.kind);
        let missing = self.next_seq.is_some_and(|next| seq != next);
        match self.checkpoint {
            None => self.open |= missing,
            Some(first) if is_checkpoint && !part.begins() => {
                self.doubtful |= missing;
                if part == Part::Last {
                    // As many frames as it has reach back to where it began: what is missing among them was of it.
                    let frames = Closing::split(frame.payload).map_or(0, |(_, closing)| u64::from(closing.frames));
                    self.open |= self.doubtful && first + frames != seq + 1;
                    (self.checkpoint, self.doubtful) = (None, false);
                }
            }
            Some(first) => {
                let was_one_frame = missing && !self.doubtful && part.begins() && seq == first + 1;
                self.open |= self.doubtful || (missing && !was_one_frame);
                self.doubtful = false;
                if !is_checkpoint || part != Part::First || seq != first {
                    self.checkpoint = None;
                }
            }
        }
        self.next_seq = Some(seq + 1);
        self.may_end = matches!(part, Part::Whole | Part::Last) && !is_checkpoint;
        self.open
    }

    /// An entry was handed on.
    pub fn told(&mut self) {
        self.open = false;
    }

    /// Whether frames are missing behind the last entry.
    pub fn is_open(&self) -> bool {
        self.open || self.doubtful
    }
}
