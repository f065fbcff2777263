//! The places for connections: how many there are, and who has them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::Connections;

/// Most connections at once that one user, or all of them, can have.
pub const CONNECTIONS_MAX: usize = 1024;
/// Places beyond them, for users who have few connections: whoever takes all the others leaves these.
pub const KEPT: usize = 128;
/// Who has fewer connections than this has few.
const FEW: usize = 16;

/// The places.
pub(super) struct Places {
    /// For everybody.
    most: usize,
    /// For those who have few.
    kept: usize,
    taken: Arc<Mutex<Taken>>,
    refused: u64,
}

#[derive(Default)]
struct Taken {
    open: usize,
    by_uid: HashMap<u32, usize>,
}

/// A connection's place, whoever serves it; free again when it is dropped.
pub struct Ticket {
    uid: u32,
    taken: Arc<Mutex<Taken>>,
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.open -= 1;
        if let Some(open) = taken.by_uid.get_mut(&self.uid) {
            *open -= 1;
            if *open == 0 {
                taken.by_uid.remove(&self.uid);
            }
        }
    }
}

impl Places {
    /// So many in all; a ninth of them is kept for those who have few.
    pub(super) fn new(all: usize) -> Self {
        let kept = all * KEPT / (CONNECTIONS_MAX + KEPT);
        Places { most: all - kept, kept, taken: Arc::default(), refused: 0 }
    }

    /// A place for a connection of `uid`, or why there is none.
    pub(super) fn take(&mut self, uid: u32) -> Result<Ticket, String> {
        let mut taken = lock(&self.taken);
        let open = taken.open;
        let own = taken.by_uid.entry(uid).or_default();
        let most = if *own < FEW { self.most + self.kept } else { self.most };
        if open >= most {
            self.refused += 1;
            return Err(format!("{open} connections are open; close some"));
        }
        *own += 1;
        taken.open += 1;
        Ok(Ticket { uid, taken: Arc::clone(&self.taken) })
    }

    /// How many are taken.
    pub(super) fn count(&self) -> Connections {
        Connections { open: lock(&self.taken).open, most: self.most, refused: self.refused }
    }
}
