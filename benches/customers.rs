//! Many customers of a SaaS product: how much of the log an increment takes, how long an hour takes to seal, how much memory
//! all of it takes, and how many records a second leave.
//!
//! `cargo bench --bench customers [-- CUSTOMERS]` (100,000). In one process without a socket: what is
//! resident is the engine's. The state lies below the build's target directory, or below `METERD_BENCH_DIR`.

#![allow(
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a bench prints figures, and stops at the first surprise"
)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meterd::config::{Late, Measure, Offset, Round, ZeroRecords};
use meterd::decimal::Amount;
use meterd::disk::RealDisk;
use meterd::engine::{Engine, NewIncrement, Options, SAAS, Sending};
use meterd::entry::{Peer, Rules};
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::submit::answer::{OfRecord, Outcome, Reply};
use meterd::wal::Purpose;

const DIMENSIONS: [&str; 3] = ["requests", "gigabytes", "users"];
/// 2026-11-21T09:00:00Z.
const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// Increments of each customer and dimension in the hour.
const EACH: usize = 3;

fn options() -> Options {
    let rules = |name: &str| Rules {
        name: name.to_owned(),
        measure: Measure::Sum,
        sticky: false,
        unit: Amount::from_units(1),
        round: Round::Carry,
        hold_above: None,
        included: None,
        from: Vec::new(),
    };
    Options {
        product_code: "product".into(),
        saas: true,
        dimensions: DIMENSIONS.map(rules).to_vec(),
        window: HOUR * 24,
        late: Late::CarryForward,
        zero_records: ZeroRecords::Off,
        region: None,
        grace: MINUTE,
        offset: Offset::Fixed(MINUTE),
        calls_in_flight: 1,
        instance: Some(SAAS.into()),
        segment_bytes: 16 << 20,
        purpose: Purpose::Test,
        judge_clock: false,
        retain: HOUR * 24 * 7,
        threads: true,
    }
}

/// Resident now, and at most so far, in MiB.
fn resident() -> (f64, f64) {
    let status = fs::read_to_string("/proc/self/status").expect("what the kernel tells of this process");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of it");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
    };
    (of("VmRSS"), of("VmHWM"))
}

fn say(what: &str, engine: &Engine<RealDisk>, begun: Instant) {
    let (now, most) = resident();
    let bytes = engine.footprint().bytes >> 20;
    let took = begun.elapsed().as_secs_f64();
    println!("{what:<34} {took:>8.2} s   resident {now:>6.0} MiB, at most {most:>6.0}   log {bytes:>6} MiB");
}

/// Calls with an AWS at the same distance.
const LEG: u64 = 2000;

/// How long AWS takes to answer, call by call.
fn away(call: u64) -> Duration {
    Duration::from_millis([0, 50, 150, 500].get((call / LEG) as usize).copied().unwrap_or(0))
}

fn pace(calls: u64, records: u64, span: Duration) {
    let each = away(calls - 1).as_millis();
    println!(
        "    one call at a time, each answered after {each} ms: {:.0} records/s",
        records as f64 / span.as_secs_f64()
    );
}

fn main() {
    let customers: u64 = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let dir = std::env::var_os("METERD_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let dir = dir.join(format!("customers-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let disk = Arc::new(RealDisk::new(&dir));
    let mut engine =
        Engine::open(disk, options(), NINE, |log| Index::open(&dir.join("index"), log)).expect("a new log");
    println!("{customers} customers, {} dimensions, {EACH} increments of each in the hour", DIMENSIONS.len());

    for round in 0..EACH {
        let begun = Instant::now();
        let before = engine.log().next_seq();
        let mut taken = 0u64;
        for customer in 0..customers {
            for dimension in DIMENSIONS {
                let new = NewIncrement {
                    dimension: dimension.into(),
                    quantity: Some("2".into()),
                    customer: Some(format!("{:012}", 100_000_000_000 + customer).into()),
                    ..NewIncrement::default()
                };
                engine.take(Peer::default(), &new, NINE).expect("taken");
                taken += 1;
            }
            if customer % 64 == 0 {
                engine.commit(NINE).expect("durable");
            }
        }
        engine.commit(NINE).expect("durable");
        let frames = engine.log().next_seq() - before;
        say(&format!("round {}: {taken} increments", round + 1), &engine, begun);
        println!("    {:.1} increments a frame", taken as f64 / frames as f64);
    }

    let begun = Instant::now();
    let mut now = NINE.plus(HOUR + MINUTE * 2);
    engine.tick(now).expect("sealed");
    say("the hour sealed", &engine, begun);

    let begun = Instant::now();
    let (mut calls, mut records) = (0u64, 0u64);
    let mut leg = (now, 0);
    loop {
        match engine.next_sending(now).expect("room") {
            Sending::Batch(keys, requests) => {
                // By the agent's own clock: what one call at a time comes to with an AWS that is so far away.
                if calls % LEG == 0 && calls > 0 {
                    pace(calls, records - leg.1, now.since(leg.0));
                    leg = (now, records);
                }
                now = now.plus(away(calls));
                calls += 1;
                records += keys.len() as u64;
                let accepted = |n: usize| OfRecord::Success { metering_record_id: format!("{calls}-{n}") };
                let outcome = Outcome::Batch((0..requests.len()).map(accepted).collect());
                let (message, request_id, retry_after, aws_time) = ("taken".to_owned(), None, None, None);
                let reply = Reply { outcome, message, request_id, retry_after, aws_time };
                engine.answered_batch(&keys, &reply, now).expect("written down");
            }
            Sending::Wait(until) => now = until,
            _ => break,
        }
    }
    say(&format!("{records} records in {calls} calls"), &engine, begun);
    let balanced = engine.state().books().iter().all(|books| books.balanced());
    println!("the books balance: {balanced}");

    drop(engine);
    let begun = Instant::now();
    let engine =
        Engine::open(Arc::new(RealDisk::new(&dir)), options(), now, |log| Index::open(&dir.join("index"), log))
            .expect("again");
    say("a start after a kill -9", &engine, begun);
    drop(engine);
    let _ = fs::remove_dir_all(&dir);
}
