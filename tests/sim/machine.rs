//! A log on the simulated disk beside a list of what was appended, and the oracle that compares the two. Sees what a
//! caller of the log sees. Cannot see whether the bytes are those of the format document (`format.rs` can).

use std::sync::Arc;

use meterd::hour::Timestamp;
use meterd::wal::log::kind;
use meterd::wal::open::{self, Entry, Options};
use meterd::wal::spares::Need;
use meterd::wal::{Log, LogError, Purpose, Report};

use super::cuts;
use super::disk::{Fault, SimDisk};

pub const USAGE: u8 = 1;
pub const CHECKPOINT: u8 = 7;
/// Three pages for frames: the longest frame fits, and it takes little to fill one.
pub const SEGMENT_BYTES: u64 = 16 * 1024;
pub const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An entry of so many bytes.
    Append(usize),
    Commit,
    Idle,
    /// A stop in order.
    Stop,
    /// The process dies.
    Crash,
    /// The power goes; the seed says what survives.
    Cut(u64),
    /// Clean pages leave the cache.
    Evict,
    /// Start, if it is not running.
    Start,
    /// Something happens instead of an operation of the disk, so many operations from now.
    Fault(u64, Fault),
    /// So many bytes are free; `None`: any number.
    Free(Option<usize>),
}

/// An entry as appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub seq: u64,
    pub kind: u8,
    pub payload: Vec<u8>,
}

/// What must and what may come back.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub durable: Vec<Fact>,
    pub pending: Vec<Fact>,
    serial: u64,
    /// A start has succeeded before.
    existed: bool,
    /// The last run stopped in order.
    stopped: bool,
    /// Something was acknowledged since the last stop in order.
    moved: bool,
    /// Bits were changed at rest: gaps are no surprise.
    pub rotten: bool,
}

pub struct Machine {
    pub disk: SimDisk,
    pub log: Option<Log<SimDisk>>,
    pub model: Model,
    pub report: Report,
    poisoned: bool,
    /// Some fault was injected since the last start: errors are no surprise.
    faulty: bool,
    pub starts: u64,
}

pub fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        purpose: Purpose::Test,
        background: false,
        checkpoint_kind: CHECKPOINT,
        now: NOW,
    }
}

pub fn collect(entry: Entry<'_>, into: &mut Vec<Fact>) {
    into.push(Fact { seq: entry.seq, kind: entry.kind, payload: entry.payload.to_vec() });
}

/// Everything in the log, as read from the first segment on.
pub fn read_all(disk: &SimDisk) -> Result<Vec<Fact>, String> {
    let mut all = Vec::new();
    open::replay(disk, 0, CHECKPOINT, &mut |e| {
        collect(e, &mut all);
        Ok(())
    })
    .map_err(|e| format!("replay: {e}"))?;
    Ok(all)
}

fn short(facts: &[Fact]) -> Vec<(u64, u8, usize)> {
    facts.iter().map(|f| (f.seq, f.kind, f.payload.len())).collect()
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        Machine::with(SimDisk::new(seed), Model::default())
    }

    pub fn with(disk: SimDisk, model: Model) -> Self {
        Machine { disk, log: None, model, report: Report::default(), poisoned: false, faulty: false, starts: 0 }
    }

    /// Another one like it, not running.
    pub fn fork(&self) -> Machine {
        Machine { faulty: self.faulty, ..Machine::with(self.disk.fork(), self.model.clone()) }
    }

    pub fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for (i, step) in steps.iter().enumerate() {
            self.step(*step).map_err(|why| format!("step {i} ({step:?}): {why}"))?;
        }
        Ok(())
    }

    pub fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Crash => self.die(None),
            Step::Cut(seed) => self.die(Some(seed)),
            Step::Evict => self.disk.evict(),
            Step::Free(bytes) => {
                self.faulty = true;
                let used = self.disk.used();
                self.disk.set_capacity(bytes.map(|b| used + b));
            }
            Step::Fault(after, fault) => {
                self.faulty = true;
                self.disk.inject(after, fault);
            }
            Step::Start => self.start()?,
            Step::Append(_) | Step::Commit | Step::Idle | Step::Stop => {
                self.start()?;
                if self.log.is_some() {
                    match step {
                        Step::Append(len) => self.append(len)?,
                        Step::Idle => self.mark(kind::IDLE).map(drop)?,
                        Step::Stop => self.stop()?,
                        _ => self.commit().map(drop)?,
                    }
                }
            }
        }
        if self.disk.is_halted() {
            // Whether it comes back with a cold cache is for the next step to say.
            self.log = None;
        }
        Ok(())
    }

    fn die(&mut self, cut: Option<u64>) {
        self.log = None;
        match cut {
            None => self.disk.crash(),
            Some(seed) => self.disk.cut(&mut cuts::by_seed(seed)),
        }
        self.disk.set_capacity(None);
        self.faulty = false;
    }

    /// Starts it, and compares what came back.
    pub fn start(&mut self) -> Result<(), String> {
        if self.log.is_some() || self.disk.is_halted() {
            return Ok(());
        }
        let mut folded = Vec::new();
        let opened = open::open(Arc::new(self.disk.clone()), &options(), &mut |e| {
            collect(e, &mut folded);
            Ok(())
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(_) if self.faulty || self.disk.is_halted() => return Ok(()),
            Err(error) => return Err(format!("cannot open: {error}")),
        };
        self.starts += 1;
        self.poisoned = false;
        let all = read_all(&self.disk)?;
        self.compare(&all)?;
        self.judge(&opened.report, opened.log.next_seq(), &all)?;
        let from = all.iter().rposition(|f| f.kind == CHECKPOINT).unwrap_or(0);
        if !self.model.rotten && folded != all[from..] {
            return Err(format!("folded {:?}, not all from the newest checkpoint: {:?}", short(&folded), short(&all)));
        }
        self.model = Model {
            durable: all,
            pending: Vec::new(),
            existed: true,
            stopped: false,
            moved: self.model.moved && !opened.report.clean,
            ..self.model
        };
        (self.log, self.report) = (Some(opened.log), opened.report);
        Ok(())
    }

    fn compare(&self, all: &[Fact]) -> Result<(), String> {
        if self.model.rotten {
            return Ok(());
        }
        let (durable, pending) = (&self.model.durable, &self.model.pending);
        let more = all
            .len()
            .checked_sub(durable.len())
            .ok_or_else(|| format!("acknowledged and lost: {:?} of {:?}", short(all), short(durable)))?;
        if all[..durable.len()] != durable[..] {
            return Err(format!("acknowledged and changed: {:?}, not {:?}", short(all), short(durable)));
        }
        let rest = &all[durable.len()..];
        if pending.get(..more) != Some(rest) {
            return Err(format!("came from nowhere: {:?}; appended: {:?}", short(rest), short(pending)));
        }
        Ok(())
    }

    fn judge(&self, report: &Report, next_seq: u64, all: &[Fact]) -> Result<(), String> {
        let model = &self.model;
        let wrong = |what: &str| Err(format!("{what}: {report:?}, {} entries", all.len()));
        if !report.gaps.is_empty() && !model.rotten {
            return wrong("corruption where nothing rotted");
        }
        if report.created && (model.existed || !all.is_empty()) {
            return wrong("made anew over a log that was there");
        }
        if model.stopped && !report.clean && !model.rotten {
            return wrong("a stop in order was not seen");
        }
        if model.stopped && report.torn_bytes > 0 && !model.rotten {
            return wrong("torn after a stop in order");
        }
        if report.clean && !report.created && model.moved {
            return wrong("a stop in order that never was");
        }
        if all.last().is_some_and(|last| last.seq >= next_seq) || !all.is_sorted_by(|a, b| a.seq < b.seq) {
            return wrong("frame numbers do not continue");
        }
        Ok(())
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.model.serial += 1;
        let mut rng = fastrand::Rng::with_seed(self.model.serial);
        (0..len.max(1)).map(|_| rng.u8(..)).collect()
    }

    fn append(&mut self, len: usize) -> Result<(), String> {
        let payload = self.payload(len);
        let fits = self.log.as_ref().is_some_and(|log| log.fits(payload.len()));
        if !fits {
            let log = self.log.as_mut().expect("running");
            match log.roll(Need::Control, NOW) {
                Ok(()) => {
                    let checkpoint = self.payload(100);
                    if !self.push(CHECKPOINT, checkpoint)? {
                        return Ok(());
                    }
                }
                Err(error) => return self.refused(&error),
            }
        }
        self.push(USAGE, payload).map(drop)
    }

    fn push(&mut self, kind: u8, payload: Vec<u8>) -> Result<bool, String> {
        let log = self.log.as_mut().expect("running");
        let seq = log.next_seq();
        match log.append(kind, &payload, Need::Control, NOW) {
            Ok(()) => {
                self.model.pending.push(Fact { seq, kind, payload });
                Ok(true)
            }
            Err(error) => self.refused(&error).map(|()| false),
        }
    }

    fn refused(&mut self, error: &LogError) -> Result<(), String> {
        if !self.faulty && !self.disk.is_halted() {
            return Err(format!("failed without a fault: {error}"));
        }
        self.poisoned |= matches!(error, LogError::Poisoned(_));
        Ok(())
    }

    /// Whether everything appended is durable now.
    pub fn commit(&mut self) -> Result<bool, String> {
        let log = self.log.as_mut().expect("running");
        match log.commit() {
            Ok(()) if self.poisoned => Err("acknowledged after the disk had failed".into()),
            Ok(()) => {
                let pending = &mut self.model.pending;
                self.model.moved |= !pending.is_empty();
                self.model.durable.append(pending);
                Ok(true)
            }
            Err(error) => self.refused(&error).map(|()| false),
        }
    }

    /// A mark, as the engine sets it; whether it is durable.
    fn mark(&mut self, kind: u8) -> Result<bool, String> {
        if !self.commit()? {
            return Ok(false);
        }
        let log = self.log.as_mut().expect("running");
        if !log.fits(8) {
            return Ok(false);
        }
        if let Err(error) = log.append(kind, &NOW.millis().to_le_bytes(), Need::Control, NOW) {
            return self.refused(&error).map(|()| false);
        }
        let durable = self.commit()?;
        self.model.moved |= durable && kind == kind::IDLE;
        Ok(durable)
    }

    fn stop(&mut self) -> Result<(), String> {
        // From the first mark on nobody can tell: the next start may find both or not.
        let moved = self.model.moved;
        let first = self.mark(kind::CLEAN_STOP)?;
        if first {
            self.model.moved = false;
            let second = self.mark(kind::CLEAN_STOP)?;
            self.model.stopped = second;
            self.model.moved |= moved && !second && !self.disk.is_halted() && !self.poisoned;
        }
        self.log = None;
        Ok(())
    }
}
