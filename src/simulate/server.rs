//! HTTP/1.1 with keep-alive: the service at `POST /`, its books and faults beside it. Opens and closes the listening
//! port as faults ask for.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::answer::Refusal;
use super::script::parse_runtime_faults;
use super::service::{Ending, Service};
use super::wire::Reply;

/// The largest request body: a record with 2500 allocations of five of the longest tags fits.
const BODY_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Connections at a time; more wait in the listening port's queue.
const CONNECTIONS_MAX: usize = 512;
/// That queue's length.
const BACKLOG: u32 = 1024;
/// After a failed accept or listen (no descriptors left, the port taken), before the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// The listening port.
enum Door {
    Open(TcpListener),
    /// Bound but not listening, so that connections are refused and nobody else takes the port meanwhile.
    Closed(Option<TcpSocket>),
}

/// Serves until `stop` says so or its other end is dropped.
pub async fn serve(listener: TcpListener, addr: SocketAddr, service: Arc<Service>, mut stop: oneshot::Receiver<()>) {
    let mut door = Door::Open(listener);
    let mut connections = JoinSet::new();
    let (closing, _) = watch::channel(());
    loop {
        let (port, wait, mark) = service.port();
        door = match (door, port.closed) {
            (Door::Open(listener), true) => {
                drop(listener);
                // Connections that idle are closed, requests in flight are answered first.
                closing.send_replace(());
                Door::Closed(bind(addr).ok())
            }
            (Door::Closed(socket), false) => reopen(socket, addr).await,
            (door, _) => door,
        };
        if matches!(&door, Door::Closed(_)) == port.closed {
            service.port_follows(mark);
        }
        tokio::select! {
            _ = &mut stop => return,
            () = service.port_changed() => {}
            () = sleep(wait) => {}
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            stream = accept(&door), if connections.len() < CONNECTIONS_MAX => {
                let (service, closing) = (Arc::clone(&service), closing.subscribe());
                connections.spawn(connection(stream, service, closing));
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn accept(door: &Door) -> TcpStream {
    let Door::Open(listener) = door else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The peer is gone again, or descriptors are short: neither ends the service.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

async fn reopen(socket: Option<TcpSocket>, addr: SocketAddr) -> Door {
    let socket = match socket {
        Some(socket) => Ok(socket),
        None => bind(addr),
    };
    match socket.and_then(|socket| socket.listen(BACKLOG)) {
        Ok(listener) => Door::Open(listener),
        Err(error) => {
            tracing::warn!(%addr, %error, "the simulation cannot listen again yet; trying on");
            tokio::time::sleep(PAUSE).await;
            Door::Closed(None)
        }
    }
}

async fn connection(stream: TcpStream, service: Arc<Service>, mut closing: watch::Receiver<()>) {
    let answering = service_fn(move |request| answer(Arc::clone(&service), request));
    let mut serving = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answering));
    tokio::select! {
        _ended = serving.as_mut() => return,
        _ = closing.changed() => serving.as_mut().graceful_shutdown(),
    }
    // What ends a connection (the peer left, a fault closed it) is the caller's to notice, not an error of ours.
    let _ended = serving.await;
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as scripted")]
struct Closed;

async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let message = format!("the body is cut short, or longer than {BODY_BYTES_MAX} bytes");
            let refusal = Refusal::with_status(413, "RequestEntityTooLargeException", message);
            return Ok(in_bytes(&Reply::refused(&refusal, service.now()), "-"));
        }
    };
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/") => match service.call(&head.headers, &body) {
            Ending::Answer { reply, request_id, after } => {
                tokio::time::sleep(after).await;
                Ok(in_bytes(&reply, &request_id))
            }
            Ending::Close => Err(Closed),
            Ending::Hang => {
                let never: Infallible = std::future::pending().await;
                match never {}
            }
        },
        (&Method::GET, "/ledger") => Ok(json_of(StatusCode::OK, &service.ledger())),
        (&Method::GET, "/calls") => Ok(json_of(StatusCode::OK, &json!({ "calls": service.calls() }))),
        (&Method::POST, "/faults") => {
            let added = parse_runtime_faults(&body).and_then(|faults| {
                let count = faults.len();
                service.add_faults(faults).map(|()| count)
            });
            Ok(match added {
                Ok(count) => json_of(StatusCode::OK, &json!({ "added": count })),
                Err(message) => json_of(StatusCode::BAD_REQUEST, &json!({ "message": message })),
            })
        }
        (&Method::DELETE, "/faults") => {
            service.clear_faults();
            Ok(json_of(StatusCode::OK, &json!({ "cleared": true })))
        }
        (method, path) => {
            let message = format!(
                "no {method} {path} here; there are: POST / (AWS Marketplace Metering), GET /ledger, GET /calls, \
                 POST /faults, DELETE /faults"
            );
            Ok(json_of(StatusCode::NOT_FOUND, &json!({ "message": message })))
        }
    }
}

fn in_bytes(reply: &Reply, request_id: &str) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(reply.status);
    for (name, value) in reply.headers(request_id) {
        builder = builder.header(name, value);
    }
    finished(builder.body(Full::from(reply.body.clone())))
}

fn json_of(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    finished(Response::builder().status(status).header("content-type", "application/json").body(Full::from(body)))
}

/// Every name, status and value above is valid, so the builder does not fail; if it did, an empty 500 says so.
fn finished(built: hyper::http::Result<Response<Full<Bytes>>>) -> Response<Full<Bytes>> {
    built.unwrap_or_else(|_| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}
