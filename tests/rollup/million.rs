//! A long random life: increments with decimals, tags, keys and late times, crashes, reboots, outages and clocks that jump.
//! What was put in is what AWS holds plus what is left over, to the last millionth, per dimension and tag set.
//!
//! `METERD_ROLLUP_INCREMENTS=1000000 METERD_ROLLUP_SEED=7 cargo test --test rollup million -- --nocapture` for a longer one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;
use meterd::disk::RealDisk;
use meterd::entry::{Entry, Seal, decode, encode, kind};
use meterd::rollup::{Checkpoint, State};
use meterd::tags::Tags;
use meterd::wal::open::replay;

use super::NINE;
use super::world::World;

const CONFIG: &str = r#"
[product]
code = "prod"
[submit]
offset = "0s"
[state]
retain_days = 3650
[[dimension]]
name = "whole"
[[dimension]]
name = "thousands"
unit = "1000"
[[dimension]]
name = "odd"
unit = "0.3"
[[dimension]]
name = "included"
unit = "7"
included = { quantity = "50000", per = "month" }
[[dimension]]
name = "credits"
unit = "2.5"
from = [{ name = "reads", weight = "0.100001" }, { name = "writes", weight = "5.000007" }]
[[dimension]]
name = "reads"
measure = "count"
[[dimension]]
name = "writes"
"#;

/// Millionths of a millionth: what a quantity counts in the dimension that is billed for it.
const WEIGHTS: [(&str, &str, i128); 6] = [
    ("whole", "whole", 1_000_000),
    ("thousands", "thousands", 1_000_000),
    ("odd", "odd", 1_000_000),
    ("included", "included", 1_000_000),
    ("reads", "credits", 100_001),
    ("writes", "credits", 5_000_007),
];
const UNITS: [(&str, i128); 5] = [
    ("whole", 1_000_000),
    ("thousands", 1_000_000_000),
    ("odd", 300_000),
    ("included", 7_000_000),
    ("credits", 2_500_000),
];
const TEAMS: [&str; 4] = ["", "blue", "green", "red"];

/// By billed dimension and team, in millionths of a millionth.
type Sums = BTreeMap<(String, String), i128>;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |n| n.parse().expect("a number"))
}

struct Life {
    world: World,
    rng: Rng,
    put: Sums,
    keys: u64,
    acknowledged: u64,
    resent: u64,
    refused: u64,
}

/// One increment as JSON, and what it adds where.
struct New {
    json: String,
    billed: &'static str,
    team: &'static str,
    adds: i128,
}

impl Life {
    fn increment(&mut self, late: Option<u64>) -> New {
        let (name, billed, weight) = WEIGHTS[self.rng.usize(0..WEIGHTS.len())];
        let team = TEAMS[self.rng.usize(0..TEAMS.len())];
        let millionths: u64 = match self.rng.u8(0..4) {
            _ if name == "reads" => 1_000_000,
            0 => self.rng.u64(0..10),
            1 => self.rng.u64(0..3_000_000),
            2 => self.rng.u64(0..50) * 1_000_000,
            _ => self.rng.u64(0..5_000_000_000),
        };
        let mut json = format!(r#"{{"dimension":"{name}""#);
        if name != "reads" {
            let _ = write!(json, r#","quantity":"{}.{:06}""#, millionths / 1_000_000, millionths % 1_000_000);
        }
        if !team.is_empty() {
            let _ = write!(json, r#","tags":{{"team":"{team}"}}"#);
        }
        if let Some(seconds) = late {
            let at = self.world.now.minus(Duration::from_secs(seconds));
            let _ = write!(json, r#","at":"{at}""#);
        }
        if self.rng.u8(0..3) == 0 {
            self.keys += 1;
            let _ = write!(json, r#","key":"k{}""#, self.keys);
        }
        json.push('}');
        New { json, billed, team, adds: i128::from(millionths) * weight }
    }

    /// Puts a line of increments in, now and then twice where all of them have keys.
    fn report(&mut self) {
        let late = (self.rng.u8(0..5) == 0).then(|| self.rng.u64(0..5 * 86_400));
        let count = self.rng.usize(1..60);
        let news: Vec<New> = (0..count).map(|_| self.increment(late)).collect();
        let array: Vec<&str> = news.iter().map(|n| n.json.as_str()).collect();
        let line = format!("[{}]", array.join(","));
        match self.world.take(&line) {
            Ok(taken) => {
                assert_eq!((taken.count, taken.duplicates), (count as u64, 0));
                self.acknowledged += taken.count;
                for new in &news {
                    *self.put.entry((new.billed.into(), new.team.into())).or_default() += new.adds;
                }
            }
            // A clock that is off by more than a report's time may lie; nothing of the line was taken.
            Err(refusal) => {
                assert!(late.is_some(), "{refusal:?}");
                self.refused += 1;
                return;
            }
        }
        let keyed: Vec<&str> = news.iter().map(|n| n.json.as_str()).filter(|json| json.contains("\"key\"")).collect();
        if !keyed.is_empty() && self.rng.bool() {
            let again = self.world.take(&format!("[{}]", keyed.join(","))).unwrap();
            assert_eq!(again.duplicates, keyed.len() as u64, "a resend with its keys adds nothing");
            self.resent += again.duplicates;
        }
    }

    fn happen(&mut self) {
        let world = &mut self.world;
        match self.rng.u8(0..40) {
            0 => {
                world.crash();
                world.start();
            }
            1 => {
                world.stop();
                world.start();
            }
            2 => {
                let off = Duration::from_secs(self.rng.u64(10..90_000));
                world.crash();
                world.machine_off(world.now.plus(off));
                world.start();
            }
            3 => world.aws_away = !world.aws_away,
            4 => {
                let by = *self.rng.choice(&[60i64, 1200, 7200, 40_000, 31_536_000]).unwrap();
                world.wall_off_ms = if self.rng.bool() { by * 1000 } else { -by * 1000 };
            }
            5..=8 => world.wall_off_ms = 0,
            9..=11 => {
                let until = world.now.plus(Duration::from_secs(self.rng.u64(1..20_000)));
                world.pass(until);
            }
            _ => {
                let until = world.now.plus(Duration::from_secs(self.rng.u64(0..200)));
                world.pass(until);
            }
        }
    }

    /// Everything mended, and time to send what is left.
    fn settle(&mut self) {
        self.world.wall_off_ms = 0;
        self.world.aws_away = false;
        self.world.pass(self.world.now.plus(Duration::from_secs(3 * 86_400)));
        self.world.assert_balanced();
    }

    /// What AWS holds and what is left over, in millionths of a millionth.
    fn out(&mut self) -> Sums {
        let mut out = Sums::new();
        let team = |tags: &Tags| tags.iter().next().map_or(String::new(), |(_, value)| value.to_owned());
        let unit = |name: &str| UNITS.iter().find(|(n, _)| *n == name).expect("a billed dimension").1 * 1_000_000;
        for request in &self.world.taken {
            let name = &request.dimension;
            if request.allocations.is_empty() {
                *out.entry((name.clone(), String::new())).or_default() += i128::from(request.quantity) * unit(name);
            }
            for share in &request.allocations {
                *out.entry((name.clone(), team(&share.tags))).or_default() += i128::from(share.quantity) * unit(name);
            }
        }
        for dimension in &self.world.engine().state().dimensions {
            let name = &dimension.rules.name;
            assert!(dimension.open.is_empty() && dimension.carry.is_empty(), "{name} has something under way");
            for (tags, left) in dimension.remainder.iter() {
                *out.entry((name.clone(), team(tags))).or_default() += left.millionths() * 1_000_000;
            }
            for (tags, dust) in dimension.dust.iter() {
                *out.entry((name.clone(), team(tags))).or_default() += dust.millionths();
            }
        }
        out
    }
}

#[test]
fn a_long_life_balances_to_the_last_millionth() {
    let (increments, seed) = (from_env("METERD_ROLLUP_INCREMENTS", 40_000), from_env("METERD_ROLLUP_SEED", 1));
    println!("METERD_ROLLUP_SEED={seed} METERD_ROLLUP_INCREMENTS={increments}");
    fastrand::seed(seed);
    let world = World::keeping_its_index(CONFIG, NINE);
    let rng = Rng::with_seed(seed);
    let mut life = Life { world, rng, put: Sums::new(), keys: 0, acknowledged: 0, resent: 0, refused: 0 };
    while life.acknowledged < increments {
        life.happen();
        for _ in 0..life.rng.usize(1..8) {
            life.report();
        }
        life.world.assert_balanced();
    }
    life.settle();

    let mut out = life.out();
    let included = life.world.engine().state().dimensions.iter().find(|d| d.rules.name == "included").unwrap();
    let covered = included.totals.included.millionths() * 1_000_000;
    // What is included is covered across teams: that dimension is compared as a whole.
    let whole = |sums: &mut Sums| -> i128 {
        let all: i128 = sums.iter().filter(|((name, _), _)| name == "included").map(|(_, n)| n).sum();
        sums.retain(|(name, _), n| name != "included" && *n != 0);
        all
    };
    let (put_included, out_included) = (whole(&mut life.put), whole(&mut out));
    assert_eq!(put_included, out_included + covered);
    assert_eq!(out, life.put);

    let requests = &life.world.taken;
    let mut hours: Vec<(&str, i64)> =
        requests.iter().map(|r| (r.dimension.as_str(), r.timestamp.seconds() / 3600)).collect();
    hours.sort_unstable();
    let records = hours.len();
    hours.dedup();
    assert_eq!(hours.len(), records, "one record for each dimension and hour");
    let seals = fold_again(&life.world);
    println!(
        "{} increments, {} resent, {} lines refused, {records} records, {seals} seals: balanced",
        life.acknowledged, life.resent, life.refused
    );
}

/// Folds the log again, in one go and with a restart after every entry: both make every seal anew as it was written.
fn fold_again(world: &World) -> usize {
    let (mut once, mut restarted, mut seals) = (State::default(), State::default(), 0);
    let disk = RealDisk::new(world.dir.path());
    replay(&disk, 1, kind::CHECKPOINT, &mut |e| {
        if e.kind == kind::CHECKPOINT {
            assert_eq!(
                Checkpoint::encode(&once).unwrap(),
                e.payload,
                "a checkpoint is the fold of what stands before it"
            );
            return Ok(());
        }
        let entry = Entry::decode(e.kind, e.payload).unwrap();
        if let Entry::Seal(seal) = &entry {
            for state in [&once, &restarted] {
                let anew: Seal = state.seal(seal.hour, seal.through, seal.at).unwrap();
                assert_eq!(encode(&anew).unwrap(), e.payload, "the seal of {}", seal.hour);
            }
            seals += 1;
        }
        once.apply(&entry);
        restarted.apply(&entry);
        restarted = decode(&encode(&restarted).unwrap()).unwrap();
        Ok(())
    })
    .unwrap();
    assert_eq!(once, restarted);
    seals
}
