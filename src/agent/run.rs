//! From a checked configuration to a running agent, and back to a quiet disk.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::fs::statfs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::{Notify, mpsc, watch};

use super::admin;
use super::clients::CONNECTIONS_MAX;
use super::commands::Handle;
use super::core::{self, Core, Ended, Wiring};
use super::http;
use super::identity::{self, Identity};
use super::lock::{Lock, LockError};
use super::submitter::Submitter;
use crate::clock::Clock;
use crate::config::{Config, Dimension};
use crate::disk::RealDisk;
use crate::engine::{Engine, EngineError, Options};
use crate::entry::Rules;
use crate::index::Index;
use crate::ingest::listener::sockets;
use crate::submit::aws::Aws;
use crate::wal::Purpose;

/// Where the index lies, below the state directory.
const INDEX_DIR: &str = "index";

/// Files that connections leave to the rest: segments and spares, the index, calls to AWS, the loops.
const FILES_RESERVED: usize = 64;

/// File systems that forget everything at a reboot, by the number that statfs tells.
const VOLATILE: [(i64, &str); 3] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlay")];

/// Why an agent does not start, or stopped other than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another agent has the state directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state directory cannot be used.
    #[error("the state directory {dir}: {why}")]
    StateDir {
        /// Which.
        dir: String,
        /// Why.
        why: String,
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
    /// The exit code that tells systemd what to do.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Lock(_) | RunError::StateDir { .. } => 73,
            RunError::Engine(EngineError::Open(crate::wal::OpenError::Purpose { .. })) => 73,
            RunError::Engine(EngineError::Open(crate::wal::OpenError::Io { .. })) | RunError::DiskFailed(_) => 74,
            RunError::Engine(_) => 76,
            RunError::Socket { .. } | RunError::System(_) => 1,
        }
    }
}

/// What the configuration does not say about a run.
pub struct Launch {
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Whether that clock is one of its own (see `--clock-start`).
    pub own_clock: bool,
    /// Sign with this made-up access key instead of asking anybody for credentials.
    pub dummy_key: Option<&'static str>,
}

/// Runs an agent until it is asked to stop. `ready` is called once writers are answered.
pub fn run(config: &Config, launch: Launch, ready: impl FnOnce()) -> Result<(), RunError> {
    let Launch { clock, own_clock, dummy_key } = launch;
    let dir = prepare(config)?;
    let _lock = Lock::take(&dir)?;
    let identity = identity::identity(config.instance.id.as_deref());
    let purpose = if own_clock || config.submit.is_loopback() { Purpose::Test } else { Purpose::Real };
    let options = options(config, &identity, purpose, own_clock);
    let index_dir = dir.join(INDEX_DIR);
    let engine =
        Engine::open(Arc::new(RealDisk::new(&dir)), options, clock.read(), |log| Index::open(&index_dir, log))?;
    report(&engine);

    let socket = &config.socket;
    let sockets = sockets(&socket.path, socket.mode)
        .map_err(|source| RunError::Socket { path: socket.path.display().to_string(), source })?;
    let (signals, signalled) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, signals.try_clone()?)?;
    }
    let hangup = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&hangup))?;
    let (poll, waker) = core::poll()?;
    let (commands_in, commands) = channel();
    let (http, clients) = mpsc::unbounded_channel();
    let sealed = Arc::new(Notify::new());
    let (stop, stopping) = watch::channel(false);
    let handle = Handle::new(commands_in, waker);
    let submitter = Submitter {
        core: handle.clone(),
        aws: Aws::new(config.submit.clone(), config.product.code.clone(), dummy_key),
        clock: Arc::clone(&clock),
        sealed: Arc::clone(&sealed),
        stop: stopping,
    };
    let wiring = Wiring { clock, commands, sealed, stop, signals: signalled, hangup };
    let core = Core::new(engine, sockets.writers, connections(), http, poll, wiring)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = identity == Identity::AskMetadata;
    let beside = thread::Builder::new().name("tokio".into()).spawn(move || {
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            tokio::task::spawn_local(submitter.run());
            if ask {
                tokio::task::spawn_local(identity::ask_metadata(handle.clone()));
            }
            tokio::task::spawn_local(admin::serve(sockets.admin, handle.clone()));
            http::serve(clients, handle).await;
        });
        // Whatever still waits for AWS or a client has been told already.
        runtime.shutdown_timeout(Duration::from_millis(100));
    })?;
    ready();
    let ended = core.run();
    // It passes on the answers that the core gave last. If it panicked, nobody is left to be told.
    let _ = beside.join();
    match ended? {
        Ended::Stopped => {
            tracing::info!("stopped; the log is closed in order");
            Ok(())
        }
        Ended::DiskFailed(why) => Err(RunError::DiskFailed(why)),
    }
}

/// How many connections may be open at once: as many as are documented, or as many as the system grants files for, less
/// those that the log, the index and AWS need. Without that reserve a crowd of clients could keep the log from growing.
fn connections() -> usize {
    let wanted = (CONNECTIONS_MAX + FILES_RESERVED) as u64;
    let granted = getrlimit(Resource::Nofile);
    // No limit reads as none.
    let most = |limit: Option<u64>| limit.unwrap_or(wanted).min(wanted);
    let mut files = most(granted.current);
    let raised = Rlimit { current: Some(most(granted.maximum)), maximum: granted.maximum };
    if raised.current > granted.current && granted.current.is_some() && setrlimit(Resource::Nofile, raised).is_ok() {
        files = most(granted.maximum);
    }
    let connections = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(FILES_RESERVED).max(1);
    if connections < CONNECTIONS_MAX {
        tracing::warn!(connections, files, "the limit on open files allows fewer connections than usual (LimitNOFILE)");
    }
    connections
}

/// Makes the state directory if it is missing and refuses one that forgets.
fn prepare(config: &Config) -> Result<PathBuf, RunError> {
    let dir = config.state.dir.clone();
    let failed = |why: String| RunError::StateDir { dir: dir.display().to_string(), why };
    make_private(&dir).map_err(|e| failed(e.to_string()))?;
    #[allow(clippy::useless_conversion, reason = "its width depends on the architecture")]
    let kind = i64::from(statfs(&dir).map_err(|e| failed(e.to_string()))?.f_type);
    if let Some((_, name)) = VOLATILE.iter().find(|(number, _)| *number == kind)
        && !config.state.allow_volatile
    {
        let why =
            format!("it lies on {name}, which a reboot empties; choose another, or set state.allow_volatile = true");
        return Err(failed(why));
    }
    Ok(dir)
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn options(config: &Config, identity: &Identity, purpose: Purpose, own_clock: bool) -> Options {
    let instance = match identity {
        Identity::Known(name) => Some(name.clone()),
        Identity::AskMetadata | Identity::Unknown => None,
    };
    Options {
        product_code: config.product.code.clone(),
        dimensions: config.dimensions.iter().map(rules).collect(),
        window: config.submit.window,
        late: config.submit.late,
        zero_records: config.submit.zero_records,
        grace: config.hour.grace,
        offset: config.submit.offset,
        instance,
        segment_bytes: u64::from(config.state.segment_bytes),
        purpose,
        judge_clock: !own_clock,
        threads: true,
    }
}

fn rules(dimension: &Dimension) -> Rules {
    Rules {
        name: dimension.name.clone(),
        measure: dimension.measure,
        sticky: dimension.sticky,
        unit: dimension.unit,
        round: dimension.round,
        hold_above: dimension.hold_above,
        included: dimension.included.clone(),
        from: dimension.from.clone(),
    }
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
