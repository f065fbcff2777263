//! Great answers: `GET /v1/records` shows thirteen months of records, and such an answer is in memory until its client has
//! read it. So there are few of them at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most at once.
pub(in crate::agent) const ALL_MAX: usize = 4;
/// Most at once for one user.
pub(in crate::agent) const USER_MAX: usize = 2;

/// Who has how many of them.
#[derive(Clone, Default)]
pub(in crate::agent) struct GreatAnswers(Arc<Mutex<HashMap<u32, usize>>>);

/// The right to one, until it is dropped.
pub(in crate::agent) struct Permit {
    uid: u32,
    answers: GreatAnswers,
}

impl GreatAnswers {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for `uid`, or why not now.
    pub(super) fn take(&self, uid: u32) -> Result<Permit, String> {
        let mut held = self.lock();
        let all: usize = held.values().sum();
        let own = held.entry(uid).or_default();
        if all >= ALL_MAX || *own >= USER_MAX {
            return Err(format!(
                "{all} answers with all records are being read, {own} of them by this user; read those first"
            ));
        }
        *own += 1;
        Ok(Permit { uid, answers: self.clone() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.answers.lock();
        if let Some(own) = held.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

/// Bytes that hold their permit until they are gone.
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) _permit: Permit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
