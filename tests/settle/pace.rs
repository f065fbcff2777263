//! How fast and when: never near AWS's quota, each instance at its own moment, as late as AWS asks.

use std::time::Duration;

use meterd::config::Offset;
use meterd::submit::answer::{Outcome, Reply};
use meterd::submit::outbox::spread;

use super::{HOUR, MINUTE, NINE, Sending, World, reply};

#[test]
fn an_instance_sends_at_its_own_moment_and_a_fleet_is_spread() {
    let offsets: Vec<_> = (0..600).map(|n| spread("product", &format!("i-{n:017x}"))).collect();
    assert!(offsets.iter().all(|o| (MINUTE * 2..MINUTE * 12).contains(o)), "{offsets:?}");
    // 600 instances over 600 seconds: AWS takes ten a second for the account.
    let crowd = |at: u64| offsets.iter().filter(|o| o.as_secs() == at).count();
    assert!((120..720).all(|at| crowd(at) <= 8), "{offsets:?}");
    let mut world = World::new(false);
    world.offset = Offset::Auto;
    world.restart();
    world.add("1");
    world.pass(HOUR + MINUTE);
    let now = world.now;
    let due = NINE.plus(HOUR + spread("product", "i-0123456789abcdef0"));
    assert_eq!(world.engine().next_sending(now).unwrap(), Sending::Wait(due));
    world.restart();
    assert_eq!(world.engine().next_sending(now).unwrap(), Sending::Wait(due), "the same after every start");
}

#[test]
fn what_an_outage_left_goes_out_well_below_the_quota() {
    let mut world = World::new(false);
    world.names = vec!["a", "b", "c", "d", "e", "f", "g", "h"];
    world.restart();
    for _ in 0..5 {
        for name in world.names.clone() {
            world.add_to(name, "1");
        }
        world.pass(HOUR);
    }
    world.pass(MINUTE);
    let mut calls = Vec::new();
    while let Sending::Record(key, _) = world.next() {
        calls.push(world.now);
        // AWS answers at once.
        world.answer(key, Outcome::Accepted { metering_record_id: "id".into() });
    }
    assert_eq!(calls.len(), 40);
    let gaps: Vec<Duration> = calls.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(500)), "{gaps:?}");
    assert!(gaps.iter().sum::<Duration>() < MINUTE, "and yet they are soon gone: {gaps:?}");
}

/// An answer without a `Date` settles no doubt: it is asked again, but not in haste.
#[test]
fn a_question_that_stays_open_is_asked_less_and_less_often() {
    let mut world = World::new(true);
    let mut now = world.now.plus(HOUR * 1000);
    assert!(world.engine().heed(now).unwrap(), "the clock is in doubt");
    let silent = Reply { aws_time: None, ..reply(Outcome::DryRunPassed, now) };
    let (begun, mut asked) = (now, 0);
    while now < begun.plus(HOUR) {
        match world.engine().next_sending(now).unwrap() {
            Sending::Probe(_) => {
                asked += 1;
                world.engine().probed(&silent, now).unwrap();
            }
            Sending::Wait(until) => now = until,
            other => panic!("{other:?}"),
        }
    }
    assert!(asked < 150, "{asked} calls in an hour");
}

#[test]
fn failures_make_the_pauses_longer_up_to_five_minutes_and_no_two_fleets_march_in_step() {
    let mut world = World::new(false);
    world.add("1");
    world.pass(HOUR + MINUTE);
    let mut pauses = Vec::new();
    for _ in 0..30 {
        let (key, _) = world.next_record();
        let before = world.now;
        world.answer(key, Outcome::NotSent);
        world.next_at();
        pauses.push(world.now.since(before));
    }
    assert!(pauses.iter().all(|p| (Duration::from_millis(200)..=MINUTE * 5).contains(p)), "{pauses:?}");
    assert!(pauses[..3].iter().all(|p| *p <= Duration::from_secs(4)), "{pauses:?}");
    let late = &pauses[12..];
    // Anywhere up to five minutes: all in one half of that range is one chance in 2^17.
    assert!(late.iter().any(|p| *p > MINUTE * 5 / 2) && late.iter().any(|p| *p < MINUTE * 5 / 2), "{pauses:?}");
}

#[test]
fn a_call_waits_as_long_as_aws_asks() {
    let mut world = World::new(false);
    world.add("1");
    world.pass(HOUR + MINUTE);
    let (key, _) = world.next_record();
    let before = world.now;
    let asked = Reply {
        retry_after: Some(MINUTE * 20),
        ..reply(Outcome::Error { code: "Throttling".into(), status: 400 }, before)
    };
    world.engine().answered(key, &asked, before).unwrap();
    world.next_at();
    let waited = world.now.since(before);
    assert!((MINUTE * 20..MINUTE * 26).contains(&waited), "{waited:?}");
}
