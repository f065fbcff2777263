//! The core's loop: one thread that owns the engine and the socket.
//!
//! A turn reads every connection that is ready, takes its lines into the log's batch, syncs once, and answers
//! everybody. No hand-over between threads stands between a writer and its `ok`, and many small clients share a sync.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::{Poll, Token, Waker};
use tokio::sync::{Notify, oneshot, watch};

use super::checks;
use super::commands::{Command, Sent};
use super::front::Front;
use super::reload::Refused;
use super::run::Stage;
use super::watchdog::Watchdog;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::disk::Disk;
use crate::engine::{Code, EndSeen, Engine, EngineError, NotSettled, Options, Refusal, Taken, Tally};
use crate::gate;
use crate::hour::{Reading, Timestamp};
use crate::ingest::taker::{self, NotReady};
use crate::metrics::{Figures, LogFigures};
use crate::status::{self, Status};
use crate::view;
use crate::wal::LogError;

/// After this long without an append the log gets a mark that proves its last batch durable.
const IDLE_MARK_AFTER: Duration = Duration::from_secs(1);
/// How long to wait before trying again what found the disk full.
const ROOM_RETRY: Duration = Duration::from_secs(1);
/// Commands taken in one turn, so that they cannot starve the socket.
const COMMANDS_PER_TURN: usize = 256;

/// How long a loop sleeps at most, before it looks at the clocks again: the machine may have slept meanwhile.
pub const LOOK_UP_EVERY: Duration = Duration::from_secs(10);

pub(super) const WAKER: Token = Token(1);

/// How the core is wired to the rest.
pub struct Wiring {
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Where other threads ask.
    pub commands: Receiver<Command>,
    /// Rung when records were sealed.
    pub sealed: Arc<Notify>,
    /// Set when the agent is to stop.
    pub stop: watch::Sender<bool>,
    /// Readable when a signal came that asks to stop.
    pub signals: std::os::unix::net::UnixStream,
    /// What the gate keeps to.
    pub gate: config::Gate,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Asked to, with everything durable.
    Stopped,
    /// The log takes nothing more.
    DiskFailed(String),
    /// Stopped in order, because this part of it panicked.
    Fell(&'static str),
}

type Staged = (oneshot::Sender<(bool, Result<Taken, Refusal>)>, bool, Result<Taken, Refusal>);

/// The loop's state.
pub struct Core<'a, D: Disk> {
    engine: Engine<D>,
    front: Front,
    watchdog: Watchdog,
    /// Who feeds the watchdog.
    say: &'a dyn Fn(Stage<'_>),
    staged: Vec<Staged>,
    /// The log's next number when it was last looked at.
    seen_seq: u64,
    /// When it was last seen to have gone on, until its mark has been written.
    unmarked_since: Option<Instant>,
    /// When something is to be sealed or closed next.
    tick_at: Timestamp,
}

/// Makes what `Core` polls with, and the waker that other threads use.
pub fn poll() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    Ok((poll, waker))
}

impl<'a, D: Disk> Core<'a, D> {
    /// Puts the loop together around a recovered engine. `watchdog` is how long the service manager waits for the next
    /// [`Stage::Alive`], counted from now.
    pub fn new(engine: Engine<D>, front: Front, watchdog: Option<Duration>, say: &'a dyn Fn(Stage<'_>)) -> Self {
        let now = front.wiring.clock.now();
        // What was appended at the start wants a mark too.
        let (staged, watchdog) = (Vec::new(), Watchdog::new(watchdog));
        Core { engine, front, watchdog, say, staged, seen_seq: 0, unmarked_since: None, tick_at: now }
    }

    /// Runs until asked to stop or the disk fails.
    pub fn run(mut self) -> io::Result<Ended> {
        loop {
            self.front.wait(self.timeout())?;
            let reading = self.front.wiring.clock.read();
            let now = reading.at;
            let turn = self
                .heed(reading)
                .and_then(|()| self.turn(now))
                .and_then(|()| self.feed_watchdog())
                .and_then(|()| if now >= self.tick_at { self.tick(now) } else { Ok(()) })
                .and_then(|()| self.mark_if_idle(now))
                .and_then(|()| self.feed_watchdog());
            if let Err(error) = turn {
                self.fail_everybody(&error.to_string());
                // Closing the index would write, and might hang: the log knows better than it anyway.
                std::mem::forget(self.engine);
                return Ok(Ended::DiskFailed(error.to_string()));
            }
            if self.front.stopping && self.front.submitter_done {
                let stopped = self.front.ended();
                return Ok(match self.stop() {
                    Ok(()) => stopped,
                    Err(error) => Ended::DiskFailed(error.to_string()),
                });
            }
        }
    }

    /// Lets the engine see the clocks. A doubt is settled by asking AWS at once.
    fn heed(&mut self, reading: Reading) -> Result<(), LogError> {
        let heeded = self.engine.heed(reading);
        if matches!(heeded, Ok(true)) {
            self.tick_at = reading.at;
            self.front.wiring.sealed.notify_one();
        }
        poison(&heeded)
    }

    /// How long nothing is to be done, if nothing happens.
    fn timeout(&self) -> Duration {
        let clock = &self.front.wiring.clock;
        // Never for long: a clock that was set back would have it wait for a moment far away.
        let timeout = clock.real(self.tick_at.since(clock.now())).clamp(Duration::from_millis(1), LOOK_UP_EVERY);
        let mark = self.unmarked_since.map(|since| IDLE_MARK_AFTER.saturating_sub(since.elapsed()));
        [mark, self.watchdog.due_in()].into_iter().flatten().fold(timeout, Duration::min)
    }

    /// Takes what is there, commits once, answers.
    fn turn(&mut self, now: Timestamp) -> Result<(), LogError> {
        for _ in 0..COMMANDS_PER_TURN {
            match self.front.wiring.commands.try_recv() {
                Ok(command) => self.obey(command, now)?,
                Err(_) => break,
            }
        }
        let touched = self.front.clients.read_ready(&mut self.engine, now);
        self.engine.commit(now)?;
        for (reply, array, answer) in self.staged.drain(..) {
            // A client that has gone does not hear it.
            let _ = reply.send((array, answer));
        }
        for token in touched {
            self.front.clients.answer(token);
        }
        Ok(())
    }

    /// Marks the log a second after anything was appended: by writers, by the submitter, by the clock.
    fn mark_if_idle(&mut self, now: Timestamp) -> Result<(), LogError> {
        if self.engine.log().next_seq() != self.seen_seq {
            self.seen_seq = self.engine.log().next_seq();
            self.unmarked_since = Some(Instant::now());
        }
        if self.unmarked_since.is_some_and(|since| since.elapsed() >= IDLE_MARK_AFTER) {
            self.engine.idle(now)?;
            self.seen_seq = self.engine.log().next_seq();
            self.unmarked_since = None;
        }
        Ok(())
    }

    /// Says that the loop lives, once the disk has shown that it does: after a commit, or asked without one.
    fn feed_watchdog(&mut self) -> Result<(), LogError> {
        if self.watchdog.is_due() {
            if self.engine.log().synced_at().is_none_or(|at| at < self.watchdog.fed_at()) {
                self.engine.prove()?;
            }
            (self.say)(Stage::Alive);
            self.watchdog.fed();
        }
        Ok(())
    }

    /// Seals and closes what is due, and notes when to come back.
    fn tick(&mut self, now: Timestamp) -> Result<(), LogError> {
        match self.engine.tick(now) {
            Ok(()) => {
                self.front.wiring.sealed.notify_one();
                // Something that stays due (no instance yet) is looked at again in a while.
                self.tick_at = self.engine.next_tick(now).max(now.plus(Duration::from_secs(1)));
                Ok(())
            }
            Err(LogError::Full(why)) => {
                tracing::warn!(why, "no room to seal; trying again");
                self.tick_at = now.plus(ROOM_RETRY);
                Ok(())
            }
            Err(poisoned) => Err(poisoned),
        }
    }

    fn obey(&mut self, command: Command, now: Timestamp) -> Result<(), LogError> {
        match command {
            Command::Take { peer, body, reply } => {
                let (array, answer) = taker::take(&mut self.engine, peer, &body, now);
                self.staged.push((reply, array, answer));
            }
            Command::NextSending(reply) => {
                let sending = self.engine.next_sending(now);
                let poisoned = poison(&sending);
                let _ = reply.send(sending);
                poisoned?;
            }
            Command::Answered(sent, answer, reply) => {
                let written = match sent {
                    Sent::Record(key) => self.engine.answered(key, &answer, now),
                    Sent::Batch(keys) => self.engine.answered_batch(&keys, &answer, now),
                };
                // An answer may be the last: its units are to be on their way before the next hour is sealed.
                self.tick_at = now;
                let poisoned = poison(&written);
                let _ = reply.send(written);
                poisoned?;
            }
            Command::Probed(answer) => {
                // Its answer may have settled a doubt that hours wait for.
                self.tick_at = now;
                poison(&self.engine.probed(&answer, now))?;
            }
            Command::Instance(name) => {
                tracing::info!(name, "instance metadata names this instance");
                if let Err(error) = self.engine.set_instance(name, now) {
                    tracing::error!(%error, "the instance's name cannot be written down");
                }
                // Hours and records may have waited for it.
                self.tick_at = now;
            }
            Command::Refused(code) => self.engine.tally.refuse(code),
            Command::Ready(reply) => {
                let _ = reply.send(self.engine.is_ready());
            }
            Command::Status(reply) => {
                let _ = reply.send(Box::new(self.status(now)));
            }
            Command::Gate(reply) => {
                let gate = gate::gate(&self.engine, &self.front.wiring.gate, self.front.started, now);
                let _ = reply.send(gate);
            }
            Command::Metrics(reply) => {
                let figures = Figures {
                    status: self.status(now),
                    started: self.front.started,
                    connections: self.front.clients.count(),
                    log: Some(LogFigures::of(&self.engine, now)),
                    tally: self.engine.tally.clone(),
                };
                let _ = reply.send(Box::new(figures));
            }
            Command::Records(reply) => {
                let current = view::current(self.engine.state());
                let history = self.engine.index().history().map_err(|why| why.to_string());
                let _ = reply.send(history.map(|history| (current, history)));
            }
            Command::Settle { customer, dimension, hour, decision, to, by, reply } => {
                let decided = to.map_or(Ok(decision), |to| self.engine.carry_to(&dimension, &to));
                let settled = decided
                    .and_then(|decision| self.engine.settle_of(customer.as_ref(), &dimension, hour, decision, by, now));
                let poisoned = not_written(&settled);
                let _ = reply.send(settled);
                poisoned?;
                self.front.wiring.sealed.notify_one();
            }
            Command::Release { customer, dimension, hour, at_most, by, reply } => {
                let released = self.engine.release_of(customer.as_ref(), &dimension, hour, at_most, by, now);
                let poisoned = not_written(&released);
                let _ = reply.send(released);
                poisoned?;
                self.front.wiring.sealed.notify_one();
            }
            Command::Dispose { disposal, instance, by, reply } => {
                let disposed = self.engine.dispose(disposal, instance.as_deref(), by, now);
                let poisoned = not_written(&disposed);
                let _ = reply.send(disposed);
                poisoned?;
            }
            Command::End { by, why, reply } => {
                let ended = self.engine.end(by, &why, now);
                self.tell_of_the_end(ended, reply, now)?;
            }
            Command::CallOff { by, reply } => {
                let called_off = self.engine.call_off(by, now).map(drop);
                self.tell_of_the_end(called_off, reply, now)?;
            }
            Command::EndSeen(reply) => {
                let _ = reply.send(Ok(self.engine.end_seen()));
            }
            Command::Reconfigure(config, reply) => self.reconfigure(&config, reply, now)?,
            Command::ConfigRefused(refused) => self.front.config_refused(&refused, now),
            Command::Alerted(done) => self.front.alerted(done, now),
            Command::Checked(findings) => self.front.checked(findings, now),
            Command::SubmitterDone => self.front.submitter_done = true,
            Command::Fell(what) => self.front.fall(what),
        }
        Ok(())
    }

    /// Puts a configuration in force: what the log has to know first, and only if it took that, the rest.
    fn reconfigure(
        &mut self,
        config: &Config,
        reply: oneshot::Sender<Result<(), Refused>>,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let Options { instance, purpose, judge_clock, .. } = self.engine.options().clone();
        let done = self.engine.reconfigure(Options::of(config, instance, purpose, judge_clock), now);
        let poisoned = match &done {
            Err(EngineError::Log(error)) => poison(&Err::<(), _>(error.clone())),
            _ => Ok(()),
        };
        if done.is_ok() {
            self.front.config_taken(config);
            // A shorter grace or window may make something due.
            self.tick_at = now;
            self.front.wiring.sealed.notify_one();
        }
        let _ = reply.send(done.map_err(Refused::from));
        poisoned
    }

    /// Has the submitter look at once, and tells how far the end is.
    fn tell_of_the_end(
        &mut self,
        done: Result<(), LogError>,
        reply: oneshot::Sender<Result<EndSeen, LogError>>,
        now: Timestamp,
    ) -> Result<(), LogError> {
        self.tick_at = now;
        let poisoned = poison(&done);
        let _ = reply.send(done.map(|()| self.engine.end_seen()));
        self.front.wiring.sealed.notify_one();
        poisoned
    }

    /// How things are, with what the checks found that nothing else tells.
    fn status(&self, now: Timestamp) -> Status {
        let mut view = status::status(&self.engine, &self.front.wiring.gate, self.front.started, now);
        let last_success = self.engine.state().last_success;
        let checks = checks::attention(&self.front.failed, &view.attention, last_success, &view.books);
        view.attention.extend(self.front.attention().chain(checks));
        view
    }

    /// Takes what the writers have sent so far, answers it, and closes the log in order.
    fn stop(mut self) -> Result<(), LogError> {
        let now = self.front.wiring.clock.now();
        self.front.clients.queue_all();
        while self.front.clients.any_ready() {
            self.turn(now)?;
        }
        self.engine.stop(now)
    }

    /// The disk failed: nobody is left waiting. What was not read before has not been recorded, and is told so.
    fn fail_everybody(&mut self, why: &str) {
        self.front.clients.fail_all(why);
        let message = format!("{why}; nothing was recorded, send it again later");
        let mut nobody = NotReady { code: Code::NotReady, message, tally: Tally::default() };
        self.front.clients.queue_all();
        for token in self.front.clients.read_ready(&mut nobody, self.front.wiring.clock.now()) {
            self.front.clients.answer(token);
        }
        for (reply, array, _) in self.staged.drain(..) {
            let refusal = Refusal { code: Code::NotDurable, message: why.to_owned(), index: None };
            let _ = reply.send((array, Err(refusal)));
        }
    }
}

/// The error that ends the agent, if it is that one: a full disk heals.
fn poison<T>(result: &Result<T, LogError>) -> Result<(), LogError> {
    match result {
        Err(error @ LogError::Poisoned(_)) => Err(error.clone()),
        _ => Ok(()),
    }
}

/// The same for a decision.
fn not_written<T>(decided: &Result<T, NotSettled>) -> Result<(), LogError> {
    match decided {
        Err(NotSettled::Log(error)) => poison(&Err::<(), _>(error.clone())),
        _ => Ok(()),
    }
}
