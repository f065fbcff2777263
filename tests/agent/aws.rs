//! The main proof: several hours, three `kill -9` and an outage, and AWS's own model as the judge. What AWS holds is
//! what was acknowledged, to the unit; every request is one that AWS's service model allows; a retry is the same bytes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::fake_aws::FakeAws;
use crate::socket::Lines;
use crate::world::{NOON, World, units, wait_until};

/// An hour takes three seconds.
const SPEED: u32 = 1200;
const HOUR: f64 = 3600.0;

/// Reports `quantity` again and again, each time with a key until it is acknowledged, through every restart; the sum.
pub fn writer(world: &World, name: &str, dimension: &str, quantity: u64, done: &AtomicBool) -> u64 {
    let mut client: Option<Lines> = None;
    let mut tally = 0;
    for n in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let tags = if n % 3 == 0 { format!(r#","tags":{{"writer":"{name}"}}"#) } else { String::new() };
        let line = format!("{{\"dimension\":\"{dimension}\",\"quantity\":{quantity},\"key\":\"{name}-{n}\"{tags}}}\n");
        loop {
            if client.is_none() {
                client = Lines::try_connect(&world.socket()).ok();
            }
            let told = client.as_mut().and_then(|c| {
                c.try_send(&line).ok()?;
                c.try_line().ok()?
            });
            match told {
                // Keys wait for the index; they are not lost.
                Some(answer) if answer.contains("\"not_ready\"") => sleep(Duration::from_millis(10)),
                Some(answer) => {
                    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
                    tally += quantity;
                    break;
                }
                None => {
                    client = None;
                    sleep(Duration::from_millis(10));
                }
            }
        }
        sleep(Duration::from_millis(20));
    }
    tally
}

fn hours_with_an_outage(modes: &[&str]) {
    let mut world = World::new(NOON - 600, SPEED);
    let Some(aws) = FakeAws::endpoint(&mut world.clock, &["--secret", "dummy"]) else { return };
    let dimensions = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"bytes\"\nunit = \"1000\"\n";
    world.configure(&aws.url(), dimensions, "", "");
    let done = AtomicBool::new(false);
    let (mut agent, world, done) = (world.start(), &world, &done);
    let (requests, bytes) = thread::scope(|scope| {
        let requests = ["a", "b"].map(|name| scope.spawn(move || writer(world, name, "requests", 1, done)));
        let bytes = ["c", "d"].map(|name| scope.spawn(move || writer(world, name, "bytes", 617, done)));
        let begun = world.clock.now();
        // What happens at which hour.
        let kills = [1.4, 3.1, 4.7];
        let outage = (2.5, 3.5);
        let mut killed = 0;
        let mut mode = "ok";
        loop {
            let hours = (world.clock.now() - begun) / HOUR;
            let during = (outage.0..outage.1).contains(&hours);
            let part = ((hours - outage.0) / (outage.1 - outage.0) * modes.len() as f64) as usize;
            let wanted = if during { modes[part.min(modes.len() - 1)] } else { "ok" };
            if wanted != mode {
                aws.control(wanted);
                mode = wanted;
            }
            if kills.get(killed).is_some_and(|at| hours > *at) {
                agent.kill();
                agent = world.start();
                killed += 1;
            }
            if hours > 6.0 {
                break;
            }
            sleep(Duration::from_millis(5));
        }
        assert_eq!(killed, kills.len());
        done.store(true, Ordering::Relaxed);
        let sum =
            |writers: [thread::ScopedJoinHandle<'_, u64>; 2]| writers.map(|w| w.join().unwrap()).iter().sum::<u64>();
        (sum(requests), sum(bytes))
    });
    wait_until("nothing is on its way", || {
        let books = ["requests", "bytes"].map(|name| agent.books(name));
        books.iter().all(|b| b["open"] == "0" && b["pending"] == "0")
    });

    let ledger = aws.checked_ledger();
    assert_eq!(ledger["violations"], Value::Array(vec![]), "{:#}", ledger["violations"]);
    let (of_requests, of_bytes) = (agent.books("requests"), agent.books("bytes"));
    assert_eq!(units(&of_requests, "received"), requests);
    assert_eq!(units(&of_bytes, "received"), bytes);
    assert_eq!(ledger["totals"]["requests"], requests, "{of_requests:#}");
    assert_eq!(ledger["totals"]["bytes"].as_u64().unwrap() * 1000 + units(&of_bytes, "remainder"), bytes);
    assert!(units(&of_bytes, "remainder") < 1000);

    let held = ledger["records"].as_array().unwrap();
    let mut hours = BTreeSet::new();
    for record in held {
        assert_eq!(record["bodies"].as_array().unwrap().len(), 1, "a retry is the same bytes: {record:#}");
        assert!(hours.insert((record["dimension"].to_string(), record["hour"].to_string())), "{record:#}");
    }
    // Any two requests with one token, taken or not, are the same bytes; dry runs carry a mark of their own.
    let requests = ledger["requests"].as_array().unwrap();
    let mut bodies = std::collections::BTreeMap::new();
    for request in requests {
        let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        if body["DryRun"] != true {
            let token = body["ClientToken"].as_str().unwrap().to_owned();
            let first = bodies.entry(token).or_insert_with(|| request["body"].clone());
            assert_eq!(*first, request["body"]);
        }
        let headers = request["headers"].as_object().unwrap();
        let agent = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("user-agent")).unwrap().1;
        assert!(agent.as_str().unwrap().starts_with("APN_1.1/pc_prod$ "), "{agent}");
    }
    assert!(requests.len() > held.len(), "the outage was not felt");
    let records = world.records();
    assert_eq!(records.iter().filter(|r| r["state"] == "accepted").count(), held.len());
    for record in records.iter().filter(|r| r["state"] == "accepted") {
        let id = &record["metering_record_id"];
        let at_aws = held.iter().find(|h| h["metering_record_id"] == *id).unwrap_or_else(|| panic!("{record}"));
        assert_eq!((&at_aws["hour"], &at_aws["quantity"]), (&record["hour"], &record["quantity"]));
    }
    assert_eq!(world.run(&["status"]).code, 0);
}

#[test]
fn through_kills_and_an_hour_of_lost_replies_aws_holds_what_was_acknowledged() {
    hours_with_an_outage(&["lose_reply"]);
}

#[test]
fn through_kills_and_an_hour_of_every_other_trouble_too() {
    hours_with_an_outage(&["throttle", "error500", "drop", "garbage", "unavailable", "refuse"]);
}
