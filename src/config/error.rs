//! What is wrong with a configuration: one error a mistake, with its line and what is allowed instead.

use std::fmt;

/// One mistake. Shown as `FILE:LINE: what is wrong; what is allowed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named; for an override the environment variable.
    pub file: String,
    /// The line, counted from 1; none where the whole file is meant (it is missing, say).
    pub line: Option<u32>,
    /// What is wrong, with the key and the value that stands there.
    pub what: String,
    /// What is allowed, or what to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

/// All mistakes of one configuration, in the order of their lines; never none. Shown one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `value` if nothing was found, else all that was found.
    pub(super) fn unless_any<T>(mut found: Vec<ConfigError>, value: T) -> Result<T, ConfigErrors> {
        if found.is_empty() {
            return Ok(value);
        }
        found.sort_by_key(|error| error.line);
        Err(ConfigErrors(found))
    }

    /// The mistakes, by line.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Why one value is refused, before anybody says where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Goes on after the key: `is "25h"`.
    pub what: String,
    /// What is allowed, or what to do.
    pub remedy: String,
}

impl Refusal {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal { what: what.into(), remedy: remedy.into() }
    }
}

/// Characters of a value that an error repeats.
const QUOTED_CHARS: usize = 60;

/// `text` in quotes, control characters escaped, cut where it is long: errors go to terminals and journals.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?} (cut)", text.get(..end).unwrap_or(text)),
        None => format!("{text:?}"),
    }
}
