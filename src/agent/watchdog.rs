//! The service manager's watchdog. It is not fed by a timer but by the core's loop, after the disk has answered: a turn
//! that commits, or proves that it could, comes before each feed. A process that is stopped, a loop that is stuck and a
//! sync that hangs all starve it alike.
//!
//! The bound: it is fed when half its time has passed, so a disk that stalls for half of that time is always waited
//! for, and one that stalls for all of it never. With the unit's three minutes that is 90 s; a network disk that fails
//! over takes tens of seconds, and a restart would only have to wait for the same disk.

use std::time::{Duration, Instant};

/// When to feed it.
pub(super) struct Watchdog {
    /// Time between two feeds; `None` where nobody watches.
    pace: Option<Duration>,
    fed: Instant,
}

impl Watchdog {
    /// One that bites after `bites_after` without a feed, counted from now.
    pub(super) fn new(bites_after: Option<Duration>) -> Self {
        Watchdog { pace: bites_after.map(|span| span / 2), fed: Instant::now() }
    }

    /// How long until it is to be fed.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.pace.map(|pace| pace.saturating_sub(self.fed.elapsed()))
    }

    /// Whether it is to be fed now.
    pub(super) fn is_due(&self) -> bool {
        self.due_in().is_some_and(|span| span.is_zero())
    }

    /// When it was fed last.
    pub(super) fn fed_at(&self) -> Instant {
        self.fed
    }

    /// It has been.
    pub(super) fn fed(&mut self) {
        self.fed = Instant::now();
    }
}
