//! Since when AWS owes a final word.

use std::time::Duration;

use meterd::config::{Measure, Round};
use meterd::entry::{Answered, Attempt, Closed, Ending, Entry, RecordKey, Started, Verdict};
use meterd::hour::{Reading, Timestamp};
use meterd::rollup::State;
use meterd::tags::Tags;

use super::{NINE, add, configured, rules, seal};

const HOUR: Duration = Duration::from_secs(3600);

/// A state with the usage of two dimensions sealed at ten o'clock.
fn sealed() -> (State, Timestamp) {
    let mut state = configured(&["requests", "bytes"].map(|name| rules(name, Measure::Sum, "1", Round::Carry)));
    assert_eq!(state.more.waiting_since, None);
    add(&mut state, 0, "7", Tags::default(), None, NINE);
    add(&mut state, 1, "8", Tags::default(), None, NINE);
    seal(&mut state);
    (state, NINE.plus(HOUR))
}

fn keys(state: &State) -> Vec<RecordKey> {
    state.records.keys().copied().collect()
}

fn answer(state: &mut State, key: RecordKey, verdict: Verdict, at: Timestamp) {
    state.apply(&Entry::Attempt(Attempt { key, at }));
    state.apply(&Entry::Answered(Answered { key, at, verdict, message: String::new(), request_id: None }));
}

fn accepted() -> Verdict {
    Verdict::Accepted { metering_record_id: "id".into() }
}

fn start(state: &mut State, at: Timestamp) {
    state.apply(&Entry::Started(Started { reading: Reading::from(at) }));
}

#[test]
fn it_begins_with_what_is_sealed_and_anew_with_each_final_word() {
    let (mut state, ten) = sealed();
    let (keys, minutes) = (keys(&state), |n: u64| ten.plus(Duration::from_secs(n * 60)));
    assert_eq!(state.more.waiting_since, Some(ten));
    for verdict in
        [Verdict::NotTaken, Verdict::Blocked, Verdict::Ambiguous, Verdict::OutOfBounds { window_passed: false }]
    {
        answer(&mut state, keys[0], verdict, minutes(1));
        assert_eq!(state.more.waiting_since, Some(ten), "nothing of these settles anything");
    }
    add(&mut state, 0, "7", Tags::default(), None, minutes(2));
    assert_eq!(state.more.waiting_since, Some(ten));
    answer(&mut state, keys[0], accepted(), minutes(3));
    assert_eq!(state.more.waiting_since, Some(minutes(3)), "the other one waits from here");
    answer(&mut state, keys[1], Verdict::Refused, minutes(4));
    assert_eq!(state.more.waiting_since, None, "what waits for a person does not wait for AWS");
}

#[test]
fn it_goes_on_with_what_is_carried_and_ends_with_what_is_given_up() {
    for (ending, goes_on) in [(Ending::Carried, true), (Ending::Expired, false), (Ending::InDoubt, false)] {
        let (mut state, ten) = sealed();
        for key in keys(&state) {
            state.apply(&Entry::Closed(Closed { key, at: ten.plus(7 * HOUR), ending }));
        }
        assert_eq!(state.more.waiting_since, goes_on.then_some(ten), "{ending:?}");
    }
}

#[test]
fn a_restart_changes_nothing_and_a_long_absence_begins_it_anew() {
    let (mut state, ten) = sealed();
    let soon = ten.plus(Duration::from_secs(15 * 60));
    start(&mut state, soon);
    assert_eq!(state.more.waiting_since, Some(ten));
    let late = ten.plus(2 * HOUR);
    start(&mut state, late);
    assert_eq!(state.more.waiting_since, Some(late), "nobody asked AWS meanwhile");
}
