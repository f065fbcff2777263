//! The log: append-only, checksummed segments in which everything durable stands.
//!
//! In the order a byte goes: [`frame`] (one checksummed entry or part of one), [`segment`] (one file of frames),
//! [`log`] (batches: one write, one sync), [`spares`] (segments zero-filled before they are needed), and at the start
//! [`scan`] (what a segment holds, torn told apart from corrupt), `assemble` (entries out of frames), [`open`] (recovery),
//! `copy` (its copy of the newest segment) and [`report`] (what it tells).
//! At the log's other end [`retain`] takes segments that nothing needs any more, and [`archive`] keeps what is left of them.
//! [`survey`] reads it as it lies there, damage included, and changes nothing.
//!
//! The log never reads a payload: what the entries mean is for [`crate::rollup`]. Its bytes are fixed in
//! [`format_document`].

pub mod archive;
mod assemble;
mod copy;
pub mod frame;
pub mod log;
pub mod open;
pub mod report;
pub mod retain;
pub mod scan;
pub mod segment;
pub mod spares;
pub mod survey;

#[doc = include_str!("FORMAT.md")]
pub mod format_document {}

pub use log::{Log, LogError};
pub use open::Opened;
pub use report::{OpenError, Report};

use serde::{Deserialize, Serialize};

/// Where the segments lie, below the state directory.
pub const DIR: &str = "wal";
/// Where damaged bytes are kept as evidence, below the state directory.
pub const QUARANTINE: &str = "quarantine";

/// Which log a segment belongs to: 16 random bytes, drawn when the state directory was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// A new one.
    pub fn random() -> Self {
        LogId(fastrand::u128(..).to_le_bytes())
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Whether a log holds real usage, or that of a try (a loopback endpoint, a clock of its own). The two are never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Real usage for AWS.
    Real,
    /// A try: nothing in it ever reaches AWS.
    Test,
}
