//! What `meterd bench` does not show, for it takes long or crowds the machine: what a well-behaved client feels of hostile
//! ones, memory after very many increments, and an index that holds very many keys.
//!
//! `cargo bench --bench ingest -- [hostile] [memory] [keys]`. The state lies below the build's target directory, or below
//! `METERD_BENCH_DIR`. `memory` sends 100 million increments, `keys` 20 million with a key; `METERD_BENCH_MILLIONS` sends
//! fewer.

#![allow(
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a bench prints figures, and stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use meterd::bench::agent::Agent;
use meterd::bench::figures::median;
use meterd::bench::load::{Load, STREAM};
use meterd::bench::place::Place;
use meterd::bench::words::{Protocol, With, Words};

#[path = "ingest/hostile.rs"]
mod hostile;

/// How long a stream is measured.
const SPAN: Duration = Duration::from_secs(2);
const MILLION: u64 = 1_000_000;

/// Its name, and what it does in a directory of its own.
type Part = (&'static str, fn(&Path));

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if hostile::be_hostile(&wanted) {
        return;
    }
    let parts: [Part; 3] = [("hostile", hostile::hostile), ("memory", memory), ("keys", many_keys)];
    if !wanted.iter().any(|wanted| parts.iter().any(|(name, _)| name == wanted)) {
        println!("how fast: meterd bench; here, each after its name: hostile, memory, keys");
    }
    let dir = std::env::var_os("METERD_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    for (_, part) in parts.iter().filter(|(name, _)| wanted.iter().any(|wanted| wanted == name)) {
        part(Place::make(&dir).expect("a directory").path());
    }
}

/// A new agent within `dir`.
fn started(dir: &Path) -> Agent {
    Agent::start(Path::new(env!("CARGO_BIN_EXE_meterd")), &dir.join("agent")).expect("an agent")
}

fn stream<'a>(agent: &'a Agent, words: &'a Words) -> Load<'a> {
    Load { socket: &agent.socket, connections: 1, at_once: STREAM, words }
}

/// Streams until at least `count` increments are acknowledged; with keys, the numbers go on from `next`.
fn fill(agent: &Agent, words: &Words, count: u64, next: &mut u64) {
    let mut acknowledged = 0;
    while acknowledged < count {
        let slice = stream(agent, words).run(Duration::from_millis(100), next, &|| false).expect("acknowledged");
        acknowledged += slice.done;
    }
}

fn millions(usual: u64) -> u64 {
    std::env::var("METERD_BENCH_MILLIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Resident memory after a million increments and after many more.
fn memory(dir: &Path) {
    let millions = millions(100);
    let agent = started(dir);
    let words = Words::increment(Protocol::Lines, With::Nothing);
    fill(&agent, &words, MILLION, &mut 0);
    let first = agent.resident_kib();
    fill(&agent, &words, (millions - 1) * MILLION, &mut 0);
    let last = agent.resident_kib();
    println!("memory: {first} KiB resident after 1 million increments, {last} KiB after {millions} million");
}

/// An index that holds many keys: speed, memory, and a start behind it.
fn many_keys(dir: &Path) {
    let keys = millions(20) * MILLION;
    let mut agent = started(dir);
    let [plain, keyed] = [With::Nothing, With::Keys].map(|with| Words::increment(Protocol::Lines, with));
    let mut next = 0;
    fill(&agent, &keyed, keys, &mut next);
    let (mut rates, mut keyed_rates) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut rate = |words| stream(&agent, words).run(SPAN, &mut next, &|| false).expect("acknowledged").rate();
        rates.push(rate(&plain));
        keyed_rates.push(rate(&keyed));
    }
    let (rate, keyed_rate) = (median(rates.into_iter()), median(keyed_rates.into_iter()));
    println!(
        "with {} million keys and more: {:.2} million/s with keys = {:.2} x without, {} KiB resident",
        keys / MILLION,
        keyed_rate / 1e6,
        keyed_rate / rate,
        agent.resident_kib()
    );
    let restart = agent.kill_and_restart().expect("a start");
    println!("started behind them after a kill: {} ms to the first answer", restart.as_millis());
}
