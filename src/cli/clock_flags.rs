//! `--clock-start` and `--clock-speed`: the clock of its own that `run` and `simulate-aws` take for tests.

use std::sync::Arc;

use clap::Args;

use super::when::moment;
use crate::clock::{Clock, FastClock, SystemClock};
use crate::hour::Timestamp;

/// The two flags, the same for every command that takes them.
#[derive(Debug, Clone, Args)]
pub struct ClockFlags {
    /// A clock of its own that shows this moment when the process starts (RFC 3339 or Unix seconds)
    #[arg(long, value_name = "T", value_parser = moment)]
    clock_start: Option<Timestamp>,

    /// A clock of its own that runs this many times as fast
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(FastClock::SPEED_MAX)))]
    clock_speed: Option<u32>,
}

impl ClockFlags {
    /// Whether a clock of its own was asked for.
    pub fn is_set(&self) -> bool {
        self.clock_start.is_some() || self.clock_speed.is_some()
    }

    /// The clock that was asked for, from this moment on: without `--clock-start` it starts at the machine's time,
    /// without both it is the machine's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        let machine = SystemClock::default();
        if !self.is_set() {
            return Arc::new(machine);
        }
        let start = self.clock_start.unwrap_or_else(|| machine.now());
        Arc::new(FastClock::new(start, self.clock_speed.unwrap_or(1)))
    }
}
