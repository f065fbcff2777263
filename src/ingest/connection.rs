//! One client that speaks JSON lines: its buffers, its limits, and the answers that wait for the commit.

use std::io::{self, Read, Write};

use super::protocol::{self, LINE_BYTES_MAX, OK_PREFIX};
use super::taker::{self, Taker};
use crate::engine::{Code, Refusal};
use crate::entry::Peer;
use crate::hour::Timestamp;

/// Most bytes read from one connection before the others have their turn.
pub const READ_BYTES_PER_TURN: usize = 256 * 1024;
/// A client that does not read its answers is not read from while more than this waits for it.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How a turn with a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// All that was there has been taken; the kernel tells when there is more.
    Drained,
    /// There is more to take at once.
    More,
    /// The client must read first.
    Full,
    /// Nothing more comes; close it once its answers are out.
    Ended,
}

/// A connection's buffers.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    /// Read and not yet taken: at most one turn's bytes.
    input: Vec<u8>,
    /// Answers. Up to `promised` they may be sent; behind it they wait for the commit.
    output: Vec<u8>,
    promised: usize,
    ended: bool,
}

impl Connection {
    /// A connection of `peer` from which `input` has been read already.
    pub fn new(peer: Peer, input: Vec<u8>) -> Self {
        Connection { peer, input, output: Vec::new(), promised: 0, ended: false }
    }

    /// Reads once and takes every whole line, into the taker's batch. Answers wait for [`Self::committed`].
    pub fn turn(&mut self, stream: &mut impl Read, chunk: &mut [u8], taker: &mut impl Taker, now: Timestamp) -> Turn {
        if self.ended {
            // Only its answers are still to go; what else it sends is not read.
            return Turn::Ended;
        }
        if self.output.len() > ANSWER_BYTES_MAX {
            return Turn::Full;
        }
        if self.take_buffered(taker, now) {
            return if self.ended { Turn::Ended } else { Turn::More };
        }
        let n = match stream.read(chunk) {
            Ok(0) => {
                // An unterminated last line is not taken: its writer may have been cut off in the middle of a number.
                self.ended = true;
                return Turn::Ended;
            }
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Turn::More,
            Err(_) => {
                self.ended = true;
                return Turn::Ended;
            }
        };
        let filled = n == chunk.len();
        let read = chunk.get(..n).unwrap_or(&[]);
        if self.input.is_empty() {
            // The usual case takes the lines where they were read; only the rest is copied.
            let used = self.take_lines(read, taker, now);
            self.input.extend_from_slice(read.get(used..).unwrap_or(&[]));
        } else {
            self.input.extend_from_slice(read);
            self.take_buffered(taker, now);
        }
        if self.ended {
            Turn::Ended
        } else if filled || self.output.len() > ANSWER_BYTES_MAX {
            Turn::More
        } else {
            Turn::Drained
        }
    }

    /// Takes lines that were read before; whether there were any.
    fn take_buffered(&mut self, taker: &mut impl Taker, now: Timestamp) -> bool {
        let input = std::mem::take(&mut self.input);
        let used = self.take_lines(&input, taker, now);
        if used == 0 {
            self.input = input;
        } else {
            self.input = input.get(used..).unwrap_or(&[]).to_vec();
        }
        used > 0
    }

    /// Takes whole lines from `bytes` until they end or too many answers wait; how many bytes were used.
    fn take_lines(&mut self, bytes: &[u8], taker: &mut impl Taker, now: Timestamp) -> usize {
        let mut used = 0;
        while !self.ended && self.output.len() <= ANSWER_BYTES_MAX {
            let rest = bytes.get(used..).unwrap_or(&[]);
            let end = memchr::memchr(b'\n', rest);
            if end.unwrap_or(rest.len()) > LINE_BYTES_MAX {
                let message = format!("a line of more than {LINE_BYTES_MAX} bytes; split the array");
                protocol::write_refusal(&refusal(Code::TooLarge, message), &mut self.output);
                taker.tally().refuse(Code::TooLarge);
                self.ended = true;
                return bytes.len();
            }
            let Some(end) = end else { break };
            let line = rest.get(..end).unwrap_or(&[]);
            self.take_line(line, taker, now);
            used += end + 1;
        }
        used
    }

    fn take_line(&mut self, line: &[u8], taker: &mut impl Taker, now: Timestamp) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let (array, answer) = taker::take(taker, self.peer, line, now);
        protocol::write_answer(array, &answer, &mut self.output);
    }

    /// Refuses the connection as a whole with one line.
    pub fn refuse(&mut self, code: Code, message: String) {
        protocol::write_refusal(&refusal(code, message), &mut self.output);
        self.ended = true;
    }

    /// The increments behind every answer so far are durable: the answers may go.
    pub fn committed(&mut self) {
        self.promised = self.output.len();
    }

    /// The commit failed: no answer that promised something may go. Refusals stand.
    pub fn failed(&mut self, why: &str) {
        let waiting = self.output.split_off(self.promised);
        for answer in waiting.split_inclusive(|b| *b == b'\n') {
            if answer.starts_with(OK_PREFIX) {
                let message = format!("{why}; whether this was recorded is unknown, send it again with the same key");
                protocol::write_refusal(&refusal(Code::NotDurable, message), &mut self.output);
            } else {
                self.output.extend_from_slice(answer);
            }
        }
        self.promised = self.output.len();
    }

    /// Whether answers wait for a commit.
    pub fn is_waiting(&self) -> bool {
        self.promised < self.output.len()
    }

    /// Sends what may go; whether all of it went. An error means that the client is gone.
    pub fn flush(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let mut sent = 0;
        let result = loop {
            let waiting = self.output.get(sent..self.promised).unwrap_or(&[]);
            if waiting.is_empty() {
                break Ok(());
            }
            match stream.write(waiting) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.output.drain(..sent);
        self.promised -= sent;
        result.map(|()| self.promised == 0)
    }
}

fn refusal(code: Code, message: String) -> Refusal {
    Refusal { code, message, index: None }
}
