//! Retention on the simulated disk: killed and cut at every operation, and what a user can see compared before and
//! after. Sees units, records and what became of them. Cannot see the thread that does it in the agent (`tests/agent`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meterd::engine::{Engine, NewIncrement, Options, Sending};
use meterd::entry::{Decision, Peer, RecordKey};
use meterd::hour::{Hour, Timestamp};
use meterd::index::Index;
use meterd::rollup::books::Books;
use meterd::rollup::state::{Phase, RecordState};
use meterd::submit::answer::{Outcome, Reply};
use meterd::wal::{archive, segment};

use super::cuts;
use super::disk::{EIO, ENOSPC, Fault, SimDisk};
use super::machine::NOW;
use super::setup::{KEYED, PLAIN, options};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: u64 = 24;
/// Three hours of usage fill one.
const SEGMENT: u64 = 64 * 1024;
pub const SMALL: u64 = 16 * 1024;

/// What a user can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    books: Vec<Books>,
    records: BTreeMap<RecordKey, RecordState>,
}

struct Life {
    disk: SimDisk,
    engine: Engine<SimDisk>,
    now: Timestamp,
}

fn keeping(days: u64) -> Options {
    Options { retain: HOUR * (days * DAY) as u32, ..options(SEGMENT) }
}

/// Small segments, which take little to fill and to copy.
pub fn small(days: u64) -> Options {
    Options { segment_bytes: SMALL, ..keeping(days) }
}

pub fn open(disk: &SimDisk, options: Options, now: Timestamp) -> Result<Engine<SimDisk>, String> {
    let opened = Engine::open(Arc::new(disk.clone()), options, now, |_| Ok(Index::in_memory()));
    opened.map_err(|error| format!("cannot open: {error}"))
}

fn reply(outcome: Outcome) -> Reply {
    Reply { outcome, message: "simulated".into(), request_id: None, retry_after: None, aws_time: None }
}

fn accepted() -> Reply {
    reply(Outcome::Accepted { metering_record_id: "mr".into() })
}

pub fn look(engine: &Engine<SimDisk>) -> Seen {
    let mut records = engine.index().history().unwrap().read().unwrap();
    let once: BTreeSet<_> = records.iter().map(|r| r.record.key).collect();
    assert_eq!(once.len(), records.len(), "a record is shown twice");
    records.extend(engine.state().records.values().cloned());
    let books = engine.state().books();
    assert!(books.iter().all(Books::balanced), "{books:?}");
    Seen { books, records: records.into_iter().map(|r| (r.record.key, r)).collect() }
}

pub fn segments(disk: &SimDisk) -> Vec<u64> {
    segment::list(disk).unwrap()
}

impl Life {
    fn new(options: Options) -> Life {
        fastrand::seed(1);
        let disk = SimDisk::new(1);
        let engine = open(&disk, options, NOW).unwrap();
        Life { disk, engine, now: NOW }
    }

    /// An hour: usage, its end, and AWS's answers.
    fn hour(&mut self, increments: u64, answer: &dyn Fn(&RecordKey) -> Reply) {
        for n in 0..increments {
            let quantity = Some((n % 7 + 1).to_string().into());
            let dimension = if n % 3 == 0 { KEYED } else { PLAIN };
            let new = NewIncrement { dimension: dimension.into(), quantity, ..NewIncrement::default() };
            self.engine.take(Peer::default(), &new, self.now).unwrap();
        }
        self.engine.commit(self.now).unwrap();
        self.pass(HOUR, answer);
    }

    fn pass(&mut self, time: Duration, answer: &dyn Fn(&RecordKey) -> Reply) {
        self.now = self.now.plus(time);
        self.engine.tick(self.now).unwrap();
        for _ in 0..20 {
            match self.engine.next_sending(self.now).unwrap() {
                Sending::Record(key, _) => self.engine.answered(key, &answer(&key), self.now).unwrap(),
                Sending::Probe(_) => self.engine.probed(&reply(Outcome::DryRunPassed), self.now).unwrap(),
                Sending::Wait(until) if until.since(self.now) <= HOUR / 4 => self.now = until,
                Sending::Batch(..) | Sending::ProbeBatch => panic!("nobody here sells to customers"),
                Sending::Wait(_) | Sending::Idle => break,
            }
        }
        self.settle_down();
    }

    /// Lets retention do all it has to.
    fn settle_down(&mut self) {
        for _ in 0..60 {
            self.engine.tick(self.now).unwrap();
        }
    }

    fn restart(self, options: Options) -> Life {
        let Life { disk, engine, now } = self;
        drop(engine);
        disk.crash();
        let engine = open(&disk, options, now).unwrap();
        Life { disk, engine, now }
    }
}

#[test]
fn segments_go_and_what_a_user_sees_stays() {
    let mut life = Life::new(keeping(1));
    let mut first = Vec::new();
    for _ in 0..80 {
        life.hour(2000, &|_| accepted());
        let ids = segments(&life.disk);
        assert!(ids.windows(2).all(|w| w[0] + 1 == w[1]), "{ids:?}");
        let (footprint, bytes) = (life.engine.footprint(), ids.len() as u64 * SEGMENT);
        assert_eq!((footprint.segments, footprint.bytes), (ids.len() as u64, bytes));
        first.push(ids[0]);
    }
    assert_eq!(first[DAY as usize], 1, "kept for a day");
    assert!(first[79] > 10, "{first:?}");
    assert!(segments(&life.disk).len() < 16, "a day and what verifies: {:?}", segments(&life.disk));
    let seen = look(&life.engine);
    assert_eq!(seen.records.len(), 160, "both dimensions of every hour");
    let in_archive: usize =
        archive::list(&life.disk).unwrap().iter().map(|id| archive::read(&life.disk, *id).unwrap().entries.len()).sum();
    assert!(in_archive > 60, "{in_archive}");
    // An index made anew knows it all from the archive and the segments that are left.
    let life = life.restart(keeping(1));
    assert_eq!(look(&life.engine), seen);
    let read = meterd::engine::read_only(&life.disk).unwrap();
    assert_eq!(read.books(), seen.books);
}

/// Usage that damage took keeps a stretch from being verified, not the log from getting shorter.
#[test]
fn a_damaged_segment_goes_too() {
    for damaged in 1..5 {
        let mut life = Life::new(keeping(1));
        (0..20).for_each(|_| life.hour(2000, &|_| accepted()));
        assert!(segments(&life.disk).len() > 6, "{:?}", segments(&life.disk));
        let first = segments(&life.disk)[0];
        assert_eq!(first, 1);
        life.disk.rot(&segment::file_name(damaged), SEGMENT as usize / 2, |b| b ^ 1);
        (0..40).for_each(|_| life.hour(2000, &|_| accepted()));
        assert_eq!(life.engine.retention_failure(), None, "segment {damaged} damaged");
        assert!(segments(&life.disk)[0] > 5, "segment {damaged} damaged: {:?}", segments(&life.disk));
    }
}

#[test]
fn a_clock_that_jumps_deletes_nothing() {
    let mut life = Life::new(keeping(1));
    (0..30).for_each(|_| life.hour(2000, &|_| accepted()));
    let (seen, before) = (look(&life.engine), segments(&life.disk));
    // Without AWS nothing confirms the year: neither its silence nor a refusal.
    for _ in 0..3 {
        life.pass(HOUR * (400 * DAY) as u32, &|_| reply(Outcome::NotSent));
        assert_eq!(segments(&life.disk), before);
        assert_eq!(look(&life.engine), seen);
    }
}

/// Segments that were begun by a clock a year ahead do not keep the log from getting shorter for a year.
#[test]
fn segments_begun_by_a_clock_ahead_go_in_their_time() {
    let options = Options { judge_clock: true, ..keeping(1) };
    let mut life = Life::new(options);
    let answer = |now: Timestamp| Reply { aws_time: Some(now), ..reply(Outcome::DryRunPassed) };
    life.engine.probed(&answer(life.now), life.now).unwrap();
    (0..3).for_each(|_| life.hour(2000, &|_| accepted()));
    let (right, ahead) = (life.now, life.now.plus(HOUR * (400 * DAY) as u32));
    assert!(life.engine.heed(ahead).unwrap(), "a doubt");
    let before = segments(&life.disk).len();
    for n in 0..20_000 {
        let new = NewIncrement { dimension: PLAIN.into(), quantity: Some("1".into()), ..NewIncrement::default() };
        life.engine.take(Peer::default(), &new, ahead).unwrap();
        if n % 100 == 0 {
            life.engine.commit(ahead).unwrap();
        }
    }
    life.engine.commit(ahead).unwrap();
    let begun_ahead = segments(&life.disk).len();
    assert!(begun_ahead > before + 1, "{before} segments, {begun_ahead} segments");
    life.engine.heed(right).unwrap();
    life.engine.probed(&answer(right), right).unwrap();
    assert!(life.engine.state().clocks.doubt.is_none());
    for _ in 0..60 {
        life.engine.heed(life.now.plus(HOUR)).unwrap();
        life.engine.probed(&answer(life.now.plus(HOUR)), life.now.plus(HOUR)).unwrap();
        life.hour(2000, &|_| Reply { aws_time: None, ..accepted() });
    }
    assert_eq!(life.engine.retention_failure(), None);
    assert!(segments(&life.disk)[0] > begun_ahead as u64, "{:?}", segments(&life.disk));
}

#[test]
fn a_key_with_a_time_keeps_its_segment_as_long_as_its_time_is_accepted() {
    let mut life = Life::new(keeping(1));
    let at = NOW.plus(Duration::from_secs(200));
    let new = NewIncrement {
        dimension: KEYED.into(),
        quantity: Some("5".into()),
        key: Some("k".into()),
        at: Some(at.to_string().into()),
        ..NewIncrement::default()
    };
    life.engine.take(Peer::default(), &new, life.now).unwrap();
    for hour in 0..9 * DAY {
        life.hour(2000, &|_| accepted());
        let accepted_still = life.now < at.plus(HOUR * (7 * DAY) as u32);
        if accepted_still {
            assert_eq!(segments(&life.disk)[0], 1, "hour {hour}");
        }
        if accepted_still && hour % 40 == 20 {
            life = life.restart(keeping(1));
            let taken = life.engine.take(Peer::default(), &new, life.now).unwrap();
            assert_eq!(taken.duplicates, 1, "hour {hour}");
        }
    }
    assert!(segments(&life.disk)[0] > 30, "{:?}", segments(&life.disk));
}

#[test]
fn a_record_that_waits_for_a_person_pins_nothing_and_is_archived_in_the_end() {
    let mut life = Life::new(keeping(1));
    let refused = reply(Outcome::Error { code: "InvalidUsageDimension".into(), status: 400 });
    let held: RecordKey = {
        life.hour(2000, &|key| if key.dimension.0 == 0 { refused.clone() } else { accepted() });
        let waiting: Vec<_> = life.engine.state().records.values().filter(|r| r.phase == Phase::Held).collect();
        assert_eq!(waiting.len(), 1);
        waiting[0].record.key
    };
    (0..40).for_each(|_| life.hour(2000, &|_| accepted()));
    assert!(segments(&life.disk)[0] > 2);
    assert_eq!(look(&life.engine).records[&held].phase, Phase::Held);
    life = life.restart(keeping(1));
    life.engine.settle(PLAIN, held.hour, Decision::Accepted, Peer::default(), life.now).unwrap();
    (0..60).for_each(|_| life.hour(2000, &|_| accepted()));
    let seen = look(&life.engine);
    assert_eq!(seen.records[&held].phase, Phase::Accepted);
    assert_eq!(look(&life.restart(keeping(1)).engine), seen);
}

#[test]
fn records_are_shown_for_thirteen_months() {
    let mut life = Life::new(keeping(1));
    let mut sealed: BTreeSet<Hour> = BTreeSet::new();
    for _ in 0..150 {
        sealed.insert(life.now.hour());
        life.hour(2500, &|_| accepted());
        life.pass(HOUR * (3 * DAY + 5) as u32, &|_| accepted());
    }
    // The last record was accepted some days ago: that is how far time is confirmed.
    let confirmed = *sealed.last().unwrap();
    let oldest = confirmed.start_of_month(13);
    sealed.retain(|hour| *hour >= oldest);
    assert!(sealed.len() > 110 && sealed.len() < 140, "{}", sealed.len());
    let shown: BTreeSet<Hour> = look(&life.engine).records.keys().map(|key| key.hour).collect();
    assert_eq!(shown, sealed);
    let seen = look(&life.engine);
    let mut life = life.restart(keeping(1));
    life.settle_down();
    assert_eq!(look(&life.engine), seen, "also from the archive alone");
    let files = archive::list(&life.disk).unwrap();
    assert!(files.iter().all(|id| id / 1_000_000 >= u64::from(oldest.year_month())), "{files:?}");
}

/// A disk with two days of work that nothing has been taken from, and the moment after. Long tags fill the segments.
pub fn two_days() -> (SimDisk, Timestamp, Seen) {
    // The same log each time: pauses and salts are drawn.
    fastrand::seed(5);
    let mut life = Life::new(small(3000));
    for hour in 0..29 {
        let new = NewIncrement {
            dimension: PLAIN.into(),
            quantity: Some("1".into()),
            tags: vec![("team".into(), "x".repeat(200))],
            ..NewIncrement::default()
        };
        // Once the checkpoint that a segment begins with is followed by a longer row of entries than the others.
        let count = if hour == 4 { 75 } else { 20 };
        for _ in 0..count {
            life.engine.take(Peer::default(), &new, life.now).unwrap();
        }
        life.hour(8, &|_| accepted());
    }
    let seen = look(&life.engine);
    let Life { disk, engine, now } = life;
    engine.stop(now).unwrap();
    assert_eq!(segments(&disk)[0], 1);
    (disk, now, seen)
}

pub fn drive(engine: &mut Engine<SimDisk>, now: Timestamp) {
    for _ in 0..40 {
        if engine.tick(now).is_err() {
            break;
        }
    }
}

/// Opens what is left, compares, lets retention go on to its end, loses power, compares again.
fn aftermath(disk: &SimDisk, now: Timestamp, seen: &Seen, first_kept: u64, last: u64) -> Result<(), String> {
    let same = |engine: &Engine<SimDisk>, when: &str| {
        if look(engine) == *seen { Ok(()) } else { Err(format!("something is lost or doubled {when}")) }
    };
    let mut engine = open(disk, small(1), now)?;
    same(&engine, "at the start")?;
    drive(&mut engine, now);
    same(&engine, "after retention")?;
    if let Some(why) = engine.retention_failure() {
        return Err(format!("retention stopped: {why}"));
    }
    if segments(disk)[0] < first_kept {
        return Err(format!("segments stay: {:?}, not from {first_kept} on", segments(disk)));
    }
    drop(engine);
    disk.cut(&mut cuts::by_seed(last));
    let mut engine = open(disk, small(1), now)?;
    same(&engine, "after a power cut at the end")?;
    drive(&mut engine, now);
    same(&engine, "at the end")
}

/// Retention killed at each of its operations, each one failing in turn, and every way a power cut can end there.
#[test]
fn killed_and_cut_at_every_operation() {
    let (disk, now, seen) = two_days();
    let begin = || {
        let disk = disk.fork();
        let engine = open(&disk, small(1), now).unwrap();
        (disk, engine)
    };
    let (whole, mut engine) = begin();
    let before = whole.ops();
    drive(&mut engine, now);
    let ops = whole.ops() - before;
    assert_eq!(look(&engine), seen);
    let gone = segments(&whole)[0] - 1;
    assert!(gone >= 2, "{gone}");
    let (mut states, mut tried) = (BTreeSet::new(), 0);
    for at in 0..ops {
        for fault in [Fault::Halt, Fault::HaltMidway, Fault::Fail(EIO), Fault::Fail(ENOSPC)] {
            let (disk, mut engine) = begin();
            disk.reseed(at);
            disk.inject(at, fault);
            drive(&mut engine, now);
            drop(engine);
            let mut left = Vec::new();
            let warm = disk.fork();
            warm.crash();
            left.push(("the process died".to_owned(), warm));
            let cut: Vec<SimDisk> = cuts::all(&disk, at * 1000, &mut states);
            left.extend(cut.into_iter().enumerate().map(|(i, disk)| (format!("power cut, way {i}"), disk)));
            for (how, disk) in left {
                tried += 1;
                let told = |why| format!("{fault:?} at operation {at} of {ops}, {how}: {why}");
                aftermath(&disk, now, &seen, gone + 1, tried % 5).map_err(told).unwrap_or_else(|why| panic!("{why}"));
            }
        }
    }
    println!("retention: {ops} operations, {gone} segments taken, {tried} states left by a crash, a fault or a cut");
}

/// A directory sync that failed leaves an old segment behind, for good: with a hole behind it once the next one goes.
#[test]
fn a_segment_that_comes_back_behind_a_hole() {
    let (disk, now, seen) = two_days();
    let first = disk.fork();
    let mut engine = open(&disk, small(1), now).unwrap();
    drive(&mut engine, now);
    drop(engine);
    let back = segment::file_name(1);
    let old = first.contents()[&back].clone();
    let put = |name: &str| {
        use meterd::disk::{Disk, DiskFile};
        let mut file = disk.create(name).unwrap();
        file.write_all_at(&old, 0).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir("wal").unwrap();
    };
    put(&back);
    assert!(segments(&disk)[1] > 2, "a hole");
    let mut engine = open(&disk, small(1), now).unwrap();
    assert_eq!(look(&engine), seen);
    drive(&mut engine, now);
    assert!(segments(&disk)[0] > 1, "the left-over goes");
    drop(engine);
    // A segment that nothing has retired is missing, and nothing is changed.
    let ids = segments(&disk);
    let missing = ids[ids.len() - 2];
    meterd::disk::Disk::remove(&disk, &segment::file_name(missing)).unwrap();
    let before = disk.contents();
    let refused = open(&disk, small(1), now).err().unwrap();
    assert!(refused.contains(&format!("segment {missing} is missing")), "{refused}");
    assert_eq!(disk.contents(), before);
}
