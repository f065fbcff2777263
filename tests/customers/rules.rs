//! One rule a test.

use std::collections::BTreeSet;
use std::time::Duration;

use meterd::config::Measure;
use meterd::disk::RealDisk;
use meterd::engine::{Code, Engine, EngineError, Options, Sending};
use meterd::entry::{Buyer, Decision, Entry, Peer};
use meterd::index::Index;
use meterd::rollup::Checkpoint;
use meterd::rollup::state::Phase;
use meterd::submit::answer::{Outcome, Reply};

use super::aws::{error, place, reply};
use super::{HOUR, LICENSE, MINUTE, NINE, World, customer};

fn hour_of(customers: u64) -> World {
    let mut world = World::new();
    for who in 0..customers {
        world.add(who, None, "requests", who + 1).unwrap();
    }
    world.pass(HOUR + MINUTE * 2);
    world
}

#[test]
fn a_call_has_25_records_and_one_is_in_flight_unless_more_are_asked_for() {
    let mut world = hour_of(130);
    let (keys, requests) = world.call();
    world.now = world.now.plus(MINUTE);
    assert_eq!((keys.len(), world.next()), (25, Sending::Idle), "until it is answered");
    let answer = world.aws.take(&requests, world.now);
    world.answer(&keys, &answer);
    let mut world = hour_of(130);
    world.calls_in_flight = 4;
    world.restart();
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(world.call());
    }
    assert!(calls.iter().all(|(keys, _)| keys.len() == 25));
    let all: BTreeSet<_> = calls.iter().flat_map(|(_, requests)| requests.iter().map(place)).collect();
    assert_eq!(all.len(), 100, "no record is under way twice");
    world.now = world.now.plus(HOUR);
    assert_eq!(world.next(), Sending::Idle, "until one of them is answered");
    let (keys, requests) = calls.pop().unwrap();
    let answer = world.aws.take(&requests, world.now);
    world.answer(&keys, &answer);
    assert_eq!(world.call().0.len(), 25);
}

#[test]
fn calls_keep_to_the_quota() {
    let mut world = hour_of(500);
    let begun = world.now;
    let mut calls = 0;
    while world.now.since(begun) < Duration::from_secs(10) {
        match world.next() {
            Sending::Batch(keys, requests) => {
                calls += 1;
                let answer = world.aws.take(&requests, world.now);
                world.answer(&keys, &answer);
            }
            Sending::Wait(until) => world.now = until,
            other => {
                assert_eq!(other, Sending::Idle);
                break;
            }
        }
    }
    assert_eq!(calls, 20);
    assert!(world.now.since(begun) >= Duration::from_secs(2), "ten a second at the most");
}

#[test]
fn one_bad_record_never_blocks_24_good_ones() {
    let mut world = hour_of(25);
    world.aws.poisoned.insert(customer(7));
    world.drain();
    assert_eq!(world.aws.stands.len(), 24);
    let held: Vec<_> = world.engine().state().records.values().cloned().collect();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].phase, held[0].record.request.buyer().unwrap().customer_id()), (Phase::Held, customer(7)));
    // Mended, it is sent again by a person's word.
    world.aws.poisoned.clear();
    let (now, buyer) = (world.now, Buyer { customer: 100_000_000_007, license: None });
    let engine = world.engine();
    engine.settle_of(Some(&buyer), "requests", NINE.hour(), Decision::Retry, Peer::default(), now).unwrap();
    world.drain();
    assert_eq!(world.aws.billed(&customer(7), "requests"), 8);
}

#[test]
fn what_may_have_been_taken_goes_again_before_anything_else() {
    let mut world = hour_of(60);
    let (keys, requests) = world.call();
    let now = world.now;
    world.aws.take(&requests, now);
    world.answer(&keys, &reply(Outcome::NoAnswer, "lost"));
    world.restart();
    let (again, same) = world.call();
    assert_eq!((again, &same), (keys.clone(), &requests), "that same call, also after a restart");
    world.answer(&keys, &error("Throttling"));
    let (again, _) = world.call();
    assert_eq!(again, keys, "a call that was not taken says nothing of the one before");
    let answer = world.aws.take(&same, now);
    world.answer(&keys, &answer);
    world.drain();
    assert_eq!(world.aws.stands.len(), 60);
}

#[test]
fn a_customer_learns_its_licence_and_is_never_billed_both_ways() {
    let mut world = World::new();
    world.add(1, None, "requests", 5).unwrap();
    world.pass(HOUR);
    world.add(1, None, "requests", 7).unwrap();
    // Nine is sealed by grace only now: it goes out without the licence, ten with it.
    world.pass(MINUTE * 2);
    world.add(1, Some(LICENSE), "gigabytes", 9).unwrap();
    world.add(1, None, "requests", 1).unwrap();
    world.pass(HOUR);
    world.drain();
    let stands: Vec<_> =
        world.aws.stands.iter().map(|((_, l, d, h), q)| (h.index(), l.is_some(), d.as_str(), *q)).collect();
    let nine = NINE.hour().index();
    let mut expected =
        [(nine, false, "requests", 5), (nine + 1, true, "gigabytes", 9), (nine + 1, true, "requests", 8)];
    expected.sort_unstable();
    let mut stands = stands;
    stands.sort_unstable();
    assert_eq!(stands, expected);
    // With two licences an increment must say which.
    world.add(1, Some(&format!("{LICENSE}2")), "requests", 1).unwrap();
    let refused = world.add(1, None, "requests", 1).unwrap_err();
    assert_eq!(refused.code, Code::BadCustomer, "{refused:?}");
}

#[test]
fn past_the_window_units_go_into_the_customers_next_record() {
    let mut world = hour_of(3);
    world.add(0, None, "requests", 100).unwrap();
    world.pass(HOUR * 26);
    world.pass(HOUR);
    world.drain();
    assert_eq!(world.aws.billed(&customer(0), "requests"), 100 + 1);
    assert_eq!(world.aws.billed(&customer(2), "requests"), 3);
    let carried = world.engine().state().ended.carried;
    assert_eq!(carried, 4, "the records of nine and ten");
}

#[test]
fn a_month_is_closed_six_hours_into_the_next() {
    let mut world = World::new();
    // The last hour of November.
    world.pass(Duration::from_secs(9 * 24 * 3600) + HOUR * 14);
    world.add(1, None, "requests", 1).unwrap();
    world.pass(HOUR + MINUTE * 2);
    let (key, deadline) = world.engine().state().fresh_deadline().unwrap();
    assert_eq!(
        (key.hour.to_string(), deadline.to_string()),
        ("2026-11-30T23:00:00Z".into(), "2026-12-01T06:00:00Z".into())
    );
}

#[test]
fn whose_usage_it_is_must_be_said_and_right() {
    let mut world = World::new();
    for (customer, license) in [("1", None), ("12345678901x", None), ("123456789012", Some("no arn")), ("", None)] {
        assert!(Buyer::parse(customer, license).is_err(), "{customer:?} {license:?}");
    }
    let now = world.now;
    let new =
        meterd::engine::NewIncrement { dimension: "requests".into(), quantity: Some("1".into()), ..Default::default() };
    let refused = world.engine().take(Peer::default(), &new, now).unwrap_err();
    assert_eq!(refused.code, Code::BadCustomer);
}

#[test]
fn a_log_is_of_one_kind_for_ever() {
    let world = hour_of(1);
    let disk = std::sync::Arc::new(RealDisk::new(world.dir.path()));
    let options = Options { saas: false, instance: Some("i-1".into()), ..world.options() };
    drop(world.engine);
    let opened = Engine::open(disk, options, NINE, |_| Ok(Index::in_memory()));
    assert!(matches!(opened, Err(EngineError::OtherKind { .. })));
}

#[test]
fn an_hour_that_is_closed_in_parts_takes_nothing_between_them() {
    let mut world = World::new();
    for who in 0..700 {
        world.add(who, None, "requests", 1).unwrap();
        world.add(who, None, "gigabytes", 2).unwrap();
    }
    let (hour, at) = (NINE.hour(), NINE.plus(HOUR + MINUTE * 2));
    let mut state = world.engine().state().clone();
    let part = state.seal_part(hour, at, None).unwrap();
    assert_eq!(part.rows.len(), 1000);
    let sealed = Entry::SealedPart(part);
    assert!(sealed.encode().unwrap().len() < 1000 * 22, "a row is short");
    state.apply(&sealed);
    // As after a crash between two parts.
    let mut state = Checkpoint::decode(&Checkpoint::encode(&state).unwrap()).unwrap().state;
    let placed = state.place(Measure::Sum, Some(NINE), at).unwrap();
    assert_eq!((placed.hour, placed.late), (hour.next(), true), "nothing more counts in the hour");
    let later = at.plus(MINUTE);
    while let Some(part) = state.seal_part(hour, later, None) {
        assert!(part.rows.iter().all(|row| row.account.0 > 500), "no customer is closed twice");
        state.apply(&Entry::SealedPart(part));
    }
    state.apply(&Entry::Seal(state.seal(hour, hour, later).unwrap()));
    assert_eq!((state.customers().unwrap().fresh_count(), state.open_from), (1400, hour.next()));
    assert!(
        state.books().iter().all(|books| books.balanced() && books.pending == books.received),
        "{:?}",
        state.books()
    );
}

#[test]
fn an_attempt_stands_in_the_log_before_its_call_leaves() {
    let mut world = hour_of(30);
    let (keys, _) = world.call();
    world.restart();
    let records = &world.engine().state().records;
    assert_eq!(records.len(), 25);
    assert!(keys.iter().all(|key| records[key].ambiguous && records[key].attempts == 1), "{records:#?}");
}

#[test]
fn what_aws_leaves_unprocessed_is_sent_again() {
    let mut world = hour_of(25);
    let (keys, requests) = world.call();
    let answer = world.aws.take_but(&requests, world.now, &BTreeSet::from([3, 24]));
    world.answer(&keys, &answer);
    assert_eq!(world.engine().state().ended.accepted, 23);
    world.drain();
    assert_eq!(world.aws.stands.len(), 25);
}

#[test]
fn another_quantity_and_a_customer_without_a_subscription_wait_for_a_person() {
    let mut world = hour_of(3);
    world.aws.gone.insert(customer(0));
    let place = (customer(1), None, "requests".to_owned(), NINE.hour());
    world.aws.stands.insert(place, 77);
    world.drain();
    let phases: Vec<Phase> = world.engine().state().records.values().map(|r| r.phase).collect();
    assert_eq!(phases, [Phase::Held, Phase::Conflict]);
    assert_eq!(world.aws.billed(&customer(2), "requests"), 3);
}

#[test]
fn nothing_is_sent_before_awss_clock_is_known() {
    let mut world = hour_of(2);
    world.judge_clock = true;
    world.restart();
    assert_eq!(world.next(), Sending::ProbeBatch);
    let now = world.now;
    let told = Reply { aws_time: Some(now), ..reply(Outcome::Batch(Vec::new()), "nothing to take") };
    world.engine().probed(&told, now).unwrap();
    assert_eq!(world.call().0.len(), 2);
}

#[test]
fn the_end_of_the_machine_closes_the_hour_of_every_customer() {
    let mut world = hour_of(0);
    world.add(1, None, "requests", 5).unwrap();
    let now = world.now;
    world.engine().end(None, "a test", now).unwrap();
    assert_eq!(world.engine().end_seen().waiting.len(), 1);
    world.drain();
    let seen = world.engine().end_seen();
    assert_eq!((seen.waiting.len(), seen.sent.len(), seen.left.len()), (0, 1, 0));
    assert_eq!(world.aws.billed(&customer(1), "requests"), 5);
}
