//! What the simulated engine is opened with: the one place that knows the engine's options. Sees five dimensions that
//! differ in measure, unit and rounding, and configurations that change between runs.

use std::time::Duration;

use fastrand::Rng;
use meterd::config::{Late, Measure, Offset, Round, ZeroRecords};
use meterd::decimal::Amount;
use meterd::engine::Options;
use meterd::entry::Rules;
use meterd::wal::Purpose;

pub const MILLION: i128 = 1_000_000;

/// A dimension as it is configured unless a day draws it otherwise.
pub struct Dimension {
    pub name: &'static str,
    pub measure: Measure,
    unit: i64,
    round: Round,
}

pub const DIMENSIONS: [Dimension; 5] = [
    Dimension { name: "requests", measure: Measure::Sum, unit: 1, round: Round::Carry },
    Dimension { name: "gigabytes", measure: Measure::Sum, unit: 10, round: Round::Carry },
    Dimension { name: "calls", measure: Measure::Count, unit: 4, round: Round::Down },
    Dimension { name: "users", measure: Measure::Max, unit: 5, round: Round::Up },
    Dimension { name: "seats", measure: Measure::Last, unit: 1, round: Round::Up },
];
pub const PLAIN: &str = DIMENSIONS[0].name;
pub const KEYED: &str = DIMENSIONS[1].name;
/// The one that takes tags.
pub const TAGGED: usize = 1;
/// The one that a configuration may leave out.
pub const LEFT_OUT: usize = 2;

/// What a run is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    units: [Amount; 5],
    rounds: [Round; 5],
    left_out: bool,
    expire: bool,
    zero_records: bool,
    pub window: Duration,
    pub grace: Duration,
    offset: Offset,
    segment_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            units: DIMENSIONS.map(|d| Amount::from_units(d.unit)),
            rounds: DIMENSIONS.map(|d| d.round),
            left_out: false,
            expire: false,
            zero_records: false,
            window: Duration::from_secs(6 * 3600),
            grace: Duration::from_secs(60),
            offset: Offset::Fixed(Duration::from_secs(120)),
            segment_bytes: 32 * 1024,
        }
    }
}

impl Config {
    pub fn drawn(rng: &mut Rng) -> Self {
        let mut config = Config {
            left_out: rng.u8(0..6) == 0,
            expire: rng.u8(0..4) == 0,
            zero_records: rng.u8(0..4) == 0,
            segment_bytes: (16 * 1024) << rng.u8(0..2),
            ..Config::default()
        };
        if rng.u8(0..8) == 0 {
            config.window = Duration::from_secs(4 * 3600);
        }
        if rng.u8(0..3) == 0 {
            config.grace = Duration::from_secs(rng.u64(0..3) * 300);
        }
        if rng.bool() {
            config.offset = Offset::Auto;
        }
        if rng.u8(0..3) == 0 {
            config.units[1] = Amount::from_millionths([500_000, 7_000_000, 10_000_000][rng.usize(0..3)]);
            config.rounds[1] = [Round::Carry, Round::Up, Round::Down][rng.usize(0..3)];
            config.units[3] = Amount::from_units(rng.i64(1..6));
            config.rounds[4] = [Round::Up, Round::Down][rng.usize(0..2)];
        }
        config
    }

    /// Whether it names a dimension.
    pub fn names(&self, dimension: usize) -> bool {
        !(self.left_out && dimension == LEFT_OUT)
    }

    /// `named`: the instance is known.
    pub fn options(&self, named: bool) -> Options {
        let rules = DIMENSIONS.iter().zip(self.units).zip(self.rounds).map(|((d, unit), round)| Rules {
            name: d.name.into(),
            measure: d.measure,
            sticky: false,
            unit,
            round,
            hold_above: None,
            included: None,
            from: Vec::new(),
        });
        let dimensions = rules.enumerate().filter(|(at, _)| self.names(*at)).map(|(_, rules)| rules);
        Options {
            product_code: "p".into(),
            saas: false,
            dimensions: dimensions.collect(),
            window: self.window,
            late: if self.expire { Late::Expire } else { Late::CarryForward },
            zero_records: if self.zero_records { ZeroRecords::All } else { ZeroRecords::Off },
            region: None,
            grace: self.grace,
            offset: self.offset,
            calls_in_flight: 1,
            instance: named.then(|| INSTANCE.to_owned()),
            segment_bytes: self.segment_bytes,
            purpose: Purpose::Test,
            judge_clock: true,
            retain: Duration::from_secs(24 * 3600),
            threads: false,
        }
    }
}

pub const INSTANCE: &str = "i-1";
/// The instances that a log may wake up on.
pub const NAMES: [&str; 3] = [INSTANCE, "i-2", "i-3"];

/// The usual options with segments of another length, and a clock that nobody doubts.
pub fn options(segment_bytes: u64) -> Options {
    Options { judge_clock: false, ..Config { segment_bytes, ..Config::default() }.options(true) }
}
