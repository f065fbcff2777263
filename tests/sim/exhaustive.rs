//! Small workloads, cut and killed at every operation of the disk, recovered, cut again inside the recovery, recovered
//! again. Sees every order of a few steps. Cannot see what takes many steps to come about (`seeds.rs` can).

use std::collections::BTreeSet;

use super::cuts;
use super::disk::{EIO, Fault};
use super::machine::{Machine, Step};
use Step::{Append, Commit, Crash, Cut, Evict, Idle, Start, Stop};

#[derive(Default)]
struct Counts {
    operations: u64,
    states: u64,
    second: u64,
    starts: u64,
}

fn full() -> bool {
    std::env::var_os("METERD_SIM_FULL").is_some()
}

/// Starts on what is left, goes on, loses power, starts again.
fn aftermath(mut machine: Machine, counts: &mut Counts) -> Result<u64, String> {
    let before = machine.disk.ops();
    machine.step(Start)?;
    let ops = machine.disk.ops() - before;
    if machine.log.is_none() {
        return Err("did not start".into());
    }
    // A stop at once shows whether the zeros behind the end are zeros; then on through a roll, without one.
    machine.run(&[Append(8), Commit, Stop, Cut(0), Start, Append(9000), Commit, Cut(0), Start, Append(8), Commit])?;
    machine.run(&[Crash, Start])?;
    counts.starts += machine.starts;
    Ok(ops)
}

/// Kills the recovery of `left` at each of its operations.
fn second_level(left: &Machine, ops: u64, seed: u64, counts: &mut Counts) -> Result<(), String> {
    let all: Vec<u64> = (0..=ops).collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    let chosen = if full() { all } else { rng.choose_multiple(all, 2) };
    for at in chosen {
        let faults = [("halt", Fault::Halt), ("midway", Fault::HaltMidway), ("eio", Fault::Fail(EIO))];
        let one = rng.usize(0..faults.len());
        for (name, fault) in if full() { &faults[..] } else { &faults[one..=one] } {
            let mut machine = left.fork();
            machine.run(&[Step::Fault(at, *fault), Start])?;
            let ends: &[Step] = &[Crash, Cut(0), Cut(1), Cut(seed ^ at | 2)];
            let ends = if full() { ends } else { rng.choice(ends).map(std::slice::from_ref).unwrap_or_default() };
            for end in ends {
                let mut machine = machine.fork();
                let story = |why| format!("recovery, {name} at {at}, {end:?}: {why}");
                machine.step(*end).map_err(story)?;
                aftermath(machine, counts).map_err(story)?;
                counts.second += 1;
            }
        }
    }
    Ok(())
}

/// Takes `steps` until `fault` has killed the process at operation `at`.
fn run_until(machine: &mut Machine, steps: &[Step], at: u64, fault: Fault) -> Result<(), String> {
    machine.disk.inject(at, fault);
    for step in steps {
        machine.step(*step)?;
        if machine.disk.is_halted() {
            break;
        }
        if matches!(step, Crash | Cut(_)) && at >= machine.disk.ops() {
            machine.disk.inject(at - machine.disk.ops(), fault);
        }
    }
    Ok(())
}

fn explore(name: &str, steps: &[Step]) {
    let mut counts = Counts::default();
    let mut seen = BTreeSet::new();
    let mut whole = Machine::new(1);
    whole.run(steps).unwrap_or_else(|why| panic!("{name} without any fault: {why}"));
    counts.operations = whole.disk.ops();
    for at in 0..=whole.disk.ops() {
        for fault in [Fault::Halt, Fault::HaltMidway] {
            let mut killed = Machine::new(1);
            let story = |why: String| {
                let mut told = Machine::new(1);
                told.disk.keep_trace();
                let _ = run_until(&mut told, steps, at, fault);
                let trace = told.disk.trace().join("\n  ");
                format!("workload {name} {steps:?}\n{fault:?} at operation {at}: {why}\n  {trace}")
            };
            run_until(&mut killed, steps, at, fault).unwrap_or_else(|why| panic!("{}", story(why)));
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
                let seed = counts.states;
                let tried = aftermath(machine.fork(), &mut counts)
                    .and_then(|ops| second_level(&machine, ops, seed, &mut counts));
                tried.unwrap_or_else(|why| panic!("{}", story(format!("{how}: {why}"))));
            }
        }
    }
    println!(
        "{name}: {} operations, {} states left by a crash or a cut, {} more by one in their recovery, {} starts",
        counts.operations, counts.states, counts.second, counts.starts
    );
}

#[test]
fn batches() {
    explore("batches", &[Append(40), Commit, Append(700), Append(40), Append(900), Commit, Idle, Append(9), Commit]);
}

#[test]
fn rolls() {
    explore("rolls", &[Append(6000), Commit, Append(3000), Append(6000), Append(300), Commit, Append(30), Commit]);
}

#[test]
fn long_entries() {
    explore("long entries", &[Append(60), Commit, Append(13_000), Append(30), Commit, Append(9000), Commit]);
}

#[test]
fn stops() {
    // 448 + 32 + 32 bytes: the second stop mark ends with its sector, and an entry of 8 bytes is as long as the mark.
    explore("stops", &[Append(428), Commit, Stop, Start, Append(8), Append(700), Commit]);
    explore("stops at once", &[Stop, Start, Stop, Start, Append(440), Commit, Stop, Start]);
    explore("stops off the sector", &[Append(410), Commit, Stop, Start, Append(8), Append(8), Append(700), Commit]);
}

#[test]
fn restarts() {
    explore(
        "restarts",
        &[Append(500), Commit, Append(900), Crash, Start, Append(9), Commit, Cut(7), Append(9), Commit],
    );
}

/// Lets each operation of a workload fail in turn, goes on as if nothing were, starts again with a warm cache, with one
/// that gave up its clean pages, and after a cut.
fn stumble(name: &str, steps: &[Step]) {
    let mut counts = Counts::default();
    let mut whole = Machine::new(1);
    whole.run(steps).unwrap_or_else(|why| panic!("{name} without any fault: {why}"));
    for at in 0..whole.disk.ops() {
        for ending in [&[Crash][..], &[Evict, Crash], &[Cut(0)], &[Cut(1)], &[Cut(at | 2)]] {
            for seed in 1..3 {
                let mut machine = Machine::new(1);
                let fault = Step::Fault(at, Fault::Fail(EIO));
                machine.disk.reseed(seed);
                let told = |why| format!("{name} {steps:?}, {fault:?}, seed {seed}, {ending:?}: {why}");
                let run = machine.run(&[fault]).and_then(|()| machine.run(steps)).and_then(|()| machine.run(ending));
                run.and_then(|()| aftermath(machine, &mut counts)).unwrap_or_else(|why| panic!("{}", told(why)));
                counts.states += 1;
            }
        }
    }
    println!("{name}: {} failed operations and endings, {} starts", counts.states, counts.starts);
}

#[test]
fn failed_operations() {
    stumble("failed batches", &[Append(300), Commit, Append(900), Commit, Commit, Append(30), Commit, Idle]);
    stumble("failed rolls", &[Append(8000), Commit, Append(8000), Commit, Append(30), Commit]);
    stumble("failed stops", &[Append(428), Commit, Stop, Start, Append(8), Append(700), Commit, Stop, Start]);
}
