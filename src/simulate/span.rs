//! Spans of time as people write them: `90s`, `6h`, `1h30m`, `2d`.

use std::time::Duration;

/// Reads whole days, hours, minutes and seconds, each with its unit (`d`, `h`, `m`, `s`), one after the other.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a span of time: write it like 90s, 6h, 1h30m or 2d");
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit_on) = rest.split_at(digits);
        let mut units = unit_on.chars();
        let unit = match units.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(refused()),
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(refused)?;
        seconds = seconds.checked_add(part).ok_or_else(refused)?;
        rest = units.as_str();
    }
    if text.is_empty() { Err(refused()) } else { Ok(Duration::from_secs(seconds)) }
}
