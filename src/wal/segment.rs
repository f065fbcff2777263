//! One file of the log: its name, and the header that ties it to its log and to the segment before it.

use std::io;

use super::frame::Seed;
use super::{DIR, LogId, Purpose};
use crate::disk::{Disk, DiskFile};

/// Where the first frame begins: the header has a page of its own.
pub const FRAMES_AT: u64 = 4096;
/// The version of the format that this build writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"meterdWL";
/// What an archive file begins with: the same layout, and never taken for a segment of the log.
const ARCHIVE_MAGIC: [u8; 8] = *b"meterdAR";
/// The header stands twice, in different sectors, so that one rotten sector does not take the segment along.
const COPIES_AT: [u64; 2] = [0, 2048];
const HEADER_BYTES: usize = 88;
const TEST_FLAG: u32 = 1;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number: segments are counted from 1 without a gap.
    pub id: u64,
    /// The number of its first frame.
    pub first_seq: u64,
    /// Random; seeds its checksums.
    pub salt: u64,
    /// The log it belongs to.
    pub log: LogId,
    /// Whether that log is a test.
    pub purpose: Purpose,
    /// When it was activated, in milliseconds since the epoch.
    pub created_ms: i64,
    /// The length of its file in bytes.
    pub bytes: u64,
    /// Where the frames of the segment before it end (0 for the first).
    pub previous_end: u64,
    /// The checksum of the last frame before it (0 for the first).
    pub previous_crc: u32,
}

/// Why a header is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Neither copy holds.
    #[error("both copies of the segment's header are damaged")]
    Damaged,
    /// Written by another version of meterd.
    #[error("the log has format version {0}; this meterd reads version {FORMAT_VERSION} only")]
    Version(u32),
}

/// Both copies of a header, as read.
pub(super) type Copies = [Result<SegmentHeader, HeaderError>; 2];

impl SegmentHeader {
    /// What seeds the checksums of its frames.
    pub fn seed(&self) -> Seed {
        Seed::new(self.salt, self.id)
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        self.encode_as(MAGIC)
    }

    fn encode_as(&self, magic: [u8; 8]) -> [u8; HEADER_BYTES] {
        let flags = match self.purpose {
            Purpose::Real => 0,
            Purpose::Test => TEST_FLAG,
        };
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&magic);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&u32::to_le_bytes(flags));
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.log.0);
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&self.previous_crc.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads one copy. The version is judged before the rest, so that a later format is named, not called damage.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        Self::decode_as(MAGIC, bytes)
    }

    fn decode_as(magic: [u8; 8], bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let damaged = || HeaderError::Damaged;
        let mut reader = Reader(bytes.as_slice());
        if reader.take::<8>() != Some(magic) {
            return Err(HeaderError::Damaged);
        }
        match u32::from_le_bytes(reader.take().ok_or_else(damaged)?) {
            FORMAT_VERSION => {}
            other => return Err(HeaderError::Version(other)),
        }
        let (covered, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return Err(HeaderError::Damaged);
        }
        let mut read = || -> Option<SegmentHeader> {
            let flags = u32::from_le_bytes(reader.take()?);
            Some(SegmentHeader {
                id: u64::from_le_bytes(reader.take()?),
                first_seq: u64::from_le_bytes(reader.take()?),
                salt: u64::from_le_bytes(reader.take()?),
                log: LogId(reader.take()?),
                purpose: if flags & TEST_FLAG == 0 { Purpose::Real } else { Purpose::Test },
                created_ms: i64::from_le_bytes(reader.take()?),
                bytes: u64::from_le_bytes(reader.take()?),
                previous_end: u64::from_le_bytes(reader.take()?),
                previous_crc: u32::from_le_bytes(reader.take()?),
            })
        };
        read().ok_or_else(damaged)
    }

    /// Writes both copies (not yet durable).
    pub fn write<F: DiskFile>(&self, file: &mut F) -> io::Result<()> {
        COPIES_AT.iter().try_for_each(|at| file.write_all_at(&self.encode(), *at))
    }

    /// The page before an archive file's frames.
    pub(super) fn archive_page(&self) -> Vec<u8> {
        let mut page = vec![0; FRAMES_AT as usize];
        for at in COPIES_AT {
            if let Some(place) = page.get_mut(at as usize..at as usize + HEADER_BYTES) {
                place.copy_from_slice(&self.encode_as(ARCHIVE_MAGIC));
            }
        }
        page
    }

    /// Reads the first copy that holds.
    pub fn read<F: DiskFile>(file: &F) -> io::Result<Result<Self, HeaderError>> {
        Self::read_copies(file).map(Self::first_of)
    }

    /// Both copies in the bytes of an archive file.
    pub(super) fn archive_copies(file: &[u8]) -> Copies {
        COPIES_AT.map(|at| {
            let copy = file.get(at as usize..).and_then(<[u8]>::first_chunk);
            copy.map_or(Err(HeaderError::Damaged), |copy| Self::decode_as(ARCHIVE_MAGIC, copy))
        })
    }

    /// The first copy that holds.
    pub(super) fn first_of([first, second]: Copies) -> Result<Self, HeaderError> {
        match (first, second) {
            (Ok(header), _) | (_, Ok(header)) => Ok(header),
            // A later version is named, not called damage.
            (Err(error @ HeaderError::Version(_)), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Reads both copies.
    pub(super) fn read_copies<F: DiskFile>(file: &F) -> io::Result<Copies> {
        let mut copies = [Err(HeaderError::Damaged), Err(HeaderError::Damaged)];
        for (at, copy) in COPIES_AT.iter().zip(&mut copies) {
            let mut bytes = [0; HEADER_BYTES];
            match file.read_exact_at(&mut bytes, *at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                read => {
                    read?;
                    *copy = SegmentHeader::decode(&bytes);
                }
            }
        }
        Ok(copies)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }
}

/// The file name of segment `id`, below the state directory.
pub fn file_name(id: u64) -> String {
    format!("{DIR}/{id:016}.seg")
}

/// The segments in a state directory, by number.
pub fn list<D: Disk>(disk: &D) -> io::Result<Vec<u64>> {
    let names = disk.list(DIR)?;
    let mut ids: Vec<u64> = names.iter().filter_map(|n| n.strip_suffix(".seg")?.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Writes zeros over the whole of a new file and makes it durable with its length. Appending into it later costs one
/// `fdatasync` that writes no metadata, which is 4 to 20 times as fast as growing a file.
pub fn zero_fill<F: DiskFile>(file: &mut F, bytes: u64) -> io::Result<()> {
    static CHUNK: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(CHUNK.len() as u64);
        file.write_all_at(CHUNK.get(..n as usize).unwrap_or(&CHUNK), at)?;
        at += n;
    }
    file.sync_all()
}
