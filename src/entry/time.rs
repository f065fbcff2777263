//! What the agent saw of the clocks, and what it decided about them.

use serde::{Deserialize, Serialize};

use crate::hour::{Hour, Reading, Timestamp};

/// The agent has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// What the clocks said.
    pub reading: Reading,
}

/// The agent is running: written every now and then, so that a start can tell how long it was away, and that
/// dimensions with measure `uptime` are metered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// What the clocks say.
    pub reading: Reading,
    /// How long the instance ran since the entry before, in milliseconds, by the hours it counts in.
    pub ran: Vec<(Hour, u64)>,
    /// The agent stops in order: what runs from here on is not metered.
    pub stopping: bool,
}

/// A decision about the clock on the wall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSeen {
    /// What the clocks say.
    pub reading: Reading,
    /// What was decided.
    pub trust: Trust,
}

/// Whether the clock on the wall is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// It is not where it should be: no hour is sealed by it.
    Doubted {
        /// Where it should be.
        expected: Timestamp,
        /// Whether the clock that nobody sets, or AWS's, says so. Else it was there when the agent last ran.
        known: bool,
    },
    /// It is believed again. Usage that was put into hours after this one counts in this one.
    Confirmed,
}
