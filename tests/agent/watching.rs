//! The promise of `status --watch`: it stays where it is while things change, whatever becomes of the agent, and leaves the
//! terminal as it was.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{World, wait_until};

/// A process with a terminal of its own, made by `script`, and what came out of it so far.
struct OnATerminal {
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Drop for OnATerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl OnATerminal {
    /// None where `script` is missing.
    fn start(world: &World, size: &str, environment: &[(&str, &str)]) -> Option<OnATerminal> {
        if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
            println!("skipped: script (util-linux) is not here");
            return None;
        }
        let model = world.meterd(&["status"]);
        let line = format!(
            "stty {size}; tty > {}; exec {} status --watch 1",
            world.path("tty").display(),
            model.get_program().display()
        );
        let mut command = Command::new("script");
        command.args(["-q", "-f", "-e", "-c", &line, "/dev/null"]).env("SHELL", "/bin/sh").env("TERM", "xterm");
        for (name, value) in model.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut stdout, writes) = (child.stdout.take().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut chunk) {
                *writes.lock().unwrap() += &String::from_utf8_lossy(&chunk[..n]);
            }
        });
        Some(OnATerminal { child, seen })
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for words that come after the first `from` bytes; where they end.
    fn wait_for(&self, words: &str, from: usize) -> usize {
        let mut end = 0;
        wait_until(&format!("{words:?} on the terminal"), || {
            let seen = self.seen();
            let found = seen.get(from..).and_then(|rest| rest.find(words));
            end = found.map_or(0, |at| from + at + words.len());
            found.is_some()
        });
        end
    }

    fn press(&mut self, key: u8) {
        self.child.stdin.as_mut().unwrap().write_all(&[key]).unwrap();
    }
}

#[test]
fn on_a_terminal_it_stays_in_its_place_and_leaves_it_as_it_was() {
    let world = World::at_noon();
    let mut agent = world.start();
    let Some(mut terminal) = OnATerminal::start(&world, "cols 60 rows 12", &[]) else { return };
    let at = terminal.wait_for("metering works\u{1b}[0m", 0);
    let seen = terminal.seen();
    assert!(seen.starts_with("\u{1b}[?1049h\u{1b}[?25l\u{1b}[H"), "{seen:?}");
    assert!(seen.contains("\u{1b}[32mmetering works\u{1b}[0m\u{1b}[K\r\n"), "green: {seen:?}");
    // What does not fit is cut off, so that nothing scrolls; and nothing is ever cleared before it is written.
    terminal.wait_for("more lines)", 0);
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":7}"#)["ok"], true);
    let at = terminal.wait_for("1 increment acknowledged", at);
    let page = terminal.seen();
    let rows = page.split("\u{1b}[H").map(|page| page.matches("\r\n").count()).max();
    assert!(rows <= Some(11) && !page.contains("\u{1b}[2J"), "{page:?}");

    // Taller.
    let tty = fs::read_to_string(world.path("tty")).unwrap();
    let sized = Command::new("stty").args(["-F", tty.trim(), "cols", "80", "rows", "40"]).status().unwrap();
    assert!(sized.success());
    let at = terminal.wait_for("balanced", at);

    // Killed, and started again.
    agent.kill();
    let at = terminal.wait_for("no agent answers since ", at);
    drop(agent);
    let _agent = world.start();
    let at = terminal.wait_for("metering works\u{1b}[0m", at);

    terminal.press(3);
    terminal.wait_for("\u{1b}[?25h\u{1b}[?1049l", at);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
    assert!(terminal.seen().ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{:?}", terminal.seen());
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let world = World::at_noon();
    let _agent = world.start();
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let Some(mut terminal) = OnATerminal::start(&world, "cols 80 rows 40", &[environment]) else { return };
        terminal.wait_for("metering works\u{1b}[K", 0);
        terminal.wait_for("balanced\u{1b}[K", 0);
        terminal.press(3);
        assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
    }
}

#[test]
fn on_a_pipe_it_is_a_page_or_an_object_each_time() {
    let world = World::at_noon();
    let mut agent = world.start();
    let watch = |args: &[&str]| {
        let mut child = world.meterd(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        (child, lines)
    };
    let (mut pages, mut lines) = watch(&["status", "--watch", "1"]);
    let (mut objects, mut values) = watch(&["status", "--json", "--watch", "1"]);
    let mut object = || -> Value { serde_json::from_str(&values.next().expect("an object")).expect("one a line") };
    assert_eq!(lines.next().as_deref(), Some("metering works"));
    assert_eq!(object()["ready"], true);
    agent.kill();
    let silent = lines.find(|line| line.starts_with("no agent answers since ")).expect("it goes on");
    assert!(silent.ends_with(" UTC: usage is NOT being taken"), "{silent:?}");
    let mut since = Vec::new();
    while since.len() < 2 {
        let object = object();
        since.extend((object["ready"] == false).then(|| object["attention"][0]["since"].clone()));
    }
    assert!(since[0].is_string() && since[0] == since[1], "from the first time on: {since:?}");
    drop(agent);
    let _agent = world.start();
    let mut before = String::new();
    let back = lines.find(|line| {
        let is_back = line == "metering works" && before.is_empty();
        before.clone_from(line);
        is_back
    });
    assert!(back.is_some(), "an empty line before each page");
    wait_until("it is back", || object()["ready"] == true);
    for child in [&mut pages, &mut objects] {
        kill_process(Pid::from_child(child), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
    // Not a number of seconds.
    assert_eq!(world.run(&["status", "--watch", "0"]).code, 64);
}
