//! What recovery tells: what it found and did, the gaps it names in the log, and why it could not go on.

use std::io;

use super::log::LogError;
use super::scan::{Damage, Span};
use super::segment::HeaderError;
use super::{LogId, Purpose};
use crate::disk::is_full;

/// Durable data that is damaged: what a gap entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The segment.
    pub segment: u64,
    /// The damaged bytes in it.
    pub span: Span,
    /// The first frame number that is missing.
    pub first_lost: u64,
    /// The next one that is there; 0 where none is in that segment.
    pub next_seq: u64,
}

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The log was made just now.
    pub created: bool,
    /// The log ends with a stop in order, or was made just now: there is nothing to mend.
    pub clean: bool,
    /// Segments read.
    pub segments_read: u64,
    /// Entries folded.
    pub entries: u64,
    /// The unsynced end of the last batch, cut off.
    pub torn_bytes: u64,
    /// The cut looked unlike a torn batch.
    pub suspicious: bool,
    /// Damage found for the first time.
    pub gaps: Vec<Gap>,
    /// Frames are lost behind the last entry that was folded.
    pub ends_in_gap: bool,
}

impl Gap {
    /// Bytes of a gap entry.
    pub const BYTES: usize = 40;

    pub(super) fn of(segment: u64, damage: &Damage) -> Gap {
        Gap { segment, span: damage.span, first_lost: damage.first_lost, next_seq: damage.next_seq.unwrap_or(0) }
    }

    fn fields(&self) -> [u64; 5] {
        [self.segment, self.span.from, self.span.to, self.first_lost, self.next_seq]
    }

    /// As written: five little-endian numbers.
    pub fn encode(&self) -> Vec<u8> {
        self.fields().iter().flat_map(|field| field.to_le_bytes()).collect()
    }

    /// `None` unless `bytes` has the right length.
    pub fn decode(bytes: &[u8]) -> Option<Gap> {
        let (fields, rest) = bytes.as_chunks::<8>();
        let [segment, from, to, first_lost, next_seq] = fields else { return None };
        let [segment, from, to, first_lost, next_seq] =
            [segment, from, to, first_lost, next_seq].map(|f| u64::from_le_bytes(*f));
        rest.is_empty().then_some(Gap { segment, span: Span { from, to }, first_lost, next_seq })
    }
}

/// Why a log cannot be opened. Nothing has been changed, or nothing that a further try would miss.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The disk's words.
        source: io::Error,
    },
    /// A header is unusable.
    #[error("segment {segment}: {source}")]
    Header {
        /// Its number.
        segment: u64,
        /// Why.
        source: HeaderError,
    },
    /// A header in the archive is unusable.
    #[error("archive file {id:016}.seg: {source}")]
    Archive {
        /// Its number.
        id: u64,
        /// Why.
        source: HeaderError,
    },
    /// A segment in the middle is not there.
    #[error("segment {0} is missing between others: put it back, or move the state directory away to start a new log")]
    Missing(u64),
    /// A segment of another log lies here.
    #[error("segment {segment} belongs to log {found}, the others to {expected}: move it out of the directory")]
    Foreign {
        /// Its number.
        segment: u64,
        /// Its log.
        found: LogId,
        /// The others'.
        expected: LogId,
    },
    /// Real usage and tests do not mix.
    #[error(
        "this state directory holds {}: give the other its own `state.dir`",
        match found { Purpose::Real => "real usage, and this is a test (loopback endpoint or a clock of its own)",
                      Purpose::Test => "a test's usage, and this is a real agent" }
    )]
    Purpose {
        /// What the directory holds.
        found: Purpose,
    },
    /// An entry whose checksum holds cannot be understood.
    #[error("entry {seq} of kind {kind} cannot be read: {why}")]
    Entry {
        /// Its number.
        seq: u64,
        /// Its kind.
        kind: u8,
        /// Why.
        why: String,
    },
    /// No segment begins with a checkpoint, and the first one is gone.
    #[error("no segment begins with a whole checkpoint")]
    NoStart,
    /// Writing what recovery has to write failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl OpenError {
    /// Whether it is for want of room, which heals.
    pub fn is_full(&self) -> bool {
        match self {
            OpenError::Io { source, .. } => is_full(source),
            OpenError::Log(error) => matches!(error, LogError::Full(_)),
            _ => false,
        }
    }
}

pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.into();
    move |source| OpenError::Io { what, source }
}
