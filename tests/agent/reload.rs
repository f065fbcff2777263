//! The promise of SIGHUP and `meterd reload`: the configuration is read again, all of it or nothing; no writer notices,
//! and the books are even.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::aws::writer;
use crate::world::{DIMENSIONS, World, read, units, wait_until};

const NOBODY: &str = "http://127.0.0.1:9";
const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;

fn refused(status: &Value) -> Option<String> {
    let item = status["attention"].as_array().unwrap().iter().find(|item| item["code"] == "config_refused")?;
    Some(item["message"].as_str().unwrap().to_owned())
}

#[test]
fn under_load_it_is_in_force_between_two_increments_and_the_books_are_even() {
    let world = World::at_noon();
    let mut agent = world.start();
    let done = AtomicBool::new(false);
    let tallies: Vec<u64> = thread::scope(|scope| {
        let busy = ["a", "b"].map(|name| scope.spawn(|| writer(&world, name, "requests", 2, &done)));
        let mut added = Vec::new();
        for n in 0..5 {
            let name = format!("added{n}");
            let more = format!("{DIMENSIONS}hold_above = \"{}\"\n[[dimension]]\nname = {name:?}\n", 1000 + n);
            world.configure(NOBODY, &more, "", "");
            agent.signal(Signal::HUP);
            let one = format!(r#"{{"dimension":{name:?},"quantity":1}}"#);
            wait_until("the new dimension is taken", || agent.tell(&one)["ok"] == true);
            // What is not in the file any more is not taken.
            added.push(one);
            if let Some(before) = added.iter().rev().nth(1) {
                assert_eq!(agent.tell(before)["error"], "unknown_dimension");
            }
            assert_eq!(refused(&agent.status()), None);
        }
        done.store(true, Ordering::Relaxed);
        busy.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let received = |agent: &crate::world::Agent<'_>| {
        let status = agent.status();
        ["requests", "added0", "added4"].map(|name| units(&crate::world::books(&status, name), "received"))
    };
    let expected = [tallies.iter().sum(), 1, 1];
    assert_eq!(received(&agent), expected);
    agent.kill();
    // As the log has it, which the last change stands in.
    let agent = world.start();
    assert_eq!(received(&agent), expected);
    let ran = world.run(&["inspect", "--json", "--kind", "setup"]);
    assert_eq!(ran.stdout.lines().count(), 6, "one at the start and five changes, each written once: {ran:?}");
    agent.stop();
    assert_eq!(world.run(&["verify"]).code, 0);
}

#[test]
fn what_is_wrong_or_takes_a_restart_is_refused_whole_until_it_is_mended() {
    let world = World::at_noon();
    let agent = world.start();
    let good = read(&world.config());
    let new = "[[dimension]]\nname = \"new\"\n";
    let reload = |text: &str| {
        fs::write(world.config(), text).unwrap();
        world.run(&["reload"])
    };
    let is_as_before = || {
        assert_eq!(agent.tell(r#"{"dimension":"new","quantity":1}"#)["error"], "unknown_dimension");
        assert_eq!(agent.tell(ONE)["ok"], true);
    };

    // A mistake: what `check-config` says, with its line.
    let bad = format!("{good}{new}unti = \"5\"\n");
    let ran = reload(&bad);
    let said = world.run(&["check-config"]).stderr;
    assert_eq!((ran.code, ran.stderr.trim_start_matches("meterd: ")), (78, said.as_str()), "{ran:?}");
    assert!(said.contains(&format!("meterd.toml:{}: ", bad.lines().count())), "{said}");
    assert!(refused(&agent.status()).is_some_and(|why| why.contains(said.trim())), "{:?}", refused(&agent.status()));
    assert!(agent.log().contains(said.trim()), "{}", agent.log());
    is_as_before();
    let ran = world.run(&["status", "--socket", world.socket().to_str().unwrap()]);
    assert!(ran.code == 1 && ran.stdout.contains("systemctl reload meterd"), "{ran:?}");

    // What only a restart can change, each by its name, and nothing of the rest.
    for (key, from, to) in [
        ("product.code", "\"prod\"", "\"other\""),
        ("state.dir", "/state\"", "/elsewhere\""),
        ("state.segment_bytes", "1048576", "2097152"),
        ("socket.path", "/meterd.sock\"", "/other.sock\""),
        ("submit.endpoint_url", NOBODY, "http://127.0.0.1:10"),
        ("submit.region", "us-east-1", "eu-west-1"),
        ("submit.credentials", "\"environment\"", "\"instance\""),
        ("instance.id", "\"i-test\"", "\"i-other\""),
        ("dimension.measure of requests", "name = \"requests\"\n", "name = \"requests\"\nmeasure = \"max\"\n"),
    ] {
        let changed = good.replace(from, to) + new;
        fs::write(world.config(), changed).unwrap();
        agent.signal(Signal::HUP);
        let line = format!("{key} cannot change while the agent runs");
        wait_until(key, || refused(&agent.status()).is_some_and(|why| why.contains(&line)));
        is_as_before();
    }

    // Mended.
    assert_eq!(reload(&format!("{good}{new}")).code, 0);
    assert_eq!(refused(&agent.status()), None);
    assert_eq!(agent.tell(r#"{"dimension":"new","quantity":1}"#)["ok"], true);
    // Another gate, too.
    assert_eq!(reload(&format!("{good}{new}[gate]\nwarn_after = \"2h\"\n")).code, 0);
    let entries = world.run(&["inspect", "--json", "--kind", "setup"]).stdout;
    assert_eq!(entries.lines().count(), 2, "what the log need not know is not in it: {entries}");
    // Nobody who may not.
    drop(agent);
    assert_eq!(world.run(&["reload"]).code, 69);
}

#[test]
fn every_key_is_decided_and_documented() {
    let page = read(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/CONFIG.md")));
    let table = page.split_once("| key | while it runs | |").unwrap().1.split_once("\n\n").unwrap().0;
    let mut documented: Vec<(String, bool)> = Vec::new();
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let section = cells[1].trim_matches('`').split('.').next().unwrap();
        for key in cells[1].split(", ").map(|key| key.trim_matches('`')) {
            let key = if key.contains('.') { key.to_owned() } else { format!("{section}.{key}") };
            documented.push((key, cells[2] == "restart"));
        }
    }
    documented.sort();
    let config = meterd::config::Config::parse("[product]\ncode = \"p\"\n[[dimension]]\nname = \"d\"\n", "d").unwrap();
    let mut keys: Vec<(String, bool)> = Vec::new();
    for (section, value) in config.to_json().as_object().unwrap() {
        let table = if *section == "dimension" { &value[0] } else { value };
        for key in table.as_object().unwrap().keys() {
            let key = format!("{section}.{key}");
            let at_start = meterd::config::reload::AT_START.iter().any(|(name, _)| *name == key);
            keys.push((key, at_start));
        }
    }
    keys.sort();
    assert_eq!(documented, keys);
    assert_eq!(keys.iter().filter(|(_, at_start)| *at_start).count(), meterd::config::reload::AT_START.len());
}
