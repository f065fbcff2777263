//! What other threads ask of the core, one command at a time. An error ends the agent: the log takes nothing more.

use tokio::sync::oneshot;

use super::checks;
use super::commands::{Command, Sent};
use super::core::Core;
use super::reload::Refused;
use crate::config::Config;
use crate::disk::Disk;
use crate::engine::{EndSeen, EngineError, NotSettled, Options};
use crate::gate;
use crate::hour::Timestamp;
use crate::ingest::allow::Allowed;
use crate::ingest::taker;
use crate::metrics::{Figures, LogFigures};
use crate::status::{self, Status};
use crate::view;
use crate::wal::LogError;

impl<D: Disk> Core<'_, D> {
    pub(super) fn obey(&mut self, command: Command, now: Timestamp) -> Result<(), LogError> {
        match command {
            Command::Take { writer, body, reply } => {
                let (array, answer) = taker::take(&mut self.engine, &writer, &body, now);
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
            Command::OpenFrom(reply) => {
                let _ = reply.send(self.engine.state().open_from);
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
            Command::Reconfigure(config, allowed, reply) => self.reconfigure(&config, allowed, reply, now)?,
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
        allowed: Allowed,
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
            self.front.config_taken(config, allowed);
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
        view.attribution.clone_from(&self.front.attribution);
        view
    }
}

/// The error that ends the agent, if it is that one: a full disk heals.
pub(super) fn poison<T>(result: &Result<T, LogError>) -> Result<(), LogError> {
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
