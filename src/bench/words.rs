//! What is asked, and what an answer to it looks like.

use std::ops::Range;

use serde::Serialize;

/// What an increment carries beside dimension and quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum With {
    /// Nothing.
    Nothing,
    /// An idempotency key, never the same twice.
    Keys,
    /// A tag.
    Tags,
}

/// How increments are put on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// JSON lines.
    Lines,
    /// HTTP/1.1, an increment a request, on connections that are kept.
    Http,
}

/// One thing to ask, in bytes, and how its answer is known.
#[derive(Debug, Clone)]
pub struct Words {
    /// What is asked.
    pub one: Vec<u8>,
    /// Where a number stands in it that is another one each time.
    pub digits: Option<Range<usize>>,
    /// What a good answer begins with.
    pub good: &'static [u8],
    /// A byte that stands in each answer once, at its end.
    pub last: u8,
}

const DIGITS: &str = "0000000000";

impl Words {
    /// An increment for the agent.
    pub fn increment(protocol: Protocol, with: With) -> Words {
        let more = match with {
            With::Nothing => String::new(),
            With::Keys => format!(",\"key\":\"upload-{DIGITS}\""),
            With::Tags => ",\"tags\":{\"team\":\"blue\"}".to_owned(),
        };
        let line = format!("{{\"dimension\":\"requests\",\"quantity\":1{more}}}\n");
        let one = match protocol {
            Protocol::Lines => line,
            Protocol::Http => {
                format!("POST /v1/usage HTTP/1.1\r\nhost: meterd\r\ncontent-length: {}\r\n\r\n{line}", line.len())
            }
        };
        let digits = one.find(DIGITS).map(|at| at..at + DIGITS.len());
        // All of an answer comes at once, so the line end behind its brace is read with it.
        let (good, last): (&[u8], u8) = match protocol {
            Protocol::Lines => (b"{\"ok\":true", b'\n'),
            Protocol::Http => (b"HTTP/1.1 200", b'}'),
        };
        Words { one: one.into_bytes(), digits, good, last }
    }

    /// A bare line, for an echo.
    pub fn echoed() -> Words {
        let words = Words::increment(Protocol::Lines, With::Nothing);
        Words { good: b"{", ..words }
    }

    /// So many of them at once, each with its number from `first` on.
    pub fn chunk(&self, count: usize, first: u64) -> Vec<u8> {
        let mut chunk = self.one.repeat(count);
        self.renumber(&mut chunk, first);
        chunk
    }

    /// Gives those in `chunk` their numbers, from `first` on.
    pub fn renumber(&self, chunk: &mut [u8], first: u64) {
        let Some(digits) = &self.digits else { return };
        for (one, number) in chunk.chunks_mut(self.one.len()).zip(first..) {
            let mut rest = number;
            for digit in one.get_mut(digits.clone()).unwrap_or_default().iter_mut().rev() {
                // A remainder of ten is a digit.
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}
