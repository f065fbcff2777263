//! The index on disk: one sled tree, written in atomic batches. The only file that knows sled.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use sled::Batch;

use super::run::{self, Page, Run};
use super::{Fresh, KeyHash, Known};
use crate::entry::{CodecError, DimensionId, RecordKey, decode, encode};
use crate::hour::Hour;
use crate::rollup::state::RecordState;
use crate::wal::LogId;

/// Bytes that sled may keep in memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

// First byte of a key of the tree. All live in one tree, because a sled batch is atomic within one tree only.
const META: &[u8] = b"m";
const PAGE: u8 = b'p';
const RUN: u8 = b'q';
const RECORD: u8 = b'r';

/// An open sled database that belongs to the log.
pub(super) struct Store {
    /// `None` only while it is being dropped.
    db: Option<sled::Db>,
    log: LogId,
    /// What is in memory of the runs, oldest first.
    runs: RwLock<Vec<Arc<Run>>>,
}

/// Removes it from the disk.
pub(super) fn wipe(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(dir),
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
    /// succeeds proves nothing, so the tag is checked, and that each run's pages are there.
    pub(super) fn open(dir: &Path, log: LogId) -> Result<Self, String> {
        // The log is what is durable: sled's own flushing is only there so that a restart finds most of it.
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(1000));
        let store = Store { db: Some(guarded(|| config.open())?), log, runs: RwLock::default() };
        match guarded(|| store.db()?.get(META))? {
            None if guarded(|| Ok(store.db()?.is_empty()))? => {
                let tag = encode(&(log, 0u64)).map_err(text)?;
                guarded(|| store.db()?.insert(META, tag))?;
            }
            None => return Err("it has no tag".into()),
            Some(tag) => {
                let (found, _): (LogId, u64) = decode(&tag).map_err(text)?;
                if found != log {
                    return Err(format!("it belongs to log {found}"));
                }
            }
        }
        let runs = store.read_runs()?;
        *store.runs.write().unwrap_or_else(PoisonError::into_inner) = runs;
        Ok(store)
    }

    fn db(&self) -> sled::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| sled::Error::Unsupported("the index is closed".into()))
    }

    fn read_runs(&self) -> Result<Vec<Arc<Run>>, String> {
        let mut runs = Vec::new();
        let mut pages = 0;
        guarded(|| {
            for item in self.db()?.scan_prefix([RUN]) {
                runs.push(item?.1);
            }
            pages = self.db()?.scan_prefix([PAGE]).keys().filter(Result::is_ok).count();
            Ok(())
        })?;
        let runs: Vec<Run> = runs.iter().map(|bytes| decode(bytes).map_err(text)).collect::<Result<_, _>>()?;
        if runs.iter().map(Run::pages).sum::<usize>() != pages {
            return Err("pages of it are missing".into());
        }
        Ok(runs.into_iter().map(Arc::new).collect())
    }

    /// The number of the last frame applied; 0 if that cannot be told.
    pub(super) fn applied(&self) -> u64 {
        let tag = guarded(|| self.db()?.get(META)).ok().flatten();
        tag.and_then(|tag| decode::<(LogId, u64)>(&tag).ok()).map_or(0, |(_, applied)| applied)
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<(), String> {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).clear();
        guarded(|| self.db()?.clear())
    }

    /// What is known of a key: the newest run that has it speaks.
    pub(super) fn key(&self, hash: &KeyHash) -> Result<Option<Known>, String> {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        for (run, at) in runs.iter().rev().filter_map(|run| Some((run, run.page_of(hash)?))) {
            let bytes = guarded(|| self.db()?.get(page_name(run.id, at)))?;
            let bytes = bytes.ok_or_else(|| format!("page {at} of run {} is missing", run.id))?;
            let page: Page = decode(&bytes).map_err(text)?;
            if let Some(known) = run::find(&page, hash) {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Writes one batch, all or nothing, and drops the runs whose keys have all expired before `now`.
    pub(super) fn apply(&self, fresh: &Fresh, now: Hour) -> Result<(), String> {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner).clone();
        let id = runs.last().map_or(0, |run| run.id + 1);
        let mut batch = Batch::default();
        let mut added = None;
        if !fresh.keys.is_empty() {
            let (run, pages) = Run::build(id, fresh.keys.iter().map(|(hash, known)| (*hash, *known)));
            for (at, page) in pages.iter().enumerate() {
                batch.insert(page_name(run.id, at), encode(page).map_err(text)?);
            }
            batch.insert(run_name(run.id), encode(&run).map_err(text)?);
            added = Some(Arc::new(run));
        }
        for record in &fresh.records {
            batch.insert(record_name(&record.record.key), encode(record).map_err(text)?);
        }
        for name in self.records_before(fresh.forget_before)? {
            batch.remove(name);
        }
        let (mut kept, expired): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.expires >= now.index());
        for run in &expired {
            batch.remove(run_name(run.id));
            (0..run.pages()).for_each(|at| batch.remove(page_name(run.id, at)));
        }
        batch.insert(META, encode(&(self.log, fresh.applied)).map_err(text)?);
        guarded(|| self.db()?.apply_batch(batch))?;
        kept.extend(added);
        *self.runs.write().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(())
    }

    fn records_before(&self, hour: Hour) -> Result<Vec<sled::IVec>, String> {
        let end = record_name(&RecordKey { hour, dimension: DimensionId(0), generation: 0 });
        guarded(|| self.db()?.range([RECORD].as_slice()..end.as_slice()).keys().collect())
    }

    /// Every record in it, oldest first.
    pub(super) fn records(&self) -> Result<Vec<RecordState>, String> {
        let mut records = Vec::new();
        let db = self.db().map_err(|e| e.to_string())?;
        for item in db.scan_prefix([RECORD]) {
            let (_, bytes) = item.map_err(|e| e.to_string())?;
            records.push(decode(&bytes).map_err(text)?);
        }
        Ok(records)
    }
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

fn run_name(id: u64) -> Vec<u8> {
    [&[RUN], id.to_be_bytes().as_slice()].concat()
}

fn page_name(run: u64, at: usize) -> Vec<u8> {
    [&[PAGE], run.to_be_bytes().as_slice(), &(at as u32).to_be_bytes()].concat()
}

fn record_name(key: &RecordKey) -> Vec<u8> {
    let hour = key.hour.index().to_be_bytes();
    let (dimension, generation) = (key.dimension.0.to_be_bytes(), key.generation.to_be_bytes());
    [&[RECORD], hour.as_slice(), &dimension, &generation].concat()
}
