//! The core's loop: one thread that owns the engine and the socket.
//!
//! A turn reads every connection that is ready, takes its lines into the log's batch, syncs once, and answers
//! everybody. No hand-over between threads stands between a writer and its `ok`, and many small clients share a sync.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::{Notify, mpsc::UnboundedSender, oneshot, watch};

use super::commands::Command;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::engine::{Code, Engine, Refusal, Taken};
use crate::entry::Peer;
use crate::hour::Timestamp;
use crate::ingest::connection::{Connection, READ_BYTES_PER_TURN, Turn};
use crate::ingest::listener::peer;
use crate::ingest::protocol::{self, Line};
use crate::status;
use crate::wal::LogError;

/// Most connections at once.
pub const CONNECTIONS_MAX: usize = 1024;
/// After this long without an append the log gets a mark that proves its last batch durable.
const IDLE_MARK_AFTER: Duration = Duration::from_secs(1);
/// How long to wait before trying again what found the disk full.
const ROOM_RETRY: Duration = Duration::from_secs(1);
/// Commands taken in one turn, so that they cannot starve the socket.
const COMMANDS_PER_TURN: usize = 256;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(2);
const FIRST_CLIENT: usize = 3;

/// A connection that speaks HTTP, on its way to the HTTP server.
pub struct HttpClient {
    /// The connection.
    pub socket: OwnedFd,
    /// Who is on the other end.
    pub peer: Peer,
    /// What was read of it already.
    pub read: Vec<u8>,
}

/// How the core is wired to the rest.
pub struct Wiring {
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Whether that clock is one of its own.
    pub own_clock: bool,
    /// Where other threads ask.
    pub commands: Receiver<Command>,
    /// Where HTTP connections go.
    pub http: UnboundedSender<HttpClient>,
    /// Rung when records were sealed.
    pub sealed: Arc<Notify>,
    /// Set when the agent is to stop.
    pub stop: watch::Sender<bool>,
    /// Readable when a signal came that asks to stop.
    pub signals: std::os::unix::net::UnixStream,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Asked to, with everything durable.
    Stopped,
    /// The log takes nothing more.
    DiskFailed(String),
}

struct Client {
    stream: UnixStream,
    peer: Peer,
    /// `None` until the first byte tells which protocol it speaks.
    lines: Option<Connection>,
    wants_write: bool,
    /// It writes no more. The kernel tells that once, perhaps together with its last bytes.
    half_closed: bool,
    ended: bool,
}

type Staged = (oneshot::Sender<(bool, Result<Taken, Refusal>)>, bool, Result<Taken, Refusal>);

/// The loop's state.
pub struct Core<D: Disk> {
    engine: Engine<D>,
    wiring: Wiring,
    poll: Poll,
    listener: Option<UnixListener>,
    signals: UnixStream,
    clients: HashMap<Token, Client>,
    next_token: usize,
    /// Connections that may have something to read.
    ready: VecDeque<Token>,
    /// The same, to keep them apart.
    queued: HashSet<Token>,
    chunk: Vec<u8>,
    staged: Vec<Staged>,
    started: Timestamp,
    /// When the last batch was written, until its mark has been.
    unmarked_since: Option<Instant>,
    stopping: bool,
}

/// Makes what `Core` polls with, and the waker that other threads use.
pub fn poll() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    Ok((poll, waker))
}

impl<D: Disk> Core<D> {
    /// Puts the loop together around a recovered engine.
    pub fn new(engine: Engine<D>, listener: StdListener, poll: Poll, wiring: Wiring) -> io::Result<Self> {
        let mut listener = UnixListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        wiring.signals.set_nonblocking(true)?;
        let mut signals = UnixStream::from_std(wiring.signals.try_clone()?);
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(Core {
            started: wiring.clock.now(),
            engine,
            wiring,
            poll,
            listener: Some(listener),
            signals,
            clients: HashMap::new(),
            next_token: FIRST_CLIENT,
            ready: VecDeque::new(),
            queued: HashSet::new(),
            chunk: vec![0; READ_BYTES_PER_TURN],
            staged: Vec::new(),
            unmarked_since: None,
            stopping: false,
        })
    }

    /// Runs until asked to stop or the disk fails.
    pub fn run(mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(256);
        let mut submitter_done = false;
        let mut tick_at = self.wiring.clock.now();
        loop {
            self.wait(&mut events, tick_at)?;
            let now = self.wiring.clock.now();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    SIGNALS => self.begin_to_stop(),
                    token => {
                        if event.is_read_closed()
                            && let Some(client) = self.clients.get_mut(&token)
                        {
                            client.half_closed = true;
                        }
                        self.queue(token);
                    }
                }
            }
            let turn = self
                .turn(now, &mut submitter_done)
                .and_then(|()| if now >= tick_at { self.tick(now).map(|next| tick_at = next) } else { Ok(()) });
            if let Err(error) = turn {
                self.fail_everybody(&error.to_string());
                return Ok(Ended::DiskFailed(error.to_string()));
            }
            if self.stopping && submitter_done {
                return Ok(match self.stop() {
                    Ok(()) => Ended::Stopped,
                    Err(error) => Ended::DiskFailed(error.to_string()),
                });
            }
        }
    }

    fn wait(&mut self, events: &mut Events, tick_at: Timestamp) -> io::Result<()> {
        let clock = &self.wiring.clock;
        let mut timeout = clock.real(tick_at.since(clock.now())).max(Duration::from_millis(1));
        if let Some(since) = self.unmarked_since {
            timeout = timeout.min(IDLE_MARK_AFTER.saturating_sub(since.elapsed()));
        }
        if !self.ready.is_empty() {
            timeout = Duration::ZERO;
        }
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    /// Takes what is there, commits once, answers.
    fn turn(&mut self, now: Timestamp, submitter_done: &mut bool) -> Result<(), LogError> {
        for _ in 0..COMMANDS_PER_TURN {
            match self.wiring.commands.try_recv() {
                Ok(Command::SubmitterDone) => *submitter_done = true,
                Ok(command) => self.obey(command, now)?,
                Err(_) => break,
            }
        }
        let before = self.engine.log().next_seq();
        let touched = self.read_ready(now);
        self.engine.commit(now)?;
        if self.engine.log().next_seq() != before {
            self.unmarked_since = Some(Instant::now());
        }
        for (reply, array, answer) in self.staged.drain(..) {
            // A client that has gone does not hear it.
            let _ = reply.send((array, answer));
        }
        for token in touched {
            self.answer(token);
        }
        if self.unmarked_since.is_some_and(|since| since.elapsed() >= IDLE_MARK_AFTER) {
            self.engine.idle(now)?;
            self.unmarked_since = None;
        }
        Ok(())
    }

    /// Seals and closes what is due; when to come back.
    fn tick(&mut self, now: Timestamp) -> Result<Timestamp, LogError> {
        match self.engine.tick(now) {
            Ok(()) => {
                self.wiring.sealed.notify_one();
                let next = self.engine.next_tick(now);
                // Something that stays due (no instance yet) is looked at again in a while.
                Ok(next.max(now.plus(Duration::from_secs(1))))
            }
            Err(LogError::Full(why)) => {
                tracing::warn!(why, "no room to seal; trying again");
                Ok(now.plus(ROOM_RETRY))
            }
            Err(poisoned) => Err(poisoned),
        }
    }

    fn obey(&mut self, command: Command, now: Timestamp) -> Result<(), LogError> {
        match command {
            Command::Take { peer, body, reply } => {
                let (array, answer) = match protocol::parse(&body) {
                    Ok(Line::One(new)) => (false, self.engine.take(peer, &new, now)),
                    Ok(Line::Many(news)) => (true, self.engine.take_all(peer, &news, now)),
                    Err(refusal) => (false, Err(refusal)),
                };
                self.staged.push((reply, array, answer));
            }
            Command::NextSending(reply) => {
                let sending = self.engine.next_sending(now);
                let poisoned = poison(&sending);
                let _ = reply.send(sending);
                poisoned?;
            }
            Command::Answered(key, answer, reply) => {
                let written = self.engine.answered(key, &answer, now);
                let poisoned = poison(&written);
                let _ = reply.send(written);
                poisoned?;
            }
            Command::Probed(answer) => self.engine.probed(&answer, now),
            Command::Instance(name) => {
                tracing::info!(name, "instance metadata names this instance");
                if let Err(error) = self.engine.set_instance(name, now) {
                    tracing::error!(%error, "the instance's name cannot be written down");
                }
            }
            Command::Status(reply) => {
                let view = status::status(&self.engine, self.started, now, self.wiring.own_clock);
                let _ = reply.send(Box::new(view));
            }
            Command::Records(reply) => {
                let current = self.engine.state().records.values().cloned().collect();
                let _ = reply.send((current, self.engine.index().history()));
            }
            Command::SubmitterDone => {}
        }
        Ok(())
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            let (mut stream, _) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    return;
                }
            };
            let Ok(peer) = peer(&stream) else { continue };
            let token = Token(self.next_token);
            self.next_token += 1;
            let mut client = Client {
                peer,
                lines: None,
                wants_write: false,
                half_closed: false,
                ended: false,
                stream: {
                    if self.poll.registry().register(&mut stream, token, Interest::READABLE).is_err() {
                        continue;
                    }
                    stream
                },
            };
            if self.clients.len() >= CONNECTIONS_MAX {
                let mut lines = Connection::new(peer, Vec::new());
                lines.refuse(Code::Overloaded, format!("{CONNECTIONS_MAX} connections are open; close some"));
                lines.committed();
                // It is closed either way.
                let _ = lines.flush(&mut client.stream);
                continue;
            }
            self.clients.insert(token, client);
            self.queue(token);
        }
    }

    fn queue(&mut self, token: Token) {
        if self.clients.contains_key(&token) && self.queued.insert(token) {
            self.ready.push_back(token);
        }
    }

    /// A turn with every connection that is ready; those that may have answers waiting.
    fn read_ready(&mut self, now: Timestamp) -> Vec<Token> {
        let mut touched = Vec::with_capacity(self.ready.len());
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            self.queued.remove(&token);
            if !self.choose_protocol(token) {
                continue;
            }
            let Some(client) = self.clients.get_mut(&token) else { continue };
            let Some(lines) = &mut client.lines else { continue };
            match lines.turn(&mut client.stream, &mut self.chunk, &mut self.engine, now) {
                // Behind the last bytes stands the end, for which no further event comes.
                Turn::Drained if client.half_closed => self.queue(token),
                Turn::Drained | Turn::Full => {}
                Turn::More => self.queue(token),
                Turn::Ended => client.ended = true,
            }
            touched.push(token);
        }
        touched
    }

    /// Reads the first bytes of a new connection, which tell its protocol; whether it is (now) one of JSON lines.
    fn choose_protocol(&mut self, token: Token) -> bool {
        let Some(client) = self.clients.get_mut(&token) else { return false };
        if client.lines.is_some() {
            return true;
        }
        let read = match client.stream.read(&mut self.chunk) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return false;
            }
            Ok(0) | Err(_) => {
                self.close(token);
                return false;
            }
            Ok(n) => self.chunk.get(..n).unwrap_or(&[]).to_vec(),
        };
        match read.first() {
            Some(b) if b.is_ascii_alphabetic() => {
                self.hand_over(token, read);
                false
            }
            Some(b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n') => {
                client.lines = Some(Connection::new(client.peer, read));
                true
            }
            _ => {
                let mut lines = Connection::new(client.peer, Vec::new());
                lines.refuse(Code::BadRequest, "begin with a JSON object or array, or with an HTTP request".into());
                client.lines = Some(lines);
                client.ended = true;
                self.answer(token);
                false
            }
        }
    }

    fn hand_over(&mut self, token: Token, read: Vec<u8>) {
        let Some(mut client) = self.clients.remove(&token) else { return };
        if self.poll.registry().deregister(&mut client.stream).is_ok() {
            let gone = HttpClient { socket: OwnedFd::from(client.stream), peer: client.peer, read };
            // A server that is gone closes it.
            let _ = self.wiring.http.send(gone);
        }
    }

    /// Sends a connection's answers, whose commit has succeeded.
    fn answer(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let Some(lines) = &mut client.lines else { return };
        lines.committed();
        match lines.flush(&mut client.stream) {
            Err(_) => self.close(token),
            Ok(true) if client.ended => self.close(token),
            Ok(all) => {
                // Interest in writing only while it is needed: each answer that is read would wake the loop otherwise.
                if all == client.wants_write {
                    let interest = if all { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
                    client.wants_write = !all;
                    if self.poll.registry().reregister(&mut client.stream, token, interest).is_err() {
                        self.close(token);
                        return;
                    }
                    if all {
                        // Reading may have paused for this client while it did not read.
                        self.queue(token);
                    }
                }
            }
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(mut client) = self.clients.remove(&token) {
            // Dropping it closes it, registered or not.
            let _ = self.poll.registry().deregister(&mut client.stream);
        }
        self.queued.remove(&token);
    }

    fn begin_to_stop(&mut self) {
        let mut signals = [0u8; 64];
        let _ = self.signals.read(&mut signals);
        if !self.stopping {
            tracing::info!("stopping: no new connections, finishing what is under way");
            self.stopping = true;
            if let Some(mut listener) = self.listener.take() {
                let _ = self.poll.registry().deregister(&mut listener);
            }
            // A submitter that has gone already needs no telling.
            let _ = self.wiring.stop.send(true);
        }
    }

    /// Takes what the writers have sent so far, answers it, and closes the log in order.
    fn stop(mut self) -> Result<(), LogError> {
        let now = self.wiring.clock.now();
        let tokens: Vec<Token> = self.clients.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.queue(token));
        while !self.ready.is_empty() {
            self.turn(now, &mut true)?;
        }
        self.engine.stop(now)
    }

    /// The disk failed: nobody is left waiting.
    fn fail_everybody(&mut self, why: &str) {
        for client in self.clients.values_mut() {
            if let Some(lines) = &mut client.lines {
                lines.failed(why);
                // A client that has gone does not hear it.
                let _ = lines.flush(&mut client.stream);
            }
        }
        for (reply, array, _) in self.staged.drain(..) {
            let refusal = Refusal { code: Code::NotDurable, message: why.to_owned(), index: None };
            let _ = reply.send((array, Err(refusal)));
        }
    }
}

/// The error that ends the agent, if it is that one: a full disk heals.
fn poison<T>(result: &Result<T, LogError>) -> Result<(), LogError> {
    match result {
        Err(error @ LogError::Poisoned(_)) => Err(error.clone()),
        _ => Ok(()),
    }
}
