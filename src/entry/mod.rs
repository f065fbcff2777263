//! What the log's frames carry: every entry, and the one codec that turns it into bytes and back.
//!
//! Entries are facts. Everything the agent knows is a fold over them (see [`crate::rollup::state`]).

mod customer;
mod damage;
mod end;
mod outcome;
mod record;
mod sealed_row;
mod setup;
mod time;
mod usage;
mod whose;

use bincode::Options as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use customer::{AccountId, Accounts, BatchAnswered, BatchAttempt, Buyer};
pub use damage::{Damaged, Echo, Echoed};
pub use end::{CalledOff, End};
pub use outcome::{Answered, Attempt, Closed, Decision, Ending, FixedAnew, Released, Settled, Verdict};
pub use record::{Allocation, Carry, Hold, Kept, Record, RecordKey, Request, Seal, SealedDimension, Used};
pub use sealed_row::{Fresh, InCommon, Rest, RowMore, SealedPart, SealedRow, share_bytes};
pub use setup::{Rules, Setup};
pub use time::{Alive, ClockSeen, Started, Trust};
pub use usage::{DimensionId, Increment, Peer, Run, Usage};
pub use whose::{Disposed, Fate, Named, Parted};

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
    /// The agent starts.
    Started(Started),
    /// It is running.
    Alive(Alive),
    /// The clock is doubted or believed.
    Clock(ClockSeen),
    /// A person lets a record go.
    Released(Released),
    /// Entries once more.
    Echo(Echo),
    /// Damage that no echo mends.
    Damaged(Damaged),
    /// A refused record under a mended product code.
    FixedAnew(FixedAnew),
    /// The instance may be another one.
    Parted(Parted),
    /// Which one it is.
    Named(Named),
    /// A person's decision about another instance's usage.
    Disposed(Disposed),
    /// This instance ends.
    End(End),
    /// It does not.
    CalledOff(CalledOff),
    /// Customers of a SaaS product.
    Accounts(Accounts),
    /// A part of an hour's close.
    SealedPart(SealedPart),
    /// Before a call with many records.
    BatchAttempt(BatchAttempt),
    /// After it.
    BatchAnswered(BatchAnswered),
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
    /// [`super::Started`]
    pub const STARTED: u8 = 9;
    /// [`super::Alive`]
    pub const ALIVE: u8 = 10;
    /// [`super::ClockSeen`]
    pub const CLOCK: u8 = 11;
    /// [`super::Released`]
    pub const RELEASED: u8 = 12;
    /// [`super::Echo`]
    pub const ECHO: u8 = 13;
    /// [`super::Damaged`]
    pub const DAMAGED: u8 = 14;
    /// [`super::FixedAnew`]
    pub const FIXED_ANEW: u8 = 15;
    /// [`super::Parted`]
    pub const PARTED: u8 = 17;
    /// [`super::Named`]
    pub const NAMED: u8 = 18;
    /// [`super::Disposed`]
    pub const DISPOSED: u8 = 19;
    /// [`super::End`]
    pub const END: u8 = 20;
    /// [`super::CalledOff`]
    pub const CALLED_OFF: u8 = 21;
    /// [`super::Accounts`]
    pub const ACCOUNTS: u8 = 22;
    /// [`super::SealedPart`]
    pub const SEALED_PART: u8 = 23;
    /// [`super::BatchAttempt`]
    pub const BATCH_ATTEMPT: u8 = 24;
    /// [`super::BatchAnswered`]
    pub const BATCH_ANSWERED: u8 = 25;
    /// [`crate::rollup::state::RecordState`], in the archive only.
    pub const ARCHIVED: u8 = 200;
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
    /// A part of a checkpoint that this version does not know.
    #[error("unknown section {0} of a checkpoint")]
    Section(u16),
}

/// Any payload to bytes: fixed-width little-endian bincode 1.3.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(codec().serialize(value)?)
}

/// Bytes to a payload; trailing bytes are an error. Only for bytes whose checksum held.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Ok(codec().deserialize(bytes)?)
}

/// The same for bytes that something else follows: that too.
pub fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let mut rest = bytes;
    let value = codec().allow_trailing_bytes().deserialize_from(&mut rest)?;
    Ok((value, rest))
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
            Entry::Started(_) => kind::STARTED,
            Entry::Alive(_) => kind::ALIVE,
            Entry::Clock(_) => kind::CLOCK,
            Entry::Released(_) => kind::RELEASED,
            Entry::Echo(_) => kind::ECHO,
            Entry::Damaged(_) => kind::DAMAGED,
            Entry::FixedAnew(_) => kind::FIXED_ANEW,
            Entry::Parted(_) => kind::PARTED,
            Entry::Named(_) => kind::NAMED,
            Entry::Disposed(_) => kind::DISPOSED,
            Entry::End(_) => kind::END,
            Entry::CalledOff(_) => kind::CALLED_OFF,
            Entry::Accounts(_) => kind::ACCOUNTS,
            Entry::SealedPart(_) => kind::SEALED_PART,
            Entry::BatchAttempt(_) => kind::BATCH_ATTEMPT,
            Entry::BatchAnswered(_) => kind::BATCH_ANSWERED,
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
            Entry::Started(e) => encode(e),
            Entry::Alive(e) => encode(e),
            Entry::Clock(e) => encode(e),
            Entry::Released(e) => encode(e),
            Entry::Echo(e) => encode(e),
            Entry::Damaged(e) => encode(e),
            Entry::FixedAnew(e) => encode(e),
            Entry::Parted(e) => encode(e),
            Entry::Named(e) => encode(e),
            Entry::Disposed(e) => encode(e),
            Entry::End(e) => encode(e),
            Entry::CalledOff(e) => encode(e),
            Entry::Accounts(e) => encode(e),
            Entry::SealedPart(e) => encode(e),
            Entry::BatchAttempt(e) => encode(e),
            Entry::BatchAnswered(e) => encode(e),
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
            kind::STARTED => Entry::Started(decode(payload)?),
            kind::ALIVE => Entry::Alive(decode(payload)?),
            kind::CLOCK => Entry::Clock(decode(payload)?),
            kind::RELEASED => Entry::Released(decode(payload)?),
            kind::ECHO => Entry::Echo(decode(payload)?),
            kind::DAMAGED => Entry::Damaged(decode(payload)?),
            kind::FIXED_ANEW => Entry::FixedAnew(decode(payload)?),
            kind::PARTED => Entry::Parted(decode(payload)?),
            kind::NAMED => Entry::Named(decode(payload)?),
            kind::DISPOSED => Entry::Disposed(decode(payload)?),
            kind::END => Entry::End(decode(payload)?),
            kind::CALLED_OFF => Entry::CalledOff(decode(payload)?),
            kind::ACCOUNTS => Entry::Accounts(decode(payload)?),
            kind::SEALED_PART => Entry::SealedPart(decode(payload)?),
            kind::BATCH_ATTEMPT => Entry::BatchAttempt(decode(payload)?),
            kind::BATCH_ANSWERED => Entry::BatchAnswered(decode(payload)?),
            other => return Err(CodecError::Kind(other)),
        })
    }
}
