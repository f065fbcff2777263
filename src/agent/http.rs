//! HTTP on the socket: the same increments for clients that speak it, and the views. Described in `openapi.json`, which is
//! served as it stands and checked against the answers.

mod great;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod wire;

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clients::HttpClient;
use super::commands::{Command, Gone, Handle};
use crate::engine::{Code, Refusal};
use crate::ingest::allow::{Allowed, Writer};
use crate::ingest::protocol::{self, LINE_BYTES_MAX};
use crate::metrics;
use crate::view;
use great::{GreatAnswers, Held, Permit};
use reply::{Answer, JSON, json_answer, json_bytes, refusal, with};
use request::{Route, Takes, body, not_found, refused_by_head};
use wire::Wire;

/// How long a request's head may take to arrive, counted from the connection's begin or the answer before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long clients may take to hear their last answers when the agent stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// The description of all this.
const OPENAPI: &str = include_str!("http/openapi.json");

const USAGE: &str = "/v1/usage";

const ROUTES: [Route; 7] = [
    Route { path: USAGE, takes: Takes::Post },
    Route { path: "/v1/status", takes: Takes::Get },
    Route { path: "/v1/records", takes: Takes::Get },
    Route { path: "/v1/gate", takes: Takes::Get },
    Route { path: "/healthz", takes: Takes::Get },
    Route { path: "/metrics", takes: Takes::Get },
    Route { path: "/v1/openapi.json", takes: Takes::Get },
];

/// What each connection is served with.
struct Serving {
    core: Handle,
    allowed: watch::Receiver<Allowed>,
    great: GreatAnswers,
}

/// Serves the connections that the core hands over, until it is gone and every answer it gave has been passed on: what
/// was made durable must not look as if nobody knew of it.
pub async fn serve(mut clients: UnboundedReceiver<HttpClient>, allowed: watch::Receiver<Allowed>, core: Handle) {
    let (stopping, _) = watch::channel(());
    let great = GreatAnswers::default();
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            client = clients.recv() => client,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Some(client) = client else { break };
        let serving = Serving { core: core.clone(), allowed: allowed.clone(), great: great.clone() };
        let stop = stopping.subscribe();
        connections.spawn_local(async move {
            if let Err(error) = connection(client, &serving, stop).await {
                tracing::debug!(%error, "an HTTP connection ended");
            }
        });
    }
    stopping.send_replace(());
    // Whoever has not read its answer by then does not listen.
    let _ = tokio::time::timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

/// How HTTP is spoken, here and on the operator's socket.
pub(super) fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    server
}

async fn connection(client: HttpClient, serving: &Serving, mut stop: watch::Receiver<()>) -> io::Result<()> {
    let HttpClient { socket, peer, read, ticket } = client;
    let stream = Wire::new(UnixStream::from_std(StdStream::from(socket))?, read);
    let service = service_fn(|request| {
        let rights = serving.allowed.borrow().rights(peer);
        answer(request, Writer { peer, rights }, serving)
    });
    let mut served = pin!(server().serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = served.as_mut() => served,
        _ = stop.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    drop(ticket);
    served.map_err(io::Error::other)
}

async fn answer(request: Request<Incoming>, who: Writer, serving: &Serving) -> Result<Answer, Infallible> {
    // Who is not allowed learns nothing more, not even which paths there are.
    let refused = permitted(request.uri().path(), &who).err().map(|why| refusal(&why));
    let answered = match refused.or_else(|| refused_by_head(&request, &ROUTES)) {
        Some(refused) if request.uri().path() == USAGE => tell_refusal(refused, &serving.core),
        Some(refused) => Ok(refused),
        None => route(request, who, serving).await,
    };
    Ok(answered.unwrap_or_else(|Gone| {
        refusal(&Refusal { code: Code::ShuttingDown, message: "the agent is stopping".into(), index: None })
    }))
}

/// Whether `who` may have an answer from `path`. Whether the agent is well, and how it is spoken to, is for everybody who
/// may do anything here.
fn permitted(path: &str, who: &Writer) -> Result<(), Refusal> {
    match path {
        USAGE => who.may_write(),
        "/v1/status" | "/v1/records" | "/v1/gate" | "/metrics" => who.may_read(),
        _ => who.may_ask(),
    }
}

async fn route(request: Request<Incoming>, who: Writer, serving: &Serving) -> Result<Answer, Gone> {
    let core = &serving.core;
    Ok(match request.uri().path() {
        USAGE => usage(request, who, core).await?,
        "/v1/status" => json_answer(StatusCode::OK, &*core.ask(Command::Status).await?),
        "/v1/records" => match serving.great.take(who.peer.uid) {
            Ok(permit) => records(core, permit).await?,
            Err(message) => refusal(&Refusal { code: Code::Overloaded, message, index: None }),
        },
        "/v1/gate" => json_answer(StatusCode::OK, &core.ask(Command::Gate).await?),
        "/metrics" => {
            let figures = core.ask(Command::Metrics).await?;
            with(StatusCode::OK, HeaderValue::from_static(metrics::CONTENT_TYPE), metrics::text(&figures))
        }
        "/v1/openapi.json" => with(StatusCode::OK, JSON, OPENAPI),
        "/healthz" => {
            let ready = core.ask(Command::Ready).await?;
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json_answer(status, &serde_json::json!({ "ready": ready }))
        }
        _ => not_found(&ROUTES),
    })
}

async fn usage(request: Request<Incoming>, writer: Writer, core: &Handle) -> Result<Answer, Gone> {
    let body = match body(request, LINE_BYTES_MAX).await {
        Ok(body) => body,
        Err(refused) => return tell_refusal(refused, core),
    };
    let (array, answer) = core.ask(|reply| Command::Take { writer, body, reply }).await?;
    Ok(match answer {
        Ok(_) => {
            let mut line = Vec::new();
            protocol::write_answer(array, &answer, &mut line);
            with(StatusCode::OK, JSON, line)
        }
        Err(why) => refusal(&why),
    })
}

/// Has usage that HTTP itself refuses counted as what a line refuses.
fn tell_refusal(refused: Answer, core: &Handle) -> Result<Answer, Gone> {
    let code = match refused.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::FORBIDDEN => Code::NotAllowed,
        _ => Code::BadRequest,
    };
    core.tell(Command::Refused(code))?;
    Ok(refused)
}

async fn records(core: &Handle, permit: Permit) -> Result<Answer, Gone> {
    let read = core.ask(Command::Records).await?;
    // Some of the records would look like all of them: it is all or, for a while, none.
    Ok(match read.and_then(|(current, history)| view::records(current, history)) {
        Ok(records) => {
            let held = Held { bytes: json_bytes(&records), _permit: permit };
            with(StatusCode::OK, JSON, Bytes::from_owner(held))
        }
        Err(message) => refusal(&Refusal { code: Code::NotReady, message, index: None }),
    })
}
