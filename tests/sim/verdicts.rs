//! Torn or corrupt: the table of the design as data, each row built from frames and walked. Sees the verdict of a scan.
//! Cannot see what recovery makes of it (`flips.rs` can).

use meterd::wal::frame::{self, FrameHeader, Part, Seed};
use meterd::wal::scan::{self, Damage, Scanned, Tail};
use meterd::wal::segment::{FRAMES_AT, SegmentHeader};
use meterd::wal::{LogId, Purpose};

/// How a frame was hurt.
#[derive(Debug, Clone, Copy)]
enum Hurt {
    /// One bit of it.
    Bit,
    /// It is zeros, as if it had never reached the disk.
    Missing,
}
use Hurt::{Bit, Missing};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Clean,
    Torn,
}
use Want::{Clean, Torn};

struct Row {
    name: &'static str,
    /// How many frames each batch has.
    batches: &'static [usize],
    /// Frames by number, from 1.
    hurt: &'static [(usize, Hurt)],
    /// Whether another segment follows.
    closed: bool,
    /// First number lost, next number found.
    corrupt: &'static [(u64, Option<u64>)],
    kept: &'static [u64],
    tail: Want,
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "nothing", batches: &[2, 1], hurt: &[], closed: false, corrupt: &[], kept: &[1, 2, 3], tail: Clean },
    Row { name: "an empty segment", batches: &[], hurt: &[], closed: false, corrupt: &[], kept: &[], tail: Clean },
    Row { name: "the last batch in part: its end", batches: &[1, 2], hurt: &[(3, Missing)], closed: false, corrupt: &[], kept: &[1, 2], tail: Clean },
    Row { name: "the last batch in part: its beginning", batches: &[1, 3], hurt: &[(2, Missing)], closed: false, corrupt: &[], kept: &[1], tail: Torn },
    Row { name: "the last batch in part: its middle", batches: &[1, 3], hurt: &[(3, Missing)], closed: false, corrupt: &[], kept: &[1, 2], tail: Torn },
    Row { name: "the only batch", batches: &[3], hurt: &[(1, Bit)], closed: false, corrupt: &[], kept: &[], tail: Torn },
    Row { name: "a batch with another behind it", batches: &[2, 1], hurt: &[(2, Bit)], closed: false, corrupt: &[(2, Some(3))], kept: &[1, 3], tail: Clean },
    Row { name: "the first batch with others behind it", batches: &[1, 1, 1], hurt: &[(1, Missing)], closed: false, corrupt: &[(1, Some(2))], kept: &[2, 3], tail: Clean },
    Row { name: "proven by the second frame of the next batch only", batches: &[1, 2], hurt: &[(1, Bit), (2, Missing)], closed: false, corrupt: &[(1, Some(3))], kept: &[3], tail: Clean },
    Row { name: "two batches at the end: nothing proves either", batches: &[1, 1, 1], hurt: &[(2, Bit), (3, Bit)], closed: false, corrupt: &[], kept: &[1], tail: Torn },
    Row { name: "corrupt, and the last batch torn", batches: &[1, 1, 1, 2], hurt: &[(2, Bit), (4, Missing)], closed: false, corrupt: &[(2, Some(3))], kept: &[1, 3], tail: Torn },
    Row { name: "corrupt in two places", batches: &[1, 1, 1, 1, 1], hurt: &[(2, Bit), (4, Bit)], closed: false, corrupt: &[(2, Some(3)), (4, Some(5))], kept: &[1, 3, 5], tail: Clean },
    Row { name: "closed: the last frame", batches: &[2], hurt: &[(2, Missing)], closed: true, corrupt: &[(2, None)], kept: &[1], tail: Clean },
    Row { name: "closed: all of it", batches: &[1, 2], hurt: &[(1, Bit), (2, Bit), (3, Bit)], closed: true, corrupt: &[(1, None)], kept: &[], tail: Clean },
    Row { name: "closed: the first of the last batch", batches: &[1, 2], hurt: &[(2, Bit)], closed: true, corrupt: &[(2, Some(3))], kept: &[1, 3], tail: Clean },
];

const BYTES: usize = 32 * 1024;
const PAYLOAD: usize = 1100;

fn header() -> SegmentHeader {
    SegmentHeader {
        id: 3,
        first_seq: 1,
        salt: 77,
        log: LogId([1; 16]),
        purpose: Purpose::Test,
        created_ms: 0,
        bytes: BYTES as u64,
        previous_end: 0,
        previous_crc: 0,
    }
}

/// A segment with such batches, where each frame stands, and where they end.
fn build(batches: &[usize], payload: usize) -> (Vec<u8>, Vec<usize>, usize) {
    let (header, mut bytes, mut places) = (header(), vec![0; FRAMES_AT as usize], Vec::new());
    let seed: Seed = header.seed();
    for frames in batches {
        let batch_at = bytes.len();
        for _ in 0..*frames {
            places.push(bytes.len());
            let lag = (bytes.len() - batch_at) as u32;
            let frame = FrameHeader { kind: 1, part: Part::Whole, seq: places.len() as u64, durable_lag: lag };
            let at = bytes.len() as u64;
            frame::encode(&frame, &vec![0xa5; payload], at, &seed, &mut bytes);
        }
    }
    let end = bytes.len();
    bytes.resize(BYTES, 0);
    (bytes, places, end)
}

fn scan(row: &Row) -> (Scanned, Vec<u8>, Vec<usize>) {
    let (mut bytes, places, end) = build(row.batches, PAYLOAD);
    for (frame, how) in row.hurt {
        let at = places[frame - 1];
        match how {
            Bit => bytes[at + 500] ^= 4,
            Missing => bytes[at..at + frame::frame_bytes(PAYLOAD)].fill(0),
        }
    }
    let scanned = match row.closed {
        true => scan::closed(&bytes, &header(), end as u64),
        false => scan::newest(&bytes, &header()),
    };
    (scanned, bytes, places)
}

#[test]
fn table_of_verdicts() {
    for row in ROWS {
        let (scanned, bytes, places) = scan(row);
        let corrupt: Vec<_> = scanned.damage.iter().map(|d: &Damage| (d.first_lost, d.next_seq)).collect();
        assert_eq!(corrupt, row.corrupt, "{}: corruption", row.name);
        let kept: Vec<u64> =
            scanned.frames.iter().map(|at| scan::frame_at(&bytes, *at, &header()).unwrap().header.seq).collect();
        assert_eq!(kept, row.kept, "{}: frames that count", row.name);
        match (scanned.tail, row.tail) {
            (Tail::Clean, Clean) => {}
            (Tail::Torn { span, suspicious }, Torn) => {
                assert_eq!(span.from, scanned.end, "{}: torn from", row.name);
                assert!(bytes[span.to as usize..].iter().all(|b| *b == 0), "{}: torn to", row.name);
                let blank = row.hurt.iter().any(|(_, how)| matches!(how, Missing));
                assert_eq!(suspicious, !blank, "{}: suspicious", row.name);
            }
            (found, _) => panic!("{}: tail {found:?}", row.name),
        }
        for damage in &scanned.damage {
            assert_eq!(damage.span.from as usize, places[damage.first_lost as usize - 1], "{}: from", row.name);
        }
    }
    println!("torn or corrupt: {} rows", ROWS.len());
}

/// The batch before the last cannot be hurt by the last: whichever sectors of the last one are there.
#[test]
fn the_last_batch_never_makes_the_one_before_it_corrupt() {
    let (bytes, places, end) = build(&[2, 3], 700);
    let batch_at = places[2];
    let sectors: Vec<usize> = (batch_at / 512..=end / 512).collect();
    for survive in 0..1_u32 << sectors.len() {
        let mut cut = bytes.clone();
        for (i, sector) in sectors.iter().enumerate() {
            if survive & 1 << i == 0 {
                let from = (sector * 512).max(batch_at);
                cut[from..(sector + 1) * 512].fill(0);
            }
        }
        let scanned = scan::newest(&cut, &header());
        assert_eq!(scanned.damage, [], "sectors {survive:b}");
        assert!(scanned.frames.len() >= 2, "sectors {survive:b}");
        assert_eq!(scanned.frames[..2], [places[0] as u64, places[1] as u64]);
    }
}
