//! The promise of `meterd verify` and `inspect` beside the real agent, and of retention in it: segments go by
//! themselves, on the agent's own clock, and nothing that was shown is shown no longer.

use std::fs;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::world::{DIMENSIONS, NOON, World, read, units, wait_until};

#[test]
fn segments_go_while_the_agent_runs_and_its_records_stay() {
    // An hour in half a second; keys are forgotten after a day, segments a day after they were filled.
    let mut world = World::new(NOON, 7200);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let text = read(&world.config()).replace("[state]\n", "[state]\nretain_days = 1\n");
    fs::write(world.config(), text).unwrap();
    let agent = world.start();
    let mut writer = agent.lines();
    let array: Vec<Value> =
        (0..300).map(|_| json!({"dimension": "requests", "quantity": 1, "tags": {"t": "x".repeat(150)}})).collect();
    let line = serde_json::to_string(&array).unwrap();
    let (mut sent, mut gone) = (0, false);
    wait_until("segments to go", || {
        let answer = writer.ask(&line);
        assert_eq!(answer["ok"], true, "{answer}");
        sent += 300;
        gone = !world.state().join("wal/0000000000000001.seg").exists();
        gone
    });
    // Beside the agent nothing is called damage, and its books are summed once more.
    let verified = world.run(&["verify", "--json"]);
    let report = verified.json();
    assert_eq!((verified.code, &report["findings"]), (0, &json!([])), "{report:#}");
    assert_eq!(report["recomputed"], true);
    assert!(report["segments"][0].as_u64().unwrap() > 1, "{report:#}");
    assert_eq!(world.run(&["inspect", "--limit", "5"]).code, 0);
    wait_until("what was counted to be what is there", || {
        let log = &agent.status()["log"];
        let files = fs::read_dir(world.state().join("wal")).unwrap();
        let files: Vec<_> =
            files.filter_map(Result::ok).filter(|f| f.path().extension().is_some_and(|e| e == "seg")).collect();
        let bytes: u64 = files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
        (log["segments"].as_u64(), log["bytes"].as_u64()) == (Some(files.len() as u64), Some(bytes))
    });
    let books = agent.books("requests");
    assert_eq!(units(&books, "received"), sent, "{books}");
    agent.stop();
    // Without the index all that was shown is shown again.
    let agent = world.start();
    let before = world.records();
    agent.stop();
    fs::remove_dir_all(world.state().join("index")).unwrap();
    let agent = world.start();
    let after = world.records();
    assert!(before.len() > 20, "{}", before.len());
    assert_eq!(after[..before.len()], before);
    agent.stop();
    assert_eq!(world.run(&["verify"]).code, 0);
}
