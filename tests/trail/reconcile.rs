//! Files written by hand from AWS's documented formats, against records written by hand: what reconcile makes of each.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::world::{Ran, World};

fn sample(name: &str) -> String {
    format!("{}/tests/trail/samples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// `reconcile --json` on a sample's records.
fn reconciled(world: &World, records: &str, flags: &[&str]) -> (i32, Value) {
    let records = sample(records);
    let ran = world.run(&[&["reconcile", "--json", "--records", &records, "--product", "prod"], flags].concat());
    assert!(ran.code < 2, "{ran:?}");
    (ran.code, ran.json())
}

fn counts(found: &Value) -> [u64; 4] {
    ["matched", "missing_at_aws", "unknown_to_us", "different_quantity"].map(|name| found[name].as_u64().unwrap())
}

#[test]
fn every_form_of_a_trail_says_the_same() {
    let world = World::at_noon();
    let plain = sample("meter_usage.json");
    let gzip = world.path("trail.json.gz");
    let mut packed = flate2::write::GzEncoder::new(fs::File::create(&gzip).unwrap(), flate2::Compression::fast());
    packed.write_all(&fs::read(&plain).unwrap()).unwrap();
    packed.finish().unwrap();
    let (gzip, looked_up) = (gzip.display().to_string(), sample("lookup_events.json"));
    for files in [vec![&plain], vec![&gzip], vec![&looked_up], vec![&plain, &gzip, &looked_up]] {
        let mut flags = vec!["--cloudtrail"];
        flags.extend(files.iter().map(|file| file.as_str()));
        let (code, found) = reconciled(&world, "records.jsonl", &flags);
        let trail = &found["cloudtrail"];
        assert_eq!((code, counts(trail)), (0, [3, 0, 0, 0]), "{found:#}");
        // An event that stands in several files, or twice in one, is one event.
        assert_eq!(trail["events"], 9, "{found:#}");
        assert_eq!(
            (&trail["dry_runs"], &trail["repeated"], &trail["other_products"]),
            (&json!(1), &json!(1), &json!(1))
        );
        assert_eq!(trail["refused"], json!({ "DuplicateRequestException": 1, "ThrottlingException": 1 }));
        assert_eq!(trail["other_instances"], json!({ "i-0bbbbbbbbbbbbbbbb": 1 }));
        assert_eq!(trail["units"]["requests"], json!({ "ours": 32, "aws": 32 }));
        assert_eq!((&trail["from"], &trail["to"]), (&json!("2026-11-21T11:00:00Z"), &json!("2026-11-21T13:00:00Z")));
    }
}

/// The sample with something done to its events.
fn tampered(world: &World, change: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut trail: Value = serde_json::from_slice(&fs::read(sample("meter_usage.json")).unwrap()).unwrap();
    change(trail["Records"].as_array_mut().unwrap());
    let path = world.path("tampered.json");
    fs::write(&path, trail.to_string()).unwrap();
    path.display().to_string()
}

fn is_of(event: &Value, id: &str) -> bool {
    event["responseElements"]["meteringRecordId"] == id
}

#[test]
fn each_kind_of_difference_is_told_by_hour_and_dimension() {
    let world = World::at_noon();
    let row = |found: &Value, result: &str| -> Value {
        let rows = found["cloudtrail"]["rows"].as_array().unwrap();
        let mut of_it = rows.iter().filter(|row| row["result"] == result);
        let row = of_it.next().unwrap_or_else(|| panic!("no {result}: {found:#}")).clone();
        assert!(of_it.next().is_none(), "{found:#}");
        row
    };
    let missing = tampered(&world, |events| events.retain(|event| !is_of(event, "id-12")));
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &missing]);
    assert_eq!((code, counts(&found["cloudtrail"])), (1, [2, 1, 0, 0]), "{found:#}");
    let row_missing = row(&found, "missing_at_aws");
    assert_eq!(
        (&row_missing["hour"], &row_missing["ours"], &row_missing["aws"]),
        (&json!("2026-11-21T12:00:00Z"), &json!(7), &Value::Null)
    );

    let other = tampered(&world, |events| {
        events
            .iter_mut()
            .filter(|event| is_of(event, "id-12"))
            .for_each(|event| event["requestParameters"]["usageQuantity"] = json!(9));
    });
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &other]);
    assert_eq!((code, counts(&found["cloudtrail"])), (1, [2, 0, 0, 1]), "{found:#}");
    let differs = row(&found, "different_quantity");
    assert_eq!((&differs["dimension"], &differs["ours"], &differs["aws"]), (&json!("requests"), &json!(7), &json!(9)));

    let more = tampered(&world, |events| {
        let mut event = events.iter().find(|event| is_of(event, "id-12g")).unwrap().clone();
        event["eventID"] = json!("e-more");
        event["requestParameters"]["timestamp"] = json!("Nov 21, 2026 11:59:59 AM");
        event["responseElements"]["meteringRecordId"] = json!("id-more");
        events.push(event);
    });
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &more]);
    assert_eq!((code, counts(&found["cloudtrail"])), (1, [3, 0, 1, 0]), "{found:#}");
    assert_eq!(row(&found, "unknown_to_us")["metering_record_id"], "id-more");
    // For people too, with the exit code.
    let ran = world.run(&["reconcile", "--records", &sample("records.jsonl"), "--cloudtrail", &more]);
    assert!(
        ran.code == 1 && ran.stdout.contains("2026-11-21T11:00:00Z gigabytes: unknown to us: ours nothing, AWS 3"),
        "{ran:?}"
    );

    // What is still on its way will not get there, where AWS has another quantity.
    let text = fs::read_to_string(sample("records.jsonl")).unwrap();
    let on_its_way: String = text
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            if record["metering_record_id"] == "id-12" {
                (record["state"], record["metering_record_id"]) = (json!("pending"), Value::Null);
            }
            format!("{record}\n")
        })
        .collect();
    let records = world.path("on_its_way.jsonl");
    fs::write(&records, on_its_way).unwrap();
    let records = records.display().to_string();
    for (aws, code, result) in [(Some(9), 1, "different_quantity"), (Some(7), 0, "pending"), (None, 0, "pending")] {
        let trail = tampered(&world, |events| {
            events.retain(|event| aws.is_some() || !is_of(event, "id-12"));
            let mine = events.iter_mut().filter(|event| is_of(event, "id-12"));
            mine.for_each(|event| event["requestParameters"]["usageQuantity"] = aws.into());
        });
        let ran =
            world.run(&["reconcile", "--json", "--product", "prod", "--records", &records, "--cloudtrail", &trail]);
        let found = ran.json();
        assert_eq!((ran.code, &row(&found, result)["state"]), (code, &json!("pending")), "{found:#}");
    }

    // A second record of an hour, whoever sent it, is not passed off as the first one.
    let twice = tampered(&world, |events| {
        let mut event = events.iter().find(|event| is_of(event, "id-12")).unwrap().clone();
        event["eventID"] = json!("e-twice");
        event["responseElements"]["meteringRecordId"] = json!("id-twice");
        events.insert(0, event);
    });
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &twice]);
    assert_eq!((code, counts(&found["cloudtrail"])), (1, [3, 0, 1, 0]), "{found:#}");

    // Nor is one that somebody else sent, where ours is not there, though it has the same units.
    let instead = tampered(&world, |events| {
        events
            .iter_mut()
            .filter(|event| is_of(event, "id-12"))
            .for_each(|event| event["responseElements"]["meteringRecordId"] = json!("id-else"));
    });
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &instead]);
    assert_eq!((code, counts(&found["cloudtrail"])), (1, [2, 1, 1, 0]), "{found:#}");

    // Units are whole: half of one is not rounded to anything.
    let half = tampered(&world, |events| {
        events
            .iter_mut()
            .filter(|event| is_of(event, "id-12"))
            .for_each(|event| event["requestParameters"]["usageQuantity"] = json!(7.5));
    });
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &half]);
    assert!(code == 1 && found["cloudtrail"]["unreadable"].as_object().unwrap().len() == 1, "{found:#}");
}

#[test]
fn a_session_that_tells_no_instance_is_ours_by_its_record_ids_or_by_name_only() {
    let world = World::at_noon();
    let task = |events: &mut Vec<Value>, wanted: &[&str]| {
        for event in events.iter_mut().filter(|event| wanted.iter().any(|id| is_of(event, id))) {
            event["userIdentity"]["arn"] = json!("arn:aws:sts::123456789012:assumed-role/MeterdRole/task-7");
        }
    };
    let ours = tampered(&world, |events| {
        task(events, &["id-11", "id-12"]);
        let mut event = events.iter().find(|event| is_of(event, "id-12")).unwrap().clone();
        event["eventID"] = json!("e-more");
        event["requestParameters"]["usageDimension"] = json!("gigabytes");
        event["requestParameters"]["timestamp"] = json!("Nov 21, 2026 11:59:59 AM");
        event["responseElements"]["meteringRecordId"] = json!("id-more");
        // The first to be read: only later ones say whose the session is.
        events.insert(0, event);
    });
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &ours]);
    assert_eq!((code, counts(&found["cloudtrail"])), (1, [3, 0, 1, 0]), "{found:#}");

    let strange = tampered(&world, |events| {
        let mut event = events.iter().find(|event| is_of(event, "id-12")).unwrap().clone();
        event["eventID"] = json!("e-more");
        event["responseElements"]["meteringRecordId"] = json!("id-more");
        event["userIdentity"]["arn"] = json!("arn:aws:sts::123456789012:assumed-role/MeterdRole/task-7");
        events.push(event);
    });
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &strange]);
    assert_eq!((code, &found["cloudtrail"]["unattributed"]), (0, &json!({ "task-7": 1 })), "{found:#}");
    let (code, found) = reconciled(&world, "records.jsonl", &["--cloudtrail", &strange, "--instance", "task-7"]);
    assert_eq!((code, counts(&found["cloudtrail"])), (1, [3, 0, 1, 0]), "{found:#}");
}

#[test]
fn batches_are_read_record_by_record() {
    let world = World::at_noon();
    let (code, found) = reconciled(&world, "customers.jsonl", &["--cloudtrail", &sample("batch_meter_usage.json")]);
    let trail = &found["cloudtrail"];
    assert_eq!((code, counts(trail)), (0, [2, 0, 0, 0]), "{found:#}");
    let refused = json!({ "CustomerNotSubscribed": 1, "DuplicateRecord": 1, "TimestampOutOfBoundsException": 1 });
    assert_eq!((&trail["refused"], &trail["unprocessed"]), (&refused, &json!(1)));
}

#[test]
fn sellers_reports_are_compared_by_day() {
    let world = World::at_noon();
    let (code, found) = reconciled(&world, "records.jsonl", &["--seller-report", &sample("daily_usage_feed.csv")]);
    let report = &found["seller_report"];
    assert_eq!((code, &report["equal"], &report["different"]), (0, &json!(2), &json!(0)), "{found:#}");
    let (code, found) = reconciled(&world, "customers.jsonl", &["--seller-report", &sample("usage_dashboard.csv")]);
    let report = &found["seller_report"];
    assert_eq!((code, &report["equal"], &report["other_products"]), (0, &json!(2), &json!(1)), "{found:#}");
    // A day that AWS bills one unit less of.
    let text = fs::read_to_string(sample("daily_usage_feed.csv")).unwrap().replace("\"32.00\"", "\"31.99\"");
    let path = world.path("less.csv").display().to_string();
    fs::write(&path, text).unwrap();
    let (code, found) = reconciled(&world, "records.jsonl", &["--seller-report", &path]);
    let days = found["seller_report"]["days"].as_array().unwrap();
    let differs: Vec<&Value> = days.iter().filter(|day| day["equal"] == false).collect();
    assert_eq!(code, 1);
    assert_eq!(
        differs,
        [
            &json!({ "day": "2026-11-21", "dimension": "requests", "customer": null, "ours": "32", "aws": "31.99", "equal": false })
        ]
    );
}

#[test]
fn what_cannot_be_read_is_never_half_compared() {
    let world = World::at_noon();
    let bytes = fs::read(sample("meter_usage.json")).unwrap();
    let cut = world.path("cut.json").display().to_string();
    for (content, words) in [
        (&bytes[..bytes.len() / 2], "nothing was compared"),
        (b"{}".as_slice(), "no events of CloudTrail"),
        (b"a,b\n", "nothing was compared"),
    ] {
        fs::write(&cut, content).unwrap();
        let ran = world.run(&["reconcile", "--records", &sample("records.jsonl"), "--cloudtrail", &cut]);
        assert!(ran.code == 1 && ran.stderr.contains(words) && ran.stdout.is_empty(), "{ran:?}");
    }
    let ran: Ran = world.run(&["reconcile"]);
    assert_eq!(ran.code, 64, "{ran:?}");
}
