//! The promise of the clock: one that cannot be right seals nothing, and says so until it is confirmed. The machine's own
//! clock is never touched: a library between the agent and the system tells it another time.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::fake_aws::FakeAws;
use crate::world::{Agent, World, wait_until};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// An agent that believes the machine's clock, shifted by what `shift` says.
fn shifted<'w>(world: &'w World, shift: &Path) -> Agent<'w> {
    let mut command: Command = world.meterd(&["run"]);
    command.env("LD_PRELOAD", LIBRARY).env("FAKETIME_TIMESTAMP_FILE", shift);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    world.start_with(command)
}

fn doubted(agent: &Agent<'_>) -> bool {
    agent.status()["attention"].as_array().unwrap().iter().any(|a| a["code"] == "clock_doubt")
}

#[test]
fn a_clock_that_jumps_is_not_believed_until_it_is_confirmed() {
    if !Path::new(LIBRARY).exists() {
        println!("skipped: no libfaketime here (apt-get install faketime)");
        return;
    }
    let world = World::new(0, 1);
    let aws = FakeAws::on_the_machines_clock(&world, &[]);
    world.configure(&aws.url(), "[[dimension]]\nname = \"requests\"\n", "", "");
    let shift = world.path("shift");
    fs::write(&shift, "+0").unwrap();
    let mut agent = shifted(&world, &shift);
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":1}"#)["ok"], true);
    let hour = agent.status()["open_hour"]["hour"].clone();
    assert!(!doubted(&agent));

    // A year ahead, while it runs.
    fs::write(&shift, "+31536000").unwrap();
    wait_until("the jump is seen", || doubted(&agent));
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":2}"#)["ok"], true);
    assert_eq!(world.run(&["status"]).code, 1);
    assert_eq!(agent.books("requests")["open"], "3", "nothing is sealed");
    assert!(world.records().is_empty());
    // Killed and started again it does not believe it either.
    agent.kill();
    let mut agent = shifted(&world, &shift);
    assert!(doubted(&agent));
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":4}"#)["ok"], true);
    assert!(world.records().is_empty());

    // Set right again.
    fs::write(&shift, "+0").unwrap();
    wait_until("it is believed", || !doubted(&agent));
    let open = &agent.status()["open_hour"];
    assert!(open["hour"].as_str() >= hour.as_str(), "no hour is opened again: {open}");
    assert_eq!(agent.books("requests")["received"], "7");
    agent.kill();
    let agent = shifted(&world, &shift);
    assert!(!doubted(&agent));
    assert_eq!(agent.books("requests")["received"], json!("7"));
}
