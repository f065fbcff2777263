//! An amount split by tags, bounded to what one record can say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::decimal::Amount;
use crate::tags::{TAGS_MAX, Tags};

/// Most tag sets in one record (AWS takes 2,500 allocations, one of which is for usage without tags).
pub const TAG_SETS_MAX: usize = 2_499;

/// An amount by tags. The empty tag set is the overflow bucket too: usage whose tags no longer fit into one record
/// (a tag set past [`TAG_SETS_MAX`], or a sixth distinct key) counts there, so that no record is ever refused for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tagged {
    plain: Amount,
    tagged: BTreeMap<Tags, Amount>,
    keys: BTreeSet<String>,
}

impl Tagged {
    /// These amounts.
    pub fn of(amounts: &[(Tags, Amount)]) -> Self {
        let mut tagged = Tagged::default();
        tagged.merge(amounts.iter().map(|(tags, amount)| (tags, *amount)));
        tagged
    }

    /// Adds usage without tags.
    pub fn add_plain(&mut self, amount: Amount) {
        self.plain += amount;
    }

    /// Adds usage under `tags`, or to the overflow bucket.
    pub fn add(&mut self, tags: &Tags, amount: Amount) {
        if tags.is_empty() {
            self.plain += amount;
        } else if let Some(sum) = self.tagged.get_mut(tags) {
            *sum += amount;
        } else if self.make_room(tags) {
            self.tagged.insert(tags.clone(), amount);
        } else {
            self.plain += amount;
        }
    }

    fn make_room(&mut self, tags: &Tags) -> bool {
        let fresh: Vec<&str> = tags.iter().map(|(key, _)| key).filter(|key| !self.keys.contains(*key)).collect();
        if self.tagged.len() >= TAG_SETS_MAX || self.keys.len() + fresh.len() > TAGS_MAX {
            return false;
        }
        self.keys.extend(fresh.into_iter().map(str::to_owned));
        true
    }

    /// Adds all of `other`, tag set by tag set in order.
    pub fn merge<'a>(&mut self, other: impl IntoIterator<Item = (&'a Tags, Amount)>) {
        for (tags, amount) in other {
            self.add(tags, amount);
        }
    }

    /// All of it.
    pub fn total(&self) -> Amount {
        self.plain + self.tagged.values().copied().sum()
    }

    /// By tags, usage without tags first, then in the order of the tags.
    pub fn iter(&self) -> impl Iterator<Item = (&Tags, Amount)> {
        static PLAIN: std::sync::LazyLock<Tags> = std::sync::LazyLock::new(Tags::default);
        let plain = (!self.plain.is_zero()).then_some((&*PLAIN, self.plain));
        plain.into_iter().chain(self.tagged.iter().map(|(tags, amount)| (tags, *amount)))
    }
}
