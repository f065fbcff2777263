//! Usage of a dimension that is not configured: refused, and so billed to nobody. The writer is told; whoever can mend it
//! reads `status`, so the engine remembers it for a while.

use super::code::Code;
use super::take::{NewIncrement, Refusal};
use super::{Engine, Taken};
use crate::disk::Disk;
use crate::entry::Peer;
use crate::hour::Timestamp;

/// What of a name is remembered, in characters: a writer may send tens of kilobytes of it.
const NAME_CHARS_MAX: usize = 64;

/// Such usage, since the first of it that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misnamed {
    /// What the last of it was called, cut off if it is long.
    pub name: String,
    /// A configured dimension whose name is almost that.
    pub meant: Option<String>,
    /// Who wrote the last.
    pub by: Peer,
    /// When the first came.
    pub first: Timestamp,
    /// When the last came.
    pub last: Timestamp,
    /// Increments and arrays refused for it.
    pub count: u64,
}

impl<D: Disk> Engine<D> {
    /// The same, if there is any; it may be long ago.
    pub fn misnamed(&self) -> Option<&Misnamed> {
        self.misnamed.as_ref()
    }

    /// Takes in what became of `news`.
    pub(super) fn remember_misnamed(
        &mut self,
        peer: Peer,
        news: &[NewIncrement<'_>],
        taken: &Result<Taken, Refusal>,
        now: Timestamp,
    ) {
        let Err(Refusal { code: Code::UnknownDimension, index, .. }) = taken else { return };
        let Some(new) = news.get(index.unwrap_or(0)) else { return };
        let name: String = new.dimension.chars().take(NAME_CHARS_MAX).collect();
        let alike = |known: &&String| strsim::damerau_levenshtein(known, &name) <= 2;
        let meant = self.names.keys().filter(alike).min().cloned();
        let (first, count) = self.misnamed.as_ref().map_or((now, 0), |before| (before.first, before.count));
        self.misnamed = Some(Misnamed { name, meant, by: peer, first, last: now, count: count + 1 });
    }
}
