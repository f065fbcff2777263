//! The promise of the copied log: what one instance left unsent is billed once, whoever wakes up with it, and new usage is
//! metered from the first second. And `scrub`, so that no image holds a log at all.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{Agent, NOON, World, units, wait_until};

/// An hour in six seconds.
const SPEED: u32 = 600;
const REQUESTS: &str = "[[dimension]]\nname = \"requests\"\n";
pub const NOWHERE: &str = "http://127.0.0.1:9";

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub fn configure(world: &World, aws: &str, instance: &str) {
    world.configure(aws, REQUESTS, "", "");
    let text = fs::read_to_string(world.config()).unwrap().replace("i-test", instance);
    fs::write(world.config(), text).unwrap();
}

/// An agent with a role session of its own.
fn start<'w>(world: &'w World, key: &str) -> Agent<'w> {
    let mut command = world.run_command();
    command.env("AWS_ACCESS_KEY_ID", key);
    world.start_with(command)
}

pub fn use_it(agent: &Agent<'_>, quantity: u64) {
    let answer = agent.tell(&format!(r#"{{"dimension":"requests","quantity":{quantity}}}"#));
    assert_eq!(answer["ok"], true, "{answer}");
}

/// What AWS bills to a role session.
fn billed(aws: &FakeAws, key: &str) -> u64 {
    let ledger = aws.ledger();
    let records = ledger["records"].as_array().unwrap().iter();
    let mine = records.filter(|r| r["instance"].as_str().unwrap().contains(key));
    mine.map(|r| r["quantity"].as_u64().unwrap()).sum()
}

fn other_instance(status: &Value) -> Option<String> {
    let mut all = status["attention"].as_array().unwrap().iter();
    Some(all.find(|a| a["code"] == "other_instance")?["message"].as_str().unwrap().to_owned())
}

#[test]
fn of_two_copies_one_adopts_and_one_discards_and_it_is_billed_once() {
    let mut first = World::new(NOON + 600, SPEED);
    let aws = FakeAws::simulation(&mut first, &[]);
    configure(&first, NOWHERE, "i-first");
    let agent = start(&first, "AKIDFIRST");
    use_it(&agent, 5);
    wait_until("its hour is sealed", || agent.status()["records"]["pending"] == 1);
    use_it(&agent, 7);
    // In order, so that no attempt is cut off: that would leave its record in doubt.
    agent.stop();

    let worlds = ["i-second", "i-third"].map(|name| {
        let world = World::new(first.clock.now() as i64, SPEED);
        copy(&first.state(), &world.state());
        configure(&world, &aws.url(), name);
        world
    });
    let [second, third] = &worlds;
    assert_eq!(second.run(&["adopt"]).code, 69, "no agent answers");

    // Each meters from the first second, and holds what is not its own.
    for (world, key, own) in [(second, "AKIDSECOND", 3), (third, "AKIDTHIRD", 4)] {
        let mut agent = start(world, key);
        use_it(&agent, own);
        agent.kill();
        let agent = start(world, key);
        let status = agent.status();
        let told = other_instance(&status).unwrap();
        assert!(told.contains("i-first") && told.contains("12 of requests"), "{told}");
        assert_eq!(units(&agent.books("requests"), "with_person"), 12, "{status}");
        assert_eq!(status["records"]["held"], 1, "{status}");
        let held: Vec<Value> = world.records().into_iter().filter(|r| r["state"] == "held").collect();
        assert_eq!(held[0]["instance"], "i-first", "{held:?}");
        agent.stop();
        let verified = world.run(&["verify", "--json"]);
        assert_eq!((verified.code, &verified.json()["recomputed"]), (0, &json!(true)), "{}", verified.stdout);
    }

    // The word of a person survives whatever comes right behind it, and is taken once.
    for (world, key, verb, own, mine) in [(second, "AKIDSECOND", "adopt", 3, 12), (third, "AKIDTHIRD", "discard", 4, 0)]
    {
        let mut agent = start(world, key);
        let ran = world.run(&[verb, "--json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.json()["usage"], json!({ "requests": "12" }), "{ran:?}");
        agent.kill();
        let agent = start(world, key);
        let again = world.run(&[verb, "i-first"]);
        assert_eq!(again.code, 1, "{again:?}");
        assert!(again.stderr.contains("nothing to decide"), "{again:?}");
        assert_eq!(other_instance(&agent.status()), None);
        wait_until("all of it is with AWS", || {
            let books = agent.books("requests");
            books["open"] == "0" && books["pending"] == "0"
        });
        let books = agent.books("requests");
        assert_eq!((units(&books, "accepted"), units(&books, "with_person")), (own + mine, 0), "{books}");
        assert_eq!(units(&books, "discarded"), 12 - mine, "{books}");
        agent.stop();
        let verified = world.run(&["verify", "--json"]);
        assert_eq!((verified.code, &verified.json()["recomputed"]), (0, &json!(true)), "{}", verified.stdout);
        assert_eq!(world.run(&["inspect"]).code, 0);
    }
    assert_eq!([billed(&aws, "AKIDSECOND"), billed(&aws, "AKIDTHIRD")], [3 + 12, 4]);
}

#[test]
fn a_name_that_comes_back_goes_on() {
    let mut world = World::new(NOON + 600, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    configure(&world, NOWHERE, "i-first");
    let agent = start(&world, "AKIDFIRST");
    use_it(&agent, 5);
    agent.stop();
    configure(&world, NOWHERE, "i-typo");
    let agent = start(&world, "AKIDFIRST");
    use_it(&agent, 1);
    assert!(other_instance(&agent.status()).is_some());
    agent.stop();
    configure(&world, &aws.url(), "i-first");
    let agent = start(&world, "AKIDFIRST");
    let told = other_instance(&agent.status()).unwrap();
    assert!(told.contains("i-typo") && told.contains("1 of requests"), "{told}");
    assert_eq!(world.run(&["adopt"]).code, 0);
    wait_until("all of it is with AWS", || units(&agent.books("requests"), "accepted") == 6);
    agent.stop();
    assert_eq!(billed(&aws, "AKIDFIRST"), 6);
    assert_eq!(world.run(&["verify"]).code, 0);
}

#[test]
fn scrub_leaves_a_directory_in_which_a_log_begins() {
    let world = World::at_noon();
    configure(&world, NOWHERE, "i-builder");
    let agent = world.start();
    use_it(&agent, 5);
    let ran = world.run(&["scrub", "--discard-unsent"]);
    assert_eq!(ran.code, 73, "{ran:?}");
    agent.stop();
    let ran = world.run(&["scrub", "--json"]);
    assert_eq!((ran.code, &ran.json()["unsent"][0]["open"]), (1, &json!("5")), "{ran:?}");
    assert_eq!(world.run(&["verify"]).code, 0, "nothing was touched");
    let ran = world.run(&["scrub", "--discard-unsent", "--json"]);
    assert_eq!((ran.code, &ran.json()["ok"]), (0, &json!(true)), "{ran:?}");
    assert_eq!(fs::read_dir(world.state()).unwrap().count(), 0);
    assert!(world.config().exists());
    assert_eq!(world.run(&["scrub"]).code, 0, "there is nothing left to do");
    configure(&world, NOWHERE, "i-launched");
    let agent = world.start();
    assert_eq!(agent.status()["log"]["accepted_seq"], 0);
    assert_eq!(other_instance(&agent.status()), None);
    agent.stop();
}
