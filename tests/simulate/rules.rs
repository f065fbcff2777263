//! Which record stands, and what is refused.

use meterd::simulate::Options;
use serde_json::{Value, json};

use crate::client::{Aws, ELEVEN_59_59, NOON_THIRTY, aws};

const HOUR: i64 = 3600;

fn plain() -> Aws {
    aws(Options::default())
}

#[test]
fn a_record_is_accepted_and_stands_in_the_ledger() {
    let aws = plain();
    let id = aws.call(json!({ "ClientToken": "t-1" })).record_id();
    let ledger = aws.ledger();
    let expected = json!([{
        "instance": "AKIDEXAMPLE", "product_code": "prod", "dimension": "requests",
        "hour": "2026-11-21T11:00:00Z", "timestamp": "2026-11-21T11:59:59Z", "quantity": 25, "allocations": [],
        "client_token": "t-1", "metering_record_id": id, "accepted_at": "2026-11-21T12:30:00Z", "calls": 1,
        "planted": false,
    }]);
    assert_eq!(ledger["records"], expected);
    assert_eq!(ledger["totals"], json!({ "requests": 25 }));
    assert_eq!(ledger["calls"], json!(1));
    assert_eq!(ledger["rejected"], json!({}));
}

#[test]
fn the_same_request_again_is_the_same_record() {
    let aws = plain();
    let id = aws.call(json!({ "ClientToken": "t" })).record_id();
    assert_eq!(aws.call(json!({ "ClientToken": "t" })).record_id(), id);
    // Any moment of the hour, and any token, is the same record as long as the quantity is.
    assert_eq!(aws.call(json!({ "Timestamp": ELEVEN_59_59 - 3599 })).record_id(), id);
    assert_eq!(aws.call(json!({ "ClientToken": "u" })).record_id(), id);
    assert_eq!(aws.ledger()["records"][0]["calls"], json!(4));
    assert_eq!(aws.ledger()["totals"]["requests"], json!(25));
}

#[test]
fn another_quantity_is_refused_and_the_first_stands() {
    let aws = plain();
    aws.call(json!({})).record_id();
    assert_eq!(aws.refusal(json!({ "UsageQuantity": 26 })), "DuplicateRequestException");
    assert_eq!(aws.refusal(json!({ "UsageQuantity": null })), "DuplicateRequestException", "absent is 0");
    assert_eq!(aws.ledger()["totals"]["requests"], json!(25));
    assert_eq!(aws.ledger()["rejected"], json!({ "DuplicateRequestException": 2 }));
}

#[test]
fn other_allocations_of_the_same_quantity_are_refused_but_their_order_does_not_matter() {
    let aws = plain();
    let share = |quantity: u32, team: &str| json!({ "AllocatedUsageQuantity": quantity, "Tags": [{ "Key": "team", "Value": team }] });
    let id = aws.call(json!({ "UsageAllocations": [share(20, "red"), share(5, "blue")] })).record_id();
    assert_eq!(aws.call(json!({ "UsageAllocations": [share(5, "blue"), share(20, "red")] })).record_id(), id);
    let other = json!({ "UsageAllocations": [share(19, "red"), share(6, "blue")] });
    assert_eq!(aws.refusal(other), "DuplicateRequestException");
    assert_eq!(aws.refusal(json!({})), "DuplicateRequestException", "no allocations are other allocations");
    let allocations =
        json!([{ "quantity": 5, "tags": { "team": "blue" } }, { "quantity": 20, "tags": { "team": "red" } }]);
    assert_eq!(aws.ledger()["records"][0]["allocations"], allocations);
}

#[test]
fn hours_dimensions_products_and_instances_have_records_of_their_own() {
    let aws = plain();
    let ids = [
        aws.call(json!({})),
        aws.call(json!({ "Timestamp": ELEVEN_59_59 + 1 })),
        aws.call(json!({ "UsageDimension": "users" })),
        aws.call(json!({ "ProductCode": "other" })),
        aws.call_as("AKIDOTHER", json!({})),
    ]
    .map(|answer| answer.record_id());
    let mut distinct = ids.to_vec();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "{ids:?}");
    let ledger = aws.ledger();
    let in_order: Vec<&Value> =
        ledger["records"].as_array().unwrap().iter().map(|record| &record["metering_record_id"]).collect();
    assert_eq!(in_order, ids.iter().collect::<Vec<_>>(), "the ledger is in the order of acceptance");
    assert_eq!(ledger["totals"], json!({ "requests": 100, "users": 25 }));
}

#[test]
fn a_client_token_stands_for_one_request_of_one_caller() {
    let aws = plain();
    aws.call(json!({ "ClientToken": "t" })).record_id();
    for other in [
        json!({ "ClientToken": "t", "UsageQuantity": 26 }),
        json!({ "ClientToken": "t", "UsageDimension": "users" }),
        json!({ "ClientToken": "t", "Timestamp": ELEVEN_59_59 - 1 }),
        json!({ "ClientToken": "t", "UsageAllocations": [{ "AllocatedUsageQuantity": 25 }] }),
    ] {
        assert_eq!(aws.refusal(other.clone()), "IdempotencyConflictException", "{other}");
    }
    aws.call_as("AKIDOTHER", json!({ "ClientToken": "t", "UsageQuantity": 26 })).record_id();
}

#[test]
fn a_token_that_was_refused_is_free() {
    let aws = plain();
    aws.call(json!({})).record_id();
    assert_eq!(aws.refusal(json!({ "ClientToken": "t", "UsageQuantity": 26 })), "DuplicateRequestException");
    aws.call(json!({ "ClientToken": "t" })).record_id();
}

#[test]
fn six_hours_back_and_a_minute_ahead_are_accepted() {
    let aws = plain();
    for (timestamp, expected) in [
        (NOON_THIRTY - 6 * HOUR, ""),
        (NOON_THIRTY - 6 * HOUR - 1, "TimestampOutOfBoundsException"),
        (NOON_THIRTY + 60, ""),
        (NOON_THIRTY + 61, "TimestampOutOfBoundsException"),
        (-5, "TimestampOutOfBoundsException"),
    ] {
        assert_eq!(aws.refusal(json!({ "Timestamp": timestamp })), expected, "{timestamp}");
    }
    aws.clock.set(NOON_THIRTY + 1);
    let retry = aws.refusal(json!({ "Timestamp": NOON_THIRTY - 6 * HOUR }));
    assert_eq!(retry, "TimestampOutOfBoundsException", "a retry is judged by its own time");
}

#[test]
fn the_window_is_an_option() {
    let aws = aws(Options { window: std::time::Duration::from_secs(3600), ..Options::default() });
    assert_eq!(aws.refusal(json!({ "Timestamp": NOON_THIRTY - HOUR })), "");
    assert_eq!(aws.refusal(json!({ "Timestamp": NOON_THIRTY - HOUR - 1 })), "TimestampOutOfBoundsException");
}

#[test]
fn decimals_of_a_timestamp_are_read() {
    let aws = plain();
    let body = crate::client::request(json!({})).to_string().replace("1795262399", "1.795262399123456789e9");
    assert_eq!(aws.post(&crate::client::headers(), body.as_bytes()).unwrap().code(), "");
    assert_eq!(aws.ledger()["records"][0]["timestamp"], json!("2026-11-21T11:59:59Z"));
}

#[test]
fn products_and_dimensions_are_checked_only_where_they_are_named() {
    let aws = aws(Options {
        products: vec!["prod".into()],
        dimensions: vec!["requests".into(), "users".into()],
        ..Options::default()
    });
    assert_eq!(aws.refusal(json!({ "ProductCode": "nope" })), "InvalidProductCodeException");
    assert_eq!(aws.refusal(json!({ "UsageDimension": "nope" })), "InvalidUsageDimensionException");
    assert_eq!(aws.refusal(json!({ "UsageDimension": "users" })), "");
}

#[test]
fn a_dry_run_tells_what_would_happen_and_records_nothing() {
    let strict = aws(Options { dimensions: vec!["requests".into()], ..Options::default() });
    let answer = strict.call(json!({ "DryRun": true }));
    assert_eq!((answer.status, answer.code().as_str()), (400, "DryRunOperation"));
    let misspelt = json!({ "DryRun": true, "UsageDimension": "request" });
    assert_eq!(strict.refusal(misspelt), "InvalidUsageDimensionException");
    let old = json!({ "DryRun": true, "Timestamp": 0 });
    assert_eq!(strict.refusal(old), "TimestampOutOfBoundsException");
    let ledger = strict.ledger();
    assert_eq!((&ledger["records"], &ledger["dry_runs"]), (&json!([]), &json!(1)));
    assert_eq!(ledger["rejected"]["DryRunOperation"], Value::Null);

    let lenient = aws(Options { dry_run_ok: true, ..Options::default() });
    let answer = lenient.call(json!({ "DryRun": true, "ClientToken": "t" }));
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    assert_eq!(lenient.refusal(json!({ "ClientToken": "t", "UsageQuantity": 1 })), "", "no token either");
}

#[test]
fn values_outside_the_service_model_are_a_validation_error() {
    let aws = plain();
    let long = "x".repeat(256);
    for wrong in [
        json!({ "ProductCode": null }),
        json!({ "Timestamp": null }),
        json!({ "UsageDimension": null }),
        json!({ "ProductCode": "white space" }),
        json!({ "ProductCode": long }),
        json!({ "UsageDimension": "" }),
        json!({ "UsageDimension": long }),
        json!({ "UsageQuantity": -1 }),
        json!({ "UsageQuantity": 2_147_483_648_i64 }),
        json!({ "ClientToken": "" }),
        json!({ "ClientToken": "x".repeat(65) }),
        json!({ "UsageAllocations": [] }),
        json!({ "UsageAllocations": [{ "AllocatedUsageQuantity": -1 }] }),
        json!({ "UsageAllocations": [{}] }),
        json!({ "UsageAllocations": [{ "AllocatedUsageQuantity": 25, "Tags": [] }] }),
        json!({ "UsageAllocations": [{ "AllocatedUsageQuantity": 25, "Tags": [{ "Key": "k" }] }] }),
    ] {
        assert_eq!(aws.refusal(wrong.clone()), "ValidationException", "{wrong}");
    }
    let message = aws.call(json!({ "UsageQuantity": -1, "ClientToken": "" })).json()["message"].clone();
    assert!(message.as_str().unwrap().starts_with("2 validation errors detected: Value '-1' at 'usageQuantity'"));
    for right in [
        json!({ "UsageQuantity": 2_147_483_647, "Timestamp": NOON_THIRTY }),
        json!({ "UsageDimension": "d".repeat(255), "ClientToken": "t".repeat(64) }),
        json!({ "UsageDimension": "nothing", "UsageQuantity": null }),
    ] {
        assert_eq!(aws.refusal(right.clone()), "", "{right}");
    }
}

#[test]
fn allocations_and_tags_keep_awss_rules() {
    let aws = plain();
    let tags = |pairs: &[(&str, &str)]| -> Value {
        pairs.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
    };
    let share =
        |quantity: u32, pairs: &[(&str, &str)]| json!({ "AllocatedUsageQuantity": quantity, "Tags": tags(pairs) });
    let untagged = |quantity: u32| json!({ "AllocatedUsageQuantity": quantity });
    let six = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1"), ("f", "1")];
    let many: Vec<Value> = (0..2501).map(|n| share(0, &[("n", &n.to_string())])).collect();
    let allocations = "InvalidUsageAllocationsException";
    for (list, expected) in [
        (json!([share(24, &[("k", "v")])]), allocations),
        (json!([share(26, &[("k", "v")])]), allocations),
        (json!([share(5, &[("k", "v")]), share(20, &[("k", "v")])]), allocations),
        (json!([untagged(5), untagged(20)]), allocations),
        (json!(many), allocations),
        (json!([share(25, &six)]), "InvalidTagException"),
        (json!([share(5, &six[..3]), share(20, &six[3..])]), "InvalidTagException"),
        (json!([share(25, &[("k", "v"), ("k", "w")])]), "InvalidTagException"),
        (json!([share(25, &[("", "v")])]), "InvalidTagException"),
        (json!([share(25, &[("k", "")])]), "InvalidTagException"),
        (json!([share(25, &[("k", "ü")])]), "InvalidTagException"),
        (json!([share(25, &[("k", "a?")])]), "InvalidTagException"),
        (json!([share(25, &[(&"k".repeat(101), "v")])]), "InvalidTagException"),
        (json!([share(25, &[("k", &"v".repeat(257))])]), "InvalidTagException"),
        (json!([share(25, &[(&"k".repeat(100), &"v".repeat(256))])]), ""),
    ] {
        assert_eq!(aws.refusal(json!({ "UsageAllocations": list })), expected, "{list}");
    }
    let five = json!([share(5, &six[..5]), untagged(20)]);
    assert_eq!(aws.refusal(json!({ "UsageDimension": "five", "UsageAllocations": five })), "");
}
