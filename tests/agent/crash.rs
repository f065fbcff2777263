//! `kill -9` under load. This does not test syncing: the kernel keeps what a killed process has written. It tests that
//! the log is read back as it was answered for, and that keys make a resend safe.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::socket::Lines;
use crate::world::{World, units};

const KILLS: usize = 15;

/// What a writer was told: the number under each of its keys.
type Told = BTreeMap<String, u64>;

fn line(key: &str) -> String {
    format!("{{\"dimension\":\"requests\",\"quantity\":1,\"key\":\"{key}\"}}\n")
}

/// Keeps `window` lines in flight; what was not answered when the connection broke is sent again.
fn writer(world: &World, name: &str, window: usize, done: &AtomicBool) -> Told {
    let mut told = Told::new();
    let mut waiting: VecDeque<String> = VecDeque::new();
    let mut next = 0;
    while !(done.load(Ordering::Relaxed) && waiting.is_empty()) {
        let Ok(mut client) = Lines::try_connect(&world.socket()) else {
            sleep(Duration::from_millis(3));
            continue;
        };
        // Whether an earlier connection got through is not known: all of it again.
        let again: String = waiting.iter().map(|key| line(key)).collect();
        if client.try_send(again).is_err() {
            continue;
        }
        loop {
            while waiting.len() < window && !done.load(Ordering::Relaxed) {
                let key = format!("{name}-{next}");
                if client.try_send(line(&key)).is_err() {
                    break;
                }
                next += 1;
                waiting.push_back(key);
            }
            if waiting.is_empty() {
                break;
            }
            let Ok(Some(answer)) = client.try_line() else { break };
            let answer: Value = serde_json::from_str(&answer).unwrap();
            if answer["error"] == "not_ready" {
                // The index is still behind: it was not recorded, and goes to the end of the row.
                let key = waiting.pop_front().unwrap();
                let _ = client.try_send(line(&key));
                waiting.push_back(key);
                continue;
            }
            assert_eq!(answer["ok"], true, "{answer}");
            let seq = answer["seq"].as_u64().unwrap();
            assert_eq!(told.insert(waiting.pop_front().unwrap(), seq), None);
        }
    }
    told
}

#[test]
fn after_many_kills_every_acknowledged_increment_is_there_once() {
    let world = &World::at_noon();
    let done = &AtomicBool::new(false);
    let mut agent = world.start();
    let all = thread::scope(|scope| {
        let windows = [("one", 1), ("few", 16), ("many", 400), ("two", 2)];
        let writers = windows.map(|(name, window)| scope.spawn(move || writer(world, name, window, done)));
        for n in 0..KILLS {
            let before = agent.status()["log"]["accepted_seq"].as_u64().unwrap();
            crate::world::wait_until("usage arrives", || agent.status()["log"]["accepted_seq"].as_u64() > Some(before));
            sleep(Duration::from_millis(fastrand::u64(0..120)));
            agent.kill();
            if n % 4 == 3 {
                // Killed while it recovers.
                let mut child = world.run_command().stderr(std::process::Stdio::null()).spawn().unwrap();
                sleep(Duration::from_millis(fastrand::u64(0..15)));
                child.kill().unwrap();
                child.wait().unwrap();
            }
            agent = world.start();
        }
        done.store(true, Ordering::Relaxed);
        writers.map(|w| w.join().unwrap())
    });
    let tally: usize = all.iter().map(BTreeMap::len).sum();
    assert_eq!(units(&agent.books("requests"), "received"), tally as u64);
    assert_eq!(agent.status()["log"]["accepted_seq"], tally);
    // Each number was given once.
    let mut numbers: Vec<u64> = all.iter().flat_map(BTreeMap::values).copied().collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=tally as u64), "a number is missing or stands twice");
    // And each key still stands for its number.
    let mut client = agent.lines();
    let mut out = client.split();
    let keys: Vec<(&String, &u64)> = all.iter().flatten().collect();
    let text: String = keys.iter().map(|(key, _)| line(key)).collect();
    thread::scope(|scope| {
        scope.spawn(move || out.write_all(text.as_bytes()).unwrap());
        for (key, seq) in keys {
            let answer = client.answer();
            assert_eq!((&answer["seq"], &answer["duplicate"]), (&(*seq).into(), &true.into()), "{key}: {answer}");
        }
    });
    assert_eq!(units(&agent.books("requests"), "received"), tally as u64);
    let evidence = std::fs::read_dir(world.state().join("quarantine")).unwrap().count();
    assert_eq!(evidence, 0, "a kill leaves nothing that looks like damage");
    agent.stop();
    println!("{KILLS} kills, {tally} increments");
}
