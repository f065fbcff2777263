//! The submitter: asks the engine what to do, does it, says what came of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::commands::{Command, Gone, Handle, Sent};
use super::core::LOOK_UP_EVERY;
use crate::clock::Clock;
use crate::engine::Sending;
use crate::submit::answer::Reply;
use crate::submit::aws::Metering;
use crate::wal::LogError;

/// How long to wait before trying again to write down an outcome that found no room.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// The submitter's means.
pub struct Submitter<A> {
    /// The core.
    pub core: Handle,
    /// The door to AWS.
    pub aws: Arc<A>,
    /// What waiting is measured by.
    pub clock: Arc<dyn Clock>,
    /// Rung when a record was sealed.
    pub sealed: Arc<Notify>,
    /// True when the agent is to stop.
    pub stop: watch::Receiver<bool>,
    /// Calls with many records that are under way.
    pub calls: JoinSet<()>,
}

impl<A: Metering + 'static> Submitter<A> {
    /// Works until the agent stops. A call under way is finished and its outcome written down.
    pub async fn run(mut self) {
        while !*self.stop.borrow() {
            if self.step().await.is_err() {
                return;
            }
        }
        while let Some(ended) = self.calls.join_next().await {
            pass_on(ended);
        }
        // Only a core that is gone already does not hear this.
        let _ = self.core.tell(Command::SubmitterDone);
    }

    async fn step(&mut self) -> Result<(), Gone> {
        match self.core.ask(Command::NextSending).await? {
            Ok(Sending::Record(key, request)) => {
                let reply = self.aws.meter_usage(&request, false).await;
                write_down(&self.core, Sent::Record(key), reply).await
            }
            Ok(Sending::Probe(request)) => {
                let reply = self.aws.meter_usage(&request, true).await;
                self.core.tell(Command::Probed(Box::new(reply)))
            }
            Ok(Sending::Batch(keys, requests)) => {
                let (aws, core) = (Arc::clone(&self.aws), self.core.clone());
                self.calls.spawn_local(async move {
                    let reply = aws.batch_meter_usage(&requests).await;
                    // Only a core that is gone does not take it.
                    let _ = write_down(&core, Sent::Batch(keys), reply).await;
                });
                Ok(())
            }
            Ok(Sending::ProbeBatch) => {
                let reply = self.aws.batch_meter_usage(&[]).await;
                self.core.tell(Command::Probed(Box::new(reply)))
            }
            Ok(Sending::Wait(until)) => {
                let span = self.clock.real(until.since(self.clock.now()));
                // Not shorter than a millisecond, so that no rounding makes a busy loop.
                self.pause(span.clamp(Duration::from_millis(1), LOOK_UP_EVERY)).await;
                Ok(())
            }
            Ok(Sending::Idle) => {
                tokio::select! {
                    () = self.sealed.notified() => {}
                    Some(ended) = self.calls.join_next() => pass_on(ended),
                    _ = self.stop.changed() => {}
                }
                Ok(())
            }
            Err(LogError::Full(_)) => {
                self.pause(ROOM_RETRY).await;
                Ok(())
            }
            Err(LogError::Poisoned(_)) => Err(Gone),
        }
    }

    async fn pause(&mut self, span: Duration) {
        tokio::select! {
            () = tokio::time::sleep(span) => {}
            () = self.sealed.notified() => {}
            Some(ended) = self.calls.join_next() => pass_on(ended),
            _ = self.stop.changed() => {}
        }
    }
}

/// AWS's word must not be forgotten for want of room: it is offered until the log takes it.
async fn write_down(core: &Handle, sent: Sent, reply: Reply) -> Result<(), Gone> {
    loop {
        let (sent, offered) = (sent.clone(), Box::new(reply.clone()));
        match core.ask(|answer| Command::Answered(sent, offered, answer)).await? {
            Ok(()) => return Ok(()),
            Err(LogError::Full(_)) => tokio::time::sleep(ROOM_RETRY).await,
            Err(LogError::Poisoned(_)) => return Err(Gone),
        }
    }
}

/// A call that panicked ends the submitter as one of its own would.
fn pass_on(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
