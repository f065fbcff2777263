//! The roll-up against an independent model: what goes in comes out, to the last millionth, whatever happens in between.
//! Sees the fold and the seals; does not see the log, the socket or AWS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod checkpoint;
mod golden;
mod instances;
mod million;
mod model;
mod share;
mod times;
mod waiting;
mod world;

use meterd::config::{Late, Measure, Round, ZeroRecords};
use meterd::decimal::Amount;
use meterd::entry::{DimensionId, Entry, Increment, Peer, Rules, Run, Setup, Usage};
use meterd::hour::{Hour, Timestamp};
use meterd::rollup::State;
use meterd::tags::Tags;

/// 2026-11-21T09:00:00Z.
pub const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);

/// A dimension with nothing special.
pub fn rules(name: &str, measure: Measure, unit: &str, round: Round) -> Rules {
    Rules {
        name: name.into(),
        measure,
        sticky: false,
        unit: unit.parse().unwrap(),
        round,
        hold_above: None,
        included: None,
        from: Vec::new(),
    }
}

/// A state in which `dimensions` are configured, at nine o'clock.
pub fn configured(dimensions: &[Rules]) -> State {
    let mut state = State::default();
    state.apply(&Entry::Setup(setup(dimensions, NINE)));
    state
}

/// The configuration as an entry.
pub fn setup(dimensions: &[Rules], at: Timestamp) -> Setup {
    Setup {
        at,
        product_code: "product".into(),
        instance: Some("i-0123456789abcdef0".into()),
        dimensions: (0..).map(DimensionId).zip(dimensions.iter().cloned()).collect(),
        window_ms: 6 * 3600 * 1000,
        late: Late::CarryForward,
        zero_records: ZeroRecords::Off,
        region: None,
    }
}

/// One tag.
pub fn tag(value: &str) -> Tags {
    Tags::new(vec![("team".into(), value.into())]).unwrap()
}

/// Adds one increment at `now`, where the state says it counts.
pub fn add(state: &mut State, dimension: u16, quantity: &str, tags: Tags, at: Option<Timestamp>, now: Timestamp) {
    let id = DimensionId(dimension);
    let measure = state.dimension(id).unwrap().rules.measure;
    let placed = state.place(None, measure, at, now).expect("an hour to count in");
    let quantity = quantity.parse::<Amount>().unwrap().millionths() as u64;
    let (hour, late) = (placed.hour, placed.late);
    let run = if tags.is_empty() && at.is_none() && !late {
        Run::Plain { hour, items: vec![(id, quantity)] }
    } else {
        Run::Full(Increment { dimension: id, hour, late, quantity, at, key: None, tags, id: None })
    };
    let first_seq = state.accepted_seq + 1;
    state.apply(&Entry::Usage(Usage { first_seq, received: now, peer: Peer::default(), runs: vec![run] }));
}

/// Seals the oldest open hour and gives `(dimension, quantity)` of its records.
pub fn seal(state: &mut State) -> Vec<(u16, u32)> {
    let hour: Hour = state.open_from;
    let seal = state.seal(hour, hour, hour.end()).expect("the instance is known");
    let records = seal.dimensions.iter().filter_map(|d| d.record.as_ref());
    let found = records.map(|r| (r.key.dimension.0, r.request.quantity)).collect();
    state.apply(&Entry::Seal(seal));
    assert!(state.books().iter().all(|b| b.balanced()), "{:#?}", state.books());
    found
}
