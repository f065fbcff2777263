//! Segments made ahead: files of zeros, durable before they are needed, so that an append never grows a file and a
//! full disk is noticed before an increment is taken, not after.
//!
//! One spare is kept back as a reserve: usage may not take it, so that seals and outcomes can still be written when
//! the disk is full.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::DIR;
use super::segment::zero_fill;
use crate::disk::{Disk, DiskFile, is_full};

/// How many spares there are when all is well: the reserve and the next one for usage.
const WANTED: usize = 2;
/// How many of them usage leaves standing.
const RESERVE: usize = 1;
/// How long to wait before asking a full disk again.
const RETRY: Duration = Duration::from_millis(500);
const FILLING: &str = "filling.tmp";

/// Who wants a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Increments: leave the reserve.
    Usage,
    /// Seals, attempts, outcomes: may take the reserve.
    Control,
}

impl Need {
    const fn leaves(self) -> usize {
        match self {
            Need::Usage => RESERVE,
            Need::Control => 0,
        }
    }
}

/// The spares of one log, filled by a thread of their own, or, on a simulated disk, when they are asked for.
pub struct Spares<D: Disk> {
    shared: Arc<Shared<D>>,
    filler: Option<JoinHandle<()>>,
}

struct Shared<D> {
    disk: Arc<D>,
    bytes: u64,
    stock: Mutex<Stock>,
    changed: Condvar,
}

#[derive(Default)]
struct Stock {
    ready: Vec<String>,
    next: u64,
    /// Why the last attempt to make one failed.
    failure: Option<Failure>,
    stopping: bool,
}

#[derive(Clone)]
struct Failure {
    kind: io::ErrorKind,
    message: String,
}

impl Failure {
    fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.message.clone())
    }
}

impl<D: Disk> Spares<D> {
    /// Takes stock of what an earlier run left, and begins to fill up. With `background` false spares are made only
    /// when asked for, in the caller's thread.
    pub fn start(disk: Arc<D>, bytes: u64, background: bool) -> io::Result<Self> {
        let mut stock = Stock::default();
        for name in disk.list(DIR)? {
            let path = format!("{DIR}/{name}");
            let number = name.strip_prefix("spare-").and_then(|n| n.parse::<u64>().ok());
            match number {
                Some(n) if disk.open(&path)?.len()? == bytes => {
                    stock.ready.push(path);
                    stock.next = stock.next.max(n + 1);
                }
                Some(_) => disk.remove(&path)?,
                None if name.ends_with(".tmp") => disk.remove(&path)?,
                None => {}
            }
        }
        let shared = Arc::new(Shared { disk, bytes, stock: Mutex::new(stock), changed: Condvar::new() });
        let filler = if background {
            let shared = Arc::clone(&shared);
            Some(thread::Builder::new().name("spares".into()).spawn(move || shared.keep_filling())?)
        } else {
            None
        };
        Ok(Spares { shared, filler })
    }

    /// Whether a segment can be had for `need`; waits while one is being made. The error is the disk's.
    pub fn ensure(&self, need: Need) -> io::Result<()> {
        self.wait_for(need).map(drop)
    }

    /// Takes a spare: the name of a durable file of zeros.
    pub fn take(&self, need: Need) -> io::Result<String> {
        let mut stock = self.wait_for(need)?;
        let name = stock.ready.pop().ok_or_else(|| io::Error::other("no spare segment in stock"))?;
        self.shared.changed.notify_all();
        Ok(name)
    }

    fn wait_for(&self, need: Need) -> io::Result<MutexGuard<'_, Stock>> {
        let mut stock = self.shared.lock();
        loop {
            if stock.ready.len() > need.leaves() {
                return Ok(stock);
            }
            if self.filler.is_none() {
                drop(stock);
                self.shared.make_one()?;
                stock = self.shared.lock();
                continue;
            }
            if let Some(failure) = &stock.failure {
                return Err(failure.error());
            }
            stock = self.shared.changed.wait(stock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<D: Disk> Drop for Spares<D> {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(filler) = self.filler.take() {
            // A filler that panicked has nothing left to stop.
            let _ = filler.join();
        }
    }
}

impl<D: Disk> Shared<D> {
    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_filling(&self) {
        loop {
            let mut stock = self.lock();
            while !stock.stopping && stock.ready.len() >= WANTED {
                stock = self.changed.wait(stock).unwrap_or_else(PoisonError::into_inner);
            }
            if stock.stopping {
                return;
            }
            drop(stock);
            if self.make_one().is_err() {
                let stock = self.lock();
                let waited = self.changed.wait_timeout_while(stock, RETRY, |stock| !stock.stopping);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Makes one spare. It has its name only once its zeros are durable, so that a name found at the next start can
    /// be believed.
    fn make_one(&self) -> io::Result<()> {
        let number = self.lock().next;
        let name = format!("{DIR}/spare-{number}");
        let filling = format!("{DIR}/{FILLING}");
        let made = self
            .disk
            .create(&filling)
            .and_then(|mut file| zero_fill(&mut file, self.bytes))
            .and_then(|()| self.disk.rename(&filling, &name));
        let mut stock = self.lock();
        match &made {
            Ok(()) => {
                stock.ready.push(name);
                stock.next += 1;
                stock.failure = None;
            }
            Err(error) => {
                // What was filled so far must not keep the room that the rest of the disk needs.
                let _ = self.disk.remove(&filling);
                if stock.failure.is_none() {
                    let full = is_full(error);
                    tracing::warn!(%error, full, bytes = self.bytes, "cannot make a spare segment; trying again");
                }
                stock.failure = Some(Failure { kind: error.kind(), message: error.to_string() });
            }
        }
        self.changed.notify_all();
        made
    }
}
