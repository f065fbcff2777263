//! A thousand customers, faults of every kind and two `kill -9`; and an endpoint that holds every call against AWS's own
//! model. What stands there is what was acknowledged, customer by customer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::socket::Lines;
use crate::world::{Agent, NOON, World, units, wait_until};

/// An hour takes twelve seconds.
const SPEED: u32 = 300;
const CUSTOMERS: u64 = 1000;
const LICENSE: &str = "arn:aws:license-manager::123456789012:license:l-0123456789abcdef";
const DIMENSIONS: &str = "kind = \"saas\"\n[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabytes\"\n";

fn name(customer: u64) -> String {
    format!("{:012}", 300_000_000_000 + customer)
}

/// Reports one unit of each dimension for every customer, in arrays, each with a key; whether all was acknowledged.
fn report(world: &World, round: u64) {
    let mut lines = Lines::connect(&world.socket());
    for first in (0..CUSTOMERS).step_by(100) {
        let increment = |customer: u64, dimension: &str| {
            let mut increment = json!({ "dimension": dimension, "quantity": customer % 7 + 1, "customer": name(customer),
                                        "key": format!("{round}-{customer}-{dimension}") });
            if customer.is_multiple_of(3) {
                increment["license"] = LICENSE.into();
            }
            increment
        };
        let all = (first..first + 100).flat_map(|c| [increment(c, "requests"), increment(c, "gigabytes")]);
        let answer = lines.ask(&Value::Array(all.collect()).to_string());
        assert_eq!((&answer["ok"], &answer["count"]), (&true.into(), &200.into()), "{answer}");
    }
}

#[test]
fn a_thousand_customers_are_billed_what_was_acknowledged_for_each() {
    let mut world = World::new(NOON - 60 * 10, SPEED);
    let Some(aws) = FakeAws::endpoint(&mut world.clock, &["--secret", "dummy"]) else { return };
    world.configure(&aws.url(), DIMENSIONS, "", "");
    // A poisoned record in each tenth batch, customers who have left, and records that are put off.
    let (poisoned, gone): (Vec<String>, Vec<String>) =
        ((0..CUSTOMERS).step_by(250).map(name).collect(), [17, 18].map(name).to_vec());
    aws.set(&json!({ "mode": "batch", "poisoned": poisoned, "gone": gone, "put_off_every": 30 }));
    let mut agent = world.start();
    report(&world, 1);
    agent.kill();
    agent = world.start();
    report(&world, 2);
    let settled = |agent: &Agent<'_>| {
        let books = ["requests", "gigabytes"].map(|name| agent.books(name));
        books.iter().all(|b| b["open"] == "0" && b["pending"] == "0")
    };
    wait_until("nothing is on its way", || settled(&agent));
    // Every other trouble: for some calls, and an agent that is killed over a lost reply.
    let modes = ["throttle", "lose_reply", "drop", "garbage", "error500", "unavailable"];
    let calls = || aws.checked_ledger()["requests"].as_array().map_or(0, Vec::len);
    for (round, mode) in (3..).zip(modes) {
        aws.set(&json!({ "mode": mode }));
        report(&world, round);
        let before = calls();
        wait_until("a call that meets it", || calls() > before);
        if mode == "lose_reply" {
            agent.kill();
            agent = world.start();
        }
        aws.set(&json!({ "mode": "batch", "put_off_every": 30 }));
        let before = calls();
        wait_until("a few calls", || calls() > before + 3);
    }
    let rounds = 2 + modes.len() as u64;
    wait_until("nothing is on its way", || settled(&agent));

    let ledger = aws.checked_ledger();
    assert_eq!(ledger["violations"], json!([]));
    let mut billed: BTreeMap<(String, String), u64> = BTreeMap::new();
    for record in ledger["batches"].as_array().unwrap() {
        let text = |field: &str| record[field].as_str().unwrap().to_owned();
        *billed.entry((text("customer"), text("dimension"))).or_default() += record["quantity"].as_u64().unwrap();
    }
    let held: Vec<Value> = world.records().into_iter().filter(|r| r["state"] != "accepted").collect();
    for customer in 0..CUSTOMERS {
        for dimension in ["requests", "gigabytes"] {
            let who = name(customer);
            let mine = held.iter().filter(|r| r["customer"] == who.as_str() && r["dimension"] == dimension);
            let waits: u64 = mine.map(|r| r["quantity"].as_u64().unwrap()).sum();
            let at_aws = billed.get(&(who.clone(), dimension.to_owned())).copied().unwrap_or(0);
            assert_eq!(at_aws + waits, rounds * (customer % 7 + 1), "{dimension} of {who}");
            assert!(waits == 0 || poisoned.contains(&who) || gone.contains(&who), "{who} waits");
        }
    }
    for record in &held {
        assert!(matches!(record["state"].as_str(), Some("held")), "{record}");
        assert_eq!(
            record["license"].is_string(),
            record["customer"].as_str().unwrap()[3..].parse::<u64>().unwrap().is_multiple_of(3)
        );
    }
    let books = agent.books("requests");
    assert_eq!(units(&books, "received"), (0..CUSTOMERS).map(|c| rounds * (c % 7 + 1)).sum::<u64>());
    assert_eq!(world.run(&["verify"]).code, 0, "{:?}", world.run(&["verify"]));
}

#[test]
fn a_persons_word_names_the_customer() {
    let mut world = World::new(NOON - 60 * 5, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    aws.fault(&json!({ "kind": "not_subscribed", "customer": name(1) }));
    let agent = world.start();
    let mut lines = agent.lines();
    for customer in 0..3 {
        let line = json!({ "dimension": "requests", "quantity": 5, "customer": name(customer) });
        assert_eq!(lines.ask(&line.to_string())["ok"], true);
    }
    let refused = lines.ask(r#"{"dimension":"requests","quantity":5}"#);
    assert_eq!(refused["error"], "bad_customer", "{refused}");
    wait_until("two are accepted and one is held", || {
        let status = agent.status();
        status["records"]["accepted"] == 2 && status["records"]["held"] == 1
    });
    let records = world.records();
    let held = records.iter().find(|r| r["state"] == "held").unwrap();
    assert_eq!((&held["customer"], held["client_token"].as_str()), (&name(1).into(), Some("")), "{held}");
    let hour = held["hour"].as_str().unwrap();
    let status = agent.status();
    let told = status["attention"].as_array().unwrap().iter().find(|told| told["code"] == "held").unwrap();
    let command = format!("`meterd settle {hour} requests --customer {} retry`", name(1));
    assert!(told["do"].as_str().unwrap().contains(&command), "{told}");
    let settle = |more: &[&str]| world.run(&[&["settle", hour, "requests", "write-off"], more].concat());
    assert_eq!(settle(&[]).code, 1, "whose record it is must be said");
    assert_eq!(settle(&["--customer", &name(1)]).code, 0);
    let books = agent.books("requests");
    assert_eq!((units(&books, "accepted"), units(&books, "discarded")), (10, 5));
    let ledger = aws.ledger();
    let customers: Vec<&str> =
        ledger["records"].as_array().unwrap().iter().map(|r| r["customer"].as_str().unwrap()).collect();
    assert_eq!(customers.len(), 2);
    assert!(!customers.contains(&name(1).as_str()));
}
