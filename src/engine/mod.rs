//! The one owner of the log and of everything that follows from it. Single-threaded, and it never asks the time: every
//! call is told it. The agent's loop drives it with real sockets, a simulation with simulated ones.
//!
//! One way in for every fact: `Engine::record` appends an entry and folds it. Nothing that is told to the outside
//! (`ok`, a request to AWS) leaves before [`Engine::commit`] has succeeded.

mod batches;
mod building;
mod code;
mod configure;
mod customers;
mod deadlines;
mod echo;
mod ending;
mod error;
mod failing;
mod keys;
mod misnamed;
mod options;
mod recover;
mod refused;
mod register;
mod release;
mod retain;
mod sending;
mod settle;
mod stretch;
mod take;
mod tally;
mod watch;
mod whose;

pub use code::Code;
pub use customers::SAAS;
pub use ending::{EndSeen, EndUnderWay};
pub use error::EngineError;
pub use failing::Failing;
pub use misnamed::Misnamed;
pub use options::Options;
pub use recover::{Happened, archived, history, read_only};
pub use register::{Came, Change, NotRegistered, Told};
pub use release::Gone;
pub use sending::Sending;
pub use settle::NotSettled;
pub use take::{NewIncrement, Refusal, Taken};
pub use tally::{Calls, Tally};
pub use whose::{Decided, Disposal};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, ZeroRecords};
use crate::disk::Disk;
use crate::entry::{self, Answered, Closed, Damaged, Ending, Entry, Verdict};
use crate::histogram::Histogram;
use crate::hour::{Hour, Reading, Timestamp};
use crate::index::{Index, IndexError};
use crate::rollup::state::Phase;
use crate::rollup::{Checkpoint, State};
use crate::submit::dispatch::Dispatch;
use crate::submit::outbox::Outbox;
use crate::wal::archive::Owner;
use crate::wal::log::kind as log_kind;
use crate::wal::open::{self as wal_open, Entry as LogEntry};
use crate::wal::spares::Need;
use crate::wal::{Log, LogError, LogId, Report};
use building::Building;
pub use configure::DIMENSIONS_EVER_MAX;
use configure::Known;
use echo::{Echoes, Folding};
use recover::source;

/// How long an opening engine waits for its index at most. An intact one is open within milliseconds, tens of them where
/// a crash left it a segment or two of the log to read, more on a busy machine: writers rather wait that long than hear
/// that their keys cannot be looked up yet. One that takes longer is not waited for: usage without a key can be taken.
const INDEX_WAIT: Duration = Duration::from_millis(500);
/// The same where nothing else goes on meanwhile.
const INDEX_WAIT_ALONE: Duration = Duration::from_secs(60);

/// The log, the state folded from it, the index beside it, and the outbox.
pub struct Engine<D: Disk> {
    log: Log<D>,
    state: State,
    index: Index,
    building: Building,
    outbox: Outbox,
    dispatch: Dispatch,
    names: HashMap<String, Known>,
    /// Configured names, for messages.
    listed: String,
    options: Options,
    report: Report,
    full: bool,
    aws: sending::AwsSeen,
    batches: tally::Batches,
    /// What writers were told; kept by whoever tells them.
    pub tally: Tally,
    misnamed: Option<Misnamed>,
    deadlines: deadlines::Deadlines,
    retention: retain::Retention<D>,
    /// What the clocks said last.
    reading: Reading,
    /// What is to be written a second time.
    echoes: Echoes,
    /// The end of this instance, if it is under way.
    ending: Option<EndUnderWay>,
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
        let mut folding = Folding::default();
        let mut finished = Vec::new();
        let log_options = wal_open::Options {
            segment_bytes: options.segment_bytes,
            purpose: options.purpose,
            background: options.threads,
            checkpoint_kind: entry::kind::CHECKPOINT,
            now,
        };
        let opened = wal_open::open(Arc::clone(&disk), &log_options, &mut |e: LogEntry<'_>| {
            folding.fold(e, &mut |change| finished.extend(change.into_records()))
        })?;
        if opened.report.ends_in_gap {
            folding.open_gap();
        }
        let damaged = folding.is_damaged();
        let Folding { state, echoes, .. } = folding;
        let mut index = open_index(opened.log.id())?;
        let owner = Owner { log: opened.log.id(), purpose: opened.log.purpose() };
        let mut retention = retain::Retention::new(Arc::clone(&disk), owner, options.retain, options.threads)?;
        finished.iter().for_each(|record| retention.saw(record));
        // It reads what it lacks while usage is taken.
        index.begin(source(disk), opened.log.next_seq() - 1, state.open_from);
        let doubt = state.unanswered || state.records.values().any(|r| r.in_flight);
        let batches = tally::Batches::after(state.accepted_seq);
        let mut engine = Engine {
            log: opened.log,
            state,
            index,
            building: Building::default(),
            outbox: Outbox::new(doubt, options.judge_clock),
            dispatch: Dispatch::new(doubt),
            names: HashMap::new(),
            listed: String::new(),
            options,
            report: opened.report,
            full: false,
            aws: sending::AwsSeen::default(),
            batches,
            tally: Tally::default(),
            misnamed: None,
            deadlines: deadlines::Deadlines::default(),
            retention,
            reading,
            echoes,
            ending: None,
        };
        engine.is_own_kind()?;
        if damaged {
            engine.hold_what_damage_touched(now)?;
        }
        engine.heed(reading)?;
        engine.started()?;
        engine.settle_interrupted(now)?;
        engine.say_kind(now)?;
        engine.part_if_unsure(now)?;
        engine.configure(now)?;
        engine.commit(now)?;
        engine.index.wait(if engine.options.threads { INDEX_WAIT } else { INDEX_WAIT_ALONE });
        engine.index.look();
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

    /// How many increments a commit made durable, of those that made any.
    pub fn batches(&self) -> &Histogram {
        &self.batches.sizes
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether usage is taken, as long as there is room for it.
    pub fn is_ready(&self) -> bool {
        self.log.poisoned().is_none() && !self.is_closed()
    }

    /// Whether usage is refused because the disk is full. What was refused last may be taken by now.
    pub fn disk_full(&self) -> bool {
        self.full && self.log.no_room().is_some()
    }

    /// Names the instance, once it is known.
    pub fn set_instance(&mut self, instance: String, now: Timestamp) -> Result<(), EngineError> {
        self.options.instance = Some(instance);
        self.say_whose(now)?;
        self.configure(now)
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
        if self.echoes.is_overdue() {
            self.repeat(now)?;
        }
        let payload = entry.encode().map_err(unwritable)?;
        if !self.log.fits(payload.len()) {
            self.log.roll(need, now)?;
            self.index.segment_ended();
            self.retention.rolled(self.log.segment_bytes());
            let checkpoint = Checkpoint::encode(&self.state).map_err(unwritable)?;
            self.append(entry::kind::CHECKPOINT, &checkpoint, need, now)?;
        }
        self.append(entry.kind(), &payload, need, now)?;
        for record in self.state.apply(entry) {
            self.retention.saw(&record);
            self.ended_for_the_end(&record);
            self.index.add_record(record);
        }
        Ok(())
    }

    fn append(&mut self, kind: u8, payload: &[u8], need: Need, now: Timestamp) -> Result<(), LogError> {
        let seq = self.log.next_seq();
        self.log.append(kind, payload, need, now)?;
        self.echoes.note(seq, kind, payload);
        Ok(())
    }

    /// Writes what is not usage a second time. Where it does not fit the checkpoint of the next segment stands in for it.
    fn repeat(&mut self, now: Timestamp) -> Result<(), LogError> {
        let payload = entry::encode(&self.echoes.echo()).map_err(unwritable)?;
        let seq = self.log.next_seq();
        if self.log.fits(payload.len()) {
            self.log.append(entry::kind::ECHO, &payload, Need::Control, now)?;
        }
        self.echoes.turned(seq);
        Ok(())
    }

    /// Entries are lost for good: hours that they may have sealed and records that they may have settled wait for a
    /// person.
    fn hold_what_damage_touched(&mut self, now: Timestamp) -> Result<(), LogError> {
        // The clock may have been set back since the lost entries were written.
        let through = self.state.current_hour(self.state.clocks.last_seen.map_or(now, |seen| seen.max(now)));
        let pending = self.state.records.values().filter(|r| r.phase == Phase::Pending);
        let records: Vec<_> = pending.map(|r| r.record.key).collect();
        tracing::error!(%through, records = records.len(), "damage took entries that stand nowhere else; their hours are held");
        self.record(&Entry::Damaged(Damaged { at: now, through, records }), Need::Control, now)
    }

    /// Makes everything so far durable. Only after this has succeeded may anything be told to the outside.
    pub fn commit(&mut self, now: Timestamp) -> Result<(), LogError> {
        self.flush_building(now)?;
        self.log.commit()?;
        self.batches.committed(self.state.accepted_seq);
        // Keys are forgotten by hours that are sealed: a clock that jumps ahead makes nothing forget them.
        self.index.advance(self.log.next_seq() - 1, self.state.open_from);
        Ok(())
    }

    /// Does what is due: seals hours, closes records past their window. Durable when it returns.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), LogError> {
        self.flush_building(now)?;
        if self.state.name().is_none() && self.options.instance.is_some() {
            // It became known while there was no room to write it down.
            self.say_whose(now)?;
            match self.configure(now) {
                Err(EngineError::Log(error)) => return Err(error),
                Err(error) => tracing::error!(%error, "the instance's name cannot be written down"),
                Ok(()) => {}
            }
        }
        // By a clock that is not believed nothing ends.
        let believed = self.state.clocks.doubt.is_none();
        self.alive_if_due(now, believed && self.is_seal_due(now))?;
        // Nor before it is certain whose records these are.
        if believed && self.state.name().is_some() {
            self.begin_if_due(now)?;
            self.seal_due(now)?;
            self.fix_anew_due(now)?;
            self.close_late(now)?;
            self.seal_for_the_end(now)?;
        }
        self.deadlines.say(&self.state, now);
        self.commit(now)?;
        self.retain(now)
    }

    /// The next moment at which `tick` has something to do.
    pub fn next_tick(&self, now: Timestamp) -> Timestamp {
        if self.is_end_open() {
            return now;
        }
        let seal = self.state.open_from.end().plus(self.options.grace).max(now);
        let deadlines = self.state.records.values().filter(|r| r.phase == Phase::Pending && !r.in_flight);
        let fresh = [self.state.fresh_deadline(), self.state.waiting_deadline()].into_iter().flatten();
        let deadline =
            deadlines.map(|r| r.deadline(self.state.window)).chain(fresh.map(|(_, deadline)| deadline)).min();
        let said = deadlines::Deadlines::next(&self.state, now);
        [deadline, said, self.alive_due(now), self.next_retention(now)].into_iter().flatten().fold(seal, Timestamp::min)
    }

    fn is_seal_due(&self, now: Timestamp) -> bool {
        self.state.name().is_some() && self.state.open_from.end().plus(self.options.grace) <= now
    }

    /// Seals every hour whose grace is over. Before the instance is known hours stay open, for a record names it.
    fn seal_due(&mut self, now: Timestamp) -> Result<(), LogError> {
        while self.is_seal_due(now) {
            let hour = self.state.open_from;
            let last = now.minus(self.options.grace).hour().previous();
            let through = self.quiet_through(hour, last);
            self.seal_customers(hour, None, now)?;
            let Some(seal) = self.state.seal(hour, through, now) else { return Ok(()) };
            ending::say_sealed(&seal);
            self.record(&Entry::Seal(seal), Need::Control, now)?;
        }
        Ok(())
    }

    /// The last hour up to `last` that can be closed along with `hour`, because nothing happened after it.
    fn quiet_through(&self, hour: Hour, last: Hour) -> Hour {
        if self.state.zero_records == ZeroRecords::All && each_by_itself(hour, last) {
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
        let mut late: Vec<_> = late.map(|r| (r.record.key, r.ambiguous)).collect();
        late.extend(self.fresh_too_late(now).map(|key| (key, false)));
        for (key, ambiguous) in late {
            let ending = match (ambiguous, self.state.late) {
                (true, _) => Ending::InDoubt,
                (false, config::Late::CarryForward) => Ending::Carried,
                (false, config::Late::Expire) => Ending::Expired,
            };
            tracing::warn!(record = %key, ?ending, "a record's window has passed");
            self.record(&Entry::Closed(Closed { key, at: now, ending }), Need::Control, now)?;
            self.outbox.forget(&key);
            self.dispatch.forget(&key);
        }
        Ok(())
    }

    /// Marks the proof of durability after a quiet moment.
    pub fn idle(&mut self, now: Timestamp) -> Result<(), LogError> {
        if self.echoes.is_due() {
            self.repeat(now)?;
        }
        self.append_mark(log_kind::IDLE, now)
    }

    /// Proves that the way to the disk is open, without adding to the log.
    pub fn prove(&mut self) -> Result<(), LogError> {
        self.log.prove()
    }

    /// Stops in order: everything durable, and a mark that the next start can go on right here. The mark stands twice
    /// because the second one proves the first.
    pub fn stop(mut self, now: Timestamp) -> Result<(), LogError> {
        self.flush_building(now)?;
        self.alive(true)?;
        self.repeat(now)?;
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
            return self.log.commit();
        }
        self.log.append(kind, &at, Need::Control, now)?;
        self.log.commit()
    }
}

/// With `zero_records = "all"` every hour is sealed by itself, unless the agent was away for so long that AWS would
/// refuse most of them anyway.
fn each_by_itself(hour: Hour, last: Hour) -> bool {
    last.index().saturating_sub(hour.index()) <= 30 * 24
}

/// An entry that cannot be put into bytes is a fault of this program, and nothing of it was written.
fn unwritable(error: entry::CodecError) -> LogError {
    LogError::Poisoned(format!("an entry cannot be encoded: {error}").into())
}
