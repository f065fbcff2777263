//! How long a start takes, on the library itself: being ready behind a checkpoint after a stop in order and after a crash,
//! with an index of many keys. What reading a log takes is in `meterd bench recovery`.
//!
//! `cargo bench --bench recovery`. `METERD_BENCH_KEYS` sets the number of keys (default 2 million). The state lies below
//! the build's target directory, or below `METERD_BENCH_DIR`.

#![allow(
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a bench prints figures, and stops at the first surprise"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meterd::config::Config;
use meterd::disk::RealDisk;
use meterd::engine::{Engine, NewIncrement, Options};
use meterd::entry::Peer;
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::wal::Purpose;

const NOW: Timestamp = Timestamp::from_seconds(1_795_262_400);
const ROUNDS: usize = 5;

fn main() {
    let dir = std::env::var_os("METERD_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let dir = dir.join(format!("recovery-{}", std::process::id()));
    ready(&dir);
    fs::remove_dir_all(&dir).expect("the bench directory");
}

fn options() -> Options {
    let text = "[product]\ncode = \"bench\"\n[[dimension]]\nname = \"requests\"\n[submit]\nregion = \"us-east-1\"\n";
    let config = Config::parse(text, "the bench").expect("a configuration");
    Options { segment_bytes: 16 << 20, ..Options::of(&config, Some("i-bench".into()), Purpose::Test, false) }
}

fn open(dir: &Path) -> Engine<RealDisk> {
    fs::create_dir_all(dir).expect("the state directory");
    let at = dir.join("index");
    Engine::open(Arc::new(RealDisk::new(dir)), options(), NOW, |log| Index::open(&at, log)).expect("an open log")
}

/// The quickest of some rounds.
fn best(mut round: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let done = work();
    (begun.elapsed(), done)
}

/// Many segments and many keys behind a checkpoint: until the engine is open.
fn ready(dir: &Path) {
    let keys: u64 = std::env::var("METERD_BENCH_KEYS").map_or(2_000_000, |n| n.parse().expect("a number"));
    let mut engine = open(dir);
    for n in 0..keys {
        let new = NewIncrement {
            dimension: "requests".into(),
            quantity: Some("1".into()),
            key: Some(format!("key-{n:020}").into()),
            ..NewIncrement::default()
        };
        engine.take(Peer::default(), &new, NOW).expect("room");
        if n % 5_000 == 0 {
            engine.commit(NOW).expect("a disk");
        }
    }
    println!("a log of {} segments, {keys} keys", engine.log().segment_id());
    let log = engine.log().id();
    engine.stop(NOW).expect("a stop in order");
    let size = |name: &str| -> f64 {
        let entries = fs::read_dir(dir.join(name)).expect("a directory");
        entries.map(|e| e.and_then(|e| e.metadata()).map_or(0, |m| m.len())).sum::<u64>() as f64 / 1e6
    };
    println!("index: {:.0} MB of files", size("index"));
    let stopped = best(|| {
        let (took, engine) = timed(|| open(dir));
        assert!(engine.report().clean, "a stop in order");
        engine.stop(NOW).expect("a stop in order");
        took
    });
    let index = best(|| timed(|| Index::open(&dir.join("index"), log).expect("an index")).0);
    println!(
        "ready after a stop in order: {:.0} ms; opening the index alone takes {:.0}",
        stopped.as_secs_f64() * 1e3,
        index.as_secs_f64() * 1e3
    );
    let crashed = best(|| {
        let mut engine = open(dir);
        engine.idle(NOW).expect("a disk");
        drop(engine);
        let (took, engine) = timed(|| open(dir));
        assert!(!engine.report().clean, "no stop in order");
        drop(engine);
        took
    });
    println!("ready after a crash, with the copy of one segment: {:.0} ms", crashed.as_secs_f64() * 1e3);
}
