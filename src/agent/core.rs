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

use super::commands::Command;
use super::front::Front;
use super::obey::poison;
use super::pace::Passes;
use super::run::Stage;
use super::watchdog::Watchdog;
use crate::clock::Clock;
use crate::config;
use crate::disk::Disk;
use crate::engine::{Code, Engine, Refusal, Taken, Tally};
use crate::hour::{Reading, Timestamp};
use crate::ingest::allow::Allowed;
use crate::ingest::taker::NotReady;
use crate::wal::LogError;

/// After this long without an append the log gets a mark that proves its last batch durable.
const IDLE_MARK_AFTER: Duration = Duration::from_secs(1);
/// How long to wait before trying again what found the disk full.
const ROOM_RETRY: Duration = Duration::from_secs(1);
/// Commands taken in one turn, so that they cannot starve the socket.
const COMMANDS_PER_TURN: usize = 256;

/// How long writers' last lines are taken while the agent stops. What was not read by then was not answered either.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    /// Who may write and read; what is sent here holds from then on, for those who are connected too.
    pub allowed: watch::Sender<Allowed>,
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
    pub(super) engine: Engine<D>,
    pub(super) front: Front,
    watchdog: Watchdog,
    /// Who feeds the watchdog.
    say: &'a dyn Fn(Stage<'_>),
    pub(super) staged: Vec<Staged>,
    /// How other threads' commands are paced.
    passes: Passes,
    commands_left: bool,
    /// The log's next number when it was last looked at.
    seen_seq: u64,
    /// When it was last seen to have gone on, until its mark has been written.
    unmarked_since: Option<Instant>,
    /// When something is to be sealed or closed next.
    pub(super) tick_at: Timestamp,
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
        Core {
            engine,
            front,
            watchdog,
            say,
            staged,
            passes: Passes::default(),
            commands_left: false,
            seen_seq: 0,
            unmarked_since: None,
            tick_at: now,
        }
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
        let commands = self.commands_left.then(|| self.passes.rest());
        [mark, self.watchdog.due_in(), commands].into_iter().flatten().fold(timeout, Duration::min)
    }

    /// Takes what is there, commits once, answers.
    fn turn(&mut self, now: Timestamp) -> Result<(), LogError> {
        let busy = self.take_commands(now)?;
        let touched = self.front.read_ready(busy, &mut self.engine, now);
        self.answer(&touched, now)
    }

    /// Takes what other threads ask, as long as the pace allows; whether there was anything.
    fn take_commands(&mut self, now: Timestamp) -> Result<bool, LogError> {
        self.commands_left = !self.passes.rest().is_zero();
        let Some(pass) = self.passes.begin(&self.front.clients.pace) else { return Ok(false) };
        for n in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.front.wiring.commands.try_recv() else {
                self.passes.end(&pass);
                return Ok(n > 0);
            };
            self.obey(command, now)?;
            if pass.is_over() {
                break;
            }
        }
        self.commands_left = true;
        self.passes.end(&pass);
        Ok(true)
    }

    /// Commits what was taken, and answers.
    fn answer(&mut self, touched: &[Token], now: Timestamp) -> Result<(), LogError> {
        self.engine.commit(now)?;
        for (reply, array, answer) in self.staged.drain(..) {
            // A client that has gone does not hear it.
            let _ = reply.send((array, answer));
        }
        for token in touched {
            self.front.clients.answer(*token);
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

    /// Takes what the writers have sent so far, answers it, and closes the log in order.
    fn stop(mut self) -> Result<(), LogError> {
        let now = self.front.wiring.clock.now();
        self.front.clients.queue_all();
        // Somebody who never stops sending does not keep the agent from stopping.
        let begun = Instant::now();
        while self.front.clients.any_ready() && begun.elapsed() < LAST_WORDS {
            self.take_commands(now)?;
            let touched = self.front.clients.read_everybody(&mut self.engine, now);
            self.answer(&touched, now)?;
        }
        self.engine.stop(now)
    }

    /// The disk failed: nobody is left waiting. What was not read before has not been recorded, and is told so.
    fn fail_everybody(&mut self, why: &str) {
        self.front.clients.fail_all(why);
        let message = format!("{why}; nothing was recorded, send it again later");
        let mut nobody = NotReady { code: Code::NotReady, message, tally: Tally::default() };
        self.front.clients.queue_all();
        for token in self.front.clients.read_everybody(&mut nobody, self.front.wiring.clock.now()) {
            self.front.clients.answer(token);
        }
        for (reply, array, _) in self.staged.drain(..) {
            let refusal = Refusal { code: Code::NotDurable, message: why.to_owned(), index: None };
            let _ = reply.send((array, Err(refusal)));
        }
    }
}
