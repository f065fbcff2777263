//! What keeps damage to the disk from costing more than it must.

use serde::{Deserialize, Serialize};

use super::RecordKey;
use crate::hour::{Hour, Timestamp};

/// Everything but usage stands in the log twice: an echo repeats, a while later, the entries that were written since the
/// echo before the last one, in order. Where damage took an entry, its echo tells what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// All entries but usage between this frame and the echo are in it.
    pub after: u64,
    /// Those entries.
    pub entries: Vec<Echoed>,
}

/// One entry in an echo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echoed {
    /// The number of its first frame.
    pub seq: u64,
    /// Its kind.
    pub kind: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Damage took entries, and no echo tells what they were. What they may have been about waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// When that was found.
    pub at: Timestamp,
    /// Hours up to this one may have been sealed already: their records are held.
    pub through: Hour,
    /// Records that may have been answered, or taken into another one.
    pub records: Vec<RecordKey>,
}
