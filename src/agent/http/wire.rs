//! The stream below hyper. It gives out first what was read to tell the protocol, and puts words to the answers that hyper
//! gives by itself: to a head it cannot read it answers without a body, and nobody learns why.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::reply::problem;

/// A connection, as hyper reads and writes it.
pub(in crate::agent) struct Wire {
    read: Vec<u8>,
    at: usize,
    stream: UnixStream,
    /// Being sent in place of an answer of hyper's own, and how much of it has gone.
    instead: Option<(Vec<u8>, usize)>,
}

impl Wire {
    /// `read` has been read from `stream` already.
    pub(in crate::agent) fn new(stream: UnixStream, read: Vec<u8>) -> Self {
        Wire { read, at: 0, stream, instead: None }
    }
}

/// The answer to give in place of `head`, if that is one of hyper's own: all of ours have a body.
fn instead_of(head: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(head).ok().filter(|head| head.starts_with("HTTP/1.1 4"))?;
    if !head.ends_with("\r\n\r\n") || !head.contains("\r\ncontent-length: 0\r\n") {
        return None;
    }
    let status = head.lines().next()?;
    let (error, message) = match status.split(' ').nth(1)? {
        "431" => ("head_too_large", "the request's head is too large, or has more than 100 lines"),
        "414" => ("head_too_large", "the request's address is too long"),
        _ => ("bad_request", "not a request of HTTP/1.1"),
    };
    let body = format!("{}\n", problem(error, message));
    let length = body.len();
    Some(
        format!(
            "{status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .into_bytes(),
    )
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = this.read.get(this.at..).unwrap_or(&[]);
        if waiting.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let n = waiting.len().min(buf.remaining());
        buf.put_slice(waiting.get(..n).unwrap_or(&[]));
        this.at += n;
        if this.at == this.read.len() {
            (this.read, this.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() {
            this.instead = instead_of(buf).map(|answer| (answer, 0));
        }
        let Some((answer, sent)) = &mut this.instead else { return Pin::new(&mut this.stream).poll_write(cx, buf) };
        while let Some(rest) = answer.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut this.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => *sent += n,
            }
        }
        this.instead = None;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
