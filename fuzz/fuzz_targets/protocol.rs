//! A line of anything: an increment, an array, or a refusal that is itself one line of JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meterd::ingest::protocol::{self, Line};

fuzz_target!(|line: &[u8]| {
    match protocol::parse(line) {
        Ok(Line::One(_)) => {}
        Ok(Line::Many(news)) => assert!(!news.is_empty()),
        Err(refusal) => {
            let mut out = Vec::new();
            protocol::write_refusal(&refusal, &mut out);
            assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
            assert_eq!(out.last(), Some(&b'\n'));
        }
    }
});
