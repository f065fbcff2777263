//! Starts on a full disk: a process killed, or a power cut, at every operation of a small workload; then no byte is free,
//! in the recovery either, which is killed and cut at each of its operations too. Sees every order in which names,
//! lengths and sectors get there. Cannot see what a real file system needs room for besides (`tests/disks` can).

use std::collections::BTreeSet;

use meterd::disk::{Disk, DiskFile};
use meterd::wal::spares::Need;
use meterd::wal::{LogError, OpenError};

use super::cuts;
use super::disk::{EIO, Fault, SimDisk};
use super::machine::{Machine, NOW, SEGMENT_BYTES, Step, options};
use super::setup;
use Step::{Append, Commit, Crash, Cut, Start, Stop};

#[derive(Default)]
struct Counts {
    states: u64,
    /// In which the room for recovery was kept.
    with_room: u64,
    /// Starts that waited for room: without the kept room one may, and must work once there is some.
    refused: u64,
    second: u64,
}

/// Whether the room for recovery's copy is there.
fn keeps_room(disk: &SimDisk) -> bool {
    disk.open("wal/recovery.spare").is_ok_and(|file| file.len().is_ok_and(|len| len == SEGMENT_BYTES))
}

/// Leaves no byte free. What recovery itself frees is taken by somebody else if there is a `thief`.
fn fill(machine: &mut Machine) {
    machine.step(Step::Free(Some(0))).expect("filling");
}

/// Starts on the full disk; how many operations that took, or none if it could not.
fn start(machine: &mut Machine) -> Result<Option<u64>, String> {
    let (before, room) = (machine.disk.ops(), keeps_room(&machine.disk));
    fill(machine);
    machine.step(Start)?;
    match (machine.log.is_some(), room) {
        (true, _) => Ok(Some(machine.disk.ops() - before)),
        (false, true) => Err("no start on a full disk, though the room for it was kept".into()),
        (false, false) => Ok(None),
    }
}

/// On from a start on a full disk: all that was acknowledged is there, now and when there is room again.
fn aftermath(mut machine: Machine, counts: &mut Counts) -> Result<Option<u64>, String> {
    let ops = start(&mut machine)?;
    counts.refused += u64::from(ops.is_none());
    machine.run(&[Crash, Start, Append(8), Commit, Stop, Cut(0), Start, Append(9000), Commit, Cut(0), Start])?;
    Ok(ops)
}

fn explore(name: &str, steps: &[Step]) {
    let mut counts = Counts::default();
    let mut seen = BTreeSet::new();
    let mut whole = stocked();
    whole.run(steps).unwrap_or_else(|why| panic!("{name} without any fault: {why}"));
    let first = stocked().disk.ops();
    for at in first..=whole.disk.ops() {
        for fault in [Fault::Halt, Fault::HaltMidway] {
            let mut killed = stocked();
            killed.disk.inject(at - first, fault);
            for step in steps {
                killed.step(*step).unwrap_or_else(|why| panic!("{name} {step:?}: {why}"));
                if killed.disk.is_halted() {
                    break;
                }
            }
            let mut left: Vec<(String, Machine)> = Vec::new();
            let mut warm = killed.fork();
            warm.step(Crash).unwrap();
            if seen.insert(warm.disk.mark()) {
                left.push(("process crash".into(), warm));
            }
            for (i, disk) in cuts::all(&killed.disk, at * 1000, &mut seen).into_iter().enumerate() {
                left.push((format!("power cut, way {i}"), Machine::with(disk, killed.model.clone())));
            }
            for (how, machine) in left {
                counts.states += 1;
                let story = |why: String| format!("{name} {steps:?}\n{fault:?} at operation {at}, {how}: {why}");
                counts.with_room += u64::from(keeps_room(&machine.disk));
                let ops = aftermath(machine.fork(), &mut counts).unwrap_or_else(|why| panic!("{}", story(why)));
                second_level(&machine, ops.unwrap_or(0), &mut counts).unwrap_or_else(|why| panic!("{}", story(why)));
            }
        }
    }
    assert!(counts.with_room * 2 > counts.states, "the room is kept most of the time");
    println!(
        "{name} on a full disk: {} states left by a crash or a cut ({} with the kept room), {} more by one in their \
         recovery, {} starts that waited for room",
        counts.states, counts.with_room, counts.second, counts.refused
    );
}

/// Kills the recovery of `left` on the full disk at each of its operations.
fn second_level(left: &Machine, ops: u64, counts: &mut Counts) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(counts.states);
    for at in 0..ops {
        let mut ways = Vec::new();
        for fault in [Fault::Halt, Fault::HaltMidway] {
            ways.extend([Crash, Cut(0), Cut(1), Cut(at | 2)].map(|end| (fault, end)));
        }
        if std::env::var_os("METERD_SIM_FULL").is_none() {
            ways = rng.choose_multiple(ways, 1);
        }
        for (fault, end) in ways {
            let mut machine = left.fork();
            fill(&mut machine);
            let story = |why| format!("recovery, {fault:?} at {at}, {end:?}: {why}");
            machine.run(&[Step::Fault(at, fault), Start, end]).map_err(story)?;
            aftermath(machine, counts).map_err(story)?;
            counts.second += 1;
        }
    }
    Ok(())
}

/// A machine whose log has all that it keeps back, under names that a recovery has made durable.
fn stocked() -> Machine {
    let mut machine = Machine::new(1);
    machine.step(Start).unwrap();
    machine.log.as_mut().unwrap().ensure_room(10, Need::Usage).unwrap();
    machine.run(&[Append(8), Commit, Crash, Start]).unwrap();
    machine
}

#[test]
fn a_start_uses_the_room_that_was_kept_for_it() {
    explore("batches", &[Append(40), Commit, Append(700), Append(900), Commit, Append(9), Commit]);
    explore("rolls", &[Append(6000), Commit, Append(6000), Append(300), Commit, Append(30), Commit]);
    explore("restarts", &[Append(500), Commit, Append(900), Crash, Start, Append(9), Commit]);
}

/// While an exchange of names is not durable the kept room is what a power cut makes the segment again: a recovery that
/// is killed then, and a second one that is cut while it writes there.
#[test]
fn killed_in_two_recoveries_in_a_row() {
    let mut left = stocked();
    left.run(&[Append(700), Commit, Append(40), Crash]).unwrap();
    let mut counts = Counts::default();
    let ops = |machine: &Machine| {
        let mut machine = machine.fork();
        let before = machine.disk.ops();
        machine.step(Start).unwrap();
        machine.disk.ops() - before
    };
    for first in 0..ops(&left) {
        for fault in [Fault::Halt, Fault::Fail(EIO)] {
            let mut once = left.fork();
            once.run(&[Step::Fault(first, fault), Start, Crash]).unwrap();
            for second in 0..ops(&once) {
                for fault in [Fault::Halt, Fault::HaltMidway, Fault::Fail(EIO)] {
                    // A recovery that failed is also tried again by the same process.
                    let retry = if fault == Fault::Fail(EIO) { &[Start][..] } else { &[] };
                    for end in [&[Crash, Cut(0), Cut(1), Cut(second | 2)], retry].concat() {
                        let mut twice = once.fork();
                        let story = |why| format!("at {first}, then {fault:?} at {second}, {end:?}: {why}");
                        let tried = twice.run(&[Step::Fault(second, fault), Start, end]);
                        tried
                            .and_then(|()| aftermath(twice, &mut counts))
                            .unwrap_or_else(|why| panic!("{}", story(why)));
                        counts.second += 1;
                    }
                }
            }
        }
    }
    println!("{} pairs of recoveries that were killed or failed", counts.second);
}

/// Every acknowledged increment, and seals too, on a disk that is full from some moment on, through kill after kill.
#[test]
fn killed_again_and_again_on_a_full_disk() {
    let mut machine = stocked();
    machine.run(&[Append(6000), Commit, Append(3000), Commit]).unwrap();
    let capacity = machine.disk.used();
    for n in 0..20 {
        machine.step(Append(30)).unwrap();
        machine.step(Commit).unwrap();
        machine.step(if n % 3 == 0 { Cut(n) } else { Crash }).unwrap();
        // As full as it was, whoever takes what recovery frees.
        machine.disk.set_capacity(Some(capacity));
        machine.step(Start).unwrap();
        let log = machine.log.as_mut().unwrap_or_else(|| panic!("start {n} on a full disk"));
        log.ensure_room(10, Need::Usage).unwrap();
    }
}

#[test]
fn usage_is_refused_until_what_is_kept_back_stands() {
    let disk = SimDisk::new(1);
    let opened = meterd::wal::open::open(std::sync::Arc::new(disk.clone()), &options(), &mut |_| Ok(()));
    let mut log = opened.unwrap().log;
    for more in 0..2 {
        disk.set_capacity(Some(disk.used() + more * SEGMENT_BYTES as usize));
        assert!(log.fits(10));
        assert!(matches!(log.ensure_room(10, Need::Usage), Err(LogError::Full(_))), "room for {more} more files");
        // A seal does not wait for that.
        log.ensure_room(10, Need::Control).unwrap();
        log.append(3, b"a seal", Need::Control, NOW).unwrap();
        log.commit().unwrap();
    }
    disk.set_capacity(Some(disk.used() + SEGMENT_BYTES as usize));
    log.ensure_room(10, Need::Usage).unwrap();
}

/// Nothing can be said of a directory in which there is no room for a first segment, but that it is so.
#[test]
fn a_first_start_without_room_says_so_and_can_be_made_again() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(100));
    let open =
        |disk: &SimDisk| {
            let disk = std::sync::Arc::new(disk.clone());
            meterd::engine::Engine::open(disk, setup::options(SEGMENT_BYTES), NOW, |_| {
                Ok(meterd::index::Index::in_memory())
            })
        };
    for _ in 0..3 {
        let refused = open(&disk).map(drop);
        let full = matches!(&refused, Err(meterd::engine::EngineError::Open(OpenError::Io { source, .. }))
            if meterd::disk::is_full(source));
        assert!(full, "{refused:?}");
    }
    disk.set_capacity(None);
    open(&disk).unwrap();
}
