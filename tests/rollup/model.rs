//! Random histories: increments with decimals and tags, hours that pass, restarts from a checkpoint.

use std::collections::BTreeMap;

use meterd::config::{Measure, Round};
use meterd::decimal::Amount;
use meterd::entry::{Ending, Entry, RecordKey, encode};
use meterd::hour::Timestamp;
use meterd::rollup::state::Phase;
use meterd::rollup::{Checkpoint, State};
use meterd::tags::Tags;
use proptest::prelude::*;

use super::{NINE, add, configured, rules, tag};

#[derive(Debug, Clone)]
enum Step {
    Add {
        dimension: u16,
        millionths: u64,
        team: Option<u8>,
        back: Option<u8>,
    },
    Seal,
    /// The oldest pending record can no longer be sent.
    Carry,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let quantity = prop_oneof![0u64..5, 0u64..5_000_000, 0u64..10_000_000_000_000];
    let back = proptest::option::weighted(0.2, 0u8..4);
    let add = (0u16..3, quantity, proptest::option::of(0u8..4), back)
        .prop_map(|(dimension, millionths, team, back)| Step::Add { dimension, millionths, team, back });
    let step = prop_oneof![12 => add, 2 => Just(Step::Seal), 1 => Just(Step::Carry), 1 => Just(Step::Restart)];
    proptest::collection::vec(step, 1..120)
}

fn dimensions() -> Vec<meterd::entry::Rules> {
    vec![
        rules("whole", Measure::Sum, "1", Round::Carry),
        rules("thousands", Measure::Sum, "1000", Round::Carry),
        rules("odd", Measure::Sum, "0.3", Round::Carry),
    ]
}

type ByTags = BTreeMap<(u16, Option<u8>), i128>;

fn team_of(tags: &Tags) -> Option<u8> {
    tags.iter().next().map(|(_, value)| value.parse().unwrap())
}

/// Plays the steps; what was put in by dimension and team, and every seal as bytes.
fn play(steps: &[Step], restarts: bool) -> (State, ByTags, Vec<Vec<u8>>) {
    let mut state = configured(&dimensions());
    let (mut put, mut seals) = (ByTags::new(), Vec::new());
    let mut now = NINE;
    for step in steps {
        match step {
            Step::Add { dimension, millionths, team, back } => {
                let at = back.map(|hours| Timestamp::from_seconds(now.seconds() - i64::from(hours) * 3600));
                let tags = team.map(|t| tag(&t.to_string())).unwrap_or_default();
                let quantity = Amount::from_millionths(i128::from(*millionths)).to_string();
                add(&mut state, *dimension, &quantity, tags, at, now);
                *put.entry((*dimension, *team)).or_default() += i128::from(*millionths);
            }
            Step::Seal => {
                let hour = state.open_from;
                now = now.max(hour.end());
                let seal = state.seal(hour, hour, now).unwrap();
                seals.push(encode(&seal).unwrap());
                state.apply(&Entry::Seal(seal));
            }
            Step::Carry => {
                let pending = state.records.values().find(|r| r.phase == Phase::Pending);
                let pending: Option<RecordKey> = pending.map(|r| r.record.key);
                if let Some(key) = pending {
                    let closed = meterd::entry::Closed { key, at: now, ending: Ending::Carried };
                    state.apply(&Entry::Closed(closed));
                }
            }
            Step::Restart if restarts => {
                state = Checkpoint::decode(&Checkpoint::encode(&state).unwrap()).unwrap().state
            }
            Step::Restart => {}
        }
        for books in state.books() {
            assert!(books.balanced(), "{books:#?}");
        }
    }
    (state, put, seals)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Per dimension and tag set: billed units, units on their way, open usage and remainder are what was put in.
    #[test]
    fn what_goes_in_comes_out(steps in steps()) {
        let (state, put, seals) = play(&steps, true);
        let mut out = ByTags::new();
        let units = [1_000_000i128, 1_000_000_000, 300_000];
        // A carried record's units stand in the record that took them, or wait in `carry`: count each unit once.
        for record in state.records.values().filter(|r| r.phase != Phase::Carried) {
            let (dimension, request) = (record.record.key.dimension.0, &record.record.request);
            let unit = units[usize::from(dimension)];
            let shared: i128 = request.allocations.iter().map(|a| i128::from(a.quantity)).sum();
            prop_assert!(request.allocations.is_empty() || shared == i128::from(request.quantity));
            for allocation in &request.allocations {
                *out.entry((dimension, team_of(&allocation.tags))).or_default() += i128::from(allocation.quantity) * unit;
            }
            if request.allocations.is_empty() {
                *out.entry((dimension, None)).or_default() += i128::from(request.quantity) * unit;
            }
        }
        for (number, dimension) in (0u16..).zip(&state.dimensions) {
            let unit = units[usize::from(number)];
            for (tags, amount) in dimension.remainder.iter() {
                *out.entry((number, team_of(tags))).or_default() += amount.millionths();
            }
            for hour in dimension.open.values() {
                for (tags, amount) in hour.measured.clone().into_tagged().iter() {
                    *out.entry((number, team_of(tags))).or_default() += amount.millionths();
                }
            }
            for (tags, n) in State::carried_units(&dimension.carry) {
                *out.entry((number, team_of(&tags))).or_default() += i128::from(n) * unit;
            }
            let total = dimension.remainder.total();
            prop_assert!(!total.is_negative() && total.millionths() < unit, "a remainder is below one unit: {total}");
        }
        out.retain(|_, n| *n != 0);
        let mut put = put;
        put.retain(|_, n| *n != 0);
        prop_assert_eq!(out, put, "{} seals", seals.len());
    }

    /// The same history gives the same records, byte for byte, in one go or with restarts anywhere.
    #[test]
    fn a_fold_is_a_fold(steps in steps()) {
        let (once, _, seals) = play(&steps, false);
        let (again, _, with_restarts) = play(&steps, true);
        prop_assert_eq!(seals, with_restarts);
        prop_assert_eq!(once, again);
    }
}
