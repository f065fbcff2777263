//! One frame: the unit that a checksum covers.

use std::borrow::Cow;

use crc32fast::Hasher;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 20;
/// Frames begin at multiples of this many bytes.
pub const ALIGN: usize = 8;
/// Most bytes a frame's payload may have: with it the frame is 8 KiB, below the length up to which CRC-32 finds every
/// error of three bits.
pub const PAYLOAD_MAX: usize = 8168;

/// Where a frame stands in its entry. An entry that fits is one frame; a longer one is a row of frames, and exists
/// only if its last one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole entry.
    Whole,
    /// The first of several.
    First,
    /// Neither first nor last.
    Middle,
    /// The last of several; its payload ends with [`Closing`].
    Last,
}

impl Part {
    const fn code(self) -> u8 {
        match self {
            Part::Whole => 0,
            Part::First => 1,
            Part::Middle => 2,
            Part::Last => 3,
        }
    }

    /// Whether an entry begins here.
    pub const fn begins(self) -> bool {
        matches!(self, Part::Whole | Part::First)
    }

    const fn from_code(code: u8) -> Option<Part> {
        match code {
            0 => Some(Part::Whole),
            1 => Some(Part::First),
            2 => Some(Part::Middle),
            3 => Some(Part::Last),
            _ => None,
        }
    }
}

/// What the last frame of an entry of several says about all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// How many frames the entry has.
    pub frames: u32,
    /// CRC-32 of the entry's bytes.
    pub digest: u32,
}

impl Closing {
    /// Its bytes at the end of the last frame's payload.
    pub const BYTES: usize = 8;

    /// As written.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (frames, digest) = bytes.split_at_mut(4);
        frames.copy_from_slice(&self.frames.to_le_bytes());
        digest.copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    /// Splits a last frame's payload into the entry's bytes and the closing; `None` if it is too short.
    pub fn split(payload: &[u8]) -> Option<(&[u8], Closing)> {
        let (data, closing) = payload.split_last_chunk::<{ Closing::BYTES }>()?;
        let (frames, digest) = closing.split_first_chunk::<4>()?;
        let digest = digest.first_chunk::<4>()?;
        Some((data, Closing { frames: u32::from_le_bytes(*frames), digest: u32::from_le_bytes(*digest) }))
    }
}

/// The frames of an entry: one if it fits, else a row of which the last closes it.
pub fn split(entry: &[u8]) -> impl Iterator<Item = (Part, Cow<'_, [u8]>)> {
    // The last frame needs room for the closing, so the data is cut into pieces that leave it.
    let piece_bytes = if entry.len() <= PAYLOAD_MAX { PAYLOAD_MAX } else { PAYLOAD_MAX - Closing::BYTES };
    let pieces = entry.chunks(piece_bytes);
    let last = pieces.len().saturating_sub(1);
    pieces.enumerate().map(move |(at, piece)| match at {
        0 if last == 0 => (Part::Whole, Cow::Borrowed(piece)),
        0 => (Part::First, Cow::Borrowed(piece)),
        at if at < last => (Part::Middle, Cow::Borrowed(piece)),
        _ => {
            let closing = Closing { frames: last as u32 + 1, digest: crc32fast::hash(entry) };
            (Part::Last, Cow::Owned([piece, &closing.encode()].concat()))
        }
    })
}

/// Everything in a frame but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the entry is; the log passes it through.
    pub kind: u8,
    /// Where this frame stands in its entry.
    pub part: Part,
    /// Its number: frames are counted from 1 without a gap, across segments.
    pub seq: u64,
    /// Bytes from where its batch began in this segment to where it begins. A valid frame proves that all before its
    /// batch was durable before the first byte of the batch was written.
    pub durable_lag: u32,
}

/// Seeds the checksums of one segment, so that neither stale bytes of another segment, nor bytes at another place,
/// nor a payload that looks like a frame can pass for a frame.
#[derive(Debug, Clone)]
pub struct Seed(Hasher);

impl Seed {
    /// The seed of segment `id` with its random `salt`.
    pub fn new(salt: u64, id: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&salt.to_le_bytes());
        hasher.update(&id.to_le_bytes());
        Seed(hasher)
    }

    fn checksum(&self, offset: u64, after_crc: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(after_crc);
        hasher.finalize()
    }
}

/// Bytes that a frame with a payload of `len` bytes takes, padding included.
pub const fn frame_bytes(len: usize) -> usize {
    (HEADER_BYTES + len).next_multiple_of(ALIGN)
}

/// Appends a frame to `out`, to be written at `offset` of its segment; returns its checksum.
/// `payload` has 1 to [`PAYLOAD_MAX`] bytes.
pub fn encode(header: &FrameHeader, payload: &[u8], offset: u64, seed: &Seed, out: &mut Vec<u8>) -> u32 {
    debug_assert!((1..=PAYLOAD_MAX).contains(&payload.len()));
    let start = out.len();
    let len = payload.len() as u16;
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&len.to_le_bytes());
    out.push(header.kind);
    out.push(header.part.code());
    out.extend_from_slice(&header.seq.to_le_bytes());
    out.extend_from_slice(&header.durable_lag.to_le_bytes());
    out.extend_from_slice(payload);
    let covered = out.get(start + 4..).unwrap_or(&[]);
    let crc = seed.checksum(offset, covered);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    out.resize(start + frame_bytes(payload.len()), 0);
    crc
}

/// A frame that passed every condition of validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// All but the payload.
    pub header: FrameHeader,
    /// The payload.
    pub payload: &'a [u8],
    /// The checksum as stored.
    pub crc: u32,
}

impl Frame<'_> {
    /// Bytes it takes in the segment.
    pub fn bytes(&self) -> usize {
        frame_bytes(self.payload.len())
    }
}

/// Reads the frame that begins at `offset` of its segment, where `bytes` are the segment's from there on.
/// `None` unless every condition of validity in `FORMAT.md` holds.
pub fn decode<'a>(bytes: &'a [u8], offset: u64, seed: &Seed) -> Option<Frame<'a>> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_le_bytes(*len));
    if len == 0 || len > PAYLOAD_MAX {
        return None;
    }
    let ([kind, part], rest) = rest.split_first_chunk::<2>()?;
    let part = Part::from_code(*part)?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (durable_lag, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..len)?;
    let padding = rest.get(len..frame_bytes(len) - HEADER_BYTES)?;
    if padding.iter().any(|b| *b != 0) {
        return None;
    }
    let crc = u32::from_le_bytes(*crc);
    if seed.checksum(offset, bytes.get(4..HEADER_BYTES + len)?) != crc {
        return None;
    }
    let header =
        FrameHeader { kind: *kind, part, seq: u64::from_le_bytes(*seq), durable_lag: u32::from_le_bytes(*durable_lag) };
    Some(Frame { header, payload, crc })
}
