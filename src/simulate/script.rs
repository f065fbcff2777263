//! Faults as people write them: a TOML file for `--script`, the same shape as JSON for `POST /faults`.
//!
//! ```toml
//! [[fault]]
//! kind = "accept_and_lose_reply"   # recorded, but the caller never hears of it
//! nth = 3                          # the third call
//!
//! [[fault]]
//! kind = "refuse_connection"       # nobody listens for an hour and a half
//! from = "+1h"
//! until = "+2h30m"
//!
//! [[fault]]
//! kind = "throttle"
//! dimension = "requests"
//! probability = 0.2
//! seed = 7
//! retry_after_s = 2
//! ```
//!
//! | key | which calls |
//! | --- | --- |
//! | `from`, `until` | at these moments of the simulation: RFC 3339, or `+1h30m` after the fault was added (a script: after the start) |
//! | `dimension`, `customer` | with a record of this dimension, of this customer |
//! | `dry_run` | `true`: dry runs, `false`: calls that are none |
//! | `nth` | from the nth call on that the keys above let through, counted from 1 |
//! | `times` | so many at most; default 1 with `nth`, else without end |
//! | `probability`, `seed` | each with this chance (0 to 1), repeatable by the seed |
//!
//! | kind | what happens | keys of its own |
//! | --- | --- | --- |
//! | `accept_and_lose_reply` | recorded, then the connection is closed without an answer | |
//! | `close` | the connection is closed without an answer, nothing recorded | |
//! | `hang` | never answered | `recorded` |
//! | `throttle` | `ThrottlingException`, HTTP 400 | `retry_after_s` |
//! | `service_unavailable` | `ServiceUnavailableException`, HTTP 503 | `retry_after_s` |
//! | `internal_error` | `InternalServiceErrorException`, HTTP 500 | `recorded` |
//! | `garbage`, `empty` | HTTP 200 with a body that is no JSON, or with none | `recorded` |
//! | `slow` | recorded at once, answered late | `delay_ms` of the machine's time |
//! | `denied`, `expired_token` | `AccessDeniedException`, `ExpiredTokenException` | |
//! | `wrong_clock` | `Date` header and judgement of timestamps are off | `shift_s` |
//! | `other_quantity` | another quantity stands already: `DuplicateRequestException` | |
//! | `unprocessed` | BatchMeterUsage: the last records are left unprocessed | `records` (default: all) |
//! | `not_subscribed` | BatchMeterUsage: `CustomerNotSubscribed` for the fault's `customer`, or for all | |
//! | `error` | any other error answer | `code`, `status` (default 400) |
//! | `refuse_connection` (`out`) | the port is closed; takes `from` and `until` only | |
//!
//! `recorded = true` means: judged, and recorded if the rules grant it, before it goes wrong.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::faults::{Draw, Fault, Kind, Moment, Selector};
use crate::config::duration::parse_span;
use crate::hour::Timestamp;

/// Why a script cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenScript {
    #[serde(default)]
    fault: Vec<Spanned<Written>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum KindName {
    AcceptAndLoseReply,
    Close,
    Hang,
    Throttle,
    ServiceUnavailable,
    InternalError,
    Garbage,
    Empty,
    Slow,
    Denied,
    ExpiredToken,
    WrongClock,
    OtherQuantity,
    Unprocessed,
    NotSubscribed,
    Error,
    #[serde(alias = "out")]
    RefuseConnection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: KindName,
    from: Option<String>,
    until: Option<String>,
    dimension: Option<String>,
    customer: Option<String>,
    dry_run: Option<bool>,
    nth: Option<u64>,
    times: Option<u64>,
    probability: Option<f64>,
    seed: Option<u64>,
    retry_after_s: Option<u32>,
    recorded: Option<bool>,
    delay_ms: Option<u64>,
    shift_s: Option<i64>,
    code: Option<String>,
    status: Option<u16>,
    records: Option<usize>,
}

/// Reads a script file's text.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse_script(text: &str) -> Result<Vec<Fault>, ScriptError> {
    let line_of = |at: usize| text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
    let written: WrittenScript = toml::from_str(text).map_err(|error| ScriptError {
        line: line_of(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    written
        .fault
        .into_iter()
        .map(|fault| {
            let line = line_of(fault.span().start);
            fault.into_inner().check().map_err(|message| ScriptError { line, message })
        })
        .collect()
}

/// Reads one fault as a JSON object, or several as an array, for a running simulation.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_runtime_faults(json: &[u8]) -> Result<Vec<Fault>, String> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Many(Vec<Written>);
    let array = json.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    let written = if array {
        serde_json::from_slice::<Many>(json).map(|many| many.0)
    } else {
        serde_json::from_slice::<Written>(json).map(|one| vec![one])
    };
    let faults = written.map_err(|error| error.to_string())?.into_iter().map(Written::check);
    let faults = faults.collect::<Result<Vec<Fault>, String>>()?;
    if faults.iter().any(|fault| fault.kind == Kind::RefuseConnection && fault.selector.until.is_none()) {
        return Err("refuse_connection needs `until` here: once the port is closed no request can end it".to_owned());
    }
    Ok(faults)
}

impl Written {
    fn check(mut self) -> Result<Fault, String> {
        let selector = self.selector()?;
        let kind = self.kind()?;
        self.nothing_left()?;
        if kind == Kind::RefuseConnection {
            let timed = Selector { from: selector.from, until: selector.until, ..Selector::default() };
            if timed != selector {
                return Err(
                    "refuse_connection is selected by `from` and `until` only: no call is there to look at".to_owned()
                );
            }
        }
        Ok(Fault { selector, kind })
    }

    fn selector(&mut self) -> Result<Selector, String> {
        let draw = match (self.probability, self.seed) {
            (None, None) => None,
            (Some(probability), Some(seed)) if (0.0..=1.0).contains(&probability) => Some(Draw { probability, seed }),
            (Some(probability), Some(_)) => return Err(format!("probability {probability} is not between 0 and 1")),
            _ => return Err("probability and seed go together, so that a run can be repeated".to_owned()),
        };
        for (name, value) in [("nth", self.nth), ("times", self.times)] {
            if value == Some(0) {
                return Err(format!("{name} is 0; it counts from 1"));
            }
        }
        Ok(Selector {
            from: self.from.take().map(|text| moment("from", &text)).transpose()?,
            until: self.until.take().map(|text| moment("until", &text)).transpose()?,
            dimension: self.dimension.take(),
            customer: self.customer.clone(),
            dry_run: self.dry_run,
            nth: self.nth,
            times: self.times,
            draw,
        })
    }

    /// The kind with its own keys, which are taken out of `self`.
    fn kind(&mut self) -> Result<Kind, String> {
        Ok(match self.kind {
            KindName::AcceptAndLoseReply => Kind::AcceptAndLoseReply,
            KindName::Close => Kind::Close,
            KindName::Hang => Kind::Hang { recorded: self.recorded() },
            KindName::Throttle => Kind::Throttle { retry_after_s: self.retry_after_s.take() },
            KindName::ServiceUnavailable => Kind::ServiceUnavailable { retry_after_s: self.retry_after_s.take() },
            KindName::InternalError => Kind::InternalError { recorded: self.recorded() },
            KindName::Garbage => Kind::Garbage { recorded: self.recorded() },
            KindName::Empty => Kind::Empty { recorded: self.recorded() },
            KindName::Slow => match self.delay_ms.take() {
                Some(ms) => Kind::Slow { delay: Duration::from_millis(ms) },
                None => return Err("slow needs delay_ms, in milliseconds".to_owned()),
            },
            KindName::Denied => Kind::Denied,
            KindName::ExpiredToken => Kind::ExpiredToken,
            KindName::WrongClock => match self.shift_s.take() {
                Some(shift_s) => Kind::WrongClock { shift_s },
                None => return Err("wrong_clock needs shift_s, in seconds ahead (negative: behind)".to_owned()),
            },
            KindName::OtherQuantity => Kind::OtherQuantity,
            KindName::Unprocessed => Kind::Unprocessed { records: self.records.take().unwrap_or(usize::MAX) },
            KindName::NotSubscribed => Kind::NotSubscribed { customer: self.customer.clone() },
            KindName::Error => {
                let status = self.status.take().unwrap_or(400);
                if !(400..=599).contains(&status) {
                    return Err(format!("status {status} is not between 400 and 599"));
                }
                match self.code.take() {
                    Some(code) if code.bytes().all(|b| b.is_ascii_alphanumeric()) && !code.is_empty() => {
                        Kind::Error { status, code }
                    }
                    _ => return Err("error needs code, an exception's name in letters and digits".to_owned()),
                }
            }
            KindName::RefuseConnection => Kind::RefuseConnection,
        })
    }

    fn recorded(&mut self) -> bool {
        self.recorded.take().unwrap_or(false)
    }

    /// Refuses the keys that this kind has not taken.
    fn nothing_left(&self) -> Result<(), String> {
        let left = [
            ("retry_after_s", self.retry_after_s.is_some()),
            ("recorded", self.recorded.is_some()),
            ("delay_ms", self.delay_ms.is_some()),
            ("shift_s", self.shift_s.is_some()),
            ("code", self.code.is_some()),
            ("status", self.status.is_some()),
            ("records", self.records.is_some()),
        ];
        match left.iter().find(|(_, is_left)| *is_left) {
            Some((name, _)) => Err(format!("{name} does not go with this kind")),
            None => Ok(()),
        }
    }
}

fn moment(name: &str, text: &str) -> Result<Moment, String> {
    if let Some(offset) = text.strip_prefix('+') {
        return parse_span(offset).map(Moment::After).map_err(|error| format!("{name}: {error}"));
    }
    Timestamp::parse(text).map(Moment::At).ok_or_else(|| {
        format!("{name} {text:?} is no moment: write RFC 3339 (2026-11-21T09:00:00Z), or +1h30m after the start")
    })
}
