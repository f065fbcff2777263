//! Customers of a SaaS product: what was acknowledged for each is billed to each, once, whatever AWS answers and however
//! often the agent is killed. Drives the engine without socket and time, on a real directory, against an AWS of its own
//! that keeps AWS's rules and holds every call against them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod again;
mod aws;
mod life;
mod outages;
mod register;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use aws::{Aws, reply};
use meterd::config::limits::defaults;
use meterd::config::{Late, Measure, Offset, Round, UnknownCustomers, ZeroRecords};
use meterd::decimal::Amount;
use meterd::disk::RealDisk;
use meterd::engine::{Engine, NewIncrement, Options, Refusal, SAAS, Sending};
use meterd::entry::{Peer, RecordKey, Request, Rules};
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::submit::answer::{Outcome, Reply};
use meterd::wal::Purpose;
use tempfile::TempDir;

/// 2026-11-21T09:00:00Z.
const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const LICENSE: &str = "arn:aws:license-manager::123456789012:license:l-0123456789abcdef";
const DIMENSIONS: [&str; 2] = ["requests", "gigabytes"];

/// One of the calls that are under way: what was handed out, and what AWS says to it.
type Call = (Vec<RecordKey>, Reply);

struct World {
    dir: TempDir,
    engine: Option<Engine<RealDisk>>,
    now: Timestamp,
    aws: Aws,
    judge_clock: bool,
    product: &'static str,
    calls_in_flight: u32,
    rules: Vec<Rules>,
    unknown_customers: UnknownCustomers,
    zero_records: ZeroRecords,
    under_way: Vec<Call>,
}

fn rules(name: &str) -> Rules {
    Rules {
        name: name.to_owned(),
        measure: Measure::Sum,
        sticky: false,
        unit: Amount::from_units(1),
        round: Round::Carry,
        hold_above: None,
        included: None,
        from: Vec::new(),
    }
}

/// A twelve-digit account id.
fn customer(number: u64) -> String {
    format!("{:012}", 100_000_000_000 + number)
}

impl World {
    fn new() -> World {
        World::with(DIMENSIONS.map(rules).to_vec())
    }

    fn with(rules: Vec<Rules>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let (engine, aws, judge_clock, under_way) = (None, Aws::default(), false, Vec::new());
        let (product, calls_in_flight) = ("product", defaults::CALLS_IN_FLIGHT);
        let (unknown_customers, zero_records) = (UnknownCustomers::Auto, ZeroRecords::Off);
        let now = NINE;
        let mut world = World {
            dir,
            engine,
            now,
            aws,
            judge_clock,
            product,
            calls_in_flight,
            rules,
            unknown_customers,
            zero_records,
            under_way,
        };
        world.restart();
        world
    }

    fn engine(&mut self) -> &mut Engine<RealDisk> {
        self.engine.as_mut().unwrap()
    }

    fn options(&self) -> Options {
        Options {
            product_code: self.product.into(),
            saas: true,
            dimensions: self.rules.clone(),
            window: HOUR * 24,
            late: Late::CarryForward,
            zero_records: self.zero_records,
            unknown_customers: self.unknown_customers,
            region: None,
            grace: MINUTE,
            offset: Offset::Fixed(MINUTE),
            calls_in_flight: self.calls_in_flight,
            instance: Some(SAAS.into()),
            segment_bytes: 256 * 1024,
            purpose: Purpose::Test,
            judge_clock: self.judge_clock,
            retain: HOUR * 24,
            threads: false,
        }
    }

    /// As after a `kill -9`: nothing is told to anybody.
    fn restart(&mut self) {
        self.engine = None;
        self.under_way.clear();
        let disk = Arc::new(RealDisk::new(self.dir.path()));
        let engine = Engine::open(disk, self.options(), self.now, |_| Ok(Index::in_memory()));
        self.engine = Some(engine.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Takes an increment, which counts when this returns.
    fn add(&mut self, of: u64, license: Option<&str>, dimension: &str, quantity: u64) -> Result<(), Refusal> {
        let (now, quantity) = (self.now, quantity.to_string());
        let new = NewIncrement {
            dimension: dimension.into(),
            quantity: Some(quantity.into()),
            customer: Some(customer(of).into()),
            license: license.map(Into::into),
            ..NewIncrement::default()
        };
        self.engine().take(Peer::default(), &new, now)?;
        self.engine().commit(now).unwrap();
        Ok(())
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        let now = self.now;
        self.engine().tick(now).unwrap();
        self.check_books();
    }

    /// What the engine has the submitter do now.
    fn next(&mut self) -> Sending {
        let now = self.now;
        self.engine().next_sending(now).unwrap()
    }

    fn answer(&mut self, keys: &[RecordKey], reply: &Reply) {
        let now = self.now;
        self.engine().answered_batch(keys, reply, now).unwrap();
        self.check_books();
    }

    /// The requests of the next call; waits as long as the engine says.
    fn call(&mut self) -> (Vec<RecordKey>, Vec<Request>) {
        for _ in 0..100 {
            match self.next() {
                Sending::Batch(keys, requests) => return (keys, requests),
                Sending::Wait(until) => self.now = until,
                other => panic!("a call was expected, not {other:?}"),
            }
        }
        panic!("nothing but pauses")
    }

    /// Sends all there is to an AWS at which all goes well.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            match self.next() {
                Sending::Batch(keys, requests) => {
                    let reply = self.aws.take(&requests, self.now);
                    self.answer(&keys, &reply);
                }
                Sending::ProbeBatch => {
                    let (now, there) = (self.now, reply(Outcome::Batch(Vec::new()), "nothing to take"));
                    self.engine().probed(&there, now).unwrap();
                }
                Sending::Wait(until) if until.since(self.now) < HOUR => self.now = until,
                Sending::Wait(_) | Sending::Idle => return,
                other => panic!("{other:?}"),
            }
        }
        panic!("it never ends");
    }

    fn check_books(&mut self) {
        for books in self.engine().state().books() {
            assert!(books.balanced(), "{}: {}", books.dimension, books.explained());
        }
    }
}
