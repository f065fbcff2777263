//! `meterd simulate-aws` as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::{headers, http, request};

struct Running {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command.arg("simulate-aws").args(arguments);
    command
}

fn running(arguments: &[&str]) -> Running {
    let mut child =
        command(&["--listen", "127.0.0.1:0"]).args(arguments).stdout(Stdio::piped()).spawn().expect("meterd starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim_end().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
    Running { addr: addr.parse().unwrap(), child }
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn it_says_where_it_listens_serves_and_stops_cleanly_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = running(&["--clock-start", "2026-11-21T12:30:00Z"]);
        let body = request(json!({})).to_string();
        http(running.addr, "POST", "/", &headers(), body.as_bytes()).unwrap().unwrap().record_id();
        let pid = Pid::from_child(&running.child);
        kill_process(pid, signal).unwrap();
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn its_clock_can_run_fast() {
    let running = running(&["--clock-start", "1795264200", "--clock-speed", "100000"]);
    let now = || http(running.addr, "GET", "/ledger", &[], b"").unwrap().unwrap().json()["now"].clone();
    // 36 ms an hour: a day passes before a second does.
    crate::client::wait_until("a day has passed", || now().as_str().unwrap() >= "2026-11-22T12:30:00Z");
}

#[test]
fn its_flags_reach_the_rules() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("bad-day.toml");
    std::fs::write(&script, "[[fault]]\nkind = \"throttle\"\nnth = 1\n").unwrap();
    let running = running(&[
        "--clock-start",
        "2026-11-21T12:30:00Z",
        "--script",
        script.to_str().unwrap(),
        "--product",
        "prod",
        "--dimension",
        "requests",
        "--dimension",
        "users",
        "--window",
        "1h30m",
        "--dry-run-ok",
    ]);
    let call = |members| {
        http(running.addr, "POST", "/", &headers(), request(members).to_string().as_bytes()).unwrap().unwrap().code()
    };
    assert_eq!(call(json!({})), "ThrottlingException");
    assert_eq!(call(json!({ "ProductCode": "other" })), "InvalidProductCodeException");
    assert_eq!(call(json!({ "UsageDimension": "other" })), "InvalidUsageDimensionException");
    assert_eq!(call(json!({ "UsageDimension": "users" })), "");
    assert_eq!(call(json!({ "Timestamp": 1_795_264_200 - 5500 })), "TimestampOutOfBoundsException");
    assert_eq!(call(json!({ "DryRun": true })), "");
}

#[test]
fn what_it_cannot_do_it_says() {
    let (code, message) = refused(&["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(64));
    assert!(message.contains("--allow-remote"), "{message}");

    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("typo.toml");
    std::fs::write(&script, "[[fault]]\nkind = \"throttle\"\nnht = 1\n").unwrap();
    let (code, message) = refused(&["--script", script.to_str().unwrap()]);
    assert_eq!(code, Some(64));
    assert!(message.contains("typo.toml:3: unknown field `nht`"), "{message}");

    let (code, message) = refused(&["--script", "/nowhere.toml"]);
    assert_eq!(code, Some(64));
    assert!(message.contains("/nowhere.toml"), "{message}");

    let first = running(&[]);
    let (code, message) = refused(&["--listen", &first.addr.to_string()]);
    assert_eq!(code, Some(1));
    assert!(message.contains(&first.addr.to_string()), "{message}");
}

#[test]
fn help_explains_itself() {
    let mut child = command(&["--help"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut help = String::new();
    child.stdout.take().unwrap().read_to_string(&mut help).unwrap();
    assert!(child.wait().unwrap().success());
    for part in ["--clock-speed", "--script", "127.0.0.1:4000", "GET /ledger"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}
