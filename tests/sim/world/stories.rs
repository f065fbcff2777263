//! What seeds have found, kept as stories.

use std::sync::Arc;
use std::time::Duration;

use meterd::engine::{Engine, NewIncrement};
use meterd::entry::Peer;
use meterd::index::Index;

use crate::disk::SimDisk;
use crate::machine::NOW;
use crate::setup;

/// The clock was a day and more ahead, hours were sealed by it, and it was set right: keys that come in from then on
/// count in an hour that is far ahead of the clock, and were forgotten by the next line.
#[test]
fn a_key_is_remembered_after_the_clock_was_set_back() {
    let disk = Arc::new(SimDisk::new(1));
    let open = |disk| Engine::open(disk, setup::options(16 * 1024), NOW, |_| Ok(Index::in_memory())).unwrap();
    let mut engine = open(Arc::clone(&disk));
    engine.tick(NOW.plus(Duration::from_secs(30 * 3600))).unwrap();
    let keyed = NewIncrement {
        dimension: "requests".into(),
        quantity: Some("1".into()),
        key: Some("k".into()),
        ..NewIncrement::default()
    };
    assert_eq!(engine.take(Peer::default(), &keyed, NOW).unwrap().duplicates, 0);
    engine.commit(NOW).unwrap();
    assert_eq!(engine.take(Peer::default(), &keyed, NOW).unwrap().duplicates, 1);
    drop(engine);
    let again = open(disk).take(Peer::default(), &keyed, NOW).unwrap();
    assert_eq!(again.duplicates, 1, "after a restart");
}
