//! The index: idempotency keys, and the records that are final. A cache derived from the log.
//!
//! It is tagged with the log's identity and the number of the last frame applied, and thrown away and rebuilt from the
//! log on any doubt: an error, a panic while opening, another log's tag, a gap. What was not yet applied when the agent
//! died is applied again from the log. It never decides what may be deleted.

mod run;
mod store;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hour::Hour;
use crate::rollup::state::RecordState;
use crate::wal::LogId;
use store::Store;
use writer::Writer;

/// A caller's key: the first half of SHA-256 over the writing user and the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 16]);

/// What is remembered of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The increment's number.
    pub seq: u64,
    /// A digest of the increment's content.
    pub content: [u8; 16],
    /// The last hour in which it is remembered.
    pub expires: Hour,
}

/// Half of SHA-256 over `parts`, each with its length.
pub fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let full: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(full.first_chunk::<16>().unwrap_or(&[0; 16]));
    half
}

/// What has happened since the index was last written.
#[derive(Debug, Clone, Default)]
struct Fresh {
    keys: HashMap<KeyHash, Known>,
    records: Vec<RecordState>,
    /// Records of hours before it are to be forgotten.
    forget_before: Hour,
    /// All frames up to this number are in here or in the store.
    applied: u64,
}

impl Fresh {
    fn len(&self) -> usize {
        self.keys.len() + self.records.len()
    }
}

/// As many keys and records are handed to the store at once. Bounds what is held in memory, together with the writer's
/// queue; a large batch makes few runs, and each run costs a lookup a probe.
const BATCH: usize = 16_384;

/// The index of one log.
pub struct Index {
    fresh: Fresh,
    writer: Option<Writer>,
}

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the index at {path}: {why}")]
pub struct IndexError {
    path: String,
    why: String,
}

impl Index {
    /// An index that lives in memory only, for simulations.
    pub fn in_memory() -> Self {
        Index { fresh: Fresh::default(), writer: None }
    }

    /// Opens the index in `dir`, wiping it first if it cannot be trusted to belong to `log`.
    pub fn open(dir: &Path, log: LogId) -> Result<Self, IndexError> {
        let failed = |why: String| IndexError { path: dir.display().to_string(), why };
        let store = match Store::open(dir, log) {
            Ok(store) => store,
            Err(why) => {
                tracing::warn!(why, "the index is not usable; making it anew from the log");
                store::wipe(dir).map_err(|e| failed(e.to_string()))?;
                Store::open(dir, log).map_err(failed)?
            }
        };
        let fresh = Fresh { applied: store.applied(), ..Fresh::default() };
        let writer = Writer::start(Arc::new(store)).map_err(|e| failed(e.to_string()))?;
        Ok(Index { fresh, writer: Some(writer) })
    }

    /// Empties it, to be rebuilt from the log.
    pub fn clear(&mut self) -> Result<(), String> {
        self.fresh = Fresh::default();
        self.writer.as_mut().map_or(Ok(()), Writer::clear)
    }

    /// Everything up to this frame of the log is in it.
    pub fn applied(&self) -> u64 {
        self.fresh.applied
    }

    /// What is known of a key. An error means that nobody can tell, which is not the same as unknown.
    pub fn key(&self, hash: &KeyHash) -> Result<Option<Known>, String> {
        match (self.fresh.keys.get(hash), &self.writer) {
            (Some(known), _) => Ok(Some(*known)),
            (None, Some(writer)) => writer.key(hash),
            (None, None) => Ok(None),
        }
    }

    /// Remembers a key.
    pub fn add_key(&mut self, hash: KeyHash, known: Known) {
        self.fresh.keys.insert(hash, known);
    }

    /// Keeps a record that is final.
    pub fn add_record(&mut self, record: RecordState) {
        self.fresh.records.push(record);
    }

    /// Forgets the records of hours before this one.
    pub fn forget_before(&mut self, hour: Hour) {
        self.fresh.forget_before = hour;
    }

    /// Notes that the log is durable up to frame `seq`, all of which has been added; hands over to the store what has
    /// gathered, now and then, or with `force` at once. `now` is the hour in which keys are forgotten.
    pub fn advance(&mut self, seq: u64, now: Hour, force: bool) {
        self.fresh.applied = seq;
        if let Some(writer) = &mut self.writer
            && (force || self.fresh.len() >= BATCH)
        {
            let batch = std::mem::take(&mut self.fresh);
            (self.fresh.applied, self.fresh.forget_before) = (batch.applied, batch.forget_before);
            writer.write(batch, now);
        }
    }

    /// A view of the final records, for another thread.
    pub fn history(&self) -> History {
        let mut recent = self.fresh.records.clone();
        let store = self.writer.as_ref().map(|writer| {
            recent.extend(writer.unwritten_records());
            writer.store()
        });
        History { recent, store, from: self.fresh.forget_before }
    }

    /// Writes what is left and waits for it.
    pub fn close(mut self, now: Hour) {
        let seq = self.fresh.applied;
        self.advance(seq, now, true);
    }
}

/// Final records: those in the store, and those on the way there.
pub struct History {
    recent: Vec<RecordState>,
    store: Option<Arc<Store>>,
    /// The first hour that is not forgotten.
    from: Hour,
}

impl History {
    /// All of them, oldest first.
    pub fn read(self) -> Result<Vec<RecordState>, String> {
        let mut records = self.recent;
        if let Some(store) = self.store {
            records.extend(store.records()?);
        }
        records.retain(|r| r.record.key.hour >= self.from);
        records.sort_by_key(|r| r.record.key);
        records.dedup_by_key(|r| r.record.key);
        Ok(records)
    }
}
