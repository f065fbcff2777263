//! The gate never closes for what nobody knows: a clock that jumps makes no outage longer, and after a reboot that leaves no
//! clock to be believed nothing closes. On the engine itself, for the machine's clocks cannot be set here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meterd::config::{Gate, Measure, Offset};
use meterd::disk::RealDisk;
use meterd::engine::{Engine, NewIncrement, Options};
use meterd::entry::Peer;
use meterd::gate::{Position, gate};
use meterd::hour::{Reading, Timestamp};
use meterd::index::Index;

#[path = "support/options.rs"]
mod support;

/// 2026-11-21T09:00:00Z.
const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);
const POLICY: Gate = Gate { warn_after: minutes(60), close_after: Some(minutes(120)) };

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// What the clocks say `uptime` minutes after a boot, where the one on the wall shows `at` minutes after nine.
fn reading(boot: u8, uptime: u64, at: u64) -> Reading {
    Reading { at: NINE.plus(minutes(at)), boot: Some([boot; 16]), since_boot: minutes(uptime) }
}

fn open(dir: &Path, reading: Reading) -> Engine<RealDisk> {
    let offset = Offset::Fixed(minutes(2));
    let options =
        Options { judge_clock: true, offset, ..support::options(vec![support::rules("requests", Measure::Sum, 1)]) };
    Engine::open(Arc::new(RealDisk::new(dir)), options, reading, |log| Index::open(&dir.join("index"), log)).unwrap()
}

/// Where the gate stands once the engine has seen `reading`.
fn position(engine: &mut Engine<RealDisk>, reading: Reading) -> Position {
    engine.heed(reading).unwrap();
    engine.tick(reading.at).unwrap();
    gate(engine, &POLICY, NINE, reading.at).gate
}

#[test]
fn a_clock_that_jumps_makes_no_outage_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = open(dir.path(), reading(1, 100, 0));
    let new = NewIncrement { dimension: "requests".into(), quantity: Some("1".into()), ..NewIncrement::default() };
    engine.take(Peer::default(), &new, NINE).unwrap();
    // Sealed at 10:01 and to be sent at 10:03; nobody answers.
    assert_eq!(position(&mut engine, reading(1, 161, 61)), Position::Open);
    assert_eq!(position(&mut engine, reading(1, 222, 122)), Position::Open);
    assert_eq!(position(&mut engine, reading(1, 224, 124)), Position::Warn);
    // Ten hours ahead, and back.
    assert_eq!(position(&mut engine, reading(1, 225, 725)), Position::Warn);
    assert_eq!(position(&mut engine, reading(1, 226, 126)), Position::Warn);
    assert_eq!(position(&mut engine, reading(1, 282, 182)), Position::Warn);
    assert_eq!(position(&mut engine, reading(1, 284, 184)), Position::Closed);
    // While its clock is ahead it stays where it is: the one that nobody sets says how long it has lasted.
    assert_eq!(position(&mut engine, reading(1, 285, 785)), Position::Closed);
    assert_eq!(position(&mut engine, reading(1, 286, 186)), Position::Closed);
    drop(engine);
    // A reboot into another day: how long it has lasted is anybody's guess, and nobody asked AWS meanwhile.
    let mut engine = open(dir.path(), reading(2, 0, 3000));
    assert_eq!(position(&mut engine, reading(2, 1, 3001)), Position::Open);
    assert_ne!(position(&mut engine, reading(2, 300, 3300)), Position::Closed);
}

#[test]
fn an_hour_that_cannot_be_closed_warns_and_closes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { instance: None, ..support::options(vec![support::rules("requests", Measure::Sum, 1)]) };
    let disk = Arc::new(RealDisk::new(dir.path()));
    let index = dir.path().join("index");
    let mut engine = Engine::open(disk, options, reading(1, 100, 0), |log| Index::open(&index, log)).unwrap();
    let new = NewIncrement { dimension: "requests".into(), quantity: Some("1".into()), ..NewIncrement::default() };
    engine.take(Peer::default(), &new, NINE).unwrap();
    // It was to be closed at 10:01, and nobody knows whose it is.
    assert_eq!(position(&mut engine, reading(1, 220, 120)), Position::Open);
    assert_eq!(position(&mut engine, reading(1, 222, 122)), Position::Warn);
    assert_eq!(position(&mut engine, reading(1, 400, 300)), Position::Warn);
    engine.set_instance("i-0123456789abcdef0".into(), NINE.plus(minutes(301))).unwrap();
    assert_eq!(position(&mut engine, reading(1, 402, 302)), Position::Open);
}
