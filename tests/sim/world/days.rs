//! The days that seeds draw. Sees what a seed draws; a failure prints its seed and the shortest list of steps that
//! still fails, to be kept in `stories.rs`. Cannot see what no seed has drawn.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use super::aws::Mode;
use super::index::Loss;
use super::writers::Kind;
use super::{Step, What, World, has_index};
use crate::disk::{EIO, ENOSPC, EROFS, Fault};
use crate::seeds::{count, shortest};
use crate::setup::DIMENSIONS;

const HOUR: u64 = 3600;

fn draw(rng: &mut Rng) -> What {
    match rng.u16(0..210) {
        0..24 => What::Write(Kind::Plain, rng.usize(1..30), rng.bool()),
        24 => What::Write(Kind::Plain, rng.usize(400..1200), rng.bool()),
        25..45 => What::Write(Kind::Keyed, rng.usize(1..5), rng.u8(0..4) == 0),
        45..57 => What::Write(Kind::Stamped, rng.usize(1..6), false),
        57..67 => What::Write(Kind::Tagged, rng.usize(1..8), rng.bool()),
        67 => What::Write(Kind::Huge, 1, false),
        68..71 => What::Write(Kind::Bad, 1, false),
        71..77 => What::Retry(rng.u8(0..3) == 0),
        77..95 => What::Commit,
        95..125 => What::Run(rng.u64(0..HOUR)),
        125..135 => What::Run(rng.u64(HOUR..3 * HOUR)),
        135..138 => What::Run(rng.u64(3 * HOUR..9 * HOUR)),
        138..140 => What::Idle,
        140..144 => What::Stop,
        144..152 => What::Crash,
        152..160 => What::Cut(rng.u64(0..1_000_000)),
        160 => What::Evict,
        161..168 => What::Fault(rng.u64(0..16), fault(rng)),
        168..170 => What::Free(rng.usize(0..100_000)),
        170..172 => What::Clock(rng.i64(-600..600)),
        172 => What::Clock(rng.i64(-3 * 3600..3 * 3600)),
        173 => What::Off(rng.u64(0..30 * HOUR)),
        174 if rng.u8(0..3) == 0 => far(rng),
        174..176 => What::Configure,
        176..188 => What::Aws(mode(rng)),
        188 => What::Refuse(rng.usize(0..DIMENSIONS.len()), true),
        189..191 => What::Refuse(rng.usize(0..DIMENSIONS.len()), false),
        191 => What::Foreign(rng.usize(0..DIMENSIONS.len())),
        192 => What::Date([0, 0, 7 * 3600, -7 * 3600, 200, -900][rng.usize(0..6)]),
        193 => What::Instance,
        194 => What::Late,
        195..200 => What::Settle,
        200..206 => What::End(rng.bool()),
        _ => What::CallOff(rng.u8(0..3) != 0),
    }
}

/// The log wakes up somewhere, metadata comes late or not, a person decides.
fn whose(rng: &mut Rng) -> What {
    match rng.u8(0..9) {
        0..4 => What::Wake(rng.usize(0..3), rng.bool()),
        4..6 => What::Dispose(rng.u8(0..3) != 0),
        6 => What::Late,
        _ => What::Instance,
    }
}

/// Over a year, or the clock alone.
fn far(rng: &mut Rng) -> What {
    match rng.u8(0..4) {
        0 => What::Clock(370 * 24 * 3600),
        1 => What::Clock(rng.i64(20..40) * 3600),
        2 => What::Clock(-rng.i64(20..40) * 3600),
        _ => What::Off(370 * 24 * HOUR),
    }
}

fn mode(rng: &mut Rng) -> Mode {
    use Mode::{Broken, Denied, Fine, Flaky, Garbage, Silent, Throttling, Unreachable};
    let modes =
        [Fine, Fine, Fine, Flaky, Flaky, Flaky, Unreachable, Silent, Silent, Denied, Throttling, Broken, Garbage];
    rng.choice(modes).unwrap_or(Fine)
}

fn index(rng: &mut Rng) -> Loss {
    let losses = [Loss::Deleted, Loss::Corrupted, Loss::Emptied, Loss::Older, Loss::Older, Loss::Foreign];
    rng.choice(losses).unwrap_or(Loss::Deleted)
}

fn fault(rng: &mut Rng) -> Fault {
    let faults =
        [Fault::Halt, Fault::Halt, Fault::HaltMidway, Fault::Fail(EIO), Fault::Fail(ENOSPC), Fault::Fail(EROFS)];
    rng.choice(faults).unwrap_or(Fault::Halt)
}

fn day(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let n = rng.usize(20..120);
    // One day in three the log is copied and moved.
    let step = |rng: &mut Rng| match rng.u8(0..12) {
        0 if has_index(seed) => What::Index(index(rng)),
        1 if seed.is_multiple_of(3) => whose(rng),
        _ => draw(rng),
    };
    (0..n).map(|_| Step(rng.u64(0..1 << 32), step(&mut rng))).collect()
}

/// Lives through a day and its end; what was explored.
pub fn live(seed: u64, steps: &[Step]) -> Result<Tour, String> {
    let run = || {
        let mut world = World::new(seed);
        for (i, step) in steps.iter().enumerate() {
            world.step(*step).map_err(|why| format!("step {i} ({step:?}): {why}"))?;
        }
        world.finish().map_err(|why| format!("at the day's end: {why}"))?;
        Ok(world.tour())
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

/// What days explored, by name.
#[derive(Default)]
pub struct Tour(pub std::collections::BTreeMap<&'static str, u64>);

#[test]
fn of_the_whole_agent() {
    let (mut total, seeds) = (Tour::default(), count(150));
    for seed in seeds.clone() {
        let day = day(seed);
        match live(seed, &day) {
            Ok(Tour(tour)) => tour.into_iter().for_each(|(name, n)| *total.0.entry(name).or_default() += n),
            Err(_) => {
                let short = shortest(&day, |s| live(seed, s).is_err());
                let why = live(seed, &short).err().unwrap_or_default();
                let told: Vec<String> = short.iter().map(|step| format!("    {step:?},")).collect();
                panic!("METERD_SIM_SEED={seed}: {why}\n{} of {} steps:\n{}", short.len(), day.len(), told.join("\n"));
            }
        }
    }
    let told: Vec<String> = total.0.iter().map(|(name, n)| format!("{n} {name}")).collect();
    println!("the whole agent: {} seeds, {}", seeds.count(), told.join(", "));
}
