//! What is fixed of a customer's hour at its close, as short as hundreds of thousands of them in an hour ask for: most rows
//! say nothing but how much.

use serde::{Deserialize, Serialize};

use super::{AccountId, Allocation, Buyer, Carry, DimensionId, Hold, Kept, Record, RecordKey, Request};
use crate::decimal::Amount;
use crate::hour::{Hour, Timestamp};

/// What is sealed of a customer's hour and was never sent, as it stands in the log and in memory: the request follows
/// from it, the key, and what the hour's records have in common. Short, for there are hundreds of thousands in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// As in [`Request`].
    pub quantity: u32,
    /// What the hour's usage and the record's value both are, in millionths, where there is no rest; with one zero.
    pub plain: u64,
    /// What most records have nothing of.
    pub rest: Option<Box<Rest>>,
}

/// The rest of a [`Record`], field by field.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each as in Record and Request")]
pub struct Rest {
    pub usage: Amount,
    pub value: Amount,
    pub late: Amount,
    pub remainder_in: Amount,
    pub included: Amount,
    pub remainder: Amount,
    pub carried_in: Amount,
    pub took: Vec<RecordKey>,
    pub allocations: Vec<Allocation>,
    pub hold: Option<Hold>,
}

/// What all records of an hour have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InCommon {
    /// As in [`Request`].
    pub timestamp: Timestamp,
    /// The product's code, when the first of them was fixed. One with a licence is sent without it.
    pub product_code: String,
}

/// About how long shares are as AWS reads them.
pub fn share_bytes(shares: &[Allocation]) -> usize {
    const SHARE: usize = 64;
    const TAG: usize = 32;
    let tags = |share: &Allocation| share.tags.iter().map(|(k, v)| TAG + k.len() + v.len()).sum::<usize>();
    shares.iter().map(|share| SHARE + tags(share)).sum()
}

impl Fresh {
    /// About how long its shares are as AWS reads them.
    pub fn share_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| share_bytes(&rest.allocations))
    }

    /// The hour's usage, as in [`Record`].
    pub fn usage(&self) -> Amount {
        self.rest.as_ref().map_or(Amount::from_millionths(i128::from(self.plain)), |rest| rest.usage)
    }

    /// What the record stands for, as in [`Record`].
    pub fn value(&self) -> Amount {
        self.rest.as_ref().map_or(Amount::from_millionths(i128::from(self.plain)), |rest| rest.value)
    }

    /// What is to be kept of a record.
    pub fn of(record: Record) -> Fresh {
        let Record { request, usage, late, remainder_in, included, remainder, carried_in, took, value, hold, key: _ } =
            record;
        let (quantity, allocations) = (request.quantity, request.allocations);
        let zero = Amount::ZERO;
        let rest = Rest {
            usage: zero,
            value: zero,
            late,
            remainder_in,
            included,
            remainder,
            carried_in,
            took,
            allocations,
            hold,
        };
        match u64::try_from(usage.millionths()) {
            Ok(plain) if usage == value && rest == Rest::default() => Fresh { quantity, plain, rest: None },
            _ => Fresh { quantity, plain: 0, rest: Some(Box::new(Rest { usage, value, ..rest })) },
        }
    }

    /// The record again.
    pub fn record(&self, key: RecordKey, dimension: &str, common: &InCommon, buyer: &Buyer) -> Record {
        let (usage, value) = (self.usage(), self.value());
        let rest = self.rest.as_deref().cloned().unwrap_or_default();
        let Rest { late, remainder_in, included, remainder, carried_in, took, allocations, hold, .. } = rest;
        let request = Request {
            product_code: common.product_code.clone(),
            dimension: dimension.to_owned(),
            timestamp: common.timestamp,
            quantity: self.quantity,
            allocations,
            client_token: buyer.word(),
        };
        Record { key, request, usage, late, remainder_in, included, remainder, carried_in, took, value, hold }
    }
}

/// One dimension of one customer at a seal; see [`super::SealedDimension`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRow {
    /// Whose.
    pub account: AccountId,
    /// Of what.
    pub dimension: DimensionId,
    /// The record, if there is one.
    pub record: Option<Fresh>,
    /// Where there is more to say than that all of the usage is in the record, and nothing else, and nothing is left.
    pub more: Option<Box<RowMore>>,
}

/// The rest of a [`SealedRow`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each as in SealedDimension")]
pub struct RowMore {
    pub usage: Amount,
    pub included: Amount,
    pub rounded: Amount,
    pub kept: Kept,
    pub spill: Option<Carry>,
}

impl SealedRow {
    /// A row that says `more` only where it has to.
    pub fn new(account: AccountId, dimension: DimensionId, record: Option<Fresh>, more: RowMore) -> Self {
        let mut row = SealedRow { account, dimension, record, more: None };
        if (RowMore { usage: row.usage(), ..RowMore::default() }) != more {
            row.more = Some(Box::new(more));
        }
        row
    }

    /// What was measured in the hour.
    pub fn usage(&self) -> Amount {
        let plain = || self.record.as_ref().map_or(Amount::ZERO, Fresh::usage);
        self.more.as_ref().map_or_else(plain, |more| more.usage)
    }

    /// What of it the base price covers.
    pub fn included(&self) -> Amount {
        self.more.as_ref().map_or(Amount::ZERO, |more| more.included)
    }

    /// What rounding added.
    pub fn rounded(&self) -> Amount {
        self.more.as_ref().map_or(Amount::ZERO, |more| more.rounded)
    }

    /// What goes on into the next hour.
    pub fn kept(&self) -> Kept {
        self.more.as_ref().map_or_else(Kept::default, |more| more.kept.clone())
    }

    /// What is left of it below one billed unit.
    pub fn remainder(&self) -> Amount {
        self.more.iter().flat_map(|more| &more.kept.remainder).map(|(_, amount)| *amount).sum()
    }

    /// What does not fit into the record.
    pub fn spill(&self) -> Option<&Carry> {
        self.more.as_ref().and_then(|more| more.spill.as_ref())
    }
}

/// Part of an hour's close: all that some customers have in it, in the order of their numbers. Nothing more counts in the
/// hour from the first part on; the [`super::Seal`] behind the last one closes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedPart {
    /// The hour.
    pub hour: Hour,
    /// When.
    pub at: Timestamp,
    /// The same in every part of an hour.
    pub common: InCommon,
    /// Customers up to this one are closed now.
    pub through: AccountId,
    /// What they have.
    pub rows: Vec<SealedRow>,
}
