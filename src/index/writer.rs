//! The thread that writes the index, so that no answer waits for sled.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::store::Store;
use super::{Fresh, KeyHash, Known};
use crate::hour::Hour;
use crate::rollup::state::RecordState;

/// Batches that may wait for the store: bounds the keys held in memory.
const QUEUE: usize = 4;

type Job = (Arc<Fresh>, Hour);

/// Hands batches to the store and answers for those that are not there yet.
pub(super) struct Writer {
    store: Arc<Store>,
    jobs: Option<SyncSender<Job>>,
    /// Batches that may not be in the store yet, oldest first.
    unwritten: Mutex<VecDeque<Arc<Fresh>>>,
    /// The last frame number in the store.
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(store: Arc<Store>) -> io::Result<Self> {
        let (jobs, todo) = sync_channel::<Job>(QUEUE);
        let written = Arc::new(AtomicU64::new(0));
        let (own, done) = (Arc::clone(&store), Arc::clone(&written));
        let thread = thread::Builder::new().name("index".into()).spawn(move || {
            let mut broken = false;
            for (batch, now) in todo {
                // After a failure nothing more is marked as written: the batches stay in memory, and the next start
                // finds the gap and rebuilds.
                if broken {
                    continue;
                }
                match own.apply(&batch, now) {
                    Ok(()) => done.store(batch.applied, Ordering::Release),
                    Err(why) => {
                        tracing::error!(why, "the index cannot be written; it is rebuilt at the next start");
                        broken = true;
                    }
                }
            }
        })?;
        let unwritten = Mutex::new(VecDeque::new());
        Ok(Writer { store, jobs: Some(jobs), unwritten, written, thread: Some(thread) })
    }

    fn unwritten(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Fresh>>> {
        let mut waiting = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.written.load(Ordering::Acquire);
        while waiting.front().is_some_and(|batch| batch.applied <= written) {
            waiting.pop_front();
        }
        waiting
    }

    pub(super) fn write(&mut self, batch: Fresh, now: Hour) {
        let batch = Arc::new(batch);
        self.unwritten().push_back(Arc::clone(&batch));
        if let Some(jobs) = &self.jobs {
            // Only a thread that died refuses; then the batch stays in `unwritten`.
            let _ = jobs.send((batch, now));
        }
    }

    pub(super) fn key(&self, hash: &KeyHash) -> Result<Option<Known>, String> {
        let waiting = self.unwritten();
        if let Some(known) = waiting.iter().rev().find_map(|batch| batch.keys.get(hash)) {
            return Ok(Some(*known));
        }
        drop(waiting);
        self.store.key(hash)
    }

    pub(super) fn unwritten_records(&self) -> Vec<RecordState> {
        self.unwritten().iter().flat_map(|batch| batch.records.clone()).collect()
    }

    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    pub(super) fn clear(&mut self) -> Result<(), String> {
        self.store.clear()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked left a gap, which the next start finds.
            let _ = thread.join();
        }
    }
}
