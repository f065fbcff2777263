//! The promise of the end: the hour that goes on is sent before the instance is gone, once, and only then; what comes
//! after it counts in the next hour.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{Agent, NOON, World, units, wait_until};

const HALF_PAST: f64 = (NOON + 1800) as f64;
const DIMENSIONS: &str = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"users\"\nmeasure = \"max\"\n";

/// Half past noon. AWS's clock is three hours further, so that later hours can be played without waiting for them.
fn half_past_noon() -> (World, FakeAws) {
    let mut world = World::new(NOON + 3 * 3600, 1);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    world.clock.set(HALF_PAST);
    (world, aws)
}

/// Instance metadata that has these items.
struct Metadata {
    items: Arc<Mutex<BTreeMap<String, String>>>,
    addr: SocketAddr,
}

impl Metadata {
    fn serve() -> Metadata {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, items) = (listener.local_addr().unwrap(), Arc::<Mutex<BTreeMap<String, String>>>::default());
        let shown = Arc::clone(&items);
        // It ends with the test's process.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &shown)));
        Metadata { items, addr }
    }

    fn set(&self, item: &str, text: &str) {
        self.items.lock().unwrap().insert(format!("/latest/meta-data/{item}"), text.to_owned());
    }

    fn clear(&self) {
        self.items.lock().unwrap().clear();
    }

    /// The agent's command line, which finds this metadata.
    fn command(&self, world: &World) -> Command {
        let mut command = world.run_command();
        command.env_remove("AWS_EC2_METADATA_DISABLED");
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", self.addr));
        command
    }
}

fn answer(mut stream: TcpStream, items: &Mutex<BTreeMap<String, String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = first.split(' ').nth(1).unwrap_or_default();
    let found = items.lock().unwrap().get(path).cloned();
    let (status, body) = match found {
        _ if first.starts_with("PUT /latest/api/token ") => ("200 OK", "token".to_owned()),
        Some(text) => ("200 OK", text),
        None => ("404 Not Found", String::new()),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn add(agent: &Agent<'_>, quantity: u64) {
    let answer = agent.tell(&format!("{{\"dimension\":\"requests\",\"quantity\":{quantity}}}"));
    assert_eq!(answer["ok"], true, "{answer}");
}

/// Asks with a report of nothing.
fn is_refused(agent: &Agent<'_>) -> bool {
    let answer = agent.tell(r#"{"dimension":"requests","quantity":0}"#);
    let refused = answer["error"] == "shutting_down";
    if refused {
        assert_eq!((&answer["retryable"], &answer["recorded"]), (&json!(true), &json!("no")), "{answer}");
    }
    refused
}

fn attention(agent: &Agent<'_>) -> Vec<Value> {
    agent.status()["attention"].as_array().unwrap().iter().map(|a| a["code"].clone()).collect()
}

/// What AWS holds, as `(hour, dimension, quantity)`, and nothing twice.
fn billed(aws: &FakeAws) -> Vec<(String, String, u64)> {
    let ledger = aws.ledger();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let records = ledger["records"].as_array().unwrap().iter();
    let mut billed: Vec<_> =
        records.map(|r| (text(&r["hour"]), text(&r["dimension"]), r["quantity"].as_u64().unwrap())).collect();
    billed.sort();
    billed
}

fn at(hour: &str, dimension: &str, quantity: u64) -> (String, String, u64) {
    (format!("2026-11-21T{hour}:00:00Z"), dimension.to_owned(), quantity)
}

#[test]
fn a_spot_notice_gets_the_open_hour_accepted_and_a_reboot_does_not() {
    let (mut world, aws) = half_past_noon();
    let metadata = Metadata::serve();
    metadata.set("autoscaling/target-lifecycle-state", "InService");
    let agent = world.start_with(metadata.command(&world));
    add(&agent, 3);
    // A reboot: stopped in order, and started again.
    agent.stop();
    assert_eq!(billed(&aws), []);
    let agent = world.start_with(metadata.command(&world));
    add(&agent, 4);
    assert_eq!((billed(&aws), agent.status()["ending"].clone()), (vec![], Value::Null));

    // Two minutes ahead, by the clock that the agent sees.
    let moment = meterd::hour::Timestamp::from_seconds(world.clock.now() as i64 + 120);
    metadata.set("spot/instance-action", &json!({ "action": "terminate", "time": moment.to_string() }).to_string());
    wait_until("AWS has the hour that goes on", || billed(&aws) == [at("12", "requests", 7)]);
    let end = world.clock.now();
    assert!(end < moment.seconds() as f64 || end > HALF_PAST + 300.0, "on a machine that is not too slow: in time");
    assert!(is_refused(&agent));
    wait_until("it is written down", || units(&agent.books("requests"), "accepted") == 7);
    assert_eq!(attention(&agent), ["ending"]);
    let record = world.records().pop().unwrap();
    let stamp = record["timestamp"].as_str().unwrap().to_owned();
    assert!(*"2026-11-21T12:30:00Z" <= *stamp && *stamp < *"2026-11-21T12:59:59Z", "{record}");

    // The machine lives after all: the notice goes.
    metadata.clear();
    wait_until("the end is called off", || !is_refused(&agent));
    assert_eq!(attention(&agent), Vec::<Value>::new());
    assert_eq!(agent.status()["open_hour"]["hour"], "2026-11-21T13:00:00Z");

    add(&agent, 8);

    // Auto-scaling, within the same hour: it is closed already, and what came since counts in the next one.
    metadata.set("autoscaling/target-lifecycle-state", "Terminated");
    wait_until("it ends again", || is_refused(&agent));
    drop(agent);
    metadata.clear();
    world.clock.set(HALF_PAST + 2.0 * 3600.0);
    let _agent = world.start_with(metadata.command(&world));
    wait_until("the next hour goes out too", || billed(&aws) == [at("12", "requests", 7), at("13", "requests", 8)]);
    let verified = world.run(&["verify", world.state().to_str().unwrap()]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn asked_twice_and_killed_before_it_is_sent_it_is_billed_once() {
    let (mut world, aws) = half_past_noon();
    aws.fault(&json!({ "kind": "throttle" }));
    let mut agent = world.start();
    add(&agent, 5);
    assert_eq!(agent.tell(r#"{"dimension":"users","quantity":9}"#)["ok"], true);
    let seal = |args: &[&str]| {
        let ran = world.run(&[&["seal", "--final", "--json"], args].concat());
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        let waiting: Vec<Value> = answer["waiting"].as_array().unwrap().iter().map(|r| r["quantity"].clone()).collect();
        (ran.code, answer["closed"].clone(), waiting)
    };
    // AWS takes nothing: what waits is told, and that a retry makes sense. The same answer twice.
    let waits = (75, json!("2026-11-21T12:00:00Z"), vec![json!(5), json!(9)]);
    assert_eq!(seal(&["--timeout", "0s", "--why", "poweroff"]), waits);
    assert_eq!(seal(&["--timeout", "1s"]), waits);
    assert!(is_refused(&agent));
    let text = world.run(&["seal", "--final", "--timeout", "0s"]);
    assert_eq!(text.code, 75);
    assert!(text.stdout.contains("2026-11-21T12:00:00Z requests 5: waits"), "{text:?}");
    agent.kill();
    drop(agent);

    // A machine that lives again, in the same hour.
    aws.mend();
    let agent = world.start();
    let both = [at("12", "requests", 5), at("12", "users", 9)];
    wait_until("AWS has both, without a pause", || billed(&aws) == both);
    add(&agent, 6);
    assert_eq!(agent.status()["open_hour"]["hour"], "2026-11-21T13:00:00Z");
    let status = world.run(&["status"]);
    assert!(status.stdout.contains("2026-11-21 13:00 to 14:00 UTC (the one before it was closed early)"), "{status:?}");
    // Of a sealed hour a sum is late, and a level cannot be moved.
    let stamped = |line: Value| agent.tell(&line.to_string());
    let late = stamped(json!({ "dimension": "requests", "quantity": 2, "at": "2026-11-21T12:29:00Z" }));
    assert_eq!(late["ok"], true, "{late}");
    let level = stamped(json!({ "dimension": "users", "quantity": 2, "at": "2026-11-21T12:29:00Z" }));
    assert_eq!(level["error"], "hour_closed", "{level}");
    // Ended once more in that hour there is nothing to seal: it has begun for nobody.
    wait_until("its outcomes are written down", || agent.status()["records"]["accepted"] == 2);
    let ran = world.run(&["seal", "--final"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("2026-11-21T13:00:00Z requests 8: in no record yet"), "{ran:?}");
    assert_eq!(billed(&aws), both);
    agent.stop();

    world.clock.set(HALF_PAST + 2.0 * 3600.0);
    let _agent = world.start();
    let all = [&both[..], &[at("13", "requests", 8)]].concat();
    wait_until("the next hour goes out too", || billed(&aws) == all);
    let records = world.records();
    assert_eq!(records.len(), 3, "{records:#?}");
    let late: Vec<&Value> = records.iter().map(|r| &r["late"]).collect();
    assert_eq!(late, ["0", "0", "2"]);
    let verified = world.run(&["verify", world.state().to_str().unwrap()]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn called_off_by_a_person_usage_is_taken_into_the_next_hour() {
    let (world, aws) = half_past_noon();
    let agent = world.start();
    let keyed = r#"{"dimension":"requests","quantity":5,"key":"k"}"#;
    assert_eq!(agent.tell(keyed)["ok"], true);
    let ran = world.run(&["seal", "--final"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("2026-11-21T12:00:00Z requests 5: accepted"), "{ran:?}");
    assert!(is_refused(&agent));
    // What is known already is not new.
    assert_eq!(agent.tell(keyed)["duplicate"], true);
    let status = world.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.stdout.starts_with("usage is NOT being taken"), "{status:?}");
    assert_eq!(world.run(&["seal", "--cancel"]).code, 0);
    assert_eq!(world.run(&["seal", "--cancel"]).code, 0, "twice is as good as once");
    add(&agent, 1);
    assert_eq!(world.run(&["status"]).code, 0);
    assert_eq!(billed(&aws), [at("12", "requests", 5)]);
    let shown = world.run(&["inspect", world.state().to_str().unwrap()]).stdout;
    assert!(shown.contains("this instance ends (seal --final)") && shown.contains("the end is called off"), "{shown}");
    // Without a word about what to do, it does nothing.
    assert_eq!(world.run(&["seal"]).code, 64);
    agent.stop();
    assert_eq!(world.run(&["seal", "--final"]).code, 69, "nobody answers");
}
