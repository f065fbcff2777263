//! An engine's options for tests: AWS's window, a day's retention, small segments, no threads.

use std::time::Duration;

use meterd::config::{Late, Measure, Offset, Round, ZeroRecords};
use meterd::decimal::Amount;
use meterd::engine::Options;
use meterd::entry::Rules;
use meterd::wal::Purpose;

pub const HOUR: Duration = Duration::from_secs(3600);

/// A dimension that is billed by `unit`: what is left of a sum is carried, the others are rounded up.
pub fn rules(name: &str, measure: Measure, unit: i64) -> Rules {
    Rules {
        name: name.into(),
        measure,
        sticky: false,
        unit: Amount::from_units(unit),
        round: if measure == Measure::Sum { Round::Carry } else { Round::Up },
        hold_above: None,
        included: None,
        from: Vec::new(),
    }
}

/// An engine that meters these, for a test's usage.
pub fn options(dimensions: Vec<Rules>) -> Options {
    Options {
        product_code: "prod".into(),
        saas: false,
        dimensions,
        window: HOUR * 6,
        late: Late::CarryForward,
        zero_records: ZeroRecords::Off,
        region: None,
        grace: Duration::from_secs(60),
        offset: Offset::Fixed(Duration::ZERO),
        calls_in_flight: 1,
        instance: Some("i-1".into()),
        segment_bytes: 64 * 1024,
        purpose: Purpose::Test,
        judge_clock: false,
        retain: HOUR * 24,
        threads: false,
    }
}
