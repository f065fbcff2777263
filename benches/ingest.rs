//! How fast the socket answers, told as ratios to what the same disk and the same kind of socket can do at all, measured
//! in turn in the same run: a busy or slow machine changes the figures, hardly the ratios.
//!
//! `cargo bench --bench ingest [-- alone pipelined many http hostile memory keys]`. The state lies below the build's target directory,
//! or below `METERD_BENCH_DIR`. `memory` sends 100 million increments, `keys` 20 million with a key;
//! `METERD_BENCH_MILLIONS` sends fewer.

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

use mio::{Events, Interest, Poll, Token};

#[path = "ingest/hostile.rs"]
mod hostile;

const LINE: &[u8] = b"{\"dimension\":\"requests\",\"quantity\":1}\n";
/// The same with a key that ends in so many digits.
const KEYED: &[u8] = b"{\"dimension\":\"requests\",\"quantity\":1,\"key\":\"upload-0000000000\"}\n";
const DIGITS: std::ops::Range<usize> = KEYED.len() - 13..KEYED.len() - 3;
const PAGE: [u8; 4096] = [7; 4096];
const ROUNDS: usize = 15;
const PER_ROUND: usize = 400;
const PIPELINED: u64 = 4_000_000;

fn main() {
    if hostile::be_hostile(&std::env::args().skip(1).collect::<Vec<_>>()) {
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |name: &str| {
        wanted.is_empty() && !matches!(name, "hostile" | "memory" | "keys") || wanted.iter().any(|w| w == name)
    };
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
    if wants("http") {
        http(&dir);
    }
    if wants("hostile") {
        hostile::hostile(&dir);
    }
    if wants("memory") {
        memory(&dir);
    }
    if wants("keys") {
        many_keys(&dir);
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
        Agent::go_on(dir)
    }

    /// Starts an agent where one was before.
    fn go_on(dir: &Path) -> Agent {
        let state = dir.join("agent");
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

fn ask(stream: &mut UnixStream, line: &[u8], answer: &mut [u8]) {
    stream.write_all(line).expect("asking");
    let n = stream.read(answer).expect("an answer");
    assert!(answer[..n].ends_with(b"\n"), "half an answer");
}

/// Puts a number into a keyed line.
fn number(line: &mut [u8], mut n: u64) {
    for digit in line[DIGITS].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// Lines to be sent: the plain one, or ones with keys from a number on.
#[derive(Clone, Copy)]
enum Load {
    Plain,
    Keyed(u64),
}

impl Load {
    fn chunk(self, lines: usize) -> Vec<u8> {
        match self {
            Load::Plain => LINE.repeat(lines),
            Load::Keyed(_) => KEYED.repeat(lines),
        }
    }

    /// Gives the lines of a chunk their keys; `sent` lines went before.
    fn renew(self, chunk: &mut [u8], sent: u64) {
        if let Load::Keyed(first) = self {
            chunk.chunks_mut(KEYED.len()).zip(first + sent..).for_each(|(line, n)| number(line, n));
        }
    }
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
        echoes.extend(each(PER_ROUND, |_| ask(&mut echo, LINE, &mut buf)));
        answers.extend(each(PER_ROUND, |_| ask(&mut client, LINE, &mut buf)));
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

/// The barest thing that many clients can talk to: one thread, epoll, what comes in goes out.
fn epoll_echo(dir: &Path) -> PathBuf {
    const LISTENER: Token = Token(usize::MAX);
    let path = dir.join("epoll");
    let _ = fs::remove_file(&path);
    let mut listener = mio::net::UnixListener::bind(&path).expect("the echo's socket");
    thread::spawn(move || {
        let mut poll = Poll::new().expect("epoll");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registering");
        let (mut events, mut clients, mut buf) = (Events::with_capacity(256), Vec::new(), [0u8; 4096]);
        loop {
            poll.poll(&mut events, None).expect("polling");
            for event in &events {
                if event.token() == LISTENER {
                    while let Ok((mut client, _)) = listener.accept() {
                        let token = Token(clients.len());
                        poll.registry().register(&mut client, token, Interest::READABLE).expect("registering");
                        clients.push(client);
                    }
                } else if let Some(client) = clients.get_mut(event.token().0) {
                    while let Ok(n @ 1..) = client.read(&mut buf) {
                        client.write_all(&buf[..n]).expect("echoing");
                    }
                }
            }
        }
    });
    path
}

/// What is asked.
#[derive(Clone, Copy)]
enum Asking {
    Lines,
    /// Lines with keys, numbered from here on.
    Keyed(u64),
    /// The same line as an HTTP request.
    Requests,
}

impl Asking {
    fn first(self) -> Vec<u8> {
        let head = format!("POST /v1/usage HTTP/1.1\r\nhost: meterd\r\ncontent-length: {}\r\n\r\n", LINE.len());
        match self {
            Asking::Lines => LINE.to_vec(),
            Asking::Keyed(_) => KEYED.to_vec(),
            Asking::Requests => [head.as_bytes(), LINE].concat(),
        }
    }

    fn renew(&mut self, asked: &mut [u8]) {
        if let Asking::Keyed(n) = self {
            number(asked, *n);
            *n += 1;
        }
    }
}

/// What so many connections get in `span`, each asking one increment at a time. They belong to one client with an event
/// loop, which costs little: it is the other side that is to be measured.
fn asked_by(connections: usize, socket: &Path, span: Duration, mut asking: Asking) -> f64 {
    let mut poll = Poll::new().expect("epoll");
    let connect = |at: usize| {
        let mut stream = mio::net::UnixStream::connect(socket).expect("connecting");
        poll.registry().register(&mut stream, Token(at), Interest::READABLE).expect("registering");
        stream
    };
    let mut streams: Vec<_> = (0..connections).map(connect).collect();
    let mut asked = asking.first();
    let mut ask = |stream: &mut mio::net::UnixStream| {
        asking.renew(&mut asked);
        stream.write_all(&asked).expect("asking");
    };
    let (started, mut events, mut answer) = (Instant::now(), Events::with_capacity(connections), [0u8; 1024]);
    streams.iter_mut().for_each(&mut ask);
    let (mut answered, mut waiting) = (0u64, connections);
    while waiting > 0 {
        poll.poll(&mut events, None).expect("polling");
        let over = started.elapsed() >= span;
        for event in &events {
            let stream = &mut streams[event.token().0];
            let n = stream.read(&mut answer).expect("an answer");
            assert!(answer[..n].ends_with(b"\n"), "half an answer");
            answered += 1;
            if over {
                waiting -= 1;
            } else {
                ask(stream);
            }
        }
    }
    answered as f64 / started.elapsed().as_secs_f64()
}

/// Many clients, each with one increment at a time. The best that one thread could do: serve all of them as an echo does,
/// then sync once.
fn many(dir: &Path, clients: usize) {
    let agent = Agent::start(dir);
    let (raw, echo) = (Raw::new(dir), epoll_echo(dir));
    let span = Duration::from_millis(400);
    let (mut rates, mut keyed, mut echoes, mut syncs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..7 {
        let started = Instant::now();
        let mut n = 0;
        while started.elapsed() < span {
            raw.sync(n);
            n += 1;
        }
        syncs.push(n as f64 / started.elapsed().as_secs_f64());
        echoes.push(asked_by(clients, &echo, span, Asking::Lines));
        rates.push(asked_by(clients, &agent.socket, span, Asking::Lines));
        keyed.push(asked_by(clients, &agent.socket, span, Asking::Keyed(round * 10_000_000)));
    }
    let (rate, keyed, echo, sync) = (middle(rates), middle(keyed), middle(echoes), middle(syncs));
    let n = clients as f64;
    let best = n / (n / echo + 1.0 / sync);
    println!(
        "{clients} clients: {rate:.0}/s = {:.2} x {best:.0}/s, which is {clients} / ({clients}/E + 1/F) with a bare epoll echo \
         of {echo:.0}/s and {sync:.0} raw syncs/s",
        rate / best
    );
    println!("{clients} clients with keys: {keyed:.0}/s = {:.2} x without", keyed / rate);
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Writes `count` increments on one connection while another thread reads the answers; how long it took.
fn stream(socket: &Path, count: u64, load: Load) -> Duration {
    let writer = UnixStream::connect(socket).expect("connecting");
    let reader = writer.try_clone().expect("a second handle");
    let started = Instant::now();
    let sending = thread::spawn(move || {
        let mut writer = writer;
        let mut chunk = load.chunk(2000);
        let line_bytes = chunk.len() / 2000;
        let mut left = count;
        while left > 0 {
            let n = left.min(2000);
            load.renew(&mut chunk, count - left);
            writer.write_all(&chunk[..line_bytes * n as usize]).expect("sending");
            left -= n;
        }
    });
    let mut reader = BufReader::with_capacity(256 * 1024, reader);
    let mut answered = 0u64;
    while answered < count {
        let read = reader.fill_buf().expect("answers");
        assert!(!read.is_empty(), "the agent broke off");
        assert!(read.starts_with(b"{\"ok\":true") || answered > 0, "refused: {}", String::from_utf8_lossy(read));
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
    stream(&agent.socket, PIPELINED / 4, Load::Plain);
    let (rate, keyed) = in_turn(&agent.socket, 0);
    let mut syncs = each(2000, |n| raw.sync(n));
    let sync = 1.0 / median(&mut syncs).as_secs_f64();
    println!("pipelined: {:.2} million/s = {:.0} x the raw sync rate of {sync:.0}/s", rate / 1e6, rate / sync);
    println!("pipelined with keys: {:.2} million/s = {:.2} x without", keyed / 1e6, keyed / rate);
}

/// Pipelined rates without and with keys (new ones from `first` on), measured in turn.
fn in_turn(socket: &Path, first: u64) -> (f64, f64) {
    let rate = |load| PIPELINED as f64 / stream(socket, PIPELINED, load).as_secs_f64();
    let pairs = (0..5).map(|n| (rate(Load::Plain), rate(Load::Keyed(first + n * PIPELINED))));
    let (plain, keyed) = pairs.unzip();
    (middle(plain), middle(keyed))
}

/// The same increment over HTTP on connections that are kept, against lines on as many.
fn http(dir: &Path) {
    let agent = Agent::start(dir);
    let span = Duration::from_millis(400);
    for clients in [1, 16, 64] {
        let (mut lines, mut requests) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            lines.push(asked_by(clients, &agent.socket, span, Asking::Lines));
            requests.push(asked_by(clients, &agent.socket, span, Asking::Requests));
        }
        let (lines, requests) = (middle(lines), middle(requests));
        println!("http, {clients} clients: {requests:.0}/s = {:.2} x {lines:.0}/s in lines", requests / lines);
    }
}

/// An index that holds many keys: speed, memory, and a start behind it.
fn many_keys(dir: &Path) {
    let keys = millions(20) * 1_000_000;
    let mut agent = Agent::start(dir);
    stream(&agent.socket, keys, Load::Keyed(0));
    let (rate, keyed) = in_turn(&agent.socket, keys);
    println!(
        "with {} to {} million keys: {:.2} million/s with keys = {:.2} x without, {} KiB resident",
        keys / 1_000_000,
        (keys + 5 * PIPELINED) / 1_000_000,
        keyed / 1e6,
        keyed / rate,
        agent.resident_kib()
    );
    let stop = Command::new("kill").arg(agent.child.id().to_string()).status();
    assert!(
        stop.expect("kill").success() && agent.child.wait().expect("the agent's end").success(),
        "no stop in order"
    );
    drop(agent);
    let started = Instant::now();
    let agent = Agent::go_on(dir);
    let accepts = started.elapsed();
    let mut line = KEYED.to_vec();
    let mut buf = [0u8; 1024];
    let mut client = UnixStream::connect(&agent.socket).expect("connecting");
    loop {
        number(&mut line, 7);
        ask(&mut client, &line, &mut buf);
        if buf.starts_with(b"{\"ok\":true") {
            break;
        }
    }
    let (accepts, knows) = (accepts.as_millis(), started.elapsed().as_millis());
    println!("started behind them: {accepts} ms to the first connection, {knows} ms to the first known key");
}

fn millions(usual: u64) -> u64 {
    std::env::var("METERD_BENCH_MILLIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Resident memory after a million increments and after many more.
fn memory(dir: &Path) {
    let millions = millions(100);
    let agent = Agent::start(dir);
    stream(&agent.socket, 1_000_000, Load::Plain);
    let first = agent.resident_kib();
    for _ in 1..millions {
        stream(&agent.socket, 1_000_000, Load::Plain);
    }
    let last = agent.resident_kib();
    println!("memory: {first} KiB resident after 1 million increments, {last} KiB after {millions} million");
}
