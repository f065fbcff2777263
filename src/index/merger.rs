//! The thread that merges runs, so that neither the answers nor the writing of new keys waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::store::Store;

/// With so many runs writing waits for merging: bounds the open files and what a lookup asks.
const RUNS_MAX: usize = 40;

pub(super) struct Merger {
    wake: Option<SyncSender<()>>,
    /// One for each merge; closed when the thread has ended.
    merged: Receiver<()>,
    /// This one is to end; the agent may go on.
    gone: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Merger {
    /// Merges in `store` whenever it is woken. Sets `broken` if it cannot.
    pub(super) fn start(store: Arc<Store>, broken: Arc<AtomicBool>, stopping: Arc<AtomicBool>) -> io::Result<Self> {
        let (wake, wakes) = sync_channel(1);
        // More than the keeper waits for need not be counted.
        let (done, merged) = sync_channel(1);
        let gone = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&gone);
        let thread = thread::Builder::new().name("index-merge".into()).spawn(move || {
            let stop = || stopping.load(Ordering::Relaxed) || ends.load(Ordering::Relaxed);
            for () in wakes {
                loop {
                    match store.merge(&stop) {
                        Ok(true) => drop(done.try_send(())),
                        Ok(false) => break,
                        Err(_) if stop() => return,
                        Err(why) => {
                            tracing::error!(why, "runs of the index cannot be merged; making it anew from the log");
                            broken.store(true, Ordering::Relaxed);
                            return;
                        }
                    }
                    if stop() {
                        return;
                    }
                }
            }
        })?;
        Ok(Merger { wake: Some(wake), merged, gone, thread: Some(thread) })
    }

    /// Has merged what is to be merged; waits for it only where it has fallen far behind.
    pub(super) fn keep_up(&self, store: &Store) {
        if let Some(wake) = &self.wake {
            // One that is awake looks again before it sleeps.
            let _ = wake.try_send(());
        }
        while store.run_count() > RUNS_MAX && self.merged.recv().is_ok() {}
    }
}

impl Drop for Merger {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It holds nothing that anyone waits for.
            let _ = thread.join();
        }
    }
}
