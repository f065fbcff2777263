//! The register: who is billed, who waits for it, and the end of one.

use meterd::config::{UnknownCustomers, ZeroRecords};
use meterd::engine::{Came, Change, Code, Told};
use meterd::entry::{Buyer, Peer};
use meterd::hour::Timestamp;
use meterd::rollup::Checkpoint;

use super::{HOUR, LICENSE, MINUTE, NINE, World, customer};

fn buyer(of: u64, license: Option<&str>) -> Buyer {
    Buyer::parse(&customer(of), license).unwrap()
}

fn told(of: u64, license: Option<&str>, change: Change, said: Option<Timestamp>) -> Told {
    let customer = Some(buyer(of, license));
    let by_aws = said.is_some();
    Told { customer, identifier: None, agreement: None, products: Vec::new(), change, said, by_aws }
}

impl World {
    fn tell(&mut self, of: u64, license: Option<&str>, change: Change) -> Came {
        self.hear(&told(of, license, change, None))
    }

    fn hear(&mut self, told: &Told) -> Came {
        let now = self.now;
        let came = self.engine().tell(told, Peer::default(), now).unwrap();
        self.check_books();
        // A checkpoint is all that the entries come to.
        let state = self.engine().state().clone();
        assert_eq!(Checkpoint::decode(&Checkpoint::encode(&state).unwrap()).unwrap().state, state);
        came
    }

    fn unknown(&mut self) -> String {
        self.engine().state().books()[0].unknown_customers.to_string()
    }

    fn hours_at_aws(&self, of: u64) -> Vec<(String, u32)> {
        let name = customer(of);
        let mine = self.aws.stands.iter().filter(|((who, ..), _)| *who == name);
        mine.map(|((_, _, dimension, _), quantity)| (dimension.clone(), *quantity)).collect()
    }
}

#[test]
fn an_unknown_customers_usage_waits_and_is_sent_once_the_register_knows_it() {
    let mut world = World::new();
    world.tell(1, None, Change::New);
    world.add(1, None, "requests", 5).unwrap();
    world.add(2, None, "requests", 7).unwrap();
    world.pass(HOUR + MINUTE * 2);
    world.drain();
    assert_eq!((world.aws.billed(&customer(1), "requests"), world.aws.billed(&customer(2), "requests")), (5, 0));
    assert_eq!(world.unknown(), "7");
    let (_, deadline) = world.engine().state().waiting_deadline().unwrap();
    assert_eq!(deadline.to_string(), "2026-11-22T09:59:59Z");
    world.restart();
    world.drain();
    assert_eq!(world.aws.billed(&customer(2), "requests"), 0, "also after a crash");
    // It comes with a licence that nobody had said, which its hours go out under: none of it was ever sent.
    assert!(matches!(world.tell(2, Some(LICENSE), Change::New), Came::Changed(_)));
    assert_eq!(world.unknown(), "0");
    world.drain();
    assert_eq!(world.aws.billed(&customer(2), "requests"), 7);
    assert!(world.aws.stands.keys().any(|(who, license, ..)| *who == customer(2) && license.is_some()));
}

#[test]
fn past_the_window_it_waits_on_in_the_open_hour() {
    let mut world = World::new();
    world.tell(1, None, Change::New);
    world.add(2, None, "requests", 7).unwrap();
    for _ in 0..60 {
        world.pass(HOUR);
        world.drain();
    }
    assert_eq!(world.aws.calls, 0, "nothing of an unknown customer is ever sent");
    let books = world.engine().state().books()[0].clone();
    assert_eq!((books.open + books.with_person).to_string(), "7");
    world.tell(2, None, Change::New);
    world.pass(HOUR * 2);
    world.drain();
    assert_eq!(world.aws.billed(&customer(2), "requests"), 7);
}

#[test]
fn without_a_register_all_is_sent_and_whom_aws_accepts_stays_known() {
    let mut world = World::new();
    world.add(1, None, "requests", 5).unwrap();
    world.pass(HOUR + MINUTE * 2);
    world.drain();
    world.add(1, None, "requests", 6).unwrap();
    world.add(2, None, "requests", 7).unwrap();
    world.tell(3, None, Change::New);
    world.pass(HOUR);
    world.drain();
    assert_eq!((world.aws.billed(&customer(1), "requests"), world.aws.billed(&customer(2), "requests")), (11, 0));
    world.unknown_customers = UnknownCustomers::Send;
    world.restart();
    world.drain();
    assert_eq!(world.aws.billed(&customer(2), "requests"), 7, "as the configuration says now");
    world.unknown_customers = UnknownCustomers::Wait;
    world.restart();
    world.add(4, None, "requests", 8).unwrap();
    world.pass(HOUR);
    world.drain();
    assert_eq!(world.unknown(), "8");
}

#[test]
fn an_end_sends_the_open_hour_once() {
    let mut world = World::new();
    world.tell(1, None, Change::New);
    world.add(1, None, "requests", 5).unwrap();
    world.add(2, None, "requests", 1).unwrap();
    world.now = NINE.plus(MINUTE * 30);
    world.tell(1, None, Change::Ended);
    assert_eq!(world.tell(1, None, Change::Ended), Came::Known(vec![meterd::entry::AccountId(1)]), "once");
    world.restart();
    world.drain();
    assert!(world.now < NINE.plus(MINUTE * 31), "the hour's end was not waited for");
    assert_eq!(world.hours_at_aws(1), [("requests".to_owned(), 5)]);
    let refused = world.add(1, None, "requests", 9).unwrap_err();
    assert_eq!(refused.code, Code::BadCustomer);
    assert!(refused.message.contains("has ended"), "{}", refused.message);
    // It subscribes again in the same hour, which is closed for it: its usage goes into the next one.
    world.tell(1, None, Change::New);
    world.add(1, None, "requests", 3).unwrap();
    world.pass(HOUR);
    world.drain();
    assert_eq!(world.hours_at_aws(1), [("requests".to_owned(), 5)], "one record an hour");
    // And ends again: what counts in an hour to come waits for that hour.
    world.now = NINE.plus(MINUTE * 100);
    world.tell(1, None, Change::Ended);
    world.pass(HOUR);
    world.drain();
    assert_eq!(world.hours_at_aws(1), [("requests".to_owned(), 5), ("requests".to_owned(), 3)]);
}

#[test]
fn hours_without_usage_are_reported_for_active_customers() {
    let mut world = World::new();
    world.zero_records = ZeroRecords::All;
    world.restart();
    world.tell(1, None, Change::New);
    world.tell(2, Some(LICENSE), Change::New);
    world.tell(3, None, Change::New);
    world.add(1, None, "requests", 5).unwrap();
    world.add(4, None, "requests", 5).unwrap();
    world.tell(3, None, Change::Ended);
    world.aws.gone.insert(customer(2));
    for _ in 0..3 {
        world.pass(HOUR);
        world.now = world.now.plus(MINUTE * 2);
        world.pass(MINUTE);
        world.drain();
    }
    let zero = |dimension: &str| (dimension.to_owned(), 0);
    let one = world.hours_at_aws(1);
    assert_eq!(one.len(), 6, "two dimensions, three hours: {one:?}");
    assert_eq!(one.iter().filter(|hour| **hour == zero("requests")).count(), 2);
    assert_eq!((world.hours_at_aws(3).len(), world.hours_at_aws(4).len()), (0, 0), "one has ended, one is unknown");
    // AWS refuses the second: it is not told of the same nothing every hour.
    let held = world.engine().state().records.len();
    assert_eq!(held, 2, "one hour's, of both dimensions");
}

#[test]
fn what_is_older_than_the_last_word_changes_nothing() {
    let mut world = World::new();
    let at = |minutes: u32| Some(NINE.plus(MINUTE * minutes));
    world.now = NINE.plus(MINUTE * 40);
    let subscribed = told(1, None, Change::New, at(1));
    let ended = told(1, None, Change::Ended, at(20));
    assert!(matches!(world.hear(&subscribed), Came::Changed(_)));
    assert!(matches!(world.hear(&subscribed), Came::Known(_)), "the same message twice");
    assert!(matches!(world.hear(&told(1, None, Change::Ending, at(10))), Came::Changed(_)));
    assert!(matches!(world.hear(&ended), Came::Changed(_)));
    let before = world.engine().state().clone();
    assert!(matches!(world.hear(&ended), Came::Known(_)));
    assert_eq!(world.hear(&subscribed), Came::Older, "delivered once more");
    assert_eq!(*world.engine().state(), before);
    assert!(matches!(world.hear(&told(1, None, Change::New, at(30))), Came::Changed(_)), "subscribed again");
    let other = Told { products: vec!["other".into()], ..told(7, None, Change::New, at(31)) };
    assert_eq!(world.hear(&other), Came::OtherProduct);
}
