//! Power cuts on real ext4 and XFS: the file system is shut down under the heavily written agent, which drops all that no
//! sync has put on the disk, mounted again, and what comes back is compared with what the writers were told. Sees what a
//! real file system does with syncs, lengths and names. Cannot see sectors of one sync that reach the disk in any order
//! (`tests/sim` can).
//!
//! `METERD_CUTS=100` for a hundred cuts on each; `METERD_BIN` for another build: one that does not sync must fail here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::isolated;
use crate::mounts::{Image, must, text};
use crate::socket::Lines;
use crate::world::{World, units, wait_until};

const CUTS: u64 = 10;
/// Writers that wait for each answer.
const ALONE: usize = 64;
/// Writers that keep so many increments, each with a key, in flight.
const PIPELINED: usize = 4;
const WINDOW: usize = 100;
const DIMENSIONS: &str = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabytes\"\n";

isolated!(on_ext4, &["mkfs.ext4", "losetup", "xfs_io"], || power_cuts("ext4", 64));
// XFS wants 300 MB; the image is sparse.
isolated!(on_xfs, &["mkfs.xfs", "losetup", "xfs_io"], || power_cuts("xfs", 320));

/// What the writers know, outside the file system.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    acked: AtomicU64,
    acked_keyed: AtomicU64,
    /// Errors that were told of instead.
    refused: AtomicU64,
    done: AtomicBool,
    /// Something is wrong: what still waits for an answer never gets one.
    over: AtomicBool,
    gate: Gate,
}

/// Writers stand still while what came back is compared.
#[derive(Default)]
struct Gate {
    /// Whether it is closed, and how many stand before it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.0 {
            state.1 += 1;
            self.changed.notify_all();
            state = self.changed.wait_while(state, |(closed, _)| *closed).unwrap();
            state.1 -= 1;
        }
    }

    fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    fn wait_for(&self, writers: usize) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |(_, standing)| *standing < writers).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }
}

/// One increment at a time; one that was not answered with `ok` is not sent again.
fn alone(world: &World, tally: &Tally) {
    while !tally.done.load(Ordering::Relaxed) {
        tally.gate.pass();
        let Ok(mut client) = Lines::try_connect(&world.socket()) else {
            sleep(Duration::from_millis(10));
            continue;
        };
        while !tally.done.load(Ordering::Relaxed) {
            tally.sent.fetch_add(1, Ordering::Relaxed);
            if client.try_send("{\"dimension\":\"requests\",\"quantity\":1}\n").is_err() {
                break;
            }
            let Ok(Some(answer)) = client.try_line() else { break };
            if !answer.starts_with("{\"ok\":true") {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                break;
            }
            tally.acked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn keyed(key: &str) -> String {
    format!("{{\"dimension\":\"gigabytes\",\"quantity\":1,\"key\":\"{key}\",\"tags\":{{\"team\":\"blue\"}}}}\n")
}

/// What a writer with keys was told in this turn: key and number.
type Told = Vec<(String, u64)>;

/// Many at a time, with keys; what was not answered with `ok` is sent again until it is.
fn pipelined(world: &World, tally: &Tally, name: &str, told: &Mutex<Told>) {
    let mut waiting: VecDeque<String> = VecDeque::new();
    let mut next = 0;
    while !(tally.done.load(Ordering::Relaxed) && waiting.is_empty() || tally.over.load(Ordering::Relaxed)) {
        tally.gate.pass();
        let Ok(mut client) = Lines::try_connect(&world.socket()) else {
            sleep(Duration::from_millis(10));
            continue;
        };
        if client.try_send(waiting.iter().map(|key| keyed(key)).collect::<String>()).is_err() {
            continue;
        }
        loop {
            while waiting.len() < WINDOW && !tally.done.load(Ordering::Relaxed) {
                waiting.push_back(format!("{name}-{next}"));
                next += 1;
                if client.try_send(keyed(&waiting[waiting.len() - 1])).is_err() {
                    break;
                }
            }
            if waiting.is_empty() {
                break;
            }
            let Ok(Some(answer)) = client.try_line() else { break };
            let answer: Value = serde_json::from_str(&answer).unwrap();
            if answer["ok"] != true {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                break;
            }
            tally.acked_keyed.fetch_add(1, Ordering::Relaxed);
            told.lock().unwrap().push((waiting.pop_front().unwrap(), answer["seq"].as_u64().unwrap()));
        }
    }
}

fn power_cuts(kind: &str, mib: u64) {
    let cuts = std::env::var("METERD_CUTS").map_or(CUTS, |n| n.parse().expect("a number of cuts"));
    let world = &World::at_noon();
    let image = Image::new(world.path("image"), kind, mib, &[]);
    image.mount(&world.state(), "noatime");
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "");
    let tally = &Tally::default();
    let told: &Vec<Mutex<Told>> = &(0..PIPELINED).map(|_| Mutex::default()).collect();
    let mut rng = fastrand::Rng::new();
    println!("seed of the moments: {}", rng.get_seed());
    let (mut survivors, mut torn) = (0, 0);
    let (mut slowest_start, mut slowest_index) = (Duration::ZERO, Duration::ZERO);
    let mut agent = world.start();
    thread::scope(|scope| {
        (0..ALONE).for_each(|_| drop(scope.spawn(|| alone(world, tally))));
        for (n, told) in told.iter().enumerate() {
            scope.spawn(move || pipelined(world, tally, &format!("writer-{n}"), told));
        }
        let stop = Stop(tally);
        for cut in 1..=cuts {
            let before = tally.acked.load(Ordering::Relaxed);
            wait_until("usage is acknowledged", || tally.acked.load(Ordering::Relaxed) > before);
            sleep(Duration::from_millis(rng.u64(0..200)));
            tally.gate.close();
            must("xfs_io", &["-x", "-c", "shutdown", text(&world.state())]);
            agent.kill();
            tally.gate.wait_for(ALONE + PIPELINED);
            image.unmount(&world.state());
            image.mount(&world.state(), "noatime");
            let begun = Instant::now();
            agent = world.start_behind(world.run_command());
            // Usage without a key waits for no index, in whatever state the cut has left that.
            tally.sent.fetch_add(1, Ordering::Relaxed);
            let taken = agent.tell("{\"dimension\":\"requests\",\"quantity\":1}");
            assert_eq!(taken["ok"], true, "cut {cut} on {kind}: {taken}");
            tally.acked.fetch_add(1, Ordering::Relaxed);
            slowest_start = slowest_start.max(begun.elapsed());
            agent.wait_for_index();
            slowest_index = slowest_index.max(begun.elapsed());
            let (acked, sent) = (tally.acked.load(Ordering::Relaxed), tally.sent.load(Ordering::Relaxed));
            let received = units(&agent.books("requests"), "received");
            assert!(received >= acked, "cut {cut} on {kind}: acknowledged {acked}, received {received}: LOST");
            assert!(received <= sent, "cut {cut} on {kind}: sent {sent}, received {received}");
            survivors = received - acked;
            let acked = tally.acked_keyed.load(Ordering::Relaxed);
            let received = units(&agent.books("gigabytes"), "received");
            assert!(
                received >= acked,
                "cut {cut} on {kind}: acknowledged {acked} with keys, received {received}: LOST"
            );
            known_again(world, told, cut);
            torn += u64::from(fs_has_torn(world));
            tally.gate.open();
        }
        drop(stop);
    });
    let (acked, keys) = (tally.acked.load(Ordering::Relaxed), tally.acked_keyed.load(Ordering::Relaxed));
    wait_until("the last answers are in the books", || units(&agent.books("gigabytes"), "received") == keys);
    let received = units(&agent.books("requests"), "received");
    assert!((acked..=tally.sent.load(Ordering::Relaxed)).contains(&received));
    println!(
        "{kind}: {cuts} power cuts, {acked} increments acknowledged without a key and {keys} with one, none lost; {survivors} \
         survived without their ok, {} were told of the failing disk, {torn} torn ends so far, {} segments; at the slowest \
         start usage was taken after {} ms and keys were known after {} ms",
        tally.refused.load(Ordering::Relaxed),
        agent.segments(),
        slowest_start.as_millis(),
        slowest_index.as_millis(),
    );
    agent.stop();
}

/// Lets the writers go home, also when a comparison has failed.
struct Stop<'t>(&'t Tally);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.over.store(thread::panicking(), Ordering::Relaxed);
        self.0.done.store(true, Ordering::Relaxed);
        self.0.gate.open();
    }
}

/// What was acknowledged with a key since the last cut still stands for its number.
fn known_again(world: &World, told: &[Mutex<Told>], cut: u64) {
    let mut client = Lines::connect(&world.socket());
    for told in told {
        for some in std::mem::take(&mut *told.lock().unwrap()).chunks(500) {
            client.send(some.iter().map(|(key, _)| keyed(key)).collect::<String>());
            for (key, seq) in some {
                let answer = client.answer();
                let known = answer["ok"] == true && answer["duplicate"] == true && answer["seq"] == *seq;
                assert!(known, "cut {cut}: {key} was acknowledged as {seq}, and now: {answer}");
            }
        }
    }
}

/// Whether an end was ever cut off.
fn fs_has_torn(world: &World) -> bool {
    let names = std::fs::read_dir(world.state().join("quarantine")).unwrap();
    names.into_iter().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("torn"))
}
