//! The promise of `meterd attribution`: each method of Partner Revenue Measurement works, or it is said what is missing and
//! what to do; no other partner's tag is ever changed, and metering does not depend on any of it.
//!
//! The surroundings are those of `ec2.rs`; every request that leaves is checked by AWS's own service model.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::ec2::{Ec2, HOUR, INSTANCE, on_an_instance};
use crate::world::{Ran, World, wait_until};

const ARN: &str = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0";
const VOLUMES: [&str; 2] = [
    "arn:aws:ec2:us-east-1:123456789012:volume/vol-0a1b2c3d4e5f60718",
    "arn:aws:ec2:us-east-1:123456789012:volume/vol-0fedcba9876543210",
];

macro_rules! on_an_instance {
    ($test:ident, $body:expr) => {
        #[test]
        fn $test() {
            on_an_instance(concat!("attribution::", stringify!($test)), $body);
        }
    };
}

/// A role, and what a Nitro instance shows of its devices: two volumes, and a disk that is none.
fn equip(ec2: &Ec2<'_>) {
    ec2.role(&json!({ "issue": 6 * HOUR }));
    for (device, serial) in [
        ("nvme0n1", "vol0a1b2c3d4e5f60718\n"),
        ("nvme1n1", "AWS1234567890ABCDEF\n"),
        ("nvme2n1", "vol0fedcba9876543210"),
    ] {
        let dir = format!("/sys/block/{device}/device");
        fs::create_dir_all(&dir).unwrap();
        fs::write(format!("{dir}/serial"), serial).unwrap();
    }
}

fn attribution(ec2: &Ec2<'_>, args: &[&str]) -> Ran {
    Ran::of(ec2.meterd("attribution").args(args))
}

/// What of the report matters: state, words and next step of a method.
#[track_caller]
fn says(report: &Value, method: &str, state: &str, found: &str, remedy: &str) {
    let line = &report[method];
    assert_eq!(line["state"], state, "{report:#}");
    assert!(line["found"].as_str().unwrap().contains(found), "{found:?} in {line:#}");
    match line["do"].as_str() {
        Some(text) => assert!(text.contains(remedy) && !remedy.is_empty(), "{remedy:?} in {line:#}"),
        None => assert_eq!(remedy, "", "{line:#}"),
    }
}

fn tags(ec2: &Ec2<'_>, change: &Value) {
    ec2.ask("POST", "/_tags", change);
}

/// What the tagging API holds, every request having passed its model.
fn ledger(ec2: &Ec2<'_>) -> Value {
    let ledger = ec2.ask("GET", "/_tags", &json!({}));
    assert_eq!(ledger["violations"], json!([]), "{ledger:#}");
    ledger
}

fn calls(ec2: &Ec2<'_>) -> Vec<String> {
    let calls = ledger(ec2)["calls"].as_array().unwrap().clone();
    calls.iter().map(|call| call["operation"].as_str().unwrap().to_owned()).collect()
}

on_an_instance!(absent_then_set_then_ok, |ec2| {
    equip(&ec2);
    tags(&ec2, &json!({ "tags": { ARN: { "Name": "theirs" } } }));
    let absent = attribution(&ec2, &["--json"]);
    assert_eq!(absent.code, 0, "the product code is enough: {absent:?}");
    let report = absent.json();
    says(&report, "marketplace_metering", "ok", "the instance carries prod", "");
    says(&report, "user_agent", "ok", "APN_1.1/pc_prod$", "--lines");
    says(&report, "resource_tag", "absent", "none carries aws-apn-id = pc:prod", "meterd attribution tag");
    let arns: Vec<&str> = report["resources"].as_array().unwrap().iter().map(|r| r["arn"].as_str().unwrap()).collect();
    assert_eq!(arns, [ARN, VOLUMES[0], VOLUMES[1]], "the instance, and the volumes that it has");
    assert_eq!(calls(&ec2), ["GetResources"], "a look changes nothing");

    let tagged = attribution(&ec2, &["tag"]);
    assert_eq!((tagged.code, tagged.stderr.as_str()), (0, ""), "{tagged:?}");
    for arn in arns {
        assert!(tagged.stdout.contains(&format!("set on {arn}")), "{tagged:?}");
        assert_eq!(ledger(&ec2)["tags"][arn]["aws-apn-id"], "pc:prod");
    }
    assert_eq!(ledger(&ec2)["tags"][ARN]["Name"], "theirs", "other tags stay");
    let report = attribution(&ec2, &["--json"]).json();
    says(&report, "resource_tag", "ok", "all of them (3) carry aws-apn-id = pc:prod", "");
    // Once more: there is nothing to set, and nothing is asked for.
    let before = calls(&ec2).len();
    let again = attribution(&ec2, &["tag", "--json"]);
    assert_eq!((again.code, &again.json()["set"]), (0, &json!([])));
    assert_eq!(calls(&ec2)[before..], ["GetResources"]);
    let agent = ledger(&ec2)["calls"][0]["user_agent"].as_str().unwrap().to_owned();
    assert!(agent.starts_with("APN_1.1/pc_prod$ meterd/"), "{agent}");
    // For people.
    let shown = attribution(&ec2, &[]).stdout;
    assert!(shown.contains("\n  ok       marketplace metering  the instance carries prod"), "{shown}");
    println!("{shown}");
});

on_an_instance!(another_partners_tag_stays, |ec2| {
    equip(&ec2);
    tags(&ec2, &json!({ "tags": { VOLUMES[1]: { "aws-apn-id": "pc:theirs" } } }));
    let other = attribution(&ec2, &["--json"]);
    assert_eq!(other.code, 1, "{other:?}");
    says(&other.json(), "resource_tag", "other", "vol-0fedcba9876543210 carries aws-apn-id = pc:theirs", "leave it");
    // What has no tag gets it; what has another's keeps it.
    let tagged = attribution(&ec2, &["tag", "--json"]);
    assert_eq!((tagged.code, &tagged.json()["set"]), (1, &json!([ARN, VOLUMES[0]])), "{tagged:?}");
    let held = ledger(&ec2)["tags"].clone();
    assert_eq!(held[VOLUMES[1]]["aws-apn-id"], "pc:theirs");
    assert_eq!((&held[ARN]["aws-apn-id"], &held[VOLUMES[0]]["aws-apn-id"]), (&json!("pc:prod"), &json!("pc:prod")));
    assert_eq!(calls(&ec2), ["GetResources", "GetResources", "TagResources"]);
    // One that AWS's index does not have yet, and metadata has.
    tags(&ec2, &json!({ "tags": {} }));
    ec2.items(&json!({ "tags/instance/aws-apn-id": "pc:theirs" }));
    let tagged = attribution(&ec2, &["tag", "--json"]);
    assert_eq!((tagged.code, &tagged.json()["set"]), (1, &json!(VOLUMES)), "{tagged:?}");
    assert_eq!(ledger(&ec2)["tags"][ARN], Value::Null);
});

on_an_instance!(a_right_that_is_missing_is_named, |ec2| {
    // The role itself first.
    let none = attribution(&ec2, &["--json"]);
    says(&none.json(), "resource_tag", "unknown", "no credentials", "attach a role");
    equip(&ec2);
    tags(&ec2, &json!({ "deny": ["tag:GetResources"] }));
    let unread = attribution(&ec2, &["--json"]);
    assert_eq!(unread.code, 0, "the product code is enough: {unread:?}");
    says(&unread.json(), "resource_tag", "unknown", "AccessDeniedException", "the role lacks tag:GetResources");
    // Where nobody knows what is there nothing is overwritten.
    let refused = attribution(&ec2, &["tag", "--json"]);
    assert_eq!((refused.code, &refused.json()["set"]), (1, &json!([])), "{refused:?}");
    assert_eq!(calls(&ec2), ["GetResources", "GetResources"]);
    // Unless metadata tells, for the instance.
    ec2.items(&json!({ "tags/instance/aws-apn-id": "pc:prod" }));
    let report = attribution(&ec2, &["--json"]).json();
    assert_eq!(report["resources"][0], json!({ "arn": ARN, "state": "ok", "value": "pc:prod" }));
    says(&report, "resource_tag", "ok", "the rest is not known", "the role lacks tag:GetResources");
    assert_eq!(attribution(&ec2, &["tag"]).code, 1, "the volumes may have none");
    ec2.items(&json!({ "tags/instance/aws-apn-id": null }));
    for (denied, named) in
        [("tag:TagResources", "the role lacks tag:TagResources"), ("ec2:CreateTags", "the role lacks ec2:CreateTags")]
    {
        tags(&ec2, &json!({ "deny": [denied] }));
        let refused = attribution(&ec2, &["tag", "--json"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        says(&refused.json(), "resource_tag", "absent", "3 of 3 did not get aws-apn-id", named);
    }
    assert_eq!(ledger(&ec2)["tags"], json!({}));
});

on_an_instance!(an_api_that_does_not_answer_or_not_now, |ec2| {
    equip(&ec2);
    tags(&ec2, &json!({ "throttle": 2 }));
    says(&attribution(&ec2, &["--json"]).json(), "resource_tag", "unknown", "ThrottledException", "in a minute");
    let later = attribution(&ec2, &["tag"]);
    assert_eq!(later.code, 75, "{later:?}");
    // The name leads nowhere: only the metering endpoint's is left.
    ec2.endpoint_at("127.0.0.1");
    let gone = attribution(&ec2, &["--json"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    let url = "https://tagging.us-east-1.amazonaws.com/ does not answer";
    says(&gone.json(), "resource_tag", "unknown", url, "let TCP 443 out");
    assert_eq!(attribution(&ec2, &["tag"]).code, 75);
    // Metering goes on.
    let mut ec2 = ec2;
    let agent = ec2.world.start_with(ec2.command());
    ec2.good_hour(&agent);
});

on_an_instance!(no_product_code_no_volumes_no_metadata, |ec2| {
    ec2.role(&json!({ "issue": 6 * HOUR }));
    ec2.items(&json!({ "product-codes": null }));
    let none = attribution(&ec2, &["--json"]);
    assert_eq!(none.code, 1, "{none:?}");
    says(&none.json(), "marketplace_metering", "absent", "no product code", "launch it from the AMI of the listing");
    says(&none.json(), "resource_tag", "absent", "its volumes cannot be told from here", "meterd attribution tag");
    ec2.items(&json!({ "product-codes": "somebodys" }));
    let other = attribution(&ec2, &["--json"]).json();
    says(
        &other,
        "marketplace_metering",
        "other",
        "carries somebodys, product.code is prod",
        "product.code = \"somebodys\"",
    );
    assert_eq!(attribution(&ec2, &["tag"]).code, 0);
    let tagged = attribution(&ec2, &["--json"]).json();
    says(&tagged, "resource_tag", "ok", "the instance carries aws-apn-id = pc:prod", "aws ec2 describe-volumes");
    let gone = Command::new("ip").args(["address", "del", "169.254.169.254/32", "dev", "lo"]).status().unwrap();
    assert!(gone.success());
    let silent = attribution(&ec2, &["--json"]);
    assert_eq!(silent.code, 1, "{silent:?}");
    says(&silent.json(), "marketplace_metering", "unknown", "metadata does not answer", "run this on the instance");
    says(&silent.json(), "resource_tag", "unknown", "metadata does not answer", "run this on the instance");
    assert_eq!(attribution(&ec2, &["tag"]).code, 1);
});

on_an_instance!(doctor_and_status_carry_a_line, |ec2| {
    ec2.role(&json!({ "issue": 6 * HOUR }));
    ec2.items(&json!({ "tags/instance/aws-apn-id": "pc:prod" }));
    let doctor = Ran::of(ec2.meterd("doctor").arg("--json")).json();
    let line = doctor.as_array().unwrap().iter().find(|line| line["check"] == "attribution").unwrap().clone();
    let words = "product code carried; user agent on every call; tagged";
    assert_eq!((&line["state"], &line["found"], &line["do"]), (&json!("ok"), &json!(words), &Value::Null));
    let agent = ec2.world.start_with(ec2.command());
    wait_until("the agent has looked", || agent.status()["attribution"]["found"] == words);
    let status = Ran::of(&mut ec2.meterd("status"));
    let page = status.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&format!("credit {words}; seen ")) && page.contains("(meterd attribution)"), "{page}");
    assert_eq!(agent.status()["instance_id"], INSTANCE);
    assert_eq!(calls(&ec2), Vec::<String>::new(), "the agent itself asks metadata only");
});

#[test]
fn the_lines_for_other_software_carry_the_token() {
    let world = World::at_noon();
    let shown = world.run(&["attribution", "--lines"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for of in ["environment", "~/.aws/config", "boto3", "Java ", "JavaScript", "Go ", "Rust", "AWS CLI", "Terraform"] {
        assert!(
            shown.stdout.contains(&format!("\n{of}")) || shown.stdout.contains(&format!(", {of}")),
            "{of}: {shown:?}"
        );
    }
    assert!(shown.stdout.contains("not tried") && shown.stdout.contains("tried: boto3"), "{shown:?}");
    let lines = world.run(&["attribution", "--lines", "--json"]).json();
    for line in lines.as_array().unwrap() {
        let text = line["line"].as_str().unwrap();
        assert!(text.contains("APN_1.1/pc_prod$") || text.contains(r#""APN_1.1", "pc_prod$""#), "{line}");
    }
    // Longer than an application id may be.
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), text.replace("\"prod\"", &format!("\"{}\"", "p".repeat(60)))).unwrap();
    assert!(world.run(&["attribution", "--lines"]).stdout.contains("longer than the 50 characters"));
    fs::write(world.config(), "[product]\n").unwrap();
    assert_eq!(world.run(&["attribution"]).code, 78);
}
