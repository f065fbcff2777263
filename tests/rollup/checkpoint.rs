//! What a checkpoint holds, what it says nothing of, and what a later version may have put there.

use meterd::config::{Measure, Round};
use meterd::entry::{self, Answered, Attempt, Entry, Verdict};
use meterd::rollup::{Checkpoint, State};
use meterd::tags::Tags;

use super::{NINE, add, configured, rules, seal};

/// A state whose one record AWS has not answered for.
fn failing() -> State {
    let mut state = configured(&[rules("requests", Measure::Sum, "1", Round::Carry)]);
    add(&mut state, 0, "7", Tags::default(), None, NINE);
    assert_eq!(seal(&mut state), [(0, 7)]);
    let (key, at) = (*state.records.keys().next().unwrap(), NINE.hour().end());
    state.apply(&Entry::Attempt(Attempt { key, at }));
    let answered = Answered { key, at, verdict: Verdict::NotTaken, message: "no".into(), request_id: None };
    state.apply(&Entry::Answered(answered));
    state
}

#[test]
fn it_is_the_state() {
    for state in [State::default(), failing()] {
        let read = Checkpoint::decode(&Checkpoint::encode(&state).unwrap()).unwrap();
        assert_eq!(read.state, state);
        assert!(read.agrees_with(&state));
    }
    assert!(failing().more.waiting_since.is_some());
}

#[test]
fn the_first_builds_said_nothing_of_what_came_later() {
    let state = failing();
    let old = Checkpoint::decode(&entry::encode(&state).unwrap()).unwrap();
    assert!(old.agrees_with(&state), "what it does not say is no difference");
    let mut other = state.clone();
    other.accepted_seq += 1;
    assert!(!old.agrees_with(&other));
    let new = Checkpoint::decode(&Checkpoint::encode(&State { more: Default::default(), ..state.clone() }).unwrap());
    assert!(!new.unwrap().agrees_with(&state), "what it says wrongly is one");
}

#[test]
fn what_a_later_version_added_is_not_forgotten_in_silence() {
    let mut bytes = entry::encode(&State::default()).unwrap();
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(60_000u16.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    let error = Checkpoint::decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("unknown section 60000"), "{error}");
}
