//! The index on disk: one sled tree, written in atomic batches. The only file that knows sled.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sled::Batch;

use super::{Fresh, KeyHash, Known};
use crate::entry::{RecordKey, decode, encode};
use crate::hour::Hour;
use crate::rollup::state::RecordState;
use crate::wal::LogId;

/// Bytes that sled may keep in memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Keys that one batch may forget, so that forgetting never holds up remembering.
const FORGET_MAX: usize = 8192;

// First byte of a key of the tree. All live in one tree, because a sled batch is atomic within one tree only.
const META: &[u8] = b"m";
const KEY: u8 = b'k';
const EXPIRY: u8 = b'x';
const RECORD: u8 = b'r';

/// An open sled database that belongs to the log.
pub(super) struct Store {
    db: sled::Db,
    log: LogId,
}

/// Removes it from the disk.
pub(super) fn wipe(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

impl Store {
    /// Opens or makes it. sled may panic on files it does not like; that is an error like any other here. An open that
    /// succeeds proves nothing, so the tag is checked too.
    pub(super) fn open(dir: &Path, log: LogId) -> Result<Self, String> {
        // The log is what is durable: sled's own flushing is only there so that a restart finds most of it.
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(1000));
        let opened = guarded(|| config.open())?;
        let store = Store { db: opened, log };
        match guarded(|| store.db.get(META))? {
            None if store.db.is_empty() => {
                let tag = encode(&(log, 0u64)).map_err(|e| e.to_string())?;
                guarded(|| store.db.insert(META, tag))?;
            }
            None => return Err("it has no tag".into()),
            Some(tag) => {
                let (found, _): (LogId, u64) = decode(&tag).map_err(|e| e.to_string())?;
                if found != log {
                    return Err(format!("it belongs to log {found}"));
                }
            }
        }
        Ok(store)
    }

    /// The number of the last frame applied; 0 if that cannot be told.
    pub(super) fn applied(&self) -> u64 {
        let tag = guarded(|| self.db.get(META)).ok().flatten();
        tag.and_then(|tag| decode::<(LogId, u64)>(&tag).ok()).map_or(0, |(_, applied)| applied)
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<(), String> {
        guarded(|| self.db.clear())
    }

    pub(super) fn key(&self, hash: &KeyHash) -> Result<Option<Known>, String> {
        let found = guarded(|| self.db.get(key_name(hash)))?;
        found.map(|bytes| decode(&bytes).map_err(|e| e.to_string())).transpose()
    }

    /// Writes one batch, all or nothing, and forgets keys that expired before `now`.
    pub(super) fn apply(&self, fresh: &Fresh, now: Hour) -> Result<(), String> {
        let mut batch = Batch::default();
        let text = |e: crate::entry::CodecError| e.to_string();
        for (hash, known) in &fresh.keys {
            batch.insert(&key_name(hash), encode(known).map_err(text)?);
            batch.insert(expiry_name(known.expires, hash).as_slice(), &[]);
        }
        for record in &fresh.records {
            batch.insert(record_name(&record.record.key), encode(record).map_err(text)?);
        }
        for name in self.db.range([EXPIRY].as_slice()..expiry_start(now).as_slice()).keys().take(FORGET_MAX) {
            let name = name.map_err(|e| e.to_string())?;
            // x | hour | hash: a key that was remembered again has another expiry and stays.
            if let Some((_, rest)) = name.split_first_chunk::<5>()
                && let Ok(hash) = <[u8; 16]>::try_from(rest)
                && self.key(&KeyHash(hash))?.is_none_or(|known| known.expires < now)
            {
                batch.remove(&key_name(&KeyHash(hash)));
            }
            batch.remove(name);
        }
        batch.insert(META, encode(&(self.log, fresh.applied)).map_err(text)?);
        guarded(|| self.db.apply_batch(batch))
    }

    /// Every record in it, oldest first.
    pub(super) fn records(&self) -> Result<Vec<RecordState>, String> {
        let mut records = Vec::new();
        for item in self.db.scan_prefix([RECORD]) {
            let (_, bytes) = item.map_err(|e| e.to_string())?;
            records.push(decode(&bytes).map_err(|e| e.to_string())?);
        }
        Ok(records)
    }
}

fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err("sled panicked".into()),
    }
}

fn key_name(hash: &KeyHash) -> [u8; 17] {
    let mut name = [KEY; 17];
    if let Some(tail) = name.last_chunk_mut::<16>() {
        *tail = hash.0;
    }
    name
}

fn expiry_start(hour: Hour) -> Vec<u8> {
    [&[EXPIRY], hour.index().to_be_bytes().as_slice()].concat()
}

fn expiry_name(hour: Hour, hash: &KeyHash) -> Vec<u8> {
    [expiry_start(hour).as_slice(), &hash.0].concat()
}

fn record_name(key: &RecordKey) -> Vec<u8> {
    let hour = key.hour.index().to_be_bytes();
    let (dimension, generation) = (key.dimension.0.to_be_bytes(), key.generation.to_be_bytes());
    [&[RECORD], hour.as_slice(), &dimension, &generation].concat()
}
