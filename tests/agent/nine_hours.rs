//! Outages longer than the window, with crashes in them, and weeks without AWS: AWS ends up with exactly what was received.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::{Value, json};

use crate::aws::writer;
use crate::fake_aws::FakeAws;
use crate::world::{Agent, NOON, TestClock, World, books, units, wait_until};

/// An hour takes a second.
const SPEED: u32 = 3600;
const HOUR: f64 = 3600.0;
const DIMENSIONS: &str = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"bytes\"\nunit = \"1000\"\n";

fn in_state<'r>(records: &'r [Value], state: &str) -> Vec<&'r Value> {
    records.iter().filter(|r| r["state"] == state).collect()
}

fn nothing_on_its_way(agent: &Agent<'_>) {
    wait_until("nothing is on its way", || {
        let status = agent.status();
        ["requests", "bytes"].map(|name| books(&status, name)).iter().all(|b| b["open"] == "0" && b["pending"] == "0")
    });
}

/// Nine hours of this fault with four `kill -9` in them, and one after; writers that go on all the time.
fn nine_hours(fault: &str) {
    let mut world = World::new(NOON - 600, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let done = AtomicBool::new(false);
    let (mut agent, world, done) = (world.start(), &world, &done);
    let (requests, bytes) = thread::scope(|scope| {
        let requests = scope.spawn(move || writer(world, "a", "requests", 1, done));
        let bytes = scope.spawn(move || writer(world, "b", "bytes", 617, done));
        wait_until("AWS has a record", || agent.status()["records"]["accepted"] != 0);
        aws.fault(&json!({ "kind": fault, "until": "+9h" }));
        let begun = world.clock.now();
        for at in [1.7, 4.2, 6.6, 8.9, 10.3] {
            while world.clock.now() < begun + at * HOUR {
                sleep(Duration::from_millis(5));
            }
            agent.kill();
            agent = world.start();
        }
        while world.clock.now() < begun + 11.5 * HOUR {
            sleep(Duration::from_millis(5));
        }
        done.store(true, Ordering::Relaxed);
        (requests.join().unwrap(), bytes.join().unwrap())
    });
    nothing_on_its_way(&agent);
    let records = world.records();
    assert!(in_state(&records, "carried").len() >= 2, "the outage was longer than the window: {records:#?}");
    // An attempt that a crash or a lost answer left open when the window passed: one an outage, and AWS has none of it.
    let doubt = in_state(&records, "in_doubt");
    assert!(doubt.len() <= 1, "{doubt:#?}");
    assert!(fault != "internal_error" || doubt.len() == 1, "the first 500 left one in doubt: {records:#?}");
    for record in doubt {
        let (hour, dimension) = (record["hour"].as_str().unwrap(), record["dimension"].as_str().unwrap());
        assert_eq!(world.run(&["settle", hour, dimension, "carry"]).code, 0);
    }
    nothing_on_its_way(&agent);
    let (of_requests, of_bytes, ledger) = (agent.books("requests"), agent.books("bytes"), aws.ledger());
    assert_eq!((units(&of_requests, "received"), units(&of_bytes, "received")), (requests, bytes));
    assert_eq!(ledger["totals"]["requests"], requests, "{of_requests:#}");
    assert_eq!(
        ledger["totals"]["bytes"].as_u64().unwrap() * 1000 + units(&of_bytes, "remainder"),
        bytes,
        "{of_bytes:#}"
    );
    assert_eq!((units(&of_requests, "with_person"), units(&of_bytes, "with_person")), (0, 0));
    let status = world.run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    for hours in [1, 2, 4, 5] {
        assert!(agent.log().contains(&format!("not accepted by AWS {hours} h after its hour")), "{hours}");
    }
}

#[test]
fn hours_and_weeks_without_aws_and_with_crashes_cost_nothing() {
    // They mostly wait.
    thread::scope(|scope| {
        let scenes = [
            scope.spawn(|| nine_hours("refuse_connection")),
            scope.spawn(|| nine_hours("internal_error")),
            scope.spawn(after_three_weeks_without_aws_all_of_it_is_billed_once),
        ];
        scenes.into_iter().for_each(|scene| scene.join().expect("the scene's own words are above"));
    });
}

fn after_three_weeks_without_aws_all_of_it_is_billed_once() {
    // An hour takes 36 ms, and nobody is there.
    let mut world = World::new(NOON, 100_000);
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "");
    let agent = world.start();
    let mut client = agent.lines();
    let (mut requests, mut bytes) = (0, 0);
    while world.clock.now() < NOON as f64 + 21.0 * 24.0 * HOUR {
        assert_eq!(client.ask(r#"{"dimension":"requests","quantity":3}"#)["ok"], true);
        assert_eq!(client.ask(r#"{"dimension":"bytes","quantity":617}"#)["ok"], true);
        (requests, bytes) = (requests + 3, bytes + 617);
        sleep(Duration::from_millis(20));
    }
    agent.stop();
    // AWS comes, and hours take their time again.
    world.clock = TestClock::new(world.clock.now() as i64, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let agent = world.start();
    nothing_on_its_way(&agent);
    let (ledger, of_bytes) = (aws.ledger(), agent.books("bytes"));
    assert_eq!(ledger["totals"]["requests"], requests, "{:#}", agent.books("requests"));
    assert_eq!(
        ledger["totals"]["bytes"].as_u64().unwrap() * 1000 + units(&of_bytes, "remainder"),
        bytes,
        "{of_bytes:#}"
    );
    assert_eq!(units(&agent.books("requests"), "received"), requests);
    let records = world.records();
    assert!(in_state(&records, "carried").len() > 100, "{}", records.len());
    let accepted = in_state(&records, "accepted").iter().filter_map(|r| r["quantity"].as_u64()).sum::<u64>();
    let held = ledger["records"].as_array().unwrap().iter().filter_map(|r| r["quantity"].as_u64()).sum::<u64>();
    assert_eq!(accepted, held);
    assert_eq!(world.run(&["status"]).code, 0);
}
