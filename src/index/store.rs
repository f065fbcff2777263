//! The index on disk. sled holds what has to change all at once: the tag, the catalogue of runs, and the final records.
//! The keys themselves lie in the runs' files beside it. The only file that knows sled.
//!
//! Keys would fit into sled too, and did: as pages of 8 KiB it took 70 MB a second (files: 1100), needed 1.6 times their
//! space, and at 200 MB spent 250 ms on opening and another 300 ms on showing that every page was there. In the
//! catalogue stand some twenty short rows however many keys there are.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};
use sled::Batch;

use super::filter::Probe;
use super::run::{Item, Place, Run, RunWriter};
use super::{Fresh, KeyHash, Known, Secret, merge};
use crate::entry::{CodecError, DimensionId, RecordKey, decode, encode};
use crate::hour::Hour;
use crate::rollup::state::RecordState;
use crate::wal::LogId;

/// Bytes that sled may keep in memory.
const CACHE_BYTES: u64 = 2 * 1024 * 1024;

/// How often sled looks for space to reclaim; it syncs and wakes up then.
const RECLAIM_EVERY_MS: u64 = 60_000;
/// Where the runs lie, below the index's directory.
const RUNS_DIR: &str = "runs";

// First byte of a key of the tree. All live in one tree, because a sled batch is atomic within one tree only.
const TAG: &[u8] = b"m";
const RUN: u8 = b'q';
const RECORD: u8 = b'r';

/// Whose index it is, and how far it goes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Tag {
    log: LogId,
    secret: Secret,
    /// The number of the last frame applied.
    applied: u64,
}

/// An open index that belongs to the log.
pub(super) struct Store {
    /// `None` only while it is being dropped.
    db: Option<sled::Db>,
    dir: PathBuf,
    /// Held while the catalogue changes.
    tag: Mutex<Tag>,
    runs: RwLock<Vec<Arc<Run>>>,
    next_run: AtomicU64,
    /// Keys that are forgotten before this hour need not be kept.
    now: AtomicU32,
    /// Keys that are still remembered then.
    live: AtomicU64,
}

/// Removes it from the disk.
pub(super) fn wipe(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(dir),
        done => done,
    }
}

impl Drop for Store {
    /// sled writes when it is closed, and panics if the disk has failed: what it could not write comes from the log again.
    fn drop(&mut self) {
        let db = self.db.take();
        let closed = guarded(|| {
            drop(db);
            Ok(())
        });
        if let Err(why) = closed {
            tracing::warn!(why, "the index could not be closed");
        }
    }
}

impl Store {
    /// Opens or makes it. sled may panic on files it does not like; that is an error like any other here. An open that
    /// succeeds proves nothing, so the tag is checked, and every run against the catalogue.
    pub(super) fn open(dir: &Path, log: LogId) -> Result<Self, String> {
        let runs_dir = dir.join(RUNS_DIR);
        fs::create_dir_all(&runs_dir).map_err(|e| e.to_string())?;
        // Its own flushing syncs and wakes up also where nothing was written; the keeper asks for what is wanted, and this
        // is left for the space that sled reclaims beside it.
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(RECLAIM_EVERY_MS));
        let db = guarded(|| config.open())?;
        let tag = match guarded(|| db.get(TAG))? {
            None if db.is_empty() => {
                let tag = Tag { log, secret: Secret::draw(), applied: 0 };
                let bytes = encode(&tag).map_err(text)?;
                guarded(|| db.insert(TAG, bytes))?;
                tag
            }
            None => return Err("it has no tag".into()),
            Some(tag) => decode(&tag).map_err(text)?,
        };
        if tag.log != log {
            return Err(format!("it belongs to log {}", tag.log));
        }
        let runs = read_runs(&db, &runs_dir)?;
        let next_run = runs.iter().map(|run| run.id + 1).max().unwrap_or(0);
        let store = Store {
            db: Some(db),
            dir: runs_dir,
            tag: Mutex::new(tag),
            runs: RwLock::new(runs),
            next_run: next_run.into(),
            now: AtomicU32::default(),
            live: AtomicU64::default(),
        };
        store.count_live();
        Ok(store)
    }

    fn db(&self) -> sled::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| sled::Error::Unsupported("the index is closed".into()))
    }

    fn tag(&self) -> MutexGuard<'_, Tag> {
        self.tag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> RwLockReadGuard<'_, Vec<Arc<Run>>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the last frame applied.
    pub(super) fn applied(&self) -> u64 {
        self.tag().applied
    }

    /// What its keys are hashed with.
    pub(super) fn secret(&self) -> Secret {
        self.tag().secret
    }

    /// How many keys it remembers.
    pub(super) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// How many runs a lookup asks.
    pub(super) fn run_count(&self) -> usize {
        self.runs().len()
    }

    /// The hour before which keys are forgotten.
    pub(super) fn now(&self) -> Hour {
        Hour::from_index(self.now.load(Ordering::Relaxed))
    }

    /// What is known of a key. Where it was forgotten and used anew, the later use speaks.
    pub(super) fn key(&self, hash: KeyHash) -> Result<Option<Known>, String> {
        let mut newest: Option<Known> = None;
        let probe = Probe::of(hash.0);
        for run in self.runs().iter().filter(|run| run.may_have(&probe)) {
            let found = run.find(hash)?;
            if found.map(|known| known.seq) > newest.map(|known| known.seq) {
                newest = found;
            }
        }
        Ok(newest)
    }

    /// Writes what has gathered, all or nothing, and drops the runs whose keys have all been forgotten before `now`.
    pub(super) fn apply(&self, fresh: &Fresh, now: Hour) -> Result<(), String> {
        self.now.store(now.index(), Ordering::Relaxed);
        let mut sorted: Vec<Item> = fresh.keys.iter().map(|(hash, known)| (hash.0, *known)).collect();
        sorted.sort_unstable_by_key(|(hash, _)| *hash);
        let mut added = None;
        if !sorted.is_empty() {
            let mut writer = self.new_run(sorted.len() as u64)?;
            sorted.into_iter().try_for_each(|item| writer.push(item)).map_err(|e| e.to_string())?;
            added = Some(writer.finish()?);
        }
        let mut batch = Batch::default();
        for record in &fresh.records {
            batch.insert(record_name(&record.record.key), encode(record).map_err(text)?);
        }
        for name in self.records_before(fresh.forget_before)? {
            batch.remove(name);
        }
        let forgotten: Vec<_> = self.runs().iter().filter(|run| run.live(now) == 0).cloned().collect();
        self.change(batch, &forgotten, added, Some(fresh.applied))
    }

    /// Has sled write what it holds back.
    pub(super) fn flush(&self) -> Result<(), String> {
        guarded(|| self.db()?.flush()).map(drop)
    }

    /// A file for another run.
    pub(super) fn new_run(&self, keys: u64) -> Result<RunWriter, String> {
        let id = self.next_run.fetch_add(1, Ordering::Relaxed);
        RunWriter::new(&file_name(&self.dir, id), id, keys).map_err(|e| format!("making run {id}: {e}"))
    }

    /// Merges some runs if that is due; whether it was.
    pub(super) fn merge(&self, stop: &dyn Fn() -> bool) -> Result<bool, String> {
        let Some(old) = merge::due(&self.runs(), self.now()) else { return Ok(false) };
        let new = merge::merge(&old, self, stop)?;
        self.change(Batch::default(), &old, new, None)?;
        Ok(true)
    }

    /// Changes the catalogue in one step: `old` runs go, `new` comes.
    fn change(&self, mut batch: Batch, old: &[Arc<Run>], new: Option<Run>, applied: Option<u64>) -> Result<(), String> {
        let mut tag = self.tag();
        for run in old {
            batch.remove(run_name(run.id));
        }
        if let Some(run) = &new {
            batch.insert(run_name(run.id), encode(&run.place).map_err(text)?);
        }
        let next = Tag { applied: applied.unwrap_or(tag.applied), ..*tag };
        batch.insert(TAG, encode(&next).map_err(text)?);
        guarded(|| self.db()?.apply_batch(batch))?;
        *tag = next;
        {
            let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
            runs.retain(|run| old.iter().all(|gone| gone.id != run.id));
            runs.extend(new.map(Arc::new));
        }
        self.count_live();
        if !old.is_empty() {
            // What a killed process leaves of sled may be a second old: it must still find the files that it names then.
            self.flush()?;
            for run in old {
                // One that stays is removed at the next start.
                let _ = fs::remove_file(file_name(&self.dir, run.id));
            }
        }
        Ok(())
    }

    fn count_live(&self) {
        let now = self.now();
        self.live.store(self.runs().iter().map(|run| run.live(now)).sum(), Ordering::Relaxed);
    }

    fn records_before(&self, hour: Hour) -> Result<Vec<sled::IVec>, String> {
        let end = record_name(&RecordKey { hour, dimension: DimensionId(0), generation: 0 });
        guarded(|| self.db()?.range([RECORD].as_slice()..end.as_slice()).keys().collect())
    }

    /// Every record in it, oldest first.
    pub(super) fn records(&self) -> Result<Vec<RecordState>, String> {
        let rows = guarded(|| self.db()?.scan_prefix([RECORD]).values().collect::<sled::Result<Vec<_>>>())?;
        rows.iter().map(|bytes| decode(bytes).map_err(text)).collect()
    }
}

/// Opens the runs that the catalogue names, and removes the files that it does not.
fn read_runs(db: &sled::Db, dir: &Path) -> Result<Vec<Arc<Run>>, String> {
    let rows = guarded(|| db.scan_prefix([RUN]).collect::<sled::Result<Vec<_>>>())?;
    let mut runs = Vec::new();
    for (name, place) in rows {
        let id =
            name.get(1..).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes).ok_or("a run without a number")?;
        let place: Place = decode(&place).map_err(text)?;
        runs.push(Arc::new(Run::open(&file_name(dir, id), id, place)?));
    }
    let named: HashSet<PathBuf> = runs.iter().map(|run| file_name(dir, run.id)).collect();
    for entry in fs::read_dir(dir).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if !named.contains(&path) {
            fs::remove_file(&path).map_err(|e| format!("removing {}: {e}", path.display()))?;
        }
    }
    Ok(runs)
}

fn text(error: CodecError) -> String {
    error.to_string()
}

fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err("sled panicked".into()),
    }
}

fn file_name(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016}.run"))
}

fn run_name(id: u64) -> Vec<u8> {
    [&[RUN], id.to_be_bytes().as_slice()].concat()
}

fn record_name(key: &RecordKey) -> Vec<u8> {
    let hour = key.hour.index().to_be_bytes();
    let (dimension, generation) = (key.dimension.0.to_be_bytes(), key.generation.to_be_bytes());
    [&[RECORD], hour.as_slice(), &dimension, &generation].concat()
}
