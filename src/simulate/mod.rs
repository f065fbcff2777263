//! A simulated AWS Marketplace Metering Service that keeps AWS's rules over real HTTP.
//!
//! What it promises: a client that works against it meets the same requests, answers and refusals as at AWS, in a time
//! that is given to it, and afterwards [`Ledger`] tells what AWS would hold. What it is not: it verifies no signatures,
//! bills nobody, and forgets everything when it stops.
//!
//! Modules, in the order a call passes through them:
//! - `server`: HTTP/1.1, the listening port, and `GET /ledger`, `GET /calls`, `POST` and `DELETE /faults`;
//! - `service`: the state under one lock; a call meets a fault or the rules;
//! - `wire`: awsJson: operation, caller, the bytes of an answer;
//! - `request`, `allocations`, `batch`: a request checked by itself;
//! - `faults`, `script`: what goes wrong when, and how people write it ([`script`] documents the format);
//! - `rules`: the books, a request and a moment give an answer; pure;
//! - `trail`: what CloudTrail would show of it, in a file;
//! - `answer`, `ledger`: vocabulary.
//!
//! Invariants: only `service` asks the clock; only `server` touches the network; nothing in the books ever changes.

mod allocations;
mod answer;
mod batch;
mod faults;
mod ledger;
mod request;
mod rules;
pub mod script;
mod server;
mod service;
mod trail;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

pub use allocations::Allocation;
pub use faults::{Draw, Fault, Kind, Moment, Selector};
pub use ledger::{Call, Ledger, LedgerRecord};

use crate::clock::Clock;
use rules::Rules;
use service::Service;
use trail::Trail;

/// How the simulated service behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Product codes that exist; empty: any.
    pub products: Vec<String>,
    /// Dimensions that exist; empty: any.
    pub dimensions: Vec<String>,
    /// How far back a timestamp is accepted, counted from the timestamp itself. Default: six hours.
    pub window: Duration,
    /// A granted dry run answers HTTP 200 without a record id instead of the error `DryRunOperation`.
    pub dry_run_ok: bool,
    /// What goes wrong, counted from the start.
    pub faults: Vec<Fault>,
    /// Where every call is written as CloudTrail would show it, an event a line; made anew.
    pub cloudtrail: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        const SIX_HOURS: Duration = Duration::from_secs(6 * 3600);
        Options {
            products: Vec::new(),
            dimensions: Vec::new(),
            window: SIX_HOURS,
            dry_run_ok: false,
            faults: Vec::new(),
            cloudtrail: None,
        }
    }
}

/// How the service is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The port is closed: nothing reaches the service.
    ConnectionRefused,
    /// It answers 503 to every call and takes nothing.
    ServiceUnavailable,
    /// It reads every call, takes nothing and never answers.
    Silent,
}

/// A running simulated service; stops when dropped.
pub struct Simulation {
    addr: SocketAddr,
    service: Arc<Service>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulation {
    /// Starts the service on a thread of its own. Port 0 takes a free one, see [`Simulation::addr`].
    ///
    /// # Errors
    /// If the address cannot be listened on, the thread cannot be started, the file of `cloudtrail` cannot be made, or
    /// `options` hold too many faults.
    pub fn start(listen: SocketAddr, clock: Arc<dyn Clock>, options: Options) -> io::Result<Simulation> {
        let Options { products, dimensions, window, dry_run_ok, faults, cloudtrail } = options;
        let rules = Rules { products, dimensions, window, dry_run_ok };
        let trail = cloudtrail.as_deref().map(Trail::create).transpose()?;
        let service = Service::new(clock, rules, faults, trail).map_err(io::Error::other)?;
        let service = Arc::new(service);
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&service);
        let thread = std::thread::Builder::new()
            .name("simulated-aws".to_owned())
            .spawn(move || runtime.block_on(server::serve(listener, addr, served, stopped)))?;
        Ok(Simulation { addr, service, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it holds now.
    pub fn ledger(&self) -> Ledger {
        self.service.ledger()
    }

    /// The last calls, oldest first (at most 1000, and 16 MiB of bodies).
    pub fn calls(&self) -> Vec<Call> {
        self.service.calls()
    }

    /// Begins or ends an outage. It comes before every fault. When this returns, the port has followed.
    pub fn set_outage(&self, outage: Option<Outage>) {
        self.service.set_outage(outage.map(|outage| match outage {
            Outage::ConnectionRefused => Kind::RefuseConnection,
            Outage::ServiceUnavailable => Kind::ServiceUnavailable { retry_after_s: None },
            Outage::Silent => Kind::Hang { recorded: false },
        }));
    }

    /// Adds faults whose counts and offsets begin now.
    ///
    /// # Errors
    /// A sentence if more than 1000 would wait.
    pub fn add_faults(&self, faults: Vec<Fault>) -> Result<(), String> {
        self.service.add_faults(faults)
    }

    /// Forgets every fault that waits; an outage stays.
    pub fn clear_faults(&self) {
        self.service.clear_faults();
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // Dropping the sender is the word to stop.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed by its own thread.
            let _ended = thread.join();
        }
    }
}
