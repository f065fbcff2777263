//! What AWS refused before anything was taken: tried again when the configuration changes or a person says so, fixed anew
//! under a mended product code, moved to the dimension that was meant.

use meterd::config::Late;
use meterd::entry::{Decision, RecordKey};
use meterd::rollup::state::Phase;
use meterd::submit::answer::Outcome;

use super::{HOUR, MINUTE, NINE, Sending, World};

/// A record of 3 of nine o'clock that AWS has just refused with this.
fn refused(code: &str) -> (World, RecordKey) {
    let mut world = World::new(false);
    world.add("3");
    world.pass(HOUR + MINUTE);
    let (key, _) = world.next_record();
    refuse(&mut world, key, code);
    (world, key)
}

fn refuse(world: &mut World, key: RecordKey, code: &str) {
    world.answer(key, Outcome::Error { code: code.into(), status: 400 });
    assert_eq!(world.engine().state().records[&key].phase, Phase::Held);
}

fn accept(world: &mut World, key: RecordKey) {
    world.answer(key, Outcome::Accepted { metering_record_id: "id".into() });
    world.pass(MINUTE);
}

#[test]
fn a_changed_configuration_tries_what_was_refused_once_more_and_a_restart_does_not() {
    let (mut world, key) = refused("InvalidEndpointRegion");
    let first = world.engine().state().records[&key].record.clone();
    world.restart();
    world.pass(MINUTE);
    assert_eq!(world.next(), Sending::Idle, "nothing has changed");
    world.region = Some("eu-west-1");
    world.restart();
    let (again, request) = world.next_record();
    assert_eq!((again, request), (key, first.request), "the same request");
    refuse(&mut world, key, "InvalidEndpointRegion");
    world.pass(MINUTE);
    assert_eq!(world.next(), Sending::Idle, "once for each change");
    world.restart();
    assert_eq!(world.next(), Sending::Idle, "once for each change");
    world.region = Some("us-west-2");
    world.restart();
    let (again, _) = world.next_record();
    accept(&mut world, again);
    assert_eq!(world.books(), "received 3, accepted 3");
}

#[test]
fn a_mended_product_code_fixes_anew_what_was_refused_with_a_token_of_its_own() {
    let (mut world, old) = refused("InvalidProductCode");
    let first = world.engine().state().records[&old].record.request.clone();
    world.product = "product-meant";
    world.restart();
    world.pass(MINUTE);
    let (new, request) = world.next_record();
    assert_eq!(new, RecordKey { generation: 1, ..old });
    assert_eq!(request.product_code, "product-meant");
    assert_ne!(request.client_token, first.client_token);
    assert_eq!((request.timestamp, request.quantity), (first.timestamp, first.quantity));
    assert_eq!(world.books(), "received 3, pending 3");
    // A crash after the attempt: the new generation is the one that may have been taken; the old one is gone.
    world.restart();
    world.pass(MINUTE);
    assert!(matches!(world.next(), Sending::Probe(probe) if probe == request));
    let now = world.now;
    world.engine().probed(&super::reply(Outcome::DryRunPassed, now), now).unwrap();
    let (again, same) = world.next_record();
    assert_eq!((again, same), (new, request));
    accept(&mut world, new);
    assert_eq!(world.books(), "received 3, accepted 3");
    let history = world.engine().index().history().unwrap().read().unwrap();
    let ends: Vec<_> = history.iter().map(|r| (r.record.key.generation, r.phase, r.carried_into)).collect();
    assert_eq!(ends, [(0, Phase::Carried, Some(NINE.hour())), (1, Phase::Accepted, None)]);
    world.restart();
    world.pass(MINUTE);
    assert_eq!(world.next(), Sending::Idle);
}

#[test]
fn what_is_refused_only_after_the_product_code_was_mended_is_fixed_anew_too() {
    let mut world = World::new(false);
    world.add("3");
    world.pass(HOUR + MINUTE);
    world.product = "product-meant";
    world.restart();
    let (old, request) = world.next_record();
    assert_eq!(request.product_code, "product", "fixed when it was sealed");
    world.answer(old, Outcome::Error { code: "InvalidProductCode".into(), status: 400 });
    world.pass(MINUTE);
    let (new, request) = world.next_record();
    assert_eq!((new.generation, request.product_code.as_str()), (1, "product-meant"));
    accept(&mut world, new);
    assert_eq!(world.books(), "received 3, accepted 3");
}

#[test]
fn what_may_have_been_taken_is_never_fixed_anew() {
    let mut world = World::new(false);
    world.add("3");
    world.pass(HOUR + MINUTE);
    let (key, _) = world.next_record();
    world.answer(key, Outcome::NoAnswer);
    world.product = "product-meant";
    world.restart();
    // AWS answers again, and refuses the same request: it speaks for this attempt only.
    let Sending::Probe(_) = world.next() else { panic!("AWS is asked first") };
    let now = world.now;
    world.engine().probed(&super::reply(Outcome::DryRunPassed, now), now).unwrap();
    let (again, request) = world.next_record();
    assert_eq!((again, request.product_code.as_str()), (key, "product"));
    world.answer(key, Outcome::Error { code: "InvalidProductCode".into(), status: 400 });
    world.pass(MINUTE);
    assert_eq!(world.engine().state().records.keys().collect::<Vec<_>>(), [&key]);
    world.pass(HOUR * 7);
    assert_eq!(world.engine().state().records[&key].phase, Phase::InDoubt);
}

#[test]
fn no_change_of_the_configuration_sends_what_is_in_doubt_or_in_conflict() {
    let conflict = || {
        let mut world = World::new(false);
        world.add("3");
        world.pass(HOUR + MINUTE);
        let (key, _) = world.next_record();
        world.answer(key, Outcome::Error { code: "DuplicateRequest".into(), status: 400 });
        world
    };
    for mut world in [World::in_doubt(), conflict()] {
        let books = world.books();
        world.region = Some("eu-west-1");
        world.restart();
        world.pass(MINUTE);
        assert_eq!(world.next(), Sending::Idle);
        world.product = "product-meant";
        world.restart();
        world.pass(MINUTE);
        assert_eq!((world.next(), world.books()), (Sending::Idle, books));
    }
}

#[test]
fn released_after_its_window_it_is_carried() {
    for late in [Late::CarryForward, Late::Expire] {
        let (mut world, key) = refused("InvalidUsageDimension");
        world.late = late;
        world.pass(HOUR * 7);
        assert_eq!(world.books(), "received 3, with_person 3", "held records are not carried by themselves");
        world.restart();
        assert_eq!(world.engine().state().records[&key].phase, Phase::Held, "nor tried when nothing could be sent");
        assert_eq!(world.settle(Decision::Retry), Ok(Decision::Carry));
        assert_eq!(world.books(), "received 3, open 3");
        world.pass(HOUR);
        let (taker, request) = world.next_record();
        assert_eq!(request.quantity, 3);
        accept(&mut world, taker);
        assert_eq!(world.books(), "received 3, accepted 3");
    }
}

#[test]
fn units_of_a_mistyped_dimension_go_into_the_next_record_of_the_one_that_was_meant() {
    let (mut world, _) = refused("InvalidUsageDimension");
    assert!(world.engine().carry_to("requests", "queries").is_err(), "it is not configured yet");
    world.names = vec!["queries"];
    world.restart();
    // The change tries it once more; it is as wrong as before.
    let (key, _) = world.next_record();
    refuse(&mut world, key, "InvalidUsageDimension");
    let decision = world.engine().carry_to("requests", "queries").unwrap();
    assert_eq!(world.settle(decision), Ok(decision));
    assert_eq!((world.books(), world.books_of(1)), (String::new(), "received 3, open 3".into()));
    world.restart();
    assert_eq!((world.books(), world.books_of(1)), (String::new(), "received 3, open 3".into()));
    world.add_to("queries", "4");
    world.pass(HOUR * 2);
    let (taker, request) = world.next_record();
    assert_eq!((request.dimension.as_str(), request.quantity), ("queries", 7));
    accept(&mut world, taker);
    assert_eq!((world.books(), world.books_of(1)), (String::new(), "received 7, accepted 7".into()));
    world.pass(HOUR * 2);
    assert_eq!(world.next(), Sending::Idle);
}

#[test]
fn nothing_is_moved_to_where_it_would_not_be_billed() {
    let (mut world, _) = refused("InvalidUsageDimension");
    world.names = vec!["requests", "reads", "credits"];
    world.credit = Some(("credits", "reads"));
    world.restart();
    assert!(world.engine().carry_to("requests", "reads").is_err(), "it is billed as credits");
    assert!(world.engine().carry_to("requests", "credits").is_ok());
    world.names = vec!["requests"];
    world.credit = None;
    world.restart();
    assert!(world.engine().carry_to("requests", "credits").is_err(), "it is configured no more");
}
