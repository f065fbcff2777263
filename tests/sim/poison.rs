//! After the disk has failed once nothing is acknowledged; a full disk heals. Sees the log and the engine on it. Cannot
//! see that the agent exits then (the agent's own tests do).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use meterd::disk::Disk;
use meterd::engine::{Code, Engine, NewIncrement};
use meterd::entry::Peer;
use meterd::index::Index;
use meterd::wal::open;
use meterd::wal::spares::Need;
use meterd::wal::{Log, LogError, OpenError, Purpose};

use super::disk::{EDQUOT, EIO, ENOSPC, EROFS, Fault, SimDisk};
use super::machine::{NOW, options};
use super::setup;

fn fresh() -> (SimDisk, Log<SimDisk>) {
    let disk = SimDisk::new(1);
    let opened = open::open(Arc::new(disk.clone()), &options(), &mut |_| Ok(())).unwrap();
    (disk, opened.log)
}

fn poisoned<T: std::fmt::Debug>(result: Result<T, LogError>) {
    assert!(matches!(result, Err(LogError::Poisoned(_))), "{result:?}");
}

#[test]
fn a_failed_write_or_sync_is_final() {
    for errno in [EIO, EROFS, ENOSPC, EDQUOT] {
        for operation in ["write", "sync"] {
            let (disk, mut log) = fresh();
            log.append(1, b"one", Need::Usage, NOW).unwrap();
            disk.inject(u64::from(operation == "sync"), Fault::Fail(errno));
            poisoned(log.commit());
            let ops = disk.ops();
            for _ in 0..3 {
                poisoned(log.commit());
                let _ = log.append(1, b"two", Need::Usage, NOW);
                poisoned(log.commit());
                poisoned(log.roll(Need::Control, NOW));
                poisoned(log.ensure_room(5, Need::Usage));
            }
            assert_eq!(disk.ops(), ops, "{operation} {errno}: the disk is left alone");
        }
    }
}

#[test]
fn a_failed_activation_is_final() {
    // Header, header, fsync, rename, fsync of the directory.
    for at in 0..5 {
        let (disk, mut log) = fresh();
        log.ensure_room(20_000, Need::Usage).unwrap();
        disk.inject(at, Fault::Fail(EIO));
        poisoned(log.roll(Need::Control, NOW));
        poisoned(log.commit());
    }
}

#[test]
fn a_spare_that_fails_for_another_reason_than_room_is_final() {
    for errno in [EIO, EROFS] {
        let (disk, mut log) = fresh();
        disk.inject(0, Fault::Fail(errno));
        poisoned(log.ensure_room(20_000, Need::Usage));
        poisoned(log.commit());
    }
}

#[test]
fn a_full_disk_heals_and_leaves_a_reserve() {
    for errno in [ENOSPC, EDQUOT] {
        let (disk, mut log) = fresh();
        log.ensure_room(20_000, Need::Usage).unwrap();
        log.roll(Need::Usage, NOW).unwrap();
        disk.set_capacity(Some(disk.used()));
        if errno == EDQUOT {
            disk.inject(0, Fault::Fail(EDQUOT));
        }
        let full = log.ensure_room(20_000, Need::Usage);
        assert!(matches!(full, Err(LogError::Full(_))), "{full:?}");
        assert!(matches!(log.roll(Need::Usage, NOW), Err(LogError::Full(_))));
        // What is in the segment still counts, and what has to be written takes the reserve.
        log.append(1, b"fits", Need::Usage, NOW).unwrap();
        log.commit().unwrap();
        log.roll(Need::Control, NOW).unwrap();
        log.append(3, b"a seal", Need::Control, NOW).unwrap();
        log.commit().unwrap();
        assert!(matches!(log.ensure_room(20_000, Need::Usage), Err(LogError::Full(_))));
        disk.set_capacity(None);
        log.ensure_room(20_000, Need::Usage).unwrap();
        log.roll(Need::Usage, NOW).unwrap();
        log.commit().unwrap();
    }
}

#[test]
fn a_full_disk_refuses_usage_and_seals_hours() {
    let disk = SimDisk::new(2);
    let mut engine =
        Engine::open(Arc::new(disk.clone()), setup::options(16 * 1024), NOW, |_| Ok(Index::in_memory())).unwrap();
    let one = |i: u32| NewIncrement {
        dimension: "requests".into(),
        quantity: Some("1".into()),
        key: Some(Cow::Owned(format!("a key of some length, so that the segment fills up, number {i}"))),
        ..NewIncrement::default()
    };
    let (mut taken, mut refused) = (0, None);
    for i in 0..2000 {
        if engine.log().segment_id() == 2 {
            disk.set_capacity(Some(disk.used()));
        }
        match engine.take(Peer::default(), &one(i), NOW) {
            Ok(_) => taken += 1,
            Err(refusal) => {
                refused = Some(refusal);
                break;
            }
        }
        engine.commit(NOW).unwrap();
    }
    let refusal = refused.expect("a full disk");
    assert_eq!(refusal.code, Code::DiskFull, "{}", refusal.message);
    assert_eq!(Code::DiskFull.retryable(), Some("no"));
    assert!(engine.disk_full());
    engine.commit(NOW).unwrap();

    let later = NOW.plus(Duration::from_secs(2 * 3600));
    engine.tick(later).unwrap();
    let records = &engine.state().records;
    assert_eq!(records.values().map(|r| r.record.request.quantity).sum::<u32>(), taken, "sealed from the reserve");
    assert!(matches!(engine.next_sending(later), Ok(meterd::engine::Sending::Record(..))));

    disk.set_capacity(None);
    engine.take(Peer::default(), &one(5000), later).unwrap();
    engine.commit(later).unwrap();
    assert!(!engine.disk_full());
    assert!(disk.list("wal").unwrap().len() >= 3);
}

/// Increments that were taken cannot be given back: if there is no room for them after all, no answer is `ok`.
#[test]
fn room_that_is_gone_after_increments_were_taken_is_final() {
    let disk = SimDisk::new(3);
    let options = setup::options(16 * 1024);
    let mut engine = Engine::open(Arc::new(disk.clone()), options.clone(), NOW, |_| Ok(Index::in_memory())).unwrap();
    let tag = |i: usize| (format!("team{}", i % 5), format!("{i}-{}", "x".repeat(200)));
    // A state that is longer than several segments, so that the checkpoint alone needs more room than was made sure of.
    for i in 0..200 {
        let tagged = NewIncrement {
            dimension: "requests".into(),
            quantity: Some("1".into()),
            tags: vec![tag(i)],
            ..NewIncrement::default()
        };
        engine.take(Peer::default(), &tagged, NOW).unwrap();
        engine.commit(NOW).unwrap();
    }
    let keyed = |i: u32| NewIncrement {
        dimension: "gigabytes".into(),
        quantity: Some("1".into()),
        key: Some(Cow::Owned(format!("k{i}"))),
        ..NewIncrement::default()
    };
    let mut acked = 0;
    for i in 0..3000 {
        disk.set_capacity(None);
        engine.take(Peer::default(), &keyed(2 * i), NOW).unwrap();
        // Somebody else fills the disk at this moment.
        disk.set_capacity(Some(disk.used()));
        let second = engine.take(Peer { uid: 1, ..Peer::default() }, &keyed(2 * i + 1), NOW);
        if engine.commit(NOW).is_err() {
            break;
        }
        acked += 1 + i128::from(second.is_ok());
    }
    poisoned(engine.commit(NOW));
    drop(engine);
    disk.crash();
    disk.set_capacity(None);
    let engine = Engine::open(Arc::new(disk), options, NOW, |_| Ok(Index::in_memory())).unwrap();
    let received = engine.state().books()[1].received.millionths() / 1_000_000;
    assert!(received >= acked, "acknowledged {acked}, received {received}");
}

/// Another kind of log in the directory: refused, and left as it was.
#[test]
fn a_real_log_is_not_touched_by_a_test() {
    let (disk, mut log) = fresh();
    log.append(1, b"one", Need::Usage, NOW).unwrap();
    log.commit().unwrap();
    disk.create("wal/recovered.tmp").unwrap();
    let before = disk.contents();
    let other = open::Options { purpose: Purpose::Real, segment_bytes: 64 * 1024, ..options() };
    let refused = open::open(Arc::new(disk.clone()), &other, &mut |_| Ok(())).map(|o| o.report);
    assert!(matches!(refused, Err(OpenError::Purpose { found: Purpose::Test })), "{refused:?}");
    assert!(disk.contents() == before, "the directory was changed");
}
