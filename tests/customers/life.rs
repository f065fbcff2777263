//! Lives of a few dozen customers by seed: usage, faults of every kind, crashes at every moment; and at the end exactly
//! what was acknowledged for each is with AWS, or with a person.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use meterd::audit;
use meterd::disk::RealDisk;
use meterd::engine::{self, Change, Code, NotRegistered, Sending};
use meterd::entry::{Buyer, Peer};
use meterd::rollup::state::Phase;
use meterd::submit::answer::Outcome;

use super::aws::{error, reply};
use super::{DIMENSIONS, HOUR, LICENSE, MINUTE, World, customer};

const CUSTOMERS: u64 = 60;
const STEPS: usize = 300;

/// What was acknowledged, by customer and dimension.
type Told = BTreeMap<(u64, usize), u64>;

#[test]
fn each_customer_is_billed_what_was_acknowledged_for_it() {
    let seeds = std::env::var("METERD_CUSTOMER_SEEDS").ok().map_or(3, |n| n.parse().unwrap());
    let first = std::env::var("METERD_CUSTOMER_SEED").ok().map(|n| n.parse().unwrap());
    let mut calls = 0;
    for seed in first.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let lived = std::panic::catch_unwind(|| live(seed));
        calls += lived.unwrap_or_else(|_| panic!("repeat with METERD_CUSTOMER_SEED={seed}"));
    }
    println!("customers: {seeds} lives of {STEPS} steps, {calls} calls, each billed once");
}

fn live(seed: u64) -> usize {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::new();
    let mut told = Told::new();
    let some = |rng: &mut Rng| (0..rng.u64(0..4)).map(|_| customer(rng.u64(..CUSTOMERS))).collect::<BTreeSet<_>>();
    (world.aws.poisoned, world.aws.gone) = (some(&mut rng), some(&mut rng));
    // In every other life there is a register, which hears of some customers, and of the end of some.
    let registers = !seed.is_multiple_of(2);
    for _ in 0..STEPS {
        if registers && rng.u8(..20) == 0 {
            let change = if rng.u8(..4) == 0 { Change::Ended } else { Change::New };
            register(&mut world, rng.u64(..CUSTOMERS), change);
        }
        step(&mut world, &mut rng, &mut told);
    }
    // All goes well from here on, and everybody is known.
    for who in 0..if registers { CUSTOMERS } else { 0 } {
        register(&mut world, who, Change::New);
    }
    for _ in 0..3 {
        world.restart();
        world.pass(HOUR);
        world.drain();
    }
    judge(&mut world, &told);
    let report = audit::verify(&RealDisk::read_only(world.dir.path())).unwrap();
    assert!(report.findings.is_empty() && report.recomputed, "{:#?}", report.findings);
    world.aws.calls
}

/// Nothing but what a customer's licence leaves open is refused.
fn register(world: &mut World, who: u64, change: Change) {
    let customer = Some(Buyer::parse(&customer(who), who.is_multiple_of(3).then_some(LICENSE)).unwrap());
    let told = engine::Told {
        customer,
        identifier: None,
        agreement: None,
        products: Vec::new(),
        change,
        said: None,
        by_aws: false,
    };
    let now = world.now;
    match world.engine().tell(&told, Peer::default(), now) {
        Ok(_) => world.check_books(),
        Err(NotRegistered::DoesNotFit(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

fn step(world: &mut World, rng: &mut Rng, told: &mut Told) {
    match rng.u8(0..100) {
        0..=39 => {
            let (who, dimension) = (rng.u64(..CUSTOMERS), rng.usize(..DIMENSIONS.len()));
            // Some have a licence from the start, some learn it.
            let license = (who.is_multiple_of(3) || (who % 3 == 1 && rng.u8(..10) == 0)).then_some(LICENSE);
            let quantity = rng.u64(1..1000);
            if let Err(refused) = world.add(who, license, DIMENSIONS[dimension], quantity) {
                assert_eq!(refused.code, Code::BadCustomer, "{}", refused.message);
                return;
            }
            *told.entry((who, dimension)).or_default() += quantity;
        }
        40..=44 => world.pass(Duration::from_secs(rng.u64(60..3600))),
        45 => world.pass(HOUR * rng.u32(1..40)),
        46..=49 => world.restart(),
        50..=84 => send(world, rng),
        _ => {
            if !world.under_way.is_empty() {
                let at = rng.usize(..world.under_way.len());
                let (keys, reply) = world.under_way.swap_remove(at);
                world.answer(&keys, &reply);
            }
        }
    }
}

/// A call leaves, and something becomes of it; its answer comes later, or never.
fn send(world: &mut World, rng: &mut Rng) {
    let (keys, requests) = match world.next() {
        Sending::Batch(keys, requests) => (keys, requests),
        Sending::ProbeBatch => {
            let there = if rng.bool() { Outcome::Batch(Vec::new()) } else { Outcome::NoAnswer };
            let now = world.now;
            return world.engine().probed(&reply(there, "about nothing"), now).unwrap();
        }
        Sending::Wait(until) if until.since(world.now) < MINUTE * 10 => return world.now = until,
        _ => return,
    };
    let now = world.now;
    let lost = |message: &str| reply(Outcome::NoAnswer, message);
    let answer = match rng.u8(0..20) {
        0 => {
            world.aws.see(&requests, now);
            error("Throttling")
        }
        1 => {
            world.aws.take(&requests, now);
            lost("the reply was lost")
        }
        2 => {
            world.aws.see(&requests, now);
            lost("the request was lost")
        }
        3 => {
            world.aws.take(&requests, now);
            world.restart();
            return;
        }
        4 => {
            world.restart();
            return;
        }
        5 => reply(Outcome::NotSent, "no route"),
        6..=9 => {
            let put_off = (0..rng.usize(0..=requests.len())).map(|_| rng.usize(..requests.len())).collect();
            world.aws.take_but(&requests, now, &put_off)
        }
        _ => world.aws.take(&requests, now),
    };
    world.under_way.push((keys, answer));
}

fn judge(world: &mut World, told: &Told) {
    let now = world.now;
    let state = world.engine().state().clone();
    let dimension = |name: &str| DIMENSIONS.iter().position(|d| *d == name).unwrap();
    // What did not become AWS's, by the records themselves.
    let mut elsewhere = Told::new();
    for record in state.records.values() {
        let request = &record.record.request;
        let who = request.buyer().unwrap().customer - 100_000_000_000;
        let name = customer(who);
        let expected = world.aws.poisoned.contains(&name) || world.aws.gone.contains(&name);
        // Of a call that was lost before a long absence nobody knows what AWS did with it.
        let in_doubt = record.phase == Phase::InDoubt;
        assert!(in_doubt || (expected && record.phase.with_person()), "{now}: {record:#?}");
        let units = u64::from(request.quantity);
        let place = super::aws::place(request);
        if world.aws.stands.contains_key(&place) {
            continue;
        }
        *elsewhere.entry((who, dimension(&request.dimension))).or_default() += units;
    }
    for ((who, at), acknowledged) in told {
        let billed = world.aws.billed(&customer(*who), DIMENSIONS[*at]);
        let waits = elsewhere.get(&(*who, *at)).copied().unwrap_or(0);
        assert_eq!(billed + waits, *acknowledged, "{} of customer {who}", DIMENSIONS[*at]);
    }
    let sums = state.customer_sums(None);
    assert!(sums.iter().all(|s| s.open.is_zero() && s.fresh.is_zero() && s.carry.is_zero()), "{sums:?}");
}
