//! Retention: which stretch of the log is needed no more, what of it goes into the archive, and when. The rules stand
//! in `src/wal/FORMAT.md` under Retention; this is the engine's side of them.
//!
//! Reading and writing happen in a thread of their own, one stretch at a time, so that no answer waits for them; the
//! engine only appends the entry that says what may go. In a simulation each tick does one step in the caller's thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Engine;
use super::stretch::{Look, Looked, Pass, forget_before, open_until};
use crate::disk::Disk;
use crate::hour::{Hour, Timestamp};
use crate::rollup::state::{Phase, RecordState};
use crate::wal::archive::Owner;
use crate::wal::log::kind as log_kind;
use crate::wal::retain::{self, Footprint};
use crate::wal::spares::Need;
use crate::wal::{LogError, OpenError};

/// How soon to come back to a step that goes on elsewhere.
const AGAIN: Duration = Duration::from_secs(1);
/// The same for one that found the disk full: it reads up to three stretches.
const ROOM_AGAIN: Duration = Duration::from_secs(60);

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
    /// The disk was full, and is looked at again then: what is to make room must not give up for want of it.
    NoRoom { until: Timestamp },
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

    fn wait(self) -> Result<T, OpenError> {
        let panicked = || io::Error::other("its thread panicked");
        match self {
            Work::Done(done) => done,
            Work::Thread(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(OpenError::Io { what: "reading the log".into(), source: panicked() })),
        }
    }
}

impl<D: Disk> Drop for Retention<D> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A directory that is given back is not written to any more.
        match std::mem::take(&mut self.stage) {
            Stage::Archiving(work) => drop(work.wait()),
            Stage::Removing(work) => drop(work.wait()),
            Stage::Idle | Stage::Archived { .. } | Stage::NoRoom { .. } => {}
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

    /// Keeps segments for so long from here on.
    pub(super) fn keep(&mut self, span: Duration) {
        if self.keep != span {
            (self.keep, self.looked_at) = (span, None);
        }
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

    /// A step did not get to its end. It begins anew with a look, which finds all that is done already.
    fn stopped(&mut self, why: &OpenError, now: Timestamp) {
        if why.is_full() {
            tracing::warn!(%why, "segments that are not needed stay until there is room for their records in the archive");
            self.stage = Stage::NoRoom { until: now.plus(ROOM_AGAIN) };
        } else {
            tracing::error!(%why, "retention stopped: the log keeps growing until a restart; see meterd verify");
            self.failure = Some(why.to_string());
        }
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
        match self.retention.stage {
            Stage::Idle => None,
            Stage::NoRoom { until } => Some(until),
            _ => Some(now.plus(AGAIN)),
        }
    }

    /// Takes one step, if one is due. What it appends is durable when it returns.
    pub(super) fn retain(&mut self, now: Timestamp) -> Result<(), LogError> {
        match std::mem::take(&mut self.retention.stage) {
            Stage::Idle => self.begin_look(now),
            // A clock that was set back does not make it wait longer.
            Stage::NoRoom { until } if until <= now || until.since(now) > ROOM_AGAIN => self.begin_look(now),
            Stage::Archiving(work) if work.is_done() => match work.wait() {
                Ok(looked) => self.looked(looked, now),
                Err(why) => self.retention.stopped(&why, now),
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
                Err(why) => self.retention.stopped(&why, now),
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
            open_until: open_until(&self.state),
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
