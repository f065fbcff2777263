//! Payload decoders fed anything: no panic, no allocation beyond the input, and what decodes comes back the same from its
//! own bytes. (Those may differ from the input: maps come back sorted, and spans with a second's worth of nanoseconds
//! come back with a second more.)
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::entry::{Entry, decode, encode};
use meterd::rollup::Checkpoint;
use meterd::rollup::state::RecordState;
use meterd::wal::open::Gap;
use meterd::wal::segment::SegmentHeader;

fuzz_target!(|data: (u8, &[u8])| {
    let (kind, bytes) = data;
    if let Ok(entry) = Entry::decode(kind, bytes) {
        let again = entry.encode().expect("what was decoded");
        assert_eq!(Entry::decode(kind, &again).expect("the same"), entry);
    }
    if let Ok(Checkpoint { state, .. }) = Checkpoint::decode(bytes) {
        assert_eq!(Checkpoint::decode(&Checkpoint::encode(&state).expect("a state")).expect("the same").state, state);
    }
    if let Ok(record) = decode::<RecordState>(bytes) {
        assert_eq!(decode::<RecordState>(&encode(&record).expect("a record")).expect("the same"), record);
    }
    if let Some(gap) = Gap::decode(bytes) {
        assert_eq!(gap.encode(), bytes);
    }
    if let Some(Ok(header)) = bytes.first_chunk().map(SegmentHeader::decode) {
        assert_eq!(Some(&header.encode()), bytes.first_chunk());
    }
});
