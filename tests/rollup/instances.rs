//! A log that several instances had: what is adopted of another one is billed once.

use std::time::Duration;

use meterd::audit;
use meterd::decimal::Amount;
use meterd::disk::RealDisk;
use meterd::engine::Disposal;
use meterd::hour::Timestamp;

use super::NINE;
use super::world::{ROOT, World};

const NOTHING: [u32; 0] = [];

fn config(dimension: &str) -> String {
    format!("[product]\ncode = \"prod\"\n[[dimension]]\n{dimension}\n[submit]\noffset = \"0s\"\n")
}

fn minutes(n: u64) -> Timestamp {
    NINE.plus(Duration::from_secs(n * 60))
}

/// At `hours` and so many minutes past nine.
fn past(hours: u64, n: u64) -> Timestamp {
    minutes(hours * 60 + n)
}

fn quantities(world: &World) -> Vec<u32> {
    world.taken.iter().map(|request| request.quantity).collect()
}

fn verifies(world: &mut World) {
    world.assert_balanced();
    world.crash();
    let report = audit::verify(&RealDisk::read_only(world.dir.path())).unwrap();
    assert!(report.findings.is_empty() && report.recomputed, "{report:#?}");
}

/// Damage may have taken the word of a person that adopted, or the seal that took what was carried: what is left of the
/// other instance may be billed already, and goes out only if a person lets it.
#[test]
fn what_damage_touched_is_not_adopted_in_silence() {
    for before in [true, false] {
        let mut world = World::new(&config("name = \"requests\"\nhold_above = \"4\""), NINE);
        world.take(r#"{"dimension":"requests","quantity":5}"#).unwrap();
        // Let go past its window: carried.
        world.pass(past(7, 5));
        let at = world.reading().at;
        world.engine().release("requests", NINE.hour(), None, ROOT, at).unwrap();
        world.take(r#"{"dimension":"requests","quantity":3}"#).unwrap();
        if before {
            world.damage();
        }
        world.wake_up_on("i-0fedcba9876543210", past(7, 10));
        world.take(r#"{"dimension":"requests","quantity":2}"#).unwrap();
        if !before {
            world.damage();
        }
        world.pass(past(8, 5));
        assert_eq!(quantities(&world), NOTHING, "its own hour is held too");
        world.take(r#"{"dimension":"requests","quantity":4}"#).unwrap();
        let decided = world.dispose(Disposal::Adopt).unwrap();
        assert_eq!(decided.usage, [("requests".to_owned(), Amount::from_units(5))], "not its open hour");
        world.pass(past(9, 5));
        assert_eq!(quantities(&world), NOTHING, "damage before the other machine: {before}");
        let at = world.reading().at;
        let books = &world.engine().state().books()[0];
        assert_eq!(books.with_person, Amount::from_units(5 + 3 + 2 + 4), "{books:?}");
        // A person knows better: lets that hour go, and gives up the rest.
        world.engine().release("requests", past(8, 0).hour(), None, ROOT, at).unwrap();
        world.dispose(Disposal::Discard).unwrap();
        world.pass(past(9, 10));
        assert_eq!(quantities(&world), [5 + 4]);
        verifies(&mut world);
    }
}

/// An hour that another instance has sealed meanwhile stays open for the one that had it. Closing it long after repeats no
/// level in the hours since, which that one has sealed itself.
#[test]
fn an_hour_that_was_left_open_repeats_no_level() {
    let (a, b) = ("i-0123456789abcdef0", "i-0fedcba9876543210");
    let mut world = World::new(&config("name = \"seats\"\nmeasure = \"last\"\nsticky = true"), NINE);
    let seats = |world: &mut World, n: u32| {
        world.take(&format!(r#"{{"dimension":"seats","quantity":{n}}}"#)).unwrap();
    };
    world.pass(minutes(5));
    seats(&mut world, 3);
    world.wake_up_on(b, minutes(10));
    seats(&mut world, 1);
    world.pass(past(1, 5));
    world.wake_up_on(a, past(1, 10));
    seats(&mut world, 9);
    world.pass(past(4, 5));
    assert_eq!(quantities(&world), [1, 9, 9, 9]);
    world.wake_up_on(b, past(4, 10));
    let decided = world.dispose(Disposal::Adopt).unwrap();
    assert_eq!(decided.usage, [("seats".to_owned(), Amount::from_units(3))]);
    world.pass(past(6, 5));
    // What was left of nine o'clock, and what this one had there last.
    assert_eq!(quantities(&world), [1, 9, 9, 9, 3 + 1, 1]);
    verifies(&mut world);
}

/// What is adopted when an end has closed the hour is in none of its records: that is told, and it goes out with the next
/// hour if the instance lives on.
#[test]
fn what_is_adopted_behind_an_end_is_told_and_waits() {
    let mut world = World::new(&config("name = \"requests\""), NINE);
    world.take(r#"{"dimension":"requests","quantity":5}"#).unwrap();
    world.wake_up_on("i-0fedcba9876543210", minutes(10));
    world.take(r#"{"dimension":"requests","quantity":2}"#).unwrap();
    world.end();
    assert_eq!(quantities(&world), [2]);
    world.dispose(Disposal::Adopt).unwrap();
    world.work();
    let ten = past(1, 0).hour();
    assert_eq!(world.engine().end_seen().left, [("requests".to_owned(), ten, "5".to_owned())]);
    world.call_off();
    world.pass(past(2, 5));
    assert_eq!(quantities(&world), [2, 5]);
    verifies(&mut world);
}

const ALL_MEASURES: &str = r#"
[product]
code = "prod"
[submit]
offset = "0s"
[[dimension]]
name = "requests"
unit = "10"
[[dimension]]
name = "gigabytes"
included = { quantity = "20", per = "month" }
[[dimension]]
name = "credits"
from = [{ name = "reads", weight = "1" }, { name = "writes", weight = "2" }]
[[dimension]]
name = "reads"
[[dimension]]
name = "writes"
[[dimension]]
name = "seats"
measure = "last"
sticky = true
[[dimension]]
name = "running"
measure = "uptime"
unit = "3600"
"#;

/// A log that wakes up on one instance after another, in any order, with AWS there or away, ends, decisions and damage in
/// between: in the end all that was reported is billed once, covered by the base price or left below a unit, or with a
/// person where something was damaged.
#[test]
fn whoever_has_the_log_everything_is_billed_once() {
    for seed in 0..seeds() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let zeros = if rng.bool() { "zero_records = \"all\"\n" } else { "" };
        let mut world = World::new(&ALL_MEASURES.replace("[submit]\n", &format!("[submit]\n{zeros}")), NINE);
        // Then what may be billed already is left with a person.
        let rots = rng.u8(0..3) == 0;
        let mut told = [0_u32; 4];
        for _ in 0..rng.usize(10..60) {
            if rots && rng.u8(0..12) == 0 {
                world.damage();
            }
            any_step(&mut world, &mut rng, &mut told);
            world.assert_balanced();
        }
        verifies(&mut world);
        world.start();
        // The end of it: AWS is there, and what others left is adopted.
        world.aws_away = false;
        world.call_off_if_any();
        let soon = world.now.plus(Duration::from_secs(1800));
        world.pass(soon);
        let others: Vec<String> = world.engine().state().others().map(|(name, _)| name.to_owned()).collect();
        for name in &others {
            // One may have left nothing to bill.
            let _ = world.dispose_of(Disposal::Adopt, Some(name));
        }
        let later = world.now.plus(Duration::from_secs(3 * 3600));
        world.pass(later);
        let books = world.engine().state().books();
        let of = |name: &str| books.iter().find(|b| b.dimension == name).unwrap();
        let [requests, gigabytes, reads, writes] = told;
        for (name, told, unit) in
            [("requests", requests, 10), ("gigabytes", gigabytes, 1), ("credits", reads + 2 * writes, 1)]
        {
            let (mine, told) = (of(name), Amount::from_units(i64::from(told)));
            let billed = world.taken.iter().filter(|r| r.dimension == name).map(|r| i64::from(r.quantity)).sum::<i64>();
            let billed = Amount::from_units(billed * unit);
            let waits = mine.with_person + mine.pending + mine.open;
            assert!(rots || waits == Amount::ZERO, "seed {seed}: {mine:#?}");
            assert_eq!(billed + mine.included + mine.remainder + waits, told, "seed {seed}: {mine:#?}");
            assert_eq!((mine.received, mine.accepted), (told, billed), "seed {seed}: {mine:#?}");
        }
        println!("seed {seed}: {} records, {} instances", world.taken.len(), others.len());
        verifies(&mut world);
    }
}

fn seeds() -> u64 {
    std::env::var("METERD_INSTANCES_SEEDS").map_or(12, |n| n.parse().unwrap())
}

fn any_step(world: &mut World, rng: &mut fastrand::Rng, told: &mut [u32; 4]) {
    const NAMES: [&str; 3] = ["i-0123456789abcdef0", "i-0fedcba9876543210", "i-00000000000000001"];
    match rng.u8(0..12) {
        0..=4 => {
            let (at, n) = (rng.usize(0..4), rng.u32(1..25));
            let name = ["requests", "gigabytes", "reads", "writes"][at];
            if world.take(&format!(r#"{{"dimension":"{name}","quantity":{n}}}"#)).is_ok() {
                told[at] += n;
            }
        }
        // An end refuses it.
        5 => drop(world.take(&format!(r#"{{"dimension":"seats","quantity":{}}}"#, rng.u32(0..9)))),
        6 | 7 => {
            let until = world.now.plus(Duration::from_secs(rng.u64(60..3 * 3600)));
            world.pass(until);
        }
        8 => {
            let until = world.now.plus(Duration::from_secs(rng.u64(1..800)));
            world.wake_up_on(rng.choice(NAMES).unwrap(), until);
        }
        9 => world.aws_away = rng.bool(),
        10 => drop(world.dispose_of(Disposal::Adopt, None)),
        _ => {
            world.end();
            if rng.bool() {
                world.call_off_if_any();
            }
        }
    }
}
