//! What an engine is opened with.

use std::time::Duration;

use crate::config::{self, Config, Offset, ProductKind, ZeroRecords};
use crate::entry::Rules;
use crate::wal::Purpose;

/// What an engine is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The product's code.
    pub product_code: String,
    /// Whether its customers are billed (BatchMeterUsage), and not the instance.
    pub saas: bool,
    /// The configured dimensions, in order.
    pub dimensions: Vec<Rules>,
    /// See [`config::Submit`].
    pub window: Duration,
    /// See [`config::Submit`].
    pub late: config::Late,
    /// See [`config::Submit`].
    pub zero_records: ZeroRecords,
    /// See [`config::Submit`].
    pub region: Option<String>,
    /// How long an hour stays open for usage that is stamped with it.
    pub grace: Duration,
    /// How long after an hour its records go out.
    pub offset: Offset,
    /// Calls with customers' records that may be under way at once.
    pub calls_in_flight: u32,
    /// The instance, if it is known.
    pub instance: Option<String>,
    /// Length of a new segment in bytes.
    pub segment_bytes: u64,
    /// Whether usage is real.
    pub purpose: Purpose,
    /// Whether our clock is held against AWS's; not where it is one of its own.
    pub judge_clock: bool,
    /// How long segments are kept after all in them is settled.
    pub retain: Duration,
    /// Whether helpers run in threads of their own; off in simulations.
    pub threads: bool,
}

impl Options {
    /// As `config` says, for `instance` if it is known. `judge_clock`: see the field.
    pub fn of(config: &Config, instance: Option<String>, purpose: Purpose, judge_clock: bool) -> Self {
        Options {
            product_code: config.product.code.clone(),
            saas: config.product.kind == ProductKind::Saas,
            dimensions: config.dimensions.iter().map(Rules::from).collect(),
            window: config.submit.window,
            late: config.submit.late,
            zero_records: config.submit.zero_records,
            region: config.submit.region.clone(),
            grace: config.hour.grace,
            offset: config.submit.offset,
            calls_in_flight: config.submit.calls_in_flight,
            instance,
            segment_bytes: u64::from(config.state.segment_bytes),
            purpose,
            judge_clock,
            retain: Duration::from_secs(u64::from(config.state.retain_days) * 24 * 3600),
            threads: true,
        }
    }
}
