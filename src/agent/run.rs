//! From a checked configuration to a running agent, and back to a quiet disk.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::{Notify, mpsc, watch};

use super::admin;
use super::alert::Alerting;
use super::checks;
use super::commands::{Command, Handle};
use super::core::{self, Core, Ended, Wiring};
use super::front::Front;
use super::heads;
use super::http;
use super::identity::{self, Identity};
use super::lock::LockError;
use super::notices::{self, Asking};
use super::places::{CONNECTIONS_MAX, KEPT};
use super::recovery::Recovery;
use super::reload::{Load, Reload};
use super::submitter::Submitter;
use super::waiting::{Waited, Waiting};
use crate::clock::Clock;
use crate::config::{Config, ProductKind};
use crate::disk::{RealDisk, is_full};
use crate::engine::{Engine, EngineError, Options, SAAS};
use crate::ingest::allow::Allowed;
use crate::ingest::listener::{make_dir, sockets};
use crate::submit::aws::Aws;
use crate::wal::segment::HeaderError;
use crate::wal::{LogError, OpenError, Purpose};

/// Files that connections leave to the rest: segments and spares, the index, calls to AWS, the loops.
const FILES_RESERVED: usize = 64;

/// Why an agent does not start, or stopped other than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another agent has the state directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state directory forgets.
    #[error(
        "the state directory {} lies on {name}, which a reboot empties; choose another, or set state.allow_volatile = true",
        dir.display()
    )]
    Volatile {
        /// Which.
        dir: PathBuf,
        /// The kind of file system.
        name: &'static str,
    },
    /// Recovery failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The socket cannot be made.
    #[error("the socket {path}: {source}")]
    Socket {
        /// Where.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// The system would not give a thread, a pipe or the like.
    #[error("starting: {0}")]
    System(#[from] io::Error),
    /// The disk failed while running.
    #[error("the disk failed: {0}")]
    DiskFailed(String),
}

impl RunError {
    /// The exit code that tells systemd what to do: it does not start again after 73 and 78. A log of another kind or
    /// another format version is as little ours as a directory that another agent has, and is left as it is.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Lock(LockError::InUse { .. }) | RunError::Volatile { .. } => 73,
            RunError::Engine(EngineError::Open(OpenError::Purpose { .. } | OpenError::Foreign { .. })) => 73,
            RunError::Engine(EngineError::Open(OpenError::Header { source: HeaderError::Version(_), .. })) => 73,
            RunError::Engine(EngineError::TooManyDimensions(_) | EngineError::OtherKind { .. }) => 78,
            RunError::DiskFailed(_) | RunError::Lock(LockError::Ending { .. }) => 74,
            RunError::Socket { .. } | RunError::System(_) => 1,
            RunError::Lock(_) | RunError::Engine(_) => match self.of_disk() {
                Some(error) if is_not_ours(error.kind()) => 73,
                Some(_) => 74,
                None => 76,
            },
        }
    }

    /// Whether recovery may work later: the disk failed (74), or the log could not be made safe (76).
    pub(super) fn may_heal(&self) -> bool {
        matches!(self.exit_code(), 74 | 76)
    }

    /// What the disk said, if it is what failed.
    fn of_disk(&self) -> Option<&io::Error> {
        match self {
            RunError::Lock(LockError::Io { source, .. })
            | RunError::Engine(EngineError::Open(OpenError::Io { source, .. })) => Some(source),
            _ => None,
        }
    }

    /// Whether there was no room.
    pub(super) fn is_full(&self) -> bool {
        let log = match self {
            RunError::Engine(EngineError::Log(error) | EngineError::Open(OpenError::Log(error))) => Some(error),
            _ => None,
        };
        self.of_disk().is_some_and(is_full) || matches!(log, Some(LogError::Full(_)))
    }

    /// What a person can do about a recovery that failed.
    pub(super) fn remedy(&self, dir: &Path) -> String {
        let dir = dir.display();
        match self.of_disk().map(io::Error::kind) {
            _ if self.is_full() => {
                format!("free some space on the state directory's disk; how full it is: `df -h {dir}`")
            }
            Some(io::ErrorKind::ReadOnlyFilesystem) => format!(
                "find out why its file system is read-only: `dmesg`; then mount it writable: `mount -o remount,rw $(findmnt \
                 -no TARGET -T {dir})`"
            ),
            Some(_) => "check the disk and its file system: `dmesg`".to_owned(),
            None if matches!(self, RunError::Lock(_)) => {
                "check the disk, the earlier agent ends when it answers: `dmesg`".to_owned()
            }
            None => format!(
                "keep a copy of the state directory as it is: `cp -a {dir} {dir}.kept`; see what is damaged: `meterd verify \
                 {dir}`; then mend what the message names"
            ),
        }
    }
}

/// Whether an error says that the directory is not for this user, or not a directory.
fn is_not_ours(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists)
}

/// How far the agent is, for whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Writers are answered, and `ok` can be among the answers.
    Ready,
    /// The log cannot be opened for this reason: it is tried again, and writers are refused until then. Told again and
    /// again, at least once a minute.
    NotReady(&'a str),
    /// The loop has come round, and the disk answers. Told at half the watchdog's time.
    Alive,
}

/// What the configuration does not say about a run.
pub struct Launch {
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Whether that clock is one of its own (see `--clock-start`).
    pub own_clock: bool,
    /// Sign with this made-up access key instead of asking anybody for credentials.
    pub dummy_key: Option<&'static str>,
    /// Reads the configuration again; none where there is no file.
    pub load: Option<Arc<Load>>,
    /// How long whoever started it waits for a [`Stage::Alive`], once it is ready, before it is started anew.
    pub watchdog: Option<Duration>,
}

/// Runs an agent until it is asked to stop. `say` is told when writers are answered, and when they have to wait.
pub fn run(config: &Config, launch: Launch, say: &dyn Fn(Stage<'_>)) -> Result<(), RunError> {
    let Launch { clock, own_clock, dummy_key, watchdog, load } = launch;
    let saas = config.product.kind == ProductKind::Saas;
    let identity = if saas { Identity::Known(SAAS.into()) } else { identity::identity(config.instance.id.as_deref()) };
    let purpose = if own_clock || config.submit.is_loopback() { Purpose::Test } else { Purpose::Real };
    let instance = match &identity {
        Identity::Known(name) => Some(name.clone()),
        Identity::AskMetadata | Identity::Unknown => None,
    };
    // From here on it is a request that waits until the agent can take it, and not the end.
    let (hangup, hangups) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGHUP, hangup)?;
    let options = Options::of(config, instance.clone(), purpose, !own_clock);
    let socket = &config.socket;
    let no_socket = |source| RunError::Socket { path: socket.path.display().to_string(), source };
    make_dir(&socket.path).map_err(no_socket)?;
    // From here on every file is the agent's alone, those that libraries make included.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let mut recovery = Recovery::new(&config.state, options, Arc::clone(&clock));
    let opened = match recovery.attempt() {
        Err(error) if !error.may_heal() => return Err(error),
        opened => opened,
    };

    let sockets = sockets(&socket.path, socket.mode).map_err(no_socket)?;
    let (signals, signalled) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, signals.try_clone()?)?;
    }
    let (poll, waker) = core::poll()?;
    let (commands_in, commands) = channel();
    let (http, clients) = mpsc::unbounded_channel();
    let sealed = Arc::new(Notify::new());
    let (stop, stopping) = watch::channel(false);
    let handle = Handle::new(commands_in, Arc::clone(&waker));
    let submitter = Submitter {
        core: handle.clone(),
        aws: Arc::new(Aws::new(config.submit.clone(), config.product.code.clone(), dummy_key)),
        clock: Arc::clone(&clock),
        sealed: Arc::clone(&sealed),
        stop: stopping,
        calls: tokio::task::JoinSet::new(),
    };
    let notice_clock = Arc::clone(&clock);
    let asking = Asking::of(own_clock, identity::is_ec2(Path::new("/")), config.instance.id.is_some());
    let (in_force, _) = watch::channel(Arc::new(config.clone()));
    let examined = (!own_clock).then(|| (in_force.subscribe(), Arc::clone(&clock)));
    let alerting = Alerting { core: handle.clone(), clock: Arc::clone(&clock), in_force: in_force.subscribe() };
    let (reload_in, requests) = mpsc::channel(1);
    let own = rustix::process::geteuid().as_raw();
    let reload = Reload { core: handle.clone(), own, load, hangups, requests, in_force };
    let gate = config.gate.clone();
    let (allowed, lists) = watch::channel(Allowed::of(config, own));
    let wiring = Wiring { clock, commands, sealed, stop, signals: signalled, gate, allowed };
    let front = Front::new(sockets.writers, connections(), http, poll, wiring)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = identity == Identity::AskMetadata;
    let beside = thread::Builder::new().name("tokio".into()).spawn(move || {
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            let submitting = tokio::task::spawn_local(submitter.run());
            let core = handle.clone();
            tokio::task::spawn_local(async move {
                if submitting.await.is_err() {
                    // An agent that only takes usage would go unnoticed for hours.
                    let _ = core.tell(Command::Fell("the submitter"));
                }
            });
            if ask {
                tokio::task::spawn_local(identity::ask_metadata(handle.clone()));
            }
            tokio::task::spawn_local(heads::tell(handle.clone(), Arc::clone(&notice_clock)));
            tokio::task::spawn_local(notices::watch(handle.clone(), notice_clock, asking));
            if let Some((in_force, clock)) = examined {
                tokio::task::spawn_local(checks::run(in_force, clock, handle.clone()));
            }
            tokio::task::spawn_local(reload.run());
            tokio::task::spawn_local(alerting.run());
            tokio::task::spawn_local(admin::serve(sockets.admin, handle.clone(), reload_in));
            http::serve(clients, lists, handle).await;
        });
        // Whatever still waits for AWS or a client has been told already.
        runtime.shutdown_timeout(Duration::from_millis(100));
    })?;
    let waiting = Waiting { waker, product: &config.product.code, instance, learnt: None, say };
    let ended = live(opened, recovery, front, waiting, watchdog);
    // It passes on the answers that the core gave last. If it panicked, nobody is left to be told.
    let _ = beside.join();
    match ended? {
        Ended::Stopped => {
            tracing::info!("stopped; the log is closed in order");
            Ok(())
        }
        Ended::DiskFailed(why) => Err(RunError::DiskFailed(why)),
        Ended::Fell(what) => Err(io::Error::other(format!("{what} panicked; see the lines above")).into()),
    }
}

/// Waits until the log is open, if it is not yet, and works on it. The front is gone when this returns, so that whoever
/// still waits for an answer learns that none comes.
fn live(
    opened: Result<Engine<RealDisk>, RunError>,
    recovery: Recovery,
    mut front: Front,
    waiting: Waiting<'_>,
    watchdog: Option<Duration>,
) -> Result<Ended, RunError> {
    let say = waiting.say;
    // The second of each pair is held for the directory's lock.
    let (engine, _locked) = match opened {
        Ok(engine) => (engine, recovery),
        Err(error) => match waiting.run(&mut front, recovery, &error)? {
            Waited::Open(open) => *open,
            Waited::Stopped => return Ok(front.ended()),
        },
    };
    report(&engine);
    say(Stage::Ready);
    Ok(Core::new(engine, front, watchdog, say).run()?)
}

/// How many connections may be open at once: as many as are documented, or as many as the system grants files for, less
/// those that the log, the index and AWS need. Without that reserve a crowd of clients could keep the log from growing.
fn connections() -> usize {
    let wanted = (CONNECTIONS_MAX + KEPT + FILES_RESERVED) as u64;
    let granted = getrlimit(Resource::Nofile);
    // No limit reads as none.
    let most = |limit: Option<u64>| limit.unwrap_or(wanted).min(wanted);
    let mut files = most(granted.current);
    let raised = Rlimit { current: Some(most(granted.maximum)), maximum: granted.maximum };
    if raised.current > granted.current && granted.current.is_some() && setrlimit(Resource::Nofile, raised).is_ok() {
        files = most(granted.maximum);
    }
    let connections = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(FILES_RESERVED).max(1);
    if connections < CONNECTIONS_MAX + KEPT {
        tracing::warn!(connections, files, "the limit on open files allows fewer connections than usual (LimitNOFILE)");
    }
    connections
}

fn report<D: crate::disk::Disk>(engine: &Engine<D>) {
    let found = engine.report();
    let seq = engine.state().accepted_seq;
    if found.created {
        tracing::info!(log = %engine.log().id(), "a new log");
    } else if found.clean {
        tracing::info!(seq, entries = found.entries, "the log was closed in order");
    } else {
        tracing::info!(seq, entries = found.entries, torn_bytes = found.torn_bytes, "recovered the log");
    }
    if found.suspicious {
        tracing::warn!("what was cut from the log's end looks unlike a torn batch; a copy is in quarantine/");
    }
    for gap in &found.gaps {
        tracing::error!(?gap, "the log is damaged; a copy is in quarantine/");
    }
}
