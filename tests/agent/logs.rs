//! The promise of the log: one line a fact, found by its priority in the journal, and few of them however bad it gets.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::fake_aws::FakeAws;
use crate::socket::Lines;
use crate::world::{DIMENSIONS, NOON, World, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
/// Refusals are 60 lines at once and one a minute then, were there as many attempts; sealed hours, deadlines, records
/// that are carried and what AWS takes at last are some for each of the twelve hours and two dimensions.
const OUTAGE_LINES_MAX: usize = 60 + 12 * 60 + 12 * 2 * 6;

/// Calls are refused for ten hours: an hour takes a second.
#[test]
fn an_outage_of_ten_hours_is_some_lines_and_a_storm_of_garbage_none() {
    let mut world = World::new(NOON - 300, 3600);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let agent = world.start();
    let before = agent.log().lines().count();
    aws.fault(&json!({ "kind": "service_unavailable", "until": "+10h" }));
    let until = world.clock.now() + 11.0 * 3600.0;
    while world.clock.now() < until {
        for dimension in ["requests", "gigabytes"] {
            assert_eq!(agent.tell(&ONE.replace("requests", dimension))["ok"], true);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    wait_until("AWS takes records again", || agent.status()["records"]["accepted"].as_u64() > Some(4));
    let log = agent.log();
    let lines = log.lines().count() - before;
    println!("an outage of ten hours: {lines} lines");
    assert!(lines <= OUTAGE_LINES_MAX, "{lines} lines:\n{log}");
    assert!(lines >= 10, "{lines} lines:\n{log}");

    let count = |what: &str| agent.log().lines().filter(|line| line.contains(what)).count();
    let garbage = ["nonsense", r#"{"dimension":"gigabites","quantity":1}"#, "{\"dimension\":\"requests\"}", "{}"];
    let mut client = agent.lines();
    for _ in 0..2000 {
        for bad in &garbage[1..] {
            assert_eq!(client.ask(bad)["ok"], false);
        }
    }
    for n in 0..500 {
        // Neither protocol; HTTP that is none; half a line.
        let mut stranger = Lines::connect(&world.socket());
        stranger.send(["\u{0}\u{1}\n", "GET nowhere\n\n", "{\"dimension\""][n % 3]);
    }
    assert_eq!(agent.tell(ONE)["ok"], true);
    for word in ["gigabites", "nowhere", "bad_request", "connection"] {
        assert_eq!(count(word), 0, "{word}: {}", agent.log());
    }
}

#[test]
fn in_the_journal_a_line_begins_with_its_priority_and_else_with_its_time() {
    let world = World::at_noon();
    let log = world.path("agent.log");
    let file = File::create(&log).unwrap().metadata().unwrap();
    let mut command = world.run_command();
    command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()));
    let mut agent = world.start_with(command);
    agent.signal(rustix::process::Signal::HUP);
    wait_until("it is read again", || agent.log().contains("is in force"));
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "nonsense = 1\n");
    assert_eq!(world.run(&["reload"]).code, 78);
    let said = agent.log();
    for line in said.lines() {
        let rest = ["<3>", "<4>", "<6>"].iter().find_map(|priority| line.strip_prefix(priority));
        assert!(rest.is_some_and(|rest| !rest.starts_with("20") && !rest.contains('\u{1b}')), "{said}");
    }
    assert!(said.lines().any(|line| line.starts_with("<6>ready")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("<3>") && line.contains("meterd.toml")), "{said}");
    agent.kill();

    // A start that fails says so with its priority, too; elsewhere than in the journal as any command does.
    let refused = world.refused();
    assert_eq!((refused.code, refused.stderr.starts_with("meterd: ")), (78, true), "{refused:?}");
    let mut command = world.run_command();
    let stderr = File::options().append(true).open(&log).unwrap();
    command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino())).stderr(stderr);
    assert_eq!(command.status().unwrap().code(), Some(78));
    assert!(agent.log().lines().last().unwrap().starts_with("<3>"), "{}", agent.log());

    // Not the journal, though something of that name is there; and a level nobody knows.
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "");
    fs::write(&log, "").unwrap();
    let mut command = world.run_command();
    command.env("JOURNAL_STREAM", "1:2").env("METERD_LOG", "loud");
    let agent = world.start_with(command);
    let said = agent.log();
    assert!(said.lines().all(|line| line.starts_with("20") && !line.contains('\u{1b}')), "{said}");
    assert!(said.contains("no such level") && said.contains("loud"), "{said}");
}
