//! `meterd demo` as a stranger runs it: it holds what it shows, cleans up, and never pretends. What it makes of books that
//! do not hold is tested beside its judgement (src/cli/demo/balance.rs).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The demo, at a quick pace, in an environment that must not matter to it.
fn demo(temp: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command
        .args(["demo", "--hours", "4", "--speed", "1200"])
        .current_dir("/")
        .env("TMPDIR", temp)
        .env("METERD_CONFIG", "/nonexistent/meterd.toml")
        .env("METERD_SOCKET", "/nonexistent/meterd.sock")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("AWS_PROFILE", "nobody")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts it and waits until its agent is up, whose process id it tells.
fn started(command: &mut Command) -> (Child, BufReader<ChildStdout>, Pid) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("the agent is up") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended before its agent was up");
    }
    let pid = line.split("(pid ").nth(1).and_then(|rest| rest.split(')').next()).expect("a process id");
    (child, lines, Pid::from_raw(pid.parse().unwrap()).unwrap())
}

fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn exists(pid: Pid) -> bool {
    Path::new("/proc").join(pid.as_raw_nonzero().to_string()).exists()
}

#[test]
fn everything_acknowledged_is_billed_or_remains() {
    let temp = tempfile::tempdir().unwrap();
    let done = demo(temp.path()).args(["--seed", "4"]).output().unwrap();
    let shown = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{shown}\n{}", String::from_utf8_lossy(&done.stderr));

    for dimension in ["requests", "gigabytes", "users"] {
        let rows = shown.lines().filter(|l| l.trim_start().starts_with(dimension) && l.ends_with("   balanced"));
        assert_eq!(rows.count(), 1, "{dimension}:\n{shown}");
    }
    assert_eq!(shown.lines().filter(|l| l.contains("kill -9 ") && l.contains("back after")).count(), 2, "{shown}");
    for event in ["AWS is out", "AWS is back; 3 records have waited", "2 restarts by kill -9", "12 records billed"] {
        assert!(shown.contains(event), "{event}:\n{shown}");
    }
    assert!(shown.contains("sent again") && !shown.contains("  0 increments sent again"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "colours or a progress display, though nobody looks:\n{shown}");
    assert_eq!(entries(temp.path()), Vec::<String>::new());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let (mut child, mut lines, agent) = started(&mut demo(temp.path()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut shown = String::new();
    lines.read_to_string(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{shown}");
    assert!(shown.ends_with("interrupted\n"), "{shown}");
    assert!(!exists(agent), "the agent outlives the demo");
    assert_eq!(entries(temp.path()), Vec::<String>::new());
}

#[test]
fn an_agent_that_dies_by_itself_is_a_failure_with_its_evidence_kept() {
    let temp = tempfile::tempdir().unwrap();
    let kept = temp.path().join("kept");
    let (child, _lines, agent) = started(demo(temp.path()).arg("--dir").arg(&kept));
    kill_process(agent, Signal::KILL).unwrap();
    let done = child.wait_with_output().unwrap();
    let shown = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{shown}");
    assert!(shown.contains("the agent ended by itself") && shown.contains("are kept in"), "{shown}");
    for file in ["agent.log", "meterd.toml", "state"] {
        assert!(entries(&kept).contains(&file.to_owned()), "no {file}");
    }

    let again = demo(temp.path()).arg("--dir").arg(&kept).output().unwrap();
    let shown = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(shown.contains("is not empty; name a new one with --dir"), "{shown}");
}
