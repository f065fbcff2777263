//! Moments and UTC clock hours.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment: milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(i64);

/// A UTC clock hour: whole hours since the Unix epoch. Named (and shown) by its first second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hour(u32);

/// Tells one boot of a machine from every other.
pub type BootId = [u8; 16];

/// What a machine's clocks say at one moment: the one on the wall, which people and daemons set, and the one that only
/// ever goes forward while the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The clock on the wall.
    pub at: Timestamp,
    /// Which boot `since_boot` counts from; `None` where nobody can tell.
    pub boot: Option<BootId>,
    /// How long the machine has been running since then.
    pub since_boot: Duration,
}

impl Reading {
    /// How much time has passed since `earlier` by the clock that nobody sets; `None` if the machine was started anew
    /// in between.
    pub fn elapsed_since(&self, earlier: &Reading) -> Option<Duration> {
        (self.boot.is_some() && self.boot == earlier.boot).then(|| self.since_boot.saturating_sub(earlier.since_boot))
    }
}

/// A moment by the clock on the wall alone.
impl From<Timestamp> for Reading {
    fn from(at: Timestamp) -> Self {
        Reading { at, boot: None, since_boot: Duration::ZERO }
    }
}

const MS_PER_SECOND: i64 = 1000;
const SECONDS_PER_HOUR: i64 = 3600;

/// The last second that is shown and accepted: 9999-12-31T23:59:59Z.
const SECONDS_MAX: i64 = 253_402_300_799;

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Timestamp(ms)
    }

    /// From whole seconds since the epoch.
    pub const fn from_seconds(s: i64) -> Self {
        Timestamp(s.saturating_mul(MS_PER_SECOND))
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MS_PER_SECOND)
    }

    /// The hour this moment lies in. Before 1970 counts as the first hour.
    pub fn hour(self) -> Hour {
        let hours = self.seconds().div_euclid(SECONDS_PER_HOUR);
        Hour(u32::try_from(hours.max(0)).unwrap_or(u32::MAX))
    }

    /// This moment plus `d`.
    pub fn plus(self, d: Duration) -> Self {
        Timestamp(self.0.saturating_add(millis_of(d)))
    }

    /// This moment less `d`.
    pub fn minus(self, d: Duration) -> Self {
        Timestamp(self.0.saturating_sub(millis_of(d)))
    }

    /// How long from `earlier` to this moment; nothing if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 (any offset) or Unix seconds, whole or with decimals.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
            return i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(Timestamp);
        }
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return None;
        }
        let seconds: i64 = whole.parse().ok().filter(|s| *s <= SECONDS_MAX)?;
        let thousandths: String = part.chars().chain("000".chars()).take(3).collect();
        Some(Timestamp(seconds * MS_PER_SECOND + thousandths.parse::<i64>().ok()?))
    }
}

/// For people, to the minute where it is long: `75 s`, `2 h 3 min`, `3 d 4 h`.
pub fn span(span: Duration) -> String {
    let minutes = (span.as_secs() + 30) / 60;
    match (minutes / 60, minutes % 60) {
        (0, 0..3) => format!("{} s", span.as_secs()),
        (0, minutes) => format!("{minutes} min"),
        (hours @ ..72, minutes) => format!("{hours} h {minutes} min"),
        (hours, _) => format!("{} d {} h", hours / 24, hours % 24),
    }
}

fn millis_of(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the second: `2026-11-21T09:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = OffsetDateTime::from_unix_timestamp(self.seconds().clamp(0, SECONDS_MAX))
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok());
        f.pad(shown.as_deref().unwrap_or("?"))
    }
}

impl Hour {
    /// From whole hours since the epoch.
    pub const fn from_index(hours: u32) -> Self {
        Hour(hours)
    }

    /// Whole hours since the epoch.
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Its first millisecond.
    pub const fn start(self) -> Timestamp {
        Timestamp::from_seconds(self.0 as i64 * SECONDS_PER_HOUR)
    }

    /// The first millisecond after it.
    pub const fn end(self) -> Timestamp {
        Timestamp::from_seconds((self.0 as i64 + 1) * SECONDS_PER_HOUR)
    }

    /// Its last whole second: what a record of this hour is stamped with.
    pub const fn last_second(self) -> Timestamp {
        Timestamp::from_seconds((self.0 as i64 + 1) * SECONDS_PER_HOUR - 1)
    }

    /// What its records are stamped with: its last second or, where it is closed early, the whole second of that moment.
    pub fn stamp(self, early: Option<Timestamp>) -> Timestamp {
        let last = self.last_second();
        early.map_or(last, |moment| Timestamp::from_seconds(moment.seconds()).clamp(self.start(), last))
    }

    /// The month it lies in, as `YYYYMM`.
    pub fn year_month(self) -> u32 {
        let moment = OffsetDateTime::from_unix_timestamp(self.start().seconds().clamp(0, SECONDS_MAX));
        moment.map_or(0, |m| u32::try_from(m.year()).unwrap_or(0) * 100 + u32::from(u8::from(m.month())))
    }

    /// The first hour of the month that lies `back` months before its own.
    pub fn start_of_month(self, back: u32) -> Hour {
        (0..back).fold(self.month(), |hour, _| hour.previous().month())
    }

    /// The hour after it.
    pub const fn next(self) -> Self {
        Hour(self.0.saturating_add(1))
    }

    /// The first hour of its UTC calendar month.
    pub fn month(self) -> Self {
        let moment = OffsetDateTime::from_unix_timestamp(self.start().seconds().clamp(0, SECONDS_MAX));
        moment.map_or(self, |m| Hour(self.0 - (u32::from(m.day()) - 1) * 24 - u32::from(m.hour())))
    }

    /// The first hour of the UTC calendar month after its own.
    pub fn next_month(self) -> Self {
        const LONGEST_MONTH_HOURS: u32 = 31 * 24;
        Hour(self.month().0.saturating_add(LONGEST_MONTH_HOURS)).month()
    }

    /// The hour before it.
    pub const fn previous(self) -> Self {
        Hour(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.start().fmt(f)
    }
}
