//! A frame decoder that is fed anything: no panic, and what it takes for valid encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::wal::frame::{self, PAYLOAD_MAX, Seed};

fuzz_target!(|data: (u64, u64, &[u8])| {
    let (salt, offset, bytes) = data;
    let seed = Seed::new(salt, 1);
    let offset = offset % (1 << 40);
    if let Some(frame) = frame::decode(bytes, offset, &seed) {
        let mut again = Vec::new();
        frame::encode(&frame.header, frame.payload, offset, &seed, &mut again);
        assert_eq!(again, bytes[..frame.bytes()]);
    }
    // The other way round: what is encoded is decoded.
    if (1..=PAYLOAD_MAX).contains(&bytes.len()) {
        let header = frame::FrameHeader { kind: 1, part: frame::Part::Whole, seq: salt, durable_lag: 8 };
        let mut out = Vec::new();
        frame::encode(&header, bytes, offset, &seed, &mut out);
        let back = frame::decode(&out, offset, &seed).expect("a frame that was encoded just now");
        assert_eq!((back.header, back.payload), (header, bytes));
    }
});
