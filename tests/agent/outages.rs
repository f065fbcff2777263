//! The promise of the outage: however long, it costs nothing and bills nothing twice; at most one record stays in doubt.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::socket::Lines;
use crate::world::{Agent, NOON, World, units, wait_until};

/// An hour takes two seconds.
const SPEED: u32 = 1800;

fn scene(submit: &str) -> (World, FakeAws) {
    let mut world = World::new(NOON - 300, SPEED);
    let aws = FakeAws::simulation(&mut world, &["--window", "1h"]);
    let submit = format!("window = \"1h\"\n{submit}");
    world.configure(&aws.url(), "[[dimension]]\nname = \"requests\"\n", &submit, "");
    (world, aws)
}

/// Reports usage until the clock shows `until`; how much.
fn busy(world: &World, client: &mut Lines, until: f64) -> u64 {
    let mut tally = 0;
    while world.clock.now() < until {
        assert_eq!(client.ask(r#"{"dimension":"requests","quantity":1}"#)["ok"], true);
        tally += 1;
        sleep(Duration::from_millis(50));
    }
    tally
}

/// Usage, an outage of four hours (four times the window) of this kind, and usage after it; the sum of it.
fn through_an_outage(world: &World, aws: &FakeAws, agent: &Agent<'_>, fault: &Value) -> u64 {
    let mut client = agent.lines();
    let mut tally = busy(world, &mut client, world.clock.now() + 1800.0);
    wait_until("AWS has a record", || agent.status()["records"]["accepted"] != 0);
    let mut fault = fault.clone();
    fault["until"] = json!("+4h");
    aws.fault(&fault);
    let end = world.clock.now() + 4.0 * 3600.0;
    tally += busy(world, &mut client, end + 3600.0);
    // All of it: sealed, and either with AWS or with somebody.
    wait_until("nothing is on its way", || {
        let books = agent.books("requests");
        books["open"] == "0" && books["pending"] == "0"
    });
    assert_eq!(units(&agent.books("requests"), "received"), tally);
    tally
}

fn in_state<'r>(records: &'r [Value], state: &str) -> Vec<&'r Value> {
    records.iter().filter(|r| r["state"] == state).collect()
}

/// Every carried record names a later one that took it, and the ones that took say how much.
fn check_carries(records: &[Value]) {
    let carried = in_state(records, "carried");
    assert!(carried.len() >= 2, "{records:#?}");
    for record in &carried {
        let into = record["carried_into"].as_str().expect("the hour that took it");
        assert!(into > record["hour"].as_str().unwrap(), "{record}");
        let taker = records.iter().find(|r| r["hour"] == into).expect("a record of that hour");
        assert_ne!(taker["carried_in"], "0", "{taker}");
        assert!(taker["quantity"].as_u64() >= record["quantity"].as_u64(), "{taker} took {record}");
    }
}

fn units_of(records: &[&Value]) -> u64 {
    records.iter().map(|r| r["quantity"].as_u64().unwrap()).sum()
}

/// Runs scenes side by side: they mostly wait.
fn together(scenes: &[fn()]) {
    std::thread::scope(|scope| {
        let running: Vec<_> = scenes.iter().map(|scene| scope.spawn(scene)).collect();
        running.into_iter().for_each(|scene| scene.join().expect("the scene's own words are above"));
    });
}

#[test]
fn what_aws_surely_did_not_take_is_never_in_doubt() {
    together(&[
        refused_connections_longer_than_the_window_are_carried_and_billed_once,
        they_expire_if_the_seller_chose_so,
        a_role_without_the_right_for_longer_than_the_window_costs_nothing,
    ]);
}

#[test]
fn what_may_have_been_taken_when_the_window_passes_stays_in_doubt_alone() {
    together(&[
        || at_most_one_in_doubt(&json!({ "kind": "accept_and_lose_reply" }), true),
        || at_most_one_in_doubt(&json!({ "kind": "close" }), false),
        || at_most_one_in_doubt(&json!({ "kind": "internal_error" }), false),
    ]);
}

fn refused_connections_longer_than_the_window_are_carried_and_billed_once() {
    let (world, aws) = scene("");
    let agent = world.start();
    let tally = through_an_outage(&world, &aws, &agent, &json!({ "kind": "refuse_connection" }));
    let records = world.records();
    check_carries(&records);
    assert_eq!(units(&agent.books("requests"), "accepted"), tally);
    assert_eq!(units_of(&in_state(&records, "accepted")), tally);
    assert_eq!(aws.ledger()["totals"]["requests"], tally);
    assert_eq!(in_state(&records, "in_doubt").len(), 0);
    assert_eq!(world.run(&["status"]).code, 0);
}

fn they_expire_if_the_seller_chose_so() {
    let (world, aws) = scene("late = \"expire\"");
    let agent = world.start();
    let tally = through_an_outage(&world, &aws, &agent, &json!({ "kind": "refuse_connection" }));
    let (books, records) = (agent.books("requests"), world.records());
    let expired = in_state(&records, "expired");
    assert!(expired.len() >= 2, "{records:#?}");
    assert_eq!(units(&books, "expired"), units_of(&expired));
    assert_eq!(units(&books, "expired") + units(&books, "accepted"), tally);
    assert_eq!(aws.ledger()["totals"]["requests"], units(&books, "accepted"));
    assert_eq!(in_state(&records, "carried").len(), 0);
}

/// The kinds that may have been taken: whether AWS did take it is known to AWS only.
fn at_most_one_in_doubt(fault: &Value, recorded: bool) {
    let (world, aws) = scene("");
    let mut agent = world.start();
    let tally = through_an_outage(&world, &aws, &agent, fault);
    let (books, records) = (agent.books("requests"), world.records());
    check_carries(&records);
    let doubt = in_state(&records, "in_doubt");
    assert_eq!(doubt.len(), 1, "one an outage: {records:#?}");
    assert_eq!(units(&books, "with_person"), units_of(&doubt));
    assert_eq!(units(&books, "with_person") + units(&books, "accepted"), tally);
    let at_aws = units(&books, "accepted") + if recorded { units_of(&doubt) } else { 0 };
    assert_eq!(aws.ledger()["totals"]["requests"], at_aws);
    let status = world.run(&["status", "--json"]);
    assert_eq!((status.code, &status.json()["attention"][0]["code"]), (1, &json!("in_doubt")));
    // Nothing of it was sent after its window, nor in another record.
    let token = &doubt[0]["client_token"];
    let calls = aws.calls();
    let own: Vec<_> = calls.iter().filter(|(_, body)| body["ClientToken"] == *token).collect();
    assert_eq!(own.len() as u64, doubt[0]["attempts"].as_u64().unwrap());
    assert_eq!(doubt[0]["carried_into"], Value::Null);
    // It stays so over a restart.
    agent.kill();
    let agent = world.start();
    assert_eq!(agent.status()["records"]["in_doubt"], 1);
}

fn a_role_without_the_right_for_longer_than_the_window_costs_nothing() {
    let (world, aws) = scene("");
    let agent = world.start();
    let tally = through_an_outage(&world, &aws, &agent, &json!({ "kind": "denied" }));
    let records = world.records();
    check_carries(&records);
    assert_eq!(units(&agent.books("requests"), "accepted"), tally);
    assert_eq!(aws.ledger()["totals"]["requests"], tally);
    assert_eq!(world.run(&["status"]).code, 0);
}
