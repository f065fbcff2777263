//! Disks that fail and disks that are slow: every waiter is answered, nothing is acknowledged after the failure, and
//! what was acknowledged before it is there when the disk works again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

use crate::isolated;
use crate::mounts::{Image, fill, mount_tmpfs, must, text};
use crate::readonly::not_ready;
use crate::world::{Agent, NOON, World, units, wait_until};

const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
const WRITERS: usize = 8;

/// Writers report until one of them is not told `ok`; what was sent, and what was acknowledged.
fn until_it_fails(agent: &Agent<'_>, before: impl FnOnce()) -> (u64, u64) {
    let mut clients: Vec<_> = (0..WRITERS).map(|_| agent.lines()).collect();
    let (mut sent, mut acked) = (0, 0);
    let mut round = || {
        // The agent's own mark may have met the failure first: then it is gone already.
        let gone = clients.iter_mut().any(|client| client.try_send(format!("{ONE}\n")).is_err());
        let answers: Vec<Option<String>> = clients.iter_mut().map(|client| client.line()).collect();
        let answers: Vec<Value> = answers.iter().flatten().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ok = answers.iter().filter(|answer| answer["ok"] == true).count();
        (sent, acked) = (sent + WRITERS as u64, acked + ok as u64);
        // In the batch that failed; read after it; or not read before the agent was gone.
        let said = |error: &str, recorded: &str| {
            let same = |answer: &&Value| answer["error"] == error && answer["recorded"] == recorded;
            answers.iter().filter(same).count()
        };
        let (unknown, no) = (said("not_durable", "unknown"), said("not_ready", "no"));
        assert_eq!(ok + unknown + no, answers.len(), "{answers:?}");
        assert!(ok == WRITERS || unknown > 0 || gone, "somebody waited for the batch that failed: {answers:?}");
        ok == WRITERS
    };
    (0..20).for_each(|n| assert!(round(), "round {n}"));
    before();
    for _ in 0..100_000 {
        if !round() {
            return (sent, acked);
        }
    }
    panic!("the disk never failed");
}

fn balanced(agent: &Agent<'_>, sent: u64, acked: u64) {
    let received = units(&agent.books("requests"), "received");
    assert!((acked..=sent).contains(&received), "acknowledged {acked}, received {received}, sent {sent}");
    println!("sent {sent}, acknowledged {acked}, received {received}");
}

/// The file system: without a journal, whose failure would end it for good.
const MKFS: [&str; 2] = ["-O", "^has_journal"];
const OPTIONS: &str = "errors=continue,noatime";

/// Lets the disk fail under the agent, sees it end, wait for the disk, and go on when that is mended.
fn fails_and_is_mended(world: &World, code: &str, fail: impl FnOnce(), mend: impl FnOnce()) {
    let mut agent = world.start();
    wait_until("all spares are made", || fs::read_dir(world.state().join("wal")).unwrap().count() == 4);
    let (sent, acked) = until_it_fails(&agent, || {
        must("sync", &["-f", text(&world.state())]);
        fail();
    });
    assert_eq!(agent.wait().code(), Some(74), "{}", agent.log());
    drop(agent);

    let agent = world.start();
    not_ready(world, code, "wal/");
    mend();
    wait_until("it is ready by itself", || agent.status()["ready"] == true);
    balanced(&agent, sent, acked);
    assert_eq!(agent.tell(ONE)["ok"], true);
}

isolated!(a_real_eio, &["mkfs.ext4", "losetup"], || {
    let world = World::new(NOON, 60);
    let image = Image::new(world.path("image"), "ext4", 32, &MKFS);
    image.mount(&world.state(), OPTIONS);
    let file = File::options().read(true).write(true).open(&image.file).unwrap();
    let mut behind = vec![0; 31 << 20];
    let shrink = |behind: &mut Vec<u8>| {
        // The device ends after its first MiB.
        file.read_exact_at(behind, 1 << 20).unwrap();
        file.set_len(1 << 20).unwrap();
        must("losetup", &["--set-capacity", &image.device()]);
    };
    let saved = Mutex::new(&mut behind);
    fails_and_is_mended(
        &world,
        "not_ready",
        || shrink(&mut saved.lock().unwrap()),
        || {
            file.write_all_at(&saved.lock().unwrap(), 1 << 20).unwrap();
            must("losetup", &["--set-capacity", &image.device()]);
        },
    );
});

isolated!(a_disk_that_promised_more_room_than_it_has, &["mkfs.ext4", "losetup", "fallocate"], || {
    let world = World::new(NOON, 60);
    let below = world.path("below");
    mount_tmpfs(&below, 48);
    let image = Image::new(below.join("image"), "ext4", 32, &MKFS);
    image.mount(&world.state(), OPTIONS);
    let filler = below.join("filler");
    let fail = || {
        // The zeros that were written ahead have no room of their own any more, and there is none left.
        must("fallocate", &["--dig-holes", text(&image.file)]);
        fill(&filler);
    };
    fails_and_is_mended(&world, "disk_full", fail, || fs::remove_file(&filler).unwrap());
});

/// The agent under strace, which does something to one of its syncs.
fn traced(world: &World, what: &str) -> Command {
    let run = world.run_command();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(world.path("trace")).args(["-e", "trace=fdatasync", "-e"]);
    command.arg(format!("inject=fdatasync:{what}")).arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(world.path("."));
    command
}

isolated!(one_sync_that_fails, &["strace"], || {
    for n in [40, 47, 71] {
        let world = World::at_noon();
        let mut agent = world.start_with(traced(&world, &format!("error=EIO:when={n}")));
        let (sent, acked) = until_it_fails(&agent, || {});
        assert_eq!(agent.wait().code(), Some(74), "{}", agent.log());
        drop(agent);
        balanced(&world.start(), sent, acked);
    }
});

isolated!(a_slow_sync_is_waited_for_and_shown, &["strace"], || {
    let world = World::at_noon();
    let agent = world.start_with(traced(&world, "delay_enter=1300000:when=5"));
    let mut client = agent.lines();
    (0..10).for_each(|_| assert_eq!(client.ask(ONE)["ok"], true));
    let status = agent.status();
    assert!(status["log"]["slowest_sync_ms"].as_u64().unwrap() >= 1300, "{status:#}");
    assert!(status["attention"].as_array().unwrap().iter().any(|a| a["code"] == "disk_slow"), "{status:#}");
    assert!(agent.log().contains("the disk took long to sync"), "{}", agent.log());
    assert_eq!(units(&agent.books("requests"), "received"), 10);
});

// What a restart cannot mend by itself is waited for too, and mended by whoever can.
isolated!(a_segment_that_is_missing, &[], || {
    let world = World::new(NOON, 60);
    let mut agent = world.start();
    let key = "k".repeat(120);
    let block: String =
        (0..200).map(|n| format!("{{\"dimension\":\"requests\",\"quantity\":1,\"key\":\"{key}{n:08}\"}}\n")).collect();
    let mut client = agent.lines();
    let mut acked = 0;
    while agent.segments() < 4 {
        client.send(block.replace(&key, &format!("{acked:0120}")));
        (0..200).for_each(|_| assert_eq!(client.answer()["ok"], true));
        acked += 200;
    }
    agent.kill();
    let segment = world.state().join("wal/0000000000000002.seg");
    fs::rename(&segment, world.path("kept")).unwrap();
    let mut agent = world.start();
    not_ready(&world, "not_ready", "segment 2 is missing");
    fs::rename(world.path("kept"), &segment).unwrap();
    wait_until("it is ready by itself", || agent.status()["ready"] == true);
    assert_eq!(units(&agent.books("requests"), "received"), acked);
    agent.kill();

    // Of another format version: nothing is changed, and no restart would help.
    let newest = fs::read_dir(world.state().join("wal"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .max()
        .unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    (bytes[8], bytes[2048 + 8]) = (9, 9);
    fs::write(&newest, &bytes).unwrap();
    let refused = world.refused();
    assert_eq!(refused.code, 73, "{refused:?}");
    assert!(refused.stderr.contains("format version 9"), "{refused:?}");
    assert_eq!(fs::read(&newest).unwrap(), bytes);
});

/// sled may never come back from what a power cut left. A pipe that nobody writes to stands for that.
#[test]
fn an_index_that_never_opens_is_made_anew() {
    let world = World::at_noon();
    let keyed = r#"{"dimension":"requests","quantity":1,"key":"once"}"#;
    let agent = world.start();
    assert_eq!(agent.tell(keyed)["ok"], true);
    agent.stop();
    let conf = world.state().join("index/conf");
    fs::remove_file(&conf).unwrap();
    must("mkfifo", &[text(&conf)]);
    let agent = world.start();
    assert_eq!(agent.tell(keyed)["duplicate"], true, "known from the log");
    assert!(agent.log().contains("making it anew from the log"), "{}", agent.log());
}
