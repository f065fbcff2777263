//! Payload decoders fed anything: no panic, no allocation beyond the input, and what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::entry::{Entry, decode, encode};
use meterd::rollup::State;
use meterd::rollup::state::RecordState;
use meterd::wal::open::Gap;
use meterd::wal::segment::SegmentHeader;

fuzz_target!(|data: (u8, &[u8])| {
    let (kind, bytes) = data;
    if let Ok(entry) = Entry::decode(kind, bytes) {
        assert_eq!(entry.encode().expect("what was decoded"), bytes);
    }
    // Maps come back sorted, so that bytes may differ.
    if let Ok(state) = decode::<State>(bytes) {
        assert_eq!(decode::<State>(&encode(&state).expect("a state")).expect("the same"), state);
    }
    if let Ok(record) = decode::<RecordState>(bytes) {
        assert_eq!(encode(&record).expect("a record"), bytes);
    }
    if let Some(gap) = Gap::decode(bytes) {
        assert_eq!(gap.encode(), bytes);
    }
    if let Some(Ok(header)) = bytes.first_chunk().map(SegmentHeader::decode) {
        assert_eq!(Some(&header.encode()), bytes.first_chunk());
    }
});
