//! Damage to entries that are not usage costs nothing: each stands in the log a second time. Sees the engine on a disk
//! that rots. Cannot see more than a few entries lost at once; where the echoes are lost too, hours wait for a person.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use meterd::engine::{Engine, NewIncrement, Sending};
use meterd::entry::{Peer, RecordKey, kind};
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::rollup::State;
use meterd::rollup::state::Phase;
use meterd::submit::answer::{Outcome, Reply};
use meterd::wal::Purpose;
use meterd::wal::log;
use meterd::wal::open::{self, Entry};
use meterd::wal::segment::{self, FRAMES_AT};
use meterd::wal::spares::Need;

use super::disk::SimDisk;
use super::machine::NOW;
use super::setup::{self, KEYED, PLAIN};

const FIRST: &str = "wal/0000000000000001.seg";
const SEGMENT_BYTES: u64 = 64 * 1024;

fn opened(disk: &SimDisk, now: Timestamp) -> Engine<SimDisk> {
    let options = setup::options(SEGMENT_BYTES);
    Engine::open(Arc::new(disk.clone()), options, now, |_| Ok(Index::in_memory())).unwrap()
}

fn take(engine: &mut Engine<SimDisk>, dimension: &str, quantity: &str, now: Timestamp) {
    let (dimension, quantity) = (dimension.into(), Some(quantity.into()));
    engine.take(Peer::default(), &NewIncrement { dimension, quantity, ..NewIncrement::default() }, now).unwrap();
    engine.commit(now).unwrap();
}

fn send_all(engine: &mut Engine<SimDisk>, now: &mut Timestamp, outcome: impl Fn(&RecordKey) -> Outcome) {
    for _ in 0..40 {
        match engine.next_sending(*now).unwrap() {
            Sending::Record(key, _) => {
                let outcome = outcome(&key);
                let reply = Reply {
                    outcome,
                    message: String::new(),
                    request_id: None,
                    retry_after: None,
                    aws_time: Some(*now),
                };
                engine.answered(key, &reply, *now).unwrap();
            }
            Sending::Wait(until) if until.since(*now) < Duration::from_secs(300) => *now = until,
            _ => break,
        }
    }
}

/// Hours of usage, sealed, some accepted and some not; the end of the clock.
fn some_hours(disk: &SimDisk) -> Timestamp {
    let mut now = NOW;
    let mut engine = opened(disk, now);
    for hour in 0..5 {
        take(&mut engine, PLAIN, "3", now);
        take(&mut engine, KEYED, "2500", now);
        now = now.hour().end().plus(Duration::from_secs(130));
        engine.tick(now).unwrap();
        send_all(&mut engine, &mut now, |key| match (hour, key.dimension.0) {
            (1, 0) => Outcome::NotSent,
            (2, 1) => Outcome::Error { code: "DuplicateRequest".into(), status: 400 },
            _ => Outcome::Accepted { metering_record_id: "r".into() },
        });
        engine.idle(now).unwrap();
    }
    take(&mut engine, PLAIN, "1", now);
    engine.stop(now).unwrap();
    now
}

/// Where each entry of the first segment stands, by its kind.
fn places(disk: &SimDisk) -> Vec<(u64, u8, Range<usize>)> {
    let mut found = Vec::new();
    open::replay(disk, 1, kind::CHECKPOINT, &mut |e: Entry<'_>| {
        found.push((e.seq, e.kind, e.payload.to_vec()));
        Ok(())
    })
    .unwrap();
    let bytes = disk.contents()[FIRST].clone();
    let place = |payload: &[u8]| bytes.windows(payload.len()).position(|w| w == payload).expect("it is there");
    found
        .into_iter()
        .map(|(seq, kind, payload)| {
            let at = place(&payload);
            (seq, kind, at..at + payload.len())
        })
        .collect()
}

/// What a user sees: the clocks and the count of readings aside.
fn seen(engine: &Engine<SimDisk>) -> State {
    State { clocks: Default::default(), ..engine.state().clone() }
}

#[test]
fn an_entry_that_damage_takes_is_in_its_echo() {
    let disk = SimDisk::new(3);
    let now = some_hours(&disk);
    let whole = seen(&opened(&disk.fork(), now));
    assert!(whole.records.values().any(|r| r.phase == Phase::Conflict));
    let entries = places(&disk);
    let mut hit = 0;
    for (seq, kind, place) in entries.iter().filter(|(_, kind, _)| ![kind::USAGE, kind::ECHO].contains(kind)) {
        let hurt = disk.fork();
        hurt.rot(FIRST, place.start, |b| b ^ 1);
        let engine = opened(&hurt, now);
        assert_eq!(engine.report().gaps.len(), 1, "entry {seq} of kind {kind}: the damage is told");
        assert_eq!(seen(&engine), whole, "entry {seq} of kind {kind}: and costs nothing");
        // Nor at the next start, when it is no news.
        drop(engine);
        assert_eq!(seen(&opened(&hurt, now)), whole, "entry {seq} of kind {kind}");
        hit += 1;
    }
    assert!(hit > 30, "{hit}");
    println!("echoes: {hit} entries damaged, each one mended");
}

#[test]
fn two_neighbours_are_mended_too() {
    let disk = SimDisk::new(3);
    let now = some_hours(&disk);
    let whole = seen(&opened(&disk.fork(), now));
    let mut hit = 0;
    for pair in places(&disk).windows(2).filter(|p| p.iter().all(|(_, kind, _)| *kind != kind::USAGE)) {
        let hurt = disk.fork();
        pair.iter().for_each(|(_, _, place)| hurt.rot(FIRST, place.start, |b| b ^ 1));
        let engine = opened(&hurt, now);
        assert_eq!(seen(&engine), whole, "{:?}", pair.iter().map(|(seq, kind, _)| (seq, kind)).collect::<Vec<_>>());
        hit += 1;
    }
    assert!(hit > 20, "{hit}");
}

/// Damage comes twice, with a start between: the echo that is written after it has mended entries too, or it would vouch
/// for a history without them.
#[test]
fn an_entry_that_was_mended_stands_in_the_next_echo() {
    let disk = SimDisk::new(3);
    let mut now = some_hours(&disk);
    let mut engine = opened(&disk, now);
    now = now.hour().end().plus(Duration::from_secs(130));
    engine.tick(now).unwrap();
    engine.idle(now).unwrap();
    drop(engine);
    let whole = seen(&opened(&disk.fork(), now));
    let entries = places(&disk);
    let seal = entries.iter().rposition(|(_, kind, _)| *kind == kind::SEAL).unwrap();
    let echo = seal + entries[seal..].iter().position(|(_, kind, _)| *kind == kind::ECHO).unwrap();
    disk.rot(FIRST, entries[seal].2.start, |b| b ^ 1);
    let engine = opened(&disk, now);
    assert_eq!(seen(&engine), whole, "the seal is in its echo");
    engine.stop(now).unwrap();
    disk.rot(FIRST, entries[echo].2.start, |b| b ^ 1);
    assert_eq!(seen(&opened(&disk, now)), whole, "and in the one after the start that mended it");
}

/// Where the stretch before it was read, a checkpoint says nothing new.
#[test]
fn a_damaged_checkpoint_costs_nothing() {
    // Records that wait for a person make a long checkpoint.
    let conflict = Outcome::Error { code: "DuplicateRequest".into(), status: 400 };
    let mut hit = [0, 0];
    for answer in [Outcome::Accepted { metering_record_id: "r".into() }, conflict] {
        let disk = SimDisk::new(3);
        let mut now = NOW;
        let mut engine = opened(&disk, now);
        for _ in 0..24 {
            (0..600).for_each(|n| take(&mut engine, [PLAIN, KEYED][n % 2], "3", now));
            now = now.hour().end().plus(Duration::from_secs(130));
            engine.tick(now).unwrap();
            send_all(&mut engine, &mut now, |_| answer.clone());
            engine.idle(now).unwrap();
        }
        drop(engine);
        let whole = seen(&opened(&disk.fork(), now));
        let newest = segment::file_name(*segment::list(&disk).unwrap().last().unwrap());
        let frames = checkpoint(&disk.contents()[&newest]);
        assert!(newest.as_str() > FIRST && !frames.is_empty());
        hit[usize::from(frames.len() > 1)] += 1;
        for (n, at) in frames.iter().enumerate() {
            let hurt = disk.fork();
            hurt.rot(&newest, at + 30, |b| b ^ 1);
            // Without its last frame nobody knows how many it had.
            let told = n == 0 || n + 1 < frames.len();
            for start in 0..2 {
                let engine = opened(&hurt, now);
                assert_eq!(engine.report().gaps.len(), 1 - start, "frame {n} of {}: told, once", frames.len());
                let held = engine.state().damaged_through.is_some();
                assert_eq!(held, !told, "frame {n} of {}, start {start}", frames.len());
                assert!(held || seen(&engine) == whole, "frame {n} of {}, start {start}", frames.len());
            }
        }
        // With a neighbour it may have been anything.
        let hurt = disk.fork();
        hurt.rot(&newest, frames[0] + 30, |b| b ^ 1);
        hurt.rot(&newest, end_of(&disk.contents()[&newest], *frames.last().unwrap()) + 21, |b| b ^ 1);
        assert!(opened(&hurt, now).state().damaged_through.is_some());
    }
    assert_eq!(hit, [1, 1], "one of a single frame, one of several");
}

/// Where a checkpoint leaves no room for what it was written for, the next segment begins with that.
#[test]
fn behind_a_checkpoint_that_fills_its_segment_anything_may_be_lost() {
    let options = open::Options {
        segment_bytes: 16 * 1024,
        purpose: Purpose::Test,
        background: false,
        checkpoint_kind: kind::CHECKPOINT,
        now: NOW,
    };
    let disk = SimDisk::new(1);
    let mut log = open::open(Arc::new(disk.clone()), &options, &mut |_| Ok(())).unwrap().log;
    log.append(kind::SETUP, &[1; 100], Need::Control, NOW).unwrap();
    log.roll(Need::Control, NOW).unwrap();
    // A segment has room for 12288 bytes of frames.
    log.append(kind::CHECKPOINT, &[1; 12_000], Need::Control, NOW).unwrap();
    for (kind, bytes) in [(kind::SEAL, 400), (kind::ANSWERED, 50), (log::kind::IDLE, 8)] {
        log.append(kind, &vec![1; bytes], Need::Control, NOW).unwrap();
        log.commit().unwrap();
    }
    assert_eq!(log.segment_id(), 3);
    drop(log);
    disk.rot(&segment::file_name(3), FRAMES_AT as usize + 30, |b| b ^ 1);
    let mut entries = Vec::new();
    let opened = open::open(Arc::new(disk), &options, &mut |e| {
        entries.push((e.kind, e.after_gap));
        Ok(())
    });
    assert_eq!(opened.unwrap().report.gaps.len(), 1);
    assert_eq!(entries, [(kind::CHECKPOINT, false), (kind::ANSWERED, true)], "the seal is missed");
}

/// Where the frames stand of the checkpoint that a segment begins with.
fn checkpoint(bytes: &[u8]) -> Vec<usize> {
    let mut frames = vec![FRAMES_AT as usize];
    // Its last part is 3; 0 is a whole one.
    while ![0, 3].contains(&bytes[frames[frames.len() - 1] + 7]) {
        frames.push(end_of(bytes, frames[frames.len() - 1]));
    }
    frames.retain(|at| bytes[at + 6] == kind::CHECKPOINT);
    frames
}

/// Where the frame at `at` ends.
fn end_of(bytes: &[u8], at: usize) -> usize {
    let len = u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]);
    (at + 20 + usize::from(len)).next_multiple_of(8)
}

/// Everything but usage, from the last entry of `from` on, is damaged.
fn without_echoes(from: u8) -> (SimDisk, Timestamp) {
    let disk = SimDisk::new(3);
    let now = some_hours(&disk);
    let entries = places(&disk);
    let first = entries.iter().rfind(|(_, kind, _)| *kind == from).unwrap().0;
    for (_, _, place) in entries.iter().filter(|(seq, kind, _)| *seq >= first && *kind != kind::USAGE) {
        disk.rot(FIRST, place.start, |b| b ^ 1);
    }
    (disk, now)
}

#[test]
fn where_the_echoes_are_lost_too_hours_wait_for_a_person() {
    let (disk, now) = without_echoes(kind::SEAL);
    // The clock of a machine that has just been started may lie behind.
    for started in [now, now.minus(Duration::from_secs(36_000))] {
        let mut engine = opened(&disk.fork(), started);
        // The hour whose seal is gone is closed again, and held.
        let mut now = now.hour().end().plus(Duration::from_secs(130));
        engine.tick(now).unwrap();
        let held = engine.state().records.values().filter(|r| r.is_held_back()).count();
        assert_eq!(held, 3, "two of the hour, one of the hour that was open: {:#?}", engine.state().records);
        send_all(&mut engine, &mut now, |key| panic!("{key} is sent"));
        assert!(engine.state().books().iter().all(|b| b.balanced()));
    }
}

#[test]
fn where_outcomes_are_lost_nothing_is_carried_by_itself() {
    let (disk, now) = without_echoes(kind::ATTEMPT);
    let mut engine = opened(&disk, now);
    let pending: Vec<_> = engine.state().records.values().filter(|r| r.phase == Phase::Pending).collect();
    assert_eq!(pending.len(), 1, "{:#?}", engine.state().records);
    assert!(pending[0].ambiguous);
    engine.tick(now.plus(Duration::from_secs(8 * 3600))).unwrap();
    let left: Vec<Phase> = engine.state().records.values().map(|r| r.phase).collect();
    assert!(left.contains(&Phase::InDoubt) && !left.contains(&Phase::Carried), "{left:?}");
}

#[test]
fn lost_increments_are_counted() {
    let disk = SimDisk::new(3);
    let now = some_hours(&disk);
    let mut engine = opened(&disk, now);
    take(&mut engine, PLAIN, "7", now);
    take(&mut engine, PLAIN, "1", now);
    engine.idle(now).unwrap();
    drop(engine);
    let entries = places(&disk);
    let (_, _, place) = entries.iter().rev().filter(|(_, kind, _)| *kind == kind::USAGE).nth(1).unwrap();
    disk.rot(FIRST, place.start, |b| b ^ 1);
    let engine = opened(&disk, now);
    assert_eq!(engine.state().lost_increments, 1);
    assert_eq!(engine.state().accepted_seq, 13, "no number is given twice");
    assert!(engine.state().books().iter().all(|b| b.balanced()));
}
