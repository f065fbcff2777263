//! A record that is not final, as the audit's ledger has it.

use crate::decimal::Amount;
use crate::entry::{DimensionId, RecordKey, Request};
use crate::rollup::State;
use crate::rollup::state::{DimensionState, Phase, RecordState};

/// Where a record's units stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Pending,
    /// With a person, for AWS refused it.
    Refused,
    Person,
    /// For the register to hear of its customer.
    Unknown,
    Carried,
}

#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub value: Amount,
    /// Of it, what does not fit into the record.
    pub spill: Amount,
    pub place: Place,
    pub ambiguous: bool,
    /// A customer's that was never sent.
    pub fresh: bool,
    pub request: Request,
    /// Whose books it stands in: a person may have moved its units to the dimension that was meant.
    pub counts_in: DimensionId,
}

impl Waiting {
    /// A record as a checkpoint has it.
    pub fn from_state(state: &State, key: &RecordKey, r: &RecordState) -> Self {
        let place = match r.phase {
            Phase::Carried => Place::Carried,
            Phase::Held if r.attempts > 0 => Place::Refused,
            phase if phase.with_person() => Place::Person,
            _ => Place::Pending,
        };
        let takes = |d: &DimensionState| d.carry.iter().any(|carry| carry.from == *key);
        let taker = (0..).map(DimensionId).zip(&state.dimensions).find(|(_, d)| place == Place::Carried && takes(d));
        Waiting {
            value: r.value(),
            spill: r.spill.as_ref().map_or(Amount::ZERO, |spill| spill.value),
            place,
            ambiguous: r.ambiguous,
            fresh: false,
            request: r.record.request.clone(),
            counts_in: taker.map_or(key.dimension, |(id, _)| id),
        }
    }
}
