//! Tags of an increment, valid by construction: what AWS takes as the tags of a usage allocation.

use serde::{Deserialize, Serialize};

/// Most tags on one increment, and most distinct keys in one record (AWS).
pub const TAGS_MAX: usize = 5;
/// Longest tag key in characters (AWS).
pub const KEY_CHARS_MAX: usize = 100;
/// Longest tag value in characters (AWS).
pub const VALUE_CHARS_MAX: usize = 256;

/// Up to five tags, sorted by key, no key twice. Empty: usage without tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Tags(Vec<(String, String)>);

/// Why tags are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTags {
    /// More than five.
    #[error("{0} tags; at most {TAGS_MAX} are allowed")]
    TooMany(usize),
    /// A key is empty, too long or has other characters.
    #[error("tag key {0:?} is not 1-{KEY_CHARS_MAX} characters of [a-zA-Z0-9+ -=._:/@]")]
    Key(String),
    /// A value is empty, too long or has other characters.
    #[error("the value of tag {0:?} is not 1-{VALUE_CHARS_MAX} characters of [a-zA-Z0-9+ -=._:/@]")]
    Value(String),
    /// A key stands twice.
    #[error("tag key {0:?} stands twice")]
    Twice(String),
}

/// AWS's pattern is `[a-zA-Z0-9+ -=._:\/@]`. Read as a regular expression, ` -=` is a range that lets more through; the
/// narrower reading is kept, for a record that AWS refuses cannot be mended.
fn allowed(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+ -=._:/@".contains(&b))
}

impl Tags {
    /// Checks and sorts.
    pub fn new(mut pairs: Vec<(String, String)>) -> Result<Self, BadTags> {
        if pairs.len() > TAGS_MAX {
            return Err(BadTags::TooMany(pairs.len()));
        }
        for (key, value) in &pairs {
            if !allowed(key, KEY_CHARS_MAX) {
                return Err(BadTags::Key(key.clone()));
            }
            if !allowed(value, VALUE_CHARS_MAX) {
                return Err(BadTags::Value(key.clone()));
            }
        }
        pairs.sort();
        match pairs.windows(2).find(|w| matches!(w, [(a, _), (b, _)] if a == b)) {
            Some([(key, _), ..]) => Err(BadTags::Twice(key.clone())),
            _ => Ok(Tags(pairs)),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Key and value, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}
