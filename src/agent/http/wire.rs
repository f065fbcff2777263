//! The stream below hyper. It gives out first what was read to tell the protocol, and puts words to the answers that hyper
//! gives by itself: to a head it cannot read it answers without a body, and nobody learns why. And it gives up on a client
//! that does not read its answer.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep};

use super::reply::problem;

/// How long a client may take to read an answer, counted from when the socket's buffer was full first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection, as hyper reads and writes it.
pub(in crate::agent) struct Wire {
    read: Vec<u8>,
    at: usize,
    stream: UnixStream,
    /// Being sent in place of an answer of hyper's own, and how much of it has gone.
    instead: Option<(Vec<u8>, usize)>,
    /// Runs while an answer waits for its reader; a byte now and then does not stop it.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// `read` has been read from `stream` already.
    pub(in crate::agent) fn new(stream: UnixStream, read: Vec<u8>) -> Self {
        Wire { read, at: 0, stream, instead: None, waiting: None }
    }

    /// What a write came to, or that it has waited for too long.
    fn in_time(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }

    /// Sends what stands in place of the answer `of`, if anything does.
    fn poll_instead(&mut self, of: &[u8], cx: &mut Context<'_>) -> Poll<Option<io::Result<usize>>> {
        if self.instead.is_none() {
            self.instead = instead_of(of).map(|answer| (answer, 0));
        }
        let Some((answer, sent)) = &mut self.instead else { return Poll::Ready(None) };
        while let Some(rest) = answer.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(n) => *sent += n,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        self.instead = None;
        Poll::Ready(Some(Ok(of.len())))
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
        self.as_mut().poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Head and body are not copied into one: a great answer exists once.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let head = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        let written = match this.poll_instead(head, cx) {
            Poll::Ready(None) => Pin::new(&mut this.stream).poll_write_vectored(cx, bufs),
            Poll::Ready(Some(sent)) => Poll::Ready(sent),
            Poll::Pending => Poll::Pending,
        };
        this.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has nothing more to write.
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
