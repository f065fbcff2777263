//! The whole engine on the simulated disk, beside writers that keep their own tally. Sees units, records and requests.
//! Cannot see: sockets, threads and the real index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use meterd::engine::{Code, Engine, NewIncrement, Sending};
use meterd::entry::{Peer, RecordKey, Request};
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::wal::LogError;

use super::aws::Aws;
use super::cuts;
use super::disk::{Fault, SimDisk};
use super::machine::NOW;
use super::setup::{KEYED, PLAIN, options};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many increments without a key, in an array if it says so.
    Plain(usize, bool),
    /// An increment with a new key.
    Keyed,
    /// All that was sent with a key and not acknowledged is sent again; with `true` the acknowledged too.
    Retry(bool),
    Commit,
    /// So many seconds pass.
    Advance(u64),
    /// So many calls to AWS.
    Send(usize),
    Idle,
    Stop,
    Crash,
    Cut(u64),
    Evict,
    Fault(u64, Fault),
    Free(Option<usize>),
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub sent: i128,
    pub acked: i128,
}

pub struct Agent {
    pub disk: SimDisk,
    pub engine: Option<Engine<SimDisk>>,
    pub now: Timestamp,
    pub(super) aws: Aws,
    rng: Rng,
    pub(super) plain: Tally,
    /// Taken, and not yet committed.
    taken: i128,
    /// By key: how much, and whether it was acknowledged.
    pub(super) keys: BTreeMap<String, (u64, bool)>,
    keys_taken: Vec<String>,
    pub(super) sealed: BTreeMap<RecordKey, Request>,
    faulty: bool,
    poisoned: bool,
    pub starts: u64,
    /// How often a key was refused because the index was behind.
    pub not_ready: u64,
    /// Whether durable attempts are looked for on the disk before each call (slow).
    pub strict: bool,
}

impl Agent {
    pub fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        Agent {
            disk: SimDisk::new(seed),
            engine: None,
            now: NOW,
            aws: Aws::default(),
            rng: Rng::with_seed(seed),
            plain: Tally::default(),
            taken: 0,
            keys: BTreeMap::new(),
            keys_taken: Vec::new(),
            sealed: BTreeMap::new(),
            faulty: false,
            poisoned: false,
            starts: 0,
            not_ready: 0,
            strict: true,
        }
    }

    pub fn calls(&self) -> u64 {
        self.aws.calls
    }

    pub fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Crash => self.die(None),
            Step::Cut(seed) => self.die(Some(seed)),
            Step::Evict => self.disk.evict(),
            Step::Fault(after, fault) => {
                self.faulty = true;
                self.disk.inject(after, fault);
            }
            Step::Free(bytes) => {
                self.faulty = true;
                let used = self.disk.used();
                self.disk.set_capacity(bytes.map(|b| used + b));
            }
            _ => {
                self.start()?;
                if self.engine.is_some() {
                    self.live(step)?;
                }
            }
        }
        if self.disk.is_halted() || self.poisoned {
            self.engine = None;
        }
        Ok(())
    }

    fn live(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Plain(n, array) => self.plain(n, array),
            Step::Keyed => {
                let key = format!("k{}", self.keys.len());
                self.keys.insert(key.clone(), (self.rng.u64(1..25), false));
                self.send_key(&key)
            }
            Step::Retry(all) => {
                let again: Vec<String> =
                    self.keys.iter().filter(|(_, (_, a))| all || !a).map(|(k, _)| k.clone()).collect();
                again.iter().try_for_each(|key| self.send_key(key))?;
                self.commit()
            }
            Step::Commit => self.commit(),
            Step::Advance(seconds) => {
                self.now = self.now.plus(Duration::from_secs(seconds));
                let now = self.now;
                let ticked = self.engine().tick(now);
                if self.done(ticked)? {
                    self.acknowledge();
                    self.look()?;
                }
                Ok(())
            }
            Step::Send(n) => (0..n).try_for_each(|_| self.call_aws()),
            Step::Idle => {
                self.commit()?;
                let now = self.now;
                let marked = self.engine.as_mut().map_or(Ok(()), |e| e.idle(now));
                self.done(marked).map(drop)
            }
            Step::Stop => {
                let (engine, now) = (self.engine.take(), self.now);
                let Some(engine) = engine else { return Ok(()) };
                let stopped = engine.stop(now);
                if self.done(stopped)? {
                    self.acknowledge();
                }
                self.forget();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn engine(&mut self) -> &mut Engine<SimDisk> {
        self.engine.as_mut().expect("running")
    }

    fn die(&mut self, cut: Option<u64>) {
        self.engine = None;
        match cut {
            None => self.disk.crash(),
            Some(seed) => self.disk.cut(&mut cuts::by_seed(seed)),
        }
        self.disk.set_capacity(None);
        self.faulty = false;
        self.forget();
    }

    /// What was taken and not committed is nobody's any more.
    fn forget(&mut self) {
        self.taken = 0;
        self.keys_taken.clear();
    }

    /// Takes in how a call ended; whether it did what it should.
    fn done(&mut self, result: Result<(), LogError>) -> Result<bool, String> {
        match result {
            Ok(()) if self.poisoned => Err("acknowledged after the disk had failed".into()),
            Ok(()) => Ok(true),
            Err(error) if self.faulty || self.disk.is_halted() => {
                self.poisoned |= matches!(error, LogError::Poisoned(_));
                Ok(false)
            }
            Err(error) => Err(format!("failed without a fault: {error}")),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let now = self.now;
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let committed = engine.commit(now);
        if self.done(committed)? {
            self.acknowledge();
            self.look()?;
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        self.plain.acked += std::mem::take(&mut self.taken);
        for key in std::mem::take(&mut self.keys_taken) {
            self.keys.entry(key).and_modify(|(_, acked)| *acked = true);
        }
    }

    fn plain(&mut self, n: usize, array: bool) -> Result<(), String> {
        let quantities: Vec<u64> = (0..n).map(|_| self.rng.u64(1..1000)).collect();
        let sum: i128 = quantities.iter().map(|q| i128::from(*q)).sum();
        let new = |q: &u64| NewIncrement {
            dimension: PLAIN.into(),
            quantity: Some(q.to_string().into()),
            ..NewIncrement::default()
        };
        let news: Vec<_> = quantities.iter().map(new).collect();
        let (now, peer) = (self.now, Peer { uid: self.rng.u32(0..2), ..Peer::default() });
        self.plain.sent += sum;
        if array {
            let taken = self.engine().take_all(peer, &news, now);
            if self.was_taken(taken.map(drop).map_err(|r| r.code))? {
                self.taken += sum;
            }
            return Ok(());
        }
        for (new, q) in news.iter().zip(&quantities) {
            let taken = self.engine().take(peer, new, now);
            if self.was_taken(taken.map(drop).map_err(|r| r.code))? {
                self.taken += i128::from(*q);
            }
        }
        Ok(())
    }

    fn send_key(&mut self, key: &str) -> Result<(), String> {
        let (quantity, acked) = self.keys[key];
        let text = quantity.to_string();
        let new = NewIncrement {
            dimension: KEYED.into(),
            quantity: Some(text.into()),
            key: Some(key.into()),
            ..NewIncrement::default()
        };
        let now = self.now;
        let taken = self.engine().take(Peer::default(), &new, now);
        if let (Ok(taken), true) = (&taken, acked)
            && taken.duplicates != 1
        {
            return Err(format!("key {key} was acknowledged, and is taken for new"));
        }
        if self.was_taken(taken.map(drop).map_err(|r| r.code))? {
            self.keys_taken.push(key.into());
        }
        Ok(())
    }

    fn was_taken(&mut self, taken: Result<(), Code>) -> Result<bool, String> {
        match taken {
            Ok(()) => Ok(true),
            Err(Code::DiskFull | Code::NotDurable) if self.faulty || self.disk.is_halted() => Ok(false),
            Err(Code::NotReady) if self.engine().index().behind().is_some() => {
                self.not_ready += 1;
                Ok(false)
            }
            Err(code) => Err(format!("refused: {}", code.name())),
        }
    }

    fn call_aws(&mut self) -> Result<(), String> {
        let now = self.now;
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match engine.next_sending(now) {
            Ok(Sending::Record(key, request)) => {
                self.acknowledge();
                if self.strict && self.durable_attempts(&key)? <= self.aws.sent(&key) {
                    return Err(format!("record {key} is sent without a durable attempt"));
                }
                let reply = self.aws.send(key, &request, now, &mut self.rng)?;
                let written = self.engine().answered(key, &reply, now);
                self.done(written).map(drop)
            }
            Ok(Sending::Probe(_)) => {
                let reply = self.aws.dry_run(&mut self.rng);
                let written = self.engine().probed(&reply, now);
                self.done(written).map(drop)
            }
            Ok(Sending::Wait(until)) => {
                if until.since(now) < Duration::from_secs(400) {
                    self.now = self.now.max(until);
                }
                Ok(())
            }
            Ok(Sending::Idle) => Ok(()),
            Err(error) => self.done(Err(error)).map(drop),
        }
    }

    fn start(&mut self) -> Result<(), String> {
        if self.engine.is_some() || self.disk.is_halted() {
            return Ok(());
        }
        self.forget();
        let disk = Arc::new(self.disk.clone());
        // The index is read from the log while the agent runs already, at once or only after some commits.
        let commits = (self.starts % 4) as u32;
        match Engine::open(disk, options(64 * 1024), self.now, |_| Ok(Index::in_memory_after(commits))) {
            Ok(engine) => self.engine = Some(engine),
            Err(_) if self.faulty || self.disk.is_halted() => return Ok(()),
            Err(error) => return Err(format!("cannot open: {error}")),
        }
        self.starts += 1;
        self.poisoned = false;
        if !self.engine().report().gaps.is_empty() {
            return Err("corruption where nothing rotted".into());
        }
        self.look()
    }
}
