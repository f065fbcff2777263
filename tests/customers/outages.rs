//! What outages and wrong set-ups leave behind: as little as possible, and nothing that holds up others.

use std::collections::BTreeSet;

use meterd::engine::Sending;
use meterd::rollup::state::{Phase, RecordState};
use meterd::submit::answer::{Outcome, Reply};

use super::aws::reply;
use super::{HOUR, MINUTE, World, customer};

/// Every request leaves, and nothing comes back.
fn silence() -> Reply {
    reply(Outcome::NoAnswer, "the reply was lost")
}

/// Goes on for so many hours, a few customers reporting in each, while every answer is lost.
fn outage(world: &mut World, hours: u64) {
    for hour in 0..hours {
        for who in 0..30 {
            world.add(who, None, "requests", hour + who + 1).unwrap();
        }
        world.pass(HOUR);
        let until = world.now.plus(HOUR / 2);
        while world.now < until {
            match world.next() {
                Sending::Batch(keys, requests) => {
                    let now = world.now;
                    world.aws.see(&requests, now);
                    world.under_way.push((keys, silence()));
                }
                Sending::ProbeBatch => {
                    let now = world.now;
                    world.engine().probed(&silence(), now).unwrap();
                }
                // Answers are given up on when nothing more can be begun.
                _ if !world.under_way.is_empty() => {
                    let (keys, lost) = world.under_way.swap_remove(0);
                    world.now = world.now.plus(MINUTE / 3);
                    world.answer(&keys, &lost);
                }
                Sending::Wait(moment) => world.now = moment.min(until),
                _ => break,
            }
        }
    }
}

fn may_be_taken(world: &mut World) -> Vec<RecordState> {
    let records = world.engine().state().records.values();
    records.filter(|r| r.ambiguous || r.phase == Phase::InDoubt).cloned().collect()
}

/// The promise: at most one request an outage. Here it lasts three times as long as the window, with a restart in it.
#[test]
fn an_outage_leaves_one_request_in_doubt_at_the_most() {
    let mut world = World::new();
    outage(&mut world, 40);
    world.restart();
    outage(&mut world, 32);
    let doubtful = may_be_taken(&mut world);
    assert!((1..=25).contains(&doubtful.len()), "{} records", doubtful.len());
    let first: BTreeSet<_> = doubtful.iter().map(|r| r.first_attempt).collect();
    assert_eq!(first.len(), 1, "of one call: {first:?}");
    assert!(doubtful.iter().all(|r| r.phase == Phase::InDoubt), "{doubtful:#?}");
    // It is over: all the rest goes out.
    world.drain();
    world.pass(HOUR);
    world.drain();
    let doubt: u64 = doubtful.iter().map(|r| u64::from(r.record.request.quantity)).sum();
    let told: u64 = (0..40).chain(0..32).flat_map(|hour| (0..30).map(move |who| hour + who + 1)).sum();
    let billed: u64 = (0..30).map(|who| world.aws.billed(&customer(who), "requests")).sum();
    assert_eq!(billed + doubt, told);
}

/// AWS puts more than a thousand records off for an hour each; those behind them do not wait for that.
#[test]
fn what_aws_puts_off_holds_up_nobody() {
    let mut world = World::new();
    for who in 0..1220 {
        world.add(who, None, "requests", 1).unwrap();
    }
    world.pass(HOUR + MINUTE * 2);
    let begun = world.now;
    let is_put_off = |name: &str| name < customer(1200).as_str() && !name.ends_with('0');
    while let Sending::Batch(keys, requests) = world.next() {
        let off = requests.iter().enumerate().filter(|(_, r)| is_put_off(&super::aws::place(r).0)).map(|(n, _)| n);
        let answer = world.aws.take_but(&requests, begun, &off.collect());
        world.answer(&keys, &Reply { retry_after: Some(HOUR), ..answer });
        world.now = world.now.plus(MINUTE / 300);
    }
    assert!(world.now.since(begun) < HOUR / 2, "{}", world.now);
    assert_eq!(world.aws.stands.len(), 120 + 20, "all that AWS would take");
}

/// A product code that was mistyped and is mended at a restart: what was sealed under the wrong one goes out at once.
#[test]
fn a_mended_product_code_is_that_of_all_that_was_refused() {
    let mut world = World::new();
    (world.product, world.aws.product) = ("mistyped", Some("product"));
    world.restart();
    for who in 0..60 {
        world.add(who, None, "requests", who + 1).unwrap();
    }
    world.pass(HOUR + MINUTE * 2);
    for _ in 0..3 {
        let (keys, requests) = world.call();
        let answer = world.aws.take(&requests, world.now);
        world.answer(&keys, &answer);
    }
    let held = world.engine().state().records.values().filter(|r| r.phase == Phase::Held).count();
    assert_eq!((held, world.aws.stands.len()), (0, 0), "one wrong word is no reason to ask a person sixty times");
    world.product = "product";
    world.restart();
    let begun = world.now;
    world.drain();
    world.pass(MINUTE);
    world.drain();
    assert_eq!(world.aws.stands.len(), 60);
    assert!(world.now.since(begun) < HOUR, "not only when its window has passed");
}
