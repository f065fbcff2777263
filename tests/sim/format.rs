//! `src/wal/FORMAT.md` against the code: its hexdump is decoded by a reader written from the document, here and in
//! `tests/read_log.py`. Sees every field of the format. Cannot see the payloads' own layout.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use meterd::wal::frame::{self, FrameHeader, Part};
use meterd::wal::segment::{FRAMES_AT, SegmentHeader};
use meterd::wal::{LogId, Purpose};

use super::machine::{CHECKPOINT, Machine, Step, USAGE};
use Step::{Append, Commit, Idle, Start, Stop};

const DOCUMENT: &str = include_str!("../../src/wal/FORMAT.md");

/// A second after the segment was activated.
const IDLE_AT: [u8; 8] = 1_795_251_601_000_i64.to_le_bytes();

/// The segment of the worked example, as the code writes it.
fn example() -> Vec<u8> {
    let header = SegmentHeader {
        id: 2,
        first_seq: 7,
        salt: 0x1122_3344_5566_7788,
        log: LogId(*b"sixteen bytes id"),
        purpose: Purpose::Test,
        created_ms: 1_795_251_600_000,
        bytes: 16 * 1024,
        previous_end: 4152,
        previous_crc: 0xdead_beef,
    };
    let mut bytes = vec![0; FRAMES_AT as usize];
    for at in [0, 2048] {
        bytes[at..at + 88].copy_from_slice(&header.encode());
    }
    let mut batch_at = bytes.len();
    let frames = [(1, &b"hello"[..], false), (1, b"world!!", true), (252, &IDLE_AT, true)];
    for (seq, (kind, payload, ends_batch)) in (header.first_seq..).zip(frames) {
        let durable_lag = (bytes.len() - batch_at) as u32;
        let at = bytes.len() as u64;
        let frame = FrameHeader { kind, part: Part::Whole, seq, durable_lag };
        frame::encode(&frame, payload, at, &header.seed(), &mut bytes);
        if ends_batch {
            batch_at = bytes.len();
        }
    }
    bytes.resize(header.bytes as usize, 0);
    bytes
}

/// As in the document: 16 bytes a line, lines of zeros left out.
fn hexdump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (i, line) in bytes.chunks(16).enumerate() {
        if line.iter().any(|b| *b != 0) {
            let hex: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
            out += &format!("{:08x}  {}\n", i * 16, hex.join(" "));
        }
    }
    out
}

fn document_dump() -> Vec<u8> {
    let block = DOCUMENT.split("```text hexdump\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.expect("a hexdump in FORMAT.md");
    let mut bytes = vec![0; 16 * 1024];
    for line in block.lines() {
        let (at, hex) = line.split_once("  ").expect("offset, then bytes");
        let at = usize::from_str_radix(at, 16).unwrap();
        for (i, byte) in hex.split_whitespace().enumerate() {
            bytes[at + i] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    bytes
}

#[test]
fn the_document_shows_what_the_code_writes() {
    let bytes = example();
    assert!(document_dump() == bytes, "FORMAT.md must show:\n{}", hexdump(&bytes));
}

/// CRC-32 (IEEE), bit by bit.
fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The conditions of the document, read from the document's own bytes.
#[test]
fn the_documents_bytes_are_valid_by_its_conditions() {
    let bytes = document_dump();
    assert_eq!(&bytes[..8], b"meterdWL");
    assert_eq!(number(&bytes[8..12]), 1, "version");
    assert_eq!(number(&bytes[12..16]), 1, "a test");
    let (id, first_seq) = (number(&bytes[16..24]), number(&bytes[24..32]));
    assert_eq!((id, first_seq), (2, 7));
    assert_eq!(&bytes[40..56], b"sixteen bytes id");
    assert_eq!(number(&bytes[64..72]), 16 * 1024, "length");
    assert_eq!(number(&bytes[72..80]), 4152, "end of the segment before");
    assert_eq!(number(&bytes[84..88]), u64::from(crc(&[&bytes[..84]])), "checksum");
    assert_eq!(bytes[..88], bytes[2048..2136], "both copies");

    let (mut at, mut seen) = (4096, Vec::new());
    loop {
        let len = number(&bytes[at + 4..at + 6]) as usize;
        if !(1..=8168).contains(&len) {
            break;
        }
        let offset = (at as u64).to_le_bytes();
        let sum = crc(&[&bytes[32..40], &bytes[16..24], &offset, &bytes[at + 4..at + 20 + len]]);
        assert_eq!(number(&bytes[at..at + 4]), u64::from(sum), "frame at {at}");
        assert_eq!(number(&bytes[at + 8..at + 16]), first_seq + seen.len() as u64);
        seen.push((
            bytes[at + 6],
            bytes[at + 7],
            number(&bytes[at + 16..at + 20]),
            bytes[at + 20..at + 20 + len].to_vec(),
        ));
        at = (at + 20 + len).next_multiple_of(8);
    }
    let want = [(1, 0, 0, b"hello".to_vec()), (1, 0, 32, b"world!!".to_vec()), (252, 0, 0, IDLE_AT.to_vec())];
    assert_eq!(seen, want);
}

fn python(dir: &Path) -> Option<Vec<serde_json::Value>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_log.py");
    let run = match Command::new("python3").arg(script).arg(dir).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: python3 is not installed");
            return None;
        }
        run => run.unwrap(),
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn write_out(contents: &BTreeMap<String, Vec<u8>>, to: &Path) {
    for (name, bytes) in contents {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn python_reads_the_log_from_the_document_alone() {
    let mut machine = Machine::new(11);
    let steps = [Append(30), Commit, Append(9000), Append(700), Commit, Stop, Start, Append(12_000), Commit, Idle];
    machine.run(&steps).unwrap();
    machine.run(&[Step::Crash, Start, Append(40), Commit]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_out(&machine.disk.contents(), dir.path());
    let Some(lines) = python(&dir.path().join("wal")) else { return };
    let entries: Vec<_> = lines.iter().filter(|l| [USAGE, CHECKPOINT].iter().any(|k| l["kind"] == *k)).collect();
    assert_eq!(entries.len(), machine.model.durable.len());
    for (line, fact) in entries.iter().zip(&machine.model.durable) {
        let hex: String = fact.payload.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!((line["seq"].as_u64(), line["payload"].as_str()), (Some(fact.seq), Some(hex.as_str())));
    }
    assert_eq!(lines.iter().filter(|l| l["kind"] == 250).count(), 2, "stop marks");
    assert!(lines.iter().all(|l| l.get("bad").is_none()), "{lines:?}");
}
