//! Random days of an engine: increments, hours, calls to AWS, crashes, cuts, faults. Sees what a seed draws. Cannot see
//! days on which a key is forgotten: they end before that.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use super::agent::{Agent, Step};
use super::disk::{EIO, ENOSPC, EROFS, Fault};
use super::seeds::{count, shortest};

fn draw(rng: &mut Rng) -> Step {
    match rng.u8(0..100) {
        0..18 => Step::Plain(rng.usize(1..30), rng.bool()),
        18 => Step::Plain(rng.usize(1000..2500), rng.bool()),
        19..33 => Step::Keyed,
        33..37 => Step::Retry(rng.u8(0..4) == 0),
        37..55 => Step::Commit,
        55..63 => Step::Advance(rng.u64(0..3000)),
        63 => Step::Advance(rng.u64(3000..9000)),
        64..80 => Step::Send(rng.usize(1..6)),
        80..82 => Step::Idle,
        82..85 => Step::Stop,
        85..88 => Step::Crash,
        88..91 => Step::Cut(rng.u64(0..1_000_000)),
        91 => Step::Evict,
        92..98 => Step::Fault(rng.u64(0..16), fault(rng)),
        _ => Step::Free(Some(rng.usize(0..200_000))),
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let faults =
        [Fault::Halt, Fault::Halt, Fault::HaltMidway, Fault::Fail(EIO), Fault::Fail(ENOSPC), Fault::Fail(EROFS)];
    rng.choice(faults).unwrap_or(Fault::Halt)
}

fn day(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let (n, mut left) = (rng.usize(20..150), 20 * 3600);
    let steps = (0..n).map(|_| match draw(&mut rng) {
        Step::Advance(seconds) => {
            let seconds = seconds.min(left);
            left -= seconds;
            Step::Advance(seconds)
        }
        other => other,
    });
    steps.collect()
}

struct Seen {
    starts: u64,
    calls: u64,
    records: usize,
}

fn attempt(seed: u64, steps: &[Step]) -> Result<Seen, String> {
    let run = || {
        let mut agent = Agent::new(seed);
        for (i, step) in steps.iter().enumerate() {
            agent.step(*step).map_err(|why| format!("step {i} ({step:?}): {why}"))?;
        }
        agent.finish()?;
        Ok(Seen { starts: agent.starts, calls: agent.calls(), records: agent.records() })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

#[test]
fn days_of_an_engine() {
    let (mut steps, mut total, seeds) = (0, Seen { starts: 0, calls: 0, records: 0 }, count(300));
    for seed in seeds.clone() {
        let day = day(seed);
        steps += day.len();
        match attempt(seed, &day) {
            Ok(seen) => {
                total.starts += seen.starts;
                total.calls += seen.calls;
                total.records += seen.records;
            }
            Err(_) => {
                let short = shortest(&day, |s| attempt(seed, s).is_err());
                let why = attempt(seed, &short).err().unwrap_or_default();
                panic!("METERD_SIM_SEED={seed}: {why}\nshortest: {short:?}");
            }
        }
    }
    let Seen { starts, calls, records } = total;
    println!(
        "engine: {} seeds, {steps} steps, {starts} starts, {records} records, {calls} calls to AWS",
        seeds.count()
    );
}
