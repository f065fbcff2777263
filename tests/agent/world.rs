//! A directory, a configuration, a clock, and agents that live in them.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::socket::{Lines, get};

/// How long a test waits for something that must happen, on a machine however slow.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// 2026-11-21T12:00:00Z.
pub const NOON: i64 = 1_795_262_400;

/// Waits until `look` sees something; `what` names it if that never comes.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until `is_so`.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// The time that all processes of a test are told when they start.
#[derive(Debug, Clone, Copy)]
pub struct TestClock {
    start: f64,
    speed: u32,
    origin: Instant,
}

impl TestClock {
    pub fn new(start: i64, speed: u32) -> Self {
        TestClock { start: start as f64, speed, origin: Instant::now() }
    }

    /// Unix seconds.
    pub fn now(&self) -> f64 {
        self.start + self.origin.elapsed().as_secs_f64() * f64::from(self.speed)
    }

    pub fn flags(&self) -> [String; 4] {
        let now = format!("{:.3}", self.now());
        ["--clock-start".into(), now, "--clock-speed".into(), self.speed.to_string()]
    }

    /// Says that it is `seconds` now.
    pub fn set(&mut self, seconds: f64) {
        (self.start, self.origin) = (seconds, Instant::now());
    }
}

/// Where a test's agents live.
pub struct World {
    dir: tempfile::TempDir,
    pub clock: TestClock,
}

pub const DIMENSIONS: &str = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabytes\"\n";

impl World {
    /// A world whose clock shows `start` and runs `speed` times as fast. Nobody listens at its AWS until one is named.
    pub fn new(start: i64, speed: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users are let in where a test asks for them.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = World { dir, clock: TestClock::new(start, speed) };
        world.configure("http://127.0.0.1:9", DIMENSIONS, "", "");
        world
    }

    /// Noon, at the machine's speed: for tests in which no hour ends.
    pub fn at_noon() -> Self {
        World::new(NOON + 600, 1)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("meterd.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn config(&self) -> PathBuf {
        self.path("meterd.toml")
    }

    /// Writes the configuration: `submit` are further keys of that section, `more` stands at the end.
    pub fn configure(&self, aws: &str, dimensions: &str, submit: &str, more: &str) {
        let (socket, state) = (self.socket(), self.state());
        let text = format!(
            "[product]\ncode = \"prod\"\n{dimensions}\n[socket]\npath = {socket:?}\n[state]\ndir = {state:?}\n\
             segment_bytes = 1048576\nallow_volatile = true\n[instance]\nid = \"i-test\"\n[submit]\nregion = \
             \"us-east-1\"\nendpoint_url = \"{aws}\"\ncredentials = \"environment\"\noffset = \"0s\"\n{submit}\n{more}\n"
        );
        fs::write(self.config(), text).unwrap();
    }

    /// `meterd` with `args`, in an environment without surprises.
    pub fn meterd(&self, args: &[&str]) -> Command {
        // Another build can be put to the same tests: one that does not sync has to fail those of power cuts.
        let built = env!("CARGO_BIN_EXE_meterd").into();
        let mut command = Command::new(std::env::var_os("METERD_BIN").unwrap_or(built));
        command.args(args).stdin(Stdio::null()).current_dir(self.dir.path());
        for name in [
            "METERD_SOCKET",
            "METERD_LOG",
            "NO_COLOR",
            "JOURNAL_STREAM",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "HTTP_PROXY",
        ] {
            command.env_remove(name);
        }
        command.env("METERD_CONFIG", self.config());
        command.env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "dummy");
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// Runs `meterd` with `args` to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&mut self.meterd(args))
    }

    /// The agent's command line, with the clock's flags.
    pub fn run_command(&self) -> Command {
        let mut command = self.meterd(&["run"]);
        command.args(self.clock.flags());
        command
    }

    /// Starts an agent and waits until it answers.
    pub fn start(&self) -> Agent<'_> {
        self.start_with(self.run_command())
    }

    pub fn start_with(&self, command: Command) -> Agent<'_> {
        let agent = self.start_behind(command);
        // A test of the index looks for itself at what holds until it is there; the others wait for it.
        agent.wait_for_index();
        agent
    }

    /// Starts an agent and waits until it answers, though it may not know yet which keys were used.
    pub fn start_behind(&self, mut command: Command) -> Agent<'_> {
        self.harm_index();
        let log = self.path("agent.log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stderr(stderr).spawn().unwrap();
        let mut agent = Agent { child, world: self };
        wait_until("the agent answers", || {
            if let Some(status) = agent.child.try_wait().unwrap() {
                panic!("the agent ended with {status}: {}", agent.log());
            }
            get(&self.socket(), "/v1/status").is_some_and(|answer| answer.status == 200)
        });
        agent
    }

    /// `METERD_TEST_INDEX=delete|corrupt|empty|other` has every agent of the suite start with an index that this has
    /// happened to: no test may see a difference.
    fn harm_index(&self) {
        let Ok(how) = std::env::var("METERD_TEST_INDEX") else { return };
        let index = self.state().join("index");
        if !index.is_dir() {
            return;
        }
        // Its thread has the test's name.
        println!("index harmed: {how} before a start of {}", std::thread::current().name().unwrap_or("a test"));
        match how.as_str() {
            "delete" => fs::remove_dir_all(&index).unwrap(),
            "corrupt" => each_file(&index, |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes.iter_mut().skip(100).step_by(997).for_each(|byte| *byte ^= 0x55);
                fs::write(path, bytes).unwrap();
            }),
            "empty" => each_file(&index, |path| fs::write(path, b"").unwrap()),
            "other" => {
                fs::remove_dir_all(&index).unwrap();
                copy(another_index(), &index);
            }
            other => panic!("METERD_TEST_INDEX={other}"),
        }
    }

    /// Runs an agent that is expected to refuse to start.
    pub fn refused(&self) -> Ran {
        Ran::of(&mut self.run_command())
    }

    /// `meterd records --json`, one value each.
    pub fn records(&self) -> Vec<Value> {
        let ran = self.run(&["records", "--json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Does something to each file below a directory.
pub fn each_file(dir: &Path, harm: fn(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, harm) } else { harm(&path) }
    }
}

/// The index of a log that no test knows, with keys in it.
fn another_index() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let other = World::at_noon();
        let index = other.state().join("index");
        let mut command = other.run_command();
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        wait_until("the stranger answers", || get(&other.socket(), "/healthz").is_some());
        let mut lines = Lines::connect(&other.socket());
        for key in ["k", "key", "key-0", "key-1", "a", "b"] {
            lines.ask(&format!(r#"{{"dimension":"requests","quantity":77,"key":"{key}"}}"#));
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        child.wait().unwrap();
        let kept = tempfile::tempdir().unwrap();
        copy(&index, kept.path());
        kept
    });
    made.path()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &name);
        } else {
            fs::copy(&path, &name).unwrap();
        }
    }
}

/// What a command that has ended left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Ran {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Ran::after(child)
    }

    pub fn after(child: Child) -> Ran {
        let pid = Pid::from_child(&child);
        // A command that hangs ends the test, not the machine's day.
        let (done, waiting) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(done);
        watch.join().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running agent; killed when it is dropped.
pub struct Agent<'w> {
    child: Child,
    world: &'w World,
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the agent's log:\n{}", self.log());
        }
    }
}

impl Agent<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that agents of this world have said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.world.path("agent.log")).unwrap_or_default()
    }

    pub fn lines(&self) -> Lines {
        Lines::connect(&self.world.socket())
    }

    /// One increment (or array) on a connection of its own.
    pub fn tell(&self, line: &str) -> Value {
        self.lines().ask(line)
    }

    /// `GET /v1/status`.
    pub fn status(&self) -> Value {
        get(&self.world.socket(), "/v1/status").expect("an agent that answers").json()
    }

    /// The books of a dimension; asserts that all of them balance.
    pub fn books(&self, dimension: &str) -> Value {
        books(&self.status(), dimension)
    }

    /// Waits until it knows which keys were used.
    pub fn wait_for_index(&self) {
        let is_behind =
            |status: &Value| status["attention"].as_array().unwrap().iter().any(|a| a["code"] == "index_rebuilding");
        wait_until("the index is there", || {
            get(&self.world.socket(), "/v1/status")
                .is_some_and(|answer| answer.status == 200 && !is_behind(&answer.json()))
        });
    }

    /// How many segments the log has had.
    pub fn segments(&self) -> usize {
        let names = fs::read_dir(self.world.state().join("wal")).unwrap();
        names.filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().contains("spare")).count()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it in order.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the agent to end", || self.child.try_wait().unwrap())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The books of a dimension in a status; asserts that all of them balance.
pub fn books(status: &Value, dimension: &str) -> Value {
    let books = status["books"].as_array().unwrap();
    assert!(books.iter().all(|b| b["balanced"] == true), "{books:#?}");
    books.iter().find(|b| b["dimension"] == dimension).unwrap_or_else(|| panic!("{dimension}: {books:#?}")).clone()
}

/// A column of the books as a number: the tests use whole units.
pub fn units(books: &Value, column: &str) -> u64 {
    let text = books[column].as_str().unwrap_or_else(|| panic!("{column}: {books}"));
    text.parse().unwrap_or_else(|_| panic!("{column} is {text}"))
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
