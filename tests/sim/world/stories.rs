//! What seeds have found, kept as stories.

use std::sync::Arc;
use std::time::Duration;

use meterd::config::Measure;
use meterd::engine::{Code, Engine, EngineError, NewIncrement, Options};
use meterd::entry::{Peer, Rules};
use meterd::hour::Reading;
use meterd::index::Index;

use crate::disk::SimDisk;
use crate::machine::NOW;
use crate::setup;

/// The clock was a day and more ahead, hours were sealed by it, and it was set right: keys that come in from then on
/// count in an hour that is far ahead of the clock, and were forgotten by the next line.
#[test]
fn a_key_is_remembered_after_the_clock_was_set_back() {
    let disk = Arc::new(SimDisk::new(1));
    let open = |disk| Engine::open(disk, setup::options(16 * 1024), NOW, |_| Ok(Index::in_memory())).unwrap();
    let mut engine = open(Arc::clone(&disk));
    engine.tick(NOW.plus(Duration::from_secs(30 * 3600))).unwrap();
    let keyed = NewIncrement {
        dimension: "requests".into(),
        quantity: Some("1".into()),
        key: Some("k".into()),
        ..NewIncrement::default()
    };
    assert_eq!(engine.take(Peer::default(), &keyed, NOW).unwrap().duplicates, 0);
    engine.commit(NOW).unwrap();
    assert_eq!(engine.take(Peer::default(), &keyed, NOW).unwrap().duplicates, 1);
    drop(engine);
    let again = open(disk).take(Peer::default(), &keyed, NOW).unwrap();
    assert_eq!(again.duplicates, 1, "after a restart");
}

/// While nobody knows whose hour it is, or what hour it is, nothing can be sealed: that is told, and usage is taken, for it
/// is in the record that follows.
#[test]
fn an_end_that_cannot_close_its_hour_takes_usage_until_it_can() {
    let options = Options { instance: None, ..setup::options(16 * 1024) };
    let disk = Arc::new(SimDisk::new(1));
    let mut engine = Engine::open(disk, options, NOW, |_| Ok(Index::in_memory())).unwrap();
    let one = NewIncrement { dimension: "requests".into(), quantity: Some("1".into()), ..NewIncrement::default() };
    engine.end(None, "spot", NOW).unwrap();
    let seen = engine.end_seen();
    assert!(seen.obstacle.is_some_and(|why| why.contains("id is not known")), "{seen:?}");
    assert_eq!(engine.ending().unwrap().closed, None);
    engine.take(Peer::default(), &one, NOW).unwrap();
    assert_eq!(engine.next_tick(NOW), NOW, "it is looked at again and again");

    engine.set_instance("i-1".into(), NOW).unwrap();
    engine.tick(NOW).unwrap();
    let seen = engine.end_seen();
    assert_eq!((seen.obstacle, seen.ending.unwrap().closed), (None, Some(NOW.hour())));
    let [record] = &seen.waiting[..] else { panic!("{:?}", seen.waiting) };
    assert_eq!((record.record.request.quantity, record.record.request.timestamp), (1, NOW));
    assert_eq!(engine.take(Peer::default(), &one, NOW).unwrap_err().code, Code::ShuttingDown);
    // What metadata no longer announces is called off; what a person asked for is not.
    engine.end(Some(Peer::default()), "asked", NOW).unwrap();
    assert!(!engine.call_off(None, NOW).unwrap());
    assert!(engine.call_off(Some(Peer::default()), NOW).unwrap());
    engine.take(Peer::default(), &one, NOW).unwrap();
    engine.commit(NOW).unwrap();
    assert_eq!(engine.end_seen().left, [("requests".to_owned(), NOW.hour().next(), "1".to_owned())]);
}

fn rules(options: &Options, name: &str, measure: Measure) -> Rules {
    Rules { name: name.into(), measure, ..options.dimensions[0].clone() }
}

/// The agent wrote down minutes ago that it runs: what ran until the dimension came is not its own.
#[test]
fn an_uptime_that_comes_while_the_agent_runs_is_metered_from_then_on() {
    let at = |seconds| Reading {
        at: NOW.plus(Duration::from_secs(seconds)),
        boot: Some([1; 16]),
        since_boot: Duration::from_secs(seconds),
    };
    let without = Options { judge_clock: true, ..setup::options(16 * 1024) };
    let mut with = without.clone();
    with.dimensions.push(rules(&without, "up", Measure::Uptime));
    let disk = Arc::new(SimDisk::new(1));
    let mut engine = Engine::open(disk, without, at(0), |_| Ok(Index::in_memory())).unwrap();
    for (second, options) in [(200, &with), (230, &with)] {
        engine.heed(at(second)).unwrap();
        engine.reconfigure(options.clone(), at(second).at).unwrap();
    }
    let books = engine.state().books();
    let up = books.iter().find(|books| books.dimension == "up").unwrap();
    assert_eq!((up.received.to_string(), up.balanced()), ("30".to_owned(), true));
}

/// More dimensions than a log can number: all is as before, also what would have been new, and what would have gone.
#[test]
fn a_configuration_that_is_refused_changes_nothing() {
    let options = setup::options(1024 * 1024);
    let mut engine = Engine::open(Arc::new(SimDisk::new(1)), options.clone(), NOW, |_| Ok(Index::in_memory())).unwrap();
    let many = (0..1025).map(|n| rules(&options, &format!("d{n}"), Measure::Sum)).collect();
    let refused = engine.reconfigure(Options { dimensions: many, ..options.clone() }, NOW);
    assert!(matches!(refused, Err(EngineError::TooManyDimensions(_))), "{refused:?}");
    let mut take = |dimension: &str| {
        let one = NewIncrement {
            dimension: dimension.to_owned().into(),
            quantity: Some("1".into()),
            ..NewIncrement::default()
        };
        engine.take(Peer::default(), &one, NOW).map(|taken| taken.seq)
    };
    assert_eq!(take("d0").unwrap_err().code, Code::UnknownDimension);
    assert_eq!(take("requests").unwrap(), 1);
    assert_eq!(engine.options().dimensions, options.dimensions);
}
