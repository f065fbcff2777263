//! The end over the operator's socket.
//!
//! `POST /v1/seal` with `{"final": true}` begins it, with `"why"` in words for the log; asked twice it is the same end.
//! `{"cancel": true}` calls it off. `GET /v1/seal` tells how far it is. All answer
//! `{"ok":true,"ending":true,"since":"…","why":"…","closed":"2026-11-21T08:00:00Z","obstacle":null,"sent":[…],"waiting":[…],
//! "left":[…]}`: the hour that was closed early (null while `obstacle` keeps it open), the records that wait for AWS
//! no more, with what became of them, and those that do, as in `GET /v1/records`, and usage that is in no record
//! (`dimension`, `hour`, `usage`).

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{bad_request, not_written, read, stopping};
use super::commands::{Command, Gone, Handle};
use super::http::reply::{Answer, json_answer};
use crate::engine::EndSeen;
use crate::entry::Peer;
use crate::rollup::state::RecordState;
use crate::view::RecordView;
use crate::wal::LogError;

/// Longest reason in characters.
const WHY_CHARS_MAX: usize = 200;
/// What it is called where nobody gave a reason.
const ASKED: &str = "seal --final";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Seal {
    r#final: bool,
    cancel: bool,
    why: Option<String>,
}

/// `POST /v1/seal`.
pub(super) async fn seal(body: &[u8], by: Peer, core: &Handle) -> Answer {
    let Seal { r#final, cancel, why } = match read(body) {
        Ok(seal) => seal,
        Err(why) => return bad_request(&why),
    };
    if r#final == cancel {
        return bad_request("either \"final\":true or \"cancel\":true");
    }
    if cancel {
        return shown(core.ask(|reply| Command::CallOff { by: Some(by), reply }).await);
    }
    let why = why.unwrap_or_else(|| ASKED.to_owned());
    if why.chars().count() > WHY_CHARS_MAX {
        return bad_request(&format!("\"why\" has up to {WHY_CHARS_MAX} characters"));
    }
    shown(core.ask(|reply| Command::End { by: Some(by), why, reply }).await)
}

/// `GET /v1/seal`.
pub(super) async fn seen(core: &Handle) -> Answer {
    shown(core.ask(Command::EndSeen).await)
}

fn shown(seen: Result<Result<EndSeen, LogError>, Gone>) -> Answer {
    match seen {
        Ok(Ok(seen)) => json_answer(StatusCode::OK, &view(&seen)),
        Ok(Err(why)) => not_written(&why),
        Err(Gone) => stopping(),
    }
}

fn view(seen: &EndSeen) -> Value {
    let ending = seen.ending.as_ref();
    let records = |records: &[RecordState]| records.iter().map(RecordView::from).collect::<Vec<_>>();
    let left = seen
        .left
        .iter()
        .map(|(dimension, hour, usage)| json!({ "dimension": dimension, "hour": hour.to_string(), "usage": usage }));
    json!({
        "ok": true,
        "ending": ending.is_some(),
        "since": ending.map(|ending| ending.since.to_string()),
        "why": ending.map(|ending| ending.why.clone()),
        "closed": ending.and_then(|ending| ending.closed).map(|hour| hour.to_string()),
        "obstacle": seen.obstacle,
        "sent": records(&seen.sent),
        "waiting": records(&seen.waiting),
        "left": left.collect::<Vec<Value>>(),
    })
}
