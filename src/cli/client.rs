//! The way from a command to the agent: its socket, and HTTP on it.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use nix::unistd::{Gid, Group, Uid, User};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::exit;
use super::say::{complain, say};
use crate::config::{Config, Overrides, limits::defaults, reload::socket_of};
use crate::ingest::listener::ADMIN;

/// How long an agent may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the agent is.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// The agent's socket [default: METERD_SOCKET, else the configuration's]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// The configuration that says where the socket is [default: METERD_CONFIG, else /etc/meterd/meterd.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl Target {
    /// The socket: the flag's, the environment's, the configuration's, or the default where no configuration can be
    /// read. An error is the configuration's.
    pub fn socket(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let overrides = Overrides::from_env(|name| std::env::var_os(name)).map_err(|e| e.to_string())?;
        if let Some(socket) = &overrides.socket {
            return Ok(socket.clone());
        }
        let named = self.config.is_some() || overrides.config.is_some();
        match Config::load(&overrides.config_path(self.config.as_deref())) {
            Ok(config) => Ok(config.socket.path),
            Err(errors) if named => Err(errors.to_string()),
            // An application's user need not be able to read the configuration.
            Err(_) => Ok(PathBuf::from(defaults::SOCKET_PATH)),
        }
    }

    /// The socket of an agent that runs, though the configuration may have become wrong meanwhile.
    pub fn socket_of_running(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let overrides = Overrides::from_env(|name| std::env::var_os(name)).map_err(|e| e.to_string())?;
        Ok(overrides.socket.clone().unwrap_or_else(|| socket_of(&overrides.config_path(self.config.as_deref()))))
    }

    /// The state directory that the configuration names.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let overrides = Overrides::from_env(|name| std::env::var_os(name)).ok()?;
        let config = Config::load(&overrides.config_path(self.config.as_deref())).ok()?;
        Some(config.state.dir)
    }
}

/// Connects to the agent; the error says what to do.
pub fn connect(socket: &Path) -> Result<StdStream, String> {
    StdStream::connect(socket).map_err(|error| unreachable_message(socket, &error))
}

fn unreachable_message(socket: &Path, error: &std::io::Error) -> String {
    let is_no_socket = || std::fs::metadata(socket).is_ok_and(|found| !found.file_type().is_socket());
    let remedy = match error.kind() {
        std::io::ErrorKind::ConnectionRefused if is_no_socket() => {
            "it is not a socket: name the agent's with --socket".to_owned()
        }
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            "is meterd running? (systemctl status meterd)".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => who_may(socket),
        _ => "see the agent's journal (journalctl -u meterd)".to_owned(),
    };
    format!("no agent answers at {}: {error}; {remedy}", socket.display())
}

/// What somebody does whom a socket does not let in.
fn who_may(socket: &Path) -> String {
    if socket.file_name().is_some_and(|name| name == ADMIN) {
        return "decisions are for root and the agent's own user: run it with sudo".into();
    }
    let group = std::fs::metadata(socket).ok().map(|found| Gid::from_raw(found.gid())).filter(|gid| gid.as_raw() != 0);
    let group = group.and_then(|gid| Group::from_gid(gid).ok().flatten());
    let user = User::from_uid(Uid::effective()).ok().flatten().map_or_else(|| "USER".into(), |user| user.name);
    match group {
        Some(group) => format!(
            "whoever may report usage is in the group {0}: usermod -aG {0} {user}, then log in anew",
            group.name
        ),
        None => {
            "run it as root, or give the socket a group (in meterd.socket) and join it: usermod -aG GROUP USER".into()
        }
    }
}

/// Why a question has no answer.
#[derive(Debug)]
pub struct NoAnswer {
    /// What it says to whoever asked, and what to do.
    pub message: String,
    /// The agent is there, and this user may not ask it.
    pub not_allowed: bool,
}

impl NoAnswer {
    /// The exit code.
    pub fn code(&self) -> u8 {
        if self.not_allowed { exit::REFUSED } else { exit::UNREACHABLE }
    }
}

impl From<String> for NoAnswer {
    fn from(message: String) -> Self {
        NoAnswer { message, not_allowed: false }
    }
}

impl From<NoAnswer> for String {
    fn from(none: NoAnswer) -> Self {
        none.message
    }
}

/// `GET path` on the agent's socket: the body of a 200.
pub fn get(socket: &Path, path: &str) -> Result<Bytes, NoAnswer> {
    get_within(socket, path, ANSWER_TIMEOUT)
}

/// The same for one who waits no longer than `most`.
pub fn get_within(socket: &Path, path: &str, most: Duration) -> Result<Bytes, NoAnswer> {
    let request = Request::get(path).header("host", "meterd").body(Full::default());
    let (status, body) = ask(socket, request.map_err(|e| e.to_string())?, most)?;
    let shown = socket.display();
    match status {
        status if status.is_success() => Ok(body),
        StatusCode::FORBIDDEN => {
            let said: Decided = serde_json::from_slice(&body).map_err(|e| format!("{shown} answers {status}: {e}"))?;
            Err(NoAnswer { message: said.message, not_allowed: true })
        }
        StatusCode::NOT_FOUND => Err(format!(
            "{shown} answers, but does not know {path}: is it of another version, or the operator's? name the agent's \
             socket for applications with --socket"
        )
        .into()),
        status => {
            Err(format!("the agent at {shown} answers {status}: {}", String::from_utf8_lossy(&body).trim()).into())
        }
    }
}

/// What an operator's request came to.
#[derive(Debug, Deserialize)]
pub struct Decided {
    /// Whether it was done.
    pub ok: bool,
    /// If it was, what that came to.
    #[serde(default)]
    pub decision: Option<String>,
    /// If not, why.
    #[serde(default)]
    pub message: String,
    /// What became of a released record: `sent` or `carried`.
    #[serde(default)]
    pub became: Option<String>,
}

/// Sends a decision to the operator's socket, says what `done` makes of the answer, and returns the exit code.
pub fn decide(target: &Target, path: &str, body: &serde_json::Value, done: fn(&Decided) -> &'static str) -> u8 {
    let socket = match target.socket() {
        Ok(socket) => socket.with_file_name(ADMIN),
        Err(message) => {
            complain!("meterd: {message}");
            return exit::CONFIG;
        }
    };
    match post::<Decided>(&socket, path, body.to_string()) {
        Ok(answer) if answer.ok => {
            say!("{}", done(&answer));
            exit::FINE
        }
        Ok(answer) => {
            complain!("meterd: {}", answer.message);
            exit::REFUSED
        }
        Err(message) => {
            complain!("meterd: {message}");
            exit::UNREACHABLE
        }
    }
}

/// `POST path` on the operator's socket.
pub fn post<T: DeserializeOwned>(socket: &Path, path: &str, body: String) -> Result<T, String> {
    post_within(socket, path, body, ANSWER_TIMEOUT)
}

/// The same for one who waits no longer than `most`.
pub fn post_within<T: DeserializeOwned>(socket: &Path, path: &str, body: String, most: Duration) -> Result<T, String> {
    let request = Request::post(path).header("host", "meterd").body(Full::from(body));
    let (_, body) = ask(socket, request.map_err(|e| e.to_string())?, most)?;
    serde_json::from_slice(&body).map_err(|e| format!("the agent's answer cannot be read: {e}"))
}

fn ask(socket: &Path, request: Request<Full<Bytes>>, most: Duration) -> Result<(StatusCode, Bytes), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let question = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| unreachable_message(socket, &error))?;
        let failed = |error: hyper::Error| format!("the agent at {} broke off: {error}", socket.display());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await.map_err(failed)?.to_bytes()))
    };
    let timed = runtime.block_on(async { tokio::time::timeout(most.min(ANSWER_TIMEOUT), question).await });
    timed.unwrap_or_else(|_| Err(format!("the agent at {} does not answer", socket.display())))
}
