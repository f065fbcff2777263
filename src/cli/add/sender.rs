//! From standard input to the agent, ahead of the answers. One line and one buffer in memory, whatever the input.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::increment;
use crate::ingest::protocol::LINE_BYTES_MAX;

/// What is sent in one write.
const BUFFER_BYTES: usize = 64 * 1024;

/// Lines of the input that the agent does not get, and so does not answer.
pub struct Gap {
    /// They stand behind this many lines that it gets.
    pub behind: u64,
    /// Empty ones.
    pub blank: u64,
    /// Whether one follows them that is longer than the agent takes.
    pub too_long: bool,
}

/// How far the sender is.
#[derive(Clone, Default)]
pub struct Delivered {
    /// Lines that were read, for the display.
    pub read: Arc<AtomicU64>,
    /// Whole lines that the socket took. Locked while it takes some, so that nobody sees a number that is behind.
    socket: Arc<Mutex<u64>>,
}

impl Delivered {
    /// Whole lines that the socket has taken.
    pub fn lines(&self) -> u64 {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending half.
pub struct Sender {
    socket: UnixStream,
    buffer: Vec<u8>,
    gaps: mpsc::Sender<Gap>,
    delivered: Delivered,
    interrupted: Arc<AtomicBool>,
    read: u64,
    blank: u64,
}

impl Sender {
    pub fn new(
        socket: UnixStream,
        gaps: mpsc::Sender<Gap>,
        delivered: Delivered,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        Sender { socket, buffer: Vec::with_capacity(BUFFER_BYTES), gaps, delivered, interrupted, read: 0, blank: 0 }
    }

    /// Sends all of standard input, each line as soon as no other waits behind it.
    pub fn send_all(mut self) -> io::Result<()> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, io::stdin().lock());
        let mut line = Vec::new();
        // One byte more than a line may have, so that a longer one can be told.
        while input.by_ref().take(LINE_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)? > 0 {
            let is_whole = line.last() == Some(&b'\n');
            if !is_whole && line.len() > LINE_BYTES_MAX {
                input.skip_until(b'\n')?;
            } else if !is_whole && self.interrupted.load(Ordering::Acquire) {
                // Ctrl-C ends also whoever wrote it, in the middle of a line perhaps: 1 may be the half of 10.
                break;
            }
            self.take(line.trim_ascii());
            line.clear();
            // Whoever writes a line now and then wants each of them on disk, not the last sixty thousand bytes' worth.
            if memchr::memchr(b'\n', input.buffer()).is_none() || self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn take(&mut self, text: &[u8]) {
        if text.is_empty() {
            self.blank += 1;
            return;
        }
        let begun = self.buffer.len();
        match text.first() {
            Some(b'{' | b'[') => self.buffer.extend(text),
            _ => self.buffer.extend(from_words(text)),
        }
        let too_long = self.buffer.len() - begun > LINE_BYTES_MAX;
        if too_long || self.blank > 0 {
            // Nobody listens only where nobody counts any more.
            let _ = self.gaps.send(Gap { behind: self.read, blank: self.blank, too_long });
            self.blank = 0;
        }
        if too_long {
            self.buffer.truncate(begun);
        } else {
            self.buffer.push(b'\n');
            self.read += 1;
            self.delivered.read.store(self.read, Ordering::Relaxed);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let mut delivered = self.delivered.socket.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = match self.socket.write(rest) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                taken => taken?,
            };
            let (gone, left) = rest.split_at(taken);
            *delivered += memchr::memchr_iter(b'\n', gone).count() as u64;
            rest = left;
        }
        self.buffer.clear();
        Ok(())
    }
}

/// `DIMENSION [QUANTITY [KEY]]` as an increment; anything else as it is, behind a space, for a letter would open HTTP: the
/// agent says what is wrong with it, in its place among the answers.
fn from_words(text: &[u8]) -> Vec<u8> {
    let words = str::from_utf8(text).map(|text| text.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let fields = match *words {
        [dimension] => increment(dimension, None, None),
        [dimension, quantity] => increment(dimension, Some(quantity), None),
        [dimension, quantity, key] => increment(dimension, Some(quantity), Some(key)),
        _ => return [b" ", text].concat(),
    };
    Value::Object(fields).to_string().into_bytes()
}
