//! A file system that becomes read-only under the agent, and one that is so at its start.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::isolated;
use crate::mounts::{Image, must, text};
use crate::socket::{get, post};
use crate::world::{World, units, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;

isolated!(it_becomes_read_only, &["mkfs.ext4", "losetup"], || {
    let world = World::at_noon();
    let image = Image::new(world.path("image"), "ext4", 32, &[]);
    image.mount(&world.state(), "errors=remount-ro");
    let mut agent = world.start();
    assert_eq!(agent.tell(ONE)["ok"], true);
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", image.device().trim_start_matches("/dev/"));
    if fs::write(&trigger, "a test").is_err() {
        println!("skipped it_becomes_read_only: {trigger} is not here");
        return;
    }
    let answer = agent.tell(ONE);
    assert_eq!((&answer["error"], &answer["recorded"]), (&json!("not_durable"), &json!("unknown")), "{answer}");
    assert_eq!(agent.wait().code(), Some(74), "{}", agent.log());

    let mut agent = world.start();
    not_ready(&world, "not_ready", "Read-only");
    agent.kill();
    image.unmount(&world.state());
    image.mount(&world.state(), "errors=remount-ro");
    let agent = world.start();
    let received = units(&agent.books("requests"), "received");
    assert!((1..=2).contains(&received), "{received}");
});

/// What everybody is told while the log cannot be opened.
pub fn not_ready(world: &World, code: &str, why: &str) {
    let status = get(&world.socket(), "/v1/status").unwrap().json();
    assert_eq!(status["ready"], false, "{status:#}");
    let attention = &status["attention"][0];
    assert_eq!(attention["code"], code, "{status:#}");
    assert!(attention["message"].as_str().unwrap().contains(why), "{status:#}");
    assert!(attention["message"].as_str().unwrap().contains(text(&world.state())), "{status:#}");
    assert!(!attention["do"].as_str().unwrap().is_empty(), "{status:#}");
    assert_eq!(get(&world.socket(), "/healthz").unwrap().status, 503);
    assert_eq!(get(&world.socket(), "/v1/records").unwrap().status, 503);
    let answer = post(&world.socket(), ONE);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    for refused in [answer.json(), crate::socket::Lines::connect(&world.socket()).ask(ONE)] {
        let said = (&refused["error"], &refused["retryable"], &refused["recorded"]);
        assert_eq!(said, (&json!(code), &json!(true), &json!("no")), "{refused}");
    }
    assert_eq!(world.run(&["add", "requests", "1"]).code, 75);
    assert_eq!(world.run(&["status"]).code, 1);
}

isolated!(it_is_read_only_at_the_start, &["mkfs.ext4", "losetup"], || {
    // Sixty times as fast: the longest pause between two attempts is a second.
    let world = World::new(crate::world::NOON, 60);
    let image = Image::new(world.path("image"), "ext4", 32, &[]);
    image.mount(&world.state(), "noatime");
    let remount = |how: &str| must("mount", &["-o", how, text(&world.state())]);
    let mut agent = world.start();
    assert_eq!(agent.tell(ONE)["ok"], true);
    agent.kill();
    remount("remount,ro");
    let mut agent = world.start();
    not_ready(&world, "not_ready", "Read-only");
    let mut kept = agent.lines();
    assert_eq!(kept.ask(ONE)["error"], "not_ready");
    // A second one does not get in between.
    assert_eq!(world.refused().code, 73, "the directory is locked");
    remount("remount,rw");
    wait_until("it is ready by itself", || agent.status()["ready"] == true);
    assert_eq!(kept.ask(ONE)["ok"], true, "on a connection from before");
    assert_eq!(units(&agent.books("requests"), "received"), 2);
    agent.kill();

    // Asked to stop while it waits.
    remount("remount,ro");
    let mut agent = world.start();
    not_ready(&world, "not_ready", "Read-only");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.log());
    let fresh = world.state().join("deeper");
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), config.replace(text(&world.state()), text(&fresh))).unwrap();
    let agent = world.start();
    assert_eq!(agent.status()["ready"], false, "a directory that cannot be made yet");
    remount("remount,rw");
    wait_until("it is ready by itself", || agent.status()["ready"] == true);
});
