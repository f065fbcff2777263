//! Every bit of a small log flipped at rest. Sees what one flipped bit does, wherever it is. Cannot see two at once in
//! one frame (CRC-32 finds up to three in a frame by its mathematics).

use meterd::wal::open::Gap;

use super::machine::{Fact, Machine, SEGMENT_BYTES, Step, read_all};
use Step::{Append, Commit, Crash, Idle, Start};

const FIRST: &str = "wal/0000000000000001.seg";
const FRAMES_AT: usize = 4096;

fn frame_bytes(payload: usize) -> usize {
    (20 + payload).div_ceil(8) * 8
}

/// A log with an idle mark behind its last batch, dead; and where each of its entries stands.
fn small_log() -> (Machine, Vec<(Fact, std::ops::Range<usize>)>) {
    let mut machine = Machine::new(5);
    machine
        .run(&[Append(9), Append(17), Commit, Append(40), Commit, Append(1), Append(30), Commit, Idle, Crash])
        .unwrap();
    let mut at = FRAMES_AT;
    let facts = machine.model.durable.clone();
    let places = facts.into_iter().map(|fact| {
        let from = at;
        at += frame_bytes(fact.payload.len());
        (fact, from..at)
    });
    let places = places.collect();
    machine.model.rotten = true;
    (machine, places)
}

fn started(mut machine: Machine) -> (Machine, Vec<Gap>, Vec<Fact>) {
    machine.step(Start).unwrap_or_else(|why| panic!("{why}"));
    assert!(machine.log.is_some());
    let (gaps, facts) = (machine.report.gaps.clone(), read_all(&machine.disk).unwrap());
    (machine, gaps, facts)
}

#[test]
fn every_bit_of_acknowledged_data() {
    let (machine, places) = small_log();
    let end = places.last().unwrap().1.end;
    for bit in FRAMES_AT * 8..end * 8 {
        let hurt = machine.fork();
        hurt.disk.rot(FIRST, bit / 8, |b| b ^ 1 << (bit % 8));
        let rotten = hurt.disk.contents()[FIRST].clone();
        let hit = places.iter().position(|(_, place)| place.contains(&(bit / 8))).unwrap();
        let others: Vec<Fact> =
            places.iter().enumerate().filter(|(i, _)| *i != hit).map(|(_, (f, _))| f.clone()).collect();
        let (lost, place) = &places[hit];

        let (first, gaps, facts) = started(hurt);
        assert_eq!(facts, others, "bit {bit}: everything else survives");
        let [gap] = gaps.as_slice() else { panic!("bit {bit} of {lost:?} went by: {gaps:?}") };
        assert_eq!((gap.segment, gap.first_lost, gap.next_seq), (1, lost.seq, lost.seq + 1), "bit {bit}");
        assert_eq!((gap.span.from, gap.span.to), (place.start as u64, place.end as u64), "bit {bit}");
        let evidence = format!("quarantine/corrupt-{:016}-{}-{}", 1, gap.span.from, gap.span.to);
        let kept = first.disk.contents().get(&evidence).cloned();
        assert_eq!(kept.as_deref(), Some(&rotten[place.clone()]), "bit {bit}: evidence");

        // It is not news at the next start, whether the machine or the process stopped.
        for end in [Crash, Step::Cut(0)] {
            let mut again = first.fork();
            again.run(&[end]).unwrap();
            let (_, gaps, facts) = started(again);
            assert_eq!((gaps.as_slice(), facts), (&[][..], others.clone()), "bit {bit}: told once");
        }
    }
    println!("flips: {} bits of acknowledged data, each found", (end - FRAMES_AT) * 8);
}

#[test]
fn every_bit_of_one_header() {
    let (machine, places) = small_log();
    let all: Vec<Fact> = places.into_iter().map(|(fact, _)| fact).collect();
    for copy in [0, 2048] {
        for bit in 0..88 * 8 {
            let hurt = machine.fork();
            hurt.disk.rot(FIRST, copy + bit / 8, |b| b ^ 1 << (bit % 8));
            let (_, gaps, facts) = started(hurt);
            assert_eq!((gaps.as_slice(), &facts), (&[][..], &all), "bit {bit} of the copy at {copy}");
        }
    }
}

#[test]
fn both_headers_rotten_changes_nothing() {
    let (machine, _) = small_log();
    for at in [20, 2048 + 40] {
        machine.disk.rot(FIRST, at, |b| b ^ 1);
    }
    let before = machine.disk.contents();
    let mut hurt = machine.fork();
    assert!(hurt.step(Start).is_err(), "opened without a header");
    assert_eq!(hurt.disk.contents(), before);
}

/// Closed segments, sampled: all of them was durable, so every flip is found, the last frame's too.
#[test]
fn bits_of_closed_segments() {
    let mut machine = Machine::new(6);
    let steps =
        [Append(5000), Commit, Append(6500), Append(700), Commit, Append(300), Append(20_000), Commit, Idle, Crash];
    machine.run(&steps).unwrap();
    machine.model.rotten = true;
    let all = machine.model.durable.clone();
    let segments: Vec<String> = machine.disk.contents().into_keys().filter(|n| n.ends_with(".seg")).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    let mut rng = fastrand::Rng::with_seed(9);
    let mut found = 0;
    for _ in 0..150 {
        let number = rng.usize(0..segments.len() - 1);
        let name = &segments[number];
        let (at, bit) = (rng.usize(FRAMES_AT..SEGMENT_BYTES as usize), rng.u8(0..8));
        let hurt = machine.fork();
        hurt.disk.rot(name, at, |b| b ^ 1 << bit);
        let (mut first, gaps, facts) = started(hurt);
        assert!(facts.iter().all(|f| all.contains(f)), "an entry came from nowhere");
        assert!(facts.is_sorted_by(|a, b| a.seq < b.seq));
        // A flip in the zeros behind the end hurts nobody; all others lose one entry. A gap in front of the newest
        // checkpoint is history: a start does not read it.
        if facts.len() < all.len() {
            assert_eq!(facts.len() + 1, all.len(), "{name} byte {at}");
            let read = number + first.report.segments_read as usize >= segments.len();
            assert_eq!(gaps.len(), usize::from(read), "{name} byte {at}");
            found += 1;
        }
        first.run(&[Append(20), Commit, Crash]).unwrap();
        let (_, gaps, again) = started(first);
        assert_eq!(gaps, [], "told once");
        assert_eq!(again.len(), facts.len() + 1);
    }
    assert!(found > 50, "{found} flips hit data");
}

#[test]
fn a_closed_segment_that_lost_its_end() {
    let mut machine = Machine::new(7);
    machine.run(&[Append(5000), Commit, Append(6000), Commit, Append(3000), Append(500), Commit, Idle, Crash]).unwrap();
    machine.model.rotten = true;
    let all = machine.model.durable.len();
    // The start reads from the first segment on if the checkpoint in the second is gone too.
    machine.disk.rot("wal/0000000000000002.seg", FRAMES_AT + 30, |b| b ^ 1);
    machine.disk.truncate(FIRST, FRAMES_AT + 2000);
    let (_, gaps, facts) = started(machine);
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert_eq!(facts.len(), all - 3, "the checkpoint and two entries");
}

/// Damage found by a recovery that dies is found by the next one, unless its gap entry got there.
#[test]
fn damage_is_told_though_the_recovery_dies() {
    use super::disk::Fault;
    let mut tried = 0;
    for stop in [Idle, Step::Stop] {
        let mut machine = Machine::new(8);
        machine.run(&[Append(9), Commit, Append(500), Commit, stop, Crash]).unwrap();
        machine.model.rotten = true;
        let survivor = machine.model.durable[0].clone();
        machine.disk.rot(FIRST, FRAMES_AT + 100, |b| b ^ 1);
        let before = machine.disk.ops();
        let (whole, gaps, _) = started(machine.fork());
        assert_eq!(gaps.len(), 1);
        let ops = whole.disk.ops() - before;
        for at in 0..ops {
            for fault in [Fault::Halt, Fault::HaltMidway] {
                for end in [Crash, Step::Cut(0), Step::Cut(1), Step::Cut(at | 2)] {
                    let mut dying = machine.fork();
                    dying.run(&[Step::Fault(at, fault), Start, end]).unwrap();
                    let (_, gaps, facts) = started(dying);
                    assert_eq!(facts, std::slice::from_ref(&survivor));
                    // The last two operations write the gap entry and sync it.
                    let noted = at + 1 >= ops && (fault == Fault::HaltMidway || end != Step::Cut(0));
                    assert!(gaps.len() == 1 || noted, "{fault:?} at {at} of {ops}, {end:?}: {gaps:?}");
                    tried += 1;
                }
            }
        }
    }
    println!("damage: {tried} recoveries killed");
}
