//! What the log's frames carry: every entry, and the one codec that turns it into bytes and back.
//!
//! Entries are facts. Everything the agent knows is a fold over them (see [`crate::rollup::state`]).

use std::fmt;

use bincode::Options as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{Included, Late, Measure, Round, Source, ZeroRecords};
use crate::decimal::Amount;
use crate::hour::{Hour, Timestamp};
use crate::tags::Tags;

/// A dimension's number within one log; a name keeps its number for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DimensionId(pub u16);

/// Who wrote: the peer of the socket, as the kernel told when it connected. The pid is an observation only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process.
    pub pid: u32,
}

/// One report of usage, with everything that was decided when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Increment {
    /// Of what.
    pub dimension: DimensionId,
    /// The hour it counts in.
    pub hour: Hour,
    /// Whether it happened in an hour that was sealed already.
    pub late: bool,
    /// How much, in millionths; below 10^18.
    pub quantity: u64,
    /// When it happened, as the caller said.
    pub at: Option<Timestamp>,
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// Increments as they stand in a usage entry: plain ones take 10 bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Run {
    /// Increments with neither key, time nor tags: dimension and millionths.
    Plain {
        /// The hour of all of them.
        hour: Hour,
        /// In the order they came.
        items: Vec<(DimensionId, u64)>,
    },
    /// Any other increment.
    Full(Increment),
}

/// Increments of one writer, made durable together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The number of the first one; the others follow without a gap.
    pub first_seq: u64,
    /// When they were taken.
    pub received: Timestamp,
    /// Who wrote them.
    pub peer: Peer,
    /// The increments, in order.
    pub runs: Vec<Run>,
}

impl Usage {
    /// How many increments.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(Run::count).sum()
    }
}

impl Run {
    /// How many increments.
    pub fn count(&self) -> u64 {
        match self {
            Run::Plain { items, .. } => items.len() as u64,
            Run::Full(_) => 1,
        }
    }
}

/// How a dimension is measured and billed: the part of its configuration that the roll-up depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// As published in the listing.
    pub name: String,
    /// What an hour's usage is.
    pub measure: Measure,
    /// `last` only: an hour without a report repeats the hour before.
    pub sticky: bool,
    /// Usage units in one billed unit.
    pub unit: Amount,
    /// What becomes of less than one billed unit.
    pub round: Round,
    /// Billed units above which a record waits for a person.
    pub hold_above: Option<Amount>,
    /// Usage that the base price covers.
    pub included: Option<Included>,
    /// Other dimensions this one is made of.
    pub from: Vec<Source>,
}

/// The configuration in force, as far as the books depend on it, and whose log this is. Written when it changes.
/// Rules take effect with the next hour; a new dimension at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// When.
    pub at: Timestamp,
    /// The product's code.
    pub product_code: String,
    /// The instance that meters, once it is known.
    pub instance: Option<String>,
    /// The dimensions that are configured; one that is missing here and known before is no longer.
    pub dimensions: Vec<(DimensionId, Rules)>,
    /// How long after its timestamp AWS takes a record, in milliseconds.
    pub window_ms: u64,
    /// What becomes of a record past its window.
    pub late: Late,
    /// Whether hours without usage are reported.
    pub zero_records: ZeroRecords,
}

/// Names a record. `generation` counts up when a refused one is fixed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// The sealed hour. First, so that records sort oldest first.
    pub hour: Hour,
    /// The dimension.
    pub dimension: DimensionId,
    /// 0 for the first.
    pub generation: u32,
}

/// A share of a record's quantity under one set of tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Billed units.
    pub quantity: u32,
    /// The tags; empty for usage without.
    pub tags: Tags,
}

/// The request as AWS will see it, each time the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The product's code.
    pub product_code: String,
    /// The dimension's name.
    pub dimension: String,
    /// Whole seconds; the last one of the hour.
    pub timestamp: Timestamp,
    /// Billed units, at most 2,147,483,647.
    pub quantity: u32,
    /// Empty, or shares that add up to `quantity`.
    pub allocations: Vec<Allocation>,
    /// 1-64 characters, derived from what is billed, so that a retry is known for one.
    pub client_token: String,
}

/// A sealed record. Fixed from here on. In usage units:
/// `usage + remainder_in + carried_in + rounded = value + spilled + remainder`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// What AWS is sent.
    pub request: Request,
    /// Measured in this hour.
    pub usage: Amount,
    /// Of `usage`, what came late from hours that were sealed.
    pub late: Amount,
    /// Taken over from the hour before.
    pub remainder_in: Amount,
    /// Left for the next hour.
    pub remainder: Amount,
    /// Taken over from records that could no longer be sent.
    pub carried_in: Amount,
    /// Those records.
    pub took: Vec<RecordKey>,
    /// What `request.quantity` stands for.
    pub value: Amount,
}

/// Billed units on their way into the next record to be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    /// The record they come from.
    pub from: RecordKey,
    /// Billed units by tags.
    pub units: Vec<(Tags, i64)>,
    /// What they stand for, in usage units.
    pub value: Amount,
}

/// One dimension at a seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedDimension {
    /// Which.
    pub dimension: DimensionId,
    /// Measured in the hour.
    pub usage: Amount,
    /// What rounding added (or, negative, took away).
    pub rounded: Amount,
    /// Remainder by tags after the seal; entries of zero left out.
    pub remainder: Vec<(Tags, Amount)>,
    /// The record, if there is something to send.
    pub record: Option<Record>,
    /// Units above what one record can hold.
    pub spill: Option<Carry>,
}

/// The close of an hour: everything about it is fixed. `hour` had something in it; the hours after it up to `through`
/// had nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The hour.
    pub hour: Hour,
    /// Closed as well.
    pub through: Hour,
    /// When.
    pub at: Timestamp,
    /// Increments up to this number are covered, as far as they count in the hour.
    pub covered_seq: u64,
    /// Dimensions with usage, a record or a change of remainder.
    pub dimensions: Vec<SealedDimension>,
}

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

/// Every entry but the checkpoint, which carries the state itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Increments.
    Usage(Usage),
    /// Configuration and identity.
    Setup(Setup),
    /// An hour's close.
    Seal(Seal),
    /// Before an attempt.
    Attempt(Attempt),
    /// After it.
    Answered(Answered),
    /// A record past its window.
    Closed(Closed),
    /// A person's decision.
    Settled(Settled),
}

/// Kinds of entries, as they stand in a frame.
pub mod kind {
    /// [`super::Usage`]
    pub const USAGE: u8 = 1;
    /// [`super::Setup`]
    pub const SETUP: u8 = 2;
    /// [`super::Seal`]
    pub const SEAL: u8 = 3;
    /// [`super::Attempt`]
    pub const ATTEMPT: u8 = 4;
    /// [`super::Answered`]
    pub const ANSWERED: u8 = 5;
    /// [`super::Closed`]
    pub const CLOSED: u8 = 6;
    /// [`crate::rollup::State`]
    pub const CHECKPOINT: u8 = 7;
    /// [`super::Settled`]
    pub const SETTLED: u8 = 8;
}

/// Most bytes an entry may decode to: far above the largest seal, far below what would hurt.
const ENTRY_BYTES_MAX: u64 = 256 * 1024 * 1024;

fn codec() -> impl bincode::Options {
    bincode::options().with_fixint_encoding().with_little_endian().reject_trailing_bytes().with_limit(ENTRY_BYTES_MAX)
}

/// Why an entry cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// bincode's words.
    #[error("{0}")]
    Bincode(#[from] bincode::Error),
    /// A kind that this version does not know.
    #[error("unknown kind {0}")]
    Kind(u8),
}

/// Any payload to bytes: fixed-width little-endian bincode 1.3.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(codec().serialize(value)?)
}

/// Bytes to a payload; trailing bytes are an error. Only for bytes whose checksum held.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Ok(codec().deserialize(bytes)?)
}

impl Entry {
    /// Its kind, as it stands in the frame.
    pub fn kind(&self) -> u8 {
        match self {
            Entry::Usage(_) => kind::USAGE,
            Entry::Setup(_) => kind::SETUP,
            Entry::Seal(_) => kind::SEAL,
            Entry::Attempt(_) => kind::ATTEMPT,
            Entry::Answered(_) => kind::ANSWERED,
            Entry::Closed(_) => kind::CLOSED,
            Entry::Settled(_) => kind::SETTLED,
        }
    }

    /// Its payload.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        match self {
            Entry::Usage(e) => encode(e),
            Entry::Setup(e) => encode(e),
            Entry::Seal(e) => encode(e),
            Entry::Attempt(e) => encode(e),
            Entry::Answered(e) => encode(e),
            Entry::Closed(e) => encode(e),
            Entry::Settled(e) => encode(e),
        }
    }

    /// Reads one back.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Entry, CodecError> {
        Ok(match kind {
            kind::USAGE => Entry::Usage(decode(payload)?),
            kind::SETUP => Entry::Setup(decode(payload)?),
            kind::SEAL => Entry::Seal(decode(payload)?),
            kind::ATTEMPT => Entry::Attempt(decode(payload)?),
            kind::ANSWERED => Entry::Answered(decode(payload)?),
            kind::CLOSED => Entry::Closed(decode(payload)?),
            kind::SETTLED => Entry::Settled(decode(payload)?),
            other => return Err(CodecError::Kind(other)),
        })
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.hour, self.dimension.0, self.generation)
    }
}
