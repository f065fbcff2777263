//! Appending: entries gather in a batch, and one write and one `fdatasync` make the batch durable.
//!
//! The order that recovery relies on: no byte of a batch, and no next segment, before the sync of the batch before it
//! has succeeded. After any failed write or sync the log is poisoned: it takes nothing more, because nobody can tell
//! what the disk holds (a second sync would say OK). A restart goes through recovery.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{self, Closing, FrameHeader, PAYLOAD_MAX, Part, Seed, frame_bytes};
use super::segment::{self, FRAMES_AT, SegmentHeader};
use super::spares::{Need, Spares};
use super::{DIR, LogId, Purpose};
use crate::disk::{Disk, DiskFile, is_full};
use crate::histogram::Histogram;
use crate::hour::Timestamp;

/// A sync slower than this is worth a warning.
const SYNC_WARN: Duration = Duration::from_secs(1);
/// A batch is written at the latest when it is as long as this: a seal of many customers and the checkpoints in it do not
/// gather in memory.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bounds of the counts by how long a commit took, in microseconds.
const COMMIT_BOUNDS: &[u64] =
    &[50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000];

/// Kinds that the log itself knows; all others it passes through.
pub mod kind {
    /// The agent stopped in order, if it stands twice at the end (see `open`).
    pub const CLEAN_STOP: u8 = 250;
    /// Damaged bytes were set aside; see [`super::super::open::Gap`].
    pub const GAP: u8 = 251;
    /// Nothing happened for a second: moves the proof of durability past the last batch.
    pub const IDLE: u8 = 252;
    /// The segments before a number may be gone; see [`super::super::retain`].
    pub const RETIRED: u8 = 253;
}

/// Why an append or a commit did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// There is no room for another segment. Nothing was written; it heals when there is room.
    #[error("no room for another log segment: {0}")]
    Full(String),
    /// A write or a sync failed, now or earlier. What the last batch left behind is unknown.
    #[error("the log cannot be written: {0}")]
    Poisoned(Arc<str>),
}

/// The log, open for appending.
pub struct Log<D: Disk> {
    disk: Arc<D>,
    spares: Spares<D>,
    segment: Current<D::File>,
    batch: Vec<u8>,
    next_seq: u64,
    last_crc: u32,
    poisoned: Option<Arc<str>>,
    slowest_sync: Duration,
    synced_at: Option<Instant>,
    /// How long each commit took, in microseconds.
    commits: Histogram,
}

/// The segment being written.
pub(super) struct Current<F> {
    pub header: SegmentHeader,
    pub seed: Seed,
    pub file: F,
    /// Where the batch will be written: all before it is durable.
    pub batch_at: u64,
}

impl<D: Disk> Log<D> {
    pub(super) fn new(
        disk: Arc<D>,
        spares: Spares<D>,
        segment: Current<D::File>,
        next_seq: u64,
        last_crc: u32,
    ) -> Self {
        let (batch, poisoned) = (Vec::new(), None);
        let (slowest_sync, synced_at, commits) = (Duration::ZERO, None, Histogram::new(COMMIT_BOUNDS));
        Log { disk, spares, segment, batch, next_seq, last_crc, poisoned, slowest_sync, synced_at, commits }
    }

    /// Spares are made ahead from now on.
    pub(super) fn keep_spares_filled(&mut self) -> io::Result<()> {
        self.spares.keep_filled()
    }

    /// The number that the next frame gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Which log this is.
    pub fn id(&self) -> LogId {
        self.segment.header.log
    }

    /// Whether it holds real usage.
    pub fn purpose(&self) -> Purpose {
        self.segment.header.purpose
    }

    /// The number of the segment being written.
    pub fn segment_id(&self) -> u64 {
        self.segment.header.id
    }

    /// The length of the segment being written, in bytes.
    pub fn segment_bytes(&self) -> u64 {
        self.segment.header.bytes
    }

    /// Why it takes nothing more, if so.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Why spare segments cannot be made, if it is for want of room. Usage is taken until the one being written is full.
    pub fn no_room(&self) -> Option<String> {
        self.spares.no_room()
    }

    /// When a commit last reached the disk, if one has.
    pub fn synced_at(&self) -> Option<Instant> {
        self.synced_at
    }

    /// The slowest sync so far.
    pub fn slowest_sync(&self) -> Duration {
        self.slowest_sync
    }

    /// How long each commit (write and sync) since the start took, in microseconds.
    pub fn commits(&self) -> &Histogram {
        &self.commits
    }

    /// Whether what is kept back for a full disk stands.
    pub fn reserve_stands(&self) -> bool {
        self.spares.reserve_stands()
    }

    /// Whether an entry of `len` bytes goes into the segment being written.
    pub fn fits(&self, len: usize) -> bool {
        let left = self.segment.header.bytes - self.segment.batch_at - self.batch.len() as u64;
        entry_bytes(len) as u64 <= left
    }

    /// Whether `len` bytes can be appended for `need`, in this segment or the next; waits while a spare is being made.
    /// Usage only while what is kept back for a full disk stands: if it fills this segment, the seal needs another.
    pub fn ensure_room(&mut self, len: usize, need: Need) -> Result<(), LogError> {
        if let Some(why) = &self.poisoned {
            return Err(LogError::Poisoned(Arc::clone(why)));
        }
        let room = match (self.fits(len), need) {
            (true, Need::Control) => Ok(()),
            (true, Need::Usage) => self.spares.ensure_reserve(),
            (false, need) => self.spares.ensure(need),
        };
        room.map_err(|error| self.no_spare(&error))
    }

    /// Adds an entry to the batch: in one frame if it fits, else in a row of frames of which the last closes it.
    /// Moves to the next segment where needed. Durable only after `commit`.
    pub fn append(&mut self, kind: u8, payload: &[u8], need: Need, at: Timestamp) -> Result<(), LogError> {
        frame::split(payload).try_for_each(|(part, piece)| self.append_frame(kind, part, &piece, need, at))
    }

    fn append_frame(
        &mut self,
        kind: u8,
        part: Part,
        payload: &[u8],
        need: Need,
        at: Timestamp,
    ) -> Result<(), LogError> {
        if self.batch.len() >= BATCH_BYTES_MAX {
            self.commit()?;
        }
        let left = self.segment.header.bytes - self.segment.batch_at - self.batch.len() as u64;
        if frame_bytes(payload.len()) as u64 > left {
            self.roll(need, at)?;
        }
        let lag = self.batch.len();
        let header = FrameHeader { kind, part, seq: self.next_seq, durable_lag: lag as u32 };
        let offset = self.segment.batch_at + lag as u64;
        self.last_crc = frame::encode(&header, payload, offset, &self.segment.seed, &mut self.batch);
        self.next_seq += 1;
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub fn commit(&mut self) -> Result<(), LogError> {
        if let Some(why) = &self.poisoned {
            return Err(LogError::Poisoned(Arc::clone(why)));
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let segment = &mut self.segment;
        let started = Instant::now();
        let written = segment.file.write_all_at(&self.batch, segment.batch_at).and_then(|()| segment.file.sync_data());
        if let Err(error) = written {
            let name = segment::file_name(segment.header.id);
            return Err(self.poison(&format!("writing {name} failed: {error}")));
        }
        let took = started.elapsed();
        self.synced_at = Some(started + took);
        self.slowest_sync = self.slowest_sync.max(took);
        self.commits.add(took.as_micros() as u64);
        if took > SYNC_WARN {
            tracing::warn!(ms = took.as_millis(), "the disk took long to sync; answers wait for it");
        }
        segment.batch_at += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    /// Asks the disk for a sync although there may be nothing to write: nothing reaches it but the wish to empty its
    /// caches. A disk that hangs keeps the caller waiting, as a commit would; one that fails has failed the log.
    pub fn prove(&mut self) -> Result<(), LogError> {
        self.commit()?;
        let synced = self.segment.file.sync_data();
        synced.map_err(|error| self.poison(&format!("a sync with nothing to write failed: {error}")))
    }

    /// Makes the batch durable and goes on in the next segment.
    pub fn roll(&mut self, need: Need, at: Timestamp) -> Result<(), LogError> {
        self.commit()?;
        let spare = match self.spares.take(need) {
            Ok(spare) => spare,
            Err(error) => return Err(self.no_spare(&error)),
        };
        let current = &self.segment.header;
        let header = SegmentHeader {
            id: current.id + 1,
            first_seq: self.next_seq,
            salt: fastrand::u64(..),
            created_ms: at.millis(),
            previous_end: self.segment.batch_at,
            previous_crc: self.last_crc,
            ..current.clone()
        };
        match activate(&*self.disk, &spare, header) {
            Ok(segment) => {
                self.segment = segment;
                Ok(())
            }
            Err(error) => Err(self.poison(&format!("activating a log segment failed: {error}"))),
        }
    }

    /// A full disk heals; one that fails otherwise does not.
    fn no_spare(&mut self, error: &io::Error) -> LogError {
        if is_full(error) {
            return LogError::Full(error.to_string());
        }
        self.poison(&format!("making a log segment failed: {error}"))
    }

    /// Lets nothing more become durable. Also for a caller that has promised an entry which cannot be appended.
    pub fn poison(&mut self, why: &str) -> LogError {
        if let Some(why) = &self.poisoned {
            return LogError::Poisoned(Arc::clone(why));
        }
        tracing::error!(why, "the log is poisoned: nothing more is acknowledged until a restart has recovered it");
        let why: Arc<str> = why.into();
        self.poisoned = Some(Arc::clone(&why));
        LogError::Poisoned(why)
    }
}

/// Turns a spare into a segment: header, fsync, rename to its name, fsync the directory. Only then may a frame follow,
/// so a segment's name exists only with a durable header.
pub(super) fn activate<D: Disk>(disk: &D, spare: &str, header: SegmentHeader) -> io::Result<Current<D::File>> {
    let mut file = disk.open(spare)?;
    let header = SegmentHeader { bytes: file.len()?, ..header };
    header.write(&mut file)?;
    file.sync_all()?;
    disk.rename(spare, &segment::file_name(header.id))?;
    disk.sync_dir(DIR)?;
    Ok(Current { seed: header.seed(), header, file, batch_at: FRAMES_AT })
}

/// Bytes in the log that an entry of `len` bytes takes.
fn entry_bytes(len: usize) -> usize {
    if len <= PAYLOAD_MAX {
        return frame_bytes(len);
    }
    let piece = PAYLOAD_MAX - Closing::BYTES;
    let (full, rest) = (len / piece, len % piece);
    // An upper bound: every frame as large as one can be.
    (full + usize::from(rest > 0)) * frame_bytes(PAYLOAD_MAX)
}
