//! The promise of the limits: a client that takes too much is told so, and costs the others nothing.

use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::socket::{Lines, exchange};
use crate::world::{Agent, PATIENCE, World, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
/// As documented.
const CONNECTIONS_MAX: usize = 1024;

fn overloaded(answer: &Value) {
    assert_eq!(
        (&answer["error"], &answer["retryable"], &answer["recorded"]),
        (&json!("overloaded"), &json!(true), &json!("no")),
        "{answer}"
    );
}

/// Whether a newcomer is served.
fn room(agent: &Agent<'_>) -> bool {
    let mut late = agent.lines();
    late.try_send(format!("{ONE}\n")).is_ok() && late.answer()["ok"] == true
}

#[test]
fn one_connection_too_many_is_told_so_and_the_others_live_on() {
    let world = World::at_noon();
    let agent = world.start();
    let mut clients: Vec<Lines> = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        clients.push(agent.lines());
    }
    assert_eq!(clients[0].ask(ONE)["ok"], true);
    assert_eq!(clients[CONNECTIONS_MAX - 1].ask(ONE)["ok"], true);
    for _ in 0..3 {
        let mut late = agent.lines();
        overloaded(&late.answer());
        assert_eq!(late.line(), None);
    }
    clients.truncate(CONNECTIONS_MAX / 2);
    wait_until("there is room again", || room(&agent));
}

#[test]
fn connections_that_speak_http_count_as_well() {
    let world = World::at_noon();
    let agent = world.start();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(exchange(&mut stream, "GET", "/healthz", &[], b"").unwrap().status, 200);
        clients.push(stream);
    }
    overloaded(&agent.lines().answer());
    assert_eq!(exchange(&mut clients[7], "POST", "/v1/usage", &[], ONE.as_bytes()).unwrap().status, 200);
    clients.truncate(10);
    wait_until("there is room again", || room(&agent));
}

#[test]
fn where_the_system_grants_few_files_the_log_has_its_own() {
    let world = World::at_noon();
    let mut command = std::process::Command::new("sh");
    let agent = world.run_command();
    command.args(["-c", "ulimit -n 200; exec \"$@\"", "sh"]).arg(agent.get_program()).args(agent.get_args());
    for (name, value) in agent.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let agent = world.start_with(command);
    let mut first = agent.lines();
    let many: Vec<Lines> = (0..300).map(|_| agent.lines()).collect();
    // The log grows into new segments while no file is left for anybody else.
    let tags = r#""tags":{"a":"b"}"#.to_owned();
    let line = format!(r#"{{"dimension":"requests","quantity":1,"key":"KEY",{tags}}}"#);
    for n in 0..20 {
        let block: String =
            (0..500).map(|m| line.replace("KEY", &format!("{n}-{m}-{}", "x".repeat(110))) + "\n").collect();
        first.send(block);
        (0..500).for_each(|_| assert_eq!(first.answer()["ok"], true));
    }
    assert!(agent.segments() > 1);
    drop(many);
    wait_until("there is room again", || room(&agent));
}

#[test]
fn nobody_who_reads_its_log_is_needed() {
    let world = World::at_noon();
    let mut command = world.run_command();
    command.env("METERD_LOG", "debug").stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_until("the agent answers", || crate::socket::get(&world.socket(), "/v1/status").is_some());
    drop(child.stderr.take());
    // Each of these is a line in the log.
    for _ in 0..20 {
        let broken = UnixStream::connect(world.socket()).unwrap();
        std::io::Write::write_all(&mut &broken, b"GARBAGE\r\n\r\n").unwrap();
        drop(broken);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(Lines::connect(&world.socket()).ask(ONE)["ok"], true);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    let status = crate::world::wait_for("the agent to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
