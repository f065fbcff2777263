//! The index of keys beside a running engine: behind the log, full, damaged, large. Drives the engine with its real index
//! and without socket; `tests/agent` has the same from outside. Sees no power cut: what is lost then is rebuilt as here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use meterd::config::{Gate, Measure};
use meterd::disk::{Disk, RealDisk};
use meterd::engine::{Code, Engine, NewIncrement, Options, Taken};
use meterd::entry::Peer;
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::status::status;
use support::{HOUR, rules};

#[path = "support/options.rs"]
mod support;

/// 2026-11-21T09:00:00Z.
const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);
/// How long something may take that must happen, on a machine however slow.
const PATIENCE: Duration = Duration::from_secs(90);
const GATE: Gate = Gate { warn_after: HOUR, close_after: None };

fn options() -> Options {
    let dimensions = vec![rules("requests", Measure::Sum, 1), rules("users", Measure::Unique, 1)];
    Options { segment_bytes: 1024 * 1024, retain: HOUR * 24 * 7, threads: true, ..support::options(dimensions) }
}

/// A disk from which the index's thread can read the log only while the gate is open.
#[derive(Clone)]
struct GatedDisk {
    disk: RealDisk,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl GatedDisk {
    fn new(dir: &Path, open: bool) -> Self {
        GatedDisk { disk: RealDisk::new(dir), open: Arc::new((Mutex::new(open), Condvar::new())) }
    }

    fn let_through(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

impl Disk for GatedDisk {
    type File = File;

    fn create(&self, name: &str) -> io::Result<File> {
        self.disk.create(name)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        if thread::current().name() == Some("index") {
            drop(self.open.1.wait_while(self.open.0.lock().unwrap(), |open| !*open).unwrap());
        }
        self.disk.open(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn exchange(&self, a: &str, b: &str) -> io::Result<()> {
        self.disk.exchange(a, b)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

fn start(disk: GatedDisk, dir: &Path, now: Timestamp) -> Engine<GatedDisk> {
    Engine::open(Arc::new(disk), options(), now, |log| Index::open(&dir.join("index"), log)).unwrap()
}

fn requests(key: Option<&str>) -> NewIncrement<'_> {
    let quantity = Some("1".into());
    NewIncrement { dimension: "requests".into(), quantity, key: key.map(Into::into), ..NewIncrement::default() }
}

fn user(id: &str) -> NewIncrement<'_> {
    NewIncrement { dimension: "users".into(), id: Some(id.into()), ..NewIncrement::default() }
}

fn take<D: Disk>(engine: &mut Engine<D>, new: &NewIncrement<'_>, now: Timestamp) -> Result<Taken, Code> {
    engine.take(Peer::default(), new, now).map_err(|refusal| refusal.code)
}

/// Commits until the index can be asked.
fn until_ready<D: Disk>(engine: &mut Engine<D>, now: Timestamp) {
    let begun = Instant::now();
    loop {
        engine.commit(now).unwrap();
        match engine.index().behind() {
            None => return,
            Some(behind) => assert!(begun.elapsed() < PATIENCE, "still: {behind}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn attention<D: Disk>(engine: &Engine<D>, now: Timestamp) -> Vec<&'static str> {
    let found = status(engine, &GATE, NINE, now).attention;
    found.iter().map(|a| a.code).filter(|code| code.starts_with("index") || code.starts_with("keys")).collect()
}

/// Takes keys with these numbers, by the thousand.
fn take_keys(engine: &mut Engine<GatedDisk>, numbers: std::ops::Range<usize>, now: Timestamp) {
    for n in numbers {
        let taken = take(engine, &requests(Some(&format!("key-{n}"))), now);
        assert_eq!(taken.map(|t| t.duplicates), Ok(0), "key-{n}");
        if n % 1000 == 999 {
            engine.commit(now).unwrap();
        }
    }
    engine.commit(now).unwrap();
}

fn runs(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("index/runs")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn while_the_index_is_behind_keys_wait_and_other_usage_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = start(GatedDisk::new(dir.path(), true), dir.path(), NINE);
    until_ready(&mut engine, NINE);
    assert_eq!(take(&mut engine, &requests(Some("before")), NINE).map(|t| t.seq), Ok(1));
    assert_eq!(take(&mut engine, &user("u"), NINE).map(|t| t.seq), Ok(2));
    engine.commit(NINE).unwrap();
    let sealed = NINE.plus(HOUR * 2);
    engine.tick(sealed).unwrap();
    drop(engine);
    fs::remove_dir_all(dir.path().join("index")).unwrap();

    let disk = GatedDisk::new(dir.path(), false);
    let mut engine = start(disk.clone(), dir.path(), sealed);
    for new in [requests(Some("before")), requests(Some("new")), user("u")] {
        assert_eq!(take(&mut engine, &new, sealed), Err(Code::NotReady));
    }
    let array = [requests(None), requests(Some("new"))];
    let refused = engine.take_all(Peer::default(), &array, sealed).unwrap_err();
    assert_eq!((refused.code, refused.index), (Code::NotReady, Some(1)));
    assert!(refused.message.contains("index of keys"), "{refused:?}");
    assert_eq!(take(&mut engine, &requests(None), sealed).map(|t| t.seq), Ok(3));
    engine.commit(sealed).unwrap();
    assert_eq!(attention(&engine, sealed), ["index_rebuilding"]);
    assert!(engine.index().history().is_err(), "half of the records would pass for all of them");

    disk.let_through();
    until_ready(&mut engine, sealed);
    assert_eq!(attention(&engine, sealed), [""; 0]);
    let known = Taken { seq: 1, count: 1, duplicates: 1 };
    assert_eq!(take(&mut engine, &requests(Some("before")), sealed), Ok(known));
    let new = Taken { seq: 4, count: 1, duplicates: 0 };
    assert_eq!(take(&mut engine, &requests(Some("new")), sealed), Ok(new));
    engine.commit(sealed).unwrap();
    assert_eq!(engine.index().history().unwrap().read().unwrap().len(), 0);
    engine.stop(sealed).unwrap();
}

#[test]
fn beyond_the_limit_new_keys_are_refused_until_some_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(dir.path()));
    let mut engine = Engine::open(disk, options(), NINE, |_| Ok(Index::in_memory().remembering(10))).unwrap();
    for n in 0..9 {
        let key = format!("key-{n}");
        assert_eq!(take(&mut engine, &requests(Some(&key)), NINE).map(|t| t.duplicates), Ok(0));
    }
    assert_eq!(attention(&engine, NINE), ["keys_nearly_full"]);
    assert_eq!(take(&mut engine, &user("u"), NINE).map(|t| t.duplicates), Ok(0));
    assert_eq!(attention(&engine, NINE), ["keys_full"]);
    for new in [requests(Some("one more")), user("v")] {
        assert_eq!(take(&mut engine, &new, NINE), Err(Code::Overloaded));
    }
    assert_eq!(Code::Overloaded.retryable(), Some("no"));
    assert_eq!(
        take(&mut engine, &requests(Some("key-0")), NINE).map(|t| t.duplicates),
        Ok(1),
        "what is known stays known"
    );
    assert_eq!(take(&mut engine, &user("u"), NINE).map(|t| t.duplicates), Ok(0), "an id that is there needs no room");
    assert_eq!(take(&mut engine, &requests(None), NINE).map(|t| t.duplicates), Ok(0));
    engine.commit(NINE).unwrap();
    let tomorrow = NINE.plus(HOUR * 26);
    engine.tick(tomorrow).unwrap();
    assert_eq!(attention(&engine, tomorrow), [""; 0]);
    assert_eq!(take(&mut engine, &requests(Some("one more")), tomorrow).map(|t| t.duplicates), Ok(0));
}

#[test]
fn many_keys_are_merged_known_after_a_restart_and_forgotten_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let disk = GatedDisk::new(dir.path(), true);
    let mut engine = start(disk.clone(), dir.path(), NINE);
    until_ready(&mut engine, NINE);
    let keys = 150_000;
    take_keys(&mut engine, 0..keys, NINE);
    for crash in [true, false] {
        if crash {
            drop(engine);
        } else {
            engine.stop(NINE).unwrap();
        }
        engine = start(disk.clone(), dir.path(), NINE);
        until_ready(&mut engine, NINE);
        for n in (0..keys).step_by(997) {
            let known = Taken { seq: n as u64 + 1, count: 1, duplicates: 1 };
            assert_eq!(take(&mut engine, &requests(Some(&format!("key-{n}"))), NINE), Ok(known), "crash: {crash}");
        }
        let (held, _) = engine.index().fill();
        assert_eq!(held, keys as u64);
    }
    assert!(runs(dir.path()).len() < 8, "{:?}", runs(dir.path()));

    // The day after, a few of them are used anew, and it is those that count.
    let tomorrow = NINE.plus(HOUR * 28);
    engine.tick(tomorrow).unwrap();
    take_keys(&mut engine, 0..5, tomorrow);
    engine.stop(tomorrow).unwrap();
    let mut engine = start(disk, dir.path(), tomorrow);
    until_ready(&mut engine, tomorrow);
    for n in 0..5 {
        let known = Taken { seq: (keys + n) as u64 + 1, count: 1, duplicates: 1 };
        assert_eq!(take(&mut engine, &requests(Some(&format!("key-{n}"))), tomorrow), Ok(known));
    }
    assert_eq!(engine.index().fill().0, 5);
    engine.stop(tomorrow).unwrap();
    assert_eq!(runs(dir.path()).len(), 1, "the files of what is forgotten are gone");
}

#[test]
fn an_index_that_is_damaged_while_it_is_in_use_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let disk = GatedDisk::new(dir.path(), true);
    let mut engine = start(disk.clone(), dir.path(), NINE);
    until_ready(&mut engine, NINE);
    let keys = 20_000;
    take_keys(&mut engine, 0..keys, NINE);
    engine.stop(NINE).unwrap();
    let mut engine = start(disk, dir.path(), NINE);
    until_ready(&mut engine, NINE);
    for path in runs(dir.path()) {
        // In every page; what stands in memory of the run is not harmed by it.
        let file = File::options().write(true).open(&path).unwrap();
        (0..keys / 113).for_each(|page| file.write_all_at(b"harm", page as u64 * 4096 + 50).unwrap());
    }
    let key = format!("key-{}", keys / 2);
    assert_eq!(take(&mut engine, &requests(Some(&key)), NINE), Err(Code::NotReady));
    assert_eq!(take(&mut engine, &requests(None), NINE).map(|t| t.duplicates), Ok(0));
    until_ready(&mut engine, NINE);
    for n in (0..keys).step_by(97) {
        let known = Taken { seq: n as u64 + 1, count: 1, duplicates: 1 };
        assert_eq!(take(&mut engine, &requests(Some(&format!("key-{n}"))), NINE), Ok(known));
    }
}
