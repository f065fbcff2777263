//! The promise of the allow-lists: who is not listed writes nothing, reads nothing and learns nothing, at every entrance.
//!
//! Other users are processes that this one starts under other ids, so the tests need root, and Python as their client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::socket::{get, post, request};
use crate::world::{Agent, DIMENSIONS, Ran, World, units};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
const OTHER: &str = r#"{"dimension":"gigabytes","quantity":1}"#;

/// Sends what it is told and shows all that comes until the connection ends; shows its own process id first.
const CLIENT: &str = "
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode())
if not sys.argv[2][0].isalpha(): s.shutdown(socket.SHUT_WR)
print(os.getpid())
while True:
    got = s.recv(65536)
    if not got: break
    sys.stdout.write(got.decode())
";

/// The users of these tests; nobody in a data base has such an id.
const LISTED: (u32, u32) = (61_001, 61_001);
const STRANGER: (u32, u32) = (61_002, 61_002);
/// A stranger who runs under a listed group.
const MEMBER: (u32, u32) = (61_003, 61_010);
const READER: (u32, u32) = (61_004, 61_004);

/// A process of that user and group, `None` where this one cannot start any.
fn says(socket: &Path, (uid, gid): (u32, u32), bytes: &str) -> (u32, String) {
    let mut command = Command::new("python3");
    command.args(["-c", CLIENT]).arg(socket).arg(bytes).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    let ran = Ran::of(command.stdin(Stdio::null()).uid(uid).gid(gid));
    assert_eq!(ran.code, 0, "{ran:?}");
    let (pid, said) = ran.stdout.split_once('\n').unwrap();
    (pid.parse().unwrap(), said.to_owned())
}

/// The answer to one line of that user.
fn tells(socket: &Path, who: (u32, u32), line: &str) -> Value {
    let (_, said) = says(socket, who, &format!("{line}\n"));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// The status and body of that user's request.
fn asks(socket: &Path, who: (u32, u32), method: &str, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let (_, said) = says(socket, who, &(head + body));
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{said:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn cannot_be_others() -> bool {
    let python = Command::new("/usr/bin/python3").arg("-V").output().is_ok_and(|output| output.status.success());
    let cannot = !rustix::process::geteuid().is_root() || !python;
    if cannot {
        println!("skipped: needs root, to be other users, and /usr/bin/python3");
    }
    cannot
}

/// A world whose socket lets everybody in, with these lists.
fn listing(socket: &str, dimensions: &str) -> World {
    let world = World::at_noon();
    world.configure("http://127.0.0.1:9", dimensions, "", "");
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), text.replace("[socket]\n", &format!("[socket]\nmode = \"0666\"\n{socket}\n"))).unwrap();
    world
}

/// That it is refused with `not_allowed`, and that nothing of the configuration is in it.
fn nothing_told(answer: &Value) {
    assert_eq!((&answer["error"], &answer["retryable"]), (&json!("not_allowed"), &json!(false)), "{answer}");
    let text = answer.to_string();
    for secret in ["requests", "gigabytes", "61001", "61010", "/v1/", "prod"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(answer["message"].as_str().unwrap().contains("; ask "), "{answer}");
}

#[test]
fn a_stranger_is_told_that_and_nothing_else() {
    if cannot_be_others() {
        return;
    }
    let world = listing("allow_users = [61001]\nallow_groups = [61010]", DIMENSIONS);
    let agent = world.start();
    let socket = world.socket();
    for line in [ONE, "[]", "{nonsense", r#"{"dimension":"nothing"}"#, "\u{1}"] {
        nothing_told(&tells(&socket, STRANGER, line));
    }
    // Each line has its answer, so that a retry of all is told apart from one of some.
    let (_, said) = says(&socket, STRANGER, &format!("{ONE}\n{ONE}\n\n{OTHER}\n"));
    assert_eq!(said.lines().count(), 3, "{said}");
    nothing_told(&asks(&socket, STRANGER, "POST", "/v1/usage", ONE).1);
    for path in ["/v1/status", "/v1/records", "/v1/gate", "/metrics", "/healthz", "/v1/openapi.json", "/nothing", "/"] {
        for method in ["GET", "POST", "DELETE"] {
            let (status, answer) = asks(&socket, STRANGER, method, path, "");
            assert_eq!(status, 403, "{method} {path}: {answer}");
            nothing_told(&answer);
        }
    }
    for (who, expected) in [(LISTED, 1), (MEMBER, 2)] {
        assert_eq!(tells(&socket, who, ONE), json!({"ok": true, "seq": expected}));
        // Who may write may read.
        assert_eq!(asks(&socket, who, "GET", "/v1/status", "").0, 200);
        assert_eq!(asks(&socket, who, "GET", "/healthz", "").0, 200);
    }
    assert_eq!(asks(&socket, LISTED, "POST", "/v1/usage", ONE).0, 200);
    // Root reads everything and writes nothing, unless it is listed.
    nothing_told(&agent.tell(ONE));
    nothing_told(&post(&socket, ONE).json());
    assert_eq!(units(&agent.books("requests"), "received"), 3);
    let metrics = get(&socket, "/metrics").unwrap().body;
    // Four lines, the three of one connection, and one request; root's line and request. What opens neither is no increment.
    let counted = metrics.lines().find(|line| line.contains("not_allowed")).unwrap();
    assert_eq!(counted.split(' ').next_back(), Some("10"), "{counted}");
}

#[test]
fn a_dimension_has_its_own_list() {
    if cannot_be_others() {
        return;
    }
    let own = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabytes\"\nallow_users = [61002]\n";
    let world = listing("allow_users = [61001]", own);
    let _agent = world.start();
    let socket = world.socket();
    assert_eq!(tells(&socket, LISTED, ONE)["ok"], true);
    let denied = tells(&socket, LISTED, OTHER);
    assert_eq!((&denied["error"], &denied["index"]), (&json!("not_allowed"), &Value::Null), "{denied}");
    assert!(denied["message"].as_str().unwrap().contains("dimension \"gigabytes\""), "{denied}");
    let both = format!("[{ONE},{ONE},{OTHER}]");
    let denied = tells(&socket, LISTED, &both);
    assert_eq!((&denied["error"], &denied["index"]), (&json!("not_allowed"), &json!(2)), "{denied}");
    let (status, denied) = asks(&socket, LISTED, "POST", "/v1/usage", &both);
    assert_eq!((status, &denied["index"]), (403, &json!(2)), "{denied}");
    // The list stands in place of the socket's: who is on it writes this dimension and no other.
    assert_eq!(tells(&socket, STRANGER, OTHER)["ok"], true);
    assert_eq!(tells(&socket, STRANGER, ONE)["error"], "not_allowed");
    assert_eq!(asks(&socket, STRANGER, "GET", "/v1/status", "").0, 200);
    let status = get(&socket, "/v1/status").unwrap().json();
    assert_eq!([&status["books"][0]["received"], &status["books"][1]["received"]], ["1", "1"], "{status}");
}

#[test]
fn readers_have_a_list_of_their_own() {
    if cannot_be_others() {
        return;
    }
    let world = listing("allow_users = [61001]\nallow_read_users = [61004, \"root\"]", DIMENSIONS);
    let _agent = world.start();
    let socket = world.socket();
    for path in ["/v1/status", "/v1/records", "/v1/gate", "/metrics"] {
        let (status, answer) = asks(&socket, LISTED, "GET", path, "");
        assert_eq!((status, &answer["error"]), (403, &json!("not_allowed")), "{path}");
        assert_eq!(asks(&socket, READER, "GET", path, "").0, 200, "{path}");
    }
    for who in [LISTED, READER] {
        assert_eq!(asks(&socket, who, "GET", "/healthz", "").0, 200);
        assert_eq!(asks(&socket, who, "GET", "/v1/openapi.json", "").0, 200);
        assert_eq!(asks(&socket, who, "GET", "/nothing", "").0, 404);
    }
    assert_eq!(tells(&socket, LISTED, ONE)["ok"], true);
    assert_eq!(tells(&socket, READER, ONE)["error"], "not_allowed");
}

#[test]
fn commands_say_who_may_not_and_what_to_do() {
    if cannot_be_others() {
        return;
    }
    let world = listing("allow_users = [61001]", DIMENSIONS);
    let _agent = world.start();
    if world.meterd(&["--version"]).uid(STRANGER.0).current_dir("/").output().is_err() {
        println!("skipped: another user may not run the binary where it lies");
        return;
    }
    let run = |args: &[&str]| Ran::of(world.meterd(args).uid(STRANGER.0).gid(STRANGER.1).current_dir("/"));
    for args in [&["add", "requests", "1"][..], &["status"], &["status", "--json"], &["records"]] {
        let ran = run(args);
        assert_eq!(ran.code, 1, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("user 61002 may not") && ran.stderr.contains("; ask "), "{args:?}: {ran:?}");
    }
}

#[test]
fn members_of_a_group_are_looked_up_and_an_unknown_name_is_an_error() {
    if cannot_be_others() {
        return;
    }
    let world = listing("allow_users = [\"root\"]\nallow_groups = [\"meters\"]", DIMENSIONS);
    let refused = world.refused();
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains("there is no such group here"), "{refused:?}");
    // A data base of users in which that group has a member, for the agent alone.
    fs::write(world.path("passwd"), "root:x:0:0::/root:/bin/sh\nseldom:x:61002:61002::/:/bin/sh\n").unwrap();
    fs::write(world.path("group"), "root:x:0:\nmeters:x:61010:seldom\n").unwrap();
    let agent = world.run_command();
    let mut command = Command::new("unshare");
    let mount = "mount --bind passwd /etc/passwd && mount --bind group /etc/group && exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", mount, "sh"]).current_dir(world.path("."));
    command.arg(agent.get_program()).args(agent.get_args());
    for (name, value) in agent.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if !Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no right to make a mount name space");
        return;
    }
    let _agent = world.start_with(command);
    let socket = world.socket();
    assert_eq!(tells(&socket, STRANGER, ONE)["ok"], true, "as a member");
    assert_eq!(tells(&socket, MEMBER, ONE)["ok"], true, "under the group");
    nothing_told(&tells(&socket, READER, ONE));
}

/// The writers that `meterd inspect` shows, by dimension's increments.
fn writers(agent: Agent<'_>, world: &World) -> Vec<(u64, Value)> {
    agent.stop();
    let ran = world.run(&["inspect", "--json", "--kind", "usage", world.state().to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let entries = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["entry"].clone());
    let each = |entry: Value| {
        let writer = entry["by"].clone();
        let increments = entry["increments"].as_array().unwrap().clone();
        increments.into_iter().map(move |i| (i["seq"].as_u64().unwrap(), writer.clone())).collect::<Vec<_>>()
    };
    entries.flat_map(each).collect()
}

#[test]
fn who_wrote_what_is_in_the_log() {
    if cannot_be_others() {
        return;
    }
    let world = listing("", DIMENSIONS);
    let agent = world.start();
    let socket = world.socket();
    let mut expected = Vec::new();
    let mut wrote = |(uid, gid): (u32, u32), pid: u32, how_many: u64| {
        for _ in 0..how_many {
            expected.push((expected.len() as u64 + 1, json!({"uid": uid, "gid": gid, "pid": pid})));
        }
    };
    let (pid, _) = says(&socket, LISTED, &format!("{ONE}\n"));
    wrote(LISTED, pid, 1);
    let (pid, _) = says(&socket, MEMBER, &format!("[{ONE},{OTHER},{ONE}]\n{ONE}\n"));
    wrote(MEMBER, pid, 4);
    let keyed = r#"{"dimension":"requests","quantity":1,"key":"k","tags":{"a":"b"}}"#;
    let head =
        format!("POST /v1/usage HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", keyed.len());
    let (pid, said) = says(&socket, STRANGER, &(head + keyed));
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    wrote(STRANGER, pid, 1);
    // Two writers whose lines lie ready at once share a commit, and nothing else: the agent sleeps while they write.
    let (mut first, mut second) = (agent.lines(), agent.lines());
    agent.signal(rustix::process::Signal::STOP);
    let child = std::thread::spawn({
        let socket = socket.clone();
        move || says(&socket, READER, &format!("{ONE}\n{OTHER}\n"))
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    first.send(format!("{ONE}\n"));
    second.send(format!("{OTHER}\n"));
    agent.signal(rustix::process::Signal::CONT);
    let seqs = [first.answer(), second.answer()].map(|answer| answer["seq"].as_u64().unwrap());
    let (reader, said) = child.join().unwrap();
    let theirs: Vec<u64> =
        said.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["seq"].as_u64().unwrap()).collect();
    let me = json!({"uid": 0, "gid": rustix::process::getegid().as_raw(), "pid": std::process::id()});
    expected.extend(seqs.map(|seq| (seq, me.clone())));
    let reads = json!({"uid": READER.0, "gid": READER.1, "pid": reader});
    expected.extend(theirs.iter().map(|seq| (*seq, reads.clone())));
    expected.sort_by_key(|(seq, _)| *seq);
    assert_eq!(expected.len(), 10);
    let shown = writers(agent, &world);
    assert_eq!(shown, expected);
    let text = world.run(&["inspect", "--kind", "usage", world.state().to_str().unwrap()]).stdout;
    let (_, first) = &expected[0];
    assert!(text.contains(&format!("by uid 61001, gid 61001, pid {}: ", first["pid"])), "{text}");
}

#[test]
fn operators_decide_on_their_own_socket_and_nowhere_else() {
    if cannot_be_others() {
        return;
    }
    let world = listing("", DIMENSIONS);
    let _agent = world.start();
    let (socket, admin) = (world.socket(), world.path("admin.sock"));
    let mode = fs::metadata(&admin).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let settle = r#"{"hour":"2026-11-21T08:00:00Z","dimension":"requests","decision":"write-off"}"#;
    for path in ["/v1/settle", "/v1/release", "/v1/adopt", "/v1/discard", "/v1/seal"] {
        // Not even root decides anything where applications write.
        let answer = request(&socket, "POST", path, &[], settle.as_bytes()).unwrap();
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    // Should the file's mode ever be another: the agent looks at the peer itself.
    fs::set_permissions(&admin, fs::Permissions::from_mode(0o666)).unwrap();
    for path in ["/v1/settle", "/v1/release", "/v1/adopt", "/v1/discard", "/v1/seal", "/v1/openapi.json", "/nothing"] {
        for method in ["POST", "GET"] {
            let (status, answer) = asks(&admin, STRANGER, method, path, settle);
            assert_eq!((status, &answer["error"]), (403, &json!("not_allowed")), "{method} {path}: {answer}");
        }
    }
    assert_eq!(request(&admin, "POST", "/v1/settle", &[], settle.as_bytes()).unwrap().status, 409);
}
