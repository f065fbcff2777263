//! The agent as a child process: the real one, run as a seller would, with nothing of the caller's environment.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::client::get;
use crate::clock::Clock;

/// How long the agent may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long between two looks at whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What of the caller's environment the agent keeps: where libraries are found, and where a coverage run writes.
/// The caller's AWS keys, proxies and sockets are none of the demo's business.
const KEPT_VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"];
/// Credentials that nobody would mistake for real ones. The simulation tells instances apart by the access key.
const ACCESS_KEY: &str = "AKIDMETERDDEMO";

/// Where things are, and what the time is.
pub struct Launch {
    /// The configuration.
    pub config: PathBuf,
    /// The socket that the configuration names.
    pub socket: PathBuf,
    /// Where its log lines are appended.
    pub log: PathBuf,
    /// The demo's clock, which the agent's is set by.
    pub clock: Arc<dyn Clock>,
    /// How fast it runs.
    pub speed: u32,
}

/// A running agent; dropping it kills it.
pub struct Agent {
    launch: Launch,
    child: Child,
}

impl Agent {
    /// Starts it; [`Agent::ready`] waits until it answers.
    pub fn start(launch: Launch) -> Result<Agent, String> {
        let child = spawn(&launch)?;
        Ok(Agent { launch, child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says of itself.
    pub fn status(&self) -> Result<Value, String> {
        let body = get(&self.launch.socket, "/v1/status")?;
        serde_json::from_slice(&body).map_err(|error| format!("the agent's status cannot be read: {error}"))
    }

    /// Waits until it answers, unless `give_up`; its first status.
    pub fn ready(&mut self, give_up: &dyn Fn() -> bool) -> Result<Value, String> {
        let began = Instant::now();
        loop {
            self.alive()?;
            let not_yet = match self.status() {
                Ok(status) if status["ready"] == true => return Ok(status),
                Ok(_) => "the agent takes no usage".to_owned(),
                Err(why) => why,
            };
            if give_up() || began.elapsed() > PATIENCE {
                return Err(not_yet);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// An error if it has ended though nobody asked it to.
    pub fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("the agent ended by itself ({status}); {}", self.last_words())),
            Err(error) => Err(format!("looking after the agent: {error}")),
        }
    }

    /// `kill -9`, and started again at once.
    pub fn kill_and_restart(&mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(|error| format!("killing the agent: {error}"))?;
        self.child = spawn(&self.launch)?;
        Ok(())
    }

    /// Asks it to stop with SIGTERM, and waits until it has.
    pub fn terminate(mut self) -> Result<(), String> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).ok_or("the agent has no process id")?;
        kill_process(pid, Signal::TERM).map_err(|error| format!("stopping the agent: {error}"))?;
        let began = Instant::now();
        loop {
            match self.child.try_wait().map_err(|error| format!("stopping the agent: {error}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the agent stopped with {status}; {}", self.last_words())),
                None if began.elapsed() > PATIENCE => return Err("the agent does not stop on SIGTERM".into()),
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.launch.log).unwrap_or_default();
        text.lines().last().map_or("it said nothing".to_owned(), |line| format!("its last words: {line}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(launch: &Launch) -> Result<Child, String> {
    let failed = |error: std::io::Error| format!("starting the agent: {error}");
    let program = std::env::current_exe().map_err(failed)?;
    let log = File::options().append(true).create(true).open(&launch.log).map_err(failed)?;
    let kept = KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(kept)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", "demo")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .arg("run")
        .arg("--config")
        .arg(&launch.config)
        .args(["--clock-speed", &launch.speed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    // The last thing before the start, so that its clock is behind the demo's by that much only.
    let millis = launch.clock.now().millis();
    command.args(["--clock-start", &format!("{}.{:03}", millis / 1000, millis % 1000)]);
    command.spawn().map_err(failed)
}
