//! What a segment holds: its valid frames, and whether what is not valid is torn (the unsynced end of the last batch)
//! or corrupt (data that was durable once). The two are different types because they have different remedies.

use super::frame::{self, ALIGN, Frame, HEADER_BYTES};
use super::segment::{FRAMES_AT, SegmentHeader};

/// A run of bytes in a segment, as offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub from: u64,
    /// First byte behind it.
    pub to: u64,
}

/// Bytes that were durable once and hold no valid frame now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub span: Span,
    /// The first frame number that is missing.
    pub first_lost: u64,
    /// The number of the next valid frame; `None` where the damage reaches the segment's end.
    pub next_seq: Option<u64>,
}

/// What follows the last frame of the newest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Zeros only.
    Clean,
    /// A batch whose sync did not finish. Never acknowledged: to be cut, after a copy.
    Torn {
        /// From the first bad byte to the last one that is not zero.
        span: Span,
        /// No sector in it is all zero, which a torn batch in a zero-filled file rarely leaves.
        suspicious: bool,
    },
}

/// A segment as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Offsets of the valid frames that count, in order.
    pub frames: Vec<u64>,
    /// Corruption, in order.
    pub damage: Vec<Damage>,
    /// Where the last counting frame ends (or [`FRAMES_AT`]).
    pub end: u64,
    /// What follows it; `Clean` in a segment that has a successor.
    pub tail: Tail,
}

const SECTOR: usize = 512;

/// Scans a segment that has a successor: everything up to `end` was durable before the successor was made.
pub fn closed(bytes: &[u8], header: &SegmentHeader, end: u64) -> Scanned {
    Scanner::new(bytes, header).scan(Some(end))
}

/// Scans the newest segment, whose end is found by looking.
pub fn newest(bytes: &[u8], header: &SegmentHeader) -> Scanned {
    Scanner::new(bytes, header).scan(None)
}

/// The frame at `offset`, which a scan found valid.
pub fn frame_at<'a>(bytes: &'a [u8], offset: u64, header: &SegmentHeader) -> Option<Frame<'a>> {
    frame::decode(bytes.get(offset as usize..)?, offset, &header.seed())
}

struct Scanner<'a> {
    bytes: &'a [u8],
    seed: frame::Seed,
    first_seq: u64,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8], header: &SegmentHeader) -> Self {
        Scanner { bytes, seed: header.seed(), first_seq: header.first_seq }
    }

    fn at(&self, offset: u64) -> Option<Frame<'a>> {
        frame::decode(self.bytes.get(offset as usize..)?, offset, &self.seed)
    }

    fn scan(&self, known_end: Option<u64>) -> Scanned {
        let mut out = Scanned { frames: Vec::new(), damage: Vec::new(), end: FRAMES_AT, tail: Tail::Clean };
        let limit = known_end.unwrap_or(self.bytes.len() as u64);
        let mut expected = self.first_seq;
        let mut at = FRAMES_AT;
        while at < limit {
            if let Some(frame) = self.at(at).filter(|f| f.header.seq == expected) {
                out.frames.push(at);
                at += frame.bytes() as u64;
                out.end = at;
                expected += 1;
                continue;
            }
            if known_end.is_none() && self.tail(at) == Tail::Clean {
                // The usual end. Nothing can be found in zeros, and a segment has many.
                break;
            }
            let next = self.next_valid(at, limit, expected);
            let was_durable = known_end.is_some() || self.proven_durable(at, limit, expected);
            if !was_durable {
                out.tail = self.tail(at);
                break;
            }
            let to = next.map_or(limit, |(offset, _)| offset);
            let next_seq = next.map(|(_, seq)| seq);
            out.damage.push(Damage { span: Span { from: at, to }, first_lost: expected, next_seq });
            out.end = to;
            at = to;
            expected = next_seq.unwrap_or(expected);
        }
        out
    }

    /// Valid frames behind `from`, at every place where one may begin.
    fn valid_behind(&self, from: u64, limit: u64, expected: u64) -> impl Iterator<Item = (u64, Frame<'a>)> + '_ {
        let places = (from + ALIGN as u64..limit.saturating_sub(HEADER_BYTES as u64)).step_by(ALIGN);
        places.filter_map(move |o| self.at(o).filter(|f| f.header.seq >= expected).map(|f| (o, f)))
    }

    fn next_valid(&self, from: u64, limit: u64, expected: u64) -> Option<(u64, u64)> {
        self.valid_behind(from, limit, expected).map(|(o, f)| (o, f.header.seq)).next()
    }

    /// Whether some later frame proves that `at` was durable: its batch began behind `at`, and a batch is written only
    /// when everything before it has been synced. "A later frame is valid" alone would prove nothing, for the sectors
    /// of one unsynced batch reach the disk in any order.
    fn proven_durable(&self, at: u64, limit: u64, expected: u64) -> bool {
        self.valid_behind(at, limit, expected).any(|(o, f)| o.saturating_sub(u64::from(f.header.durable_lag)) > at)
    }

    fn tail(&self, from: u64) -> Tail {
        let rest = self.bytes.get(from as usize..).unwrap_or(&[]);
        let Some(last) = rest.iter().rposition(|b| *b != 0) else {
            return Tail::Clean;
        };
        let to = from + last as u64 + 1;
        // Whole sectors only: the first one holds the end of the batch before.
        let first_sector = (from as usize).next_multiple_of(SECTOR);
        let sectors = self.bytes.get(first_sector..to as usize).unwrap_or(&[]).chunks_exact(SECTOR);
        let suspicious = sectors.len() > 0 && !sectors.into_iter().any(|s| s.iter().all(|b| *b == 0));
        Tail::Torn { span: Span { from, to }, suspicious }
    }
}
