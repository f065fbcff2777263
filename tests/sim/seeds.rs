//! Long workloads drawn from a seed: appends, rolls, stops, faults, crashes, cuts. Sees what takes many steps. Cannot
//! see what no seed has drawn; a failure prints its seed and the shortest list of steps that still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use super::disk::{EDQUOT, EIO, ENOSPC, EROFS, Fault};
use super::machine::{Machine, Step};

/// The seeds to try: `METERD_SIM_SEEDS` of them, from `METERD_SIM_SEED` on; one if only the latter is given.
pub fn count(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let many = number("METERD_SIM_SEEDS");
    match number("METERD_SIM_SEED") {
        Some(first) => first..first + many.unwrap_or(1),
        None => 0..many.unwrap_or(default),
    }
}

fn draw(rng: &mut Rng) -> Step {
    let size = |rng: &mut Rng| match rng.u8(0..10) {
        0..5 => rng.usize(1..60),
        5..8 => rng.usize(60..1500),
        8 => rng.usize(1500..8169),
        _ => rng.usize(8169..30_000),
    };
    match rng.u8(0..100) {
        0..45 => Step::Append(size(rng)),
        45..65 => Step::Commit,
        65..68 => Step::Idle,
        68..73 => Step::Stop,
        73..77 => Step::Crash,
        77..83 => Step::Cut(rng.u64(0..1_000_000)),
        83..85 => Step::Evict,
        85..88 => Step::Start,
        88..98 => Step::Fault(rng.u64(0..20), fault(rng)),
        _ => Step::Free(Some(rng.usize(0..60_000))),
    }
}

fn fault(rng: &mut Rng) -> Fault {
    match rng.u8(0..8) {
        0..3 => Fault::Halt,
        3 => Fault::HaltMidway,
        4 => Fault::Fail(ENOSPC),
        5 => Fault::Fail(EDQUOT),
        6 => Fault::Fail(EROFS),
        _ => Fault::Fail(EIO),
    }
}

fn workload(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let n = rng.usize(10..80);
    (0..n).map(|_| draw(&mut rng)).collect()
}

fn attempt(seed: u64, steps: &[Step]) -> Result<u64, String> {
    let run = || {
        let mut machine = Machine::new(seed);
        machine.run(steps)?;
        machine.run(&[Step::Cut(seed), Step::Start, Step::Append(8), Step::Commit, Step::Cut(0), Step::Start])?;
        Ok(machine.starts)
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

/// Leaves out steps as long as what is left fails.
pub fn shortest<S: Copy>(steps: &[S], fails: impl Fn(&[S]) -> bool) -> Vec<S> {
    let mut steps = steps.to_vec();
    let mut chunk = steps.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < steps.len() {
            let fewer: Vec<S> = steps[..at].iter().chain(steps.iter().skip(at + chunk)).copied().collect();
            if fails(&fewer) {
                steps = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    steps
}

#[test]
fn random_workloads() {
    let (mut steps, mut starts, seeds) = (0, 0, count(1500));
    for seed in seeds.clone() {
        let workload = workload(seed);
        steps += workload.len();
        match attempt(seed, &workload) {
            Ok(n) => starts += n,
            Err(_) => {
                let short = shortest(&workload, |s| attempt(seed, s).is_err());
                let why = attempt(seed, &short).err().unwrap_or_default();
                let mut told = Machine::new(seed);
                told.disk.keep_trace();
                let _ = catch_unwind(AssertUnwindSafe(|| told.run(&short)));
                panic!("METERD_SIM_SEED={seed}: {why}\nshortest: {short:#?}\n{}", told.disk.trace().join("\n"));
            }
        }
    }
    println!("random workloads: {} seeds, {steps} steps, {starts} starts", seeds.count());
}
