//! Customers that are heard of twice, end, and come back; and answers of AWS that must not hold up the others.

use meterd::config::{Measure, Source};
use meterd::decimal::Amount;
use meterd::engine::{Came, Change, Sending, Told};
use meterd::entry::{Buyer, Peer, Rules};
use meterd::submit::answer::{OfRecord, Outcome};

use super::aws::{error, reply};
use super::{HOUR, LICENSE, MINUTE, World, customer, rules};

const OTHER_LICENSE: &str = "arn:aws:license-manager::123456789012:license:l-other";

impl World {
    /// AWS says so, now.
    fn aws_says(&mut self, of: u64, license: Option<&str>, change: Change) -> Came {
        let customer = Some(Buyer::parse(&customer(of), license).unwrap());
        let (said, products) = (Some(self.now), vec!["product".to_owned()]);
        let told = Told { customer, identifier: None, agreement: None, products, change, said, by_aws: true };
        self.heard(&told)
    }

    fn heard(&mut self, told: &Told) -> Came {
        let now = self.now;
        let came = self.engine().tell(told, Peer::default(), now).unwrap();
        self.check_books();
        came
    }

    fn at_aws(&self, of: u64) -> Vec<u32> {
        let name = customer(of);
        self.aws.stands.iter().filter(|((who, ..), _)| *who == name).map(|(_, quantity)| *quantity).collect()
    }
}

#[test]
fn an_end_that_is_told_twice_closes_what_is_made_of_others_once() {
    let weight = Amount::from_units(1);
    let from = ["reads", "writes"].map(|name| Source { name: name.to_owned(), weight }).to_vec();
    let mut world = World::with(vec![Rules { from, ..rules("requests") }, rules("reads"), rules("writes")]);
    world.aws_says(1, None, Change::New);
    world.add(1, None, "reads", 5).unwrap();
    world.add(1, None, "writes", 2).unwrap();
    world.now = world.now.plus(MINUTE * 10);
    world.aws_says(1, None, Change::Ended);
    // Another of AWS's notices of the same end, a minute later, and a person who makes sure.
    world.now = world.now.plus(MINUTE);
    world.aws_says(1, None, Change::Ended);
    let sealed = world.engine().state().books()[0].clone();
    assert_eq!((sealed.received.to_string(), sealed.open.to_string()), ("7".to_owned(), "0".to_owned()));
    world.drain();
    world.pass(HOUR);
    world.drain();
    assert_eq!(world.at_aws(1), [7], "one record");
}

#[test]
fn no_level_of_a_customer_that_has_ended_goes_on() {
    let mut world = World::with(vec![Rules { measure: Measure::Last, sticky: true, ..rules("seats") }]);
    world.aws_says(1, None, Change::New);
    world.add(1, None, "seats", 5).unwrap();
    world.now = world.now.plus(MINUTE * 10);
    world.aws_says(1, None, Change::Ended);
    // It comes back in the hour that is closed for it, and ends again before the next one.
    world.now = world.now.plus(MINUTE * 10);
    world.aws_says(1, None, Change::New);
    world.add(1, None, "seats", 5).unwrap();
    world.now = world.now.plus(MINUTE * 20);
    world.aws_says(1, None, Change::Ended);
    for _ in 0..5 {
        world.pass(HOUR);
        world.drain();
    }
    assert_eq!(
        world.at_aws(1),
        [5, 5],
        "the hour that it had in the beginning, and the one that it had after it came back"
    );
}

#[test]
fn who_comes_back_under_another_licence_need_not_name_it() {
    let mut world = World::new();
    world.aws_says(1, Some(LICENSE), Change::New);
    world.add(1, None, "requests", 5).unwrap();
    world.now = world.now.plus(MINUTE * 10);
    world.aws_says(1, Some(LICENSE), Change::Ended);
    world.now = world.now.plus(MINUTE);
    world.aws_says(1, Some(OTHER_LICENSE), Change::New);
    world.add(1, None, "requests", 3).unwrap();
    world.pass(HOUR);
    world.drain();
    let under = |license: &str| {
        let mut all = world.aws.stands.iter();
        all.find(|((_, of, ..), _)| of.as_deref() == Some(license)).map(|(_, quantity)| *quantity)
    };
    assert_eq!((under(LICENSE), under(OTHER_LICENSE)), (Some(5), Some(3)));
}

#[test]
fn only_who_subscribes_again_comes_back_and_another_products_notice_is_none() {
    let mut world = World::new();
    world.aws_says(1, None, Change::New);
    world.now = world.now.plus(MINUTE);
    let elsewhere = Told {
        customer: Some(Buyer::parse(&customer(1), None).unwrap()),
        identifier: None,
        agreement: None,
        products: vec!["another".to_owned()],
        change: Change::Ended,
        // Without the envelope that says when.
        said: None,
        by_aws: true,
    };
    assert_eq!(world.heard(&elsewhere), Came::OtherProduct);
    world.add(1, None, "requests", 1).unwrap();
    world.aws_says(1, None, Change::Ended);
    world.now = world.now.plus(MINUTE);
    world.aws_says(1, None, Change::Updated);
    assert!(world.add(1, None, "requests", 1).is_err(), "an update is no subscription");
    world.now = world.now.plus(MINUTE);
    world.aws_says(1, None, Change::New);
    world.add(1, None, "requests", 1).unwrap();
}

#[test]
fn a_word_on_one_customers_record_is_a_word() {
    let mut world = World::new();
    world.add(1, None, "requests", 1).unwrap();
    world.add(2, None, "requests", 1).unwrap();
    world.pass(MINUTE * 2);
    // AWS takes the one hour by hour, and puts the other off all the time.
    for _ in 0..6 {
        world.pass(HOUR);
        world.add(1, None, "requests", 1).unwrap();
        for _ in 0..40 {
            match world.next() {
                Sending::Batch(keys, requests) => {
                    let put_off = |r: &meterd::entry::Request| r.buyer().unwrap().customer_id() == customer(2);
                    let one = |r| {
                        if put_off(r) {
                            OfRecord::Unprocessed
                        } else {
                            OfRecord::Success { metering_record_id: "id".into() }
                        }
                    };
                    let said = Outcome::Batch(requests.iter().map(one).collect());
                    world.answer(&keys, &reply(said, "some"));
                }
                Sending::Wait(until) if until.since(world.now) < MINUTE * 10 => world.now = until,
                _ => break,
            }
        }
        let now = world.now;
        let since = world.engine().state().more.waiting_since.expect("one waits");
        assert!(now.since(since) < HOUR * 2, "{since} at {now}");
    }
}

#[test]
fn an_answer_that_nobody_knows_holds_up_nobody_else() {
    let mut world = World::new();
    world.add(1, None, "requests", 1).unwrap();
    world.pass(HOUR + MINUTE * 2);
    world.add(2, None, "requests", 7).unwrap();
    // Whatever has the one's record in it.
    let mut calls = 0;
    while world.at_aws(2).is_empty() {
        match world.next() {
            Sending::Batch(keys, requests) => {
                let is_odd = requests.iter().any(|r| r.buyer().unwrap().customer_id() == customer(1));
                let now = world.now;
                let said = if is_odd { error("SomethingNew") } else { world.aws.take(&requests, now) };
                world.answer(&keys, &said);
                calls += 1;
            }
            Sending::Wait(until) => {
                let span = until.since(world.now);
                world.pass(span);
            }
            other => panic!("{other:?}"),
        }
        assert!(calls < 100, "the other one is never billed");
    }
}

#[test]
fn a_misspelt_dimension_is_told_of_all_records_at_once() {
    let mut world = World::new();
    for of in 0..25 {
        world.add(of, None, "requests", 1).unwrap();
    }
    world.pass(HOUR + MINUTE * 2);
    let (keys, _) = world.call();
    assert_eq!(keys.len(), 25);
    world.answer(&keys, &error("InvalidUsageDimension"));
    world.drain();
    assert_eq!(world.aws.calls, 0, "none goes again in halves");
    assert_eq!(world.engine().state().books()[0].with_person.to_string(), "25");
}
