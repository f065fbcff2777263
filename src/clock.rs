//! The narrow door to time. Everything the agent waits for asks a [`Clock`]; the pure parts are handed a
//! [`Timestamp`] and never ask at all.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::hour::{BootId, Reading, Timestamp};

/// Tells the time, and how long a span of its own time takes on the machine.
pub trait Clock: Send + Sync {
    /// What the clock on the wall says.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process, at the speed of `now`, never set back by anybody.
    fn monotonic(&self) -> Duration;

    /// Both clocks at one moment. A restart within the same boot goes on counting where the last process was. By
    /// default there is only the one on the wall.
    fn read(&self) -> Reading {
        self.now().into()
    }

    /// How long to sleep on the machine for `span` of this clock to pass.
    fn real(&self, span: Duration) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
    boot: Option<BootId>,
}

impl Default for SystemClock {
    fn default() -> Self {
        let boot = boot_id();
        if boot.is_none() {
            tracing::warn!(
                "{BOOT_ID} cannot be read: no uptime is metered, and each long pause looks like a clock that jumped"
            );
        }
        SystemClock { origin: Instant::now(), boot }
    }
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's name for this boot; `None` where there is none to read.
fn boot_id() -> Option<BootId> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn read(&self) -> Reading {
        let since = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(since.tv_sec).unwrap_or(0);
        let since_boot = Duration::new(seconds, u32::try_from(since.tv_nsec).unwrap_or(0));
        Reading { at: self.now(), boot: self.boot, since_boot }
    }

    fn real(&self, span: Duration) -> Duration {
        span
    }
}

/// The boot that every clock of its own belongs to.
const OWN_BOOT: BootId = *b"a clock of its o";

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

    /// Its machine was booted in 1970: a caller that restarts the agent passes the moment of the restart.
    fn read(&self) -> Reading {
        let at = self.now();
        Reading { at, boot: Some(OWN_BOOT), since_boot: at.since(Timestamp::default()) }
    }

    fn real(&self, span: Duration) -> Duration {
        span / self.speed
    }
}
