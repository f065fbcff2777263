//! The agent that is measured: the same program as a child process, with a state of its own and a simulated AWS.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::words::{Protocol, With, Words};
use crate::clock::SystemClock;
use crate::simulate::{Options, Simulation};

/// How long the agent may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What of the caller's environment the agent keeps: where libraries are found, and where a coverage run writes.
const KEPT_VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"];
/// How long the agent is without work before it counts as at rest, and how long that is waited for.
const REST: Duration = Duration::from_millis(40);
const REST_WITHIN: Duration = Duration::from_secs(2);
/// In which the kernel counts processor time, on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// A running agent. Dropping it kills it; its directory stays.
pub struct Agent {
    child: Child,
    program: PathBuf,
    dir: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    /// Hears nothing unless an hour ends.
    aws: Simulation,
}

impl Agent {
    /// Starts `program` with a new state within `dir`, which is made, and waits until it takes increments.
    pub fn start(program: &Path, dir: &Path) -> Result<Agent, String> {
        let failed = |error: std::io::Error| format!("the agent's directory {}: {error}", dir.display());
        fs::create_dir(dir).map_err(failed)?;
        let options = Options { window: Duration::from_secs(6 * 3600), ..Options::default() };
        let aws = Simulation::start((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(SystemClock::default()), options)
            .map_err(|error| format!("starting the simulated AWS: {error}"))?;
        let socket = dir.join("s");
        fs::write(dir.join("meterd.toml"), config(dir, &socket, aws.addr())?).map_err(failed)?;
        let child = spawn(program, dir)?;
        let mut agent = Agent { child, program: program.to_owned(), dir: dir.to_owned(), socket, aws };
        agent.ready()?;
        Ok(agent)
    }

    /// Kills it with `-9` and starts it again at once; how long it took until an increment was acknowledged.
    pub fn kill_and_restart(&mut self) -> Result<Duration, String> {
        self.kill();
        let began = Instant::now();
        self.child = spawn(&self.program, &self.dir)?;
        self.ready()?;
        Ok(began.elapsed())
    }

    /// Ends it with `kill -9`.
    pub fn kill(&mut self) {
        // One that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Where its state lies.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// How many calls reached the simulated AWS: 0 unless an hour ended meanwhile.
    pub fn calls(&self) -> usize {
        self.aws.calls().len()
    }

    /// Waits until an increment is acknowledged.
    fn ready(&mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the agent ended by itself ({status}); {}", self.last_words()));
            }
            match self.acknowledged() {
                Ok(_) => return Ok(()),
                Err(why) if began.elapsed() > PATIENCE => return Err(format!("the agent does not start: {why}")),
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// How many increments it has acknowledged by its own count, with the one by which it is asked.
    pub fn acknowledged(&self) -> Result<u64, String> {
        let ask = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.write_all(&Words::increment(Protocol::Lines, With::Nothing).one)?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = ask().map_err(|error| format!("the agent does not answer: {error}"))?;
        let parsed: Value = serde_json::from_str(&answer).unwrap_or_default();
        parsed["seq"].as_u64().ok_or_else(|| format!("the agent answers {}", answer.trim()))
    }

    /// Processor time it has used so far, its helpers' included.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // Behind the name, which may hold anything: fields 14 and 15 of proc_pid_stat(5).
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// The most memory it ever held, in KiB.
    pub fn resident_kib_max(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// The memory it holds, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }

    /// Waits until what it does behind the answers is done.
    pub fn rest(&self) {
        let began = Instant::now();
        let mut before = self.cpu();
        while began.elapsed() < REST_WITHIN {
            std::thread::sleep(REST);
            let now = self.cpu();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Bytes of the log that are in use: what stands in its segments up to the last that is not zero. Not while it runs.
    pub fn log_bytes(&self) -> Result<u64, String> {
        let wal = self.state().join("wal");
        let failed = |error: std::io::Error| format!("the log {}: {error}", wal.display());
        let mut bytes = 0;
        for entry in fs::read_dir(&wal).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                let read = fs::read(&path).map_err(failed)?;
                bytes += read.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            }
        }
        Ok(bytes)
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
        text.lines().last().map_or("it said nothing".to_owned(), |line| format!("its last words: {line}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

fn config(dir: &Path, socket: &Path, aws: SocketAddr) -> Result<String, String> {
    let quoted = |path: &Path| {
        let text = path.to_str().ok_or("the directory's name is not UTF-8; name another with --dir")?;
        Ok::<_, String>(toml::Value::from(text).to_string())
    };
    Ok(format!(
        "[product]\ncode = \"bench\"\n[[dimension]]\nname = \"requests\"\n\
         [socket]\npath = {}\nmode = \"0600\"\n[state]\ndir = {}\nallow_volatile = true\n\
         [submit]\nregion = \"us-east-1\"\nendpoint_url = \"http://{aws}\"\ncredentials = \"environment\"\n\
         [instance]\nid = \"i-0123456789abcdef0\"\n",
        quoted(socket)?,
        quoted(&dir.join("state"))?,
    ))
}

fn spawn(program: &Path, dir: &Path) -> Result<Child, String> {
    let failed = |error: std::io::Error| format!("starting the agent {}: {error}", program.display());
    let log = File::options().append(true).create(true).open(dir.join("agent.log")).map_err(failed)?;
    let kept = KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(kept)
        .env("AWS_ACCESS_KEY_ID", "AKIDMETERDBENCH")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .arg("run")
        .arg("--config")
        .arg(dir.join("meterd.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().map_err(failed)
}
