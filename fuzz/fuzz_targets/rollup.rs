//! Any sequence of operations on the roll-up against a model of two lines: what went in is what stands in records,
//! remainders, open hours and carries, per dimension, to the last millionth, and a checkpoint changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::config::{Late, Measure, Round, ZeroRecords};
use meterd::decimal::Amount;
use meterd::entry::{Closed, DimensionId, Ending, Entry, Increment, Peer, Rules, Run, Setup, Usage, decode, encode};
use meterd::hour::{Hour, Timestamp};
use meterd::rollup::State;
use meterd::rollup::state::Phase;
use meterd::tags::Tags;

/// 2026-11-21T09:00:00Z.
const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);

fn rules(name: &str, millionths: i128) -> Rules {
    Rules {
        name: name.into(),
        measure: Measure::Sum,
        sticky: false,
        unit: Amount::from_millionths(millionths.max(1)),
        round: Round::Carry,
        hold_above: None,
        included: None,
        from: Vec::new(),
    }
}

fn setup(unit: i128, at: Timestamp) -> Entry {
    let dimensions = vec![(DimensionId(0), rules("a", 1_000_000)), (DimensionId(1), rules("b", unit))];
    let (late, zero_records) = (Late::CarryForward, ZeroRecords::Off);
    let (product_code, instance) = ("p".into(), Some("i".into()));
    Entry::Setup(Setup {
        at,
        product_code,
        instance,
        dimensions,
        window_ms: 3_600_000,
        late,
        zero_records,
        region: None,
    })
}

fuzz_target!(|steps: Vec<(u8, u32, u8)>| {
    let mut state = State::default();
    state.apply(&setup(300_000, NINE));
    let mut put = [0i128; 2];
    for (what, n, tag) in steps {
        let hour: Hour = state.open_from;
        match what % 8 {
            0..=3 => {
                let dimension = DimensionId(u16::from(what % 2));
                let tags = if tag % 4 == 0 { vec![] } else { vec![("k".to_owned(), format!("v{}", tag % 4))] };
                let tags = Tags::new(tags).expect("valid tags");
                let (at, key, id) = (None, None, None);
                let one = Increment { dimension, hour, late: false, quantity: u64::from(n), at, key, tags, id };
                let first_seq = state.accepted_seq + 1;
                let usage =
                    Usage { first_seq, received: hour.start(), peer: Peer::default(), runs: vec![Run::Full(one)] };
                state.apply(&Entry::Usage(usage));
                put[usize::from(dimension.0)] += i128::from(n);
            }
            4 | 5 => {
                let seal = state.seal(hour, hour, hour.end()).expect("an instance");
                state.apply(&Entry::Seal(seal));
            }
            6 => {
                let pending = state.records.values().find(|r| r.phase == Phase::Pending).map(|r| r.record.key);
                if let Some(key) = pending {
                    state.apply(&Entry::Closed(Closed { key, at: hour.start(), ending: Ending::Carried }));
                }
            }
            _ => {
                state.apply(&setup(i128::from(n % 5_000_000), hour.start()));
                state = decode(&encode(&state).expect("a state")).expect("the same");
            }
        }
        let books = state.books();
        for (books, put) in books.iter().zip(put) {
            assert!(books.balanced(), "{books:?}");
            assert_eq!(books.received.millionths(), put);
        }
    }
});
