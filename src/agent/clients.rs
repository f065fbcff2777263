//! The core's side of the socket: accepting, reading in turns, answering after the commit.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use tokio::sync::mpsc::UnboundedSender;

use crate::engine::Code;
use crate::entry::Peer;
use crate::hour::Timestamp;
use crate::ingest::connection::{Connection, READ_BYTES_PER_TURN, Turn};
use crate::ingest::listener::peer;
use crate::ingest::taker::Taker;
use crate::metrics::Connections;

/// Most connections at once.
pub const CONNECTIONS_MAX: usize = 1024;

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

/// One is held for each open connection, whoever serves it.
pub type Ticket = Arc<()>;

struct Client {
    stream: UnixStream,
    peer: Peer,
    /// `None` until the first byte tells which protocol it speaks.
    lines: Option<Connection>,
    wants_write: bool,
    /// It writes no more. The kernel tells that once, perhaps together with its last bytes.
    half_closed: bool,
    ended: bool,
    ticket: Ticket,
}

/// All connections.
pub(super) struct Clients {
    registry: Registry,
    listener: Option<UnixListener>,
    /// A connection waits that could not be accepted.
    accept_failed: bool,
    /// Most connections at once.
    most: usize,
    /// Those that were too many.
    refused: u64,
    tickets: Ticket,
    http: UnboundedSender<HttpClient>,
    clients: HashMap<Token, Client>,
    next_token: usize,
    /// Connections that may have something to read.
    ready: VecDeque<Token>,
    /// The same, to keep them apart.
    queued: HashSet<Token>,
    chunk: Vec<u8>,
}

impl Clients {
    pub(super) fn new(
        registry: Registry,
        listener: StdListener,
        most: usize,
        http: UnboundedSender<HttpClient>,
    ) -> io::Result<Self> {
        let mut listener = UnixListener::from_std(listener);
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Clients {
            registry,
            listener: Some(listener),
            accept_failed: false,
            most,
            refused: 0,
            tickets: Ticket::default(),
            http,
            clients: HashMap::new(),
            next_token: FIRST_CLIENT,
            ready: VecDeque::new(),
            queued: HashSet::new(),
            chunk: vec![0; READ_BYTES_PER_TURN],
        })
    }

    /// How many there are, HTTP's included.
    pub(super) fn count(&self) -> Connections {
        // One ticket is our own.
        let open = Arc::strong_count(&self.tickets) - 1;
        Connections { open, most: self.most, refused: self.refused }
    }

    /// Whether some connection may have something to read.
    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
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

    /// Whether a connection waits that could not be accepted; no event will tell of it again.
    pub(super) fn accept_failed(&self) -> bool {
        self.accept_failed
    }

    /// Takes every connection that waits.
    pub(super) fn accept(&mut self) {
        let failed_before = std::mem::take(&mut self.accept_failed);
        while let Some(listener) = &self.listener {
            let (mut stream, _) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    if !failed_before {
                        tracing::warn!(%error, "a connection could not be accepted; trying again");
                    }
                    self.accept_failed = true;
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
                ticket: Ticket::clone(&self.tickets),
                stream: {
                    if self.registry.register(&mut stream, token, Interest::READABLE).is_err() {
                        continue;
                    }
                    stream
                },
            };
            // One ticket is our own, one the newcomer's.
            if Arc::strong_count(&self.tickets) - 2 >= self.most {
                self.refused += 1;
                let mut lines = Connection::new(peer, Vec::new());
                lines.refuse(Code::Overloaded, format!("{} connections are open; close some", self.most));
                lines.committed();
                // It is closed either way.
                let _ = lines.flush(&mut client.stream);
                continue;
            }
            self.clients.insert(token, client);
            self.queue(token);
        }
    }

    /// Takes in what the kernel tells of a connection.
    pub(super) fn hear(&mut self, event: &Event) {
        if event.is_read_closed()
            && let Some(client) = self.clients.get_mut(&event.token())
        {
            client.half_closed = true;
        }
        self.queue(event.token());
    }

    /// Notes that a connection may have something to read.
    pub(super) fn queue(&mut self, token: Token) {
        if self.clients.contains_key(&token) && self.queued.insert(token) {
            self.ready.push_back(token);
        }
    }

    /// A turn with every connection that is ready; those that may have answers waiting.
    pub(super) fn read_ready(&mut self, taker: &mut impl Taker, now: Timestamp) -> Vec<Token> {
        let mut touched = Vec::with_capacity(self.ready.len());
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            self.queued.remove(&token);
            if !self.choose_protocol(token) {
                continue;
            }
            let Some(client) = self.clients.get_mut(&token) else { continue };
            let Some(lines) = &mut client.lines else { continue };
            match lines.turn(&mut client.stream, &mut self.chunk, taker, now) {
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
        match lines.flush(&mut client.stream) {
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
            let _ = self.registry.deregister(&mut client.stream);
        }
        self.queued.remove(&token);
    }
}
