//! Durations as people write them: `500ms`, `90s`, `5m`, `1h30m`, `7d`.

use std::time::Duration;

use super::limits::DURATION_MAX;

/// What is allowed, for errors.
pub(super) const FORM: &str = "a duration in a string, such as \"90s\", \"5m\", \"1h30m\" or \"7d\"";

/// Milliseconds in each unit, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads whole numbers with a unit each, the units falling (`1h30m`, not `30m1h`), up to ten years in all.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut units = UNITS.iter();
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, next) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        // The search goes on where the last one ended, so that a unit comes once and in order.
        let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit_ms)?)?;
        rest = next;
    }
    let total = Duration::from_millis(total_ms);
    (!text.is_empty() && total <= DURATION_MAX).then_some(total)
}

/// The same for callers outside the configuration file.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    parse(text)
        .ok_or_else(|| format!("{text:?} is not a duration: write it like 90s, 6h, 1h30m or 2d, the units falling"))
}

/// Below this a duration is shown in hours, as people (and AWS) say "24 hours".
const DAYS_FROM_MS: u64 = 2 * 86_400_000;

/// The same in its shortest form, to the millisecond: 90 s is `1m30s`. What `parse` reads as this duration.
pub(super) fn text(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    let skipped = usize::from(left < DAYS_FROM_MS);
    for (name, unit_ms) in UNITS.into_iter().skip(skipped) {
        if left >= unit_ms {
            shown += &format!("{}{name}", left / unit_ms);
            left %= unit_ms;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [("0s", 0), ("500ms", 500), ("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000)];
        for (text, ms) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse("3650d"), Some(DURATION_MAX));
    }

    #[test]
    fn refuses_the_rest() {
        let cases = [
            "",
            "5",
            "m",
            "5 m",
            " 5m",
            "-5m",
            "+5m",
            "1.5h",
            "5M",
            "5min",
            "30m1h",
            "1h1h",
            "5m s",
            "3651d",
            "3650d1ms",
            "99999999999999999999d",
            "18446744073709551615d",
            "٥m",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn shows_the_shortest_form() {
        let cases = [
            (0, "0s"),
            (1, "1ms"),
            (90_000, "1m30s"),
            (3_600_000, "1h"),
            (172_800_001, "2d1ms"),
            (90_061_001, "25h1m1s1ms"),
        ];
        for (ms, shown) in cases {
            assert_eq!(text(Duration::from_millis(ms)), shown);
            assert_eq!(parse(shown), Some(Duration::from_millis(ms)));
        }
    }
}
