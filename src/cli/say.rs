//! Words for the terminal. Whoever closes the pipe has heard enough: that is no reason to panic, nor to fail.
//!
//! Names, tags, AWS's errors, another instance's id, what stands in a file: all of it was written by others, and a terminal
//! obeys what it is sent. Whatever is printed passes through [`plain`].

use std::borrow::Cow;
use std::io::{self, Write};

/// Prints a line to standard output, if anybody is there.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::say::line(std::io::stdout(), &format!($($words)*)) };
}

/// Prints a line to standard error, if anybody is there.
macro_rules! complain {
    ($($words:tt)*) => { $crate::cli::say::line(std::io::stderr(), &format!($($words)*)) };
}

pub(super) use {complain, say};

/// Prints the text made harmless, and a line end.
pub(super) fn line(mut to: impl Write, text: &str) {
    // Nobody is there.
    let _ = writeln!(to, "{}", plain(text));
}

/// The text with nothing in it that a terminal would obey, and nothing that hides or turns what it shows, but for line ends
/// and tabs. Such a character is written as JSON writes it, so what was JSON says the same as before.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !matches!(c, '\n' | '\t') && is_harmful(c))
}

/// The same on one line.
pub(super) fn on_one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

fn escaped(text: &str, is_bad: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if is_bad(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Controls (C0, DEL, C1), and what has no width or changes the direction of what follows.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Writes JSON, made harmless, and a line end.
pub(super) fn json_line(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    writeln!(out, "{}", plain(&serde_json::to_string(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        let text = "a\u{1b}[2Jb\u{9b}31m\u{7f}\u{202e}c\r\u{feff}é 漢 ✓\n\t";
        assert_eq!(plain(text), "a\\u001b[2Jb\\u009b31m\\u007f\\u202ec\\u000d\\ufeffé 漢 ✓\n\t");
        assert_eq!(on_one_line("a\nb\t"), "a\\u000ab\\u0009");
        // JSON says the same as before, and is as long as its lines.
        let json = serde_json::json!({ "name": text }).to_string();
        let shown = plain(&json);
        assert_ne!(shown, json);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["name"], text);
    }
}
