//! The narrow door to time. Everything the agent waits for asks a [`Clock`]; the pure parts are handed a
//! [`Timestamp`] and never ask at all.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::hour::Timestamp;

/// Tells the time, and how long a span of its own time takes on the machine.
pub trait Clock: Send + Sync {
    /// What the clock on the wall says.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process, at the speed of `now`, never set back by anybody.
    fn monotonic(&self) -> Duration;

    /// How long to sleep on the machine for `span` of this clock to pass.
    fn real(&self, span: Duration) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn real(&self, span: Duration) -> Duration {
        span
    }
}

/// A clock of its own: at `start` when it was made, and running `speed` times as fast (`--clock-start`, `--clock-speed`).
#[derive(Debug)]
pub struct FastClock {
    start: Timestamp,
    speed: u32,
    origin: Instant,
}

impl FastClock {
    /// The fastest a clock may run: an hour in 36 ms.
    pub const SPEED_MAX: u32 = 100_000;

    /// A clock that shows `start` now. `speed` is taken as at least 1.
    pub fn new(start: Timestamp, speed: u32) -> Self {
        FastClock { start, speed: speed.clamp(1, Self::SPEED_MAX), origin: Instant::now() }
    }
}

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed() * self.speed
    }

    fn real(&self, span: Duration) -> Duration {
        span / self.speed
    }
}
