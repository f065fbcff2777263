//! The register of customers through the shipped binary, with the simulated AWS behind it.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{NOON, Ran, World, units, wait_until};

/// An hour takes six seconds.
const SPEED: u32 = 600;
const DIMENSIONS: &str = "kind = \"saas\"\n[[dimension]]\nname = \"requests\"\n";
const LICENSE: &str = "arn:aws:license-manager::294406891311:license:l-0123";
const FIRST: &str = "300000000001";
const SECOND: &str = "300000000002";

/// `meterd customers` with something on stdin.
fn customers(world: &World, args: &[&str], stdin: &str) -> Ran {
    let mut command = world.meterd(&[&["customers"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    Ran::after(child)
}

fn listed(world: &World) -> Vec<(String, String)> {
    let ran = customers(world, &["list", "--json"], "");
    assert_eq!(ran.code, 0, "{ran:?}");
    let line = |line: &str| -> (String, String) {
        let customer: Value = serde_json::from_str(line).unwrap();
        (customer["customer"].as_str().unwrap().to_owned(), customer["state"].as_str().unwrap().to_owned())
    };
    ran.stdout.lines().map(line).collect()
}

fn usage(customer: &str, quantity: u64) -> String {
    json!({ "dimension": "requests", "quantity": quantity, "customer": customer }).to_string()
}

/// An event as EventBridge delivers it.
fn event(kind: &str, customer: &str, minute: u32) -> Value {
    json!({ "version": "0", "id": "12345678", "detail-type": kind, "source": "aws.agreement-marketplace",
            "account": "999999999999", "time": format!("2026-11-23T09:{minute:02}:00Z"), "region": "us-east-1",
            "resources": [], "detail": { "catalog": "AWSMarketplace", "agreement": { "id": "agmt-1", "status": "CANCELLED" },
            "product": { "code": "prod", "id": "prod-1" }, "license": { "arn": LICENSE },
            "acceptor": { "accountId": customer }, "proposer": { "accountId": "999999999999" } } })
}

/// A message as SNS puts it into a queue, and `aws sqs receive-message` prints it.
fn queued(bodies: &[Value]) -> String {
    let message = |body: &Value| {
        let sns = json!({ "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:1:t",
                          "Message": body.to_string(), "Timestamp": "2026-11-23T10:00:00.000Z" });
        json!({ "MessageId": "q", "ReceiptHandle": "r", "Body": sns.to_string() })
    };
    json!({ "Messages": bodies.iter().map(message).collect::<Vec<_>>() }).to_string()
}

#[test]
fn customers_come_wait_and_go() {
    let mut world = World::new(NOON - 60 * 5, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let mut agent = world.start();

    // A token is exchanged, and written down nowhere.
    let resolved = customers(&world, &["resolve", "-"], &format!("{FIRST}\n"));
    assert_eq!((resolved.code, resolved.stdout.contains("active")), (0, true), "{resolved:?}");
    for token in ["expired", "a-token-that-nobody-gave"] {
        let refused = customers(&world, &["resolve", token], "");
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("TokenException") && !refused.stderr.contains("nobody-gave"), "{refused:?}");
    }
    assert!(!agent.log().contains("nobody-gave"), "{}", agent.log());

    // Of two customers one is known.
    for (customer, quantity) in [(FIRST, 5), (SECOND, 7)] {
        assert_eq!(agent.tell(&usage(customer, quantity))["ok"], true);
    }
    wait_until("the first is billed and the second waits", || {
        let books = agent.books("requests");
        books["accepted"] == "5" && books["unknown_customers"] == "7" && books["with_person"] == "7"
    });
    let status = agent.status();
    let waits = &status["customers"]["unknown"];
    assert_eq!((&waits["customers"], &waits["records"]), (&json!(1), &json!(1)), "{status}");
    assert!(waits["deadline"].is_string() && waits["seconds_left"].is_u64(), "{waits}");
    let codes: Vec<&Value> = status["attention"].as_array().unwrap().iter().map(|a| &a["code"]).collect();
    assert!(codes.contains(&&json!("unknown_customer")), "{codes:?}");
    assert_eq!(listed(&world), [(FIRST.to_owned(), "active".to_owned()), (SECOND.to_owned(), "unknown".to_owned())]);
    agent.kill();
    agent = world.start();
    assert_eq!(agent.books("requests")["unknown_customers"], "7");

    // AWS tells of the second, twice, and of things that nobody knows here.
    let subscribed = queued(&[event("License Updated - Manufacturer", SECOND, 1)]);
    for changed in [true, false] {
        let told = customers(&world, &["notify"], &subscribed);
        assert_eq!((told.code, told.stdout.starts_with("nothing has changed")), (0, !changed), "{told:?}");
    }
    wait_until("what waited is billed", || agent.books("requests")["accepted"] == "12");
    let unknown = queued(&[json!({ "action": "refund" }), event("Purchase Agreement Ended - Proposer", SECOND, 2)]);
    let told = customers(&world, &["notify"], &unknown);
    assert_eq!(
        (told.code, told.stderr.contains("refund"), told.stdout.contains("ending")),
        (1, true, true),
        "{told:?}"
    );

    // Both end: one by AWS's word, with its deprecated name, one by a person's.
    for (customer, quantity) in [(FIRST, 11), (SECOND, 13)] {
        assert_eq!(agent.tell(&usage(customer, quantity))["ok"], true);
    }
    let ended = json!({ "action": "unsubscribe-success", "customer-identifier": format!("simulated-{FIRST}"),
                        "product-code": "simulated-product" });
    assert!(customers(&world, &["notify"], &queued(std::slice::from_ref(&ended))).stdout.contains("another product"));
    let mut ended = ended;
    ended["product-code"] = "prod".into();
    assert_eq!(customers(&world, &["notify"], &queued(&[ended])).code, 0);
    assert_eq!(customers(&world, &["end", SECOND], "").code, 0);
    agent.kill();
    agent = world.start();
    for customer in [FIRST, SECOND] {
        let refused = agent.tell(&usage(customer, 1));
        assert_eq!((&refused["ok"], &refused["error"]), (&json!(false), &json!("bad_customer")), "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("has ended"), "{refused}");
    }
    assert_eq!(customers(&world, &["end", "300000000003"], "").code, 1, "nobody knows that one");
    wait_until("the last hours are billed", || {
        let books = agent.books("requests");
        books["accepted"] == "36" && books["open"] == "0" && books["pending"] == "0"
    });
    assert_eq!(listed(&world), [(FIRST.to_owned(), "ended".to_owned()), (SECOND.to_owned(), "ended".to_owned())]);
    let ledger = aws.ledger();
    let billed = |customer: &str| -> u64 {
        let mine = ledger["records"].as_array().unwrap().iter().filter(|r| r["customer"] == customer);
        mine.map(|r| r["quantity"].as_u64().unwrap()).sum()
    };
    assert_eq!((billed(FIRST), billed(SECOND), units(&agent.books("requests"), "received")), (16, 20, 36));
    assert_eq!(world.run(&["verify"]).code, 0, "{:?}", world.run(&["verify"]));
    assert!(world.run(&["inspect"]).stdout.contains("has ended"));
}
