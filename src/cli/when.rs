//! Moments and hours on the command line.

use crate::hour::{Hour, Timestamp};

/// A moment.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "write RFC 3339 (2026-11-21T09:00:00Z) or seconds since 1970 (1795251600)".to_owned())
}

/// The hour in which a moment lies.
pub fn hour(text: &str) -> Result<Hour, String> {
    moment(text).map(|moment| moment.hour())
}
