//! Format version 1 as it was first written: `tests/golden/v1` holds a log and an archive that every later version reads,
//! byte for byte, to the values that stand beside them. Never made anew.
//!
//! Cannot see what no file there holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, reason = "a test says what it skips")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use meterd::audit;
use meterd::config::Measure;
use meterd::decimal::Amount;
use meterd::disk::RealDisk;
use meterd::engine::{self, Engine, NewIncrement, Options, Sending};
use meterd::entry::FixedAnew;
use meterd::entry::{
    self, Alive, Answered, Attempt, ClockSeen, Closed, Damaged, Decision, DimensionId, Echo, Echoed, Ending, Entry,
    Peer, RecordKey, Released, Rules, Settled, Started, Trust, Verdict, kind,
};
use meterd::hour::{Reading, Timestamp};
use meterd::index::Index;
use meterd::rollup::state::RecordState;
use meterd::rollup::{Checkpoint, State};
use meterd::submit::answer::{Outcome, Reply};
use meterd::wal::open::{self as wal_open};
use meterd::wal::spares::Need;
use meterd::wal::{Purpose, archive, retain};
use serde_json::{Value, json};
use support::{HOUR, rules};

#[path = "golden/instances.rs"]
mod instances;
#[path = "support/options.rs"]
mod support;

const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);
/// Long enough for retention to take something.
const HOURS: u64 = 40;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn options() -> Options {
    let hosts = rules("hosts", Measure::Unique, 1);
    let seats = Rules { sticky: true, ..rules("seats", Measure::Last, 2) };
    let events = Rules { hold_above: Some(Amount::from_units(5)), ..rules("events", Measure::Count, 1) };
    Options {
        instance: Some("i-golden".into()),
        segment_bytes: 16 * 1024,
        ..support::options(vec![
            rules("requests", Measure::Sum, 10),
            rules("peak", Measure::Max, 1),
            seats,
            hosts,
            events,
        ])
    }
}

fn reply(outcome: Outcome) -> Reply {
    Reply { outcome, message: "golden".into(), request_id: Some("rq".into()), retry_after: None, aws_time: None }
}

/// Hours of an engine; after a day some of which retention has taken into the archive.
fn live(dir: &Path, hours: u64) {
    let mut now = NINE;
    let disk = Arc::new(RealDisk::new(dir));
    let mut engine = Engine::open(disk, options(), now, |_| Ok(Index::in_memory())).unwrap();
    let mut calls = 0;
    for hour in 0..hours {
        for i in 0..12 {
            let mut take = |dimension: &str, quantity: Option<&str>, key: Option<String>, id: Option<String>| {
                let tagged = dimension == "requests" && i % 3 == 0;
                let tags = if tagged { vec![("team".to_owned(), format!("t{}", i % 2))] } else { Vec::new() };
                let (key, id, quantity) = (key.map(Into::into), id.map(Into::into), quantity.map(Into::into));
                let new =
                    NewIncrement { dimension: dimension.into(), quantity, key, tags, id, ..NewIncrement::default() };
                engine.take(Peer { uid: 1000, gid: 1000, pid: 4711 }, &new, now).unwrap();
            };
            take("requests", Some("12.25"), (i % 4 == 0).then(|| format!("k-{hour}-{i}")), None);
            take("peak", Some("3"), None, None);
            take("hosts", None, None, Some(format!("host-{}", i % 5)));
            if hour % 5 == 0 {
                take("seats", Some("7"), None, None);
            }
            if hour % 9 == 0 {
                take("events", None, None, None);
            }
        }
        engine.commit(now).unwrap();
        now = now.plus(HOUR);
        for _ in 0..20 {
            engine.tick(now).unwrap();
            match engine.next_sending(now).unwrap() {
                Sending::Record(key, _) => {
                    calls += 1;
                    let outcome = match calls % 11 {
                        3 => Outcome::Error { code: "ThrottlingException".into(), status: 400 },
                        7 => Outcome::Error { code: "InvalidUsageDimension".into(), status: 400 },
                        _ => Outcome::Accepted { metering_record_id: format!("mr-{calls}") },
                    };
                    engine.answered(key, &reply(outcome), now).unwrap();
                }
                Sending::Probe(_) => engine.probed(&reply(Outcome::DryRunPassed), now).unwrap(),
                Sending::Batch(..) | Sending::ProbeBatch => panic!("nobody here sells to customers"),
                Sending::Wait(_) | Sending::Idle => {}
            }
        }
        if hour + 1 == hours {
            engine.idle(now).unwrap();
        }
    }
    engine.stop(now).unwrap();
}

/// One entry of every kind that a normal life may lack, and one that goes over several frames.
fn kinds(dir: &Path) {
    let disk = Arc::new(RealDisk::new(dir));
    let at = NINE;
    let log_options = wal_open::Options {
        segment_bytes: 16 * 1024,
        purpose: Purpose::Real,
        background: false,
        checkpoint_kind: kind::CHECKPOINT,
        now: at,
    };
    let mut log = wal_open::open(disk, &log_options, &mut |_| Ok(())).unwrap().log;
    let key = RecordKey { hour: at.hour(), dimension: DimensionId(3), generation: 2 };
    let by = Peer { uid: 1, gid: 2, pid: 3 };
    let reading = Reading { at, boot: Some([7; 16]), since_boot: Duration::from_millis(123_456) };
    let verdicts = [
        Verdict::Accepted { metering_record_id: "mr".into() },
        Verdict::NotTaken,
        Verdict::Blocked,
        Verdict::Ambiguous,
        Verdict::Conflict,
        Verdict::OutOfBounds { window_passed: true },
        Verdict::Refused,
    ];
    let answered = |verdict| Answered { key, at, verdict, message: "words".into(), request_id: None };
    let mut entries: Vec<Entry> = verdicts.map(answered).map(Entry::Answered).into();
    entries.push(Entry::Attempt(Attempt { key, at }));
    entries.extend(
        [Ending::Carried, Ending::Expired, Ending::InDoubt].map(|e| Entry::Closed(Closed { key, at, ending: e })),
    );
    let decisions = [Decision::Accepted, Decision::Carry, Decision::WriteOff, Decision::Retry];
    entries.extend(decisions.map(|decision| Entry::Settled(Settled { key, at, by, decision })));
    entries.push(Entry::Released(Released { key, at, by, capped: None, carried: true }));
    entries.push(Entry::Started(Started { reading }));
    entries.push(Entry::Alive(Alive { reading, ran: vec![(at.hour(), 250)], stopping: true }));
    let doubted = Trust::Doubted { expected: at, known: true };
    entries.extend([doubted, Trust::Confirmed].map(|trust| Entry::Clock(ClockSeen { reading, trust })));
    let echoed = Echoed { seq: 1, kind: kind::ATTEMPT, payload: vec![1, 2, 3] };
    entries.push(Entry::Echo(Echo { after: 1, entries: vec![echoed] }));
    entries.push(Entry::Damaged(Damaged { at, through: at.hour(), records: vec![key] }));
    let hours = first_hours();
    let sealed = hours.iter().filter_map(|entry| if let Entry::Seal(seal) = entry { Some(seal) } else { None });
    let record = sealed.flat_map(|seal| &seal.dimensions).find_map(|dimension| dimension.record.clone()).unwrap();
    entries.push(Entry::FixedAnew(FixedAnew { at, record }));
    entries.extend(hours);
    for entry in &entries {
        log.append(entry.kind(), &entry.encode().unwrap(), Need::Control, at).unwrap();
    }
    log.append(kind::CHECKPOINT, &entry::encode(&State::default()).unwrap(), Need::Control, at).unwrap();
    let long = Answered { message: "long ".repeat(5000), ..answered(Verdict::Refused) };
    let long = Entry::Answered(long).encode().unwrap();
    log.append(kind::ANSWERED, &long, Need::Control, at).unwrap();
    log.commit().unwrap();
}

/// Usage, set-up and seals, as an engine writes them.
fn first_hours() -> Vec<Entry> {
    let dir = tempfile::tempdir().unwrap();
    live(dir.path(), 2);
    let disk = RealDisk::read_only(dir.path());
    let mut entries = Vec::new();
    retain::walk(&disk, &retain::headers(&disk).unwrap(), &mut |event| {
        if let retain::Event::Entry { entry: e, .. } = event
            && [kind::USAGE, kind::SETUP, kind::SEAL].contains(&e.kind)
        {
            entries.push(Entry::decode(e.kind, e.payload).unwrap());
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })
    .unwrap();
    entries
}

/// What a directory is read to: every entry in words, and the books.
fn read(dir: &Path) -> Value {
    let ran = Command::new(env!("CARGO_BIN_EXE_meterd")).args(["inspect", "--json"]).arg(dir).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let lines = String::from_utf8(ran.stdout).unwrap();
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let disk = RealDisk::read_only(dir);
    let mut archived = Vec::new();
    for id in archive::list(&disk).unwrap() {
        let file = archive::read(&disk, id).unwrap();
        assert!(file.is_whole());
        for (_, payload) in &file.entries {
            let record: RecordState = entry::decode(payload).unwrap();
            assert_eq!(&entry::encode(&record).unwrap(), payload, "layout of an archived record");
            archived.push(serde_json::to_value(meterd::view::RecordView::from(&record)).unwrap());
        }
    }
    json!({ "entries": entries, "archived": archived })
}

/// Makes the files that are missing; what stands is never made anew.
#[test]
#[ignore = "writes tests/golden/v1, once for a format version"]
fn make_the_files_of_version_1() {
    let all = [("life", (|dir| live(dir, HOURS)) as fn(&Path)), ("kinds", kinds), ("instances", instances::fill_log)];
    for (name, fill) in all {
        let dir = golden().join(name);
        if dir.exists() {
            println!("left as it is: {}", dir.display());
            continue;
        }
        fs::create_dir_all(&dir).unwrap();
        fill(&dir);
        for left in fs::read_dir(dir.join("wal")).unwrap() {
            let path = left.unwrap().path();
            if path.extension().is_none_or(|e| e != "seg") {
                fs::remove_file(path).unwrap();
            }
        }
        // An empty directory is not kept by version control; nothing was damaged.
        fs::remove_dir(dir.join("quarantine")).unwrap();
        if fs::read_dir(dir.join("archive")).is_ok_and(|mut files| files.next().is_none()) {
            fs::remove_dir(dir.join("archive")).unwrap();
        }
        let mut expected = read(&dir);
        if name != "kinds" {
            let state = engine::read_only(&RealDisk::read_only(&dir)).unwrap();
            expected["books"] = serde_json::to_value(state.books()).unwrap();
        }
        fs::write(golden().join(format!("{name}.json")), serde_json::to_string_pretty(&expected).unwrap() + "\n")
            .unwrap();
    }
}

/// All that was told when the files were made is told today, with the same values; more may be.
#[track_caller]
fn assert_says(today: &Value, then: &Value, at: &str) {
    match (today, then) {
        (Value::Object(today), Value::Object(then)) => {
            for (key, value) in then {
                assert_says(today.get(key).unwrap_or(&Value::Null), value, &format!("{at}.{key}"));
            }
        }
        (Value::Array(today), Value::Array(then)) => {
            assert_eq!(today.len(), then.len(), "{at}");
            for (i, (today, then)) in today.iter().zip(then).enumerate() {
                assert_says(today, then, &format!("{at}[{i}]"));
            }
        }
        (today, then) => assert_eq!(today, then, "{at}"),
    }
}

fn expected(name: &str) -> Option<(PathBuf, Value)> {
    let dir = golden().join(name);
    if !dir.exists() {
        println!("skipped: {} is not there yet", dir.display());
        return None;
    }
    let text = fs::read_to_string(golden().join(format!("{name}.json"))).unwrap();
    Some((dir, serde_json::from_str(&text).unwrap()))
}

#[test]
fn a_life_of_version_1_is_read_to_its_values() {
    let Some((dir, mut expected)) = expected("life") else { return };
    let disk = RealDisk::read_only(&dir);
    let report = audit::verify(&disk).unwrap();
    assert_eq!(report.findings, []);
    assert!(report.recomputed && report.checkpoints >= 2 && report.archived_records > 0, "{report:?}");
    assert_eq!(serde_json::to_value(&report.books).unwrap(), expected["books"].take());
    expected.as_object_mut().unwrap().shift_remove("books");
    assert_says(&read(&dir), &expected, "life");
    let kinds: Vec<&str> = expected["entries"].as_array().unwrap().iter().filter_map(|e| e["kind"].as_str()).collect();
    for kind in ["usage", "seal", "attempt", "answered", "checkpoint", "idle", "stop", "retired"] {
        assert!(kinds.contains(&kind), "{kind} is not in the files");
    }
    // It starts, on a copy, and ends with the same books.
    let copy = tempfile::tempdir().unwrap();
    for part in ["wal", "archive"] {
        fs::create_dir(copy.path().join(part)).unwrap();
        for file in fs::read_dir(dir.join(part)).unwrap() {
            let path = file.unwrap().path();
            fs::copy(&path, copy.path().join(part).join(path.file_name().unwrap())).unwrap();
        }
    }
    let before = report.books;
    let disk = Arc::new(RealDisk::new(copy.path()));
    let engine = Engine::open(disk, options(), NINE.plus(HOUR * HOURS as u32), |_| Ok(Index::in_memory())).unwrap();
    assert!(engine.report().clean, "two stop marks stand at its end");
    assert_eq!(engine.state().books(), before);
}

#[test]
fn the_instances_of_one_log_are_read_to_their_values() {
    let Some((dir, mut expected)) = expected("instances") else { return };
    let disk = RealDisk::read_only(&dir);
    let report = audit::verify(&disk).unwrap();
    assert_eq!((report.findings.len(), report.recomputed), (0, true), "{report:?}");
    assert_eq!(serde_json::to_value(&report.books).unwrap(), expected["books"].take());
    let mut sections: [usize; 4] = [0; 4];
    retain::walk(&disk, &retain::headers(&disk).unwrap(), &mut |event| {
        if let retain::Event::Entry { entry: e, .. } = event
            && e.kind == kind::CHECKPOINT
        {
            let more = Checkpoint::decode(e.payload).unwrap().state.more;
            sections[0] += usize::from(more.waiting_since.is_some());
            sections[1] += usize::from(more.parting.is_some());
            sections[2] += usize::from(more.others.values().any(State::has_unsent));
            sections[3] += usize::from(more.begun_in_doubt);
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })
    .unwrap();
    assert!(sections.iter().all(|checkpoints| *checkpoints > 0), "checkpoints with each section: {sections:?}");
}

#[test]
fn every_kind_of_version_1_keeps_its_layout() {
    let mut seen = Vec::new();
    for name in ["life", "kinds", "instances"] {
        let Some((dir, mut expected)) = expected(name) else { return };
        expected.as_object_mut().unwrap().shift_remove("books");
        assert_says(&read(&dir), &expected, name);
        let disk = RealDisk::read_only(&dir);
        let mut payloads = Vec::new();
        retain::walk(&disk, &retain::headers(&disk).unwrap(), &mut |event| {
            if let retain::Event::Entry { entry: e, .. } = event {
                let again = match entry::decode::<State>(e.payload) {
                    _ if e.kind != kind::CHECKPOINT => Entry::decode(e.kind, e.payload).unwrap().encode().unwrap(),
                    Ok(without_sections) => entry::encode(&without_sections).unwrap(),
                    Err(_) => Checkpoint::encode(&Checkpoint::decode(e.payload).unwrap().state).unwrap(),
                };
                assert!(again == e.payload, "entry {} of kind {} has another layout now", e.seq, e.kind);
                seen.push(e.kind);
                payloads.push((e.seq, e.kind, e.payload.iter().map(|b| format!("{b:02x}")).collect::<String>()));
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .unwrap();
        python_reads_the_same(&dir, &payloads);
    }
    (1..=15).chain(17..=21).for_each(|kind| assert!(seen.contains(&kind), "no entry of kind {kind}"));
}

fn python_reads_the_same(dir: &Path, payloads: &[(u64, u8, String)]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_log.py");
    let lines = |part: &str| -> Option<Vec<Value>> {
        let ran = Command::new("python3").arg(script).arg(dir.join(part)).output().ok()?;
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        Some(String::from_utf8(ran.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    let Some(read) = lines("wal") else {
        println!("skipped: python3 is not installed");
        return;
    };
    let read: Vec<(u64, u8, String)> = read
        .iter()
        .filter(|line| line["kind"].as_u64().is_some_and(|kind| kind < 250))
        .map(|line| {
            let kind = line["kind"].as_u64().unwrap() as u8;
            (line["seq"].as_u64().unwrap(), kind, line["payload"].as_str().unwrap().to_owned())
        })
        .collect();
    assert!(read == payloads, "{}: Python reads {} entries, not {}", dir.display(), read.len(), payloads.len());
    if dir.join("archive").exists() {
        let archived = lines("archive").unwrap();
        assert!(!archived.is_empty() && archived.iter().all(|line| line["kind"] == 200), "{archived:?}");
    }
}
