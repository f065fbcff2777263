//! Retention where it meets damage and a disk without room, which it is to make: it waits and goes on by itself, and takes
//! nothing before the records are in the archive and the damaged bytes in quarantine. Sees each amount of room, with a
//! kill and a power cut there. Cannot see what a real file system needs besides.

use std::time::Duration;

use meterd::wal::segment;

use super::cuts;
use super::disk::SimDisk;
use super::retention::{SMALL, drive, look, open, segments, small, two_days};

/// So much more room each time.
const STEP: usize = 512;

#[test]
fn a_damaged_stretch_on_a_full_disk_waits_for_room() {
    let (whole, then, _) = two_days();
    let (mut refused, mut tried) = (0, 0);
    for damaged in 1..=3 {
        let (disk, mut now) = (whole.fork(), then);
        let name = segment::file_name(damaged);
        disk.rot(&name, SMALL as usize / 2, |b| b ^ 1);
        let rotten = disk.contents()[&name].clone();
        let mut engine = open(&disk, small(1), now).unwrap();
        let (seen, full) = (look(&engine), disk.used());
        for room in (0..).step_by(STEP) {
            assert!(room < 16 * SMALL as usize, "segments stay, whatever the room: {:?}", segments(&disk));
            disk.set_capacity(Some(full + room));
            let first = segments(&disk)[0];
            now = now.plus(Duration::from_secs(120));
            drive(&mut engine, now);
            let story = format!("segment {damaged} damaged, {room} bytes free: segments {:?}", segments(&disk));
            assert_eq!(engine.retention_failure(), None, "{story}");
            assert_eq!(look(&engine), seen, "{story}");
            refused += usize::from(segments(&disk)[0] == first);
            for how in [SimDisk::crash, |disk: &SimDisk| disk.cut(&mut cuts::by_seed(1))] {
                let left = disk.fork();
                how(&left);
                tried += 1;
                left.set_capacity(None);
                assert_eq!(look(&open(&left, small(1), now).unwrap()), seen, "{story}, after a start");
                if segments(&left)[0] > damaged {
                    let kept = kept_of(&left, damaged);
                    assert!(rotten.windows(kept.len()).any(|bytes| bytes == kept), "{story}: no copy of the damage");
                }
            }
            if segments(&disk)[0] > damaged + 2 {
                break;
            }
        }
    }
    assert!(refused > 6, "{refused}: there was always room enough");
    println!("retention on a full disk: {refused} looks that found no room, {tried} kills and cuts");
}

/// The damaged bytes of a segment, as quarantine has them.
fn kept_of(disk: &SimDisk, segment: u64) -> Vec<u8> {
    let begin = format!("quarantine/corrupt-{segment:016}-");
    let kept = disk.contents().into_iter().find(|(name, _)| name.starts_with(&begin));
    let (_, bytes) = kept.unwrap_or_else(|| panic!("nothing in quarantine of segment {segment}"));
    assert!(!bytes.is_empty());
    bytes
}
