//! The promise of the measures, as a seller sees it: what is configured is what AWS is sent, through kills and restarts.

use std::io::Write;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{NOON, World, units, wait_until};

/// An hour takes two seconds.
const SPEED: u32 = 1800;

/// How many distinct ids to report: more by hand, `METERD_TEST_IDS=1000000`.
fn ids() -> usize {
    std::env::var("METERD_TEST_IDS").map_or(30_000, |n| n.parse().expect("a number"))
}

#[test]
fn a_kill_between_many_ids_leaves_the_exact_count() {
    // An hour that lasts as long as it takes to report.
    let world = &World::at_noon();
    world.configure("http://127.0.0.1:9", "[[dimension]]\nname = \"active\"\nmeasure = \"unique\"\n", "", "");
    let mut agent = world.start();
    let ids = ids();
    let line = |n: usize| format!("{{\"dimension\":\"active\",\"id\":\"user-{n}\"}}\n");
    // The first half in flight, killed in the middle; a client does not know what was taken, and sends all of it again.
    let mut client = agent.lines();
    let mut out = client.split();
    let half: String = (0..ids / 2).map(line).collect();
    let sending = std::thread::spawn(move || drop(out.write_all(half.as_bytes())));
    for _ in 0..ids / 4 {
        assert_eq!(client.answer()["ok"], true);
    }
    agent.kill();
    sending.join().unwrap();
    let agent = world.start();
    let mut client = agent.lines();
    let mut out = client.split();
    // And each id twice, for good measure.
    let all: String = (0..ids).chain((0..ids).rev()).map(line).collect();
    let sending = std::thread::spawn(move || out.write_all(all.as_bytes()).unwrap());
    for _ in 0..2 * ids {
        assert_eq!(client.answer()["ok"], true);
    }
    sending.join().unwrap();
    assert_eq!(units(&agent.books("active"), "received"), ids as u64);
    let status = agent.status();
    assert_eq!(status["open_hour"]["dimensions"][0], json!({ "name": "active", "usage": ids.to_string() }));
    agent.stop();
    println!("{ids} distinct ids");
}

/// Runs agents for `hours`, with what `between` does to them every hour, until AWS has what was sealed.
fn scene(dimensions: &str) -> (World, FakeAws) {
    let mut world = World::new(NOON, SPEED);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), dimensions, "", "");
    (world, aws)
}

fn record(world: &World, hour: i64, dimension: &str) -> Option<Value> {
    let hour = meterd::hour::Timestamp::from_seconds(hour).to_string();
    world.records().into_iter().find(|r| r["hour"] == hour && r["dimension"] == dimension)
}

#[test]
fn uptime_counts_every_second_once_through_kills() {
    let (world, aws) = scene("[[dimension]]\nname = \"seconds\"\nmeasure = \"uptime\"\n");
    let mut agent = world.start();
    let first = (world.clock.now() as i64) / 3600 * 3600;
    while world.clock.now() < first as f64 + 3.2 * 3600.0 {
        std::thread::sleep(std::time::Duration::from_millis(700));
        agent.kill();
        agent = world.start();
    }
    wait_until("AWS has three hours", || agent.status()["records"]["accepted"].as_u64() >= Some(3));
    // The hours that lie wholly within: not a second more or less, however often it was killed.
    for hour in [first + 3600, first + 7200] {
        let record = record(&world, hour, "seconds").unwrap();
        assert_eq!(record["quantity"], 3600, "{record}");
    }
    assert_eq!(aws.ledger()["totals"]["seconds"], units(&agent.books("seconds"), "accepted"));
}

#[test]
fn parts_are_billed_as_one_credit_less_what_is_included() {
    let (world, aws) = scene(
        "[[dimension]]\nname = \"credits\"\nincluded = { quantity = \"10\", per = \"month\" }\nfrom = [{ name = \
         \"reads\", weight = \"0.5\" }, { name = \"writes\", weight = \"5\" }]\n[[dimension]]\nname = \
         \"reads\"\nmeasure = \"count\"\n[[dimension]]\nname = \"writes\"\n",
    );
    let mut agent = world.start();
    let mut client = agent.lines();
    let tell = |client: &mut crate::socket::Lines, line: &str| client.ask(line);
    for line in [r#"{"dimension":"writes","quantity":3}"#, r#"{"dimension":"reads"}"#] {
        assert_eq!(tell(&mut client, line)["ok"], true);
    }
    let refused = tell(&mut client, r#"{"dimension":"credits","quantity":1}"#);
    assert_eq!(refused["error"], "bad_request");
    assert!(refused["message"].as_str().unwrap().contains("report reads, writes"), "{refused}");
    agent.kill();
    let agent = world.start();
    wait_until("AWS has it", || agent.status()["records"]["accepted"] == 1);
    let books = agent.books("credits");
    assert_eq!(
        (&books["received"], &books["included"], &books["accepted"]),
        (&json!("15.5"), &json!("10"), &json!("5"))
    );
    assert_eq!((&books["remainder"], &books["balanced"]), (&json!("0.5"), &json!(true)));
    assert_eq!(agent.status()["books"].as_array().unwrap().len(), 1, "parts have no books of their own");
    assert_eq!(aws.ledger()["totals"], json!({ "credits": 5 }));
    let record = &world.records()[0];
    assert_eq!((&record["included"], &record["usage"], &record["quantity"]), (&json!("10"), &json!("15.5"), &json!(5)));
}

#[test]
fn a_spike_waits_for_a_person_and_goes_out_as_that_person_says() {
    let (world, aws) = scene("[[dimension]]\nname = \"requests\"\nhold_above = \"100\"\n");
    let mut agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5000}"#)["ok"], true);
    wait_until("it is held", || agent.status()["records"]["held"] == 1);
    let status = world.run(&["status", "--json"]);
    let attention = &status.json()["attention"][0];
    assert_eq!((status.code, &attention["code"]), (1, &json!("spike")), "{attention}");
    assert!(attention["do"].as_str().unwrap().contains("meterd release"), "{attention}");
    // Other hours go on.
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":7}"#)["ok"], true);
    wait_until("the next hour goes out", || agent.status()["records"]["accepted"] == 1);
    assert_eq!(aws.ledger()["totals"]["requests"], 7);
    agent.kill();
    let mut agent = world.start();
    let held = world.records().into_iter().find(|r| r["state"] == "held").unwrap();
    let hour = held["hour"].as_str().unwrap();
    assert_eq!((&held["hold"], &held["attempts"]), (&json!("above 100"), &json!(0)));
    let none = world.run(&["release", "2020-01-01T00:00:00Z", "requests"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("is held back by the agent"), "{none:?}");
    let released = world.run(&["release", hour, "requests", "--at-most", "250"]);
    assert_eq!((released.code, released.stdout.as_str()), (0, "released: it is sent now\n"), "{released:?}");
    agent.kill();
    let agent = world.start();
    wait_until("AWS has it", || agent.status()["records"]["accepted"] == 2);
    assert_eq!(aws.ledger()["totals"]["requests"], 257);
    let books = agent.books("requests");
    assert_eq!(
        (&books["discarded"], &books["accepted"], &books["with_person"]),
        (&json!("4750"), &json!("257"), &json!("0"))
    );
    assert_eq!(books["balanced"], true);
    let sent = world.records().into_iter().find(|r| r["hour"] == hour).unwrap();
    assert_eq!((&sent["quantity"], &sent["decided_by"]), (&json!(250), &json!(rustix::process::geteuid().as_raw())));
    assert!(sent["decided_at"].is_string(), "{sent}");
    assert_eq!(world.run(&["status"]).code, 0);
    assert!(agent.log().contains("released by a person"), "the journal says so");
}
