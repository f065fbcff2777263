//! The gate: whether an application should go on while metering fails. It is the application that asks and decides; the
//! agent takes usage whatever the gate says.
//!
//! | gate | when |
//! | --- | --- |
//! | `open` | metering works, or has failed for less than `gate.warn_after` |
//! | `warn` | it has failed for longer |
//! | `closed` | it has failed for `gate.close_after`, which is never less than two hours |
//!
//! What failing is, and since when, says [`Engine::failing`]. Where hours cannot even be closed it warns. The gate never closes for what nobody knows: not while the
//! log cannot be opened, and not while nothing tells what time it is.

use serde::Serialize;

use crate::config;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::hour::Timestamp;

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Go on.
    Open,
    /// Go on, and tell somebody.
    Warn,
    /// The seller wishes that the application stops here.
    Closed,
}

impl Position {
    /// Every one.
    pub const ALL: [Position; 3] = [Position::Open, Position::Warn, Position::Closed];

    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Position::Open => "open",
            Position::Warn => "warn",
            Position::Closed => "closed",
        }
    }
}

/// The answer of `GET /v1/gate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// Where it stands.
    pub gate: Position,
    /// Why it is not open.
    pub reason: Option<String>,
    /// Since when it stands there. Open: since AWS last accepted a record, or else since the agent started.
    pub since: String,
}

/// Where the gate of an agent stands that was started at `started`.
pub fn gate<D: Disk>(engine: &Engine<D>, policy: &config::Gate, started: Timestamp, now: Timestamp) -> Gate {
    let state = engine.state();
    let open = Gate { gate: Position::Open, reason: None, since: state.last_success.unwrap_or(started).to_string() };
    let Some(failing) = engine.failing(now) else { return unsealed(engine, policy, now).unwrap_or(open) };
    let closes = policy.close_after.filter(|after| failing.is_certain && failing.lasted >= *after);
    let (gate, after) = match closes {
        Some(after) => (Position::Closed, after),
        None if failing.lasted >= policy.warn_after => (Position::Warn, policy.warn_after),
        None => return open,
    };
    let waiting = || state.records.values().find_map(|r| r.last_error.as_deref());
    let error = engine.aws().last_error.as_deref().or_else(waiting).map_or_else(String::new, |e| format!(": {e}"));
    let reason = format!("AWS has given no final word on any record since {}{error}", failing.since);
    Gate { gate, reason: Some(reason), since: failing.since.plus(after).to_string() }
}

/// A warning where hours cannot be closed, so that nothing is there to be sent: the instance's name is not known, the clock
/// is in doubt, or there is no room.
fn unsealed<D: Disk>(engine: &Engine<D>, policy: &config::Gate, now: Timestamp) -> Option<Gate> {
    let due = engine.unsealed_since(now)?;
    let since = due.plus(policy.warn_after);
    let reason = format!("no hour could be closed since {due}; `meterd status` says why");
    (now >= since).then(|| Gate { gate: Position::Warn, reason: Some(reason), since: since.to_string() })
}

/// Where it stands while the log has not been open since `since`, for the reason `why`.
pub fn not_ready(why: &str, policy: &config::Gate, since: Timestamp, now: Timestamp) -> Gate {
    let warns = now.since(since) >= policy.warn_after;
    Gate {
        gate: if warns { Position::Warn } else { Position::Open },
        reason: warns.then(|| why.to_owned()),
        since: if warns { since.plus(policy.warn_after) } else { since }.to_string(),
    }
}
