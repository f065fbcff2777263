//! The end of an instance, and an end that does not come.

use serde::{Deserialize, Serialize};

use super::Peer;
use crate::hour::Timestamp;

/// This instance ends: the hour that goes on is sealed before it is over, by the seals that follow, and nothing more is
/// taken. Any start of the agent calls it off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Who asked for it; none where instance metadata announced it.
    pub by: Option<Peer>,
    /// What for, in words.
    pub why: String,
}

/// The end does not come: usage is taken again, into the hour after the one that was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledOff {
    /// When.
    pub at: Timestamp,
    /// Who called it off; none where instance metadata no longer announces it.
    pub by: Option<Peer>,
}
