//! Moments, spans and rows, in few words.

use std::time::Duration;

use crate::cli::terminal::wrapped;
use crate::hour::{Timestamp, span};

/// `14:02:11 UTC`, with its date where that is not today's.
pub fn moment(text: &str, now: &str) -> String {
    let Some((date, time)) = text.trim_end_matches('Z').split_once('T') else { return text.to_owned() };
    if now.starts_with(date) { format!("{time} UTC") } else { format!("{date} {time} UTC") }
}

/// `1 h 12 min`, from one moment to a later one.
pub fn between(earlier: &str, later: &str) -> Option<String> {
    Some(span(Timestamp::parse(later)?.since(Timestamp::parse(earlier)?)))
}

/// `14:02:11 UTC, 1 h 12 min ago`.
pub fn ago(text: &str, now: &str) -> String {
    let since = between(text, now).map_or_else(String::new, |span| format!(", {span} ago"));
    format!("{}{since}", moment(text, now))
}

/// The same of seconds.
pub fn seconds(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

/// `16.0 MiB`.
pub fn bytes(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        0x10_0000..0x4000_0000 => format!("{} MiB", tenths(1 << 20)),
        _ => format!("{} GiB", tenths(1 << 30)),
    }
}

/// Rows with their cells below one another, those of `right` to the right; or, where that is too wide, a sentence each.
pub fn rows<const N: usize>(rows: &[[String; N]], right: [bool; N], columns: usize) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|n| {
        rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let wide = widths.iter().map(|width| 2 + width).sum::<usize>() <= columns;
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(right).map(|((cell, width), right)| match right {
            true => format!("  {cell:>width$}"),
            false => format!("  {cell:<width$}"),
        });
        cells.collect::<String>().trim_end().to_owned()
    };
    match wide {
        true => rows.iter().map(line).collect(),
        false => rows.iter().flat_map(|row| hanging(&row.join(" "), 2, columns)).collect(),
    }
}

/// Wrapped, with what follows the first line further in.
pub fn hanging(text: &str, indent: usize, columns: usize) -> Vec<String> {
    let mut lines = wrapped(text, indent + 2, columns);
    if let Some(first) = lines.first_mut() {
        *first = first.chars().skip(2).collect();
    }
    lines
}
