//! The one owner of the log and of everything that follows from it. Single-threaded, and it never asks the time: every
//! call is told it. The agent's loop drives it with real sockets, a simulation with simulated ones.
//!
//! One way in for every fact: `Engine::record` appends an entry and folds it. Nothing that is told to the outside
//! (`ok`, a request to AWS) leaves before [`Engine::commit`] has succeeded.

mod building;
mod deadlines;
mod keys;
mod options;
mod recover;
mod release;
mod sending;
mod settle;
mod take;
mod watch;

pub use options::Options;
pub use recover::read_only;
pub use release::Gone;
pub use sending::Sending;
pub use settle::NotSettled;
pub use take::{Code, NewIncrement, Refusal, Taken};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Measure, ZeroRecords};
use crate::disk::Disk;
use crate::entry::{self, Answered, Closed, DimensionId, Ending, Entry, Rules, Setup, Verdict};
use crate::hour::{Hour, Reading, Timestamp};
use crate::index::{Index, IndexError};
use crate::rollup::State;
use crate::rollup::state::Phase;
use crate::submit::outbox::Outbox;
use crate::wal::log::kind as log_kind;
use crate::wal::open::{self as wal_open, Entry as LogEntry};
use crate::wal::spares::Need;
use crate::wal::{Log, LogError, LogId, OpenError, Report};
use building::Building;
use recover::{fold, source};

/// Why an engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The log.
    #[error("the log: {0}")]
    Open(#[from] OpenError),
    /// The log, while recovery wrote to it.
    #[error("the log: {0}")]
    Log(#[from] LogError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// More dimensions than a log can number.
    #[error("this log knows {0} dimensions already; move the state directory away to start a new one")]
    TooManyDimensions(usize),
}

/// Most dimensions that one log can ever know, renamed and removed ones included.
pub const DIMENSIONS_EVER_MAX: usize = 1024;

/// How long an opening engine waits for its index at most: an intact one is open by then unless it is very large, and
/// nobody sees that it was not.
const INDEX_WAIT: Duration = Duration::from_millis(30);

/// A dimension as the socket's words reach it.
#[derive(Debug, Clone)]
struct Known {
    id: DimensionId,
    measure: Measure,
    /// Why nobody reports it, if so.
    not_reported: Option<String>,
}

impl Known {
    fn new(id: DimensionId, rules: &Rules) -> Self {
        Known { id, measure: rules.measure, not_reported: Known::not_reported(rules) }
    }

    fn not_reported(rules: &Rules) -> Option<String> {
        if rules.measure == Measure::Uptime {
            return Some("is metered by the agent itself; nothing is to be reported".into());
        }
        let sources: Vec<&str> = rules.from.iter().map(|source| source.name.as_str()).collect();
        (!sources.is_empty()).then(|| format!("is made of others; report {}", sources.join(", ")))
    }
}

/// The log, the state folded from it, the index beside it, and the outbox.
pub struct Engine<D: Disk> {
    log: Log<D>,
    state: State,
    index: Index,
    building: Building,
    outbox: Outbox,
    names: HashMap<String, Known>,
    /// Configured names, for messages.
    listed: String,
    options: Options,
    report: Report,
    full: bool,
    aws: sending::AwsSeen,
    deadlines: deadlines::Deadlines,
    /// What the clocks said last.
    reading: Reading,
}

impl<D: Disk> Engine<D> {
    /// Recovers what is in `disk`, or begins there.
    pub fn open(
        disk: Arc<D>,
        options: Options,
        reading: impl Into<Reading>,
        open_index: impl FnOnce(LogId) -> Result<Index, IndexError>,
    ) -> Result<Self, EngineError> {
        let reading = reading.into();
        let now = reading.at;
        let mut state = State::default();
        let log_options = wal_open::Options {
            segment_bytes: options.segment_bytes,
            purpose: options.purpose,
            background: options.threads,
            checkpoint_kind: entry::kind::CHECKPOINT,
            now,
        };
        let opened =
            wal_open::open(Arc::clone(&disk), &log_options, &mut |e: LogEntry<'_>| fold(&mut state, e, &mut drop))?;
        let mut index = open_index(opened.log.id())?;
        // It reads what it lacks while usage is taken.
        index.begin(source(disk), opened.log.next_seq() - 1, state.open_from);
        let doubt = state.records.values().any(|r| r.phase == Phase::Pending && (r.ambiguous || r.in_flight));
        let mut engine = Engine {
            log: opened.log,
            state,
            index,
            building: Building::default(),
            outbox: Outbox::new(doubt, options.judge_clock),
            names: HashMap::new(),
            listed: String::new(),
            options,
            report: opened.report,
            full: false,
            aws: sending::AwsSeen::default(),
            deadlines: deadlines::Deadlines::default(),
            reading,
        };
        engine.heed(reading)?;
        engine.started()?;
        engine.settle_interrupted(now)?;
        engine.configure(now)?;
        engine.commit(now)?;
        engine.index.wait(INDEX_WAIT);
        Ok(engine)
    }

    /// What the log is folded to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What recovery found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The log, for figures.
    pub fn log(&self) -> &Log<D> {
        &self.log
    }

    /// The index, for history.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether usage is refused because the disk is full.
    pub fn disk_full(&self) -> bool {
        self.full
    }

    /// Names the instance, once it is known.
    pub fn set_instance(&mut self, instance: String, now: Timestamp) -> Result<(), EngineError> {
        self.options.instance = Some(instance);
        self.configure(now)
    }

    /// Writes the configuration down if it differs from what the log says.
    fn configure(&mut self, now: Timestamp) -> Result<(), EngineError> {
        let mut next = self.state.dimensions.len();
        let mut dimensions = Vec::new();
        for rules in &self.options.dimensions {
            let id = self.state.dimension_named(&rules.name).unwrap_or_else(|| {
                next += 1;
                DimensionId(u16::try_from(next - 1).unwrap_or(u16::MAX))
            });
            dimensions.push((id, rules.clone()));
        }
        if next > DIMENSIONS_EVER_MAX {
            return Err(EngineError::TooManyDimensions(self.state.dimensions.len()));
        }
        self.names = dimensions.iter().map(|(id, rules)| (rules.name.clone(), Known::new(*id, rules))).collect();
        let reported = dimensions.iter().filter(|(_, rules)| Known::not_reported(rules).is_none());
        let mut listed: Vec<&str> = reported.map(|(_, rules)| rules.name.as_str()).collect();
        listed.sort_unstable();
        self.listed = listed.join(", ");
        let setup = Setup {
            at: now,
            product_code: self.options.product_code.clone(),
            // Metadata that is merely late does not take the instance's name away.
            instance: self.options.instance.clone().or_else(|| self.state.instance.clone()),
            dimensions,
            window_ms: u64::try_from(self.options.window.as_millis()).unwrap_or(u64::MAX),
            late: self.options.late,
            zero_records: self.options.zero_records,
        };
        if !self.is_in_force(&setup) {
            self.record(&Entry::Setup(setup), Need::Control, now)?;
        }
        Ok(())
    }

    fn is_in_force(&self, setup: &Setup) -> bool {
        let rules = |id: &DimensionId| {
            let dimension = self.state.dimension(*id)?;
            dimension.configured.then(|| dimension.next_rules.as_ref().map_or(&dimension.rules, |(_, next)| next))
        };
        let configured = self.state.dimensions.iter().filter(|d| d.configured).count();
        self.state.product_code == setup.product_code
            && self.state.instance == setup.instance
            && self.state.window.as_millis() == u128::from(setup.window_ms)
            && self.state.late == setup.late
            && self.state.zero_records == setup.zero_records
            && configured == setup.dimensions.len()
            && setup.dimensions.iter().all(|(id, new)| rules(id) == Some(new))
    }

    /// An attempt that the last run began and did not end may have been taken.
    fn settle_interrupted(&mut self, now: Timestamp) -> Result<(), LogError> {
        let interrupted: Vec<_> = self.state.records.values().filter(|r| r.in_flight).map(|r| r.record.key).collect();
        for key in interrupted {
            let message = "the agent stopped before the answer came".into();
            let answered = Answered { key, at: now, verdict: Verdict::Ambiguous, message, request_id: None };
            self.record(&Entry::Answered(answered), Need::Control, now)?;
        }
        Ok(())
    }

    /// The one way in: appends an entry to the log's batch and folds it. A segment begins with a checkpoint, so that a
    /// start reads that and what follows it.
    fn record(&mut self, entry: &Entry, need: Need, now: Timestamp) -> Result<(), LogError> {
        let payload = entry.encode().map_err(unwritable)?;
        if !self.log.fits(payload.len()) {
            self.log.roll(need, now)?;
            self.index.segment_ended();
            let checkpoint = entry::encode(&self.state).map_err(unwritable)?;
            self.log.append(entry::kind::CHECKPOINT, &checkpoint, need, now)?;
        }
        self.log.append(entry.kind(), &payload, need, now)?;
        for record in self.state.apply(entry) {
            self.index.add_record(record);
        }
        Ok(())
    }

    /// Makes everything so far durable. Only after this has succeeded may anything be told to the outside.
    pub fn commit(&mut self, now: Timestamp) -> Result<(), LogError> {
        self.flush_building(now)?;
        self.log.commit()?;
        // Keys are forgotten by hours that are sealed: a clock that jumps ahead makes nothing forget them.
        self.index.advance(self.log.next_seq() - 1, self.state.open_from);
        Ok(())
    }

    /// Does what is due: seals hours, closes records past their window. Durable when it returns.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), LogError> {
        self.flush_building(now)?;
        // By a clock that is not believed nothing ends.
        let believed = self.state.clocks.doubt.is_none();
        self.alive_if_due(now, believed && self.is_seal_due(now))?;
        if believed {
            self.seal_due(now)?;
            self.close_late(now)?;
        }
        self.deadlines.say(&self.state, now);
        self.commit(now)
    }

    /// The next moment at which `tick` has something to do.
    pub fn next_tick(&self, now: Timestamp) -> Timestamp {
        let seal = self.state.open_from.end().plus(self.options.grace).max(now);
        let deadlines = self.state.records.values().filter(|r| r.phase == Phase::Pending && !r.in_flight);
        let deadline = deadlines.map(|r| r.deadline(self.state.window)).min();
        let said = deadlines::Deadlines::next(&self.state, now);
        [deadline, said, self.alive_due(now)].into_iter().flatten().fold(seal, Timestamp::min)
    }

    fn is_seal_due(&self, now: Timestamp) -> bool {
        self.state.instance.is_some() && self.state.open_from.end().plus(self.options.grace) <= now
    }

    /// Seals every hour whose grace is over. Before the instance is known hours stay open, for a record names it.
    fn seal_due(&mut self, now: Timestamp) -> Result<(), LogError> {
        while self.is_seal_due(now) {
            let hour = self.state.open_from;
            let last = now.minus(self.options.grace).hour().previous();
            let through = self.quiet_through(hour, last);
            let Some(seal) = self.state.seal(hour, through, now) else { return Ok(()) };
            for sealed in &seal.dimensions {
                if let Some(record) = &sealed.record {
                    let (dimension, quantity) = (&record.request.dimension, record.request.quantity);
                    tracing::info!(%hour, dimension, quantity, "hour sealed");
                }
            }
            self.record(&Entry::Seal(seal), Need::Control, now)?;
        }
        Ok(())
    }

    /// The last hour up to `last` that can be closed along with `hour`, because nothing happened after it.
    fn quiet_through(&self, hour: Hour, last: Hour) -> Hour {
        if self.state.zero_records == ZeroRecords::All && now_matters(hour, last) {
            return hour;
        }
        let mut through = hour;
        while through < last && self.state.is_quiet(through.next()) {
            through = through.next();
        }
        through
    }

    /// Ends pending records whose window has passed.
    fn close_late(&mut self, now: Timestamp) -> Result<(), LogError> {
        let window = self.state.window;
        let late = self
            .state
            .records
            .values()
            .filter(|r| r.phase == Phase::Pending && !r.in_flight && (now > r.deadline(window) || r.out_of_window));
        let late: Vec<_> = late.map(|r| (r.record.key, r.ambiguous)).collect();
        for (key, ambiguous) in late {
            let ending = match (ambiguous, self.state.late) {
                (true, _) => Ending::InDoubt,
                (false, config::Late::CarryForward) => Ending::Carried,
                (false, config::Late::Expire) => Ending::Expired,
            };
            tracing::warn!(record = %key, ?ending, "a record's window has passed");
            self.record(&Entry::Closed(Closed { key, at: now, ending }), Need::Control, now)?;
            self.outbox.forget(&key);
        }
        Ok(())
    }

    /// Marks the proof of durability after a quiet moment.
    pub fn idle(&mut self, now: Timestamp) -> Result<(), LogError> {
        self.append_mark(log_kind::IDLE, now)
    }

    /// Stops in order: everything durable, and a mark that the next start can go on right here. The mark stands twice
    /// because the second one proves the first.
    pub fn stop(mut self, now: Timestamp) -> Result<(), LogError> {
        self.flush_building(now)?;
        self.alive(true)?;
        self.commit(now)?;
        self.append_mark(log_kind::CLEAN_STOP, now)?;
        self.append_mark(log_kind::CLEAN_STOP, now)?;
        self.index.close(self.log.next_seq() - 1, self.state.open_from);
        Ok(())
    }

    fn append_mark(&mut self, kind: u8, now: Timestamp) -> Result<(), LogError> {
        let at = entry::encode(&now).map_err(unwritable)?;
        if !self.log.fits(at.len()) {
            // A mark is not worth a segment.
            return Ok(());
        }
        self.log.append(kind, &at, Need::Control, now)?;
        self.log.commit()
    }
}

/// With `zero_records = "all"` every hour is sealed by itself, unless the agent was away for so long that AWS would
/// refuse most of them anyway.
fn now_matters(hour: Hour, last: Hour) -> bool {
    last.index().saturating_sub(hour.index()) <= 30 * 24
}

/// An entry that cannot be put into bytes is a fault of this program, and nothing of it was written.
fn unwritable(error: entry::CodecError) -> LogError {
    LogError::Poisoned(format!("an entry cannot be encoded: {error}").into())
}
