//! A run against the simulated AWS, reconciled with the CloudTrail file that it wrote.

use std::fs;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{NOON, World, wait_until};

#[test]
fn a_run_reconciles_with_what_aws_wrote_of_it() {
    // The hour 11:00 ends in three minutes of a clock that runs 360 times as fast as the machine's.
    let mut world = World::new(NOON - 180, 360);
    let trail = world.path("trail.json").display().to_string();
    let aws = FakeAws::simulation(&mut world, &["--cloudtrail", &trail]);
    let dimensions = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabytes\"\n[[dimension]]\nname = \
                      \"seats\"\n";
    world.configure(&aws.url(), dimensions, "", "[hour]\ngrace = \"0s\"\n");
    // One answer is lost, so that AWS has a record before the agent knows of it; one call is throttled; of one dimension
    // somebody else has sent another quantity.
    aws.fault(&json!({ "kind": "accept_and_lose_reply", "dimension": "requests", "dry_run": false, "times": 1 }));
    aws.fault(&json!({ "kind": "throttle", "dimension": "gigabytes", "dry_run": false, "times": 1 }));
    let agent = world.start();
    let both = r#"[{"dimension":"requests","quantity":2000},{"dimension":"gigabytes","quantity":"3.5"}]"#;
    assert_eq!(agent.tell(both)["ok"], true);
    wait_until("both are accepted", || agent.status()["records"]["accepted"] == 2);

    let ran = world.run(&["reconcile", "--json", "--cloudtrail", &trail]);
    let found = ran.json();
    assert_eq!((ran.code, &found["cloudtrail"]["matched"]), (0, &json!(2)), "{found:#}");
    assert_eq!(found["cloudtrail"]["units"]["requests"], json!({ "ours": 2000, "aws": 2000 }), "{found:#}");
    assert!(found["cloudtrail"]["repeated"].as_u64() >= Some(1), "the lost answer was asked for again: {found:#}");

    // What was measured, as a table that another instance would take; this one would count it once more under these keys.
    let table = world.path("measured.csv").display().to_string();
    assert_eq!(world.run(&["export", "--month", "2026-11", "-o", &table]).code, 0);
    let text = fs::read_to_string(&table).unwrap();
    assert!(text.contains(",requests,2000,export 2026-11-21T"), "{text}");
    let ran = world.run(&["import", &table, "--dry-run", "--json"]);
    let sums = json!([{ "dimension": "gigabytes", "rows": 1, "quantity": "3.5" },
                      { "dimension": "requests", "rows": 1, "quantity": "2000" }]);
    assert_eq!((ran.code, &ran.json()["dimensions"]), (0, &sums), "{ran:?}");
    assert_eq!(world.run(&["export", "--to", "2026-11-21T11:00:00Z"]).stdout.lines().count(), 1, "the heading");

    // Tampered with: a unit less, and then not there at all.
    let text = fs::read_to_string(&trail).unwrap();
    let other = world.path("other.json").display().to_string();
    fs::write(&other, text.replace("\"usageQuantity\":2000", "\"usageQuantity\":1999")).unwrap();
    let ran = world.run(&["reconcile", "--json", "--cloudtrail", &other]);
    assert_eq!((ran.code, &ran.json()["cloudtrail"]["different_quantity"]), (1, &json!(1)), "{ran:?}");
    let is_of = |line: &&str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["requestParameters"]["usageDimension"] == "requests"
    };
    fs::write(&other, text.lines().filter(|line| !is_of(line)).collect::<Vec<_>>().join("\n")).unwrap();
    let ran = world.run(&["reconcile", "--json", "--cloudtrail", &other]);
    assert_eq!((ran.code, &ran.json()["cloudtrail"]["missing_at_aws"]), (1, &json!(1)), "{ran:?}");

    // A conflict is a difference until a person has decided: AWS bills what this log does not count.
    aws.fault(&json!({ "kind": "other_quantity", "dimension": "seats", "times": 1 }));
    assert_eq!(agent.tell(r#"{"dimension":"seats","quantity":8}"#)["ok"], true);
    wait_until("it is a conflict", || agent.status()["records"]["conflict"] == 1);
    let ran = world.run(&["reconcile", "--json", "--cloudtrail", &trail]);
    let found = ran.json();
    assert_eq!((ran.code, &found["cloudtrail"]["unknown_to_us"]), (1, &json!(1)), "{found:#}");
    let rows = found["cloudtrail"]["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["dimension"] == "seats").unwrap();
    assert_eq!((&row["state"], &row["ours"], &row["aws"]), (&json!("conflict"), &Value::Null, &json!(7)), "{found:#}");
    agent.stop();
}
