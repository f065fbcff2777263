//! What writers report, as it stands in the log.

use serde::{Deserialize, Serialize};

use super::AccountId;
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
    /// Of a `unique` dimension: what was counted. `quantity` is one if it is the hour's first with this id, else
    /// nothing: whether it is was decided when it was taken.
    pub id: Option<String>,
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
    /// Plain increments of customers, 14 bytes each.
    Customers {
        /// The hour of all of them.
        hour: Hour,
        /// In the order they came.
        items: Vec<(AccountId, DimensionId, u64)>,
    },
    /// Any other increment of a customer.
    Customer(AccountId, Increment),
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
    /// The increment that is not a plain one, and whose it is.
    pub fn full(&self) -> Option<(Option<AccountId>, &Increment)> {
        match self {
            Run::Full(increment) => Some((None, increment)),
            Run::Customer(account, increment) => Some((Some(*account), increment)),
            Run::Plain { .. } | Run::Customers { .. } => None,
        }
    }

    /// How many increments.
    pub fn count(&self) -> u64 {
        match self {
            Run::Plain { items, .. } => items.len() as u64,
            Run::Customers { items, .. } => items.len() as u64,
            Run::Full(_) | Run::Customer(..) => 1,
        }
    }
}
