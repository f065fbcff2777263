//! The promise of `meterd add -`: fast, in bounded memory, every line accounted for by its number, and an end by Ctrl-C
//! after which it can go on without doubling anything.

use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{Ran, World, units, wait_until};

fn pipe(world: &World, flags: &[&str]) -> (Child, ChildStdin) {
    let mut command = world.meterd(&[&["add", "-"], flags].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

#[test]
fn a_refused_line_is_told_by_its_number_and_the_others_go_on() {
    let world = World::at_noon();
    let agent = world.start();
    // Empty lines count as lines of the file, and one that is longer than the agent takes is no end of it.
    let text = format!("\n\nrequests 1\n\nrequest 1\nrequests {}\n\n[\nrequests 2 \n\n", "9".repeat(200_000));
    let (child, mut stdin) = pipe(&world, &[]);
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let ran = Ran::after(child);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "2 of 5 lines are durable, 3 refused\n"), "{ran:?}");
    let said: Vec<&str> = ran.stderr.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(said, ["line 5", "line 6", "line 8"], "{ran:?}");
    assert!(ran.stderr.contains("line 6: too_large: a line has at most 65536 bytes"), "{ran:?}");
    let (child, mut stdin) = pipe(&world, &["--json"]);
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let json = Ran::after(child);
    let answers: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors: Vec<&str> = answers.iter().map(|answer| answer["error"].as_str().unwrap_or("ok")).collect();
    assert_eq!(errors, ["ok", "unknown_dimension", "too_large", "bad_request", "ok"], "in the order of the lines");
    assert_eq!(units(&agent.books("requests"), "received"), 6);
}

#[test]
fn ctrl_c_ends_it_in_order_and_it_goes_on_without_doubling() {
    let world = World::at_noon();
    let agent = world.start();
    let lines: String = (1..=1000).map(|n| format!("requests 1 order-{n}\n")).collect();
    fs::write(world.path("FILE"), &lines).unwrap();
    let (child, mut stdin) = pipe(&world, &[]);
    let begun: usize = lines.split_inclusive('\n').take(600).map(str::len).sum();
    // Its writer is cut off in the middle of a line.
    stdin.write_all(&lines.as_bytes()[..begun]).unwrap();
    stdin.write_all(b"requests 1").unwrap();
    wait_until("what was written is durable", || agent.status()["log"]["accepted_seq"] == 600);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::after(child);
    drop(stdin);
    assert_eq!((ran.code, ran.stdout.as_str()), (130, ""), "{ran:?}");
    assert!(ran.stderr.contains("interrupted: 600 of 600 lines are durable, 0 refused, up to line 600"), "{ran:?}");
    assert!(ran.stderr.contains("no line after it was taken; to go on: tail -n +601 FILE | meterd add -"), "{ran:?}");

    // As it says.
    let rest = lines[begun..].to_owned();
    let (child, mut stdin) = pipe(&world, &[]);
    stdin.write_all(rest.as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(Ran::after(child).stdout, "400 of 400 lines are durable, 0 refused\n");
    assert_eq!(units(&agent.books("requests"), "received"), 1000);
    // And all of it once more: the keys know.
    let (child, mut stdin) = pipe(&world, &[]);
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(Ran::after(child).code, 0);
    assert_eq!(units(&agent.books("requests"), "received"), 1000);
}

#[test]
fn an_agent_that_dies_leaves_a_number_to_go_on_from() {
    let world = World::at_noon();
    let mut agent = world.start();
    let (child, mut stdin) = pipe(&world, &[]);
    stdin.write_all(b"requests 1\n\nrequests 1\n").unwrap();
    wait_until("both are durable", || agent.status()["log"]["accepted_seq"] == 2);
    agent.kill();
    // Standard input stays open.
    let ran = Ran::after(child);
    drop(stdin);
    assert_eq!(ran.code, 75, "{ran:?}");
    assert!(ran.stderr.contains("broke off") && ran.stderr.contains("2 of 2 lines are durable"), "{ran:?}");
    assert!(ran.stderr.contains("tail -n +4 FILE | meterd add -"), "{ran:?}");
}

#[test]
fn memory_is_bounded_however_long_the_input() {
    let world = World::at_noon();
    let agent = world.start();
    let (child, mut stdin) = pipe(&world, &[]);
    let pid = child.id();
    // Far more than the bound, in lines, empty ones and one line without an end.
    let lines = "requests 1\n\n".repeat(10_000);
    for _ in 0..30 {
        stdin.write_all(lines.as_bytes()).unwrap();
    }
    let endless = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        stdin.write_all(&endless).unwrap();
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 48 * 1024, "{peak} kB for 64 MiB of a line");
    drop(stdin);
    let ran = Ran::after(child);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "300000 of 300001 lines are durable, 1 refused\n"));
    assert_eq!(units(&agent.books("requests"), "received"), 300_000);
}

#[test]
fn a_terminal_shows_how_far_it_is_and_nothing_else_does() {
    let world = World::at_noon();
    let agent = world.start();
    let program = world.meterd(&[]).get_program().to_str().unwrap().to_owned();
    let line = format!("(printf 'requests 1\\n'; sleep 1; printf 'nothing 1\\n') | {program} add -");
    // It gives its child a terminal.
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    command.env("METERD_SOCKET", world.socket()).env("TERM", "xterm");
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: script (of util-linux) is not here");
        return;
    }
    let ran = Ran::of(&mut command);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("1 read, 1 answered, 0 of them refused, "), "{ran:?}");
    assert!(ran.stdout.contains("/s"), "{ran:?}");
    assert!(ran.stdout.contains("line 2: unknown_dimension"), "{ran:?}");
    assert!(ran.stdout.contains("1 of 2 lines are durable, 1 refused"), "{ran:?}");
    let (child, mut stdin) = pipe(&world, &[]);
    stdin.write_all(b"requests 1\n").unwrap();
    drop(stdin);
    assert_eq!(Ran::after(child).stderr, "", "no terminal, no display");
    assert_eq!(units(&agent.books("requests"), "received"), 2);
}
