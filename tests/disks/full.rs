//! A full disk: usage is refused and nothing else; seals and submission go on, a killed agent starts, and when there is
//! room again all is as before. Sees real ENOSPC of ext4 and tmpfs. Cannot see EDQUOT (`tests/sim` can).

use std::fs;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::isolated;
use crate::mounts::{Image, fill, mount_tmpfs};
use crate::socket::{get, post};
use crate::world::{Agent, NOON, World, units, wait_until};

/// An hour takes six seconds.
const SPEED: u32 = 600;
/// Lines of the log while writers storm a full disk, far below one a refusal: hours go on being sealed meanwhile.
const LINES_MAX: usize = 100;
/// Bytes of a tag, so that segments fill up.
const LONG: usize = 120;

isolated!(ext4_fills_up_and_heals, &["mkfs.ext4", "losetup"], || {
    fills_up_and_heals(|world| {
        let image = Image::new(world.path("image"), "ext4", 32, &[]);
        image.mount(&world.state(), "noatime");
    });
});

isolated!(tmpfs_fills_up_and_heals, &[], || fills_up_and_heals(|world| mount_tmpfs(&world.state(), 16)));

isolated!(a_first_start_without_room, &["mkfs.ext4", "losetup"], || {
    let world = World::new(NOON, SPEED);
    let image = Image::new(world.path("image"), "ext4", 16, &[]);
    image.mount(&world.state(), "noatime");
    let filler = world.state().join("filler");
    fill(&filler);
    let agent = world.start();
    let status = agent.status();
    assert_eq!((&status["ready"], &status["attention"][0]["code"]), (&json!(false), &json!("disk_full")), "{status:#}");
    refused(&agent.tell(r#"{"dimension":"requests","quantity":1}"#));
    fs::remove_file(filler).unwrap();
    wait_until("usage is taken", || agent.tell(r#"{"dimension":"requests","quantity":1}"#)["ok"] == true);
    assert_eq!(units(&agent.books("requests"), "received"), 1);
});

fn refused(answer: &Value) {
    let said = (&answer["error"], &answer["retryable"], &answer["recorded"]);
    assert_eq!(said, (&json!("disk_full"), &json!(true), &json!("no")), "{answer}");
}

/// An increment that takes some room. It has no key, for the index needs room of its own.
fn long() -> String {
    format!("{{\"dimension\":\"requests\",\"quantity\":1,\"tags\":{{\"team\":\"{}\"}}}}", "x".repeat(LONG))
}

/// Reports usage until it is refused, or `most` increments are acknowledged; how many were, and whether it was refused.
fn report(agent: &Agent<'_>, most: u64) -> (u64, bool) {
    let mut client = agent.lines();
    let mut acked = 0;
    while acked < most {
        client.send(format!("{}\n", long()).repeat(200));
        let answers: Vec<Value> = (0..200).map(|_| client.answer()).collect();
        acked += answers.iter().filter(|answer| answer["ok"] == true).count() as u64;
        if let Some(first) = answers.iter().find(|answer| answer["ok"] != true) {
            refused(first);
            return (acked, true);
        }
    }
    (acked, false)
}

fn accepted(agent: &Agent<'_>) -> u64 {
    agent.status()["records"]["accepted"].as_u64().unwrap()
}

fn fills_up_and_heals(mount: impl FnOnce(&World)) {
    let mut world = World::new(NOON, SPEED);
    mount(&world);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), "[[dimension]]\nname = \"requests\"\n", "", "[hour]\ngrace = \"0s\"\n");
    let world = &world;
    let mut agent = world.start();
    let (mut acked, _) = report(&agent, 1000);
    let filler = world.state().join("filler");
    fill(&filler);
    let (more, full) = report(&agent, 100_000);
    assert!(full, "{more} increments more, and the disk is still not full");
    acked += more;
    // A single one may find a last gap.
    let answer = (0..1000).map(|_| post(&world.socket(), &long())).find(|answer| {
        acked += u64::from(answer.status == 200);
        answer.status != 200
    });
    let answer = answer.expect("a full disk");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    refused(&answer.json());
    let status = agent.status();
    assert_eq!((&status["ready"], &status["log"]["disk_full"]), (&json!(true), &json!(true)), "{status:#}");
    assert!(status["attention"].as_array().unwrap().iter().any(|a| a["code"] == "disk_full"), "{status:#}");
    assert_eq!(units(&agent.books("requests"), "received"), acked);

    let lines = agent.log().lines().count();
    for _ in 0..100 {
        let (more, _) = report(&agent, 100_000);
        acked += more;
    }
    let more = agent.log().lines().count() - lines;
    assert!(more <= LINES_MAX, "{more} lines for 20,000 refusals: {}", agent.log());

    wait_until("an hour is sealed and accepted on the full disk", || {
        units(&agent.books("requests"), "accepted") == acked
    });
    for _ in 0..3 {
        agent.kill();
        // Whatever room there was, somebody else has it.
        fill(&world.state().join(format!("filler-{acked}")));
        agent = world.start();
        let status = agent.status();
        assert_eq!(status["ready"], true, "a start on the full disk: {status:#}");
        assert_eq!(units(&agent.books("requests"), "received"), acked, "acknowledged and lost");
        let (more, _) = report(&agent, 100_000);
        acked += more;
    }
    let before = accepted(&agent);
    fs::remove_file(&filler).unwrap();
    wait_until("there is room again", || {
        let (more, full) = report(&agent, 200);
        acked += more;
        !full
    });
    wait_until("the attention is over", || agent.status()["attention"].as_array().unwrap().is_empty());
    wait_until("all of it is accepted", || units(&agent.books("requests"), "accepted") == acked);
    assert!(accepted(&agent) > before);
    let ledger = aws.ledger();
    let held: u64 = ledger["records"].as_array().unwrap().iter().map(|r| r["quantity"].as_u64().unwrap()).sum();
    assert_eq!(held, acked, "AWS holds what was acknowledged");
    assert_eq!(get(&world.socket(), "/healthz").unwrap().status, 200);
    agent.stop();
    println!("{acked} increments acknowledged on a disk that was full, {} records", accepted(&world.start()));
}
