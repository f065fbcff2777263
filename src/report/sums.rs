//! Sums of some hours of a dimension, and the equation that holds in them.

use crate::decimal::Amount;
use crate::entry::Kept;
use crate::rollup::seal::QUANTITY_MAX;
use crate::rollup::state::{Phase, RecordState};

/// What some hours of a dimension come to, in usage units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// Measured.
    pub received: Amount,
    /// Of it, what came late from hours that were sealed.
    pub late: Amount,
    /// Below one billed unit, from before.
    pub remainder_in: Amount,
    /// Taken over from records that could no longer be sent.
    pub carried_in: Amount,
    /// Added by rounding (or, negative, taken away).
    pub rounded: Amount,
    /// Covered by the base price.
    pub included: Amount,
    /// In hours that are not sealed.
    pub open: Amount,
    /// Below one billed unit, left for later.
    pub remainder: Amount,
    /// In records, by what became of them. What a person capped counts as discarded, and what did not fit into one record
    /// as carried, beside the record.
    phases: [Of; Phase::ALL.len()],
}

/// Records that ended, or stand, in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Of {
    /// Usage units.
    pub value: Amount,
    /// Billed units, as AWS is sent them.
    pub units: u64,
    /// How many.
    pub records: u64,
}

/// What some hours hold beside their records, where no record was made of them.
pub struct Recordless<'a> {
    /// As in [`crate::entry::SealedDimension`].
    pub usage: Amount,
    /// The same.
    pub included: Amount,
    /// The same.
    pub rounded: Amount,
    /// The same.
    pub kept: &'a Kept,
}

impl Sums {
    /// Adds a record.
    pub fn add_record(&mut self, r: &RecordState) {
        let record = &r.record;
        self.received += record.usage;
        self.late += record.late;
        self.remainder_in += record.remainder_in;
        self.carried_in += record.carried_in;
        self.included += record.included;
        self.remainder += record.remainder;
        let value = r.value();
        let of = self.of_mut(r.phase);
        of.value += value;
        of.units += u64::from(record.request.quantity);
        of.records += 1;
        // The rest of a record's equation is not written down, but follows: see `Record`.
        let came = record.usage + record.remainder_in + record.carried_in;
        let rest = record.included + value + record.remainder - came;
        let capped = record.key.times_fixed() > 0 && r.decided.is_some();
        if rest.is_negative() && capped {
            self.of_mut(Phase::Discarded).value -= rest;
        } else if rest.is_negative() && i64::from(record.request.quantity) == QUANTITY_MAX {
            self.of_mut(Phase::Carried).value -= rest;
        } else {
            self.rounded += rest;
        }
    }

    /// Adds an hour that was sealed without a record.
    pub fn add_recordless(&mut self, sealed: &Recordless<'_>) {
        let left: Amount = sealed.kept.remainder.iter().map(|(_, amount)| *amount).sum();
        self.received += sealed.usage;
        self.included += sealed.included;
        self.rounded += sealed.rounded;
        self.remainder += left;
        self.remainder_in += left + sealed.included - sealed.usage - sealed.rounded;
    }

    /// Adds what comes next in time: remainders go from one to the other.
    pub fn follow(&mut self, next: &Sums) {
        let begins = *self == Sums::default();
        let remainder_in = if begins { next.remainder_in } else { self.remainder_in };
        self.add(next);
        (self.remainder_in, self.remainder) = (remainder_in, next.remainder);
    }

    /// Adds what stands beside it.
    pub fn add(&mut self, other: &Sums) {
        self.received += other.received;
        self.late += other.late;
        self.remainder_in += other.remainder_in;
        self.carried_in += other.carried_in;
        self.rounded += other.rounded;
        self.included += other.included;
        self.open += other.open;
        self.remainder += other.remainder;
        for (own, other) in self.phases.iter_mut().zip(&other.phases) {
            own.value += other.value;
            own.units += other.units;
            own.records += other.records;
        }
    }

    /// Records in one phase.
    pub fn of(&self, phase: Phase) -> Of {
        let each = Phase::ALL.iter().zip(&self.phases);
        each.filter(|(p, _)| **p == phase).map(|(_, of)| *of).next().unwrap_or_default()
    }

    pub(super) fn of_mut(&mut self, phase: Phase) -> &mut Of {
        let at = Phase::ALL.iter().position(|p| *p == phase).unwrap_or(0);
        // One for each phase.
        &mut self.phases[at]
    }

    /// Billed units in records whose units went nowhere else.
    pub fn units(&self) -> u64 {
        Phase::ALL.iter().filter(|p| **p != Phase::Carried).map(|p| self.of(*p).units).sum()
    }

    /// What waits for a person.
    pub fn with_person(&self) -> Amount {
        Phase::ALL.iter().filter(|phase| phase.with_person()).map(|phase| self.of(*phase).value).sum()
    }

    /// Whether what came in is what is accounted for: in `remainder` too, so not for an hour of a SaaS product.
    pub fn balanced(&self) -> bool {
        let in_records: Amount = self.phases.iter().map(|of| of.value).sum();
        let came = self.received + self.remainder_in + self.carried_in + self.rounded;
        came == self.included + in_records + self.open + self.remainder
    }

    /// Every amount with its name, in the order they are shown. What comes in stands before `included`, and its sum is that
    /// of the rest; `late` is a part of `received`.
    pub fn columns(&self) -> [(&'static str, Amount); 16] {
        [
            ("received", self.received),
            ("late", self.late),
            ("remainder_in", self.remainder_in),
            ("carried_in", self.carried_in),
            ("rounded", self.rounded),
            ("included", self.included),
            ("accepted", self.of(Phase::Accepted).value),
            ("pending", self.of(Phase::Pending).value),
            ("held", self.of(Phase::Held).value),
            ("conflict", self.of(Phase::Conflict).value),
            ("in_doubt", self.of(Phase::InDoubt).value),
            ("expired", self.of(Phase::Expired).value),
            ("discarded", self.of(Phase::Discarded).value),
            ("carried", self.of(Phase::Carried).value),
            ("open", self.open),
            ("remainder", self.remainder),
        ]
    }
}
