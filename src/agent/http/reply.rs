//! Answers over HTTP: one shape for everything that is refused, whoever refuses it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{Code, Refusal};
use crate::ingest::protocol;

pub(in crate::agent) type Answer = Response<Full<Bytes>>;

/// What the answers' bodies are, but for metrics.
pub(in crate::agent) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An error that is about HTTP itself, or a person's decision.
pub(in crate::agent) fn problem(error: &str, message: &str) -> Value {
    json!({ "ok": false, "error": error, "message": message, "retryable": false })
}

/// The same as an answer.
pub(in crate::agent) fn refused(status: StatusCode, error: &str, message: &str) -> Answer {
    json_answer(status, &problem(error, message))
}

/// What the engine or the protocol refuses.
pub(in crate::agent) fn refusal(refusal: &Refusal) -> Answer {
    let status = match refusal.code {
        Code::KeyConflict | Code::HourClosed => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::NotAllowed => StatusCode::FORBIDDEN,
        code if code.retryable().is_some() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    json_answer(status, &protocol::refusal_json(refusal))
}

/// A method that a path does not take; `allowed` ones are named.
pub(super) fn not_allowed(allowed: &'static str) -> Answer {
    let message = format!("this path takes {allowed}");
    let mut answer = refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Any answer in JSON.
pub(in crate::agent) fn json_answer<T: Serialize>(status: StatusCode, body: &T) -> Answer {
    with(status, JSON, json_bytes(body))
}

/// A body in JSON, one line.
pub(super) fn json_bytes<T: Serialize>(body: &T) -> Vec<u8> {
    // What is shown here is made of strings and numbers, which always have a JSON form.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Any answer at all. One that says "later" says when.
pub(in crate::agent) fn with(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}
