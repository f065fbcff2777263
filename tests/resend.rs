//! A writer that resends with the same key adds nothing, and is told so, however late its retry comes. Drives the engine
//! without socket and time; does not see a restart between the two.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use meterd::config::{Measure, Offset, Round};
use meterd::disk::RealDisk;
use meterd::engine::{Code, Engine, NewIncrement, Options};
use meterd::entry::{Peer, Rules};
use meterd::hour::Timestamp;
use meterd::index::Index;
use support::rules;

#[path = "support/options.rs"]
mod support;

/// 2026-11-21T09:00:00Z.
const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);
const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

fn options() -> Options {
    let users = rules("users", Measure::Max, 1);
    let requests = Rules { round: Round::Up, ..rules("requests", Measure::Sum, 1) };
    let offset = Offset::Fixed(Duration::from_secs(60));
    Options { offset, segment_bytes: 1024 * 1024, ..support::options(vec![users, requests]) }
}

fn increment<'a>(dimension: &'a str, quantity: &'a str, key: &'a str, at: Timestamp) -> NewIncrement<'a> {
    let at = Some(Cow::Owned(at.to_string()));
    NewIncrement {
        dimension: dimension.into(),
        quantity: Some(quantity.into()),
        key: Some(key.into()),
        at,
        ..NewIncrement::default()
    }
}

#[test]
fn a_retry_that_comes_after_its_hour_was_sealed_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(dir.path()));
    let mut engine = Engine::open(disk, options(), NINE, |_| Ok(Index::in_memory())).unwrap();
    let (peer, at) = (Peer::default(), NINE.plus(HALF_AN_HOUR));
    for dimension in ["users", "requests"] {
        let taken = engine.take(peer, &increment(dimension, "7", dimension, at), at).unwrap();
        assert_eq!(taken.duplicates, 0);
    }
    engine.commit(at).unwrap();
    let later = NINE.plus(HALF_AN_HOUR * 3);
    engine.tick(later).unwrap();
    let books = engine.state().books();

    for (dimension, seq) in [("users", 1), ("requests", 2)] {
        let again = increment(dimension, "7.0", dimension, at);
        let taken = engine.take(peer, &again, later).unwrap();
        assert_eq!((taken.seq, taken.duplicates), (seq, 1), "{dimension}");
        let taken = engine.take_all(peer, std::slice::from_ref(&again), later).unwrap();
        assert_eq!((taken.seq, taken.duplicates), (seq, 1), "{dimension} in an array");
        let other = engine.take(peer, &increment(dimension, "8", dimension, at), later).unwrap_err();
        assert_eq!(other.code, Code::KeyConflict, "{dimension}");
    }
    let new = engine.take(peer, &increment("users", "7", "new", at), later).unwrap_err();
    assert_eq!(new.code, Code::HourClosed, "what is not known cannot be taken any more");
    engine.commit(later).unwrap();
    assert_eq!(engine.state().books(), books);
}
