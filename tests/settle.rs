//! What waits for a person, and what a person's word does; and no record while the clock is in doubt. Drives the engine
//! without socket and time, on a real directory, across restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use meterd::config::{Late, Measure, Offset, Round, Source, ZeroRecords};
use meterd::decimal::Amount;
use meterd::disk::RealDisk;
use meterd::engine::{Engine, NewIncrement, NotSettled, Options, Sending};
use meterd::entry::{Decision, Peer, RecordKey, Request, Rules};
use meterd::hour::Timestamp;
use meterd::index::Index;
use meterd::rollup::state::Phase;
use meterd::submit::answer::{Outcome, Reply};
use meterd::wal::Purpose;
use tempfile::TempDir;

#[path = "settle/held.rs"]
mod held;
#[path = "settle/pace.rs"]
mod pace;

/// 2026-11-21T09:00:00Z.
const NINE: Timestamp = Timestamp::from_seconds(1_795_251_600);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

struct World {
    dir: TempDir,
    engine: Option<Engine<RealDisk>>,
    judge_clock: bool,
    now: Timestamp,
    /// The configuration, as far as tests change it.
    product: &'static str,
    names: Vec<&'static str>,
    region: Option<&'static str>,
    late: Late,
    offset: Offset,
    /// A dimension, and the one it is made of.
    credit: Option<(&'static str, &'static str)>,
}

impl World {
    fn new(judge_clock: bool) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World {
            dir,
            engine: None,
            judge_clock,
            now: NINE,
            product: "product",
            names: vec!["requests"],
            region: None,
            late: Late::CarryForward,
            offset: Offset::Fixed(MINUTE),
            credit: None,
        };
        world.restart();
        world
    }

    fn engine(&mut self) -> &mut Engine<RealDisk> {
        self.engine.as_mut().unwrap()
    }

    /// As after a `kill -9`: nothing is told to anybody.
    fn restart(&mut self) {
        self.engine = None;
        let rules = |name: &&str| Rules {
            name: (*name).to_owned(),
            measure: Measure::Sum,
            sticky: false,
            unit: Amount::from_units(1),
            round: Round::Carry,
            hold_above: None,
            included: None,
            from: self.made_of(name),
        };
        let options = Options {
            product_code: self.product.into(),
            saas: false,
            dimensions: self.names.iter().map(rules).collect(),
            window: HOUR * 6,
            late: self.late,
            zero_records: ZeroRecords::Off,
            region: self.region.map(str::to_owned),
            grace: MINUTE,
            offset: self.offset,
            calls_in_flight: 1,
            instance: Some("i-0123456789abcdef0".into()),
            segment_bytes: 1024 * 1024,
            purpose: Purpose::Test,
            judge_clock: self.judge_clock,
            retain: Duration::from_secs(24 * 3600),
            threads: false,
        };
        let disk = Arc::new(RealDisk::new(self.dir.path()));
        self.engine = Some(Engine::open(disk, options, self.now, |_| Ok(Index::in_memory())).unwrap());
    }

    fn made_of(&self, name: &str) -> Vec<Source> {
        let credit = self.credit.filter(|(credit, _)| *credit == name);
        credit.map(|(_, source)| Source { name: source.into(), weight: Amount::from_units(1) }).into_iter().collect()
    }

    fn add(&mut self, quantity: &str) {
        self.add_to("requests", quantity);
    }

    fn add_to(&mut self, dimension: &str, quantity: &str) {
        let now = self.now;
        let new =
            NewIncrement { dimension: dimension.into(), quantity: Some(quantity.into()), ..NewIncrement::default() };
        self.engine().take(Peer::default(), &new, now).unwrap();
        self.engine().commit(now).unwrap();
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        let now = self.now;
        self.engine().tick(now).unwrap();
    }

    /// AWS is asked with a dry run before any record is sent, and answers.
    fn dry_run_passes(&mut self) {
        let next = self.next();
        assert!(matches!(next, Sending::Probe(_)), "{next:?}: a second record may be left in doubt");
        let (now, passed) = (self.now, reply(Outcome::DryRunPassed, self.now));
        self.engine().probed(&passed, now).unwrap();
    }

    /// Waits as long as the outbox asks, then gives what is to be sent.
    fn next(&mut self) -> Sending {
        for _ in 0..100 {
            let now = self.now;
            match self.engine().next_sending(now).unwrap() {
                Sending::Wait(until) => self.now = until,
                other => return other,
            }
        }
        panic!("the outbox waits for ever");
    }

    /// Waits until something may be sent, without sending it.
    fn next_at(&mut self) {
        let now = self.now;
        let again = self.engine().next_sending(now).unwrap();
        let Sending::Wait(until) = again else { panic!("it does not wait: {again:?}") };
        self.now = until;
    }

    fn next_record(&mut self) -> (RecordKey, Request) {
        match self.next() {
            Sending::Record(key, request) => (key, request),
            other => panic!("not a record: {other:?}"),
        }
    }

    fn answer(&mut self, key: RecordKey, outcome: Outcome) {
        let now = self.now;
        let reply = reply(outcome, now);
        self.engine().answered(key, &reply, now).unwrap();
    }

    fn settle(&mut self, decision: Decision) -> Result<Decision, NotSettled> {
        let now = self.now;
        self.engine().settle("requests", NINE.hour(), decision, Peer::default(), now)
    }

    fn books(&mut self) -> String {
        self.books_of(0)
    }

    fn books_of(&mut self, dimension: usize) -> String {
        let books = self.engine().state().books().remove(dimension);
        assert!(books.balanced(), "{books:?}");
        let columns = books.columns().into_iter().filter(|(_, amount)| !amount.is_zero());
        columns.map(|(name, amount)| format!("{name} {amount}")).collect::<Vec<_>>().join(", ")
    }

    /// A record of 7 whose answer was lost, and whose window has passed.
    fn in_doubt() -> World {
        let mut world = World::new(false);
        world.add("7");
        world.pass(HOUR + MINUTE);
        let (key, _) = world.next_record();
        world.answer(key, Outcome::NoAnswer);
        world.pass(HOUR * 7);
        assert_eq!(world.engine().state().records[&key].phase, Phase::InDoubt);
        assert_eq!(world.books(), "received 7, with_person 7");
        assert_eq!(world.next(), Sending::Idle, "what is in doubt is never sent again");
        world.restart();
        world
    }
}

fn reply(outcome: Outcome, aws_time: Timestamp) -> Reply {
    Reply { outcome, message: "said".into(), request_id: None, retry_after: None, aws_time: Some(aws_time) }
}

#[test]
fn what_is_in_doubt_and_was_accepted_is_billed() {
    let mut world = World::in_doubt();
    world.settle(Decision::Accepted).unwrap();
    assert_eq!(world.books(), "received 7, accepted 7");
    world.restart();
    assert_eq!(world.books(), "received 7, accepted 7");
    assert!(matches!(world.settle(Decision::Carry), Err(NotSettled::NoSuchRecord { .. })), "it is settled once");
}

#[test]
fn what_is_in_doubt_and_was_not_taken_goes_out_once_with_the_next_record() {
    let mut world = World::in_doubt();
    world.settle(Decision::Carry).unwrap();
    assert_eq!(world.books(), "received 7, open 7");
    world.restart();
    world.add("1");
    world.pass(HOUR * 2);
    world.dry_run_passes();
    let (key, request) = world.next_record();
    assert_eq!(request.quantity, 8);
    world.answer(key, Outcome::Accepted { metering_record_id: "id".into() });
    assert_eq!(world.books(), "received 8, accepted 8");
    assert_eq!(world.next(), Sending::Idle);
}

#[test]
fn what_is_written_off_is_billed_to_nobody() {
    let mut world = World::in_doubt();
    world.settle(Decision::WriteOff).unwrap();
    assert_eq!(world.books(), "received 7, discarded 7");
    world.restart();
    world.pass(HOUR * 2);
    assert_eq!(world.next(), Sending::Idle);
}

#[test]
fn what_may_have_been_taken_is_not_simply_tried_again() {
    let mut world = World::in_doubt();
    assert!(matches!(world.settle(Decision::Retry), Err(NotSettled::DoesNotFit(_))));
    assert_eq!(world.books(), "received 7, with_person 7");
}

#[test]
fn what_was_refused_is_sent_again_as_it_was_on_a_persons_word() {
    let mut world = World::new(false);
    world.add("3");
    world.pass(HOUR + MINUTE);
    let (key, first) = world.next_record();
    world.answer(key, Outcome::Error { code: "InvalidUsageDimension".into(), status: 400 });
    assert_eq!(world.books(), "received 3, with_person 3");
    assert_eq!(world.next(), Sending::Idle);
    world.restart();
    world.settle(Decision::Retry).unwrap();
    let (again, second) = world.next_record();
    assert_eq!((key, &first), (again, &second));
    world.answer(key, Outcome::Accepted { metering_record_id: "id".into() });
    assert_eq!(world.books(), "received 3, accepted 3");
}

#[test]
fn no_record_goes_out_while_the_clock_is_in_doubt() {
    let mut world = World::new(true);
    world.add("3");
    world.pass(HOUR + MINUTE);
    // AWS's clock has not been seen, then it is two hours off, then it agrees.
    assert!(matches!(world.next(), Sending::Probe(_)));
    let off = reply(Outcome::DryRunPassed, world.now.minus(HOUR * 2));
    let now = world.now;
    world.engine().probed(&off, now).unwrap();
    assert!(world.engine().doubts_clock());
    assert!(matches!(world.next(), Sending::Probe(_)));
    let now = world.now;
    world.engine().probed(&reply(Outcome::DryRunPassed, now), now).unwrap();
    let (_, request) = world.next_record();
    assert_eq!(request.quantity, 3);
}

#[test]
fn a_proxy_that_answers_in_place_of_aws_does_not_let_further_records_out() {
    let mut world = World::new(false);
    world.add("3");
    world.pass(HOUR + MINUTE);
    let (key, _) = world.next_record();
    world.answer(key, Outcome::NoAnswer);
    world.add("4");
    world.pass(HOUR);
    assert!(matches!(world.next(), Sending::Probe(_)));
    let now = world.now;
    // 403 without an error code of AWS's: nobody knows who said that.
    world.engine().probed(&reply(Outcome::Error { code: String::new(), status: 403 }, now), now).unwrap();
    assert!(matches!(world.next(), Sending::Probe(_)), "AWS has not answered yet");
    let now = world.now;
    world.engine().probed(&reply(Outcome::DryRunPassed, now), now).unwrap();
    assert!(matches!(world.next(), Sending::Record(..)));
}

/// The outage goes on over a restart, and the record that it left in doubt is no longer pending, or settled already.
#[test]
fn after_a_restart_within_an_outage_a_dry_run_still_comes_first() {
    for settled in [false, true] {
        let mut world = World::in_doubt();
        if settled {
            world.settle(Decision::WriteOff).unwrap();
        }
        world.add("2");
        world.pass(HOUR + MINUTE);
        world.restart();
        world.dry_run_passes();
        let (key, _) = world.next_record();
        world.answer(key, Outcome::Accepted { metering_record_id: "id".into() });
        // Once AWS has answered for a record a start asks nothing first.
        world.add("3");
        world.pass(HOUR + MINUTE);
        world.restart();
        world.next_record();
    }
}
