//! The configuration, read again: on SIGHUP, or because an operator asks for it (`meterd reload`). All or nothing: it is
//! read and checked here, beside the core (a name service may be slow to tell a user's id), and put in force by the
//! core between two increments. What is refused changes nothing and stands in the journal and in `status`
//! (`config_refused`) until a later one is taken.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::commands::{Command, Gone, Handle};
use crate::config::{Config, ConfigErrors};
use crate::engine::EngineError;
use crate::hour::Timestamp;
use crate::status::Attention;
use crate::wal::LogError;

/// Reads the configuration that is to stand in place of this one.
pub type Load = dyn Fn(&Config) -> Result<Config, ConfigErrors> + Send + Sync;

/// Mistakes that `status` names; the others stand in the journal.
const MISTAKES_SHOWN: usize = 3;

/// Why a configuration was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file is wrong, or asks for what only a restart can change.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The log did not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its reader fell.
    #[error("the configuration could not be read: {0}")]
    Unread(io::Error),
    /// There is no log yet that could say so.
    #[error("the log is not open")]
    NotOpen,
    /// The agent has no file of its own.
    #[error("with --dev the configuration is read at the start only")]
    NoFile,
}

impl Refused {
    fn remedy(&self) -> &'static str {
        match self {
            Refused::Config(_) => {
                "mend the file, see `meterd check-config`, then `systemctl reload meterd`; until then it runs on with the \
                 configuration it had"
            }
            Refused::Engine(EngineError::Log(LogError::Full(_))) => {
                "free some space on the state directory's disk, then `systemctl reload meterd`"
            }
            Refused::NotOpen => "see what keeps the log from being opened; a restart reads the file as well",
            Refused::Engine(_) | Refused::Unread(_) | Refused::NoFile => "it runs on with the configuration it had",
        }
    }

    /// As people see it in `status`.
    pub(super) fn attention(&self, since: Timestamp) -> Attention {
        let why = match self {
            Refused::Config(errors) => {
                let shown: Vec<String> = errors.iter().take(MISTAKES_SHOWN).map(ToString::to_string).collect();
                let more = errors.iter().count() - shown.len();
                shown.join("; ") + &if more > 0 { format!("; and {more} more") } else { String::new() }
            }
            other => other.to_string(),
        };
        let message = format!("the configuration was read again and refused: {why}");
        Attention { code: "config_refused", message, remedy: self.remedy().to_owned(), since: Some(since.to_string()) }
    }

    fn say(&self) {
        match self {
            Refused::Config(errors) => errors.iter().for_each(|error| tracing::error!("{error}")),
            other => tracing::error!("{other}"),
        }
        tracing::error!("the configuration is refused; the one from before stays in force");
    }
}

/// Who asked is told what became of it.
pub type Request = oneshot::Sender<Result<(), Arc<Refused>>>;

/// Reads the configuration again whenever it is asked to.
pub struct Reload {
    /// The core.
    pub core: Handle,
    /// None where there is no file.
    pub load: Option<Arc<Load>>,
    /// Readable when SIGHUP came.
    pub hangups: StdStream,
    /// What operators ask for.
    pub requests: mpsc::Receiver<Request>,
    /// What is in force, for whoever keeps to it outside the core.
    pub in_force: watch::Sender<Arc<Config>>,
}

impl Reload {
    /// Works until the agent stops.
    pub async fn run(mut self) {
        let hangups = self.hangups.set_nonblocking(true).and_then(|()| UnixStream::from_std(self.hangups.try_clone()?));
        let mut hangups = match hangups {
            Ok(hangups) => hangups,
            Err(error) => return tracing::error!(%error, "SIGHUP cannot be waited for"),
        };
        let mut signals = [0u8; 64];
        loop {
            // Several signals are one: what is read then is newer than all of them.
            let asked = tokio::select! {
                read = hangups.read(&mut signals) => if matches!(read, Ok(n) if n > 0) { None } else { return },
                request = self.requests.recv() => request,
            };
            let Ok(done) = self.once().await else { return };
            if let Some(asked) = asked {
                // Somebody who has gone does not hear it.
                let _ = asked.send(done);
            }
        }
    }

    async fn once(&mut self) -> Result<Result<(), Arc<Refused>>, Gone> {
        let refused = match self.read().await {
            Ok(config) => {
                let taken = config.clone();
                match self.core.ask(|reply| Command::Reconfigure(Box::new(taken), reply)).await? {
                    Ok(()) => {
                        tracing::info!("the configuration was read again and is in force");
                        self.in_force.send_replace(Arc::new(config));
                        return Ok(Ok(()));
                    }
                    Err(refused) => refused,
                }
            }
            Err(refused) => refused,
        };
        refused.say();
        let refused = Arc::new(refused);
        self.core.tell(Command::ConfigRefused(Arc::clone(&refused)))?;
        Ok(Err(refused))
    }

    async fn read(&self) -> Result<Config, Refused> {
        let load = self.load.clone().ok_or(Refused::NoFile)?;
        let running = Arc::clone(&self.in_force.borrow());
        let read = tokio::task::spawn_blocking(move || load(&running)).await;
        Ok(read.map_err(|error| Refused::Unread(error.into()))??)
    }
}
