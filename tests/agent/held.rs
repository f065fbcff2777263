//! The promise to whoever made a mistake in the configuration: what AWS refused for it is billed once it is mended.

use std::fs;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{Agent, NOON, World, units, wait_until};

/// An hour takes six seconds, and one is about to end.
const SPEED: u32 = 600;

fn configure(world: &World, aws: &FakeAws, product: &str, dimension: &str) {
    world.configure(&aws.url(), &format!("[[dimension]]\nname = \"{dimension}\"\n"), "", "");
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), text.replace("code = \"prod\"", &format!("code = \"{product}\""))).unwrap();
}

fn wait_for_held(world: &World, agent: &Agent<'_>, word: &str) -> Value {
    let mut held = Value::Null;
    wait_until(&format!("a record is held for {word}"), || {
        held = world.records().into_iter().find(|r| r["state"] == "held").unwrap_or_default();
        held["last_error"].as_str().is_some_and(|why| why.contains(word))
    });
    assert_eq!(agent.status()["records"]["pending"], 0);
    held
}

#[test]
fn a_mistyped_product_code_and_a_mistyped_dimension_are_mended_and_all_is_billed_once() {
    let mut world = World::new(NOON - 300, SPEED);
    let aws = FakeAws::simulation(&mut world, &["--product", "meant", "--dimension", "queries"]);
    configure(&world, &aws, "typo", "typos");
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"typos","quantity":5}"#)["ok"], true);
    let first = wait_for_held(&world, &agent, "InvalidProductCode");
    agent.stop();

    // The product's code is mended: fixed anew, which brings the next mistake to light.
    configure(&world, &aws, "meant", "typos");
    let mut agent = world.start();
    let second = wait_for_held(&world, &agent, "InvalidUsageDimension");
    assert_eq!((&second["hour"], &second["quantity"], &second["generation"]), (&first["hour"], &json!(5), &json!(1)));
    assert_ne!(second["client_token"], first["client_token"]);
    let old = world.records().into_iter().find(|r| r["generation"] == 0).expect("the first generation");
    assert_eq!((&old["state"], &old["carried_into"]), (&json!("carried"), &first["hour"]));
    let calls = aws.calls().len();
    agent.kill();

    // The dimension is mended: the change tries it once more in vain, and a person says where its units belong.
    configure(&world, &aws, "meant", "queries");
    let agent = world.start();
    wait_until("it was tried once more", || aws.calls().len() == calls + 1);
    wait_for_held(&world, &agent, "InvalidUsageDimension");
    let hour = first["hour"].as_str().unwrap();
    let refused = world.run(&["settle", hour, "typos", "carry", "--to", "nowhere"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("configured: queries"), "{refused:?}");
    let said = world.run(&["settle", hour, "typos", "carry", "--to", "queries"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(agent.tell(r#"{"dimension":"queries","quantity":2}"#)["ok"], true);
    wait_until("AWS has all of it", || units(&agent.books("queries"), "accepted") == 7);
    assert_eq!(aws.ledger()["totals"], json!({ "queries": 7 }));
    assert_eq!(units(&agent.books("queries"), "received"), 7);
    assert_eq!(units(&agent.books("typos"), "with_person"), 0);
    assert_eq!(world.run(&["status"]).code, 0);
}

#[test]
fn what_is_released_after_its_window_is_carried_and_the_command_says_so() {
    let mut world = World::new(NOON - 300, 3600);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), "[[dimension]]\nname = \"requests\"\n", "window = \"1h\"", "");
    aws.fault(&json!({ "kind": "error", "code": "CustomerNotEntitledException", "times": 1 }));
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5}"#)["ok"], true);
    let held = wait_for_held(&world, &agent, "CustomerNotEntitled");
    let over = world.clock.now() + 2.0 * 3600.0;
    wait_until("the window has passed", || world.clock.now() > over);
    assert_eq!(units(&agent.books("requests"), "with_person"), 5);
    let said = world.run(&["settle", held["hour"].as_str().unwrap(), "requests", "retry"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("next record"), "{said:?}");
    wait_until("AWS has it", || units(&agent.books("requests"), "accepted") == 5);
    assert_eq!(aws.ledger()["totals"], json!({ "requests": 5 }));
}
