//! Recovery failed, and may work later: a full disk, a file system that has become read-only, a failing disk, a log that
//! somebody has to mend. Until it works the agent stays up, says why, and refuses every writer with `not_ready` (or
//! `disk_full`, where that is the reason): nothing is recorded, and the same may be sent again.
//!
//! Recovery is tried again after a second of the agent's clock, then after two, four and so on, at the latest after
//! [`PAUSE_MAX`]. It runs in a thread of its own, for a disk that hangs must not silence the agent.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::checks;
use super::commands::Command;
use super::front::Front;
use super::recovery::Recovery;
use super::reload::Refused;
use super::run::{RunError, Stage};
use crate::disk::RealDisk;
use crate::engine::{Code, Engine, NotSettled, Sending, Tally};
use crate::gate::{self, Gate};
use crate::hour::{Hour, Timestamp};
use crate::ingest::taker::{self, NotReady};
use crate::metrics::Figures;
use crate::status::{self, Attention, Status};
use crate::wal::LogError;

/// Between the first failure and the second attempt.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often the service manager hears that there is reason to wait; on the machine's clock, as its own time-outs are.
const SAY_EVERY: Duration = Duration::from_secs(30);

type Attempted = (Recovery, Result<Engine<RealDisk>, RunError>);

/// How the waiting ended.
pub(super) enum Waited {
    /// The log is open, and its directory locked by what is handed back.
    Open(Box<(Engine<RealDisk>, Recovery)>),
    /// Asked to stop.
    Stopped,
}

/// The loop while the log is not open.
pub(super) struct Waiting<'a> {
    /// What interrupts the loop when an attempt has ended.
    pub(super) waker: Arc<Waker>,
    /// The product's code.
    pub(super) product: &'a str,
    /// The instance, as far as it is known.
    pub(super) instance: Option<String>,
    /// The same, if it was learnt from metadata meanwhile.
    pub(super) learnt: Option<String>,
    /// Who hears of it beside the writers.
    pub(super) say: &'a dyn Fn(Stage<'_>),
}

/// What writers and people are told.
struct Trouble {
    taker: NotReady,
    since: Timestamp,
    why: Attention,
}

impl Trouble {
    fn of(error: &RunError, recovery: &Recovery, since: Timestamp) -> Trouble {
        let (code, attention) =
            if error.is_full() { (Code::DiskFull, "disk_full") } else { (Code::NotReady, "not_ready") };
        let message = format!("the log in {} cannot be opened: {error}", recovery.dir.display());
        tracing::error!(error = message, "not ready; recovery is tried again");
        let retried = format!("it is tried again by itself, every {} s at the latest", PAUSE_MAX.as_secs());
        let remedy = format!("{}; {retried}", error.remedy(&recovery.dir));
        let message_to_writers = format!("{message}; nothing was recorded, send it again later");
        let taker = NotReady { code, message: message_to_writers, tally: Tally::default() };
        Trouble { taker, since, why: Attention { code: attention, message, remedy, since: Some(since.to_string()) } }
    }

    fn gate(&self, front: &Front, now: Timestamp) -> Gate {
        gate::not_ready(&self.why.message, &front.wiring.gate, self.since, now)
    }
}

impl Waiting<'_> {
    /// Answers everybody until an attempt succeeds, fails for good, or the agent is to stop.
    pub(super) fn run(mut self, front: &mut Front, recovery: Recovery, error: &RunError) -> Result<Waited, RunError> {
        let clock = Arc::clone(&front.wiring.clock);
        let since = clock.now();
        let mut trouble = Trouble::of(error, &recovery, since);
        let mut pause = PAUSE_FIRST;
        let mut next = clock.monotonic() + pause;
        let mut idle = Some(recovery);
        let mut attempt: Option<Receiver<Attempted>> = None;
        let mut said: Option<Instant> = None;
        loop {
            if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                (self.say)(Stage::NotReady(&trouble.why.message));
                said = Some(Instant::now());
            }
            let until = if attempt.is_some() { SAY_EVERY } else { clock.real(next.saturating_sub(clock.monotonic())) };
            // Not shorter than a millisecond, so that no rounding makes a busy loop.
            front.wait(until.clamp(Duration::from_millis(1), SAY_EVERY))?;
            self.answer(front, &mut trouble, clock.now());
            if front.stopping && front.submitter_done {
                return Ok(Waited::Stopped);
            }
            match attempt.as_ref().map(Receiver::try_recv) {
                Some(Ok((recovery, Ok(mut engine)))) => {
                    if let Some(name) = self.learnt.take() {
                        engine.set_instance(name, clock.now())?;
                    }
                    return Ok(Waited::Open(Box::new((engine, recovery))));
                }
                Some(Ok((_, Err(error)))) if !error.may_heal() => return Err(error),
                Some(Ok((recovery, Err(error)))) => {
                    trouble = Trouble::of(&error, &recovery, since);
                    pause = (pause * 2).min(PAUSE_MAX);
                    next = clock.monotonic() + pause;
                    (idle, attempt, said) = (Some(recovery), None, None);
                }
                Some(Err(TryRecvError::Disconnected)) => return Err(io::Error::other("recovery panicked").into()),
                Some(Err(TryRecvError::Empty)) | None => {}
            }
            if clock.monotonic() >= next
                && !front.stopping
                && let Some(recovery) = idle.take()
            {
                attempt = Some(self.attempt(recovery)?);
            }
        }
    }

    fn attempt(&self, mut recovery: Recovery) -> io::Result<Receiver<Attempted>> {
        let (done, result) = channel();
        let waker = Arc::clone(&self.waker);
        thread::Builder::new().name("recovery".into()).spawn(move || {
            let attempted = recovery.attempt();
            // A loop that is gone does not wait for it.
            let _ = done.send((recovery, attempted));
            let _ = waker.wake();
        })?;
        Ok(result)
    }

    fn answer(&mut self, front: &mut Front, trouble: &mut Trouble, now: Timestamp) {
        while let Ok(command) = front.wiring.commands.try_recv() {
            self.obey(command, front, trouble, now);
        }
        for token in front.clients.read_everybody(&mut trouble.taker, now) {
            front.clients.answer(token);
        }
    }

    fn status(&self, front: &Front, trouble: &Trouble, now: Timestamp) -> Status {
        let instance = self.learnt.as_deref().or(self.instance.as_deref());
        let gate = trouble.gate(front, now).gate.name();
        let mut view = status::not_ready(instance, self.product, trouble.why.clone(), gate, front.started, now);
        let checks = checks::attention(&front.failed, &view.attention, None, &[]);
        view.attention.extend(front.attention().chain(checks));
        view.attribution.clone_from(&front.attribution);
        view
    }

    /// Whoever does not hear the answer has gone.
    fn obey(&mut self, command: Command, front: &mut Front, trouble: &mut Trouble, now: Timestamp) {
        let why = &trouble.taker.message;
        match command {
            Command::Take { writer, body, reply } => {
                let _ = reply.send(taker::take(&mut trouble.taker, &writer, &body, now));
            }
            Command::NextSending(reply) => {
                let _ = reply.send(Ok(Sending::Idle));
            }
            Command::Instance(name) => self.learnt = Some(name),
            Command::Refused(code) => trouble.taker.tally.refuse(code),
            Command::Ready(reply) => {
                let _ = reply.send(false);
            }
            Command::Status(reply) => {
                let _ = reply.send(Box::new(self.status(front, trouble, now)));
            }
            Command::Gate(reply) => {
                let _ = reply.send(trouble.gate(front, now));
            }
            Command::Metrics(reply) => {
                let figures = Figures {
                    status: self.status(front, trouble, now),
                    started: front.started,
                    connections: front.clients.count(),
                    log: None,
                    tally: trouble.taker.tally.clone(),
                };
                let _ = reply.send(Box::new(figures));
            }
            Command::Records(reply) => {
                let _ = reply.send(Err(why.clone()));
            }
            Command::OpenFrom(reply) => {
                let _ = reply.send(Hour::default());
            }
            Command::Settle { reply, .. } => {
                let _ = reply.send(Err(NotSettled::Log(LogError::Poisoned(why.as_str().into()))));
            }
            Command::Release { reply, .. } => {
                let _ = reply.send(Err(NotSettled::Log(LogError::Poisoned(why.as_str().into()))));
            }
            Command::Dispose { reply, .. } => {
                let _ = reply.send(Err(NotSettled::Log(LogError::Poisoned(why.as_str().into()))));
            }
            Command::End { reply, .. } | Command::CallOff { reply, .. } | Command::EndSeen(reply) => {
                let _ = reply.send(Err(LogError::Poisoned(why.as_str().into())));
            }
            Command::Reconfigure(_, _, reply) => {
                let _ = reply.send(Err(Refused::NotOpen));
            }
            Command::ConfigRefused(refused) => front.config_refused(&refused, now),
            Command::Alerted(done) => front.alerted(done, now),
            Command::Checked(findings) => front.checked(findings, now),
            Command::SubmitterDone => front.submitter_done = true,
            Command::Fell(what) => front.fall(what),
            // Nothing is sent to AWS while the log is not open.
            Command::Answered(..) | Command::Probed(_) => {}
        }
    }
}
