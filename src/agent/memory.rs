//! The memory that clients' bytes may take: what was read of a line that is not whole yet, and answers that nobody reads.
//!
//! One connection is bounded by itself (see [`Connection`](crate::ingest::connection::Connection)). A thousand of them
//! would still be too much: where all of them, or those of one user, hold more than their bound, whoever does not read
//! its answers is read from no further, and what is not in use is given back. Reading an answer always helps.

use std::collections::HashMap;

use crate::ingest::connection::ANSWER_BYTES_MAX;

/// Most bytes that all connections hold before it becomes tight, and most that those of one user do.
pub(super) const BYTES_MAX: usize = 64 * 1024 * 1024;
pub(super) const USER_BYTES_MAX: usize = BYTES_MAX / 2;
/// Answers that may wait for a client to read them while it is tight.
const TIGHT_ANSWER_BYTES: usize = 4 * 1024;

/// Who holds how much.
#[derive(Debug, Default)]
pub(super) struct Memory {
    all: usize,
    by_uid: HashMap<u32, usize>,
}

impl Memory {
    /// A connection of `uid` held `noted` bytes and holds `held` now.
    pub(super) fn note(&mut self, uid: u32, noted: &mut usize, held: usize) {
        if *noted == held {
            return;
        }
        let own = self.by_uid.entry(uid).or_default();
        *own = (*own + held).saturating_sub(*noted);
        if *own == 0 {
            self.by_uid.remove(&uid);
        }
        self.all = (self.all + held).saturating_sub(*noted);
        *noted = held;
    }

    /// Whether connections of `uid` hold too much.
    pub(super) fn is_tight(&self, uid: u32) -> bool {
        self.all > BYTES_MAX
            || (self.all > USER_BYTES_MAX && self.by_uid.get(&uid).is_some_and(|own| *own > USER_BYTES_MAX))
    }

    /// Bytes of answers that may wait for a client of `uid` before it is read from no further.
    pub(super) fn answers(&self, uid: u32) -> usize {
        if self.is_tight(uid) { TIGHT_ANSWER_BYTES } else { ANSWER_BYTES_MAX }
    }
}
