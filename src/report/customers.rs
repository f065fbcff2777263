//! Of a SaaS product: what each customer comes to, in bounded memory: one row for each customer and dimension.

use std::collections::BTreeMap;

use super::sums::Recordless;
use super::{CUSTOMERS_MAX, Sums};
use crate::decimal::Amount;
use crate::entry::{AccountId, DimensionId, RecordKey};
use crate::rollup::state::RecordState;

/// One dimension of one customer.
#[derive(Debug, Clone)]
pub struct Customer {
    /// The account id, with its licence behind a slash where it has one.
    pub buyer: String,
    /// The dimension.
    pub dimension: String,
    /// What it comes to.
    pub sums: Sums,
}

/// The largest, and the others in one sum.
#[derive(Debug, Clone, Default)]
pub struct Customers {
    /// The largest by billed units.
    pub largest: Vec<Customer>,
    /// How many rows are not among them.
    pub others: u64,
    /// What those come to, by dimension.
    pub rest: BTreeMap<String, Sums>,
}

/// A customer's dimension while its records come in, in any order.
#[derive(Debug, Default)]
pub(super) struct Row {
    buyer: String,
    sums: Sums,
    first: Option<(RecordKey, Amount)>,
    last: Option<(RecordKey, Amount)>,
}

impl Row {
    pub(super) fn add(&mut self, r: &RecordState) {
        let record = &r.record;
        if self.buyer.is_empty() {
            self.buyer.clone_from(&record.request.client_token);
        }
        self.sums.add_record(r);
        self.reaches(record.key, record.remainder_in, record.remainder);
    }

    /// Adds an hour without a record.
    pub(super) fn add_recordless(&mut self, key: RecordKey, sealed: &Recordless<'_>) {
        let mut own = Sums::default();
        own.add_recordless(sealed);
        self.sums.add(&own);
        self.reaches(key, own.remainder_in, own.remainder);
    }

    fn reaches(&mut self, key: RecordKey, remainder_in: Amount, remainder: Amount) {
        if self.first.is_none_or(|(first, _)| key < first) {
            self.first = Some((key, remainder_in));
        }
        if self.last.is_none_or(|(last, _)| key > last) {
            self.last = Some((key, remainder));
        }
    }

    /// What hours between its records measured that sent none: what records began with and none had left.
    ///
    /// `before`: what the last record before this time left.
    pub(super) fn close(&mut self, before: Option<Amount>) {
        let (Some((_, first)), Some((_, last))) = (self.first, self.last) else { return };
        let begins = before.unwrap_or(first);
        let between = (self.sums.remainder_in - begins) - (self.sums.remainder - last);
        self.sums.received += between;
        (self.sums.remainder_in, self.sums.remainder) = (begins, last);
    }

    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// What is not sealed yet.
    pub(super) fn add_open(&mut self, open: Amount) {
        self.sums.received += open;
        self.sums.open += open;
    }
}

/// The rows as they are listed.
pub(super) fn listed(
    rows: impl Iterator<Item = ((AccountId, DimensionId), Row)>,
    buyer: impl Fn(AccountId) -> String,
    name: impl Fn(DimensionId) -> String,
) -> Customers {
    let named = |((account, dimension), mut row): ((AccountId, DimensionId), Row)| {
        if row.buyer.is_empty() {
            row.buyer = buyer(account);
        }
        (dimension, row)
    };
    let mut all: Vec<(DimensionId, Row)> = rows.map(named).collect();
    all.sort_by(|(_, a), (_, b)| b.sums.units().cmp(&a.sums.units()).then_with(|| a.buyer.cmp(&b.buyer)));
    let beyond = all.split_off(all.len().min(CUSTOMERS_MAX));
    let mut rest: BTreeMap<String, Sums> = BTreeMap::new();
    for (dimension, row) in &beyond {
        rest.entry(name(*dimension)).or_default().add(&row.sums);
    }
    let customer = |(dimension, row): (DimensionId, Row)| Customer {
        buyer: row.buyer,
        dimension: name(dimension),
        sums: row.sums,
    };
    Customers { largest: all.into_iter().map(customer).collect(), others: beyond.len() as u64, rest }
}
