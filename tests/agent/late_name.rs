//! The promise to an instance whose metadata is late: usage is taken from the first second, nothing is sealed or sent under
//! a second-best name, and once the name is there the usage is that instance's, be it the one whose log this is or
//! another one that woke up with a copy of it.
//!
//! The surroundings are those of `ec2.rs`: metadata is there, and names everything but the instance.

use serde_json::{Value, json};

use crate::ec2::{Ec2, HOUR, INSTANCE, attention, on_an_instance};
use crate::world::{Agent, Ran, units, wait_until};

const OTHER: &str = "i-0fedcba9876543210";
const BOOT: &str = "6e0f4b2c-3c39-4b43-9f0e-5a8f6a6f2f11";

/// What AWS holds: which instance's, which hour, how much.
fn billed(ec2: &Ec2<'_>) -> Vec<(String, String, u64)> {
    let ledger = ec2.ledger();
    assert_eq!(ledger["violations"], json!([]));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let records = ledger["records"].as_array().unwrap().iter();
    records.map(|r| (text(&r["instance"]), text(&r["hour"]), r["quantity"].as_u64().unwrap())).collect()
}

fn told(agent: &Agent<'_>, code: &str) -> Option<String> {
    let status = agent.status();
    let found = status["attention"].as_array().unwrap().iter().find(|a| a["code"] == code)?;
    Some(found["message"].as_str().unwrap().to_owned())
}

/// No name, and so no record, and no word of another instance.
fn is_nobody(ec2: &Ec2<'_>, agent: &Agent<'_>) {
    let status = agent.status();
    assert_eq!(status["instance_id"], Value::Null, "{status}");
    let codes = attention(agent);
    assert!(!codes.contains(&"other_instance".to_owned()), "{codes:?}");
    assert_eq!(ec2.world.records(), Vec::<Value>::new(), "nothing is sealed");
    assert_eq!(billed(ec2), []);
    agent.books("requests");
}

/// Long enough to have sent something: metadata was asked for the name and asked again.
fn it_had_time(ec2: &Ec2<'_>) {
    let asked = || ec2.ask("GET", "/_imds", &json!({}))["GET /latest/meta-data/instance-id"][0].as_u64().unwrap();
    let before = asked();
    wait_until("metadata is asked twice", || asked() >= before + 2);
}

fn verifies(ec2: &Ec2<'_>) {
    let verified = ec2.world.run(&["verify", "--json"]);
    assert_eq!((verified.code, &verified.json()["recomputed"]), (0, &json!(true)), "{}", verified.stdout);
}

fn the_same_instance(mut ec2: Ec2<'_>) {
    let world = ec2.world;
    ec2.role(&json!({ "issue": 6 * HOUR }));
    let mut agent = world.start_with(ec2.command());
    wait_until("metadata names the instance", || agent.status()["instance_id"] == INSTANCE);
    ec2.add(&agent, 3);
    agent.kill();

    // Two starts without a name, the second over the top of the hour.
    ec2.items(&json!({ "instance-id": null }));
    let mut agent = world.start_with(ec2.command());
    ec2.add(&agent, 4);
    is_nobody(&ec2, &agent);
    agent.kill();
    let mut agent = world.start_with(ec2.command());
    ec2.add(&agent, 5);
    (0..5).for_each(|_| {
        ec2.pass(HOUR / 5);
        ec2.add(&agent, 0);
    });
    ec2.add(&agent, 6);
    it_had_time(&ec2);
    is_nobody(&ec2, &agent);
    assert_eq!(units(&agent.books("requests"), "open"), 3 + 4 + 5 + 6);

    // The hour that is over goes out at once, in one record, and the one that goes on goes on.
    ec2.items(&json!({ "instance-id": INSTANCE }));
    wait_until("AWS has the hour", || !billed(&ec2).is_empty());
    agent.kill();
    let agent = world.start_with(ec2.command());
    wait_until("metadata names the instance", || agent.status()["instance_id"] == INSTANCE);
    assert_eq!(told(&agent, "other_instance"), None);
    ec2.add(&agent, 7);
    ec2.hour(&agent);
    wait_until("AWS has the next hour", || billed(&ec2).len() == 2);
    let quantities: Vec<u64> = billed(&ec2).into_iter().map(|(_, _, quantity)| quantity).collect();
    assert_eq!(quantities, [3 + 4 + 5, 6 + 7 + 4]);
    wait_until("the answers are written down", || agent.status()["records"]["accepted"] == 2);
    let books = agent.books("requests");
    assert_eq!((units(&books, "open"), units(&books, "with_person")), (1, 0), "{books}");
    agent.stop();
    verifies(&ec2);
}

fn another_instance(mut ec2: Ec2<'_>) {
    let world = ec2.world;
    // Without a role: an hour that was sealed and not sent, and one unit in the hour that goes on.
    let agent = world.start_with(ec2.command());
    wait_until("metadata names the instance", || agent.status()["instance_id"] == INSTANCE);
    ec2.hour(&agent);
    wait_until("the hour is sealed", || agent.status()["records"]["pending"] == 1);
    agent.stop();

    // Its disk, on another machine. Of one boot is one instance, so what came before a kill is still this one's.
    ec2.items(&json!({ "instance-id": null }));
    ec2.role(&json!({ "issue": 6 * HOUR }));
    ec2.boot(Some(BOOT));
    for quantity in [20, 30] {
        let mut agent = world.start_with(ec2.command());
        ec2.add(&agent, quantity);
        it_had_time(&ec2);
        let status = agent.status();
        assert_eq!(status["instance_id"], Value::Null, "{status}");
        assert_eq!(told(&agent, "other_instance"), None);
        // Not even the hour that was sealed already: whose it is, nobody knows.
        assert_eq!((&status["records"]["pending"], billed(&ec2).len()), (&json!(1), 0), "{status}");
        agent.kill();
    }
    let mut agent = world.start_with(ec2.command());
    ec2.items(&json!({ "instance-id": OTHER }));
    wait_until("metadata names another instance", || agent.status()["instance_id"] == OTHER);
    agent.kill();
    ec2.boot(None);

    let mut agent = world.start_with(ec2.command());
    wait_until("metadata names it again", || agent.status()["instance_id"] == OTHER);
    let words = told(&agent, "other_instance").unwrap();
    assert!(words.contains(INSTANCE) && words.contains("5 of requests"), "{words}");
    let books = agent.books("requests");
    assert_eq!((units(&books, "with_person"), units(&books, "open")), (5, 50), "{books}");
    ec2.hour(&agent);
    wait_until("AWS has its hour", || !billed(&ec2).is_empty());
    let all = billed(&ec2);
    assert_eq!((all.len(), all[0].0.as_str(), all[0].2), (1, OTHER, 20 + 30 + 4), "{all:?}");
    // The word that it is a copy: the other one bills its own.
    agent.kill();
    let agent = world.start_with(ec2.command());
    wait_until("metadata names it again", || agent.status()["instance_id"] == OTHER);
    let ran = Ran::of(ec2.meterd("discard").arg("--json"));
    assert_eq!((ran.code, &ran.json()["usage"]), (0, &json!({ "requests": "5" })), "{ran:?}");
    ec2.hour(&agent);
    wait_until("AWS has the next hour", || billed(&ec2).len() == 2);
    wait_until("the answers are written down", || agent.status()["records"]["accepted"] == 2);
    let books = agent.books("requests");
    let column = |name: &str| units(&books, name);
    assert_eq!((column("accepted"), column("with_person"), column("discarded")), (54 + 5, 0, 5), "{books}");
    assert!(billed(&ec2).iter().all(|(instance, _, _)| instance == OTHER));
    agent.stop();
    verifies(&ec2);
}

#[test]
fn late_metadata_that_names_the_same_instance_costs_nothing() {
    on_an_instance("late_name::late_metadata_that_names_the_same_instance_costs_nothing", the_same_instance);
}

#[test]
fn late_metadata_that_names_another_instance_sets_the_others_usage_aside() {
    on_an_instance(
        "late_name::late_metadata_that_names_another_instance_sets_the_others_usage_aside",
        another_instance,
    );
}
