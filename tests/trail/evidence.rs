//! A month's file shows whatever was done to it; the head in the journal shows a file that was made anew.

use std::fs;

use meterd::evidence::{Checked, Head, Source, check, write};
use meterd::hour::{Hour, Timestamp};
use meterd::view::RecordView;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake_aws::FakeAws;
use crate::world::{DIMENSIONS, NOON, World, wait_for, wait_until};

fn hour(text: &str) -> Hour {
    Timestamp::parse(text).unwrap().hour()
}

/// Records of two days.
fn records() -> Vec<RecordView> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/trail/samples/records.jsonl")).unwrap();
    let mut records: Vec<RecordView> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let next_day = |record: &RecordView| RecordView { hour: record.hour.replace("-21T", "-22T"), ..record.clone() };
    let later: Vec<RecordView> = records.iter().map(next_day).collect();
    records.extend(later);
    records
}

fn file(records: &[RecordView]) -> Vec<u8> {
    let entries = [json!({ "seq": 7, "kind": "attempt", "crc32": "00c0ffee" })];
    let now = Timestamp::parse("2026-12-01T08:00:00Z").unwrap();
    let source = Source {
        month: hour("2026-11-01T00:00:00Z"),
        product: "prod",
        instance: Some("i-test"),
        now,
        records,
        entries: &entries,
    };
    let mut file = Vec::new();
    assert_eq!(write(&source, &mut file).unwrap(), records.len() as u64);
    file
}

fn checked(file: &[u8], heads: &[Head]) -> Result<Checked, String> {
    check(file, heads)
}

#[test]
fn every_changed_byte_and_every_line_that_is_gone_or_moved_is_found() {
    let file = file(&records());
    assert_eq!(checked(&file, &[]).unwrap().records, 6);
    for at in 0..file.len() {
        for other in [file[at] ^ 1, file[at] ^ 0x20, file[at] ^ 0x80, b' ', b'\n', b'0', b'"'] {
            if other != file[at] {
                let mut changed = file.clone();
                changed[at] = other;
                assert!(checked(&changed, &[]).is_err(), "byte {at}: {:?} for {:?}", other as char, file[at] as char);
            }
        }
    }
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..lines.len() {
        let without = [&lines[..at], &lines[at + 1..]].concat().concat();
        assert!(checked(&without, &[]).is_err(), "without line {}", at + 1);
        let twice = [&lines[..=at], &lines[at..]].concat().concat();
        assert!(checked(&twice, &[]).is_err(), "line {} twice", at + 1);
        for to in 0..at {
            let mut moved = lines.clone();
            moved.swap(at, to);
            assert!(checked(&moved.concat(), &[]).is_err(), "lines {} and {}", at + 1, to + 1);
        }
        assert!(checked(&lines[..at].concat(), &[]).is_err(), "cut behind line {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_changed_byte_is_found(at in any::<prop::sample::Index>(), other in any::<u8>()) {
        let mut file = file(&records());
        let at = at.index(file.len());
        prop_assume!(file[at] != other);
        file[at] = other;
        prop_assert!(checked(&file, &[]).is_err());
    }
}

#[test]
fn a_head_finds_a_file_that_was_made_anew() {
    let records = records();
    let heads: Vec<Head> = ["2026-11-21T23:00:00Z", "2026-11-22T23:00:00Z", "2026-10-31T23:00:00Z"]
        .map(|through| Head::of(&records, hour(through)))
        .into();
    assert_eq!(heads.iter().map(|head| head.lines).collect::<Vec<_>>(), [3, 6, 0]);
    let held = checked(&file(&records), &heads).unwrap();
    assert_eq!((held.anchored, held.of_other_months), (2, 1));
    // What becomes of a record after its head was written changes nothing there.
    let mut later = records.clone();
    later[0].state = "conflict".into();
    assert!(checked(&file(&later), &heads).is_ok());

    let mut rewritten = records.clone();
    rewritten[1].usage = "6".into();
    let whole = file(&rewritten);
    assert!(checked(&whole, &[]).is_ok(), "by itself it holds");
    assert!(checked(&whole, &heads).unwrap_err().contains("rewritten: up to 2026-11-21T23:00:00Z"));
    let shortened = file(&records[1..]);
    assert!(checked(&shortened, &[]).is_ok(), "by itself it holds");
    assert!(
        checked(&shortened, &heads).unwrap_err().contains("shortened: up to 2026-11-21T23:00:00Z it has 2 records")
    );
    assert!(checked(&file(&records[..5]), &heads).unwrap_err().contains("up to 2026-11-22T23:00:00Z it has 5 records"));
}

/// A file as one makes it who knows how: each line as `change` has it, under hashes that fit.
fn forged(file: &[u8], month: &str, change: impl Fn(&str, &str) -> String) -> Vec<u8> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let after = |before: &str, kind: &str, fact: &str| hex(&Sha256::digest(format!("{before} {kind} {fact}")));
    let begin = hex(&Sha256::digest(format!("meterd evidence 1 {month}")));
    let (mut chain, mut first, mut forged) = (begin.clone(), String::new(), String::new());
    for line in std::str::from_utf8(file).unwrap().lines() {
        let (kind, fact) = line[76..line.len() - 1].split_once("\":").unwrap();
        let mut fact = change(kind, fact);
        if kind == "end" {
            let mut end: Value = serde_json::from_str(&fact).unwrap();
            end["first"] = first.as_str().into();
            fact = end.to_string();
        }
        let hash = if kind == "evidence" { after(&begin, kind, &fact) } else { after(&chain, kind, &fact) };
        if kind == "evidence" {
            first.clone_from(&hash);
        } else {
            chain.clone_from(&hash);
        }
        forged += &format!("{{\"hash\":\"{hash}\",\"{kind}\":{fact}}}\n");
    }
    forged.into_bytes()
}

#[test]
fn a_file_whose_month_goes_by_another_name_does_not_hold() {
    let file = file(&records());
    assert_eq!(forged(&file, "2026-11", |_, fact| fact.to_owned()), file, "the forger knows how");
    for name in ["2026-1", "2026", "", "2026-11-"] {
        let other = forged(&file, name, |kind, fact| match kind {
            "evidence" => fact.replace("\"month\":\"2026-11\"", &format!("\"month\":\"{name}\"")),
            _ => fact.to_owned(),
        });
        assert!(checked(&other, &[]).unwrap_err().contains("its month is none"), "{name}");
    }
    let other = forged(&file, "2026-11", |_, fact| fact.replace("T12:00:00Z", "T12:30:00Z"));
    assert!(checked(&other, &[]).unwrap_err().contains("its hour is none"), "half past is no hour");
}

#[test]
fn the_agent_tells_its_journal_once_a_day_and_a_file_fits_it() {
    // A day of this clock takes a minute of the machine's: whichever hour the usage comes in, its day ends in time.
    let mut world = World::new(NOON, 1440);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "[hour]\ngrace = \"0s\"\n");
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":2000}"#)["ok"], true);
    wait_until("it is accepted", || agent.status()["records"]["accepted"].as_u64() >= Some(1));
    let heads = || -> Vec<(String, Head)> {
        let log = fs::read_to_string(world.path("agent.log")).unwrap();
        log.lines().filter_map(|line| Some((line.to_owned(), Head::read(line)?))).collect()
    };
    let (line, _) = wait_for("the head of the day", || heads().first().cloned());
    agent.stop();
    // A start says it once more; of one day always the same.
    let before = heads().len();
    let agent = world.start();
    wait_until("a start tells it", || heads().len() > before);
    let told = heads();
    for (line, head) in &told {
        assert!(told.iter().all(|(_, other)| other.through != head.through || other == head), "{line}: {told:?}");
    }

    let name = world.path("november.jsonl").display().to_string();
    let ran = world.run(&["evidence", "--month", "2026-11", "-o", &name]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = world.run(&["evidence", "check", &name, "--anchor", &line, "--json"]);
    assert_eq!((ran.code, ran.json()["anchored"].as_u64()), (0, Some(1)), "{ran:?}");
    let text = fs::read_to_string(&name).unwrap();
    let kinds: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["evidence", "sealed", "outcome", "entry", "end"] {
        assert!(kinds.iter().any(|line| line.get(kind).is_some()), "{kind}: {text}");
    }
    let answered = kinds.iter().find(|line| line["entry"]["kind"] == "answered");
    assert!(answered.is_some_and(|line| line["entry"]["crc32"].as_str().is_some_and(|crc| crc.len() == 8)), "{text}");

    // The journal as a file, and a month that was tampered with.
    let journal = world.path("agent.log").display().to_string();
    assert_eq!(world.run(&["evidence", "check", &name, "--anchor", &journal]).code, 0);
    fs::write(&name, text.replacen("\"usage\":\"2000\"", "\"usage\":\"1000\"", 1)).unwrap();
    let ran = world.run(&["evidence", "check", &name]);
    assert!(ran.code == 1 && ran.stderr.contains("line 2: it was changed"), "{ran:?}");
    let ran = world.run(&["evidence", "check", &name, "--anchor", "nonsense"]);
    assert!(ran.code == 1 && ran.stderr.contains("neither a line"), "{ran:?}");
    agent.stop();
}
