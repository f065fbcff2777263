//! What the simulated engine is opened with: two sums, one of which is billed by tens and carries what is left. Cannot
//! see other measures and roundings (the roll-up's tests do).

use std::time::Duration;

use meterd::config::{Late, Measure, Offset, Round, ZeroRecords};
use meterd::decimal::Amount;
use meterd::engine::Options;
use meterd::entry::Rules;
use meterd::wal::Purpose;

pub const PLAIN: &str = "requests";
pub const KEYED: &str = "gigabytes";
pub const UNIT: i64 = 10;

fn rules(name: &str, unit: i64) -> Rules {
    Rules {
        name: name.into(),
        measure: Measure::Sum,
        sticky: false,
        unit: Amount::from_units(unit),
        round: Round::Carry,
        hold_above: None,
        included: None,
        from: Vec::new(),
    }
}

pub fn options(segment_bytes: u64) -> Options {
    Options {
        product_code: "p".into(),
        dimensions: vec![rules(PLAIN, 1), rules(KEYED, UNIT)],
        window: Duration::from_secs(6 * 3600),
        late: Late::CarryForward,
        zero_records: ZeroRecords::Off,
        region: None,
        grace: Duration::from_secs(60),
        offset: Offset::Fixed(Duration::from_secs(120)),
        instance: Some("i-1".into()),
        segment_bytes,
        purpose: Purpose::Test,
        judge_clock: false,
        retain: Duration::from_secs(24 * 3600),
        threads: false,
    }
}
