//! Segments made ahead: files of zeros, durable before they are needed, so that an append never grows a file and a
//! full disk is noticed before an increment is taken, not after.
//!
//! Two of them are kept back for a full disk. Usage may not take the last spare, so that seals and outcomes can still be
//! written; and a file of its own, `COPY`, holds the room for recovery's copy of the newest segment, so that an agent
//! that is killed on a full disk can start there. Usage is taken only while both stand.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// Room for recovery's copy. What it holds is never believed: recovery may have died while it wrote there.
pub(super) const COPY: &str = "wal/recovery.spare";

/// Bytes that the disk has to have free before all is well: for what is missing of the spares, of the room for a copy and
/// of a first segment, and for the segment after that. `disk` is only read.
pub fn room_wanted<D: Disk>(disk: &D, segment_bytes: u64) -> io::Result<u64> {
    let names = disk.list(DIR)?;
    let spares = names.iter().filter(|name| name.starts_with("spare-")).count();
    let copy = names.iter().any(|name| format!("{DIR}/{name}") == COPY);
    let begun = names.iter().any(|name| name.ends_with(".seg"));
    let missing = WANTED.saturating_sub(spares) + usize::from(!copy) + usize::from(!begun);
    Ok(segment_bytes.saturating_mul(missing as u64 + 1))
}

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

/// The spares of one log, made when they are asked for, or ahead by a thread of their own.
pub struct Spares<D: Disk> {
    shared: Arc<Shared<D>>,
    filler: Option<JoinHandle<()>>,
}

struct Shared<D> {
    disk: Arc<D>,
    bytes: u64,
    stock: Mutex<Stock>,
    changed: Condvar,
    /// What [`Stock::reserve_stands`] said last, for the one who asks at every increment.
    reserve_stands: AtomicBool,
}

#[derive(Default)]
struct Stock {
    ready: Vec<String>,
    next: u64,
    /// `COPY` is there and as long as a segment.
    copy: bool,
    /// Why the last attempt to make one failed.
    failure: Option<Failure>,
    stopping: bool,
}

impl Stock {
    fn reserve_stands(&self) -> bool {
        self.copy && self.ready.len() >= RESERVE
    }

    /// Whether `more` segments can be had for `need`.
    fn has(&self, need: Need, more: usize) -> bool {
        self.ready.len() >= need.leaves() + more && (need == Need::Control || self.copy)
    }

    fn is_filled(&self) -> bool {
        self.copy && self.ready.len() >= WANTED
    }
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
    /// Takes stock of what an earlier run left. Until [`Self::keep_filled`] spares are made only when asked for, in the
    /// caller's thread.
    pub fn take_stock(disk: Arc<D>, bytes: u64) -> io::Result<Self> {
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
        let (stock, changed, reserve_stands) = (Mutex::new(stock), Condvar::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { disk, bytes, stock, changed, reserve_stands });
        let spares = Spares { shared, filler: None };
        spares.look_at_copy();
        Ok(spares)
    }

    /// Makes what is missing in a thread of its own, from now on. Not before recovery has used `COPY`.
    pub fn keep_filled(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.filler = Some(thread::Builder::new().name("spares".into()).spawn(move || shared.keep_filling())?);
        Ok(())
    }

    /// Whether a segment can be had for `need`; waits while one is being made. The error is the disk's.
    pub fn ensure(&self, need: Need) -> io::Result<()> {
        self.wait_for(need, 1).map(drop)
    }

    /// Whether what is kept back for a full disk stands; waits while it is being made. The error is the disk's.
    pub fn ensure_reserve(&self) -> io::Result<()> {
        if self.shared.reserve_stands.load(Ordering::Acquire) {
            return Ok(());
        }
        self.wait_for(Need::Usage, 0).map(drop)
    }

    /// Whether what is kept back for a full disk stands, without waiting for it.
    pub fn reserve_stands(&self) -> bool {
        self.shared.reserve_stands.load(Ordering::Acquire)
    }

    /// Takes a spare: the name of a durable file of zeros.
    pub fn take(&self, need: Need) -> io::Result<String> {
        let mut stock = self.wait_for(need, 1)?;
        let name = stock.ready.pop().ok_or_else(|| io::Error::other("no spare segment in stock"))?;
        self.shared.note(&stock);
        Ok(name)
    }

    /// Recovery has made a segment of `COPY`; what is there now?
    pub fn look_at_copy(&self) {
        let mut stock = self.shared.lock();
        stock.copy = self.shared.has_copy();
        self.shared.note(&stock);
    }

    /// Why there are fewer than there should be, if it is for want of room.
    pub fn no_room(&self) -> Option<String> {
        let stock = self.shared.lock();
        stock.failure.as_ref().filter(|failure| is_full(&failure.error())).map(|failure| failure.message.clone())
    }

    fn wait_for(&self, need: Need, more: usize) -> io::Result<MutexGuard<'_, Stock>> {
        let mut stock = self.shared.lock();
        loop {
            if stock.has(need, more) {
                return Ok(stock);
            }
            if self.filler.is_none() {
                drop(stock);
                self.shared.make_one(need)?;
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

    /// Whether `COPY` is there and as long as a segment.
    fn has_copy(&self) -> bool {
        self.disk.open(COPY).and_then(|file| file.len()).is_ok_and(|len| len == self.bytes)
    }

    /// The stock has changed.
    fn note(&self, stock: &Stock) {
        self.reserve_stands.store(stock.reserve_stands(), Ordering::Release);
        self.changed.notify_all();
    }

    fn keep_filling(&self) {
        loop {
            let mut stock = self.lock();
            while !stock.stopping && stock.is_filled() {
                stock = self.changed.wait(stock).unwrap_or_else(PoisonError::into_inner);
            }
            if stock.stopping {
                return;
            }
            drop(stock);
            if self.make_one(Need::Usage).is_err() {
                let stock = self.lock();
                let waited = self.changed.wait_timeout_while(stock, RETRY, |stock| !stock.stopping);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Makes one file, recovery's first unless `need` does without. It has its name only once its zeros are durable, so
    /// that the name of a spare that is found at the next start can be believed.
    fn make_one(&self, need: Need) -> io::Result<()> {
        let (number, for_copy) = {
            let stock = self.lock();
            (stock.next, need == Need::Usage && !stock.copy)
        };
        let name = if for_copy { COPY.to_owned() } else { format!("{DIR}/spare-{number}") };
        let filling = format!("{DIR}/{FILLING}");
        let made = self
            .disk
            .create(&filling)
            .and_then(|mut file| zero_fill(&mut file, self.bytes))
            .and_then(|()| self.disk.rename(&filling, &name));
        let mut stock = self.lock();
        match &made {
            Ok(()) => {
                if for_copy {
                    stock.copy = true;
                } else {
                    stock.ready.push(name);
                    stock.next += 1;
                }
                if stock.failure.take().is_some() {
                    tracing::info!("a spare segment could be made again");
                }
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
        self.note(&stock);
        made
    }
}
