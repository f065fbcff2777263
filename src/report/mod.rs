//! What a month came to: used, sent, accepted, billed, and why these differ; and what the next seal would send.
//!
//! Both are read from a state directory without touching it, beside a running agent or from a copy. [`read()`] is the one
//! way in: the log's own fold (see [`crate::engine::history`]) for what it still has, the archive for the rest. [`sums`] adds
//! up, [`outages`] is when AWS did not take records, [`csv`] and [`html`] show it, and so do [`json`] and the command line.
//! [`preview`] asks the fold itself to close the next hour.
//!
//! # What a month's sums are made of
//!
//! A record says what its hour measured, what came into it and what it left, so sums over records are exact for as long as
//! records are kept (13 months). An hour that sent no record is known from its seal, as long as the log has that
//! (`state.retain_days`). Before that, usage below one billed unit shows in the remainder that the next record began with, and
//! is counted there. Of a month's included quantity the last seal says how much is used up, so that a report made within that
//! time is exact in all, if not by day. What rounding down took whole, or an hour's included quantity, is no longer known:
//! the report says so.
//!
//! # Limits
//!
//! | | |
//! | --- | --- |
//! | records listed | [`RECORDS_MAX`]; beyond that those that AWS accepted are summed only, and the report says how many |
//! | customers listed | [`CUSTOMERS_MAX`] in all dimensions, the largest first; the others are summed in one line |

pub mod csv;
mod customers;
pub mod html;
pub mod json;
pub mod outages;
mod plot;
pub mod preview;
pub mod read;
pub mod span;
pub mod sums;

use std::collections::BTreeMap;

use crate::config::{Included, Measure, Round};
use crate::decimal::Amount;
use crate::entry::DimensionId;
use crate::hour::{Hour, Timestamp};
use crate::rollup::books::Books;
use crate::rollup::state::{Phase, RecordState};
use crate::view::Current;
pub use customers::{Customer, Customers};
pub use read::read;
pub use span::Span;
pub use sums::Sums;

/// Most records that a report lists.
pub const RECORDS_MAX: usize = 500_000;
/// Most customers that a report lists.
pub const CUSTOMERS_MAX: usize = 1000;

/// A month, or a year.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which.
    pub span: Span,
    /// The product's code.
    pub product_code: String,
    /// The instance that meters; none for a SaaS product, or where it is not known yet.
    pub instance: Option<String>,
    /// The last moment that the log knows.
    pub as_of: Option<Timestamp>,
    /// The first hour that is not sealed: what lies behind it is not final.
    pub open_from: Hour,
    /// By name, those with nothing in this time left out.
    pub dimensions: Vec<Dimension>,
    /// The records, oldest first; with the name of the instance, where that is another one.
    pub records: Current,
    /// Accepted records that are in the sums and not listed.
    pub left_out: u64,
    /// SaaS products: by customer.
    pub customers: Option<Customers>,
    /// When AWS did not take records.
    pub outages: Vec<outages::Outage>,
    /// When no agent ran, from and until, as far as the log still knows.
    pub away: Vec<(Timestamp, Timestamp)>,
    /// The books as they stand now, since the log began: for a log that is younger than the month they say the same.
    pub books: Vec<Books>,
    /// What the reader has to know about these figures.
    pub notes: Vec<String>,
}

/// One dimension.
#[derive(Debug, Clone)]
pub struct Dimension {
    /// Its number.
    pub id: DimensionId,
    /// As published in the listing.
    pub name: String,
    /// How it is billed, if the log still knows.
    pub billing: Option<Billing>,
    /// In all. Of a SaaS product the remainders are those of all customers together.
    pub total: Sums,
    /// Of what was included in the total: what is known to have been used, but not in which hour.
    pub dayless: Amount,
    /// By hour; hours with nothing are left out. Of a SaaS product without remainders.
    pub hours: BTreeMap<Hour, Sums>,
}

/// How a dimension is billed, at the moment of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billing {
    /// How an hour is measured.
    pub measure: Measure,
    /// Usage units in one billed unit.
    pub unit: Amount,
    /// What becomes of less than one.
    pub round: Round,
    /// What the base price covers.
    pub included: Option<Included>,
}

impl Dimension {
    /// By UTC day, named by its first hour.
    pub fn days(&self) -> BTreeMap<Hour, Sums> {
        let mut days: BTreeMap<Hour, Sums> = BTreeMap::new();
        for (hour, sums) in &self.hours {
            days.entry(span::day(*hour)).or_default().follow(sums);
        }
        days
    }
}

impl Report {
    /// How many records ended, or stand, so; those not listed included.
    pub fn records_in(&self, phase: Phase) -> u64 {
        self.dimensions.iter().map(|dimension| dimension.total.of(phase).records).sum()
    }

    /// The records that AWS did not accept as they were sealed first: what a person asks about.
    pub fn exceptions(&self) -> impl Iterator<Item = &(Option<String>, RecordState)> {
        let plain = |r: &RecordState| {
            r.phase == Phase::Accepted && r.record.took.is_empty() && r.record.late.is_zero() && r.decided.is_none()
        };
        self.records.iter().filter(move |(_, r)| !plain(r))
    }

    /// Whether every hour of it is sealed.
    pub fn is_closed(&self) -> bool {
        self.open_from >= self.span.end
    }
}

/// Why a record is where it is, in words.
pub fn reason(r: &RecordState) -> String {
    use crate::entry::Hold;
    let decided = r.decided.map(|(peer, at)| format!("decided by uid {} at {at}", peer.uid));
    let error = r.last_error.clone();
    let hold = r.record.hold.map(|hold| match hold {
        Hold::Above(ceiling) => format!("above its hold_above of {ceiling} billed units"),
        Hold::Damaged => "damage to the disk took entries of its hour".to_owned(),
    });
    let (came_in, late) = (&r.record.took, r.record.late);
    let carried = match (r.phase, r.carried_into) {
        (Phase::Carried, Some(hour)) => Some(format!("its units went into the record of {hour}")),
        (Phase::Carried, None) => Some("its units go into the next record".to_owned()),
        _ => None,
    };
    let from: Vec<String> = came_in.iter().map(|key| key.hour.to_string()).collect();
    let took = (!from.is_empty()).then(|| format!("took {} from {}", r.record.carried_in, from.join(", ")));
    let late = (!late.is_zero()).then(|| format!("{late} of it came late"));
    let parts: Vec<String> = [hold, carried, took, late, error, decided].into_iter().flatten().collect();
    parts.join("; ")
}
