//! How long the report of a year takes: hourly records of 24 dimensions, nearly all of them in the archive, told beside what
//! reading the same files takes.
//!
//! `cargo bench --bench report`. The state lies below the build's target directory, or below `METERD_BENCH_DIR`.

#![allow(
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a bench prints figures, and stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meterd::config::Config;
use meterd::decimal::Amount;
use meterd::disk::RealDisk;
use meterd::engine::{Engine, Options};
use meterd::entry::{self, DimensionId, Record, RecordKey, Request, kind};
use meterd::hour::Hour;
use meterd::index::Index;
use meterd::report::{self, Span};
use meterd::rollup::state::{Phase, RecordState};
use meterd::wal::archive::{self, Owner};
use meterd::wal::{LogId, Purpose};

const DIMENSIONS: u16 = 24;
const ROUNDS: usize = 5;
/// As large as the agent lets a file of the archive become.
const FILE_RECORDS: usize = 2500;

fn main() {
    let base = std::env::var_os("METERD_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let dir = base.join(format!("report-{}", std::process::id()));
    let span = Span::parse("2026").expect("a year");
    let (records, bytes) = year(&dir, &span);
    let disk = RealDisk::read_only(&dir);
    let reading = fastest(|| assert!(files(&dir) > 0));
    let read = fastest(|| assert_eq!(report::read(&disk, &span).expect("a report").records.len(), records));
    let report = report::read(&disk, &span).expect("a report");
    let of = |what: &mut dyn FnMut()| fastest(what);
    let csv = of(&mut || report::csv::write(&report, &mut std::io::sink()).expect("a table"));
    let json = of(&mut || drop(report::json::json(&report).to_string()));
    let html = of(&mut || drop(report::html::html(&report)));
    println!("a year of {DIMENSIONS} dimensions: {records} records in {} MiB", bytes >> 20);
    let line = |what: &str, took: Duration| {
        let ratio = took.as_secs_f64() / reading.as_secs_f64().max(1e-9);
        println!("{what:<34} {:7.0} ms  {ratio:6.1} x reading", took.as_secs_f64() * 1e3);
    };
    line("reading the files", reading);
    line("the report", read);
    line("  and its table for a spreadsheet", csv);
    line("  and its JSON", json);
    line("  and its page", html);
    let month = Span::parse("2026-11").expect("a month");
    line("the report of one month", fastest(|| drop(report::read(&disk, &month).expect("a report"))));
    fs::remove_dir_all(&dir).expect("the bench directory");
}

fn fastest(mut what: impl FnMut()) -> Duration {
    let mut took = || {
        let begun = Instant::now();
        what();
        begun.elapsed()
    };
    (0..ROUNDS).map(|_| took()).min().unwrap_or_default()
}

fn files(dir: &Path) -> u64 {
    let each = ["archive", "wal"].into_iter().flat_map(|part| fs::read_dir(dir.join(part)).expect("the files"));
    each.map(|file| fs::read(file.expect("a file").path()).expect("its bytes").len() as u64).sum()
}

/// A log that is a year old, and nothing of whose records it still has itself.
fn year(dir: &Path, span: &Span) -> (usize, u64) {
    fs::create_dir_all(dir).expect("the bench directory");
    let dimensions: String = (0..DIMENSIONS).map(|n| format!("[[dimension]]\nname = \"dimension_{n}\"\n")).collect();
    let text =
        format!("[product]\ncode = \"5ugbbrmu7ud3u5hsipfzug61p\"\n{dimensions}[submit]\nregion = \"us-east-1\"\n");
    let config = Config::parse(&text, "bench").expect("a configuration");
    let options = Options { threads: false, ..Options::of(&config, Some("i-bench".into()), Purpose::Test, false) };
    let disk = Arc::new(RealDisk::new(dir));
    let engine =
        Engine::open(Arc::clone(&disk), options, span.end.start(), |_| Ok(Index::in_memory())).expect("an engine");
    drop(engine);
    let owner = Owner { log: log_id(dir), purpose: Purpose::Test };
    let mut months: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for hour in span.first.index()..span.end.index() {
        let hour = Hour::from_index(hour);
        let of_hour = (0..DIMENSIONS).map(|n| entry::encode(&record(hour, n)).expect("a record"));
        months.entry(hour.year_month()).or_default().extend(of_hour);
    }
    let mut count = 0;
    for (month, records) in months {
        count += records.len();
        for (n, part) in (0u64..).zip(records.chunks(FILE_RECORDS)) {
            let entries = part.iter().map(|record| (kind::ARCHIVED, record.as_slice()));
            archive::write(&*disk, u64::from(month) * 1_000_000 + n, owner, span.end.start(), entries).expect("a file");
        }
    }
    (count, files(dir))
}

fn log_id(dir: &Path) -> LogId {
    let found = meterd::wal::survey::look(&RealDisk::read_only(dir)).expect("the log");
    found.first().and_then(|file| file.header().ok()).expect("a segment").log
}

fn record(hour: Hour, n: u16) -> RecordState {
    let key = RecordKey { hour, dimension: DimensionId(n), generation: 0 };
    let usage = Amount::from_units(i64::from(n) * 10 + i64::from(hour.index() % 24));
    let at = hour.end().plus(Duration::from_secs(200));
    let record = Record {
        key,
        request: Request {
            product_code: "5ugbbrmu7ud3u5hsipfzug61p".into(),
            dimension: format!("dimension_{n}"),
            timestamp: hour.last_second(),
            quantity: u32::from(n) * 10 + hour.index() % 24,
            allocations: Vec::new(),
            client_token: "0123456789abcdef".repeat(4),
        },
        usage,
        late: Amount::ZERO,
        remainder_in: Amount::ZERO,
        included: Amount::ZERO,
        remainder: Amount::ZERO,
        carried_in: Amount::ZERO,
        took: Vec::new(),
        value: usage,
        hold: None,
    };
    RecordState {
        phase: Phase::Accepted,
        attempts: 1,
        first_attempt: Some(at),
        last_attempt: Some(at),
        metering_record_id: Some("3e1a5f0c-4b8e-4f0a-9d0e-0a1b2c3d4e5f".into()),
        request_id: Some("0d5c4f1e-2b8e-4f0a-9d0e-0a1b2c3d4e5f".into()),
        ..RecordState::sealed(record)
    }
}
