//! The agent's work done by what a user might pick instead, on the same disk and in turn with it: SQLite (WAL,
//! synchronous=FULL), redb, fjall, and Redis (appendonly, appendfsync always). `prove.sh` shows by strace that each of
//! them syncs before it answers.
//!
//! What is compared: an increment at a time, from one client that waits for each answer; from 64 such clients; and as many
//! as go, from one client that does not wait. The agent and Redis are asked over a Unix socket by the same load generator. The
//! others live in their user's process and are called there, with nothing in between: one by one, and in batches of 20,000;
//! for 64 clients one would have to write a server around them, which is not what one would pick.
//!
//! `cargo run --release -- [--dir DIR] [--seconds N] [--meterd PROGRAM]`

mod redis;
mod stores;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meterd::bench::agent::Agent;
use meterd::bench::figures::{Rate, Slice};
use meterd::bench::load::{Load, STREAM};
use meterd::bench::machine::Machine;
use meterd::bench::place::Place;
use meterd::bench::raw::{Raw, one_by_one};
use meterd::bench::words::{Protocol, With, Words};

use redis::Redis;
use stores::Store;

const ROUNDS: u32 = 5;
const BATCH: u64 = 20_000;
const USAGE: &str = "usage: meterd-comparators [--dir DIR] [--seconds N] [--meterd PROGRAM] [--prove NAME]";

fn main() -> Result<(), Box<dyn Error>> {
    let (mut dir, mut seconds) = (PathBuf::from("."), 30.0);
    let mut meterd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/meterd");
    let mut prove = None;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--dir" => dir = value.into(),
            "--seconds" => seconds = value.parse()?,
            "--meterd" => meterd = value.into(),
            "--prove" => prove = Some(value),
            _ => return Err(USAGE.into()),
        }
    }
    let place = Place::make(&dir)?;
    match prove {
        Some(name) => prove_one_by_one(&name, place.path(), &meterd),
        None => compare(place.path(), &meterd, Duration::from_secs_f64(seconds)),
    }
}

/// For `prove.sh`, which watches: after each increment that is durable a line goes out.
fn prove_one_by_one(name: &str, dir: &Path, meterd: &Path) -> Result<(), Box<dyn Error>> {
    const COUNT: u64 = 10;
    let asked = |socket: &Path, words: &Words| {
        let load = Load { socket, connections: 1, at_once: 1, words };
        let mut answers = 0;
        while answers < COUNT {
            answers += load.run(Duration::from_millis(20), &mut 0, &|| false)?.done;
        }
        Ok::<_, String>(())
    };
    match name {
        // Their answers can be seen by themselves.
        "meterd" => asked(&Agent::start(meterd, &dir.join("agent"))?.socket, &plain())?,
        "redis" => {
            let redis = Redis::start(dir)?.ok_or("no redis-server here")?;
            asked(&redis.socket, &Redis::increment())?;
        }
        name => {
            let mut store = stores::open(name, dir)?;
            let mut out = std::io::stdout().lock();
            for n in 1..=COUNT {
                store.put(1)?;
                writeln!(out, "durable {n}")?;
            }
        }
    }
    Ok(())
}

fn plain() -> Words {
    Words::increment(Protocol::Lines, With::Nothing)
}

type Measured = Result<Slice, Box<dyn Error>>;

/// Something that can be measured for a span, and its turns.
struct Entry<'a> {
    who: &'static str,
    how: &'static str,
    measure: Box<dyn FnMut(Duration) -> Measured + 'a>,
    turns: Vec<Slice>,
}

/// In which ways.
const ALONE: &str = "one at a time";
const MANY: &str = "64 clients, one at a time each";
const STREAMED: &str = "as many as go";

fn entry<'a>(who: &'static str, how: &'static str, measure: impl FnMut(Duration) -> Measured + 'a) -> Entry<'a> {
    Entry { who, how, measure: Box::new(measure), turns: Vec::new() }
}

/// The three ways over a socket.
fn over<'a>(who: &'static str, socket: &'a Path, words: &'a Words) -> [Entry<'a>; 3] {
    [(ALONE, 1, 1), (MANY, 64, 1), (STREAMED, 1, STREAM)].map(|(how, connections, at_once)| {
        let load = Load { socket, connections, at_once, words };
        entry(who, how, move |span| Ok(load.run(span, &mut 0, &|| false)?))
    })
}

/// The two ways in this process.
fn within<'a>(who: &'static str, store: &'a std::cell::RefCell<Box<dyn Store>>) -> [Entry<'a>; 2] {
    [(ALONE, 1), (STREAMED, BATCH)].map(|(how, count)| {
        entry(who, how, move |span| {
            let mut put = || store.borrow_mut().put(count).map_err(|error| std::io::Error::other(error.to_string()));
            let slice = one_by_one(span, &mut put)?;
            Ok(Slice { done: slice.done * count, ..slice })
        })
    })
}

fn compare(dir: &Path, meterd: &Path, span: Duration) -> Result<(), Box<dyn Error>> {
    let agent = Agent::start(meterd, &dir.join("agent"))?;
    let redis = Redis::start(dir)?;
    let (ours, theirs) = (plain(), Redis::increment());
    let mut raw = Raw::new(dir)?;
    let mut open = Vec::new();
    for name in stores::NAMES {
        open.push((name, std::cell::RefCell::new(stores::open(name, dir)?)));
    }
    let mut entries = vec![entry("raw fdatasync", ALONE, |span| Ok(raw.measure(span)?))];
    entries.extend(over("meterd", &agent.socket, &ours));
    match &redis {
        Some(redis) => entries.extend(over("redis", &redis.socket, &theirs)),
        None => println!("redis: skipped, there is no redis-server here (apt-get install redis-server)"),
    }
    for (name, store) in &open {
        entries.extend(within(name, store));
    }
    let turn = span / ROUNDS / u32::try_from(entries.len())?;
    for _ in 0..ROUNDS {
        for entry in &mut entries {
            entry.turns.push((entry.measure)(turn)?);
        }
    }
    let measured: Vec<(&str, &str, Rate)> =
        entries.into_iter().map(|entry| (entry.who, entry.how, Rate::of(entry.turns))).collect();
    show(&Machine::look(dir), turn, &measured);
    Ok(())
}

/// Each way with all who go it, against the agent.
fn show(machine: &Machine, turn: Duration, measured: &[(&str, &str, Rate)]) {
    println!("{} rounds, {} ms a turn", ROUNDS, turn.as_millis());
    println!("{}, cores: {}, Linux {}", machine.cpu, machine.cores, machine.kernel);
    println!("{} on {}", machine.file_system, machine.disk);
    println!("Waits are of one increment, of a chunk of {STREAM} over a socket, of a batch of {BATCH} in process.");
    for how in [ALONE, MANY, STREAMED] {
        println!("\n{how:<32}{:>12} {:>10} {:>10} {:>10}", "a second", "p50 us", "p99 us", "to meterd");
        let ours = measured.iter().find(|(who, way, _)| *who == "meterd" && *way == how).map(|(_, _, rate)| rate);
        for (who, _, rate) in measured.iter().filter(|(_, way, _)| *way == how) {
            let ratio = ours.map_or(0.0, |ours| rate.per_second / ours.per_second);
            println!("  {who:<30}{:>12.0} {:>10.0} {:>10.0} {ratio:>10.2}", rate.per_second, rate.p50_us, rate.p99_us);
        }
    }
}
