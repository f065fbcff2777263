//! Bits flipped one by one in a log and in an archive: each is found.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use meterd::audit;
use meterd::disk::RealDisk;
use meterd::engine::{Engine, Options};
use meterd::index::Index;

use crate::{NINE, first, meterd, options, take, work};

#[test]
fn each_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let now = NINE;
    let small = Options { segment_bytes: 16 * 1024, ..options() };
    let disk = Arc::new(RealDisk::new(dir.path()));
    let mut engine = Engine::open(disk, small, now, |_| Ok(Index::in_memory())).unwrap();
    take(&mut engine, "requests", 3, Some("k".into()), now);
    engine.commit(now).unwrap();
    take(&mut engine, "users", 4, None, now);
    engine.stop(now).unwrap();
    let path = first(dir.path());
    let good = fs::read(&path).unwrap();
    let end = good.iter().rposition(|b| *b != 0).unwrap() + 1;
    let headers = (0..88).chain(2048..2136);
    let file = fs::File::options().write(true).open(&path).unwrap();
    let (mut tried, mut ends) = (0, 0);
    for byte in headers.chain(4096..end) {
        for bit in 0..8 {
            let bad = good[byte] ^ 1 << bit;
            file.write_all_at(&[bad], byte as u64).unwrap();
            let disk = RealDisk::read_only(dir.path());
            let told = match audit::verify(&disk) {
                Err(why) => why.contains("version"),
                Ok(report) => {
                    // A last frame that does not hold cannot be told from one that was being written.
                    let last = byte >= end - 32 && !report.notes.is_empty();
                    ends += usize::from(last && report.findings.is_empty());
                    last || !report.findings.is_empty()
                }
            };
            assert!(told, "bit {bit} of byte {byte} is not found");
            tried += 1;
            if tried % 97 == 0 {
                let ran = meterd(&["verify"], dir.path());
                let wants: &[i32] = if (8..12).contains(&byte) { &[1, 76] } else { &[1] };
                assert!(wants.contains(&ran.code) || byte >= end - 32, "byte {byte}: {} {}", ran.out, ran.err);
            }
        }
        file.write_all_at(&[good[byte]], byte as u64).unwrap();
    }
    println!("verify: {tried} bits flipped and found, {ends} of them as an end that was never acknowledged");
}

#[test]
fn the_archive_is_verified_bit_by_bit_too() {
    let dir = tempfile::tempdir().unwrap();
    work(dir.path(), 60, 300);
    let path = fs::read_dir(dir.path().join("archive")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(4);
    let places = (0..88).chain(2048..2136).chain(std::iter::repeat_with(|| 0).take(60).map(|_| usize::MAX));
    for place in places {
        let byte = if place == usize::MAX { rng.usize(4096..good.len()) } else { place };
        let mut bad = good.clone();
        bad[byte] ^= 1 << rng.u8(0..8);
        fs::write(&path, &bad).unwrap();
        let report = audit::verify(&RealDisk::read_only(dir.path())).unwrap();
        assert!(!report.findings.is_empty(), "byte {byte}");
    }
    fs::write(&path, &good[..good.len() - 8]).unwrap();
    assert!(!audit::verify(&RealDisk::read_only(dir.path())).unwrap().findings.is_empty(), "a file that lost its end");
}
