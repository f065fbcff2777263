//! What the loop waits for, whether or not the log is open: connections, other threads, signals.

use std::io::{self, Read};
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use tokio::sync::mpsc::UnboundedSender;

use super::alert;
use super::checks::{self, Failed};
use super::clients::{Clients, HttpClient, LISTENER};
use super::core::{Ended, WAKER, Wiring};
use super::places::Places;
use super::reload::Refused;
use crate::attribution;
use crate::config::Config;
use crate::doctor::Finding;
use crate::hour::Timestamp;
use crate::ingest::taker::Taker;
use crate::status::{Attention, AttributionStatus};

/// How long to wait before trying again to accept what could not be accepted: no event comes for it.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// So often those who ask meanwhile are looked for before a commit, however many there are.
const LOOKS_MAX: usize = 64;
/// Events taken at once.
const EVENTS: usize = 256;

const SIGNALS: Token = Token(2);

/// The socket, the signals, and the way to the other threads.
pub struct Front {
    pub(super) wiring: Wiring,
    pub(super) clients: Clients,
    poll: Poll,
    events: Events,
    signals: UnixStream,
    /// The checks that failed at the last look.
    pub(super) failed: Vec<Failed>,
    /// A configuration that was refused.
    config_refused: Option<Attention>,
    /// Why the alert command failed, and since when it does.
    alert_failed: Option<Attention>,
    /// How AWS credits the seller, as of the last look.
    pub(super) attribution: Option<AttributionStatus>,
    /// When the agent was started.
    pub(super) started: Timestamp,
    /// Asked to stop.
    pub(super) stopping: bool,
    /// The submitter has finished its last call.
    pub(super) submitter_done: bool,
    /// What panicked.
    fell: Option<&'static str>,
}

impl Front {
    /// Listens, for so many connections at once.
    pub fn new(
        listener: StdListener,
        connections: usize,
        http: UnboundedSender<HttpClient>,
        poll: Poll,
        wiring: Wiring,
    ) -> io::Result<Self> {
        let (places, allowed) = (Places::new(connections), wiring.allowed.subscribe());
        let clients = Clients::new(poll.registry().try_clone()?, listener, places, allowed, http)?;
        wiring.signals.set_nonblocking(true)?;
        let mut signals = UnixStream::from_std(wiring.signals.try_clone()?);
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(Front {
            clients,
            poll,
            events: Events::with_capacity(EVENTS),
            signals,
            failed: Vec::new(),
            config_refused: None,
            alert_failed: None,
            attribution: None,
            started: wiring.clock.now(),
            stopping: false,
            submitter_done: false,
            fell: None,
            wiring,
        })
    }

    /// Waits until something happens, at most for `timeout`, and takes note of it.
    pub(super) fn wait(&mut self, mut timeout: Duration) -> io::Result<()> {
        if self.clients.accept_failed() {
            timeout = timeout.min(ACCEPT_RETRY);
        }
        timeout = self.clients.due_in().map_or(timeout, |due| due.min(timeout));
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        if self.clients.accept_again() {
            self.clients.accept();
        }
        let mut signalled = false;
        for event in &self.events {
            match event.token() {
                LISTENER => self.clients.accept(),
                WAKER => {}
                SIGNALS => signalled = true,
                _ => self.clients.hear(event),
            }
        }
        if signalled {
            self.begin_to_stop();
        }
        Ok(())
    }

    /// Reads from those who are ready, the prompt ones first; those that may have answers waiting, in that order. `busy`:
    /// something else has taken its time since the last look.
    pub(super) fn read_ready(&mut self, busy: bool, taker: &mut impl Taker, now: Timestamp) -> Vec<Token> {
        let mut touched = self.clients.read_prompt(taker, now);
        let bulk = self.clients.read_bulk(taker, now);
        // Whoever asks meanwhile shares this commit, instead of waiting for it and the next: of many clients that wait for
        // each answer some have theirs only now. One that is alone is not kept waiting for others.
        let mut more = touched.len() > 1 || ((busy || !bulk.is_empty()) && self.clients.pace.is_beside());
        for _ in 0..LOOKS_MAX {
            if !more {
                break;
            }
            // Should that look fail, so will the next, which says so.
            let _ = self.wait(Duration::ZERO);
            let late = self.clients.read_prompt(taker, now);
            more = !late.is_empty();
            touched.extend(late);
        }
        touched.extend(bulk);
        touched
    }

    /// A part of the agent has panicked: a stop in order, and a restart by whoever watches over the agent.
    pub(super) fn fall(&mut self, what: &'static str) {
        tracing::error!("{what} panicked: the agent stops, to be started again");
        self.fell = Some(what);
        self.submitter_done = true;
        self.begin_to_stop();
    }

    /// How it has ended, if nothing else goes wrong.
    pub(super) fn ended(&self) -> Ended {
        self.fell.map_or(Ended::Stopped, Ended::Fell)
    }

    /// What a look at the machine and AWS found at `now`.
    pub(super) fn checked(&mut self, mut findings: Vec<Finding>, now: Timestamp) {
        if let Some(at) = findings.iter().position(|finding| finding.check == attribution::CHECK) {
            let found = findings.remove(at).found;
            self.attribution = Some(AttributionStatus { found, seen: now.to_string() });
        }
        checks::take_in(&mut self.failed, findings, now);
    }

    /// A configuration was refused at `now`.
    pub(super) fn config_refused(&mut self, refused: &Refused, now: Timestamp) {
        self.config_refused = Some(refused.attention(now));
    }

    /// The log has taken one: so does all that the log need not know.
    pub(super) fn config_taken(&mut self, config: &Config) {
        self.wiring.gate = config.gate.clone();
        self.wiring.allowed.send_modify(|allowed| allowed.renew(config));
        self.config_refused = None;
    }

    /// The alert command was called.
    pub(super) fn alerted(&mut self, done: Result<(), String>, now: Timestamp) {
        let since = self.alert_failed.take().and_then(|failed| failed.since).unwrap_or_else(|| now.to_string());
        self.alert_failed = done.err().map(|why| alert::attention(why, since));
    }

    /// What the agent itself has to say, beside the log and what the checks found.
    pub(super) fn attention(&self) -> impl Iterator<Item = Attention> {
        [&self.config_refused, &self.alert_failed].into_iter().flatten().cloned()
    }

    fn begin_to_stop(&mut self) {
        let mut signals = [0u8; 64];
        let _ = self.signals.read(&mut signals);
        if !self.stopping {
            tracing::info!("stopping: no new connections, finishing what is under way");
            self.stopping = true;
            self.clients.stop_listening();
            // A submitter that has gone already needs no telling.
            let _ = self.wiring.stop.send(true);
        }
    }
}
