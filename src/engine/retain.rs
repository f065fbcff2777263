//! Retention: which stretch of the log is needed no more, what of it goes into the archive, and when. The rules stand
//! in `src/wal/FORMAT.md` under Retention; this is the engine's side of them.
//!
//! Reading and writing happen in a thread of their own, one stretch at a time, so that no answer waits for them; the
//! engine only appends the entry that says what may go. In a simulation each tick does one step in the caller's thread.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::recover::{Change, fold};
use super::{Engine, take};
use crate::disk::Disk;
use crate::entry::{self, RecordKey, kind};
use crate::hour::{Hour, Timestamp};
use crate::index::Index;
use crate::rollup::State;
use crate::rollup::state::{Phase, RecordState};
use crate::wal::archive::{self, Owner};
use crate::wal::log::kind as log_kind;
use crate::wal::retain::{self, Event, Footprint};
use crate::wal::segment::SegmentHeader;
use crate::wal::spares::Need;
use crate::wal::{LogError, OpenError};

/// Whole months that a record is kept after the month of its hour.
pub const MONTHS_KEPT: u32 = 13;
/// Checkpoints behind a stretch that must be verified before it goes.
const VERIFIED: usize = 2;
/// An archive file that is longer than this is not replaced by a longer one any more.
const ARCHIVE_FILE_BYTES: u64 = 1024 * 1024;
/// Archive files are numbered by month, and within the month by this many.
const FILES_PER_MONTH: u64 = 1_000_000;
/// How soon to come back to a step that goes on elsewhere.
const AGAIN: Duration = Duration::from_secs(1);

/// The state of retention.
pub(super) struct Retention<D: Disk> {
    disk: Arc<D>,
    owner: Owner,
    /// How long segments are kept.
    keep: Duration,
    threads: bool,
    /// The latest moment that AWS has confirmed.
    confirmed: Option<Timestamp>,
    /// The confirmed hour of the last look that found nothing to do.
    looked_at: Option<Hour>,
    stage: Stage,
    /// What has been folded ahead.
    pass: Pass,
    footprint: Footprint,
    /// Why nothing goes any more until a restart.
    failure: Option<String>,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// The oldest stretch is being read and archived.
    Archiving(Work<Looked>),
    /// It stands in the archive; the log is to say so.
    Archived { first_kept: u64 },
    /// The log says so; its segments are being removed.
    Removing(Work<Footprint>),
}

/// Something under way in another thread, or done already.
enum Work<T> {
    Done(Result<T, OpenError>),
    Thread(JoinHandle<Result<T, OpenError>>),
}

impl<T: Send + 'static> Work<T> {
    fn start(threads: bool, work: impl FnOnce() -> Result<T, OpenError> + Send + 'static) -> Self {
        if !threads {
            return Work::Done(work());
        }
        match thread::Builder::new().name("retention".into()).spawn(work) {
            Ok(thread) => Work::Thread(thread),
            Err(source) => Work::Done(Err(OpenError::Io { what: "starting a thread".into(), source })),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Work::Done(_) => true,
            Work::Thread(thread) => thread.is_finished(),
        }
    }

    fn wait(self) -> Result<T, String> {
        match self {
            Work::Done(done) => done.map_err(|e| e.to_string()),
            Work::Thread(thread) => match thread.join() {
                Ok(done) => done.map_err(|e| e.to_string()),
                Err(_) => Err("its thread panicked".into()),
            },
        }
    }
}

/// What a look came to.
struct Looked {
    pass: Pass,
    /// The first segment kept, if a stretch stands in the archive now.
    retired: Option<u64>,
    /// What left-overs of an earlier retirement took.
    removed: Footprint,
}

/// What to look for.
struct Look<D> {
    disk: Arc<D>,
    owner: Owner,
    keep: Duration,
    /// Confirmed time.
    now: Timestamp,
    /// The first hour that is not sealed.
    open_from: Hour,
    /// Records of hours before it go from the archive.
    forget_before: Hour,
    stop: Arc<AtomicBool>,
}

/// A stretch as folded.
#[derive(Debug, Clone)]
struct Folded {
    first: u64,
    /// The first segment of the next stretch.
    next: u64,
    /// Records that became final in it.
    records: Vec<RecordState>,
    /// The last hour in which a key of it is remembered.
    keys_until: Hour,
    /// The last hour with usage that was not sealed at its end.
    open_until: Option<Hour>,
    damaged: Vec<u64>,
    /// Whether the checkpoint behind it is what it comes to.
    verified: bool,
}

/// Stretches folded so far, oldest first.
#[derive(Debug, Clone, Default)]
struct Pass {
    folded: VecDeque<Folded>,
}

impl<D: Disk> Drop for Retention<D> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A directory that is given back is not written to any more.
        match std::mem::take(&mut self.stage) {
            Stage::Archiving(work) => drop(work.wait()),
            Stage::Removing(work) => drop(work.wait()),
            Stage::Idle | Stage::Archived { .. } => {}
        }
    }
}

impl<D: Disk> Retention<D> {
    pub(super) fn new(disk: Arc<D>, owner: Owner, keep: Duration, threads: bool) -> Result<Self, OpenError> {
        let measured = retain::measure(&*disk);
        let footprint = measured.map_err(|source| OpenError::Io { what: "measuring the log".into(), source })?;
        Ok(Retention {
            disk,
            owner,
            keep,
            threads,
            confirmed: None,
            looked_at: None,
            stage: Stage::Idle,
            pass: Pass::default(),
            footprint,
            failure: None,
            stop: Arc::default(),
        })
    }

    /// Takes in that it was `moment` once, by AWS's word.
    pub(super) fn confirm(&mut self, moment: Timestamp) {
        self.confirmed = self.confirmed.max(Some(moment));
    }

    /// AWS takes no record from the future: one that it accepted confirms that its hour has passed.
    pub(super) fn saw(&mut self, record: &RecordState) {
        if record.phase == Phase::Accepted && record.metering_record_id.is_some() {
            self.confirm(record.record.request.timestamp);
        }
    }

    /// Takes in that the log has gone on in a new segment.
    pub(super) fn rolled(&mut self, bytes: u64) {
        self.footprint.segments += 1;
        self.footprint.bytes += bytes;
    }

    fn removed(&mut self, gone: Footprint) {
        self.footprint.segments = self.footprint.segments.saturating_sub(gone.segments);
        self.footprint.bytes = self.footprint.bytes.saturating_sub(gone.bytes);
    }

    fn fail(&mut self, why: String) {
        tracing::error!(why, "retention stopped: the log keeps growing until a restart; see meterd verify");
        self.failure = Some(why);
    }
}

impl<D: Disk> Engine<D> {
    /// What the log's segments take on the disk.
    pub fn footprint(&self) -> Footprint {
        self.retention.footprint
    }

    /// Why segments that are not needed are no longer removed, if so.
    pub fn retention_failure(&self) -> Option<&str> {
        self.retention.failure.as_deref()
    }

    /// When retention has something to do again; none if that is for the next seal to see.
    pub(super) fn next_retention(&self, now: Timestamp) -> Option<Timestamp> {
        (!matches!(self.retention.stage, Stage::Idle)).then(|| now.plus(AGAIN))
    }

    /// Takes one step, if one is due. What it appends is durable when it returns.
    pub(super) fn retain(&mut self, now: Timestamp) -> Result<(), LogError> {
        match std::mem::take(&mut self.retention.stage) {
            Stage::Idle => self.begin_look(now),
            Stage::Archiving(work) if work.is_done() => match work.wait() {
                Ok(looked) => self.looked(looked, now),
                Err(why) => self.retention.fail(why),
            },
            Stage::Archived { first_kept } => {
                let payload = retain::retired(first_kept, now);
                if !self.log.fits(payload.len()) {
                    // It is not worth a segment: what comes next makes one.
                    self.retention.stage = Stage::Archived { first_kept };
                    return Ok(());
                }
                self.log.append(log_kind::RETIRED, &payload, Need::Control, now)?;
                self.log.commit()?;
                let disk = Arc::clone(&self.retention.disk);
                let remove = move || {
                    let failed = |source| OpenError::Io { what: "removing segments".into(), source };
                    retain::remove(&*disk, first_kept).map_err(failed)
                };
                self.retention.stage = Stage::Removing(Work::start(self.retention.threads, remove));
            }
            Stage::Removing(work) if work.is_done() => match work.wait() {
                Ok(gone) => {
                    self.retention.removed(gone);
                    tracing::info!(
                        segments = gone.segments,
                        bytes = gone.bytes,
                        "segments that nothing needs are gone"
                    );
                    // There may be more.
                    self.begin_look(now);
                }
                Err(why) => self.retention.fail(why),
            },
            under_way => self.retention.stage = under_way,
        }
        Ok(())
    }

    fn begin_look(&mut self, now: Timestamp) {
        let retention = &mut self.retention;
        let Some(confirmed) = retention.confirmed.map(|c| c.min(now)) else { return };
        if retention.failure.is_some() || retention.looked_at == Some(confirmed.hour()) {
            return;
        }
        let look = Look {
            disk: Arc::clone(&retention.disk),
            owner: retention.owner,
            keep: retention.keep,
            now: confirmed,
            open_from: self.state.open_from,
            forget_before: forget_before(confirmed, retention.keep),
            stop: Arc::clone(&retention.stop),
        };
        self.index.forget_before(look.forget_before);
        let pass = std::mem::take(&mut retention.pass);
        retention.stage = Stage::Archiving(Work::start(retention.threads, move || look.take(pass)));
    }

    fn looked(&mut self, looked: Looked, now: Timestamp) {
        self.retention.removed(looked.removed);
        self.retention.pass = looked.pass;
        match looked.retired {
            Some(first_kept) => self.retention.stage = Stage::Archived { first_kept },
            None => self.retention.looked_at = self.retention.confirmed.map(|c| c.min(now).hour()),
        }
    }
}

/// Records of hours before this one are forgotten: [`MONTHS_KEPT`] months, or `keep` where that is longer.
fn forget_before(now: Timestamp, keep: Duration) -> Hour {
    now.hour().start_of_month(MONTHS_KEPT).min(now.minus(keep).hour())
}

impl<D: Disk> Look<D> {
    /// Looks at the oldest stretch; archives it if nothing needs it.
    fn take(&self, mut pass: Pass) -> Result<Looked, OpenError> {
        let headers = retain::headers(&*self.disk)?;
        let (Some(oldest), Some(behind)) = (headers.first(), headers.get(1)) else {
            self.forget()?;
            return Ok(Looked { pass, retired: None, removed: Footprint::default() });
        };
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| OpenError::Io { what, source }
        };
        // What a start passed over in front of a hole.
        let removed = retain::remove(&*self.disk, oldest.id).map_err(failed("removing left-over segments"))?;
        self.forget()?;
        let mut retired = None;
        if self.is_old(behind) {
            pass.folded.retain(|stretch| stretch.first >= oldest.id);
            self.fold_ahead(&headers, &mut pass)?;
            let old_enough = |stretch: &Folded| {
                let header = headers.iter().find(|h| h.id == stretch.next);
                let forgotten = stretch.keys_until < self.open_from.min(self.now.hour()).previous();
                let sealed = stretch.open_until.is_none_or(|hour| hour < self.open_from);
                header.is_some_and(|h| self.is_old(h)) && forgotten && sealed
            };
            let verified = pass.folded.iter().filter(|stretch| stretch.verified).count() >= VERIFIED;
            if verified
                && pass.folded.front().is_some_and(old_enough)
                && let Some(stretch) = pass.folded.pop_front()
            {
                self.keep_damage(&stretch, &headers)?;
                self.archive(&stretch.records)?;
                let (first, last, records) = (stretch.first, stretch.next - 1, stretch.records.len());
                tracing::info!(first, last, records, "segments are in the archive");
                retired = Some(stretch.next);
            }
        }
        Ok(Looked { pass, retired, removed })
    }

    /// Whether the time to keep what came before this segment is over.
    fn is_old(&self, behind: &SegmentHeader) -> bool {
        Timestamp::from_millis(behind.created_ms).plus(self.keep) <= self.now
    }

    /// Folds stretches until enough checkpoints are verified, or the log ends.
    fn fold_ahead(&self, headers: &[SegmentHeader], pass: &mut Pass) -> Result<(), OpenError> {
        let enough = |pass: &Pass| pass.folded.iter().filter(|stretch| stretch.verified).count() >= VERIFIED;
        if enough(pass) {
            return Ok(());
        }
        let from = pass.folded.back().map_or(headers.first().map_or(0, |h| h.id), |stretch| stretch.next);
        let at = headers.partition_point(|h| h.id < from);
        let mut state = State::default();
        let mut stretch = Folded::new(from);
        retain::walk(&*self.disk, headers.get(at..).unwrap_or(&[]), &mut |event| {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(ControlFlow::Break(()));
            }
            match event {
                Event::Damaged(segment) => stretch.damaged.push(segment),
                Event::Retired(_) => {}
                Event::Entry { segment, first: true, entry } if entry.kind == kind::CHECKPOINT && segment > from => {
                    let checkpoint: State = entry::decode(entry.payload).map_err(|e| e.to_string())?;
                    let done = std::mem::replace(&mut stretch, Folded::new(segment));
                    pass.folded.push_back(done.end(segment, &state, checkpoint == state)?);
                    state = checkpoint;
                    if enough(pass) {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Event::Entry { entry, .. } => fold(&mut state, entry, &mut |change| stretch.take(change))?,
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Damage that recovery never met, for it reads from the newest checkpoint on.
    fn keep_damage(&self, stretch: &Folded, headers: &[SegmentHeader]) -> Result<(), OpenError> {
        for pair in headers.windows(2) {
            if let [header, next] = pair
                && stretch.damaged.contains(&header.id)
            {
                tracing::error!(segment = header.id, "a segment that goes is damaged; a copy is in quarantine/");
                retain::keep_damage(&*self.disk, header, next.previous_end)?;
            }
        }
        Ok(())
    }

    /// Adds records to the archive. Durable when it returns, even if all of them seem to be there already: what is
    /// merely read may never have reached the disk.
    fn archive(&self, records: &[RecordState]) -> Result<(), OpenError> {
        let disk = &*self.disk;
        let failed = |source| OpenError::Io { what: "writing the archive".into(), source };
        let mut months: BTreeMap<u64, BTreeMap<RecordKey, Vec<u8>>> = BTreeMap::new();
        for record in records {
            let payload = entry::encode(record).map_err(|e| failed(std::io::Error::other(e.to_string())))?;
            let hour = record.record.key.hour;
            if hour >= self.forget_before {
                months.entry(u64::from(hour.month())).or_default().insert(record.record.key, payload);
            }
        }
        let files = archive::list(disk).map_err(failed)?;
        for (month, mut records) in months {
            let newest = files.iter().rev().find(|id| **id / FILES_PER_MONTH == month);
            let mut id = newest.copied().unwrap_or(month * FILES_PER_MONTH);
            match newest.map(|id| self.longer(*id)).transpose()?.flatten() {
                Some(before) => records.extend(before),
                None => id += 1,
            }
            let entries = records.values().map(|payload| (kind::ARCHIVED, payload.as_slice()));
            archive::write(disk, id, self.owner, self.now, entries).map_err(failed)?;
        }
        Ok(())
    }

    /// What stands in a file that may be replaced by a longer one.
    fn longer(&self, id: u64) -> Result<Option<BTreeMap<RecordKey, Vec<u8>>>, OpenError> {
        let file = match archive::read(&*self.disk, id) {
            Err(OpenError::Archive { .. }) => return Ok(None),
            read => read?,
        };
        if !file.is_whole() || file.bytes >= ARCHIVE_FILE_BYTES || file.header.log != self.owner.log {
            return Ok(None);
        }
        let key = |(_, payload): (u8, Vec<u8>)| {
            let record: RecordState = entry::decode(&payload).ok()?;
            Some((record.record.key, payload))
        };
        let known = file.entries.iter().all(|(kind, _)| *kind == kind::ARCHIVED);
        Ok(if known { file.entries.into_iter().map(key).collect() } else { None })
    }

    /// Removes archive files of months that are out of date.
    fn forget(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { what: "removing old archive files".into(), source };
        let first = u64::from(self.forget_before.month()) * FILES_PER_MONTH;
        let mut files = archive::list(&*self.disk).map_err(failed)?;
        files.retain(|id| *id < first);
        archive::remove(&*self.disk, &files).map_err(failed)
    }
}

impl Folded {
    fn new(first: u64) -> Self {
        Folded {
            first,
            next: 0,
            records: Vec::new(),
            keys_until: Hour::default(),
            open_until: None,
            damaged: Vec::new(),
            verified: false,
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Usage(usage) => self.keys_until = self.keys_until.max(take::keys_until(&usage)),
            Change::Records(records) => self.records.extend(records),
        }
    }

    /// Ends it in front of segment `next`. `state` is what it comes to.
    fn end(mut self, next: u64, state: &State, verified: bool) -> Result<Folded, String> {
        if !verified && self.damaged.is_empty() {
            let (first, last) = (self.first, next - 1);
            return Err(format!("the checkpoint is not what the entries of segments {first} to {last} come to"));
        }
        self.open_until = state.dimensions.iter().flat_map(|d| d.open.keys()).max().copied();
        (self.next, self.verified) = (next, verified);
        Ok(self)
    }
}

/// Puts what is in the archive into the index.
pub(super) fn index_archive<D: Disk>(disk: &D, index: &mut Index) -> Result<(), String> {
    for id in archive::list(disk).map_err(|e| e.to_string())? {
        let file = match archive::read(disk, id) {
            Err(error @ OpenError::Archive { .. }) => {
                tracing::error!(%error, "a file of the archive cannot be read; its records are not shown");
                continue;
            }
            read => read.map_err(|e| e.to_string())?,
        };
        if !file.is_whole() {
            tracing::error!(id, "a file of the archive is damaged; the records that hold are shown");
        }
        for (kind, payload) in &file.entries {
            match entry::decode(payload) {
                Ok(record) if *kind == kind::ARCHIVED => index.add_record(record),
                _ => tracing::error!(id, kind, "an entry of the archive is of another version; it is not shown"),
            }
        }
    }
    Ok(())
}
