//! The promise of the gate: it tells an application how long metering has failed, by the seller's policy, also across
//! `kill -9`; the agent itself takes usage whatever it says.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use meterd::hour::Timestamp;
use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::socket::get;
use crate::world::{DIMENSIONS, NOON, Ran, World, read, wait_for, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
const HOUR: f64 = 3600.0;
/// What an absence may last that does not begin the count anew, see the protocol.
const AWAY: f64 = 15.0 * 60.0;

fn gate(world: &World) -> Value {
    let gate = get(&world.socket(), "/v1/gate").expect("an agent that answers").json();
    assert_eq!(gate["reason"].is_null(), gate["gate"] == "open", "{gate}");
    gate
}

fn seconds(gate: &Value) -> f64 {
    Timestamp::parse(gate["since"].as_str().unwrap()).unwrap_or_else(|| panic!("{gate}")).seconds() as f64
}

/// Runs the protocol's example as an application would.
fn example(world: &World) -> Ran {
    let protocol = read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ingest/PROTOCOL.md")));
    let example = protocol.split("```sh\n").nth(1).expect("an example").split("```").next().unwrap();
    Ran::of(Command::new("sh").arg("-ec").arg(example).env("METERD_SOCKET", world.socket()))
}

#[test]
fn it_warns_and_closes_in_an_outage_and_opens_after_it() {
    let mut world = World::new(NOON - 120, 360);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "[gate]\nwarn_after = \"1h\"\nclose_after = \"2h\"");
    let mut agent = world.start();
    assert_eq!(gate(&world)["gate"], "open");
    assert_eq!(agent.tell(ONE)["ok"], true);
    aws.fault(&json!({ "kind": "service_unavailable", "until": "+99h" }));
    wait_until("AWS was asked", || agent.status()["aws"]["consecutive_failures"] != 0);
    let failed = world.clock.now();
    let warned = wait_for("it warns", || Some(gate(&world)).filter(|gate| gate["gate"] != "open"));
    assert_eq!(warned["gate"], "warn", "{warned}");
    // Sealed at noon and a minute, due a minute later.
    let mut began = seconds(&warned) - HOUR;
    assert!((NOON as f64..failed + 120.0).contains(&began), "from when it failed, {failed}: {warned}");
    assert!(warned["reason"].as_str().unwrap().contains("ServiceUnavailable"), "{warned}");
    assert_eq!(agent.status()["gate"], "warn");
    assert_eq!(example(&world).code, 0);

    // The log's last sign of life before the kill cannot be older than this.
    let attempt = world.records()[0]["last_attempt"].as_str().and_then(Timestamp::parse).unwrap().seconds();
    agent.kill();
    agent = world.start();
    let (after, back) = (gate(&world), world.clock.now());
    if back - (attempt as f64) < AWAY {
        assert_eq!(
            (&after["gate"], &after["since"]),
            (&warned["gate"], &warned["since"]),
            "a restart begins nothing anew"
        );
    } else {
        println!("skipped: the restart took so long that the count began anew");
        began = back - 0.1 * HOUR;
    }
    let closed = wait_for("it closes", || {
        let now = world.clock.now();
        let gate = gate(&world);
        assert!(gate["gate"] != "closed" || now >= began + 2.0 * HOUR, "{now}: before two hours of failure: {gate}");
        (gate["gate"] == "closed").then_some(gate)
    });
    assert!(seconds(&closed) >= began + 2.0 * HOUR, "{closed}");
    assert_eq!(agent.status()["gate"], "closed");
    assert_eq!(agent.tell(ONE)["ok"], true, "usage is taken whatever the gate says");
    let told = example(&world);
    assert!(told.code == 1 && told.stderr.contains("ServiceUnavailable"), "{told:?}");

    aws.mend();
    wait_until("it opens", || gate(&world)["gate"] == "open");
    assert_eq!(agent.status()["gate"], "open");
    assert_eq!(example(&world).code, 0);
    agent.kill();
    assert_eq!(example(&world).code, 0, "an agent that is not there closes nothing");
}

#[test]
fn who_has_nothing_to_send_does_not_fail() {
    let world = World::new(NOON - 120, 3600);
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "[gate]\nwarn_after = \"1m\"\nclose_after = \"2h\"");
    let agent = world.start();
    while world.clock.now() < NOON as f64 + 3.0 * HOUR {
        assert_eq!(gate(&world)["gate"], "open");
        sleep(Duration::from_millis(20));
    }
    assert_eq!(agent.tell(ONE)["ok"], true);
    wait_until("what is not sent counts", || gate(&world)["gate"] == "warn");
    wait_until("and closes", || gate(&world)["gate"] == "closed");
    // Another policy, and it never does.
    agent.stop();
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "");
    let _agent = world.start();
    wait_until("it warns", || gate(&world)["gate"] == "warn");
    let warned = seconds(&gate(&world));
    while world.clock.now() < warned + 4.0 * HOUR {
        assert_eq!(gate(&world)["gate"], "warn");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn while_the_log_cannot_be_opened_it_does_not_close() {
    let world = World::new(NOON - 120, 36_000);
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "[gate]\nwarn_after = \"1h\"\nclose_after = \"2h\"");
    let agent = world.start();
    assert_eq!(agent.tell(ONE)["ok"], true);
    agent.stop();
    // A log that somebody has to mend: a directory stands where its segment was.
    let wal = world.state().join("wal");
    let segment = std::fs::read_dir(&wal).unwrap().map(|e| e.unwrap().path());
    let segment = segment.min().expect("a segment");
    std::fs::remove_file(&segment).unwrap();
    std::fs::create_dir(&segment).unwrap();
    let mut command = world.run_command();
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("it warns", || get(&world.socket(), "/v1/gate").is_some_and(|answer| answer.json()["gate"] == "warn"));
    let since = seconds(&gate(&world));
    wait_until("hours pass", || world.clock.now() > since + 5.0 * HOUR);
    assert_eq!(gate(&world)["gate"], "warn");
    assert_eq!(get(&world.socket(), "/healthz").unwrap().status, 503);
    let metrics = get(&world.socket(), "/metrics").unwrap().body;
    assert!(
        metrics.contains("\nmeterd_ready 0\n") && metrics.contains("\nmeterd_gate_state{state=\"warn\"} 1\n"),
        "{metrics}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
