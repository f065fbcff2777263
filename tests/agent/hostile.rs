//! The promise that hostile clients cost the others nothing but a share: with a hundred of each sort about, well-behaved
//! clients get the right answers, the agent's memory, files and threads stay bounded, and its log grows only by what was
//! acknowledged. `METERD_HOSTILE_SECONDS` says how long the mixed traffic lasts.
//!
//! How fast the answers are is `cargo bench --bench ingest -- hostile`'s matter.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::socket::{Lines, get};
use crate::world::{Agent, World, units, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
const EACH: usize = 100;
/// Connections that one user can have: see the limits in PROTOCOL.md.
const PLACES: u64 = 1024;
/// Threads that come and go with the agent's own errands, never with clients.
const HELPERS: u64 = 4;

fn seed() -> u64 {
    std::env::var("METERD_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..))
}

fn seconds() -> u64 {
    std::env::var("METERD_HOSTILE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4)
}

/// A line that is no increment, or an increment that cannot be taken, or bytes that are neither.
fn nonsense(rng: &mut fastrand::Rng) -> Vec<u8> {
    let pieces = [
        ONE,
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "null",
        "1e999",
        "-1",
        "\\u0000",
        "\u{fffd}",
        " ",
        "\r",
        "dimension",
        "quantity",
        "{\"dimension\":\"requests\",\"quantity\":",
        "99999999999999",
        "0.0000001",
        "\"key\":\"\"",
        "[]",
        "{\"dimension\":\"requests\",\"quantity\":1,\"quantity\":1}",
        "{\"dimension\":\"nothing\",\"quantity\":1}",
    ];
    let mut line: Vec<u8> = b"{".to_vec();
    for _ in 0..rng.usize(1..6) {
        match rng.u8(0..8) {
            0 => line.extend((0..rng.usize(1..40)).map(|_| rng.u8(..)).filter(|byte| *byte != b'\n')),
            1 => line.extend(b"[".repeat(rng.usize(1..3000))),
            _ => line.extend(rng.choice(pieces).unwrap().bytes()),
        }
    }
    // Whatever came of that, it is no increment.
    line.extend(b"!\n");
    line
}

/// One hostile client's connection, from its beginning to its end or to `over`.
fn misbehave(sort: usize, socket: &Path, rng: &mut fastrand::Rng, over: &AtomicBool) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let pause = Some(Duration::from_millis(200));
    stream.set_write_timeout(pause)?;
    stream.set_read_timeout(pause)?;
    let mut buf = vec![0; 64 * 1024];
    let lasting = Instant::now();
    let goes_on = || !over.load(Ordering::Relaxed) && lasting.elapsed() < Duration::from_secs(20);
    match sort {
        // Says nothing, or half a line, or half a request.
        0 => {
            stream.write_all(rng.choice([&b""[..], b"{\"dim", b"GET /v1/sta", b" "]).unwrap())?;
            while goes_on() {
                thread::sleep(Duration::from_millis(50));
            }
        }
        // Sends all it can and reads nothing.
        1 => {
            let block: Vec<u8> = (0..400).flat_map(|_| nonsense(rng)).collect();
            while goes_on() {
                let _ = stream.write(&block);
            }
        }
        // Sends nonsense and reads what comes.
        2 => {
            while goes_on() {
                stream.write_all(&nonsense(rng))?;
                let _ = stream.read(&mut buf);
            }
        }
        // Byte by byte.
        3 => {
            for byte in nonsense(rng) {
                stream.write_all(&[byte])?;
                if rng.u8(0..4) == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        // Half-closed, with something unfinished.
        4 => {
            stream.write_all(&nonsense(rng)[..1])?;
            stream.shutdown(Shutdown::Write)?;
            let _ = stream.read_to_end(&mut buf);
        }
        // A line without an end.
        5 => {
            stream.write_all(b"{\"dimension\":\"")?;
            while goes_on() {
                stream.write_all(&b"x".repeat(8000))?;
            }
        }
        // HTTP that is none, or stops in the middle, or asks for much and reads nothing.
        6 => {
            let requests = [
                "NONSENSE\r\n\r\n",
                "POST /v1/usage HTTP/1.1\r\nhost: m\r\ncontent-length: 400\r\n\r\n{",
                "POST /v1/usage HTTP/1.1\r\nhost: m\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
                "GET /v1/records HTTP/1.1\r\nhost: m\r\n\r\n",
                "GET /v1/status HTTP/1.1\r\nhost: m\r\n\r\n",
                "DELETE /v1/usage HTTP/1.1\r\nhost: m\r\norigin: http://evil\r\n\r\n",
                "GET /metrics HTTP/1.1\r\nhost: m\r\n",
            ];
            for _ in 0..rng.usize(1..50) {
                stream.write_all(rng.choice(requests).unwrap().as_bytes())?;
            }
            if rng.bool() {
                let _ = stream.read(&mut buf);
            }
            while goes_on() && rng.u8(0..10) > 0 {
                thread::sleep(Duration::from_millis(20));
            }
        }
        // Comes and goes.
        _ => {}
    }
    Ok(())
}

const SORTS: usize = 8;

/// A hundred clients of a sort, until this is dropped.
struct Crowd {
    over: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Crowd {
    fn of(sorts: &[usize], count: usize, socket: &Path, seed: u64) -> Crowd {
        let over = Arc::new(AtomicBool::new(false));
        let client = |n: usize| {
            let (over, socket, sort) = (Arc::clone(&over), PathBuf::from(socket), sorts[n % sorts.len()]);
            thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(n as u64));
                while !over.load(Ordering::Relaxed) {
                    // A connection that the agent ends is followed by the next.
                    let _ = misbehave(sort, &socket, &mut rng, &over);
                    thread::sleep(Duration::from_millis(rng.u64(1..10)));
                }
            })
        };
        Crowd { clients: (0..count).map(client).collect(), over }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|client| client.join().unwrap());
    }
}

/// What the agent takes of the machine: resident KiB, sockets, threads.
fn taken(agent: &Agent<'_>) -> [u64; 3] {
    let of = |what: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // A descriptor may be gone before it is read. The log and the index open files as they grow: theirs are not counted.
    let files = fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().flatten();
    let sockets =
        files.filter(|file| fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")));
    [of("VmRSS:"), sockets.count() as u64, of("Threads:")]
}

/// Asks `count` times, with and without keys, one at a time and many at once; how many units were acknowledged.
fn behave(lines: &mut Lines, name: &str, count: u64) -> u64 {
    let mut units = 0;
    for n in 0..count {
        let key = format!(r#"{{"dimension":"requests","quantity":2,"key":"{name}-{n}"}}"#);
        match n % 3 {
            0 => {
                let answer = lines.ask(ONE);
                assert_eq!(answer["ok"], true, "{answer}");
                units += 1;
            }
            1 => {
                lines.send(format!("{key}\n[{ONE},{ONE}]\n{{nonsense\n{key}\n"));
                let answers = [0; 4].map(|_| lines.answer());
                assert_eq!(answers[0]["ok"], true, "{answers:?}");
                assert_eq!((&answers[1]["ok"], &answers[1]["count"]), (&json!(true), &json!(2)), "{answers:?}");
                assert_eq!(answers[2]["error"], "bad_request", "{answers:?}");
                assert_eq!((&answers[3]["duplicate"], &answers[3]["seq"]), (&json!(true), &answers[0]["seq"]));
                units += 4;
            }
            _ => {
                lines.send(format!("{ONE}\n").repeat(50));
                let seqs: Vec<u64> = (0..50).map(|_| lines.answer()["seq"].as_u64().unwrap()).collect();
                assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
                units += 50;
            }
        }
    }
    units
}

#[test]
fn beside_a_hundred_of_each_sort_answers_are_right_and_little_is_taken() {
    let seed = seed();
    println!("METERD_HOSTILE_SEED={seed}");
    let world = World::at_noon();
    let agent = world.start();
    let mut lines = agent.lines();
    let mut acknowledged = behave(&mut lines, "before", 6);
    let before = taken(&agent);
    for sort in 0..SORTS {
        let crowd = Crowd::of(&[sort], EACH, &world.socket(), seed);
        acknowledged += behave(&mut lines, &format!("old-{sort}"), 12);
        let mut newcomer = agent.lines();
        acknowledged += behave(&mut newcomer, &format!("new-{sort}"), 6);
        assert_eq!(get(&world.socket(), "/healthz").unwrap().status, 200, "beside sort {sort}");
        let [kib, sockets, threads] = taken(&agent);
        // A hundred connections, and what they may hold: see the limits in PROTOCOL.md.
        assert!(kib < before[0] + 150 * 1024, "beside sort {sort}: {kib} KiB, {before:?} before");
        // Of those that come and go, some may be gone without its having noticed.
        assert!(sockets <= before[1] + 2 * EACH as u64, "beside sort {sort}: {sockets} sockets, {before:?} before");
        assert!(threads <= before[2] + HELPERS, "beside sort {sort}: {threads} threads, {before:?} before");
        drop(crowd);
    }
    wait_until("their connections are gone", || taken(&agent)[1] <= before[1] + 2);
    let books = agent.books("requests");
    assert_eq!(units(&books, "received"), acknowledged, "{books}");
}

#[test]
fn who_never_stops_sending_does_not_keep_the_agent_from_stopping() {
    let world = World::at_noon();
    let agent = world.start();
    let over = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..20)
        .map(|_| {
            let (stream, over) = (UnixStream::connect(world.socket()).unwrap(), Arc::clone(&over));
            let mut reader = stream.try_clone().unwrap();
            thread::spawn(move || {
                let sender = thread::spawn(move || {
                    let block = format!("{ONE}\n").repeat(5000);
                    while !over.load(Ordering::Relaxed) && (&stream).write_all(block.as_bytes()).is_ok() {}
                });
                let mut buf = vec![0; 1 << 16];
                let mut answers = 0;
                while let Ok(n @ 1..) = reader.read(&mut buf) {
                    answers += buf[..n].iter().filter(|byte| **byte == b'\n').count() as u64;
                }
                sender.join().unwrap();
                answers
            })
        })
        .collect();
    wait_until("they are in full swing", || units(&agent.books("requests"), "received") > 1000);
    // Exit code 0, with the log closed in order: a watch over the time would be the machine's.
    agent.stop();
    over.store(true, Ordering::Relaxed);
    let answered: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    // An answer that was cut off was none; what was answered is there.
    let agent = world.start();
    let received = units(&agent.books("requests"), "received");
    assert!(received >= answered, "{answered} were answered, {received} are there");
}

/// However long it lasts, what it holds stays within what so many clients may hold, and goes when they go. Whether it
/// creeps is seen in a long run alone: in a short one it is chance how many of those that come and go are there at once.
#[test]
fn an_hour_of_hostile_traffic_loses_nothing_and_grows_nothing() {
    let (seed, lasting) = (seed(), Duration::from_secs(seconds()));
    println!("METERD_HOSTILE_SEED={seed} METERD_HOSTILE_SECONDS={}", lasting.as_secs());
    let world = World::at_noon();
    let agent = world.start();
    let before = taken(&agent);
    let crowd = Crowd::of(&[0, 1, 2, 3, 4, 5, 6, 7], EACH, &world.socket(), seed);
    let (begun, mut rounds, mut acknowledged) = (Instant::now(), 0u64, 0);
    let mut samples: Vec<[u64; 3]> = Vec::new();
    let mut lines = agent.lines();
    while begun.elapsed() < lasting {
        acknowledged += behave(&mut lines, &format!("soak-{rounds}"), 3);
        rounds += 1;
        if rounds.is_multiple_of(50) {
            // A newcomer finds its place.
            lines = agent.lines();
        }
        samples.push(taken(&agent));
        // Well-behaved traffic is to be a part of it, not the whole: it is what makes the log grow.
        thread::sleep(Duration::from_millis(20));
    }
    drop(crowd);
    let quarter = samples.len().div_ceil(4);
    let most = |part: &[[u64; 3]]| [0, 1, 2].map(|of| part.iter().map(|sample| sample[of]).max().unwrap());
    let (first, last) = (most(&samples[..quarter]), most(&samples[samples.len() - quarter..]));
    println!(
        "{rounds} rounds, {acknowledged} units; most KiB, sockets, threads: first quarter {first:?}, last {last:?}"
    );
    let ever = most(&samples);
    assert!(ever[0] < before[0] + 150 * 1024, "{ever:?} at the most, {before:?} before");
    assert!(ever[1] <= before[1] + PLACES, "{ever:?} at the most, {before:?} before");
    assert!(ever[2] <= before[2] + HELPERS, "{ever:?} at the most, {before:?} before");
    if lasting >= Duration::from_secs(600) {
        // Keys are remembered, at some bytes each; all else stays as it was.
        assert!(last[0] < first[0] + 24 * 1024, "KiB grew: {first:?} to {last:?}");
    }
    wait_until("their connections are gone", || taken(&agent)[1] <= before[1] + 2);
    let books = agent.books("requests");
    assert_eq!(units(&books, "received"), acknowledged, "{books}");
    agent.stop();
    let verified = world.run(&["verify", "--json", world.state().to_str().unwrap()]);
    assert_eq!(verified.code, 0, "{verified:?}");
    // The log holds the acknowledged increments, and nothing that hostile clients said.
    let shown = world.run(&["inspect", "--json", "--kind", "usage", world.state().to_str().unwrap()]);
    let entries = shown.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let in_log: u64 = entries.flat_map(|e| e["entry"]["increments"].as_array().unwrap().clone()).fold(0, |sum, i| {
        assert_eq!(i["dimension"], "requests", "{i}");
        sum + i["quantity"].as_str().unwrap().parse::<u64>().unwrap()
    });
    assert_eq!(in_log, acknowledged);
}
