//! `meterd seal`: the end of this instance, by a person or a script.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Target, get_within, post_within};
use super::exit;
use super::say::{complain, say};
use crate::config::duration::parse_span;
use crate::ingest::listener::ADMIN;
use crate::view::RecordView;

/// How often the agent is asked how far it is.
const ASKED_EVERY: Duration = Duration::from_millis(200);
/// How long an agent that was there may be away: one that died is started again within that, and at a poweroff it is not.
/// What waits is on its disk either way.
const AWAY_MAX: Duration = Duration::from_secs(5);

/// Close this instance's last hour: what waits and the open hour are sent at once
///
/// For the end of an instance only: AWS takes one record an hour, so from then on writers get shutting_down. Usage counts
/// again, in the next hour, after --cancel or a new start of the agent. Waits until AWS has answered for every record.
/// For root and the agent's own user.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct Seal {
    /// Seal and send the open hour
    #[arg(long = "final", group = "what")]
    last: bool,
    /// Call the end off: usage is taken again, into the next hour
    #[arg(long, group = "what")]
    cancel: bool,
    /// How long to wait for AWS. The default lets three calls of 20 s fail, and is over before the two minutes of a spot
    /// interruption and systemd's 90 s for a stop
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "60s")]
    timeout: Duration,
    /// What for, for the log
    #[arg(long, value_name = "WORDS", requires = "last")]
    why: Option<String>,
    /// The agent's own JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How far the end is, as the agent tells it.
#[derive(Debug, Deserialize)]
struct Seen {
    ending: bool,
    closed: Option<String>,
    obstacle: Option<String>,
    sent: Vec<RecordView>,
    waiting: Vec<RecordView>,
    left: Vec<Left>,
}

/// Usage that is in no record.
#[derive(Debug, Deserialize)]
struct Left {
    dimension: String,
    hour: String,
    usage: String,
}

impl Seen {
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && (self.obstacle.is_none() || !self.ending || self.closed.is_some())
    }
}

/// Asks for the end, and waits; returns the exit code.
pub fn run(args: &Seal) -> u8 {
    let socket = match args.target.socket() {
        Ok(socket) => socket.with_file_name(ADMIN),
        Err(message) => {
            complain!("meterd: {message}");
            return exit::CONFIG;
        }
    };
    let deadline = Instant::now() + args.timeout;
    let asked = if args.cancel { json!({ "cancel": true }) } else { json!({ "final": true, "why": args.why }) };
    let mut answer: Value = match post_within(&socket, "/v1/seal", asked.to_string(), args.timeout.max(AWAY_MAX)) {
        Ok(answer) => answer,
        Err(message) => {
            complain!("meterd: {message}");
            return exit::UNREACHABLE;
        }
    };
    if answer["ok"] != true {
        complain!("meterd: {}", answer["message"].as_str().unwrap_or("the agent does not say why it refuses"));
        return if answer["error"] == "bad_request" || answer["error"] == "not_allowed" {
            exit::REFUSED
        } else {
            exit::RETRY
        };
    }
    let mut seen = read(&answer);
    let mut heard = Instant::now();
    while !args.cancel
        && seen.as_ref().is_ok_and(|seen| !seen.is_done())
        && Instant::now() < deadline
        && heard.elapsed() < AWAY_MAX
    {
        sleep(ASKED_EVERY.min(deadline.saturating_duration_since(Instant::now())));
        if let Ok(body) = get_within(&socket, "/v1/seal", deadline.saturating_duration_since(Instant::now()))
            && let Ok(next) = serde_json::from_slice(&body)
        {
            (answer, heard) = (next, Instant::now());
            seen = read(&answer);
        }
    }
    let seen = match seen {
        Ok(seen) => seen,
        Err(message) => {
            complain!("meterd: {message}");
            return exit::UNREACHABLE;
        }
    };
    if args.json {
        say!("{answer}");
    } else if args.cancel {
        say!("no end is under way: usage is taken, into the open hour that `meterd status` shows");
    } else {
        show(&seen);
    }
    if args.cancel || seen.is_done() { exit::FINE } else { exit::RETRY }
}

fn read(answer: &Value) -> Result<Seen, String> {
    Seen::deserialize(answer).map_err(|error| format!("the agent's answer cannot be read: {error}"))
}

fn show(seen: &Seen) {
    match (&seen.closed, &seen.obstacle) {
        (Some(hour), _) => say!("the hour {hour} is closed; writers get shutting_down"),
        (None, Some(why)) => say!("the open hour cannot be closed yet: {why}"),
        (None, None) => say!("the end was called off meanwhile, by a start of the agent or `meterd seal --cancel`"),
    }
    for record in &seen.sent {
        say!("  {} {} {}: {}", record.hour, record.dimension, record.quantity, record.state);
    }
    for record in &seen.waiting {
        let why = record.last_error.as_deref().unwrap_or("not tried yet");
        say!("  {} {} {}: waits ({why})", record.hour, record.dimension, record.quantity);
    }
    for left in &seen.left {
        say!("  {} {} {}: in no record yet; it is sent when that hour is over", left.hour, left.dimension, left.usage);
    }
    if !seen.waiting.is_empty() {
        say!("what waits stays on disk, and goes out as soon as AWS takes it and this agent runs");
    }
}
