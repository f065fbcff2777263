//! A segment with anything in it: the scan ends, does not panic, and what it reports is ordered and inside the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::wal::frame::{self, FrameHeader, Part};
use meterd::wal::scan::{self, Tail};
use meterd::wal::segment::{FRAMES_AT, SegmentHeader};
use meterd::wal::{LogId, Purpose};

// Frames as an agent writes them, then bytes of the fuzzer's choice over them.
fuzz_target!(|data: (Vec<u8>, Vec<(u16, u8)>)| {
    let (lengths, scribbles) = data;
    let header = SegmentHeader {
        id: 3,
        first_seq: 7,
        salt: 99,
        log: LogId([1; 16]),
        purpose: Purpose::Test,
        created_ms: 0,
        bytes: 64 * 1024,
        previous_end: FRAMES_AT,
        previous_crc: 1,
    };
    let mut bytes = vec![0u8; 64 * 1024];
    let (mut at, mut written) = (FRAMES_AT, 0u64);
    for (seq, len) in (header.first_seq..).zip(lengths.iter().take(200)) {
        let mut out = Vec::new();
        let frame = FrameHeader { kind: 1, part: Part::Whole, seq, durable_lag: 0 };
        frame::encode(&frame, &vec![*len; usize::from(*len) + 1], at, &header.seed(), &mut out);
        bytes[at as usize..at as usize + out.len()].copy_from_slice(&out);
        at += out.len() as u64;
        written += 1;
    }
    for (place, value) in &scribbles {
        bytes[usize::from(*place)] = *value;
    }
    for scanned in [scan::newest(&bytes, &header), scan::closed(&bytes[..at as usize], &header, at)] {
        assert!(scanned.frames.windows(2).all(|w| w[0] < w[1]));
        assert!(scanned.damage.iter().all(|d| d.span.from < d.span.to && d.span.to <= bytes.len() as u64));
        assert!(scanned.frames.len() as u64 <= written);
        if scribbles.is_empty() {
            assert_eq!((scanned.frames.len() as u64, scanned.end), (written, at));
            assert_eq!((scanned.tail, scanned.damage.len()), (Tail::Clean, 0));
        }
    }
});
