//! The core's side of the socket: accepting, reading in turns, answering after the commit.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::memory::Memory;
use super::pace::{LIGHT_BYTES, Manners, Pace, Passes};
use super::places::{Places, Ticket};
use crate::engine::Code;
use crate::entry::Peer;
use crate::hour::Timestamp;
use crate::ingest::allow::Allowed;
use crate::ingest::connection::{Connection, READ_BYTES_PER_TURN, Turn};
use crate::ingest::taker::Taker;
use crate::metrics::Connections;

/// The kernel sleeps no shorter when it waits for events.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// What the listening socket is known by.
pub(super) const LISTENER: Token = Token(0);
/// Connections are known by this and what follows; what lies between belongs to the loop.
const FIRST_CLIENT: usize = 16;

/// A connection that speaks HTTP, on its way to the HTTP server.
pub struct HttpClient {
    /// The connection.
    pub socket: OwnedFd,
    /// Who is on the other end.
    pub peer: Peer,
    /// What was read of it already.
    pub read: Vec<u8>,
    /// Its share of the connections that may be open.
    pub ticket: Ticket,
}

pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    /// `None` until the first byte tells which protocol it speaks.
    pub(super) lines: Option<Connection>,
    pub(super) wants_write: bool,
    /// It writes no more. The kernel tells that once, perhaps together with its last bytes.
    pub(super) half_closed: bool,
    pub(super) ended: bool,
    /// Not read from before its answers have gone.
    pub(super) paused: bool,
    /// Has not had its first turn yet, or waits for its last.
    pub(super) at_the_door: bool,
    pub(super) manners: Manners,
    /// Bytes it holds, as they were noted last.
    pub(super) held: usize,
    pub(super) ticket: Ticket,
}

/// All connections.
pub(super) struct Clients {
    pub(super) registry: Registry,
    pub(super) listener: Option<UnixListener>,
    /// A connection waits that could not be accepted.
    pub(super) accept_failed: bool,
    /// More connections may wait than were accepted at once.
    pub(super) accept_more: bool,
    /// How many connections are at the door.
    pub(super) at_the_door: usize,
    pub(super) places: Places,
    memory: Memory,
    pub(super) allowed: watch::Receiver<Allowed>,
    http: UnboundedSender<HttpClient>,
    pub(super) clients: HashMap<Token, Client>,
    pub(super) next_token: usize,
    /// Connections that may have something to read, and wait for each answer.
    prompt: VecDeque<Token>,
    /// Those that can wait.
    pub(super) bulk: VecDeque<Token>,
    /// How reading from those is paced, and accepting.
    passes: Passes,
    pub(super) arrivals: Passes,
    pub(super) pace: Pace,
    /// All of them, to keep them apart.
    pub(super) queued: HashSet<Token>,
    chunk: Vec<u8>,
}

impl Clients {
    pub(super) fn new(
        registry: Registry,
        listener: StdListener,
        places: Places,
        allowed: watch::Receiver<Allowed>,
        http: UnboundedSender<HttpClient>,
    ) -> io::Result<Self> {
        let mut listener = UnixListener::from_std(listener);
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Clients {
            registry,
            listener: Some(listener),
            accept_failed: false,
            accept_more: false,
            at_the_door: 0,
            places,
            memory: Memory::default(),
            allowed,
            http,
            clients: HashMap::new(),
            next_token: FIRST_CLIENT,
            prompt: VecDeque::new(),
            bulk: VecDeque::new(),
            passes: Passes::default(),
            arrivals: Passes::default(),
            pace: Pace::default(),
            queued: HashSet::new(),
            chunk: vec![0; READ_BYTES_PER_TURN],
        })
    }

    /// How many there are, HTTP's included.
    pub(super) fn count(&self) -> Connections {
        self.places.count()
    }

    /// Whether some connection may have something to read.
    pub(super) fn any_ready(&self) -> bool {
        !self.prompt.is_empty() || !self.bulk.is_empty()
    }

    /// How long nothing is to be done for those that are ready; none if nobody is.
    pub(super) fn due_in(&self) -> Option<Duration> {
        if !self.prompt.is_empty() {
            return Some(Duration::ZERO);
        }
        let bulk = (!self.bulk.is_empty()).then(|| self.passes.rest());
        let arrivals = self.lets_in().then(|| self.arrivals.rest());
        let due = bulk.into_iter().chain(arrivals).min();
        // The kernel counts in milliseconds: a shorter rest is spent looking, for there is work to do after it.
        due.map(|due| if due < SHORTEST_SLEEP { Duration::ZERO } else { due })
    }

    /// No new connections from here on.
    pub(super) fn stop_listening(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            // Dropping it closes it, registered or not.
            let _ = self.registry.deregister(&mut listener);
        }
    }

    /// Looks at every connection once more.
    pub(super) fn queue_all(&mut self) {
        let tokens: Vec<Token> = self.clients.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.queue(token));
    }

    /// The disk failed: nobody is left waiting.
    pub(super) fn fail_all(&mut self, why: &str) {
        for client in self.clients.values_mut() {
            if let Some(lines) = &mut client.lines {
                lines.failed(why);
                // A client that has gone does not hear it.
                let _ = lines.flush(&mut client.stream);
            }
        }
    }

    /// Takes in what the kernel tells of a connection.
    pub(super) fn hear(&mut self, event: &Event) {
        let token = event.token();
        let Some(client) = self.clients.get_mut(&token) else { return };
        let leaves = event.is_read_closed() && !client.half_closed;
        client.half_closed |= leaves;
        if leaves {
            self.queue_leaving(token);
        }
        self.queue(token);
    }

    /// Notes that a connection may have something to read.
    pub(super) fn queue(&mut self, token: Token) {
        let Some(client) = self.clients.get(&token) else { return };
        if self.queued.insert(token) {
            let queue = if client.manners.is_bulk() { &mut self.bulk } else { &mut self.prompt };
            queue.push_back(token);
        }
    }

    /// A turn with every connection that is ready and waits for each answer; those that may have answers waiting.
    pub(super) fn read_prompt(&mut self, taker: &mut impl Taker, now: Timestamp) -> Vec<Token> {
        self.heed_lists();
        let mut touched = Vec::with_capacity(self.prompt.len());
        // Nobody waits for one who has them all to himself.
        let slice = if self.pace.is_beside() { LIGHT_BYTES } else { READ_BYTES_PER_TURN };
        for _ in 0..self.prompt.len() {
            let Some(token) = self.prompt.pop_front() else { break };
            touched.extend(self.turn(token, slice, taker, now).then_some(token));
        }
        let still_prompt = |token: &&Token| self.clients.get(token).is_some_and(|client| !client.manners.is_bulk());
        if let Some(token) = touched.iter().find(still_prompt) {
            self.pace.prompted(*token);
        }
        touched
    }

    /// The same for those that can wait: a pass, as long as the pace allows.
    pub(super) fn read_bulk(&mut self, taker: &mut impl Taker, now: Timestamp) -> Vec<Token> {
        let mut touched = Vec::new();
        if self.bulk.is_empty() {
            return touched;
        }
        let Some(pass) = self.passes.begin(&self.pace) else { return touched };
        while let Some(token) = self.bulk.pop_front() {
            touched.extend(self.turn(token, pass.slice(), taker, now).then_some(token));
            if pass.is_over() {
                break;
            }
        }
        self.passes.end(&pass);
        touched
    }

    /// A turn with every connection, whatever it is like: where nobody is kept waiting by that.
    pub(super) fn read_everybody(&mut self, taker: &mut impl Taker, now: Timestamp) -> Vec<Token> {
        self.heed_lists();
        let waiting = self.prompt.len() + self.bulk.len();
        let mut touched = Vec::with_capacity(waiting);
        for _ in 0..waiting {
            let Some(token) = self.prompt.pop_front().or_else(|| self.bulk.pop_front()) else { break };
            touched.extend(self.turn(token, READ_BYTES_PER_TURN, taker, now).then_some(token));
        }
        touched
    }

    /// One turn with one connection, of `slice` bytes at most; whether it may have answers waiting.
    fn turn(&mut self, token: Token, slice: usize, taker: &mut impl Taker, now: Timestamp) -> bool {
        self.queued.remove(&token);
        if let Some(client) = self.clients.get_mut(&token)
            && std::mem::take(&mut client.at_the_door)
        {
            self.at_the_door -= 1;
        }
        if !self.choose_protocol(token) {
            return false;
        }
        let Some(client) = self.clients.get_mut(&token) else { return false };
        let Some(lines) = &mut client.lines else { return false };
        lines.limit_answers(self.memory.answers(client.peer.uid));
        let chunk = self.chunk.get_mut(..slice).unwrap_or_default();
        let turn = lines.turn(&mut client.stream, chunk, taker, now);
        client.manners.note(lines.brought());
        if client.manners.is_bulk() {
            self.pace.turned_bulk(token);
        }
        self.memory.note(client.peer.uid, &mut client.held, lines.held());
        let little = lines.brought().bytes < LIGHT_BYTES;
        match turn {
            // Behind the last bytes stands the end, for which no further event comes.
            Turn::Drained | Turn::More if client.half_closed => {
                if little {
                    self.queue_leaving(token);
                }
                self.queue(token);
            }
            Turn::Drained => {}
            Turn::Full => client.paused = true,
            Turn::More => self.queue(token),
            Turn::Ended => client.ended = true,
        }
        true
    }

    /// Has the allow-lists hold that are in force now.
    fn heed_lists(&mut self) {
        // An agent that ends has dropped its end of the channel: nothing changes any more.
        if !self.allowed.has_changed().unwrap_or(false) {
            return;
        }
        let allowed = self.allowed.borrow_and_update();
        for client in self.clients.values_mut() {
            if let Some(lines) = &mut client.lines {
                lines.allow(allowed.rights(client.peer));
            }
        }
    }

    /// Reads the first bytes of a new connection, which tell its protocol; whether it is (now) one of JSON lines.
    fn choose_protocol(&mut self, token: Token) -> bool {
        let Some(client) = self.clients.get_mut(&token) else { return false };
        if client.lines.is_some() {
            return true;
        }
        let read = match client.stream.read(self.chunk.get_mut(..LIGHT_BYTES).unwrap_or_default()) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return false;
            }
            Ok(0) | Err(_) => {
                self.close(token);
                return false;
            }
            Ok(n) => self.chunk.get(..n).unwrap_or(&[]).to_vec(),
        };
        let peer = client.peer;
        match read.first() {
            Some(b) if b.is_ascii_alphabetic() => {
                self.hand_over(token, read);
                false
            }
            Some(b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n') => {
                let lines = Connection::new(self.writer(peer), read);
                self.clients.entry(token).and_modify(|client| client.lines = Some(lines));
                true
            }
            _ => {
                let message = "begin with a JSON object or array, or with an HTTP request";
                let lines = self.turned_away(peer, Code::BadRequest, message.into());
                self.clients.entry(token).and_modify(|client| {
                    client.lines = Some(lines);
                    client.ended = true;
                });
                self.answer(token);
                false
            }
        }
    }

    fn hand_over(&mut self, token: Token, read: Vec<u8>) {
        let Some(mut client) = self.clients.remove(&token) else { return };
        if self.registry.deregister(&mut client.stream).is_ok() {
            let Client { stream, peer, ticket, .. } = client;
            let gone = HttpClient { socket: OwnedFd::from(stream), peer, read, ticket };
            // A server that is gone closes it.
            let _ = self.http.send(gone);
        }
    }

    /// Sends a connection's answers, whose commit has succeeded.
    pub(super) fn answer(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let Some(lines) = &mut client.lines else { return };
        lines.committed();
        let flushed = lines.flush(&mut client.stream);
        if self.memory.is_tight(client.peer.uid) {
            lines.shrink();
        }
        self.memory.note(client.peer.uid, &mut client.held, lines.held());
        match flushed {
            Err(_) => self.close(token),
            Ok(true) if client.ended => self.close(token),
            Ok(all) => {
                // Interest in writing only while it is needed: each answer that is read would wake the loop otherwise.
                if all == client.wants_write {
                    let interest = if all { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
                    client.wants_write = !all;
                    if self.registry.reregister(&mut client.stream, token, interest).is_err() {
                        self.close(token);
                        return;
                    }
                }
                if all && std::mem::take(&mut client.paused) {
                    self.queue(token);
                }
            }
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(mut client) = self.clients.remove(&token) {
            self.memory.note(client.peer.uid, &mut client.held, 0);
            self.at_the_door -= usize::from(client.at_the_door);
            // Dropping it closes it, registered or not.
            let _ = self.registry.deregister(&mut client.stream);
        }
        self.queued.remove(&token);
    }
}
