//! The whole agent in one process, without threads or sockets: lines through the real connections, the engine on the
//! simulated disk, a clock that jumps, a simulated AWS, crashes and power cuts; and one oracle beside it.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | the agent's life: starts, steps, deaths |
//! | `work.rs` | what the agent does by itself while time passes: seals, submits |
//! | `writers.rs` | the applications |
//! | `aws.rs` | AWS, its rules and its faults |
//! | `index.rs` | the real index, and what can happen to it between runs |
//! | `ledger.rs` | the oracle's own books, folded from the log's entries |
//! | `look.rs` | the oracle: compares those with the agent, the writers, AWS and the disk |
//! | `heal.rs` | the end of a day: everything is mended and must come out even |
//! | `days.rs` | the days that seeds draw, and the tests |
//!
//! Sees everything that leaves the agent or is on its disk. Cannot see sockets, threads, signals, the SDK.

mod aws;
mod days;
mod heal;
mod index;
mod ledger;
mod look;
mod stories;
mod work;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use meterd::engine::{self, Engine, Options};
use meterd::entry::{RecordKey, Request};
use meterd::hour::{Reading, Timestamp};
use meterd::wal::LogError;

use super::cuts;
use super::disk::{Fault, SimDisk};
use super::machine::{Fact, NOW};
use super::setup::{Config, DIMENSIONS, NAMES};
use aws::{Answer, Aws, Mode};
use index::{IndexDir, Loss};
use ledger::Ledger;
use writers::{Kind, Writers};

/// One step of a day. What it draws it draws from its own seed, so that a day with steps left out is the same day.
#[derive(Debug, Clone, Copy)]
pub struct Step(pub u64, pub What);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// So many lines, or one array of as many increments.
    Write(Kind, usize, bool),
    /// What was sent with a key and not acknowledged is sent again; with `true` the acknowledged too.
    Retry(bool),
    Commit,
    /// So many seconds pass, and the agent works.
    Run(u64),
    Idle,
    Stop,
    Crash,
    Cut(u64),
    Evict,
    Fault(u64, Fault),
    Free(usize),
    /// The agent's clock is set by so many seconds.
    Clock(i64),
    /// The machine is off for so many seconds.
    Off(u64),
    Aws(Mode),
    /// AWS refuses a dimension, or takes it again.
    Refuse(usize, bool),
    /// Another quantity stands at AWS for this hour of a dimension.
    Foreign(usize),
    /// The `Date` in AWS's answers is off by so many seconds.
    Date(i64),
    /// The configuration changes: for the agent that runs, or for the next start.
    Configure,
    /// Instance metadata is there at last.
    Instance,
    /// The process dies, and the next start finds metadata late.
    Late,
    /// The log wakes up on this instance, which another boot is of anyway; metadata is there, or late.
    Wake(usize, bool),
    /// A person decides about what another instance left: adopted, or discarded.
    Dispose(bool),
    /// A person decides about a record that waits for one.
    Settle,
    /// This instance ends, as a person says (`true`) or as metadata does.
    End(bool),
    /// It does not, as a person says or as metadata does.
    CallOff(bool),
    /// What happens to the index while the agent is down.
    Index(Loss),
}

/// What was explored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub steps: u64,
    pub starts: u64,
    pub crashes: u64,
    pub cuts: u64,
    pub faults: u64,
    pub lost_indexes: u64,
}

/// A call to AWS that has begun; the answer is there as soon as the agent looks.
struct Flight {
    key: RecordKey,
    request: Request,
    answer: Answer,
}

pub struct World {
    disk: SimDisk,
    engine: Option<Engine<SimDisk>>,
    config: Config,
    /// Instance metadata names the instance.
    named: bool,
    index: Option<IndexDir>,
    aws: Aws,
    writers: Writers,
    ledger: Ledger,
    /// Everything durable in the log, checkpoints left out.
    facts: Vec<Fact>,
    /// The number of the frame that was to come when the oracle last looked.
    looked: u64,
    /// The time, and how far the agent's clock is from it, in milliseconds.
    time: Timestamp,
    skew: i64,
    /// Which boot of the machine this is, and when it began.
    boot: (u8, Timestamp),
    rng: Rng,
    flight: Option<Flight>,
    tick_at: Timestamp,
    submit_at: Timestamp,
    /// An attempt may have been taken, and AWS has not spoken since.
    doubt: bool,
    /// How far AWS's clock was from the agent's when AWS last spoke, in this run of the agent.
    seen_skew: Option<Duration>,
    /// Something was injected since the last start: errors are no surprise.
    faulty: bool,
    poisoned: bool,
    /// Ends that somebody asked for.
    ends: usize,
    pub counts: Counts,
}

/// One day in twenty has the real index, in a directory of its own.
fn has_index(seed: u64) -> bool {
    seed % 20 == 19
}

impl Drop for World {
    fn drop(&mut self) {
        // The index's files go last.
        self.engine = None;
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let config = Config::drawn(&mut rng);
        let time = NOW.plus(Duration::from_secs(rng.u64(0..3600)));
        World {
            disk: SimDisk::new(seed),
            engine: None,
            named: rng.u8(0..10) != 0,
            config,
            index: has_index(seed).then(|| IndexDir::new(seed)),
            aws: Aws::new(rng.bool()),
            writers: Writers::default(),
            ledger: Ledger::default(),
            facts: Vec::new(),
            looked: 0,
            time,
            skew: 0,
            boot: (0, time),
            rng,
            flight: None,
            tick_at: NOW,
            submit_at: NOW,
            doubt: false,
            seen_skew: None,
            faulty: false,
            poisoned: false,
            ends: 0,
            counts: Counts::default(),
        }
    }

    /// The agent's clock.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.time.millis() + self.skew)
    }

    /// What the agent's clocks say: the one on the wall, and the one that nobody sets.
    fn reading(&self) -> Reading {
        let (boot, since) = self.boot;
        Reading { at: self.now(), boot: Some([boot; 16]), since_boot: self.time.since(since) }
    }

    /// The agent looks at its clocks.
    fn heed(&mut self) -> Result<(), String> {
        let (now, reading) = (self.now(), self.reading());
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match engine.heed(reading) {
            Ok(false) => Ok(()),
            Ok(true) => {
                (self.tick_at, self.submit_at) = (now, now);
                self.commit()
            }
            Err(LogError::Full(_)) if self.faulty => Ok(()),
            Err(error) => self.done(Err(error)).map(drop),
        }
    }

    pub fn step(&mut self, Step(salt, what): Step) -> Result<(), String> {
        self.counts.steps += 1;
        self.rng = Rng::with_seed(salt);
        fastrand::seed(salt);
        match what {
            What::Crash => self.die(None),
            What::Cut(seed) => self.die(Some(seed)),
            What::Evict => self.disk.evict(),
            What::Fault(after, fault) => {
                self.faulty = true;
                self.counts.faults += 1;
                self.disk.inject(after, fault);
            }
            What::Free(bytes) => {
                self.faulty = true;
                self.disk.set_capacity(Some(self.disk.used() + bytes));
            }
            What::Clock(seconds) => {
                self.commit()?;
                self.skew += seconds * 1000;
                self.writers.clock(self.now());
            }
            What::Off(seconds) => {
                self.die(Some(salt));
                self.pass(Duration::from_secs(seconds))?;
                self.boot.1 = self.time;
            }
            What::Aws(mode) => self.aws.mode = mode,
            What::Date(seconds) => self.aws.date_off = seconds * 1000,
            What::Refuse(dimension, refused) => {
                let name = DIMENSIONS[dimension].name.to_owned();
                if refused {
                    self.aws.refused.insert(name)
                } else {
                    self.aws.refused.remove(&name)
                };
            }
            What::Foreign(dimension) => self.aws.meter_otherwise(DIMENSIONS[dimension].name, self.time.hour()),
            What::Configure => {
                let live = self.rng.bool();
                let config = Config::drawn(&mut self.rng);
                if live {
                    self.start()?;
                    self.heed()?;
                    self.reconfigure(config)?;
                } else {
                    self.die(None);
                    self.config = config;
                }
            }
            What::Late => {
                self.die(None);
                self.named = false;
            }
            What::Wake(who, named) => {
                let cut = self.rng.bool().then_some(salt);
                self.die(cut);
                self.boot = (self.boot.0.wrapping_add(1), self.time);
                (self.aws.who, self.named) = (who, named);
            }
            What::Index(loss) => {
                self.die(None);
                if let Some(index) = &mut self.index {
                    self.counts.lost_indexes += 1;
                    index.lose(loss, &mut self.rng);
                }
            }
            _ => {
                self.start()?;
                self.heed()?;
                self.bury();
                if self.engine.is_some() {
                    self.live(what)?;
                }
            }
        }
        self.bury();
        Ok(())
    }

    fn live(&mut self, what: What) -> Result<(), String> {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match what {
            What::Write(kind, n, array) => {
                (self.writers.doubt, self.writers.ending) = (self.ledger.doubt, self.ledger.is_closed(now));
                self.writers.write(kind, n, array, engine, now, &mut self.rng);
                Ok(())
            }
            What::Retry(all) => {
                (self.writers.doubt, self.writers.ending) = (self.ledger.doubt, self.ledger.is_closed(now));
                self.writers.retry(all, engine, now, &mut self.rng);
                self.commit()
            }
            What::Commit => self.commit(),
            What::Run(seconds) => self.work(Duration::from_secs(seconds)),
            What::Idle => {
                self.commit()?;
                let marked = self.engine.as_mut().map_or(Ok(()), |e| e.idle(now));
                self.done(marked).map(drop)
            }
            What::Stop => {
                // A call under way is finished first.
                self.land()?;
                self.commit()?;
                let Some(engine) = self.engine.take() else { return Ok(()) };
                let stopped = engine.stop(now);
                self.done(stopped)?;
                self.end();
                Ok(())
            }
            What::Instance => {
                self.named = true;
                self.name_instance()
            }
            What::Settle => self.settle(),
            What::Dispose(adopt) => self.dispose(adopt),
            What::End(asked) => self.end_of_instance(asked),
            What::CallOff(asked) => self.call_off(asked),
            _ => Ok(()),
        }
    }

    fn name_instance(&mut self) -> Result<(), String> {
        let now = self.now();
        let Some(engine) = self.engine.as_mut().filter(|e| e.state().name().is_none()) else { return Ok(()) };
        match engine.set_instance(NAMES[self.aws.who].into(), now) {
            Err(engine::EngineError::Log(error)) => self.done(Err(error)).map(drop),
            Err(error) => Err(format!("the instance's name: {error}")),
            Ok(()) => {
                self.tick_at = now;
                self.commit()
            }
        }
    }

    /// The agent reads its configuration again: all of it is in force, or what was before.
    fn reconfigure(&mut self, config: Config) -> Result<(), String> {
        self.commit()?;
        let now = self.now();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match engine.reconfigure(config.options(true), now) {
            Ok(()) => {
                self.config = config;
                (self.tick_at, self.submit_at) = (now, now);
                self.commit()
            }
            Err(engine::EngineError::Log(error)) => self.done(Err(error)).map(drop),
            Err(error) => Err(format!("another configuration: {error}")),
        }
    }

    /// A process whose disk is dead or failed ends.
    fn bury(&mut self) {
        if self.disk.is_halted() || self.poisoned {
            self.engine = None;
            self.end();
        }
    }

    /// The process or the machine dies.
    fn die(&mut self, cut: Option<u64>) {
        self.engine = None;
        self.end();
        match cut {
            None => {
                self.counts.crashes += 1;
                self.disk.crash();
            }
            Some(seed) => {
                self.counts.cuts += 1;
                self.boot = (self.boot.0.wrapping_add(1), self.time);
                self.disk.cut(&mut cuts::by_seed(seed));
            }
        }
        self.disk.set_capacity(None);
        self.faulty = false;
    }

    /// What was under way when the process ended has no end.
    fn end(&mut self) {
        self.doubt |= self.flight.take().is_some();
        self.writers.cut_off();
        self.seen_skew = None;
    }

    /// Takes in how a call of the log ended; whether it did what it should.
    fn done(&mut self, result: Result<(), LogError>) -> Result<bool, String> {
        match result {
            Ok(()) if self.poisoned => Err("it went on after the disk had failed".into()),
            Ok(()) => Ok(true),
            Err(error) if self.faulty || self.disk.is_halted() => {
                self.poisoned |= matches!(error, LogError::Poisoned(_));
                if self.poisoned {
                    self.answer(Some("the disk failed"))?;
                }
                Ok(false)
            }
            Err(error) => Err(format!("failed without a fault: {error}")),
        }
    }

    /// One sync for all that was taken, and the answers.
    fn commit(&mut self) -> Result<(), String> {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let committed = engine.commit(now);
        if self.done(committed)? {
            self.look()?;
            self.answer(None)?;
        }
        Ok(())
    }

    fn answer(&mut self, failed: Option<&str>) -> Result<(), String> {
        let config = &self.config;
        self.writers.answer(failed, self.faulty || self.disk.is_halted(), &self.ledger, |at| config.names(at))?;
        self.writers.check(&self.ledger)
    }

    fn start(&mut self) -> Result<(), String> {
        if self.engine.is_some() || self.disk.is_halted() {
            return Ok(());
        }
        self.poisoned = false;
        let (now, reading) = (self.now(), self.reading());
        let again = (!self.faulty && self.rng.u8(0..4) == 0).then(|| self.disk.fork());
        let slow = if self.rng.u8(0..4) == 0 { self.rng.u32(1..30) } else { 0 };
        let options =
            Options { instance: self.named.then(|| NAMES[self.aws.who].to_owned()), ..self.config.options(true) };
        let open = |disk: SimDisk, index: Option<&IndexDir>| {
            Engine::open(Arc::new(disk), options.clone(), reading, |log| index::open(index, log, slow))
        };
        match open(self.disk.clone(), self.index.as_ref()) {
            Ok(engine) => self.engine = Some(engine),
            Err(_) if self.faulty || self.disk.is_halted() => return Ok(()),
            Err(error) => return Err(format!("cannot open: {error}")),
        }
        self.counts.starts += 1;
        let engine = self.engine.as_ref().expect("opened");
        if !engine.report().gaps.is_empty() {
            return Err("corruption where nothing rotted".into());
        }
        if let Some(disk) = again {
            let other = open(disk, None).map_err(|e| format!("cannot open a second time: {e}"))?;
            if other.state() != engine.state() {
                return Err("recovered twice, and the states differ".into());
            }
        }
        let read = engine::read_only(&self.disk).map_err(|e| e.to_string())?;
        if read != *engine.state() {
            return Err("the log on the disk is not folded to the state".into());
        }
        (self.tick_at, self.submit_at) = (now, now);
        self.remember()?;
        self.looked = 0;
        self.look()?;
        self.look_at_history()?;
        if self.named { self.name_instance() } else { Ok(()) }
    }
}
