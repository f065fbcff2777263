//! HTTP on the socket: the same increments for clients that speak it, and the views.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, ORIGIN, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clients::HttpClient;
use super::commands::{Command, Gone, Handle};
use crate::engine::{Code, Refusal};
use crate::entry::Peer;
use crate::ingest::protocol::{self, LINE_BYTES_MAX};
use crate::view;

/// How long a request's head may take to arrive.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type Answer = Response<Full<Bytes>>;

/// How long clients may take to hear their last answers when the agent stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves the connections that the core hands over, until it is gone and every answer it gave has been passed on: what
/// was made durable must not look as if nobody knew of it.
pub async fn serve(mut clients: UnboundedReceiver<HttpClient>, core: Handle) {
    let (stopping, _) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            client = clients.recv() => client,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Some(client) = client else { break };
        let (core, stop) = (core.clone(), stopping.subscribe());
        connections.spawn_local(async move {
            if let Err(error) = connection(client, core, stop).await {
                tracing::debug!(%error, "an HTTP connection ended");
            }
        });
    }
    stopping.send_replace(());
    // Whoever has not read its answer by then does not listen.
    let _ = tokio::time::timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(client: HttpClient, core: Handle, mut stop: watch::Receiver<()>) -> io::Result<()> {
    let HttpClient { socket, peer, read, ticket } = client;
    let stream = Replayed { read, at: 0, stream: UnixStream::from_std(StdStream::from(socket))? };
    let service = service_fn(|request| answer(request, peer, &core));
    let server = http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).to_owned();
    let mut serving = pin!(server.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        _ = stop.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    drop(ticket);
    served.map_err(io::Error::other)
}

async fn answer(request: Request<Incoming>, peer: Peer, core: &Handle) -> Result<Answer, Infallible> {
    if request.headers().contains_key(ORIGIN) {
        // A web page must not write through a proxy.
        let message = "requests with an Origin header are refused".into();
        return Ok(refusal_answer(&Refusal { code: Code::NotAllowed, message, index: None }));
    }
    let path = request.uri().path().to_owned();
    let answered = match (request.method(), path.as_str()) {
        (&Method::POST, "/v1/usage") => usage(request, peer, core).await,
        (&Method::GET, "/v1/status") => core.ask(Command::Status).await.map(|status| json(StatusCode::OK, &*status)),
        (&Method::GET, "/v1/records") => records(core).await,
        (&Method::GET, "/healthz") => core.ask(Command::Status).await.map(|status| {
            let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(code, &serde_json::json!({ "ready": status.ready }))
        }),
        (_, "/v1/usage" | "/v1/status" | "/v1/records" | "/healthz") => {
            Ok(json(StatusCode::METHOD_NOT_ALLOWED, &problem("method_not_allowed", "POST /v1/usage, GET the others")))
        }
        _ => {
            let message = "paths: POST /v1/usage, GET /v1/status, GET /v1/records, GET /healthz";
            Ok(json(StatusCode::NOT_FOUND, &problem("not_found", message)))
        }
    };
    Ok(answered.unwrap_or_else(|Gone| {
        refusal_answer(&Refusal { code: Code::ShuttingDown, message: "the agent is stopping".into(), index: None })
    }))
}

async fn usage(request: Request<Incoming>, peer: Peer, core: &Handle) -> Result<Answer, Gone> {
    let body = match Limited::new(request.into_body(), LINE_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(_) => {
            let message = format!("a body of more than {LINE_BYTES_MAX} bytes, or one that broke off");
            return Ok(refusal_answer(&Refusal { code: Code::TooLarge, message, index: None }));
        }
    };
    let (array, answer) = core.ask(|reply| Command::Take { peer, body, reply }).await?;
    Ok(match answer {
        Ok(_) => {
            let mut line = Vec::new();
            protocol::write_answer(array, &answer, &mut line);
            with_json(StatusCode::OK, line)
        }
        Err(refusal) => refusal_answer(&refusal),
    })
}

async fn records(core: &Handle) -> Result<Answer, Gone> {
    let read = core.ask(Command::Records).await?;
    // Some of the records would look like all of them: it is all or, for a while, none.
    Ok(match read.and_then(|(current, history)| view::records(current, history)) {
        Ok(records) => json(StatusCode::OK, &records),
        Err(message) => refusal_answer(&Refusal { code: Code::NotReady, message, index: None }),
    })
}

pub(super) fn problem(error: &str, message: &str) -> serde_json::Value {
    serde_json::json!({ "ok": false, "error": error, "message": message, "retryable": false })
}

fn refusal_answer(refusal: &Refusal) -> Answer {
    let status = match refusal.code {
        Code::KeyConflict | Code::HourClosed => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::NotAllowed => StatusCode::FORBIDDEN,
        code if code.retryable().is_some() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut answer = json(status, &protocol::refusal_json(refusal));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Answer {
    // What is shown here is made of strings and numbers, which always have a JSON form.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    with_json(status, bytes)
}

fn with_json(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A stream whose first bytes were read already.
struct Replayed {
    read: Vec<u8>,
    at: usize,
    stream: UnixStream,
}

impl AsyncRead for Replayed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = this.read.get(this.at..).unwrap_or(&[]);
        if waiting.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let n = waiting.len().min(buf.remaining());
        buf.put_slice(waiting.get(..n).unwrap_or(&[]));
        this.at += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
