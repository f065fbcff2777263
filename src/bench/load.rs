//! The load: so many connections in one event loop, which costs little beside what is to be measured.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net;
use std::path::Path;
use std::time::{Duration, Instant};

use memchr::{memchr, memchr_iter};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

use super::figures::Slice;
use super::raw::one_by_one;
use super::words::Words;

/// How many are written at once where nobody waits for answers.
pub const STREAM: usize = 2000;
/// How long no answer may come before that is an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody who wants to stop is heard while nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is asked of whom.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// Its socket.
    pub socket: &'a Path,
    /// How many connections; one that waits for its answers does so without an event loop.
    pub connections: usize,
    /// How many each sends at once: with 1 it waits for the answer before it asks again, with more it sends as fast as it
    /// is read, and reads answers meanwhile.
    pub at_once: usize,
    /// What.
    pub words: &'a Words,
}

impl Load<'_> {
    /// Asks for `span`, and waits for the last answers. Numbers begin at `next`, which then is the one to go on with;
    /// `stop` is asked now and then whether to give up. A refusal is an error.
    pub fn run(&self, span: Duration, next: &mut u64, stop: &dyn Fn() -> bool) -> Result<Slice, String> {
        let measured = match (self.connections, self.at_once) {
            (1, 1) => {
                net::UnixStream::connect(self.socket).and_then(|stream| alone(stream, self.words, span, next, stop))
            }
            _ => self.asked(span, next, stop),
        };
        measured.map_err(|error| format!("the load on {}: {error}", self.socket.display()))
    }

    fn asked(&self, span: Duration, next: &mut u64, stop: &dyn Fn() -> bool) -> io::Result<Slice> {
        let mut poll = Poll::new()?;
        let mut asking: Vec<Asking<'_>> =
            (0..self.connections).map(|at| Asking::connect(*self, &poll, Token(at))).collect::<io::Result<_>>()?;
        let mut buf = vec![0; if self.at_once > 1 { 256 * 1024 } else { 4096 }];
        let (mut events, mut slice) = (Events::with_capacity(self.connections), Slice::default());
        let started = Instant::now();
        let mut heard = started;
        for asking in &mut asking {
            asking.ask(true, next)?;
        }
        loop {
            // With more to do already, only a look.
            let wait = if asking.iter().any(|a| a.ready) { Duration::ZERO } else { LOOK_EVERY };
            match poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                polled => polled?,
            }
            for event in &events {
                if let Some(asking) = asking.get_mut(event.token().0) {
                    asking.ready = true;
                }
            }
            let now = Instant::now();
            if stop() {
                return Err(interrupted());
            }
            let more = now.duration_since(started) < span;
            for asking in asking.iter_mut().filter(|a| a.ready) {
                if asking.turn(more, next, &mut buf, &mut slice)? {
                    heard = now;
                }
            }
            if !more && asking.iter().all(Asking::is_done) {
                break;
            }
            if now.duration_since(heard) > PATIENCE {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("no answer for {} s", PATIENCE.as_secs())));
            }
        }
        slice.lasted = started.elapsed();
        slice.done = asking.iter().map(|asking| asking.answered).sum();
        Ok(slice)
    }
}

/// One connection that waits for each answer, without an event loop, as a program with one thing to do would.
pub fn alone(
    mut stream: net::UnixStream,
    words: &Words,
    span: Duration,
    next: &mut u64,
    stop: &dyn Fn() -> bool,
) -> io::Result<Slice> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut asked, mut answer) = (words.one.clone(), [0; 4096]);
    one_by_one(span, || {
        if stop() {
            return Err(interrupted());
        }
        words.renumber(&mut asked, *next);
        *next += 1;
        stream.write_all(&asked)?;
        let mut have = 0;
        while memchr(words.last, answer.get(..have).unwrap_or_default()).is_none() {
            match stream.read(answer.get_mut(have..).unwrap_or_default()) {
                Ok(0) => return Err(closed()),
                Err(error) if error.kind() == ErrorKind::Interrupted && !stop() => {}
                read => have += read?,
            }
        }
        let answer = answer.get(..have).unwrap_or_default();
        if answer.starts_with(words.good) { Ok(()) } else { Err(refused(answer)) }
    })
}

fn refused(answer: &[u8]) -> io::Error {
    let shown = answer.get(..answer.len().min(400)).unwrap_or_default();
    io::Error::other(format!("refused: {}", String::from_utf8_lossy(shown).trim_end()))
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")
}

fn interrupted() -> io::Error {
    io::Error::new(ErrorKind::Interrupted, "interrupted")
}

/// One connection.
struct Asking<'a> {
    stream: UnixStream,
    load: Load<'a>,
    /// What is being sent, and how much of it has gone.
    chunk: Vec<u8>,
    sent: usize,
    asked: u64,
    answered: u64,
    /// Of each chunk on its way the number of its last answer, and when it was begun.
    waiting: VecDeque<(u64, Instant)>,
    /// Whether what is read next may be anything but the beginning of an answer.
    midway: bool,
    /// Whether it may be read or written without waiting.
    ready: bool,
}

impl<'a> Asking<'a> {
    fn connect(load: Load<'a>, poll: &Poll, token: Token) -> io::Result<Asking<'a>> {
        let mut stream = UnixStream::connect(load.socket)?;
        let streams = load.at_once > 1;
        let interest = if streams { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        poll.registry().register(&mut stream, token, interest)?;
        let chunk = load.words.chunk(load.at_once, 0);
        let sent = chunk.len();
        let (waiting, midway, ready) = (VecDeque::new(), false, false);
        Ok(Asking { stream, load, chunk, sent, asked: 0, answered: 0, waiting, midway, ready })
    }

    /// Whether all that was begun is answered.
    fn is_done(&self) -> bool {
        self.sent == self.chunk.len() && self.answered == self.asked
    }

    /// Sends on, or the next chunk if there is to be `more`; whether any of it went.
    fn ask(&mut self, more: bool, next: &mut u64) -> io::Result<bool> {
        if self.sent == self.chunk.len() {
            if !more {
                return Ok(false);
            }
            self.load.words.renumber(&mut self.chunk, *next);
            *next += self.load.at_once as u64;
            self.asked += self.load.at_once as u64;
            self.waiting.push_back((self.asked, Instant::now()));
            self.sent = 0;
        }
        match self.stream.write(self.chunk.get(self.sent..).unwrap_or_default()) {
            Ok(n) => {
                self.sent += n;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what answers there are, once; whether there were any.
    fn hear(&mut self, buf: &mut [u8], slice: &mut Slice) -> io::Result<bool> {
        let read = match self.stream.read(buf) {
            Ok(0) => return Err(closed()),
            Ok(n) => buf.get(..n).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let words = self.load.words;
        // Within a stream they are not looked at: what is refused there is missing in the agent's own count.
        if !self.midway && !read.starts_with(words.good) {
            return Err(refused(read));
        }
        self.answered += memchr_iter(words.last, read).count() as u64;
        self.midway = self.answered < self.asked;
        if self.waiting.front().is_some_and(|(last, _)| *last <= self.answered) {
            let now = Instant::now();
            while let Some((_, begun)) = self.waiting.front().filter(|(last, _)| *last <= self.answered) {
                slice.took(now - *begun);
                self.waiting.pop_front();
            }
        }
        Ok(true)
    }

    /// Reads and writes as far as it goes at once; whether any answer came.
    fn turn(&mut self, more: bool, next: &mut u64, buf: &mut [u8], slice: &mut Slice) -> io::Result<bool> {
        let heard = self.hear(buf, slice)?;
        if self.load.at_once == 1 {
            // Its next answer comes with an event of its own.
            self.ready = false;
            if self.is_done() {
                self.ask(more, next)?;
            }
        } else {
            let asked = self.ask(more, next)?;
            self.ready = heard || asked;
        }
        Ok(heard)
    }
}
