//! Which hours a command is about: flags of several commands.

use super::when::moment;
use crate::hour::{Hour, Timestamp};
use crate::reconcile::Period;

/// A month, or hours.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PeriodFlags {
    /// The hours of this UTC month
    #[arg(long, value_name = "YYYY-MM", value_parser = month, conflicts_with_all = ["from", "to"])]
    month: Option<Hour>,
    /// Hours from this moment on (RFC 3339 or Unix seconds)
    #[arg(long, value_name = "T", value_parser = moment)]
    from: Option<Timestamp>,
    /// Hours before this moment
    #[arg(long, value_name = "T", value_parser = moment)]
    to: Option<Timestamp>,
}

impl PeriodFlags {
    /// The hours that were named, if any were.
    pub fn period(&self) -> Option<Period> {
        if let Some(month) = self.month {
            return Some(Period { from: month, to: month.next_month() });
        }
        if self.from.is_none() && self.to.is_none() {
            return None;
        }
        let from = self.from.map_or(Hour::from_index(0), Timestamp::hour);
        // An hour that has begun before the end belongs to it.
        let to = self.to.map_or(Hour::from_index(u32::MAX), |to| {
            let hour = to.hour();
            if hour.start() == to { hour } else { hour.next() }
        });
        Some(Period { from, to })
    }
}

/// The first hour of a month.
pub fn month(text: &str) -> Result<Hour, String> {
    let first = (text.len() == 7).then(|| Timestamp::parse(&format!("{text}-01T00:00:00Z"))).flatten();
    first.map(Timestamp::hour).ok_or_else(|| "write a month, like 2026-11".to_owned())
}
