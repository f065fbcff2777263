//! The promise of starts and stops: what was acknowledged is there, what is not allowed is refused with its exit code.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use meterd::disk::RealDisk;
use meterd::entry::kind;
use meterd::wal::open;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{DIMENSIONS, NOON, World, each_file, read, units, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The newest segment: the spares are not part of the log yet.
fn inodes(world: &World) -> Vec<(PathBuf, u64)> {
    let segments = files(&world.state().join("wal")).into_iter();
    let of_log = segments.filter(|path| !path.to_string_lossy().contains("spare"));
    of_log.map(|path| (path.clone(), fs::metadata(&path).unwrap().ino())).collect()
}

/// Not only what writers send: seals, answers of AWS and starts too are followed by a mark, and written twice.
#[test]
fn what_no_writer_caused_is_marked_and_repeated_too() {
    let world = World::at_noon();
    let _agent = world.start();
    let disk = RealDisk::new(world.state());
    let kinds = || {
        let mut kinds = Vec::new();
        // What is being appended may be seen in part.
        let _ = open::replay(&disk, 1, kind::CHECKPOINT, &mut |entry| {
            kinds.push(entry.kind);
            Ok(())
        });
        kinds
    };
    wait_until("the start stands in the log twice", || kinds().contains(&kind::ECHO));
}

#[test]
fn a_stop_in_order_answers_everybody_leaves_the_hour_open_and_goes_on_in_the_same_place() {
    let world = World::at_noon();
    let mut agent = world.start();
    let mut client = agent.lines();
    let mut seq = 0;
    for signal in [Signal::TERM, Signal::INT] {
        // Everything that was written before the signal is answered.
        client.send(format!("{ONE}\n").repeat(2000));
        agent.signal(signal);
        for _ in 0..2000 {
            seq += 1;
            assert_eq!(client.answer()["seq"], seq);
        }
        assert_eq!(client.line(), None);
        assert_eq!(agent.wait().code(), Some(0), "{}", agent.log());
        let before = inodes(&world);
        assert!(!before.is_empty());
        agent = world.start();
        assert_eq!(inodes(&world), before, "no copy is made after a stop in order");
        client = agent.lines();
    }
    assert!(agent.log().contains("the log was closed in order"), "{}", agent.log());
    assert_eq!(world.records(), Vec::<Value>::new(), "the open hour was sealed");
    assert_eq!(agent.status()["open_hour"]["dimensions"][0], json!({ "name": "requests", "usage": seq.to_string() }));
    assert_eq!(client.ask(ONE)["seq"], seq + 1);
}

#[test]
fn nobody_new_is_let_in_while_it_stops_and_the_call_under_way_is_finished() {
    let mut world = World::new(NOON - 300, 600);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    aws.fault(&json!({ "kind": "slow", "delay_ms": 2000, "times": 1 }));
    let mut agent = world.start();
    assert_eq!(agent.tell(ONE)["ok"], true);
    let mut client = agent.lines();
    wait_until("the record is on its way", || aws.ledger()["calls"] == 1);
    agent.signal(Signal::TERM);
    wait_until("nobody is let in", || crate::socket::Lines::try_connect(&world.socket()).is_err());
    // Who is in already is served to the end.
    assert_eq!(client.ask(ONE)["ok"], true);
    assert_eq!(agent.wait().code(), Some(0));
    let agent = world.start();
    let records = world.records();
    let first = records.iter().find(|r| r["state"] == "accepted").unwrap_or_else(|| panic!("{records:#?}"));
    assert_eq!((&first["attempts"], &first["quantity"]), (&json!(1), &json!(1)), "its outcome was written down");
    assert_eq!(units(&agent.books("requests"), "received"), 2);
}

#[test]
fn a_second_agent_on_the_same_state_is_refused_and_told_of_the_first() {
    let world = World::at_noon();
    let agent = world.start();
    let second = world.refused();
    assert_eq!(second.code, 73, "{second:?}");
    assert!(second.stderr.contains(&format!("pid {}", agent.pid())), "{second:?}");
    assert_eq!(agent.tell(ONE)["ok"], true, "the first one is not harmed");
    // Another state directory, the same socket: the one that answers there keeps it.
    let elsewhere = read(&world.config()).replace("/state\"", "/other\"");
    let config = world.path("other.toml");
    fs::write(&config, elsewhere).unwrap();
    let third = crate::world::Ran::of(world.run_command().env("METERD_CONFIG", &config));
    assert_eq!(third.code, 1, "{third:?}");
    assert!(third.stderr.contains("in use"), "{third:?}");
    assert_eq!(agent.tell(ONE)["ok"], true, "the first one is not harmed");
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() {
    let world = World::at_noon();
    world.configure("http://127.0.0.1:9", "[[dimension]]\nname = \"requests\"\nunti = \"5\"\n", "", "");
    let refused = world.refused();
    assert_eq!(refused.code, 78);
    assert!(refused.stderr.contains(&format!("{}:5: ", world.config().display())), "{refused:?}");
    assert!(refused.stderr.contains("unti"), "{refused:?}");
    fs::remove_file(world.config()).unwrap();
    let refused = world.refused();
    assert_eq!(refused.code, 78);
    assert!(refused.stderr.contains("there is no such file"), "{refused:?}");
    assert!(!world.state().exists());
}

#[test]
fn the_socket_has_the_mode_that_is_configured_and_a_dead_ones_file_is_replaced() {
    let world = World::at_noon();
    let mode = || fs::metadata(world.socket()).unwrap().permissions().mode() & 0o7777;
    let mut agent = world.start();
    assert_eq!(mode(), 0o660);
    assert_eq!(fs::metadata(world.state()).unwrap().permissions().mode() & 0o7777, 0o700);
    agent.kill();
    let text = read(&world.config()).replace("[state]", "mode = \"0600\"\n[state]");
    fs::write(world.config(), text).unwrap();
    let agent = world.start();
    assert_eq!(mode(), 0o600);
    assert_eq!(agent.tell(ONE)["ok"], true);
}

#[test]
fn usage_is_taken_where_neither_aws_nor_metadata_nor_credentials_exist() {
    let world = World::at_noon();
    let text = read(&world.config()).replace("region = \"us-east-1\"\n", "").replace("\"environment\"", "\"instance\"");
    fs::write(world.config(), text).unwrap();
    let mut command = world.run_command();
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"] {
        command.env_remove(name);
    }
    // Nobody answers there.
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9").env("HOME", "/nowhere");
    let agent = world.start_with(command);
    assert_eq!(agent.tell(ONE), json!({ "ok": true, "seq": 1 }));
    assert_eq!(world.run(&["status"]).code, 0);
    agent.stop();
}

#[test]
fn real_usage_and_a_tests_are_never_mixed() {
    let world = World::at_noon();
    let test = read(&world.config());
    // A name that nobody has: were a call made, it would reach nobody.
    let real = test.replace("http://127.0.0.1:9", "https://metering.invalid");
    let run = |text: &str, clock: bool| {
        fs::write(world.config(), text).unwrap();
        if clock { world.run_command() } else { world.meterd(&["run"]) }
    };
    world.start_with(run(&test, true)).stop();
    let refused = crate::world::Ran::of(&mut run(&real, false));
    assert_eq!(refused.code, 73, "{refused:?}");
    assert!(refused.stderr.contains("a test's usage"), "{refused:?}");
    // The machine's clock does not make it real: the endpoint is a loopback address.
    world.start_with(run(&test, false)).stop();

    fs::remove_dir_all(world.state()).unwrap();
    let agent = world.start_with(run(&real, false));
    assert_eq!(agent.tell(ONE)["ok"], true);
    agent.stop();
    for clock in [true, false] {
        let refused = crate::world::Ran::of(&mut run(&test, clock));
        assert_eq!(refused.code, 73, "{refused:?}");
        assert!(refused.stderr.contains("real usage"), "{refused:?}");
    }
    let agent = world.start_with(run(&real, false));
    assert_eq!(units(&agent.books("requests"), "received"), 1);
    // A clock of its own would make real usage wrong.
    for flag in ["--clock-start=2026-11-21T12:00:00Z", "--clock-speed=2"] {
        let refused = crate::world::Ran::of(world.meterd(&["run"]).arg(flag));
        assert_eq!(refused.code, 64, "{refused:?}");
        assert!(refused.stderr.contains("submit.endpoint_url"), "{refused:?}");
    }
}

#[test]
fn state_that_a_reboot_empties_is_refused_unless_that_is_wanted() {
    match rustix::fs::statfs("/dev/shm") {
        Ok(found) if found.f_type == 0x0102_1994 => {}
        other => return println!("skipped: /dev/shm is no tmpfs: {:?}", other.map(|found| found.f_type)),
    }
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return println!("skipped: /dev/shm cannot be written") };
    let world = World::at_noon();
    let wanted = read(&world.config()).replace(world.state().to_str().unwrap(), dir.path().to_str().unwrap());
    fs::write(world.config(), wanted.replace("allow_volatile = true", "allow_volatile = false")).unwrap();
    let refused = world.refused();
    assert_eq!(refused.code, 73, "{refused:?}");
    assert!(refused.stderr.contains("tmpfs") && refused.stderr.contains("allow_volatile"), "{refused:?}");
    fs::write(world.config(), wanted).unwrap();
    assert_eq!(world.start().tell(ONE)["ok"], true);
}

/// What may happen to a cache while nobody looks.
type Harm = (&'static str, fn(&Path, &Path));

const HARMS: [Harm; 9] = [
    ("nothing", |_, _| {}),
    ("deleted", |index, _| fs::remove_dir_all(index).unwrap()),
    ("emptied", |index, _| each_file(index, |path| fs::write(path, b"").unwrap())),
    ("cut in half", |index, _| {
        each_file(index, |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        });
    }),
    ("zeroed", |index, _| each_file(index, |path| fs::write(path, vec![0; read_bytes(path).len()]).unwrap())),
    ("scribbled on", |index, _| {
        each_file(index, |path| {
            let mut bytes = read_bytes(path);
            bytes.iter_mut().skip(100).step_by(997).for_each(|byte| *byte ^= 0x55);
            fs::write(path, bytes).unwrap();
        });
    }),
    ("replaced by another log's", |index, other| {
        fs::remove_dir_all(index).unwrap();
        fs::rename(other, index).unwrap();
    }),
    ("a file", |index, _| {
        fs::remove_dir_all(index).unwrap();
        fs::write(index, b"no directory").unwrap();
    }),
    ("without its settings", |index, _| fs::remove_file(index.join("conf")).unwrap()),
];

fn read_bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn whatever_happens_to_the_index_nothing_changes_for_the_user() {
    let mut world = World::new(NOON - 300, 600);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let mut agent = world.start();
    let keyed = |n: usize| format!(r#"{{"dimension":"requests","quantity":1,"key":"key-{n}"}}"#);
    let mut client = agent.lines();
    // Enough that the index has been written, and some that it has not.
    let keys = 40_000;
    for first in (0..keys).step_by(2000) {
        client.send((first..first + 2000).map(|n| keyed(n) + "\n").collect::<String>());
        for n in first..first + 2000 {
            assert_eq!(client.answer()["seq"], n + 1);
        }
    }
    wait_until("every record is final", || {
        let books = agent.books("requests");
        books["open"] == "0" && books["pending"] == "0"
    });
    let before = world.records();
    let billed: u64 = before.iter().map(|r| r["quantity"].as_u64().unwrap()).sum();
    assert_eq!(billed, keys as u64);
    for (what, harm) in HARMS {
        agent.kill();
        let index = world.state().join("index");
        // Another log's index, with other keys in it.
        let other = World::at_noon();
        let stranger = other.start();
        let told = stranger.tell(&keyed(0).replace("gigabytes", "requests").replace(":1,", ":7,"));
        assert_eq!(told["ok"], true);
        stranger.stop();
        harm(&index, &other.state().join("index"));
        agent = world.start();
        let mut client = agent.lines();
        for n in [0, 1, keys / 2, keys - 1] {
            let known = json!({ "ok": true, "seq": n + 1, "duplicate": true });
            assert_eq!(client.ask(&keyed(n)), known, "after it was {what}");
        }
        let records = world.records();
        assert_eq!(records, before, "after it was {what}");
        assert_eq!(units(&agent.books("requests"), "received"), keys as u64);
        assert_eq!(world.run(&["status"]).code, 0, "after it was {what}");
    }
}

#[test]
fn a_rebuilt_index_knows_every_segment() {
    let world = World::at_noon();
    let mut agent = world.start();
    let keyed = |n: usize| format!(r#"{{"dimension":"requests","quantity":1,"key":"{}{n}"}}"#, "k".repeat(100));
    let mut client = agent.lines();
    let mut seq = 0;
    while agent.status()["log"]["segments"].as_u64().unwrap() < 4 {
        client.send((seq..seq + 2000).map(|n| keyed(n) + "\n").collect::<String>());
        for _ in 0..2000 {
            seq += 1;
            assert_eq!(client.answer()["seq"], seq);
        }
    }
    for stop in [false, true] {
        if stop {
            agent.stop();
        } else {
            agent.kill();
        }
        fs::remove_dir_all(world.state().join("index")).unwrap();
        agent = world.start();
        let mut client = agent.lines();
        for n in (0..seq).step_by(seq / 50) {
            assert_eq!(client.ask(&keyed(n)), json!({ "ok": true, "seq": n + 1, "duplicate": true }));
        }
        assert_eq!(units(&agent.books("requests"), "received"), seq as u64);
    }
}

#[test]
fn a_writer_that_the_agents_name_space_does_not_see_is_served() {
    // As between two containers that share the socket: the kernel tells no process id then.
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
    if !unshare.arg("true").status().is_ok_and(|status| status.success()) {
        return println!("skipped: name spaces cannot be made here");
    }
    let world = World::at_noon();
    let inside = world.run_command();
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
    command.arg(inside.get_program()).args(inside.get_args()).current_dir(world.path(""));
    for (name, value) in inside.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let agent = world.start_with(command);
    assert_eq!(agent.tell(ONE), json!({ "ok": true, "seq": 1 }));
}
