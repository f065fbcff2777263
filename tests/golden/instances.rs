//! A log that three instances had, one after another, and two ends that did not come: an entry of each kind that tells of
//! them, and a checkpoint with each of the sections that do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meterd::disk::RealDisk;
use meterd::engine::{Disposal, Engine, NewIncrement, Options, Sending};
use meterd::entry::Peer;
use meterd::hour::{Reading, Timestamp};
use meterd::index::Index;
use meterd::submit::answer::{Outcome, Reply};

use super::{HOUR, NINE, options, reply};

type Agent = Engine<RealDisk>;

/// More than a segment of it, so that a checkpoint follows.
const MANY: usize = 300;
const BY: Peer = Peer { uid: 1000, gid: 1000, pid: 4711 };

/// A start on an instance, in a boot of it.
fn start(dir: &Path, instance: Option<&str>, boot: u8, now: Timestamp) -> Agent {
    let options = Options {
        instance: instance.map(Into::into),
        judge_clock: true,
        // Nothing of it is to go.
        retain: HOUR * 24 * 365,
        ..options()
    };
    Engine::open(Arc::new(RealDisk::new(dir)), options, reading(boot, now), |_| Ok(Index::in_memory())).unwrap()
}

fn reading(boot: u8, at: Timestamp) -> Reading {
    Reading { at, boot: Some([boot; 16]), since_boot: at.since(NINE) + Duration::from_secs(60) }
}

fn fill(engine: &mut Agent, name: &str, increments: usize, now: Timestamp) {
    for i in 0..increments {
        let tags = if i % 3 == 0 { vec![("team".to_owned(), format!("t{}", i % 2))] } else { Vec::new() };
        let key = Some(format!("{name}-{i}").into());
        let quantity = Some("1.25".into());
        let requests = NewIncrement { dimension: "requests".into(), quantity, key, tags, ..NewIncrement::default() };
        engine.take(BY, &requests, now).unwrap();
        if i == 0 {
            let quantity = Some("7".into());
            let seats = NewIncrement { dimension: "seats".into(), quantity, ..NewIncrement::default() };
            engine.take(BY, &seats, now).unwrap();
        }
    }
    engine.commit(now).unwrap();
}

/// AWS takes what waits.
fn send(engine: &mut Agent, now: Timestamp) {
    for number in 0..20 {
        match engine.next_sending(now).unwrap() {
            Sending::Record(key, _) => {
                let outcome = Outcome::Accepted { metering_record_id: format!("mr-{key}-{number}") };
                engine.answered(key, &Reply { aws_time: Some(now), ..reply(outcome) }, now).unwrap();
            }
            Sending::Probe(_) => {
                let there = Reply { aws_time: Some(now), ..reply(Outcome::DryRunPassed) };
                engine.probed(&there, now).unwrap();
            }
            Sending::Batch(..) | Sending::ProbeBatch => panic!("nobody here sells to customers"),
            Sending::Wait(_) | Sending::Idle => return,
        }
    }
}

pub fn fill_log(dir: &Path) {
    let (ten, eleven) = (NINE.plus(HOUR), NINE.plus(HOUR * 2));
    let past = |hour: Timestamp| hour.plus(Duration::from_secs(120));

    // A record that waits, and an hour that goes on.
    let mut first = start(dir, Some("i-golden"), 1, NINE);
    fill(&mut first, "first", 5, NINE);
    first.heed(reading(1, past(ten))).unwrap();
    first.tick(past(ten)).unwrap();
    fill(&mut first, "second", 3, past(ten));
    drop(first);

    // On another one, whose metadata is late; it is its replacement.
    let mut copy = start(dir, None, 2, past(ten));
    fill(&mut copy, "late", MANY, past(ten));
    copy.set_instance("i-copy".into(), past(ten)).unwrap();
    fill(&mut copy, "named", MANY, past(ten));
    copy.heed(reading(2, past(eleven))).unwrap();
    copy.tick(past(eleven)).unwrap();
    copy.dispose(Disposal::Adopt, None, BY, past(eleven)).unwrap();
    send(&mut copy, past(eleven));
    // It ends, and does not; and ends again, which a start calls off.
    copy.end(Some(BY), "golden", past(eleven)).unwrap();
    send(&mut copy, past(eleven));
    copy.call_off(Some(BY), past(eleven)).unwrap();
    copy.end(None, "spot", past(eleven)).unwrap();
    drop(copy);
    let mut copy = start(dir, Some("i-copy"), 2, past(eleven));
    fill(&mut copy, "left", 7, past(eleven));
    drop(copy);

    // A day later on a third, by a clock that nobody confirms yet; the other one goes on elsewhere.
    let day = past(NINE.plus(HOUR * 24));
    let mut third = start(dir, Some("i-third"), 3, day);
    fill(&mut third, "third", MANY, day);
    send(&mut third, day);
    third.tick(day).unwrap();
    third.dispose(Disposal::Discard, Some("i-copy"), BY, day).unwrap();
    fill(&mut third, "last", 2, day);
    third.stop(day).unwrap();
}
