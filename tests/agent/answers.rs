//! The promise of the table of answers: what AWS says, or does not, decides what becomes of a record, on the wire.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{Agent, NOON, World, books, units, wait_until};

/// An hour takes six seconds, and one is about to end.
const SPEED: u32 = 600;

/// A world with a simulated AWS and these dimensions.
fn scene(dimensions: &[&str]) -> (World, FakeAws) {
    let mut world = World::new(NOON - 300, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    let dimensions: String = dimensions.iter().map(|name| format!("[[dimension]]\nname = \"{name}\"\n")).collect();
    world.configure(&aws.url(), &dimensions, "", "");
    (world, aws)
}

fn use_each(agent: &Agent<'_>, dimensions: &[&str]) {
    let mut client = agent.lines();
    for (n, name) in dimensions.iter().enumerate() {
        let answer = client.ask(&format!(r#"{{"dimension":"{name}","quantity":{}}}"#, n + 10));
        assert_eq!(answer["ok"], true, "{answer}");
    }
}

/// The one record of a dimension.
fn record(world: &World, dimension: &str) -> Option<Value> {
    let mut found: Vec<Value> = world.records().into_iter().filter(|r| r["dimension"] == dimension).collect();
    assert!(found.len() < 2, "{found:#?}");
    found.pop()
}

fn wait_for_state(world: &World, dimension: &str, state: &str) -> Value {
    let mut last = None;
    wait_until(&format!("{dimension} is {state}"), || {
        last = record(world, dimension);
        last.as_ref().is_some_and(|r| r["state"] == state)
    });
    last.unwrap()
}

fn codes(status: &Value) -> Vec<String> {
    status["attention"].as_array().unwrap().iter().map(|a| a["code"].as_str().unwrap().to_owned()).collect()
}

/// `meterd status`: exit code and codes of attention.
fn attention(world: &World) -> (i32, Vec<String>) {
    let ran = world.run(&["status", "--json"]);
    (ran.code, codes(&ran.json()))
}

#[test]
fn what_was_not_taken_or_perhaps_is_sent_again_byte_for_byte_and_billed_once() {
    let faults = [
        ("throttle", json!({ "kind": "throttle" })),
        ("unavailable", json!({ "kind": "service_unavailable" })),
        ("denied", json!({ "kind": "denied" })),
        ("expired", json!({ "kind": "expired_token" })),
        ("unrecognized", json!({ "kind": "error", "code": "UnrecognizedClientException" })),
        ("signature", json!({ "kind": "error", "code": "InvalidSignatureException", "status": 403 })),
        ("throttled", json!({ "kind": "error", "code": "ThrottledException" })),
        ("out_of_bounds", json!({ "kind": "error", "code": "TimestampOutOfBoundsException" })),
        ("internal", json!({ "kind": "internal_error" })),
        ("internal_taken", json!({ "kind": "internal_error", "recorded": true })),
        ("garbage", json!({ "kind": "garbage" })),
        ("garbage_taken", json!({ "kind": "garbage", "recorded": true })),
        ("empty", json!({ "kind": "empty" })),
        ("empty_taken", json!({ "kind": "empty", "recorded": true })),
        ("close", json!({ "kind": "close" })),
        ("lost_reply", json!({ "kind": "accept_and_lose_reply" })),
        ("timeout408", json!({ "kind": "error", "code": "RequestTimeoutException", "status": 408 })),
        ("unknown", json!({ "kind": "error", "code": "SomethingNewException" })),
        ("unknown500", json!({ "kind": "error", "code": "SomethingNewException", "status": 500 })),
        ("fine", json!(null)),
    ];
    let names: Vec<&str> = faults.iter().map(|(name, _)| *name).collect();
    let (world, aws) = scene(&names);
    for (name, fault) in &faults {
        let mut fault = fault.clone();
        if !fault.is_null() {
            let more = json!({ "dimension": name, "dry_run": false, "times": 2 });
            fault.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            aws.fault(&fault);
        }
    }
    let agent = world.start();
    use_each(&agent, &names);
    wait_until("all is accepted", || agent.status()["records"]["accepted"] == names.len());

    let mut bodies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (call, body) in aws.calls() {
        let name = body["UsageDimension"].as_str().unwrap().to_owned();
        bodies.entry(name).or_default().push(call["body"].as_str().unwrap().to_owned());
    }
    let ledger = aws.ledger();
    let status = agent.status();
    for (n, name) in names.iter().enumerate() {
        let attempts = if *name == "fine" { 1 } else { 3 };
        let sent = &bodies[*name];
        assert_eq!(sent.len(), attempts, "{name}: {sent:?}");
        assert!(sent.iter().all(|body| *body == sent[0]), "{name}: {sent:#?}");
        let record = record(&world, name).unwrap();
        assert_eq!((&record["state"], &record["attempts"]), (&json!("accepted"), &json!(attempts)), "{record}");
        assert_eq!(record["last_error"], Value::Null);
        assert_eq!(ledger["totals"][name], n + 10, "{name}");
        let held = ledger["records"].as_array().unwrap().iter().find(|r| r["dimension"] == *name).unwrap();
        assert_eq!(held["metering_record_id"], record["metering_record_id"]);
        assert_eq!(units(&books(&status, name), "accepted"), n as u64 + 10);
    }
    assert_eq!(attention(&world), (0, vec![]));
}

#[test]
fn a_throttled_call_waits_as_long_as_aws_asks() {
    let (world, aws) = scene(&["requests"]);
    aws.fault(&json!({ "kind": "throttle", "retry_after_s": 120, "times": 1 }));
    let agent = world.start();
    use_each(&agent, &["requests"]);
    wait_for_state(&world, "requests", "accepted");
    let at = |call: &Value| meterd::hour::Timestamp::parse(call["at"].as_str().unwrap()).unwrap().seconds();
    let calls = aws.calls();
    assert_eq!(calls.len(), 2);
    // The service's clock shows whole seconds.
    assert!(at(&calls[1].0) - at(&calls[0].0) >= 119, "{calls:#?}");
}

#[test]
fn without_the_right_it_keeps_trying_says_so_at_once_and_loses_nothing() {
    for (kind, word) in [("denied", "AccessDenied"), ("expired_token", "ExpiredToken")] {
        let (world, aws) = scene(&["requests"]);
        aws.fault(&json!({ "kind": kind }));
        let agent = world.start();
        use_each(&agent, &["requests"]);
        wait_until("it says that it is blocked", || codes(&agent.status()).contains(&"aws_blocked".to_owned()));
        let (code, codes) = attention(&world);
        assert_eq!((code, codes[0].as_str()), (1, "aws_blocked"));
        let waiting = wait_for_state(&world, "requests", "pending");
        assert!(waiting["last_error"].as_str().unwrap().contains(word), "{waiting}");
        let status = agent.status();
        assert_eq!(units(&books(&status, "requests"), "pending"), 10);
        assert_eq!(status["oldest_pending"]["hour"], waiting["hour"]);
        assert!(status["aws"]["last_error"].as_str().unwrap().contains(word), "{status}");
        wait_until("it tries again", || agent.status()["aws"]["consecutive_failures"].as_u64().unwrap() > 2);
        aws.mend();
        wait_for_state(&world, "requests", "accepted");
        assert_eq!(attention(&world), (0, vec![]));
        assert_eq!(aws.ledger()["totals"], json!({ "requests": 10 }));
    }
}

#[test]
fn without_credentials_usage_is_taken_and_a_person_is_told() {
    let (world, _aws) = scene(&["requests"]);
    let mut command = world.run_command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("HOME", "/nowhere");
    let agent = world.start_with(command);
    use_each(&agent, &["requests"]);
    wait_until("it says that it is blocked", || codes(&agent.status()).contains(&"aws_blocked".to_owned()));
    assert_eq!(record(&world, "requests").unwrap()["state"], "pending");
    agent.stop();
    let agent = world.start();
    wait_for_state(&world, "requests", "accepted");
    assert_eq!(units(&agent.books("requests"), "accepted"), 10);
}

#[test]
fn another_quantity_or_a_token_used_otherwise_is_a_conflict_and_never_tried_again() {
    let (world, aws) = scene(&["duplicate", "token", "fine"]);
    aws.fault(&json!({ "kind": "other_quantity", "dimension": "duplicate", "times": 1 }));
    aws.fault(&json!({ "kind": "error", "code": "IdempotencyConflictException", "dimension": "token", "times": 1 }));
    let mut agent = world.start();
    use_each(&agent, &["duplicate", "token", "fine"]);
    let (duplicate, token) =
        (wait_for_state(&world, "duplicate", "conflict"), wait_for_state(&world, "token", "conflict"));
    wait_for_state(&world, "fine", "accepted");
    assert!(duplicate["last_error"].as_str().unwrap().starts_with("DuplicateRequestException"), "{duplicate}");
    assert!(token["last_error"].as_str().unwrap().starts_with("IdempotencyConflictException"), "{token}");
    assert_eq!(attention(&world), (1, vec!["conflict".into()]));
    let status = agent.status();
    assert_eq!(units(&books(&status, "duplicate"), "with_person"), 10);
    assert_eq!(units(&books(&status, "token"), "with_person"), 11);
    assert_eq!(status["records"]["conflict"], 2);
    // Also not after a restart.
    agent.kill();
    let agent = world.start();
    use_each(&agent, &["fine"]);
    wait_until("a later hour went through", || agent.status()["records"]["accepted"] == 2);
    assert_eq!(aws.calls().iter().filter(|(_, body)| body["UsageDimension"] != "fine").count(), 2);
    assert_eq!(attention(&world), (1, vec!["conflict".into()]));
}

#[test]
fn a_record_that_aws_refuses_is_held_and_the_other_dimensions_go_on() {
    let refusals = [
        ("dimension", "InvalidUsageDimensionException"),
        ("product", "InvalidProductCodeException"),
        ("tag", "InvalidTagException"),
        ("allocations", "InvalidUsageAllocationsException"),
        ("entitled", "CustomerNotEntitledException"),
        ("region", "InvalidEndpointRegionException"),
    ];
    let mut names: Vec<&str> = refusals.iter().map(|(name, _)| *name).collect();
    names.push("fine");
    let (world, aws) = scene(&names);
    for (name, code) in refusals {
        aws.fault(&json!({ "kind": "error", "code": code, "dimension": name }));
    }
    let agent = world.start();
    use_each(&agent, &names);
    wait_for_state(&world, "fine", "accepted");
    for (n, (name, code)) in refusals.iter().enumerate() {
        let held = wait_for_state(&world, name, "held");
        assert_eq!(held["attempts"], 1);
        assert!(held["last_error"].as_str().unwrap().starts_with(code), "{held}");
        assert_eq!(units(&agent.books(name), "with_person"), n as u64 + 10);
    }
    assert_eq!(attention(&world), (1, vec!["held".into()]));
    assert_eq!(aws.ledger()["totals"], json!({ "fine": 16 }));
    let shown = world.run(&["records", "--state", "held"]);
    assert_eq!(shown.stdout.lines().count(), 1 + refusals.len(), "{shown:?}");
    assert!(shown.stdout.contains("InvalidProductCodeException"), "{shown:?}");
}

#[test]
fn a_refusal_speaks_only_for_its_own_attempt() {
    let (world, aws) = scene(&["requests"]);
    // The first call is taken and its answer lost; AWS then refuses the same request, for whatever reason.
    aws.fault(&json!({ "kind": "accept_and_lose_reply", "dry_run": false, "times": 1 }));
    aws.fault(&json!({ "kind": "error", "code": "InvalidUsageDimensionException", "dry_run": false, "times": 3 }));
    let agent = world.start();
    use_each(&agent, &["requests"]);
    let accepted = wait_for_state(&world, "requests", "accepted");
    assert_eq!(accepted["attempts"], 5);
    assert_eq!(aws.ledger()["totals"], json!({ "requests": 10 }));
    assert_eq!(units(&agent.books("requests"), "accepted"), 10);
}

#[test]
fn a_clock_that_aws_does_not_share_is_a_clock_to_be_mended() {
    let (world, aws) = scene(&["requests"]);
    // AWS's clock is behind: the record lies in its future.
    aws.fault(&json!({ "kind": "wrong_clock", "shift_s": -7200 }));
    let agent = world.start();
    use_each(&agent, &["requests"]);
    wait_until("it says that the clocks differ", || codes(&agent.status()).contains(&"clock_skew".to_owned()));
    assert_eq!(attention(&world).0, 1);
    let waiting = wait_for_state(&world, "requests", "pending");
    assert!(waiting["last_error"].as_str().unwrap().contains("TimestampOutOfBounds"), "{waiting}");
    aws.mend();
    wait_for_state(&world, "requests", "accepted");
    assert_eq!(attention(&world), (0, vec![]));
}

#[test]
fn an_answer_that_nobody_understands_is_retried_with_an_alarm_at_once() {
    let (world, aws) = scene(&["requests"]);
    aws.fault(&json!({ "kind": "error", "code": "BrandNewException", "status": 418 }));
    let agent = world.start();
    use_each(&agent, &["requests"]);
    wait_until("an alarm", || codes(&agent.status()) == ["aws_unknown_answer"]);
    let status = world.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.stdout.contains("BrandNewException"), "{status:?}");
    aws.mend();
    wait_for_state(&world, "requests", "accepted");
    assert_eq!(attention(&world), (0, vec![]));
}

#[test]
fn an_aws_that_only_answers_dry_runs_is_as_good_as_unreachable() {
    let (world, aws) = scene(&["requests"]);
    aws.fault(&json!({ "kind": "internal_error", "dry_run": false }));
    let agent = world.start();
    use_each(&agent, &["requests"]);
    wait_until("an alarm", || codes(&agent.status()).contains(&"aws_unreachable".to_owned()));
    assert_eq!(attention(&world).0, 1);
    aws.mend();
    wait_for_state(&world, "requests", "accepted");
    assert_eq!(attention(&world), (0, vec![]));
}

#[test]
fn late_usage_and_tags_reach_aws_in_the_open_hours_record() {
    let (world, aws) = scene(&["requests"]);
    let agent = world.start();
    // On one line, so that no hour ends in between.
    let late = r#"{"dimension":"requests","quantity":5,"at":"2026-11-21T08:00:00Z","tags":{"team":"blue"}}"#;
    let tagged = r#"{"dimension":"requests","quantity":"2.5","tags":{"team":"red"}}"#;
    let plain = r#"{"dimension":"requests","quantity":3}"#;
    assert_eq!(agent.tell(&format!("[{late},{tagged},{plain}]"))["ok"], true);
    let record = wait_for_state(&world, "requests", "accepted");
    assert_eq!((&record["late"], &record["quantity"], &record["usage"]), (&json!("5"), &json!(10), &json!("10.5")));
    assert_eq!(record["remainder"], "0.5");
    let shares: u64 = record["allocations"].as_array().unwrap().iter().map(|a| a["quantity"].as_u64().unwrap()).sum();
    assert_eq!(shares, 10, "{record}");
    let held = &aws.ledger()["records"][0];
    assert_eq!(held["quantity"], 10);
    assert_eq!(held["allocations"].as_array().unwrap().len(), 3, "{held}");
    assert_eq!(held["timestamp"], record["timestamp"]);
    assert_eq!(held["client_token"], record["client_token"]);
    assert_eq!(units(&agent.books("requests"), "accepted"), 10);
}
