//! The promise of the one exception: a crash in mid-request that outlasts the window leaves that one record in doubt, and
//! a person's word settles it, once.

use std::thread;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{Agent, NOON, World, units, wait_until};

/// An hour takes two seconds.
const SPEED: u32 = 1800;

/// A record of 7 of eleven o'clock, in doubt. `taken`: AWS took it before the crash.
fn in_doubt(taken: bool) -> (World, FakeAws) {
    let mut world = World::new(NOON - 300, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), "[[dimension]]\nname = \"requests\"\n", "", "");
    aws.fault(&json!({ "kind": "hang", "recorded": taken, "dry_run": false }));
    let mut agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":7}"#)["ok"], true);
    wait_until("the request is under way", || aws.calls().len() == 1);
    agent.kill();
    drop(agent);
    aws.mend();
    // The window passes while nobody is there.
    let over = world.clock.now() + 7.0 * 3600.0;
    wait_until("the window has passed", || world.clock.now() > over);
    (world, aws)
}

fn the_record(world: &World) -> Value {
    let records = world.records();
    records.into_iter().find(|r| r["quantity"] == 7 && r["carried_in"] == "0").expect("the record")
}

/// What must be so while it waits: it is shown, with what is known, and nothing of it goes out.
fn shown(world: &World, agent: &Agent<'_>, aws: &FakeAws) -> String {
    wait_until("it is in doubt", || agent.status()["records"]["in_doubt"] == 1);
    let record = the_record(world);
    assert_eq!((&record["state"], &record["attempts"]), (&json!("in_doubt"), &json!(1)));
    assert!(record["last_error"].as_str().unwrap().contains("stopped before the answer"), "{record}");
    assert!(record["first_attempt"].is_string() && record["client_token"].is_string(), "{record}");
    let status = world.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.stdout.contains("settle"), "{status:?}");
    assert_eq!(units(&agent.books("requests"), "with_person"), 7);
    // Later hours go out beside it.
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":1}"#)["ok"], true);
    wait_until("a later hour is accepted", || agent.status()["records"]["accepted"] == 1);
    assert_eq!(aws.calls().iter().filter(|(_, body)| body["UsageQuantity"] == 7).count(), 1, "never sent again");
    let hour = record["hour"].as_str().unwrap().to_owned();
    let refused = world.run(&["settle", &hour, "requests", "retry"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    hour
}

/// Settles it, restarts after a crash, and finds all as it was; `total` is what AWS holds in the end.
fn settled(taken: bool, decision: &str, column: &str, total: u64) {
    let (world, aws) = in_doubt(taken);
    let mut agent = world.start();
    let hour = shown(&world, &agent, &aws);
    let said = world.run(&["settle", &hour, "requests", decision]);
    assert_eq!(said.code, 0, "{said:?}");
    let is_so = |agent: &Agent<'_>| {
        wait_until("nothing is on its way", || {
            let books = agent.books("requests");
            books["open"] == "0" && books["pending"] == "0"
        });
        let books = agent.books("requests");
        let parts = ["accepted", "discarded", "with_person"].map(|column| units(&books, column));
        let own = if column == "accepted" { [8, 0, 0] } else { [1, 7, 0] };
        assert_eq!((units(&books, "received"), parts), (8, own), "{decision}: {books:#}");
        assert_eq!(aws.ledger()["totals"]["requests"], total, "{decision}");
        assert_eq!(world.run(&["status"]).code, 0);
    };
    is_so(&agent);
    let before = world.records();
    agent.kill();
    let agent = world.start();
    is_so(&agent);
    assert_eq!(world.records(), before, "a restart changes nothing");
    let again = world.run(&["settle", &hour, "requests", "carry"]);
    assert_eq!(again.code, 1, "it is settled once: {again:?}");
    is_so(&agent);
}

#[test]
fn a_crash_in_mid_request_that_outlasts_the_window_is_settled_by_a_persons_word() {
    // They mostly wait.
    thread::scope(|scope| {
        let scenes = [
            scope.spawn(|| settled(true, "accepted", "accepted", 8)),
            scope.spawn(|| settled(false, "carry", "accepted", 8)),
            scope.spawn(|| settled(false, "write-off", "discarded", 1)),
        ];
        scenes.into_iter().for_each(|scene| scene.join().expect("the scene's own words are above"));
    });
}
