//! One look: the agent's answer, or what can be seen without one.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::books;
use crate::cli::client::{NoAnswer, get};
use crate::cli::exit;
use crate::cli::say::{complain, plain};
use crate::disk::RealDisk;
use crate::engine;
use crate::hour::Timestamp;
use crate::status;

/// Where to look.
pub struct Look {
    /// The agent's.
    pub socket: PathBuf,
    /// What the configuration names, if it can be read.
    pub state_dir: Option<PathBuf>,
}

/// What was seen.
pub struct Seen {
    /// The agent's own words, or what stands in for them.
    pub json: Value,
    /// Since when applications are told something else than to go on.
    gate_since: Option<String>,
    /// Why the agent said nothing.
    silence: Option<NoAnswer>,
}

/// The same for people, with nothing in it that a terminal would obey. What an agent of another version leaves out is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "named as in the answer of GET /v1/status")]
pub struct Status {
    pub version: Option<String>,
    pub instance_id: Option<String>,
    pub product_code: String,
    pub ready: bool,
    pub uptime_s: Option<u64>,
    pub now: String,
    pub log: Log,
    pub open_hour: Option<OpenHour>,
    pub records: serde_json::Map<String, Value>,
    pub next_deadlines: Vec<Pending>,
    pub refused: serde_json::Map<String, Value>,
    pub aws: Aws,
    pub books: Vec<books::Row>,
    pub gate: String,
    pub attention: Vec<Attention>,
    pub attribution: Option<Attribution>,
    pub gate_since: Option<String>,
    pub state_dir: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "as above")]
pub struct Log {
    pub accepted_seq: u64,
    pub segments: u64,
    pub bytes: u64,
    pub lost_increments: u64,
}

#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct OpenHour {
    pub hour: String,
    pub dimensions: Vec<OpenDimension>,
}

#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct OpenDimension {
    pub name: String,
    pub usage: String,
}

#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Pending {
    pub hour: String,
    pub dimension: String,
    pub quantity: u32,
    pub deadline: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "as above")]
pub struct Aws {
    pub last_success: Option<String>,
    pub consecutive_failures: u32,
    pub last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Attribution {
    pub found: String,
    pub seen: String,
}

#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Attention {
    pub code: String,
    pub message: String,
    #[serde(rename = "do")]
    pub remedy: String,
    pub since: Option<String>,
}

impl Look {
    /// Looks; takes as long as the agent takes to answer, and half a minute at most.
    pub fn once(&self) -> Seen {
        let answer: Result<Value, NoAnswer> = get(&self.socket, "/v1/status").and_then(|body| {
            serde_json::from_slice(&body).map_err(|e| format!("the agent's answer cannot be read: {e}").into())
        });
        match answer {
            Ok(json) => {
                let gate_since = (json["gate"] != "open").then(|| self.gate_since()).flatten();
                Seen { json, gate_since, silence: None }
            }
            Err(none) => Seen { json: self.without_an_answer(&none), gate_since: None, silence: Some(none) },
        }
    }

    fn gate_since(&self) -> Option<String> {
        let gate: Value = serde_json::from_slice(&get(&self.socket, "/v1/gate").ok()?).ok()?;
        Some(gate["since"].as_str()?.to_owned())
    }

    fn without_an_answer(&self, none: &NoAnswer) -> Value {
        let denied =
            || UnixStream::connect(&self.socket).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        let why = none.message.as_str();
        let (code, remedy) = match none.not_allowed {
            true => (
                "not_allowed",
                "ask as root: `sudo meterd status`; or have this user listed in socket.allow_read_users",
            ),
            false if denied() => (
                "not_allowed",
                "ask as root: `sudo meterd status`; or join the socket's group: `usermod -aG meterd USER`",
            ),
            false => (
                "no_agent",
                "see whether it runs, and if not why: `systemctl status meterd`; its own words: `journalctl -u meterd -n 20`; \
                 then start it anew: `systemctl restart meterd`",
            ),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_seconds(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let mut attention = vec![json!({ "code": code, "message": why, "do": remedy, "since": null })];
        let mut seen = match self.state_dir.as_deref().map(|dir| offline(dir, now)) {
            Some(Ok(seen)) => seen,
            Some(Err(item)) => {
                attention.push(item);
                json!({})
            }
            None => json!({}),
        };
        seen["ready"] = json!(false);
        seen["now"] = json!(now.to_string());
        seen["state_dir"] = json!(self.state_dir);
        seen["attention"] = json!(attention);
        seen
    }
}

/// What the state directory shows, or what needs a person there.
fn offline(dir: &Path, now: Timestamp) -> Result<Value, Value> {
    let failed = |message: String, remedy: String| json!({ "code": "state_unreadable", "message": message, "do": remedy, "since": null });
    match engine::read_only(&RealDisk::read_only(dir)) {
        Ok(state) => Ok(serde_json::to_value(status::offline(&state, now)).unwrap_or_default()),
        Err(error) => {
            let shown = dir.display();
            let remedy = format!("look as root: `sudo meterd status`; what is in it: `sudo meterd verify {shown}`");
            Err(failed(format!("the state directory {shown} cannot be read: {error}"), remedy))
        }
    }
}

impl Seen {
    /// Made harmless for a terminal.
    pub fn for_people(&self) -> Status {
        let mut json = self.json.clone();
        make_plain(&mut json);
        let read = serde_json::from_value(json).unwrap_or_else(|error| {
            let message = format!("the agent's answer cannot be shown ({error}): is it of another version?");
            let remedy = "read it as it is: `meterd status --json`".to_owned();
            Status {
                attention: vec![Attention { code: "unreadable".to_owned(), message, remedy, since: None }],
                ..Status::default()
            }
        });
        Status { gate_since: self.gate_since.clone(), ..read }
    }

    /// Goes on after `before`: what is silent still has been so since then.
    pub fn after(&mut self, before: &Seen) {
        if self.is_answered() {
            return;
        }
        let since = &before.json["attention"][0]["since"];
        let since = if before.is_answered() { &self.json["now"] } else { since };
        self.json["attention"][0]["since"] = if since.is_null() { before.json["now"].clone() } else { since.clone() };
    }

    /// Why no agent answered, for whoever reads standard error.
    pub fn complain(&self) {
        if let Some(none) = &self.silence {
            complain!("meterd: {}", none.message);
        }
    }

    /// Whether an agent answered.
    pub fn is_answered(&self) -> bool {
        self.silence.is_none()
    }

    /// What it comes to.
    pub fn exit_code(&self) -> u8 {
        match (&self.silence, self.json["attention"].as_array().is_some_and(Vec::is_empty)) {
            (Some(none), _) => none.code(),
            (None, true) => exit::FINE,
            (None, false) => exit::REFUSED,
        }
    }
}

fn make_plain(value: &mut Value) {
    match value {
        Value::String(text) => *text = plain(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(make_plain),
        Value::Object(fields) => {
            let all = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                make_plain(&mut value);
                (plain(&name).into_owned(), value)
            });
            fields.extend(all);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
