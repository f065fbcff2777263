//! The promise of every error on the command line: it names what is wrong, where, and what to do, and its exit code is
//! the one that scripts may rely on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::protocol::EVERY_MEASURE;
use crate::world::{Ran, World, read};

/// A command line and what it must come to.
struct Case<'a> {
    args: &'a [&'a str],
    code: i32,
    /// What is wrong, where, and what to do.
    says: &'a [&'a str],
}

fn case<'a>(args: &'a [&'a str], code: i32, says: &'a [&'a str]) -> Case<'a> {
    Case { args, code, says }
}

/// `{…}` in arguments and words stand for places in the world.
fn filled(world: &World, text: &str) -> String {
    let shown = |path: std::path::PathBuf| path.display().to_string();
    text.replace("{dir}", &shown(world.path("")))
        .replace("{socket}", &shown(world.socket()))
        .replace("{admin}", &shown(world.path("admin.sock")))
        .replace("{state}", &shown(world.state()))
        .replace("{config}", &shown(world.config()))
}

fn check(world: &World, cases: &[Case<'_>], prepare: impl Fn(&mut Command)) {
    let mut wrong = Vec::new();
    for Case { args, code, says } in cases {
        let args: Vec<String> = args.iter().map(|arg| filled(world, arg)).collect();
        let mut command = world.meterd(&args.iter().map(String::as_str).collect::<Vec<_>>());
        prepare(&mut command);
        let ran = Ran::of(&mut command);
        let missing: Vec<String> = says
            .iter()
            .map(|words| filled(world, words))
            .filter(|words| !ran.stderr.contains(words.as_str()))
            .collect();
        if ran.code != *code || !missing.is_empty() || ran.stderr.contains("panicked") {
            wrong.push(format!("{args:?}: exit {} for {code}; not said: {missing:?}; said:\n{}", ran.code, ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_command_line() {
    let world = World::at_noon();
    check(
        &world,
        &[
            case(&["frobnicate"], 64, &["'frobnicate'", "--help"]),
            case(&["statsu"], 64, &["'statsu'", "'status'"]),
            case(&["status", "--jsno"], 64, &["'--jsno'", "'--json'", "--help"]),
            case(&["add"], 64, &["<DIM>", "--help"]),
            case(&["add", "requests", "1", "--tag", "blue"], 64, &["'blue'", "--tag", "KEY=VALUE"]),
            case(&["add", "requests", "1", "--tag", "a=b", "--tag", "a=c"], 64, &["\"a\"", "twice", "once"]),
            case(&["add", "-", "1"], 64, &["with -", "leave out QTY"]),
            case(&["records", "--hour", "noon"], 64, &["'noon'", "--hour", "2026-11-21T09:00:00Z"]),
            case(&["records", "--state", "lost"], 64, &["'lost'", "--state", "in_doubt"]),
            case(&["records", "--json", "--csv"], 64, &["'--json'", "'--csv'"]),
            case(&["settle", "noon", "requests", "carry"], 64, &["'noon'", "<HOUR>", "2026-11-21T09:00:00Z"]),
            case(&["settle", "1795262400", "requests", "forget"], 64, &["'forget'", "write-off"]),
            case(&["settle", "1795262400", "requests", "accepted", "--to", "x"], 64, &["--to", "carry"]),
            case(&["release", "noon", "requests"], 64, &["'noon'", "<HOUR>", "2026-11-21T09:00:00Z"]),
            case(&["release", "1795262400", "requests", "--at-most", "0"], 64, &["'0'", "--at-most", "1..="]),
            case(&["seal"], 64, &["--final", "--cancel"]),
            case(&["seal", "--final", "--timeout", "soon"], 64, &["'soon'", "--timeout", "90s"]),
            case(&["inspect", "--kind", "usages"], 64, &["'usages'", "'usage'"]),
            case(&["run", "--speed", "60"], 64, &["--dev"]),
            case(&["run", "--dev", "--clock-speed", "60"], 64, &["--dev", "--speed"]),
            case(&["demo", "--hours", "1"], 64, &["'1'", "--hours", "4..="]),
            case(&["simulate-aws", "--listen", "0.0.0.0:0"], 64, &["0.0.0.0:0", "--allow-remote"]),
            case(&["simulate-aws", "--listen", "4000"], 64, &["'4000'", "--listen", "127.0.0.1:4000"]),
            case(&["simulate-aws", "--script", "{dir}nowhere.toml"], 64, &["nowhere.toml", "No such file", "--script"]),
            case(&["completions", "csh"], 64, &["'csh'", "bash"]),
        ],
        |_| {},
    );
}

#[test]
fn a_configuration_that_is_missing_or_wrong() {
    let world = World::at_noon();
    let missing: &[&str] = &["{dir}nowhere.toml", "no such file", "--config"];
    let nowhere = "{dir}nowhere.toml";
    check(
        &world,
        &[
            case(&["run", "--config", nowhere], 78, missing),
            case(&["check-config", "--config", nowhere], 78, missing),
            case(&["doctor", "--config", nowhere], 78, missing),
            case(&["status", "--config", nowhere], 78, missing),
            case(&["add", "requests", "1", "--config", nowhere], 78, missing),
            case(&["settle", "1795262400", "requests", "carry", "--config", nowhere], 78, missing),
            case(&["verify", "--config", nowhere], 78, &["{dir}nowhere.toml", "name the directory"]),
            case(&["scrub", "--config", nowhere], 78, &["{dir}nowhere.toml", "name the directory"]),
            case(&["run", "--config", "{dir}"], 78, &["{dir}", "directory", "name a readable file"]),
        ],
        |_| {},
    );
    fs::write(world.config(), "[product]\ncode = \"p\"\n[[dimension]]\nname = \"requests\"\nmesure = \"sum\"\n")
        .unwrap();
    let wrong: &[&str] = &["{config}:5: ", "mesure", "measure"];
    check(
        &world,
        &[case(&["run"], 78, wrong), case(&["check-config"], 78, wrong), case(&["records"], 78, wrong)],
        |_| {},
    );
    let relative: &[&str] = &["METERD_SOCKET", "meterd.sock", "absolute"];
    check(&world, &[case(&["add", "requests", "1"], 78, relative), case(&["status"], 78, relative)], |command| {
        command.env("METERD_SOCKET", "meterd.sock");
    });
}

#[test]
fn no_agent() {
    let world = World::at_noon();
    let nobody: &[&str] = &["no agent answers at {socket}", "systemctl status meterd"];
    let nobody_decides: &[&str] = &["no agent answers at {admin}", "systemctl status meterd"];
    check(
        &world,
        &[
            case(&["add", "requests", "1"], 69, nobody),
            case(&["add", "-"], 69, nobody),
            case(&["status"], 69, nobody),
            case(&["records"], 69, nobody),
            case(&["settle", "1795262400", "requests", "carry"], 69, nobody_decides),
            case(&["release", "1795262400", "requests"], 69, nobody_decides),
            case(&["adopt"], 69, nobody_decides),
            case(&["discard"], 69, nobody_decides),
            case(&["seal", "--final"], 69, nobody_decides),
            case(&["status", "--socket", "{config}"], 69, &["{config}", "not a socket", "--socket"]),
            case(&["verify"], 76, &["{state}", "no wal/ in it", "state.dir"]),
            case(&["inspect", "{dir}"], 76, &["{dir}", "no wal/ in it", "state.dir"]),
            case(
                &["run", "--clock-speed", "60", "--config", "{dir}aws.toml"],
                64,
                &["submit.endpoint_url", "loopback"],
            ),
            case(&["demo", "--dir", "{dir}"], 1, &["{dir}", "empty"]),
            case(&["man", "{config}"], 1, &["{config}", "directory"]),
            case(&["run", "--dev", "--dir", "{config}"], 1, &["{config}", "--dir"]),
        ],
        |command| {
            let text = read(&world.config()).replace("endpoint_url = \"http://127.0.0.1:9\"", "");
            fs::write(world.path("aws.toml"), text).unwrap();
            command.stdin(std::process::Stdio::null());
        },
    );
}

#[test]
fn an_agent_that_refuses_or_is_in_the_way() {
    let world = World::at_noon();
    world.configure("http://127.0.0.1:9", EVERY_MEASURE, "", "");
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5,"key":"k"}"#)["ok"], true);
    check(
        &world,
        &[
            case(&["add", "request", "1"], 1, &["unknown_dimension", "\"request\"", "configured: ", "requests"]),
            case(&["add", "requests", "1,5"], 1, &["bad_quantity", "1,5", "decimal"]),
            case(&["add", "requests"], 1, &["bad_quantity", "requests", "quantity"]),
            case(&["add", "requests", "0.1234567"], 1, &["bad_quantity", "0.1234567", "6 decimals"]),
            case(&["add", "requests", "6", "--key", "k"], 1, &["key_conflict", "\"k\"", "a new key"]),
            case(&["add", "requests", "6", "--key", ""], 1, &["bad_key", "1-128 bytes"]),
            case(&["add", "requests", "6", "--at", "noon"], 1, &["bad_request", "noon", "RFC 3339"]),
            case(
                &["add", "requests", "6", "--at", "2020-01-01T00:00:00Z"],
                1,
                &["time_out_of_range", "2020", "7 days"],
            ),
            case(&["add", "peak", "1", "--tag", "a=b"], 1, &["bad_tags", "peak", "sum"]),
            case(
                &["settle", "1795262400", "requests", "carry"],
                1,
                &["requests 2026-11-21T12:00:00Z", "meterd records"],
            ),
            case(
                &["release", "1795262400", "requests"],
                1,
                &["requests 2026-11-21T12:00:00Z", "meterd records --state held"],
            ),
            case(&["adopt"], 1, &["nothing to decide", "another instance"]),
            case(&["discard", "i-nobody"], 1, &["nothing to decide", "another instance"]),
            case(&["run"], 73, &["{state} is in use by another meterd", "pid ", "state.dir"]),
            case(&["scrub"], 73, &["{state} is in use by another meterd", "stop the agent first"]),
            case(&["status", "--socket", "{admin}"], 69, &["{admin}", "/v1/status", "--socket"]),
        ],
        |_| {},
    );
    agent.stop();
    check(&world, &[case(&["scrub"], 1, &["{state}", "not sent", "--discard-unsent"])], |_| {});
    let wal = world.state().join("wal");
    for entry in fs::read_dir(&wal).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    check(
        &world,
        &[
            case(&["verify"], 76, &["{state}", "no segment", "state.dir"]),
            case(&["inspect"], 76, &["{state}", "no segment", "state.dir"]),
        ],
        |_| {},
    );
}

/// Nobody's, on most systems.
const STRANGER: u32 = 65534;

#[test]
fn somebody_who_may_not() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be somebody else");
        return;
    }
    let world = World::at_noon();
    let agent = world.start();
    let stranger = |command: &mut Command| {
        command.uid(STRANGER).gid(STRANGER);
    };
    let may_not_write: &[&str] = &["{socket}", "Permission denied", "group", "usermod -aG"];
    let may_not_decide: &[&str] = &["{admin}", "Permission denied", "root", "sudo"];
    check(
        &world,
        &[
            case(&["add", "requests", "1"], 69, may_not_write),
            case(&["status"], 69, may_not_write),
            case(&["records"], 69, may_not_write),
            case(&["settle", "1795262400", "requests", "carry"], 69, may_not_decide),
            case(&["seal", "--final"], 69, may_not_decide),
            case(&["adopt"], 69, may_not_decide),
            case(&["verify"], 76, &["{state}", "Permission denied", "root"]),
            case(&["scrub"], 73, &["{state}", "Permission denied", "root"]),
        ],
        stranger,
    );
    agent.stop();
    check(&world, &[case(&["run"], 73, &["{state}", "Permission denied", "root"])], |command| {
        stranger(command);
        command.args(world.clock.flags());
    });
    fs::set_permissions(world.config(), fs::Permissions::from_mode(0o600)).unwrap();
    let hidden: &[&str] = &["{config}", "Permission denied", "let the agent's user read it"];
    check(&world, &[case(&["check-config"], 78, hidden), case(&["status"], 78, hidden)], stranger);
}
