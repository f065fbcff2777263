//! The close of an hour and the records it fixes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::DimensionId;
use crate::decimal::Amount;
use crate::hour::{Hour, Timestamp};
use crate::tags::Tags;

/// Names a record. `generation` counts up when a refused one is fixed anew; of a customer's record it holds the
/// customer's number too, see [`RecordKey::account`].
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
    /// Whole seconds: the last one of the hour or, where an end sealed it early, the moment of that.
    pub timestamp: Timestamp,
    /// Billed units, at most 2,147,483,647.
    pub quantity: u32,
    /// Empty, or shares that add up to `quantity`.
    pub allocations: Vec<Allocation>,
    /// 1-64 characters, derived from what is billed, so that a retry is known for one. BatchMeterUsage knows no token: of
    /// a customer's record this says who is billed, see [`super::Buyer::word`].
    pub client_token: String,
}

/// A sealed record. Fixed from here on. In usage units:
/// `usage + remainder_in + carried_in + rounded = included + value + spilled + remainder`.
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
    /// Of `usage`, what the base price covers.
    pub included: Amount,
    /// Left for the next hour.
    pub remainder: Amount,
    /// Taken over from records that could no longer be sent.
    pub carried_in: Amount,
    /// Those records.
    pub took: Vec<RecordKey>,
    /// What `request.quantity` stands for.
    pub value: Amount,
    /// Why it waits for a person before it is sent.
    pub hold: Option<Hold>,
}

impl Record {
    /// Whether its hour was sealed before it was over: it is sent at once, whoever sends it.
    pub fn is_early(&self) -> bool {
        self.request.timestamp < self.key.hour.last_second()
    }
}

/// Why a record waits for a person from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Its hour's units passed this ceiling.
    Above(Amount),
    /// Damage to the disk took entries of its hour: it may have been sealed before, and otherwise.
    Damaged,
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

/// How much of an included quantity is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The first hour of the hour or month it belongs to.
    pub since: Hour,
    /// So much.
    pub amount: Amount,
}

/// What a dimension hands from hour to hour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// Usage below one billed unit, by tags; entries of zero left out.
    pub remainder: Vec<(Tags, Amount)>,
    /// Of a dimension made of others: what is left below a millionth, by tags, in millionths of a millionth.
    pub dust: Vec<(Tags, Amount)>,
    /// Of a sticky `last`: the level that an hour without a report repeats.
    pub level: Option<Amount>,
    /// Of an included quantity.
    pub used: Option<Used>,
}

/// One dimension at a seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedDimension {
    /// Which.
    pub dimension: DimensionId,
    /// Measured in the hour.
    pub usage: Amount,
    /// Of it, what the base price covers.
    pub included: Amount,
    /// What rounding added (or, negative, took away).
    pub rounded: Amount,
    /// What later hours go on from.
    pub kept: Kept,
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

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.hour, self.dimension.0)?;
        self.account().map_or(Ok(()), |account| write!(f, "customer {}/", account.0))?;
        write!(f, "{}", self.times_fixed())
    }
}
