//! A run: the keys of one batch, sorted, cut into pages, with a Bloom filter that tells in memory which keys are
//! certainly not in it. sled would take one small value per key at 40 microseconds each; a page of them costs the same.

use serde::{Deserialize, Serialize};

use super::{KeyHash, Known};

/// Keys in one page: about 8 KiB as stored.
const PAGE_KEYS: usize = 180;
/// Bits of the filter per key, and probes: one key in a hundred that is not there is looked up in vain.
const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 7;

/// A page: keys in order, each with what is known of it.
pub(super) type Page = Vec<([u8; 16], Known)>;

/// What is held in memory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// Its number.
    pub id: u64,
    /// The hour after which none of its keys is remembered.
    pub expires: u32,
    /// The first key of each page, in order.
    firsts: Vec<[u8; 16]>,
    filter: Vec<u64>,
}

impl Run {
    /// Sorts `keys` (at least one) into pages.
    pub(super) fn build(id: u64, keys: impl Iterator<Item = (KeyHash, Known)>) -> (Run, Vec<Page>) {
        let mut sorted: Page = keys.map(|(hash, known)| (hash.0, known)).collect();
        sorted.sort_unstable_by_key(|(hash, _)| *hash);
        let words = (sorted.len() as u64 * BITS_PER_KEY).div_ceil(64).max(1);
        let mut filter = vec![0u64; words as usize];
        for (hash, _) in &sorted {
            for bit in bits(hash, words * 64) {
                if let Some(word) = filter.get_mut((bit / 64) as usize) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
        let expires = sorted.iter().map(|(_, known)| known.expires.index()).max().unwrap_or(0);
        let firsts = sorted.chunks(PAGE_KEYS).filter_map(|page| Some(page.first()?.0)).collect();
        let pages = sorted.chunks(PAGE_KEYS).map(<[_]>::to_vec).collect();
        (Run { id, expires, firsts, filter }, pages)
    }

    /// How many pages it has.
    pub(super) fn pages(&self) -> usize {
        self.firsts.len()
    }

    /// The page that may hold the key; `None` if the run certainly does not.
    pub(super) fn page_of(&self, hash: &KeyHash) -> Option<usize> {
        let total = self.filter.len() as u64 * 64;
        let set = |bit: u64| self.filter.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1);
        if !bits(&hash.0, total).all(set) {
            return None;
        }
        self.firsts.partition_point(|first| *first <= hash.0).checked_sub(1)
    }
}

/// The filter's bits for a key. A key's hash is uniform already: its halves are the two hash functions.
fn bits(hash: &[u8; 16], total: u64) -> impl Iterator<Item = u64> {
    let full = u128::from_le_bytes(*hash);
    let (a, b) = (full as u64, (full >> 64) as u64 | 1);
    (0..PROBES).map(move |i| a.wrapping_add(b.wrapping_mul(i)) % total)
}

/// A key in a page.
pub(super) fn find(page: &Page, hash: &KeyHash) -> Option<Known> {
    let at = page.binary_search_by_key(&hash.0, |(key, _)| *key).ok()?;
    page.get(at).map(|(_, known)| *known)
}
