//! Which hour usage counts in, what a seal fixes, and what rounding does.

use std::time::Duration;

use meterd::config::{Measure, Round, ZeroRecords};
use meterd::decimal::Amount;
use meterd::entry::Entry;
use meterd::hour::Timestamp;
use meterd::rollup::seal::QUANTITY_MAX;
use meterd::tags::Tags;

use super::{NINE, add, configured, rules, seal, setup};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_remainder_goes_into_the_next_hour() {
    let mut state = configured(&[rules("requests", Measure::Sum, "1000", Round::Carry)]);
    add(&mut state, 0, "1999.5", Tags::default(), None, NINE);
    assert_eq!(seal(&mut state), [(0, 1)]);
    add(&mut state, 0, "0.5", Tags::default(), None, NINE.plus(HOUR));
    assert_eq!(seal(&mut state), [(0, 1)], "999.5 and 0.5 make a thousand");
    assert_eq!(state.books()[0].remainder, Amount::ZERO);
}

#[test]
fn rounding_up_and_down_is_shown_apart() {
    let up = rules("up", Measure::Sum, "10", Round::Up);
    let down = rules("down", Measure::Sum, "10", Round::Down);
    let mut state = configured(&[up, down]);
    add(&mut state, 0, "11", Tags::default(), None, NINE);
    add(&mut state, 1, "19", Tags::default(), None, NINE);
    assert_eq!(seal(&mut state), [(0, 2), (1, 1)]);
    let rounded: Vec<String> = state.books().iter().map(|b| b.rounded.to_string()).collect();
    assert_eq!(rounded, ["9", "-9"]);
}

/// A writer can report more in an hour than a record, or a number of 64 bits, holds.
#[test]
fn units_without_end_wait_for_their_turn() {
    for round in [Round::Carry, Round::Up, Round::Down] {
        let mut state = configured(&[rules("drops", Measure::Sum, "0.000001", round)]);
        let mut reported = Amount::ZERO;
        for hour in 0..5 {
            for n in 0..40 {
                let team = ["blue", "green", "red"][n % 3];
                add(&mut state, 0, "999999999999.999999", super::tag(team), None, NINE.plus(HOUR * hour));
                reported += "999999999999.999999".parse().unwrap();
            }
            assert_eq!(seal(&mut state), [(0, QUANTITY_MAX as u32)], "{round:?}, hour {hour}");
            let books = &state.books()[0];
            assert_eq!((books.received, books.rounded), (reported, Amount::ZERO), "{round:?}, hour {hour}");
        }
    }
}

#[test]
fn max_is_the_largest_and_last_is_the_latest_moment() {
    let mut state =
        configured(&[rules("users", Measure::Max, "1", Round::Up), rules("seats", Measure::Last, "1", Round::Up)]);
    for (minute, level) in [(1, "7"), (3, "9"), (2, "8")] {
        let at = Timestamp::from_seconds(NINE.seconds() + minute * 60);
        add(&mut state, 0, level, Tags::default(), Some(at), NINE.plus(HOUR / 2));
        add(&mut state, 1, level, Tags::default(), Some(at), NINE.plus(HOUR / 2));
    }
    add(&mut state, 0, "1", Tags::default(), None, NINE.plus(HOUR / 2));
    assert_eq!(seal(&mut state), [(0, 9), (1, 9)]);
}

#[test]
fn late_usage_goes_into_the_open_hour_and_is_marked() {
    let mut state = configured(&[rules("requests", Measure::Sum, "1", Round::Carry)]);
    seal(&mut state);
    let ten = NINE.plus(HOUR);
    add(&mut state, 0, "3", Tags::default(), Some(NINE), ten);
    let hour = state.open_from;
    let sealed = state.seal(hour, hour, ten.plus(HOUR)).unwrap();
    let record = sealed.dimensions[0].record.as_ref().unwrap();
    assert_eq!((record.request.quantity, record.late), (3, Amount::from_units(3)));
    assert_eq!(record.request.timestamp.to_string(), "2026-11-21T10:59:59Z");
    let closed = state.place(None, Measure::Max, Some(NINE), ten);
    assert_eq!(closed, None, "a maximum cannot be moved into another hour");
}

#[test]
fn no_clock_opens_a_sealed_hour_again() {
    let mut state = configured(&[rules("requests", Measure::Sum, "1", Round::Carry)]);
    seal(&mut state);
    let set_back = Timestamp::from_seconds(NINE.seconds() - 30 * 24 * 3600);
    let placed = state.place(None, Measure::Sum, None, set_back).unwrap();
    assert_eq!(placed.hour, state.open_from);
    assert!(!placed.late);
}

#[test]
fn what_one_record_cannot_hold_spills_into_the_next_hours() {
    let mut state = configured(&[rules("bytes", Measure::Sum, "1", Round::Carry)]);
    add(&mut state, 0, "5000000000", Tags::default(), None, NINE);
    let max = u32::try_from(QUANTITY_MAX).unwrap();
    assert_eq!(seal(&mut state), [(0, max)]);
    assert_eq!(seal(&mut state), [(0, max)]);
    assert_eq!(seal(&mut state), [(0, 705_032_706)]);
    assert_eq!(seal(&mut state), []);
}

#[test]
fn a_changed_rule_takes_effect_with_the_next_hour_and_loses_nothing() {
    let old = rules("requests", Measure::Sum, "1000", Round::Carry);
    let mut state = configured(std::slice::from_ref(&old));
    add(&mut state, 0, "1500", Tags::default(), None, NINE);
    let new = rules("requests", Measure::Sum, "100", Round::Carry);
    let added = rules("more", Measure::Count, "1", Round::Carry);
    state.apply(&Entry::Setup(setup(&[new, added], NINE.plus(HOUR / 2))));
    add(&mut state, 1, "1", Tags::default(), None, NINE.plus(HOUR / 2));
    assert_eq!(seal(&mut state), [(0, 1), (1, 1)], "this hour by the old unit, a new dimension at once");
    add(&mut state, 0, "1", Tags::default(), None, NINE.plus(HOUR));
    assert_eq!(seal(&mut state), [(0, 5)], "500 left and 1 more, by hundreds");
    assert_eq!(state.books()[0].remainder, Amount::from_units(1));
    // Removed from the configuration: its usage under way is billed, its books stay.
    add(&mut state, 0, "250", Tags::default(), None, NINE.plus(HOUR * 2));
    state.apply(&Entry::Setup(setup(&[], NINE.plus(HOUR * 2))));
    assert_eq!(seal(&mut state), [(0, 2)]);
    assert_eq!(state.books()[0].remainder, Amount::from_units(51));
}

#[test]
fn tags_beyond_what_a_record_can_say_count_without_them() {
    let mut state = configured(&[rules("requests", Measure::Count, "1", Round::Carry)]);
    for i in 0..2600 {
        let tags = Tags::new(vec![("customer".into(), format!("c{i}"))]).unwrap();
        add(&mut state, 0, "1", tags, None, NINE);
    }
    for key in ["a", "b", "c", "d", "e"] {
        add(&mut state, 0, "1", Tags::new(vec![(key.into(), "x".into())]).unwrap(), None, NINE);
    }
    let hour = state.open_from;
    let sealed = state.seal(hour, hour, hour.end()).unwrap();
    let request = &sealed.dimensions[0].record.as_ref().unwrap().request;
    assert_eq!(request.quantity, 2605);
    assert_eq!(request.allocations.len(), 2500);
    assert_eq!(request.allocations.iter().map(|a| a.quantity).sum::<u32>(), 2605);
    let plain: Vec<u32> = request.allocations.iter().filter(|a| a.tags.is_empty()).map(|a| a.quantity).collect();
    assert_eq!(plain, [106]);
}

#[test]
fn an_hour_without_usage_is_reported_where_that_is_asked_for() {
    let dimensions = [rules("requests", Measure::Sum, "1000", Round::Carry)];
    let mut state = configured(&dimensions);
    assert_eq!(seal(&mut state), []);
    let all = meterd::entry::Setup { zero_records: ZeroRecords::All, ..setup(&dimensions, NINE.plus(HOUR)) };
    state.apply(&Entry::Setup(all));
    add(&mut state, 0, "999", Tags::default(), None, NINE.plus(HOUR));
    assert_eq!(seal(&mut state), [(0, 0)], "less than one unit is a zero, and goes into the next hour");
    add(&mut state, 0, "1", Tags::default(), None, NINE.plus(HOUR * 2));
    assert_eq!(seal(&mut state), [(0, 1)]);
    assert_eq!(seal(&mut state), [(0, 0)]);
}

/// Two changes while hours are open on both sides of the first: each hour is billed by what was in force in it.
#[test]
fn a_second_change_leaves_the_first_one_its_hours() {
    let by = |unit: &str| [rules("requests", Measure::Sum, unit, Round::Carry)];
    let mut state = configured(&by("1"));
    let (ten, eleven) = (NINE.plus(HOUR), NINE.plus(HOUR * 2));
    state.apply(&Entry::Setup(setup(&by("10"), NINE)));
    state.apply(&Entry::Setup(setup(&by("100"), ten)));
    for now in [NINE, ten, eleven] {
        add(&mut state, 0, "1000", Tags::default(), None, now);
    }
    assert_eq!([seal(&mut state), seal(&mut state), seal(&mut state)], [[(0, 1000)], [(0, 100)], [(0, 10)]]);
}

#[test]
fn books_that_differ_are_explained() {
    let mut state = configured(&[rules("requests", Measure::Sum, "1", Round::Carry)]);
    add(&mut state, 0, "3.5", Tags::default(), None, NINE);
    seal(&mut state);
    let mut books = state.books().remove(0);
    assert!(books.balanced());
    books.pending = Amount::from_units(2);
    assert!(!books.balanced());
    let said = "3.5 came in, 2.5 are accounted for, 1 missing (received 3.5, pending 2, remainder 0.5)";
    assert_eq!(books.explained(), said);
}
