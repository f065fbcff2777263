//! How fast the socket answers, told as ratios to what the same disk and the same kind of socket can do at all, measured
//! in turn in the same run: a busy or slow machine changes the figures, hardly the ratios.
//!
//! `cargo bench --bench ingest [-- alone pipelined many memory]`. The state lies below the build's target directory, or
//! below `METERD_BENCH_DIR`. `memory` sends 100 million increments; `METERD_BENCH_MILLIONS` sends fewer.

#![allow(
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a bench prints figures, and stops at the first surprise"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const LINE: &[u8] = b"{\"dimension\":\"requests\",\"quantity\":1}\n";
const PAGE: [u8; 4096] = [7; 4096];
const ROUNDS: usize = 15;
const PER_ROUND: usize = 400;
const PIPELINED: u64 = 4_000_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() && name != "memory" || wanted.iter().any(|w| w == name);
    let dir = std::env::var_os("METERD_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let dir = dir.join(format!("ingest-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("the bench directory");
    let size = fs::metadata(env!("CARGO_BIN_EXE_meterd")).expect("the binary").len();
    println!("binary: {:.1} MB", size as f64 / 1e6);
    if wants("alone") {
        alone(&dir);
    }
    if wants("many") {
        many(&dir, 64);
    }
    if wants("pipelined") {
        pipelined(&dir);
    }
    if wants("memory") {
        memory(&dir);
    }
    fs::remove_dir_all(&dir).expect("removing the bench directory");
}

/// A running agent with nothing to send to: AWS is a port where nobody listens.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(dir: &Path) -> Agent {
        let state = dir.join("agent");
        let _ = fs::remove_dir_all(&state);
        fs::create_dir_all(&state).expect("the agent's directory");
        let socket = state.join("s");
        let config = state.join("meterd.toml");
        let text = format!(
            "[product]\ncode = \"bench\"\n[[dimension]]\nname = \"requests\"\n[socket]\npath = {socket:?}\n[state]\ndir = {:?}\n\
             allow_volatile = true\n[submit]\nendpoint_url = \"http://127.0.0.1:9\"\nregion = \"us-east-1\"\n[instance]\nid = \"bench\"\n",
            state.join("state")
        );
        fs::write(&config, text).expect("the configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
        let child = command.arg("run").arg("--config").arg(config).env("METERD_LOG", "error").stderr(Stdio::inherit());
        let child = child.spawn().expect("starting the agent");
        let started = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "the agent does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        Agent { child, socket }
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the agent's status");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A raw `fdatasync` of 4 KiB into a zero-filled file: what durability costs on this disk.
struct Raw(File);

impl Raw {
    fn new(dir: &Path) -> Raw {
        let file = File::create(dir.join("raw")).expect("the raw file");
        for page in 0..4096u64 {
            file.write_all_at(&[0; 4096], page * 4096).expect("filling the raw file");
        }
        file.sync_all().expect("syncing the raw file");
        Raw(file)
    }

    fn sync(&self, n: usize) {
        self.0.write_all_at(&PAGE, (n as u64 % 4096) * 4096).expect("writing");
        self.0.sync_data().expect("syncing");
    }
}

/// An echo over the same kind of socket: what asking and answering costs on this machine.
fn echo(dir: &Path) -> UnixStream {
    let path = dir.join("echo");
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("the echo's socket");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut buf = [0u8; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buf) {
                if stream.write_all(&buf[..n]).is_err() {
                    break;
                }
            }
        }
    });
    UnixStream::connect(path).expect("connecting to the echo")
}

fn ask(stream: &mut UnixStream, answer: &mut [u8]) {
    stream.write_all(LINE).expect("asking");
    let n = stream.read(answer).expect("an answer");
    assert!(answer[..n].ends_with(b"\n"), "half an answer");
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn each(count: usize, mut work: impl FnMut(usize)) -> Vec<Duration> {
    (0..count)
        .map(|n| {
            let started = Instant::now();
            work(n);
            started.elapsed()
        })
        .collect()
}

fn us(d: Duration) -> f64 {
    d.as_secs_f64() * 1e6
}

/// One client, one increment at a time.
fn alone(dir: &Path) {
    let agent = Agent::start(dir);
    let (raw, mut echo) = (Raw::new(dir), echo(dir));
    let mut client = UnixStream::connect(&agent.socket).expect("connecting");
    let mut buf = [0u8; 256];
    let (mut syncs, mut echoes, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        syncs.extend(each(PER_ROUND, |n| raw.sync(n)));
        echoes.extend(each(PER_ROUND, |_| ask(&mut echo, &mut buf)));
        answers.extend(each(PER_ROUND, |_| ask(&mut client, &mut buf)));
    }
    let (sync, echo, answer) = (median(&mut syncs), median(&mut echoes), median(&mut answers));
    println!(
        "alone: answer {:.0} us = {:.2} x (fdatasync {:.0} us + echo {:.0} us), medians of {}",
        us(answer),
        us(answer) / (us(sync) + us(echo)),
        us(sync),
        us(echo),
        ROUNDS * PER_ROUND
    );
}

/// Many clients, each with one increment at a time.
fn many(dir: &Path, clients: usize) {
    let agent = Agent::start(dir);
    let raw = Raw::new(dir);
    let span = Duration::from_millis(400);
    let (mut rates, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let started = Instant::now();
        let mut n = 0;
        while started.elapsed() < span {
            raw.sync(n);
            n += 1;
        }
        syncs.push(n as f64 / started.elapsed().as_secs_f64());
        let started = Instant::now();
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                let mut stream = UnixStream::connect(&agent.socket).expect("connecting");
                thread::spawn(move || {
                    let (started, mut buf, mut n) = (Instant::now(), [0u8; 256], 0u64);
                    while started.elapsed() < span {
                        ask(&mut stream, &mut buf);
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        let asked: u64 = threads.into_iter().map(|t| t.join().expect("a client")).sum();
        rates.push(asked as f64 / started.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    syncs.sort_by(f64::total_cmp);
    let (rate, sync) = (rates[2], syncs[2]);
    println!("{clients} clients: {rate:.0}/s = {:.1} x the raw sync rate of {sync:.0}/s", rate / sync);
}

/// Writes `count` increments on one connection while another thread reads the answers; how long it took.
fn stream(socket: &Path, count: u64) -> Duration {
    let writer = UnixStream::connect(socket).expect("connecting");
    let reader = writer.try_clone().expect("a second handle");
    let started = Instant::now();
    let sending = thread::spawn(move || {
        let mut writer = writer;
        let chunk = LINE.repeat(2000);
        let mut left = count;
        while left > 0 {
            let n = left.min(2000);
            writer.write_all(&chunk[..LINE.len() * n as usize]).expect("sending");
            left -= n;
        }
    });
    let mut reader = BufReader::with_capacity(256 * 1024, reader);
    let mut answered = 0u64;
    while answered < count {
        let read = reader.fill_buf().expect("answers");
        assert!(!read.is_empty(), "the agent broke off");
        answered += read.iter().filter(|b| **b == b'\n').count() as u64;
        let n = read.len();
        reader.consume(n);
    }
    sending.join().expect("the sender");
    started.elapsed()
}

/// One connection that does not wait for its answers.
fn pipelined(dir: &Path) {
    let agent = Agent::start(dir);
    let raw = Raw::new(dir);
    stream(&agent.socket, PIPELINED / 4);
    let mut rates: Vec<f64> =
        (0..5).map(|_| PIPELINED as f64 / stream(&agent.socket, PIPELINED).as_secs_f64()).collect();
    rates.sort_by(f64::total_cmp);
    let mut syncs = each(2000, |n| raw.sync(n));
    let sync = 1.0 / median(&mut syncs).as_secs_f64();
    println!("pipelined: {:.2} million/s = {:.0} x the raw sync rate of {sync:.0}/s", rates[2] / 1e6, rates[2] / sync);
}

/// Resident memory after a million increments and after many more.
fn memory(dir: &Path) {
    let millions = std::env::var("METERD_BENCH_MILLIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100u64);
    let agent = Agent::start(dir);
    stream(&agent.socket, 1_000_000);
    let first = agent.resident_kib();
    for _ in 1..millions {
        stream(&agent.socket, 1_000_000);
    }
    let last = agent.resident_kib();
    println!("memory: {first} KiB resident after 1 million increments, {last} KiB after {millions} million");
}
