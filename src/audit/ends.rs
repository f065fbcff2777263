//! Hours that were sealed before they were over: only an end may do that.

use crate::entry::Entry;

/// Whether an end was under way, as far as the entries so far have told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends(Option<bool>);

impl Ends {
    /// Takes in an entry; says what is wrong with it.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<String> {
        match entry {
            Entry::End(_) => self.0 = Some(true),
            Entry::CalledOff(_) | Entry::Started(_) => self.0 = Some(false),
            Entry::Seal(seal) if seal.at < seal.through.end() && self.0 == Some(false) => {
                return Some(format!(
                    "{} is sealed at {}, before it was over, and no end was under way",
                    seal.through, seal.at
                ));
            }
            _ => {}
        }
        None
    }
}
