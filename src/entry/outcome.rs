//! What became of a record: attempts, AWS's answers, a person's decisions.

use serde::{Deserialize, Serialize};

use super::{DimensionId, Peer, Record, RecordKey};
use crate::hour::Timestamp;

/// An attempt is about to be made; written before its first byte leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Of which record.
    pub key: RecordKey,
    /// When.
    pub at: Timestamp,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// AWS took it.
    Accepted {
        /// AWS's id of the record.
        metering_record_id: String,
    },
    /// AWS did not take it, and may later.
    NotTaken,
    /// AWS did not take it, for want of rights or credentials or a right clock: a person may mend that.
    Blocked,
    /// Nobody can tell whether AWS took it.
    Ambiguous,
    /// Another quantity stands for the hour, or the token was used with other parameters.
    Conflict,
    /// AWS says that its timestamp is out of bounds. `window_passed`: by AWS's own clock it is too old.
    OutOfBounds {
        /// Whether AWS's `Date` is past the record's window.
        window_passed: bool,
    },
    /// AWS refuses this record or the set-up; other records may go.
    Refused,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Of which record.
    pub key: RecordKey,
    /// When.
    pub at: Timestamp,
    /// What it came to.
    pub verdict: Verdict,
    /// AWS's error code and words, or ours.
    pub message: String,
    /// AWS's id of the request: evidence.
    pub request_id: Option<String>,
}

/// What became of a record that AWS gave no final word on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Its units go into the next record to be sealed.
    Carried,
    /// Given up, as `late = "expire"` asks.
    Expired,
    /// It may have been taken: waits for a person.
    InDoubt,
}

/// A record's window has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Which record.
    pub key: RecordKey,
    /// When.
    pub at: Timestamp,
    /// What became of it.
    pub ending: Ending,
}

/// What a person decided about a record that waits for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// AWS has it: seen in AWS's own records.
    Accepted,
    /// AWS does not have it: its units go into the next record to be sealed.
    Carry,
    /// Nobody is billed for it.
    WriteOff,
    /// What was refused has been mended: send the same request again.
    Retry,
    /// AWS does not have it, and was told the wrong dimension: its units go into the next record of this one.
    CarryTo(DimensionId),
}

/// A record that AWS refused is fixed anew under the product code in force. Nothing of the old one was ever taken: a
/// refusal holds a record only where no attempt may have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedAnew {
    /// When.
    pub at: Timestamp,
    /// Takes the place of the one that is a generation older and otherwise of the same key.
    pub record: Record,
}

/// A person has decided about a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Which record.
    pub key: RecordKey,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Peer,
    /// What.
    pub decision: Decision,
}

/// A person lets a record go that was held for being above its dimension's ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Which record.
    pub key: RecordKey,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Peer,
    /// The record as it is sent, where a person capped it: a new generation. What it leaves out is given up.
    pub capped: Option<Box<Record>>,
    /// Its window has passed: its units go into the next record to be sealed.
    pub carried: bool,
}
