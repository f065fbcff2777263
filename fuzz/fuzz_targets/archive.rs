//! An archive file with anything in it: the decoder does not panic and takes no more room than the file, what it reports
//! is ordered, and what was written whole comes back the same; a file that lost its end says so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::wal::archive;
use meterd::wal::segment::{FRAMES_AT, SegmentHeader};
use meterd::wal::{LogId, Purpose};

const ID: u64 = 202_611_000_001;

// Any bytes as a file; then entries as retention writes them, bytes of the fuzzer's choice over them, and an end.
fuzz_target!(|data: (&[u8], Vec<(u8, Vec<u8>)>, Vec<(u16, u8)>, u16)| {
    let (raw, entries, scribbles, cut) = data;
    let _ = archive::decode(ID, raw);
    let entries: Vec<(u8, Vec<u8>)> = entries.into_iter().filter(|(_, payload)| !payload.is_empty()).collect();
    let header = SegmentHeader {
        id: ID,
        first_seq: 1,
        salt: 99,
        log: LogId([1; 16]),
        purpose: Purpose::Test,
        created_ms: 0,
        bytes: 0,
        previous_end: 0,
        previous_crc: 0,
    };
    let mut bytes = archive::encode(header, entries.iter().map(|(kind, payload)| (*kind, payload.as_slice())));
    let whole = archive::decode(ID, &bytes).expect("what was written");
    assert!(whole.is_whole() && whole.whole_header);
    assert_eq!((whole.entries, whole.header.bytes), (entries.clone(), bytes.len() as u64));

    let short = &bytes[..bytes.len() - usize::from(cut) % (bytes.len() - FRAMES_AT as usize + 1)];
    let lost = archive::decode(ID, short).expect("the header is there");
    assert_eq!(lost.is_whole(), short.len() == bytes.len());
    assert!(entries.starts_with(&lost.entries));

    let file_bytes = bytes.len();
    for (place, value) in &scribbles {
        bytes[usize::from(*place) % file_bytes] = *value;
    }
    let Ok(read) = archive::decode(ID, &bytes) else { return };
    let spans: Vec<_> = read.damage.iter().map(|damage| (damage.span.from, damage.span.to)).collect();
    assert!(
        spans.iter().all(|(from, to)| from < to) && spans.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "{spans:?}"
    );
    assert!(read.entries.iter().map(|(_, payload)| payload.len()).sum::<usize>() <= file_bytes);
});
