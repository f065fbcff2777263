//! `meterd verify` and `meterd inspect`, on state directories made by the engine: what is fine is called fine, each
//! flipped bit is found, and nothing is changed by looking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meterd::audit;
use meterd::config::Measure;
use meterd::disk::RealDisk;
use meterd::engine::{Engine, NewIncrement, Options, Sending};
use meterd::entry::Peer;
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::rollup::state::Phase;
use meterd::submit::answer::{Outcome, Reply};
use serde_json::Value;
use support::{HOUR, rules};

#[path = "verify/flips.rs"]
mod flips;
#[path = "support/options.rs"]
mod support;

const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);

fn options() -> Options {
    support::options(vec![
        rules("requests", Measure::Sum, 10),
        rules("users", Measure::Max, 1),
        rules("seats", Measure::Last, 2),
    ])
}

fn open(dir: &Path, now: Timestamp) -> Engine<RealDisk> {
    Engine::open(Arc::new(RealDisk::new(dir)), options(), now, |_| Ok(Index::in_memory())).unwrap()
}

fn take(engine: &mut Engine<RealDisk>, dimension: &str, quantity: u64, key: Option<String>, now: Timestamp) {
    let tags = if key.is_some() && dimension == "requests" { vec![("team".into(), "blue".into())] } else { Vec::new() };
    let quantity = Some(format!("{quantity}.25").into());
    let new =
        NewIncrement { dimension: dimension.into(), quantity, key: key.map(Into::into), tags, ..Default::default() };
    engine.take(Peer { uid: 7, gid: 7, pid: 70 }, &new, now).unwrap();
}

/// Answers of AWS, in turn: taken, throttled, refused, lost.
fn answers(n: u64) -> Reply {
    let error = |code: &str, status| Outcome::Error { code: code.into(), status };
    let outcome = match n % 7 {
        1 => error("ThrottlingException", 400),
        3 => error("InvalidUsageDimension", 400),
        5 => Outcome::NoAnswer,
        _ => Outcome::Accepted { metering_record_id: format!("mr-{n}") },
    };
    Reply { outcome, message: "simulated".into(), request_id: None, retry_after: None, aws_time: None }
}

/// Hours of work in `dir`; stopped in order.
fn work(dir: &Path, hours: u32, increments: u64) -> Timestamp {
    let mut now = NINE;
    let mut engine = open(dir, now);
    let mut n = 0;
    for hour in 0..hours {
        for i in 0..increments {
            take(&mut engine, "requests", i % 9, (i % 5 == 0).then(|| format!("k{hour}-{i}")), now);
            take(&mut engine, ["users", "seats"][(i % 2) as usize], i % 30, None, now);
        }
        engine.commit(now).unwrap();
        now = now.plus(HOUR);
        for _ in 0..8 {
            engine.tick(now).unwrap();
            match engine.next_sending(now).unwrap() {
                Sending::Record(key, _) => engine.answered(key, &answers(n), now).unwrap(),
                Sending::Probe(_) => {
                    let passed = Reply { outcome: Outcome::DryRunPassed, ..answers(0) };
                    engine.probed(&passed, now).unwrap();
                }
                Sending::Batch(..) | Sending::ProbeBatch => panic!("nobody here sells to customers"),
                Sending::Wait(_) | Sending::Idle => {}
            }
            n += 1;
        }
    }
    engine.stop(now).unwrap();
    now
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn meterd(args: &[&str], dir: &Path) -> Ran {
    let ran = Command::new(env!("CARGO_BIN_EXE_meterd")).args(args).arg(dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: ran.status.code().unwrap_or(-1), out: text(ran.stdout), err: text(ran.stderr) }
}

fn first(dir: &Path) -> PathBuf {
    dir.join("wal/0000000000000001.seg")
}

fn json_lines(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_fine_is_called_fine_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // Long enough for retention to have taken segments, and short enough that carried records wait.
    work(dir.path(), 60, 300);
    let before = files(dir.path());
    assert!(!first(dir.path()).exists(), "retention has taken the first segment");
    let report = audit::verify(&RealDisk::read_only(dir.path())).unwrap();
    assert_eq!(report.findings, [], "{report:?}");
    assert!(report.recomputed && report.checkpoints >= 2 && report.archived_records > 20, "{report:?}");
    let state = meterd::engine::read_only(&RealDisk::read_only(dir.path())).unwrap();
    assert_eq!(report.books, state.books());
    assert!(report.books.iter().any(|b| !b.with_person.is_zero()), "some were refused");
    assert_eq!(report.records["accepted"], state.ended.accepted);
    let shown = meterd(&["verify"], dir.path());
    assert_eq!(shown.code, 0, "{} {}", shown.out, shown.err);
    assert!(shown.out.contains("requests") && shown.out.trim_end().ends_with("fine"), "{}", shown.out);
    let json: Value = serde_json::from_str(&meterd(&["verify", "--json"], dir.path()).out).unwrap();
    assert_eq!(json["findings"], serde_json::json!([]));
    assert_eq!(json["books"][0]["balanced"], true);
    assert_eq!(files(dir.path()), before, "nothing was changed by looking");
}

/// A changed configuration sends what AWS refused once more, inside its window: both ways to the books know it.
#[test]
fn what_is_tried_again_is_pending_both_ways() {
    for (hours, phase) in [(2, Phase::Pending), (10, Phase::Held)] {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path(), NINE);
        take(&mut engine, "requests", 50, None, NINE);
        engine.commit(NINE).unwrap();
        let sealed = NINE.plus(HOUR + Duration::from_secs(60));
        engine.tick(sealed).unwrap();
        let Sending::Record(key, _) = engine.next_sending(sealed).unwrap() else { panic!("nothing to send") };
        engine.answered(key, &answers(3), sealed).unwrap();
        engine.stop(sealed).unwrap();
        let options = Options { region: Some("eu-west-1".into()), ..options() };
        let now = NINE.plus(HOUR * hours);
        let disk = Arc::new(RealDisk::new(dir.path()));
        let engine = Engine::open(disk, options, now, |_| Ok(Index::in_memory())).unwrap();
        assert_eq!(engine.state().records[&key].phase, phase);
        engine.stop(now).unwrap();
        let report = audit::verify(&RealDisk::read_only(dir.path())).unwrap();
        assert_eq!(report.findings, [], "{hours} h on");
    }
}

#[test]
fn a_copy_that_nobody_may_write_to() {
    let dir = tempfile::tempdir().unwrap();
    work(dir.path(), 3, 40);
    let modes = |file: u32, directory: u32| {
        for path in files(dir.path()).into_keys() {
            fs::set_permissions(&path, fs::Permissions::from_mode(file)).unwrap();
        }
        for name in ["wal", "quarantine", ""] {
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(directory)).unwrap();
        }
    };
    modes(0o444, 0o555);
    let (verify, inspect) = (meterd(&["verify"], dir.path()), meterd(&["inspect"], dir.path()));
    modes(0o644, 0o755);
    assert_eq!((verify.code, inspect.code), (0, 0), "{} {}", verify.err, inspect.err);
    // Root may write anywhere: a disk that was opened for reading refuses all by itself.
    let disk = RealDisk::read_only(dir.path());
    use meterd::disk::Disk;
    assert!(
        disk.create("x").is_err() && disk.remove("wal/0000000000000001.seg").is_err() && disk.sync_dir("").is_err()
    );
}

/// Beside a writer: what is being written is no damage, nor is a segment that goes or comes meanwhile.
#[test]
fn beside_a_log_that_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut now = work(dir.path(), 4, 50);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut engine = open(dir.path(), now);
            while !done.load(Ordering::Relaxed) {
                for i in 0..400 {
                    take(&mut engine, "requests", i, None, now);
                    if i % 16 == 0 {
                        engine.commit(now).unwrap();
                    }
                }
                now = now.plus(HOUR);
                engine.tick(now).unwrap();
                if let Sending::Record(key, _) = engine.next_sending(now).unwrap() {
                    engine.answered(key, &answers(0), now).unwrap();
                }
            }
        });
        for _ in 0..60 {
            let report = audit::verify(&RealDisk::read_only(dir.path()));
            let fine = report.as_ref().is_ok_and(|report| report.findings.is_empty());
            if !fine {
                done.store(true, Ordering::Relaxed);
            }
            assert!(fine, "{report:?}");
        }
        let inspect = meterd(&["inspect"], dir.path());
        done.store(true, Ordering::Relaxed);
        assert_eq!(inspect.code, 0, "{}", inspect.err);
        assert!(!inspect.out.contains("DAMAGE"));
    });
}

#[test]
fn damage_is_told_with_its_place_and_shown_in_it() {
    let dir = tempfile::tempdir().unwrap();
    work(dir.path(), 20, 300);
    let segments = fs::read_dir(dir.path().join("wal")).unwrap().count();
    assert!(segments > 4, "{segments}");
    let good = files(&dir.path().join("wal"));
    // A hole in a closed segment.
    let path = first(dir.path());
    let mut bad = good[&path].clone();
    bad[9000..9100].fill(0xaa);
    fs::write(&path, &bad).unwrap();
    let ran = meterd(&["verify"], dir.path());
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("DAMAGE in wal/0000000000000001.seg: bytes ") && ran.out.contains("frames"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("do: "), "{}", ran.out);
    let shown = meterd(&["inspect", "--segment", "1"], dir.path());
    assert!(shown.out.contains("DAMAGE      up to byte "), "{}", shown.out);
    assert_eq!(shown.code, 0);
    let json = json_lines(&meterd(&["inspect", "--json", "--segment", "1"], dir.path()));
    assert_eq!(json.iter().filter(|line| line.get("damage").is_some()).count(), 1);
    fs::write(&path, &good[&path]).unwrap();
    // A segment that is gone from the middle, and one that is not what its successor says.
    let second = dir.path().join("wal/0000000000000002.seg");
    fs::remove_file(&second).unwrap();
    let ran = meterd(&["verify"], dir.path());
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("segments 2 to 2 are missing"), "{}", ran.out);
    fs::write(&second, &good[&second]).unwrap();
    assert_eq!(meterd(&["verify"], dir.path()).code, 0);
    // Bytes behind a closed segment's end.
    let mut bad = good[&path].clone();
    let at = bad.len() - 3;
    bad[at] = 1;
    fs::write(&path, &bad).unwrap();
    assert!(meterd(&["verify"], dir.path()).out.contains("behind the end"));
    fs::write(&path, &good[&path]).unwrap();
    // A torn end is no damage, and said.
    let newest = good.keys().rfind(|p| p.extension().is_some_and(|e| e == "seg")).unwrap();
    let mut torn = good[newest].clone();
    let end = torn.iter().rposition(|b| *b != 0).unwrap();
    let from = end.next_multiple_of(8);
    torn[from..from + 5].fill(7);
    fs::write(newest, &torn).unwrap();
    let ran = meterd(&["verify"], dir.path());
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.contains("never acknowledged"), "{}", ran.out);
    assert!(meterd(&["inspect"], dir.path()).out.contains("unsynced"));
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["verify", "inspect"] {
        let ran = meterd(&[command], dir.path());
        assert_eq!((ran.code, ran.err.contains("not a state directory")), (76, true), "{}", ran.err);
        let ran = meterd(&[command], &dir.path().join("nowhere"));
        assert_eq!(ran.code, 76, "{}", ran.err);
    }
    fs::create_dir(dir.path().join("wal")).unwrap();
    for command in ["verify", "inspect"] {
        let ran = meterd(&[command], dir.path());
        assert_eq!((ran.code, ran.err.contains("no segment in wal/")), (76, true), "{}", ran.err);
    }
    // Of another version: named, not called damage; and nothing starts on it.
    let other = tempfile::tempdir().unwrap();
    work(other.path(), 1, 3);
    let path = first(other.path());
    let mut bytes = fs::read(&path).unwrap();
    for at in [8, 2056] {
        bytes[at] = 2;
    }
    fs::write(&path, &bytes).unwrap();
    let ran = meterd(&["verify"], other.path());
    assert_eq!((ran.code, ran.err.contains("format version 2")), (76, true), "{}", ran.err);
    let before = files(other.path());
    let opened = Engine::open(Arc::new(RealDisk::new(other.path())), options(), NINE, |_| Ok(Index::in_memory()));
    assert!(opened.err().unwrap().to_string().contains("format version 2"));
    assert_eq!(files(other.path()), before);
    // The configuration's directory is the default.
    let config = other.path().join("none.toml");
    let ran = Command::new(env!("CARGO_BIN_EXE_meterd")).args(["verify", "--config"]).arg(config).output().unwrap();
    assert_eq!(ran.status.code(), Some(78));
}

/// An entry of a later meterd: nothing starts on it, and nothing is changed.
#[test]
fn an_unknown_kind_refuses_and_changes_nothing() {
    use meterd::wal::frame::{self, FrameHeader, Part};
    use meterd::wal::segment::SegmentHeader;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), NINE);
    drop(engine);
    let path = first(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let header = SegmentHeader::decode(bytes.first_chunk::<88>().unwrap()).unwrap();
    let shown = json_lines(&meterd(&["inspect", "--json"], dir.path()));
    let end = bytes.iter().rposition(|b| *b != 0).unwrap().next_multiple_of(8);
    let seq = shown.last().unwrap()["seq"].as_u64().unwrap() + 1;
    let mut more = Vec::new();
    let frame = FrameHeader { kind: 199, part: Part::Whole, seq, durable_lag: 0 };
    frame::encode(&frame, b"of a later version", end as u64, &header.seed(), &mut more);
    bytes[end..end + more.len()].copy_from_slice(&more);
    fs::write(&path, &bytes).unwrap();
    // What a start would tidy up stays too.
    fs::write(dir.path().join("wal/recovered.tmp"), b"x").unwrap();
    let before = files(dir.path());
    let opened = Engine::open(Arc::new(RealDisk::new(dir.path())), options(), NINE, |_| Ok(Index::in_memory()));
    let why = opened.err().unwrap().to_string();
    assert!(why.contains("kind 199") && why.contains(&format!("entry {seq}")), "{why}");
    assert_eq!(files(dir.path()), before);
    let ran = meterd(&["verify"], dir.path());
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("unknown kind 199") && ran.out.contains("newer meterd"), "{}", ran.out);
    assert!(meterd(&["inspect"], dir.path()).out.contains("cannot be read: unknown kind 199"));
}

#[test]
fn inspect_shows_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    work(dir.path(), 20, 300);
    let all = json_lines(&meterd(&["inspect", "--json"], dir.path()));
    let seqs: Vec<u64> = all.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted() && seqs.len() > 50);
    let kinds: Vec<&str> = all.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    for kind in ["usage", "setup", "seal", "attempt", "answered", "checkpoint", "stop"] {
        assert!(kinds.contains(&kind), "{kind}");
        let only = json_lines(&meterd(&["inspect", "--json", "--kind", kind], dir.path()));
        assert_eq!(only.len(), kinds.iter().filter(|k| **k == kind).count(), "{kind}");
        assert!(only.iter().all(|line| line["kind"] == kind));
    }
    let usage = all.iter().find(|line| line["kind"] == "usage").unwrap();
    let increment = &usage["entry"]["increments"][0];
    assert_eq!((increment["dimension"].as_str(), increment["quantity"].as_str()), (Some("requests"), Some("0.25")));
    assert_eq!((increment["key"].as_str(), increment["tags"]["team"].as_str()), (Some("k0-0"), Some("blue")));
    assert_eq!(usage["entry"]["by"]["uid"], 7);
    let seal = all.iter().find(|line| line["kind"] == "seal").unwrap();
    assert_eq!(seal["entry"]["hour"], "2026-11-21T09:00:00Z");
    let some = json_lines(&meterd(&["inspect", "--json", "--from", "20", "--limit", "3"], dir.path()));
    assert_eq!(some, all[seqs.partition_point(|seq| *seq < 20)..][..3]);
    let second = json_lines(&meterd(&["inspect", "--json", "--segment", "2"], dir.path()));
    assert!(!second.is_empty() && second.iter().all(|line| line["segment"] == 2));
    let words = meterd(&["inspect"], dir.path());
    assert_eq!(words.out.lines().count(), all.len());
    for part in ["key \"k0-0\"", "team=blue", "is closed: ", "accepted", "the agent stopped in order", "product prod"] {
        assert!(words.out.contains(part), "{part}");
    }
    assert_eq!(meterd(&["inspect", "--kind", "nonsense"], dir.path()).code, 64);
}
