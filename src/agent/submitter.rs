//! The submitter: asks the engine what to do, does it, says what came of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::commands::{Command, Gone, Handle};
use super::core::LOOK_UP_EVERY;
use crate::clock::Clock;
use crate::engine::Sending;
use crate::entry::RecordKey;
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
    pub aws: A,
    /// What waiting is measured by.
    pub clock: Arc<dyn Clock>,
    /// Rung when a record was sealed.
    pub sealed: Arc<Notify>,
    /// True when the agent is to stop.
    pub stop: watch::Receiver<bool>,
}

impl<A: Metering> Submitter<A> {
    /// Works until the agent stops. A call under way is finished and its outcome written down.
    pub async fn run(mut self) {
        while !*self.stop.borrow() {
            if self.step().await.is_err() {
                return;
            }
        }
        // Only a core that is gone already does not hear this.
        let _ = self.core.tell(Command::SubmitterDone);
    }

    async fn step(&mut self) -> Result<(), Gone> {
        match self.core.ask(Command::NextSending).await? {
            Ok(Sending::Record(key, request)) => {
                let reply = self.aws.meter_usage(&request, false).await;
                self.write_down(key, reply).await
            }
            Ok(Sending::Probe(request)) => {
                let reply = self.aws.meter_usage(&request, true).await;
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

    /// AWS's word must not be forgotten for want of room: it is offered until the log takes it.
    async fn write_down(&mut self, key: RecordKey, reply: Reply) -> Result<(), Gone> {
        loop {
            let offered = Box::new(reply.clone());
            match self.core.ask(|answer| Command::Answered(key, offered, answer)).await? {
                Ok(()) => return Ok(()),
                Err(LogError::Full(_)) => tokio::time::sleep(ROOM_RETRY).await,
                Err(LogError::Poisoned(_)) => return Err(Gone),
            }
        }
    }

    async fn pause(&mut self, span: Duration) {
        tokio::select! {
            () = tokio::time::sleep(span) => {}
            () = self.sealed.notified() => {}
            _ = self.stop.changed() => {}
        }
    }
}
