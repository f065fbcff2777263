//! What other threads ask of the core.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use mio::Waker;
use tokio::sync::oneshot;

use super::reload::Refused;
use crate::config::Config;
use crate::doctor::Finding;
use crate::engine::{self, Code, Disposal, EndSeen, NotSettled, Refusal, Sending, Taken};
use crate::entry::{Buyer, Decision, Peer, RecordKey};
use crate::gate::Gate;
use crate::hour::Hour;
use crate::index::History;
use crate::ingest::allow::{Allowed, Writer};
use crate::metrics::Figures;
use crate::status::Status;
use crate::submit::answer::Reply;
use crate::view;
use crate::wal::LogError;

/// One request to the core, with where the answer goes.
pub enum Command {
    /// Take the increments in this body.
    Take {
        /// Who writes.
        writer: Writer,
        /// An increment or an array, as JSON.
        body: Vec<u8>,
        /// Whether it was an array, and what became of it, after the commit.
        reply: oneshot::Sender<(bool, Result<Taken, Refusal>)>,
    },
    /// What is the submitter to do?
    NextSending(oneshot::Sender<Result<Sending, LogError>>),
    /// What an attempt came to.
    Answered(Sent, Box<Reply>, oneshot::Sender<Result<(), LogError>>),
    /// What a dry run came to.
    Probed(Box<Reply>),
    /// The instance's name has become known.
    Instance(String),
    /// A request that carried usage was refused before it came to the engine: it counts as any refusal.
    Refused(Code),
    /// Are increments taken?
    Ready(oneshot::Sender<bool>),
    /// How are things?
    Status(oneshot::Sender<Box<Status>>),
    /// Should applications go on?
    Gate(oneshot::Sender<Gate>),
    /// All that metrics tell.
    Metrics(oneshot::Sender<Box<Figures>>),
    /// Every record: those that something can still happen to, and the history; or why nobody can tell.
    Records(oneshot::Sender<Result<(view::Current, History), String>>),
    /// Which hour is the first that is not sealed?
    OpenFrom(oneshot::Sender<Hour>),
    /// A person has decided about a record that waits for one.
    Settle {
        /// SaaS products: whose record it is.
        customer: Option<Buyer>,
        /// The dimension's name.
        dimension: String,
        /// The record's hour.
        hour: Hour,
        /// What was decided.
        decision: Decision,
        /// With [`Decision::Carry`]: into the next record of this dimension instead.
        to: Option<String>,
        /// Who decided.
        by: Peer,
        /// What it came to.
        reply: oneshot::Sender<Result<Decision, NotSettled>>,
    },
    /// A person lets go of a record that is above its dimension's ceiling.
    Release {
        /// SaaS products: whose record it is.
        customer: Option<Buyer>,
        /// The dimension's name.
        dimension: String,
        /// The record's hour.
        hour: Hour,
        /// Billed units to send at most.
        at_most: Option<u32>,
        /// Who decided.
        by: Peer,
        /// What became of it.
        reply: oneshot::Sender<Result<engine::Gone, NotSettled>>,
    },
    /// A person decides about what another instance left unsent.
    Dispose {
        /// What.
        disposal: Disposal,
        /// Whose; none: the only other instance's.
        instance: Option<String>,
        /// Who decided.
        by: Peer,
        /// What it came to.
        reply: oneshot::Sender<Result<engine::Decided, NotSettled>>,
    },
    /// This instance ends.
    End {
        /// Who says so; none where instance metadata does.
        by: Option<Peer>,
        /// What for, in words.
        why: String,
        /// How far that is.
        reply: oneshot::Sender<Result<EndSeen, LogError>>,
    },
    /// It does not.
    CallOff {
        /// As in [`Command::End`].
        by: Option<Peer>,
        /// How things are now.
        reply: oneshot::Sender<Result<EndSeen, LogError>>,
    },
    /// How far is the end?
    EndSeen(oneshot::Sender<Result<EndSeen, LogError>>),
    /// Put this configuration in force, with its allow-lists as they were looked up.
    Reconfigure(Box<Config>, Allowed, oneshot::Sender<Result<(), Refused>>),
    /// A configuration was refused.
    ConfigRefused(Arc<Refused>),
    /// What became of the last call of the alert command: why it failed, if it did.
    Alerted(Result<(), String>),
    /// The checks that fail, and the one of attribution; those of before no longer count.
    Checked(Vec<Finding>),
    /// The submitter has finished its last call.
    SubmitterDone,
    /// This part of the agent panicked: a restart is better than going on without it.
    Fell(&'static str),
}

/// What an attempt was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// One record.
    Record(RecordKey),
    /// A call with these.
    Batch(Vec<RecordKey>),
}

/// The way to the core from another thread.
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

/// The core is gone: the agent is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Gone;

impl Handle {
    /// A way to the core that reads `commands` and is woken by `waker`.
    pub fn new(commands: Sender<Command>, waker: Arc<Waker>) -> Self {
        Handle { commands, waker }
    }

    /// Sends a command that has no answer.
    pub fn tell(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).map_err(|_| Gone)?;
        self.waker.wake().map_err(|_| Gone)
    }

    /// Sends a command and waits for its answer.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply))?;
        answer.await.map_err(|_| Gone)
    }
}
