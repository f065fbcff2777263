//! Requests over HTTP: what is refused by their head alone, and their body, read whole and within limits.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, ORIGIN, TRANSFER_ENCODING};
use hyper::{Method, Request, StatusCode};

use super::reply::{Answer, not_allowed, refused};

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A path and what it takes.
pub(in crate::agent) struct Route {
    pub(in crate::agent) path: &'static str,
    pub(in crate::agent) takes: Takes,
}

/// What a path takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) enum Takes {
    /// A look at something.
    Get,
    /// A body of JSON.
    Post,
    /// Either.
    Both,
}

impl Takes {
    fn allow(self) -> &'static str {
        match self {
            Takes::Get => "GET, HEAD",
            Takes::Post => "POST",
            Takes::Both => "GET, HEAD, POST",
        }
    }

    /// But for HEAD, which goes wherever GET does: hyper leaves the body of its answer away.
    fn methods(self) -> &'static [&'static str] {
        match self {
            Takes::Get => &["GET"],
            Takes::Post => &["POST"],
            Takes::Both => &["GET", "POST"],
        }
    }

    fn allows(self, method: &Method) -> bool {
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.methods().contains(&method)
    }
}

/// The answer to a request that `routes` do not take, or that a web page sent.
pub(in crate::agent) fn refused_by_head<B>(request: &Request<B>, routes: &[Route]) -> Option<Answer> {
    if request.headers().contains_key(ORIGIN) {
        // A web page must not write through a proxy.
        return Some(refused(StatusCode::FORBIDDEN, "not_allowed", "requests with an Origin header are refused"));
    }
    let Some(route) = routes.iter().find(|route| route.path == request.uri().path()) else {
        return Some(not_found(routes));
    };
    (!route.takes.allows(request.method())).then(|| not_allowed(route.takes.allow()))
}

/// The answer where there is nothing.
pub(in crate::agent) fn not_found(routes: &[Route]) -> Answer {
    let words = |route: &Route| route.takes.methods().iter().map(|method| format!("{method} {}", route.path)).collect();
    let paths: Vec<String> = routes.iter().flat_map::<Vec<String>, _>(words).collect();
    refused(StatusCode::NOT_FOUND, "not_found", &format!("paths: {}", paths.join(", ")))
}

/// The body of a request, of at most `most` bytes, or the answer that says why not.
pub(in crate::agent) async fn body(request: Request<Incoming>, most: usize) -> Result<Vec<u8>, Answer> {
    let (head, body) = request.into_parts();
    if !is_json(&head.headers) {
        let message = "send JSON, as application/json or without a Content-Type, and not compressed";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    if !head.headers.contains_key(CONTENT_LENGTH) && !head.headers.contains_key(TRANSFER_ENCODING) {
        let message = "send a body, with its Content-Length or in chunks";
        return Err(refused(StatusCode::LENGTH_REQUIRED, "length_required", message));
    }
    let too_large = || {
        let message = format!("a body of more than {most} bytes");
        refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message)
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refused(StatusCode::BAD_REQUEST, "bad_request", "the body broke off")),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(refused(StatusCode::REQUEST_TIMEOUT, "request_timeout", &message))
        }
    }
}

/// Whether a body can be JSON. curl's `-d` calls it a form unless told otherwise.
fn is_json(headers: &HeaderMap) -> bool {
    let plain = headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return plain };
    let essence = content_type.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    let known = ["application/json", "application/x-www-form-urlencoded"];
    plain && known.iter().any(|name| essence.eq_ignore_ascii_case(name))
}
