//! One client that speaks JSON lines: its buffers, its limits, and the answers that wait for the commit.

use std::io::{self, Read, Write};

use super::allow::{Rights, Writer};
use super::protocol::{self, LINE_BYTES_MAX, OK_PREFIX};
use super::taker::{self, Taker};
use crate::engine::{Code, Refusal};
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

/// What a turn brought, for whoever decides whose turn is next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// Bytes read.
    pub bytes: usize,
    /// Lines taken.
    pub taken: u32,
    /// Lines refused.
    pub refused: u32,
}

/// A connection's buffers.
#[derive(Debug)]
pub struct Connection {
    writer: Writer,
    /// Read and not yet taken: at most one turn's bytes.
    input: Vec<u8>,
    /// Answers. Up to `promised` they may be sent; behind it they wait for the commit.
    output: Vec<u8>,
    promised: usize,
    ended: bool,
    /// Its own [`ANSWER_BYTES_MAX`], or less while memory is tight.
    answers_max: usize,
    brought: Brought,
}

impl Connection {
    /// A connection of `writer` from which `input` has been read already.
    pub fn new(writer: Writer, input: Vec<u8>) -> Self {
        let (answers_max, brought) = (ANSWER_BYTES_MAX, Brought::default());
        Connection { writer, input, output: Vec::new(), promised: 0, ended: false, answers_max, brought }
    }

    /// What its writer may do from the next line on.
    pub fn allow(&mut self, rights: Rights) {
        self.writer.rights = rights;
    }

    /// What the last turn brought.
    pub fn brought(&self) -> Brought {
        self.brought
    }

    /// Is read from no further while more than so many bytes of answers wait.
    pub fn limit_answers(&mut self, bytes: usize) {
        self.answers_max = bytes;
    }

    /// Bytes of memory that it holds.
    pub fn held(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }

    /// Gives back what it does not use.
    pub fn shrink(&mut self) {
        self.input.shrink_to_fit();
        self.output.shrink_to_fit();
    }

    /// Reads once, as much as `chunk` holds, and takes every whole line into the taker's batch. Answers wait for
    /// [`Self::committed`].
    pub fn turn(&mut self, stream: &mut impl Read, chunk: &mut [u8], taker: &mut impl Taker, now: Timestamp) -> Turn {
        self.brought = Brought::default();
        if self.ended {
            // Only its answers are still to go; what else it sends is not read.
            return Turn::Ended;
        }
        if self.output.len() > self.answers_max {
            return Turn::Full;
        }
        let used = self.take_buffered(chunk.len(), taker, now);
        if used > 0 {
            self.brought.bytes = used;
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
        self.brought.bytes = n;
        let read = chunk.get(..n).unwrap_or(&[]);
        if self.input.is_empty() {
            // The usual case takes the lines where they were read; only the rest is copied.
            let used = self.take_lines(read, usize::MAX, taker, now);
            self.input.extend_from_slice(read.get(used..).unwrap_or(&[]));
        } else {
            self.input.extend_from_slice(read);
            self.take_buffered(usize::MAX, taker, now);
        }
        if self.ended {
            Turn::Ended
        } else if filled || self.output.len() > self.answers_max {
            Turn::More
        } else {
            Turn::Drained
        }
    }

    /// Takes lines that were read before, `most` bytes of them or one line more; how many bytes.
    fn take_buffered(&mut self, most: usize, taker: &mut impl Taker, now: Timestamp) -> usize {
        let mut input = std::mem::take(&mut self.input);
        let used = self.take_lines(&input, most, taker, now);
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
        used
    }

    /// Takes whole lines from `bytes` until they end, `most` bytes were used, or too many answers wait; how many bytes were
    /// used.
    fn take_lines(&mut self, bytes: &[u8], most: usize, taker: &mut impl Taker, now: Timestamp) -> usize {
        let mut used = 0;
        while !self.ended && used < most && self.output.len() <= self.answers_max {
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
        let (array, answer) = taker::take(taker, &self.writer, line, now);
        *(if answer.is_ok() { &mut self.brought.taken } else { &mut self.brought.refused }) += 1;
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
