//! The door: who comes in, and who goes before the others because its connection ends.

use std::io;

use mio::{Interest, Token};

use super::clients::{Client, Clients};
use super::pace::Manners;
use crate::engine::Code;
use crate::entry::Peer;
use crate::ingest::allow::Writer;
use crate::ingest::connection::Connection;
use crate::ingest::listener::peer;

/// Connections that have not had their first turn yet or wait for their last, before nobody else is let in: those who only
/// come and go would else take all places, faster than their connections can be closed.
const DOOR_MAX: usize = 32;

impl Clients {
    /// Whether a connection waits that could not be accepted; no event will tell of it again.
    pub(super) fn accept_failed(&self) -> bool {
        self.accept_failed
    }

    /// Whether connections may wait of which no event will tell again.
    pub(super) fn accept_again(&self) -> bool {
        self.accept_failed || self.accept_more
    }

    /// Whether connections may wait that can be let in now.
    pub(super) fn lets_in(&self) -> bool {
        self.accept_more && self.at_the_door <= DOOR_MAX
    }

    /// Takes the connections that wait, as long as the pace allows.
    pub(super) fn accept(&mut self) {
        self.accept_more = true;
        if !self.lets_in() {
            return;
        }
        let Some(pass) = self.arrivals.begin(&self.pace) else { return };
        while self.accept_more && self.accept_one() && !pass.is_over() {}
        self.arrivals.end(&pass);
    }

    /// Takes one of them; whether it was there.
    fn accept_one(&mut self) -> bool {
        let failed_before = std::mem::take(&mut self.accept_failed);
        self.accept_more = false;
        let Some(listener) = &self.listener else { return false };
        let (mut stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                if !failed_before {
                    tracing::warn!(%error, "a connection could not be accepted; trying again");
                }
                self.accept_failed = true;
                return false;
            }
        };
        self.accept_more = true;
        let Ok(peer) = peer(&stream) else { return true };
        let ticket = match self.places.take(peer.uid) {
            Ok(ticket) => ticket,
            Err(why) => {
                // It is closed either way.
                let _ = self.turned_away(peer, Code::Overloaded, why).flush(&mut stream);
                return true;
            }
        };
        let token = Token(self.next_token);
        self.next_token += 1;
        if self.registry.register(&mut stream, token, Interest::READABLE).is_err() {
            return true;
        }
        let client = Client {
            stream,
            peer,
            lines: None,
            wants_write: false,
            half_closed: false,
            ended: false,
            paused: false,
            at_the_door: true,
            manners: Manners::of_newcomer(),
            held: 0,
            ticket,
        };
        self.clients.insert(token, client);
        self.at_the_door += 1;
        self.queue(token);
        true
    }

    pub(super) fn writer(&self, peer: Peer) -> Writer {
        Writer { peer, rights: self.allowed.borrow().rights(peer) }
    }

    /// A connection that is refused as a whole. Who is not allowed is told that and nothing else.
    pub(super) fn turned_away(&self, peer: Peer, code: Code, message: String) -> Connection {
        let writer = self.writer(peer);
        let not_allowed = writer.may_ask().err();
        let mut lines = Connection::new(writer, Vec::new());
        match not_allowed {
            Some(why) => lines.refuse(why.code, why.message),
            None => lines.refuse(code, message),
        }
        lines.committed();
        lines
    }

    /// Has a connection that ends go before the others that can wait: its place is soon free, and those who come must not
    /// pile up behind those who left.
    pub(super) fn queue_leaving(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        if client.manners.is_bulk() && self.queued.insert(token) {
            client.at_the_door = true;
            self.at_the_door += 1;
            self.bulk.push_front(token);
        }
    }
}
