//! The operator's socket, `admin.sock`: decisions that only root and the agent's own user may make. HTTP/1.1, described in
//! `admin.json`, which `GET /v1/openapi.json` answers there.
//!
//! `POST /v1/settle` with `{"hour": "2026-11-21T08:00:00Z", "dimension": "requests", "decision": "accepted"}`; decisions
//! are `accepted`, `carry`, `write-off` and `retry`; with `carry`, `"to": "other"` names another dimension whose next record
//! takes the units. 200 `{"ok":true,"decision":"carry"}` (a `retry` after the window is a `carry`), or an error object as on
//! the writers' socket.
//!
//! For a SaaS product both name the `"customer"`, and where it has several licences the `"license"`.
//!
//! `POST /v1/release` with `{"hour": "…", "dimension": "requests", "at_most": 1000}` (`at_most` may be left out) sends a
//! record that waits because it is above `hold_above`. 200 `{"ok":true,"became":"sent"}`, or `"carried"` past its window.
//!
//! `POST /v1/adopt` and `POST /v1/discard` with `{"instance": "i-0abc"}` (or `{}`, where there is only one) decide about what
//! another instance left unsent in this log. 200 `{"ok":true,"instance":"i-0abc","records":2,"in_doubt":0,"usage":
//! {"requests":"12.5"}}`: the records and the usage that were carried or given up, and the records that wait for a word on each.
//!
//! `POST /v1/reload` with nothing (or `{}`) has the configuration read again, as SIGHUP does. 200 `{"ok":true}` when it is in
//! force; 409 `config_refused` with what is wrong, and nothing has changed.
//!
//! `POST /v1/seal`: see [`super::ending`]; `/v1/customers` and what is below it: see `super::customers`.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::commands::{Command, Gone, Handle};
use super::customers;
use super::ending;
use super::http::reply::{Answer, JSON, json_answer, refusal, refused, with};
use super::http::request::{Route, Takes, body, not_found, refused_by_head};
use super::http::server;
use super::http::wire::Wire;
use super::reload;
use crate::decimal::Amount;
use crate::engine::{self, Code, Disposal, NotSettled, Refusal};
use crate::entry::{Buyer, Decision, Peer};
use crate::hour::{Hour, Timestamp};
use crate::ingest::listener::peer;
use crate::submit::aws::Aws;
use crate::wal::LogError;

/// Longest request in bytes.
const BODY_BYTES_MAX: usize = 4096;

/// The description of all this.
const OPENAPI: &str = include_str!("admin.json");

const ROUTES: [Route; 12] = [
    Route { path: "/v1/settle", takes: Takes::Post },
    Route { path: "/v1/release", takes: Takes::Post },
    Route { path: "/v1/adopt", takes: Takes::Post },
    Route { path: "/v1/discard", takes: Takes::Post },
    Route { path: "/v1/seal", takes: Takes::Both },
    Route { path: "/v1/reload", takes: Takes::Post },
    Route { path: "/v1/customers", takes: Takes::Get },
    Route { path: "/v1/customers/add", takes: Takes::Post },
    Route { path: "/v1/customers/resolve", takes: Takes::Post },
    Route { path: "/v1/customers/end", takes: Takes::Post },
    Route { path: "/v1/customers/notify", takes: Takes::Post },
    Route { path: "/v1/openapi.json", takes: Takes::Get },
];

/// A person's decision as it comes over the socket.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settle {
    hour: AnyMoment,
    dimension: String,
    decision: Word,
    to: Option<String>,
    customer: Option<String>,
    license: Option<String>,
}

/// A held record that may go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    hour: AnyMoment,
    dimension: String,
    at_most: Option<Units>,
    customer: Option<String>,
    license: Option<String>,
}

/// What another instance left unsent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dispose {
    instance: Option<String>,
}

/// No question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// An hour, named by any moment in it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct AnyMoment(Hour);

impl TryFrom<String> for AnyMoment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let moment = Timestamp::parse(&text).ok_or("hour is neither RFC 3339 nor Unix seconds")?;
        Ok(AnyMoment(moment.hour()))
    }
}

/// Billed units: a whole number, which JSON may as well write as `190.0`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "serde_json::Number")]
struct Units(u32);

impl TryFrom<serde_json::Number> for Units {
    type Error = &'static str;

    fn try_from(number: serde_json::Number) -> Result<Self, Self::Error> {
        let amount = Amount::parse_quantity(&number.to_string()).ok();
        let (units, rest) = amount.ok_or("at_most is no quantity")?.divide(Amount::from_units(1));
        let units = u32::try_from(units).ok().filter(|_| rest.is_zero());
        units.map(Units).ok_or("at_most is a whole number below 2^32")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Accepted,
    Carry,
    WriteOff,
    Retry,
}

impl From<Decision> for Word {
    fn from(decision: Decision) -> Word {
        match decision {
            Decision::Accepted => Word::Accepted,
            Decision::Carry | Decision::CarryTo(_) => Word::Carry,
            Decision::WriteOff => Word::WriteOff,
            Decision::Retry => Word::Retry,
        }
    }
}

impl From<Word> for Decision {
    fn from(word: Word) -> Decision {
        match word {
            Word::Accepted => Decision::Accepted,
            Word::Carry => Decision::Carry,
            Word::WriteOff => Decision::WriteOff,
            Word::Retry => Decision::Retry,
        }
    }
}

/// What operators' requests go to.
#[derive(Clone)]
pub struct Operators {
    /// The core.
    pub core: Handle,
    /// Who reads the configuration again.
    pub reload: mpsc::Sender<reload::Request>,
    /// AWS, of a product that has customers.
    pub aws: Option<Arc<Aws>>,
}

/// Serves operators until the core is gone.
pub async fn serve(listener: StdListener, operators: Operators) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the operator's socket cannot be served");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let operators = operators.clone();
                tokio::task::spawn_local(async move {
                    if let Err(error) = connection(stream, operators).await {
                        tracing::debug!(%error, "an operator's connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an operator's connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, operators: Operators) -> io::Result<()> {
    let by = peer(&stream)?;
    let service = service_fn(|request| answer(request, by, &operators));
    let stream = TokioIo::new(Wire::new(stream, Vec::new()));
    server().serve_connection(stream, service).await.map_err(io::Error::other)
}

async fn answer(request: Request<Incoming>, by: Peer, operators: &Operators) -> Result<Answer, Infallible> {
    let Operators { core, reload, aws } = operators;
    let own = rustix::process::geteuid().as_raw();
    if by.uid != 0 && by.uid != own {
        let message = format!("user {} may not decide: only root and the agent's own user may", by.uid);
        return Ok(refused(StatusCode::FORBIDDEN, "not_allowed", &message));
    }
    if let Some(refused) = refused_by_head(&request, &ROUTES) {
        return Ok(refused);
    }
    let path = request.uri().path().to_owned();
    match (request.method() == Method::POST, path.as_str()) {
        (false, "/v1/openapi.json") => return Ok(with(StatusCode::OK, JSON, OPENAPI)),
        (false, "/v1/seal") => return Ok(ending::seen(core).await),
        (false, "/v1/customers") => return Ok(customers::list(request.uri().query(), core).await),
        _ => {}
    }
    let body = match body(request, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(refused) => return Ok(refused),
    };
    Ok(match path.as_str() {
        "/v1/settle" => settle(&body, by, core).await,
        "/v1/release" => release(&body, by, core).await,
        "/v1/adopt" => dispose(Disposal::Adopt, &body, by, core).await,
        "/v1/discard" => dispose(Disposal::Discard, &body, by, core).await,
        "/v1/seal" => ending::seal(&body, by, core).await,
        "/v1/reload" => read_again(&body, reload).await,
        "/v1/customers/add" => customers::add(&body, by, core).await,
        "/v1/customers/resolve" => customers::resolve(&body, by, core, aws.as_ref()).await,
        "/v1/customers/end" => customers::end(&body, by, core).await,
        "/v1/customers/notify" => customers::notify(&body, by, core).await,
        _ => not_found(&ROUTES),
    })
}

async fn settle(body: &[u8], by: Peer, core: &Handle) -> Answer {
    let Settle { hour, dimension, decision, to, customer, license } = match read(body) {
        Ok(settle) => settle,
        Err(why) => return bad_request(&why),
    };
    if to.is_some() && decision != Word::Carry {
        return bad_request("only carry goes to another dimension");
    }
    let customer = match buyer(customer, license) {
        Ok(customer) => customer,
        Err(why) => return bad_request(&why),
    };
    let (hour, decision) = (hour.0, decision.into());
    let settled = core.ask(|reply| Command::Settle { customer, dimension, hour, decision, to, by, reply }).await;
    decided(settled.map(|done| done.map(|came_to| serde_json::json!({ "ok": true, "decision": Word::from(came_to) }))))
}

async fn release(body: &[u8], by: Peer, core: &Handle) -> Answer {
    let Release { hour, dimension, at_most, customer, license } = match read(body) {
        Ok(release) => release,
        Err(why) => return bad_request(&why),
    };
    let customer = match buyer(customer, license) {
        Ok(customer) => customer,
        Err(why) => return bad_request(&why),
    };
    let at_most = at_most.map(|units| units.0);
    let released = core.ask(|reply| Command::Release { customer, dimension, hour: hour.0, at_most, by, reply }).await;
    let became = |gone| match gone {
        engine::Gone::ToAws => "sent",
        engine::Gone::Carried => "carried",
    };
    decided(released.map(|done| done.map(|gone| serde_json::json!({ "ok": true, "became": became(gone) }))))
}

async fn dispose(disposal: Disposal, body: &[u8], by: Peer, core: &Handle) -> Answer {
    let Dispose { instance } = match read(if body.is_empty() { b"{}" } else { body }) {
        Ok(dispose) => dispose,
        Err(why) => return bad_request(&why),
    };
    let disposed = core.ask(|reply| Command::Dispose { disposal, instance, by, reply }).await;
    let shown = |done: engine::Decided| {
        let usage: serde_json::Map<_, _> =
            done.usage.into_iter().map(|(name, n)| (name, n.to_string().into())).collect();
        serde_json::json!({ "ok": true, "instance": done.instance, "records": done.records, "in_doubt": done.in_doubt,
                            "usage": usage })
    };
    decided(disposed.map(|done| done.map(shown)))
}

/// SaaS products: whose record it is.
pub(super) fn buyer(customer: Option<String>, license: Option<String>) -> Result<Option<Buyer>, String> {
    match (customer, license) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err("a license belongs to a customer: say which".into()),
        (Some(customer), license) => Buyer::parse(&customer, license.as_deref()).map(Some),
    }
}

async fn read_again(body: &[u8], reload: &mpsc::Sender<reload::Request>) -> Answer {
    if let Err(why) = read::<Nothing>(if body.is_empty() { b"{}" } else { body }) {
        return bad_request(&why);
    }
    let (asked, done) = oneshot::channel();
    if reload.send(asked).await.is_err() {
        return stopping();
    }
    match done.await {
        Ok(Ok(())) => json_answer(StatusCode::OK, &serde_json::json!({ "ok": true })),
        Ok(Err(why)) => refused(StatusCode::CONFLICT, "config_refused", &why.to_string()),
        Err(_) => stopping(),
    }
}

/// A body, which is an object.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    // serde would read the fields of an array by their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err("the body is no JSON object".to_owned());
    }
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

pub(super) fn bad_request(why: &str) -> Answer {
    refused(StatusCode::BAD_REQUEST, "bad_request", why)
}

fn decided(decided: Result<Result<serde_json::Value, NotSettled>, Gone>) -> Answer {
    match decided {
        Ok(Ok(done)) => json_answer(StatusCode::OK, &done),
        Ok(Err(NotSettled::Log(why))) => not_written(&why),
        Ok(Err(why)) => refused(StatusCode::CONFLICT, "not_settled", &why.to_string()),
        Err(Gone) => stopping(),
    }
}

/// The answer where a decision could not be written down.
pub(super) fn not_written(why: &LogError) -> Answer {
    let code = if matches!(why, LogError::Full(_)) { Code::DiskFull } else { Code::NotDurable };
    refusal(&Refusal { code, message: why.to_string(), index: None })
}

/// The answer where nobody is left to decide anything.
pub(super) fn stopping() -> Answer {
    refusal(&Refusal { code: Code::ShuttingDown, message: Gone.to_string(), index: None })
}
