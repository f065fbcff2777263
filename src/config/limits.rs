//! Every bound of the configuration, in one list. A value outside is refused, never adjusted.
//!
//! Where a number is AWS's own it says so (the service's API model, the Seller Guide); the others are the agent's.

use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Bytes of a configuration file: far above any real one, so that a wrong path (a log, a device) is not read whole.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Characters of a product code (AWS: `ProductCode`).
pub const PRODUCT_CODE_CHARS: RangeInclusive<usize> = 1..=255;

/// Dimensions of a listing (AWS: Seller Guide).
pub const DIMENSIONS: RangeInclusive<usize> = 1..=24;

/// Characters of a dimension's name in an AMI listing (AWS: Seller Guide).
pub const DIMENSION_NAME_CHARS_AMI: RangeInclusive<usize> = 1..=15;

/// Characters of a dimension's name in a SaaS listing (AWS: `UsageDimension`).
pub const DIMENSION_NAME_CHARS_SAAS: RangeInclusive<usize> = 1..=255;

/// Users or groups in one list.
pub const IDS_MAX: usize = 256;

/// The largest user or group id; the number after it means "nobody in particular" to the kernel.
pub const ID_MAX: u32 = u32::MAX - 1;

/// Permission bits of the socket.
pub const SOCKET_MODE_MAX: u32 = 0o777;

/// Bytes of a path to a socket: the kernel's `sun_path` is 108 with the closing zero. `admin.sock`, which lies
/// beside the socket, is held to it too.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Bytes of any other path (Linux: `PATH_MAX` with the closing zero).
pub const PATH_BYTES_MAX: usize = 4095;

/// Words of the alert command, the program included.
pub const ALERT_WORDS_MAX: usize = 64;

/// Bytes of one word of the alert command.
pub const ALERT_WORD_BYTES_MAX: usize = 4096;

/// Bytes of one segment of the log.
pub const SEGMENT_BYTES: RangeInclusive<u32> = 1024 * 1024..=1024 * 1024 * 1024;

/// A segment is a whole number of pages.
pub const SEGMENT_BYTES_STEP: u32 = 4096;

/// Days that settled segments are kept.
pub const RETAIN_DAYS: RangeInclusive<u32> = 1..=3650;

/// Usage units that one of a source's may make: what keeps a weighted hour far from the end of the numbers.
pub const WEIGHT_MAX: i64 = 1_000_000;

/// Characters of a Region's name.
pub const REGION_CHARS: RangeInclusive<usize> = 1..=64;

/// Characters of the endpoint's URL.
pub const ENDPOINT_CHARS_MAX: usize = 512;

/// How long after the hour to send. The last ten minutes of an hour stay free for retries.
pub const OFFSET: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(50 * MINUTE);

/// How far back MeterUsage accepts a record (AWS: six hours; a seller may plan for less, and be given up to a day).
pub const WINDOW_AMI: RangeInclusive<Duration> = Duration::from_secs(HOUR)..=Duration::from_secs(24 * HOUR);

/// How far back BatchMeterUsage accepts a record (AWS: 24 hours, with a grace until 06:00 UTC on the first of the
/// month).
pub const WINDOW_SAAS: RangeInclusive<Duration> = Duration::from_secs(HOUR)..=Duration::from_secs(30 * DAY);

/// Calls with customers' records under way at once: four reach AWS's quota of ten calls a second at up to half a second
/// each.
pub const CALLS_IN_FLIGHT: RangeInclusive<u32> = 1..=4;

/// Characters of a named profile.
pub const PROFILE_CHARS: RangeInclusive<usize> = 1..=64;

/// Characters of a role's ARN (AWS: `RoleArn` of AssumeRole).
pub const ROLE_ARN_CHARS: RangeInclusive<usize> = 20..=2048;

/// Characters of a fixed instance id.
pub const INSTANCE_ID_CHARS: RangeInclusive<usize> = 1..=64;

/// How long after the hour its `at`-stamped usage is still taken.
pub const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(15 * MINUTE);

/// How long metering fails before the gate warns.
pub const WARN_AFTER_MIN: Duration = Duration::from_secs(MINUTE);

/// How long metering fails before the gate closes (AWS asks sellers not to fail closed before two hours).
pub const CLOSE_AFTER_MIN: Duration = Duration::from_secs(2 * HOUR);

/// The longest duration that can be written anywhere.
pub const DURATION_MAX: Duration = Duration::from_secs(3650 * DAY);

/// What holds where the file says nothing.
pub mod defaults {
    use super::{DAY, Duration, HOUR, MINUTE};

    /// `socket.path`.
    pub const SOCKET_PATH: &str = "/run/meterd/meterd.sock";
    /// `socket.mode`: the agent's user and group.
    pub const SOCKET_MODE: u32 = 0o660;
    /// `state.dir`.
    pub const STATE_DIR: &str = "/var/lib/meterd";
    /// `state.segment_bytes`.
    pub const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
    /// `state.retain_days`.
    pub const RETAIN_DAYS: u32 = 7;
    /// `submit.window` for `kind = "ami"`.
    pub const WINDOW_AMI: Duration = Duration::from_secs(6 * HOUR);
    /// `submit.window` for `kind = "saas"`.
    pub const WINDOW_SAAS: Duration = Duration::from_secs(DAY);
    /// `submit.calls_in_flight`.
    pub const CALLS_IN_FLIGHT: u32 = 1;
    /// `hour.grace`.
    pub const GRACE: Duration = Duration::from_secs(MINUTE);
    /// `gate.warn_after`.
    pub const WARN_AFTER: Duration = Duration::from_secs(HOUR);
}

// The limits that hang together, held together at compile time.
const _: () = {
    assert!(defaults::SEGMENT_BYTES.is_multiple_of(SEGMENT_BYTES_STEP));
    assert!(defaults::SEGMENT_BYTES >= *SEGMENT_BYTES.start() && defaults::SEGMENT_BYTES <= *SEGMENT_BYTES.end());
    assert!(SEGMENT_BYTES.start().is_multiple_of(SEGMENT_BYTES_STEP));
    assert!(defaults::SOCKET_PATH.len() <= SOCKET_PATH_BYTES_MAX);
    assert!(defaults::SOCKET_MODE <= SOCKET_MODE_MAX);
    // A record is first sent before its window can have passed, and an hour is sealed before the next one ends.
    assert!(OFFSET.end().as_secs() < WINDOW_AMI.start().as_secs());
    assert!(GRACE.end().as_secs() < HOUR);
    assert!(WARN_AFTER_MIN.as_secs() <= defaults::WARN_AFTER.as_secs());
    assert!(defaults::WARN_AFTER.as_secs() < CLOSE_AFTER_MIN.as_secs());
    assert!(WINDOW_SAAS.end().as_secs() < DURATION_MAX.as_secs());
};
