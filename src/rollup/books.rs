//! The books: where every acknowledged unit is, per dimension.

use std::collections::BTreeSet;

use serde::Serialize;

use super::State;
use super::customers::sums::Sums;
use super::state::{DimensionState, Phase, RecordState};
use crate::decimal::Amount;
use crate::entry::DimensionId;
use crate::hour::Hour;

/// One dimension's books, in usage units, since the state directory was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// Whose.
    pub dimension: String,
    /// Acknowledged.
    pub received: Amount,
    /// In hours that are not sealed, or on the way into the next record.
    pub open: Amount,
    /// In records waiting to be sent.
    pub pending: Amount,
    /// In records that AWS accepted.
    pub accepted: Amount,
    /// In records that wait for a person or ended with one, and what other instances left unsent.
    pub with_person: Amount,
    /// Of `with_person`, what waits for the register to hear of its customer. Shown where there is any.
    pub unknown_customers: Amount,
    /// Given up past the window.
    pub expired: Amount,
    /// Covered by the base price.
    pub included: Amount,
    /// Given up by a person.
    pub discarded: Amount,
    /// Taken by damage to the disk.
    pub lost: Amount,
    /// Added by rounding (or, negative, taken away).
    pub rounded: Amount,
    /// Below one billed unit; and what one hour's seal held back for the next because it bills at most 2^53 units.
    pub remainder: Amount,
}

impl Books {
    /// The equation that must hold at every moment.
    pub fn balanced(&self) -> bool {
        self.received + self.rounded == self.places()
    }

    /// Where units are now.
    fn places(&self) -> Amount {
        self.open
            + self.pending
            + self.accepted
            + self.with_person
            + self.expired
            + self.included
            + self.discarded
            + self.lost
            + self.remainder
    }

    /// The two sides of the equation, and every amount that is not zero.
    pub fn explained(&self) -> String {
        let (came, places) = (self.received + self.rounded, self.places());
        let amounts = self.columns().into_iter().filter(|(_, amount)| !amount.is_zero());
        let amounts: Vec<String> = amounts.map(|(name, amount)| format!("{name} {amount}")).collect();
        let (difference, side) = if came > places { (came - places, "missing") } else { (places - came, "too many") };
        format!("{came} came in, {places} are accounted for, {difference} {side} ({})", amounts.join(", "))
    }
}

impl Serialize for Books {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("dimension", &self.dimension)?;
        for (name, amount) in self.columns() {
            map.serialize_entry(name, &amount.to_string())?;
        }
        if !self.unknown_customers.is_zero() {
            map.serialize_entry("unknown_customers", &self.unknown_customers.to_string())?;
        }
        map.serialize_entry("balanced", &self.balanced())?;
        map.end()
    }
}

impl Books {
    fn is_empty(&self) -> bool {
        self.columns().iter().all(|(_, amount)| amount.is_zero())
    }

    /// Every amount with its name, in the order they are shown.
    pub fn columns(&self) -> [(&'static str, Amount); 11] {
        [
            ("received", self.received),
            ("open", self.open),
            ("pending", self.pending),
            ("accepted", self.accepted),
            ("with_person", self.with_person),
            ("expired", self.expired),
            ("included", self.included),
            ("discarded", self.discarded),
            ("lost", self.lost),
            ("rounded", self.rounded),
            ("remainder", self.remainder),
        ]
    }
}

impl State {
    /// The books of every dimension that was ever configured and billed: the units of one that another is made of stand
    /// in the books of that one.
    pub fn books(&self) -> Vec<Books> {
        self.together().books_together()
    }

    fn books_together(&self) -> Vec<Books> {
        let sums = self.customer_sums(None);
        let dimensions = (0..).map(DimensionId).zip(&self.dimensions).zip(&sums);
        let books =
            dimensions.map(|((id, of), sums)| (self.is_source(id, self.open_from), self.books_of(id, of, sums)));
        books.filter(|(source, books)| !source || !books.is_empty()).map(|(_, books)| books).collect()
    }

    /// Usage in hours that are not sealed, as it will be billed.
    pub(super) fn open_usage(&self, id: DimensionId, dimension: &DimensionState) -> Amount {
        let hours: BTreeSet<Hour> = if dimension.has_sources() {
            self.dimensions.iter().flat_map(|d| d.open.keys().copied()).collect()
        } else {
            dimension.open.keys().copied().collect()
        };
        let billed = hours.into_iter().filter(|hour| !self.is_source(id, *hour));
        billed.map(|hour| self.hourly(dimension, hour).usage.total()).sum()
    }

    fn books_of(&self, id: DimensionId, dimension: &DimensionState, customers: &Sums) -> Books {
        let in_records = |which: fn(&RecordState) -> bool| -> Amount {
            let mine = self.records.values().filter(|r| r.record.key.dimension == id);
            mine.filter(|r| which(r)).map(RecordState::value).sum()
        };
        let totals = &dimension.totals;
        let open = self.open_usage(id, dimension) + customers.open;
        let (open_elsewhere, set_aside) = self.set_aside_of(id);
        Books {
            dimension: dimension.rules.name.clone(),
            received: totals.sealed + open + open_elsewhere,
            open: open + dimension.carry_value() + customers.carry,
            pending: in_records(|r| r.phase == Phase::Pending) + customers.fresh,
            accepted: totals.accepted,
            with_person: in_records(|r| r.phase.with_person()) + set_aside + customers.unknown,
            unknown_customers: customers.unknown,
            expired: totals.expired,
            included: totals.included,
            discarded: totals.discarded,
            lost: totals.lost,
            rounded: totals.rounded,
            remainder: dimension.remainder.total() + customers.remainder,
        }
    }
}
