//! The configuration in force, and whose log this is.

use serde::{Deserialize, Serialize};

use super::DimensionId;
use crate::config::{Dimension, Included, Late, Measure, Round, Source, ZeroRecords};
use crate::decimal::Amount;
use crate::hour::Timestamp;

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

impl From<&Dimension> for Rules {
    fn from(dimension: &Dimension) -> Self {
        Rules {
            name: dimension.name.clone(),
            measure: dimension.measure,
            sticky: dimension.sticky,
            unit: dimension.unit,
            round: dimension.round,
            hold_above: dimension.hold_above,
            included: dimension.included.clone(),
            from: dimension.from.clone(),
        }
    }
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
    /// The Region that is configured; none is the instance's.
    pub region: Option<String>,
}
