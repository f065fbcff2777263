//! An engine on a real directory, with a clock that the test turns and an AWS that takes everything or is away.

use std::sync::Arc;
use std::time::Duration;

use meterd::config::Config;
use meterd::disk::RealDisk;
use meterd::engine::{Decided, Disposal, Engine, NotSettled, Options, Refusal, Sending, Taken};
use meterd::entry::{Damaged, Entry, Peer, Request, kind};
use meterd::hour::{BootId, Reading, Timestamp};
use meterd::index::Index;
use meterd::ingest::protocol::{self, Line};
use meterd::rollup::state::Phase;
use meterd::submit::answer::{Outcome, Reply};
use meterd::view::{self, RecordView};
use meterd::wal::Purpose;
use meterd::wal::open as wal_open;
use meterd::wal::spares::Need;
use tempfile::TempDir;

/// A person at the keyboard, and every writer.
pub const ROOT: Peer = Peer { uid: 0, gid: 0, pid: 1 };

pub struct World {
    pub dir: TempDir,
    config: Config,
    engine: Option<Engine<RealDisk>>,
    /// What time it really is; AWS's clock.
    pub now: Timestamp,
    /// By how many milliseconds the machine's clock on the wall is off.
    pub wall_off_ms: i64,
    boot: BootId,
    booted: Timestamp,
    /// Which one the next start is on.
    pub instance: &'static str,
    pub aws_away: bool,
    /// Reading all of a long log at every start takes too long.
    keeps_index: bool,
    /// What AWS took, in order.
    pub taken: Vec<Request>,
    answers: u64,
}

impl World {
    pub fn new(config: &str, now: Timestamp) -> Self {
        let mut world = World {
            dir: tempfile::tempdir().unwrap(),
            config: Config::parse(config, "config").unwrap(),
            engine: None,
            now,
            wall_off_ms: 0,
            boot: [1; 16],
            booted: now.minus(Duration::from_secs(86_400)),
            instance: "i-0123456789abcdef0",
            aws_away: false,
            keeps_index: false,
            taken: Vec::new(),
            answers: 0,
        };
        world.start();
        world
    }

    /// The same with an index that stays where it is.
    pub fn keeping_its_index(config: &str, now: Timestamp) -> Self {
        let mut world = World::new(config, now);
        world.stop();
        world.keeps_index = true;
        world.start();
        world
    }

    pub fn engine(&mut self) -> &mut Engine<RealDisk> {
        self.engine.as_mut().expect("a running engine")
    }

    pub fn reading(&self) -> Reading {
        let at = Timestamp::from_millis(self.now.millis() + self.wall_off_ms);
        Reading { at, boot: Some(self.boot), since_boot: self.now.since(self.booted) }
    }

    pub fn start(&mut self) {
        let options = Options::of(&self.config, Some(self.instance.into()), Purpose::Test, true);
        let disk = Arc::new(RealDisk::new(self.dir.path()));
        let index = self.dir.path().join("index");
        let reading = self.reading();
        self.engine = Some(
            Engine::open(disk, Options { threads: false, segment_bytes: 1 << 20, ..options }, reading, |log| {
                if self.keeps_index { Index::open(&index, log) } else { Ok(Index::in_memory()) }
            })
            .unwrap(),
        );
    }

    /// Stops in order.
    pub fn stop(&mut self) {
        let reading = self.reading();
        let mut engine = self.engine.take().expect("a running engine");
        engine.heed(reading).unwrap();
        engine.stop(reading.at).unwrap();
    }

    /// Goes without a word.
    pub fn crash(&mut self) {
        self.engine = None;
    }

    /// The machine is off from now to `until`.
    pub fn machine_off(&mut self, until: Timestamp) {
        self.now = until;
        self.boot[0] += 1;
        self.booted = until;
    }

    /// The log wakes up on another machine a few minutes later.
    pub fn wake_up_on(&mut self, instance: &'static str, until: Timestamp) {
        self.crash();
        self.machine_off(until);
        self.instance = instance;
        self.start();
    }

    /// A start finds that damage took entries of this hour, and nobody knows which.
    pub fn damage(&mut self) {
        let pending = self.engine().state().records.values().filter(|r| r.phase == Phase::Pending);
        let records = pending.map(|r| r.record.key).collect();
        self.crash();
        let options = wal_open::Options {
            segment_bytes: 1 << 20,
            purpose: Purpose::Test,
            background: false,
            checkpoint_kind: kind::CHECKPOINT,
            now: self.now,
        };
        let disk = Arc::new(RealDisk::new(self.dir.path()));
        let mut log = wal_open::open(disk, &options, &mut |_| Ok(())).unwrap().log;
        let damaged = Entry::Damaged(Damaged { at: self.now, through: self.now.hour(), records });
        log.append(damaged.kind(), &damaged.encode().unwrap(), Need::Control, self.now).unwrap();
        log.commit().unwrap();
        drop(log);
        self.start();
    }

    pub fn dispose(&mut self, disposal: Disposal) -> Result<Decided, NotSettled> {
        self.dispose_of(disposal, None)
    }

    pub fn dispose_of(&mut self, disposal: Disposal, instance: Option<&str>) -> Result<Decided, NotSettled> {
        let at = self.reading().at;
        self.engine().dispose(disposal, instance, ROOT, at)
    }

    pub fn configure(&mut self, config: &str) {
        self.stop();
        self.config = Config::parse(config, "config").unwrap();
        self.start();
    }

    /// This instance ends.
    pub fn end(&mut self) {
        let reading = self.reading();
        self.engine().heed(reading).unwrap();
        self.engine().end(Some(ROOT), "the test", reading.at).unwrap();
        self.work();
    }

    /// It does not.
    pub fn call_off(&mut self) {
        let at = self.reading().at;
        assert!(self.engine().call_off(Some(ROOT), at).unwrap());
    }

    /// It does not, if it was about to.
    pub fn call_off_if_any(&mut self) {
        let at = self.reading().at;
        self.engine().call_off(Some(ROOT), at).unwrap();
    }

    pub fn take(&mut self, line: &str) -> Result<Taken, Refusal> {
        let reading = self.reading();
        let engine = self.engine();
        engine.heed(reading).unwrap();
        let taken = match protocol::parse(line.as_bytes())? {
            Line::One(new) => engine.take(ROOT, &new, reading.at),
            Line::Many(news) => engine.take_all(ROOT, &news, reading.at),
        };
        engine.commit(reading.at).unwrap();
        taken
    }

    /// Lets time pass until `until`, and everything happen that is due on the way.
    pub fn pass(&mut self, until: Timestamp) {
        loop {
            self.work();
            let wall = self.reading().at;
            // The submitter comes back by itself after a pause.
            let next =
                self.engine().next_tick(wall).since(wall).clamp(Duration::from_secs(1), Duration::from_secs(120));
            if self.now.plus(next) >= until {
                break;
            }
            self.now = self.now.plus(next);
        }
        self.now = self.now.max(until);
        self.work();
    }

    /// Does what is due at this moment.
    pub fn work(&mut self) {
        let reading = self.reading();
        self.engine().heed(reading).unwrap();
        self.engine().tick(reading.at).unwrap();
        for _ in 0..200 {
            if !self.call_aws() {
                break;
            }
        }
        let reading = self.reading();
        self.engine().tick(reading.at).unwrap();
    }

    fn call_aws(&mut self) -> bool {
        let at = self.reading().at;
        match self.engine().next_sending(at).unwrap() {
            Sending::Record(key, request) => {
                let reply = self.reply(Some(&request));
                self.engine().answered(key, &reply, at).unwrap();
                true
            }
            Sending::Probe(_) => {
                let reply = self.reply(None);
                self.engine().probed(&reply, at).unwrap();
                !self.aws_away
            }
            Sending::Wait(until) if until.since(at) < Duration::from_secs(2) => {
                self.now = self.now.plus(until.since(at));
                let reading = self.reading();
                self.engine().heed(reading).unwrap();
                true
            }
            Sending::Batch(..) | Sending::ProbeBatch => panic!("nobody here sells to customers"),
            Sending::Wait(_) | Sending::Idle => false,
        }
    }

    fn reply(&mut self, record: Option<&Request>) -> Reply {
        self.answers += 1;
        let outcome = match record {
            _ if self.aws_away => Outcome::NotSent,
            None => Outcome::DryRunPassed,
            Some(request) => {
                self.taken.push(request.clone());
                Outcome::Accepted { metering_record_id: format!("record-{}", self.answers) }
            }
        };
        let aws_time = (!self.aws_away).then_some(self.now);
        Reply { outcome, message: "AWS cannot be reached".into(), request_id: None, retry_after: None, aws_time }
    }

    /// Every record, as `records --json` shows it.
    pub fn records(&mut self) -> Vec<RecordView> {
        let engine = self.engine();
        let current = view::current(engine.state());
        view::records(current, engine.index().history().unwrap()).unwrap()
    }

    pub fn assert_balanced(&mut self) {
        let books = self.engine().state().books();
        assert!(books.iter().all(|b| b.balanced()), "{books:#?}");
    }
}
