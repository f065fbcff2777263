//! What a well-behaved client's answers cost while a hundred hostile ones do their worst, as a ratio to what they cost
//! alone, measured in turn. The hostile ones are a process of their own (this one, started again), with the lowest
//! priority unless `METERD_BENCH_NICE` says otherwise: they are to show what the agent makes of them, not how the kernel
//! shares two processors among two hundred threads.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use meterd::bench::echo;

const LINE: &[u8] = b"{\"dimension\":\"requests\",\"quantity\":1}\n";
const CLIENTS: usize = 100;
const ROUNDS: usize = 20;
const PER_ROUND: usize = 60;
/// What the machine is given to come to rest, or to be in full swing.
const SETTLING: Duration = Duration::from_millis(60);

/// What they are like, and what they do with a connection until it ends.
type Sort = (&'static str, fn(UnixStream) -> std::io::Result<()>);

const SORTS: [Sort; 13] = [
    ("silent", |_| sleep_on()),
    ("greedy", |stream| pipeline(stream, &LINE.repeat(2000))),
    ("greedy and deaf", |stream| over_and_over(stream, &LINE.repeat(2000))),
    ("greedy with arrays", |stream| pipeline(stream, &array().repeat(4))),
    ("garbage", |stream| pipeline(stream, &b"{nonsense}\n[]\n{\"dimension\":1}\n".repeat(500))),
    ("garbage, line by line", |stream| line_by_line(stream, b"{nonsense}\n")),
    ("garbage and deaf", |stream| over_and_over(stream, &b"{}\n".repeat(20_000))),
    ("slow, byte by byte", byte_by_byte),
    ("bytes without a line", |mut stream| {
        loop {
            stream.write_all(b" ")?;
        }
    }),
    ("half-closed", |mut stream| {
        stream.write_all(&LINE[..10])?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }),
    ("coming and going", |_| Ok(())),
    ("http status", |stream| line_by_line(stream, b"GET /v1/status HTTP/1.1\r\nhost: meterd\r\n\r\n")),
    ("http garbage", |mut stream| {
        stream.write_all(b"NONSENSE / HTTP/9\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }),
];

fn sleep_on() -> std::io::Result<()> {
    thread::sleep(Duration::from_secs(3600));
    Ok(())
}

/// Some 60 KiB in one line.
fn array() -> Vec<u8> {
    let one = &LINE[..LINE.len() - 1];
    [b"[", [one; 1600].join(&b","[..]).as_slice(), b"]\n"].concat()
}

fn over_and_over(mut stream: UnixStream, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(bytes)?;
    }
}

/// Sends as fast as it can, and reads whatever comes.
fn pipeline(stream: UnixStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut reader = stream.try_clone()?;
    thread::spawn(move || {
        let mut buf = vec![0; 64 * 1024];
        while matches!(reader.read(&mut buf), Ok(1..)) {}
    });
    over_and_over(stream, bytes)
}

fn line_by_line(mut stream: UnixStream, line: &[u8]) -> std::io::Result<()> {
    let mut buf = vec![0; 64 * 1024];
    loop {
        stream.write_all(line)?;
        if stream.read(&mut buf)? == 0 {
            return Ok(());
        }
    }
}

fn byte_by_byte(mut stream: UnixStream) -> std::io::Result<()> {
    loop {
        for byte in LINE {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(1));
        }
        let _ = stream.read(&mut [0; 256])?;
    }
}

/// Keeps this process to the machine's last processor, or to all others.
fn keep_to(last: bool) {
    let cpus = thread::available_parallelism().map_or(1, |n| n.get());
    let mut set = CpuSet::new();
    (0..cpus).filter(|cpu| cpus == 1 || (*cpu == cpus - 1) == last).for_each(|cpu| set.set(cpu));
    sched_setaffinity(None, &set).expect("keeping to a processor");
}

/// The process of the hostile ones: `--hostile SORT SOCKET`.
pub fn be_hostile(args: &[String]) -> bool {
    let [flag, sort, socket] = args else { return false };
    if flag != "--hostile" {
        return false;
    }
    keep_to(true);
    let (_, act) = SORTS.into_iter().find(|(name, _)| name == sort).expect("a sort of hostile client");
    let socket = PathBuf::from(socket);
    let client = |_| {
        let socket = socket.clone();
        thread::spawn(move || {
            loop {
                // A connection that the agent ends is followed by the next.
                let _ = UnixStream::connect(&socket).and_then(act);
            }
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    clients.into_iter().for_each(|client| client.join().expect("a client"));
    true
}

struct Hostile(Child);

impl Hostile {
    fn start(sort: &str, socket: &Path) -> Hostile {
        let nice = std::env::var("METERD_BENCH_NICE").unwrap_or("19".into());
        let this = std::env::current_exe().expect("this program");
        let mut command = Command::new("nice");
        let child = command.args(["-n", &nice]).arg(this).args(["--hostile", sort]).arg(socket).spawn();
        let hostile = Hostile(child.expect("starting the hostile clients"));
        // They connect, and meet what they meet first.
        thread::sleep(SETTLING * 5);
        hostile
    }

    /// Has them stand still, or go on.
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("a signal to the hostile clients");
        thread::sleep(SETTLING);
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long an answer takes.
fn asked(client: &mut UnixStream) -> Duration {
    let begun = Instant::now();
    client.write_all(LINE).expect("asking");
    let mut answer = [0; 256];
    let n = client.read(&mut answer).expect("an answer");
    assert!(answer[..n].ends_with(b"\n"), "half an answer");
    begun.elapsed()
}

fn quantile(times: &mut [Duration], of: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * of / 1000].as_secs_f64() * 1e6
}

/// Measures beside each sort in turn, or beside those that `METERD_BENCH_SORT` is in. The bare echo, which the hostile
/// ones do not know, tells what of it is the machine's.
pub fn hostile(dir: &Path) {
    let wanted = std::env::var("METERD_BENCH_SORT").unwrap_or_default();
    keep_to(false);
    println!(
        "a well-behaved client beside {CLIENTS} hostile ones: median alone, beside them, their ratio (90 and 99 in 100)"
    );
    for (sort, _) in SORTS.iter().filter(|(sort, _)| sort.contains(&wanted)) {
        let agent = super::started(dir);
        let mut clients = [UnixStream::connect(&agent.socket).expect("connecting"), echo::alone().expect("an echo")];
        // Alone and beside, of the agent and of the echo.
        let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
        let hostile = Hostile::start(sort, &agent.socket);
        let begun = Instant::now();
        for round in 0..2 * ROUNDS {
            let beside = round % 2;
            hostile.signal([Signal::STOP, Signal::CONT][beside]);
            for (client, times) in clients.iter_mut().zip(&mut times[beside]) {
                times.extend((0..PER_ROUND).map(|_| asked(client)));
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "beside {sort} hardly anybody gets an answer");
        }
        drop((hostile, agent));
        fs::remove_dir_all(dir.join("agent")).expect("its directory");
        let [[mut alone, mut echo_alone], [mut beside, mut echo_beside]] = times;
        let mut ratio = |of| quantile(&mut beside, of) / quantile(&mut alone, of);
        let [median, tail, end] = [500, 900, 990].map(&mut ratio);
        let machine = quantile(&mut echo_beside, 500) / quantile(&mut echo_alone, 500);
        println!(
            "  {sort:<22} {:>5.0} us {:>6.0} us = {median:>5.2} x   ({tail:.1} x, {end:.1} x; the echo {machine:.1} x)",
            quantile(&mut alone, 500),
            quantile(&mut beside, 500),
        );
    }
}
