//! The thread that keeps the index: opens it, brings it up to the log, writes what is new. No answer waits for it but
//! where more than a few batches have gathered.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::merger::Merger;
use super::store::{Store, wipe};
use super::{BATCH, Behind, Fresh, Intake, Source};
use crate::hour::Hour;
use crate::wal::LogId;

/// Batches that may wait for the store: bounds the keys held in memory.
const QUEUE: usize = 2;
/// While the index is brought up to the log it is written at least every so many frames, so that one that is broken off
/// goes on where it was.
const FRAMES_AT_ONCE: u64 = 16_384;
/// How long to wait before a rebuild that failed is tried again: at first, and at most.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long opening may take before the index is made anew: far longer than any that was measured.
const OPEN_MAX: Duration = Duration::from_secs(30);
/// What was written to the store is on disk after this long: the log is what is durable, but a restart is to find most.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How often who waits for that looks whether the agent stops.
const LOOK_EVERY: Duration = Duration::from_millis(100);

enum Job {
    Build { source: Source, through: u64, now: Hour },
    Write(Arc<Fresh>, Hour),
}

enum Stage {
    Behind(Behind),
    Ready(Arc<Store>),
}

/// What the core sees of the thread.
struct Shared {
    stage: Mutex<Stage>,
    changed: Condvar,
    /// The last frame number in the store.
    written: AtomicU64,
    /// The store has failed, in writing or in reading, and is to be made anew.
    broken: Arc<AtomicBool>,
    /// Whatever takes long is to be broken off.
    stopping: Arc<AtomicBool>,
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, stage: Stage) {
        *self.stage() = stage;
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The core's end.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    /// Batches that may not be in the store yet, oldest first.
    pub(super) unwritten: VecDeque<Arc<Fresh>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, which opens the index in `dir` at once.
    pub(super) fn start(dir: &Path, log: LogId) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stage: Mutex::new(Stage::Behind(Behind::Opening)),
            changed: Condvar::new(),
            written: AtomicU64::new(0),
            broken: Arc::default(),
            stopping: Arc::default(),
        });
        let (jobs, todo) = sync_channel(QUEUE);
        let builder = Builder { dir: dir.to_owned(), log, shared: Arc::clone(&shared) };
        let thread = thread::Builder::new().name("index".into()).spawn(move || builder.run(&todo))?;
        Ok(Keeper { shared, jobs: Some(jobs), unwritten: VecDeque::new(), thread: Some(thread) })
    }

    /// Has it brought up to frame `through`, from what is there or, after a failure, from nothing.
    pub(super) fn build(&mut self, source: Source, through: u64, now: Hour) {
        self.unwritten.clear();
        self.shared.set(Stage::Behind(Behind::Opening));
        self.send(Job::Build { source, through, now });
    }

    pub(super) fn write(&mut self, batch: Fresh, now: Hour) {
        let batch = Arc::new(batch);
        self.unwritten.push_back(Arc::clone(&batch));
        self.send(Job::Write(batch, now));
    }

    fn send(&mut self, job: Job) {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            let why = "its thread has died; a restart of the agent makes it anew".into();
            self.shared.set(Stage::Behind(Behind::Failed(why)));
        }
    }

    /// Lets go of batches that are in the store by now.
    pub(super) fn sweep(&mut self) {
        let written = self.shared.written.load(Ordering::Acquire);
        while self.unwritten.front().is_some_and(|batch| batch.applied <= written) {
            self.unwritten.pop_front();
        }
    }

    /// The store, if it can be asked.
    pub(super) fn store(&self) -> Option<Arc<Store>> {
        match &*self.shared.stage() {
            Stage::Ready(store) => Some(Arc::clone(store)),
            Stage::Behind(_) => None,
        }
    }

    pub(super) fn behind(&self) -> Option<Behind> {
        match &*self.shared.stage() {
            Stage::Ready(_) => None,
            Stage::Behind(behind) => Some(behind.clone()),
        }
    }

    /// Waits until it can be asked, but not for long.
    pub(super) fn wait(&self, most: Duration) {
        let is_behind = |stage: &mut Stage| matches!(stage, Stage::Behind(_));
        // Who waited in vain is told so at the first lookup.
        drop(self.shared.changed.wait_timeout_while(self.shared.stage(), most, is_behind));
    }

    /// Notes that what was read cannot be trusted.
    pub(super) fn doubt(&self) {
        self.shared.broken.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Keeper {
    /// Waits for what was handed over; a rebuild is broken off.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked left a gap, which the next start finds.
            let _ = thread.join();
        }
    }
}

/// The thread's end.
struct Builder {
    dir: PathBuf,
    log: LogId,
    shared: Arc<Shared>,
}

type Open = (Arc<Store>, Merger);

impl Builder {
    fn run(self, todo: &Receiver<Job>) {
        let mut first = Some(self.open());
        let mut open: Option<Open> = None;
        // Since when something is held back in memory.
        let mut unflushed: Option<Instant> = None;
        loop {
            let job = match unflushed {
                Some(since) => todo.recv_timeout(FLUSH_AFTER.saturating_sub(since.elapsed())),
                None => todo.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Job::Build { source, through, now }) => {
                    // What failed is closed before another is made in its place.
                    drop(open.take());
                    open = self.build(&mut first, &source, through, now);
                    unflushed.get_or_insert_with(Instant::now);
                }
                // After a failure nothing more is marked as written until the core has asked for another build.
                Ok(Job::Write(_, _)) if self.shared.broken.load(Ordering::Relaxed) => {}
                Ok(Job::Write(batch, now)) => {
                    let Some((store, merger)) = &open else { continue };
                    if self.is_written(store.apply(&batch, now)) {
                        self.shared.written.store(batch.applied, Ordering::Release);
                    }
                    merger.keep_up(store);
                    unflushed.get_or_insert_with(Instant::now);
                }
            }
            if unflushed.is_some_and(|since| since.elapsed() >= FLUSH_AFTER) {
                unflushed = None;
                if let Some((store, _)) = &open {
                    self.is_written(store.flush());
                }
            }
        }
    }

    /// Has it made anew where it was not.
    fn is_written(&self, done: Result<(), String>) -> bool {
        if let Err(why) = &done {
            tracing::error!(why, "the index cannot be written; making it anew from the log");
            self.shared.broken.store(true, Ordering::Relaxed);
        }
        done.is_ok()
    }

    fn open(&self) -> Result<Open, String> {
        let store = Arc::new(self.open_in_time()?);
        let (broken, stopping) = (Arc::clone(&self.shared.broken), Arc::clone(&self.shared.stopping));
        let merger = Merger::start(Arc::clone(&store), broken, stopping).map_err(|e| e.to_string())?;
        Ok((store, merger))
    }

    /// Opens the store, unless it takes so long that it may never end: what a power cut left can keep sled busy for good.
    /// It has a thread of its own then, which stays behind with files that nobody else will use.
    fn open_in_time(&self) -> Result<Store, String> {
        let (done, opened) = sync_channel(1);
        let (dir, log) = (self.dir.clone(), self.log);
        let open = move || {
            // Whoever has waited too long does not want it any more.
            let _ = done.send(Store::open(&dir, log));
        };
        thread::Builder::new().name("index-open".into()).spawn(open).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        while begun.elapsed() < OPEN_MAX && !self.shared.is_stopping() {
            match opened.recv_timeout(LOOK_EVERY) {
                Ok(store) => return store,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("opening it panicked".into()),
            }
        }
        Err(format!("it could not be opened within {} s", OPEN_MAX.as_secs()))
    }

    /// Tries until it succeeds or the agent stops.
    fn build(
        &self,
        first: &mut Option<Result<Open, String>>,
        source: &Source,
        through: u64,
        now: Hour,
    ) -> Option<Open> {
        let (mut pause, longest) = AGAIN_AFTER;
        loop {
            // What is in doubt is not looked at again.
            let opened = first.take().unwrap_or_else(|| Err("it has failed".into()));
            self.shared.broken.store(false, Ordering::Relaxed);
            let failed = match opened.and_then(|open| self.check(open, through)).or_else(|why| self.anew(&why)) {
                Ok(open) => match self.catch_up(&open, source, through, now) {
                    Ok(()) => {
                        self.shared.written.store(open.0.applied(), Ordering::Release);
                        self.shared.set(Stage::Ready(Arc::clone(&open.0)));
                        return Some(open);
                    }
                    Err(why) => why,
                },
                Err(why) => why,
            };
            if self.shared.is_stopping() {
                return None;
            }
            tracing::error!(why = failed, again_in_s = pause.as_secs(), "the index cannot be made; trying again");
            self.shared.set(Stage::Behind(Behind::Failed(failed)));
            let waiting = |_: &mut Stage| !self.shared.is_stopping();
            drop(self.shared.changed.wait_timeout_while(self.shared.stage(), pause, waiting));
            pause = (pause * 2).min(longest);
        }
    }

    fn check(&self, open: Open, through: u64) -> Result<Open, String> {
        if open.0.applied() > through { Err("it is ahead of the log".into()) } else { Ok(open) }
    }

    fn anew(&self, why: &str) -> Result<Open, String> {
        tracing::warn!(why, "the index is not usable; making it anew from the log");
        wipe(&self.dir).map_err(|e| format!("removing {}: {e}", self.dir.display()))?;
        self.open()
    }

    /// Reads into the store what the log has up to frame `through` and it has not.
    fn catch_up(&self, (store, merger): &Open, source: &Source, through: u64, now: Hour) -> Result<(), String> {
        let from = store.applied() + 1;
        if from > through {
            return Ok(());
        }
        tracing::info!(from, through, "bringing the index up to the log");
        let mut last = from;
        let mut reached = |fresh: &mut Fresh| {
            if self.shared.is_stopping() || self.shared.broken.load(Ordering::Relaxed) {
                return Err("it was broken off".into());
            }
            if fresh.len() >= BATCH || fresh.applied - last >= FRAMES_AT_ONCE {
                last = fresh.applied;
                store.apply(&std::mem::take(fresh), now)?;
                merger.keep_up(store);
                self.shared.set(Stage::Behind(Behind::Reading { done: last, through }));
            }
            Ok(())
        };
        let mut intake = Intake::new(store.secret(), now, &mut reached);
        source(from, through, &mut intake)?;
        let mut rest = intake.into_fresh();
        rest.applied = through;
        store.apply(&rest, now)
    }
}
