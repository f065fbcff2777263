//! Tells in memory which keys are certainly not in a run: a Bloom filter whose probes for one key all lie in one block of
//! 32 bytes, so that a probe costs one access to memory however large the run is (the split blocks of Apache Parquet).

use serde::{Deserialize, Serialize};

/// Bits per key: of keys that are not there one in two hundred is looked up in vain.
const BITS_PER_KEY: u64 = 12;

/// One bit in each word.
type Block = [u32; 8];

/// Odd numbers that spread a hash over the eight words, as Parquet has them.
const SALT: Block =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filter(Vec<Block>);

impl Filter {
    /// An empty one that is to hold so many keys.
    pub(super) fn for_keys(keys: u64) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(256).max(1);
        Filter(vec![[0; 8]; blocks as usize])
    }

    pub(super) fn add(&mut self, hash: u128) {
        let probe = Probe::of(hash);
        let at = self.block_of(&probe);
        if let Some(block) = self.0.get_mut(at) {
            block.iter_mut().zip(probe.bits).for_each(|(word, bit)| *word |= bit);
        }
    }

    /// Whether it may have been added. Takes no branch before the end: the processor fetches the blocks of several filters
    /// at once.
    pub(super) fn may_have(&self, probe: &Probe) -> bool {
        let Some(block) = self.0.get(self.block_of(probe)) else { return false };
        block.iter().zip(probe.bits).fold(0, |missing, (word, bit)| missing | (!word & bit)) == 0
    }

    /// The block goes by the hash's upper half: keys that are added in order fill it in order.
    fn block_of(&self, probe: &Probe) -> usize {
        ((u128::from(probe.upper) * self.0.len() as u128) >> 64) as usize
    }
}

/// What is looked for, the same in every filter.
pub(super) struct Probe {
    upper: u64,
    bits: Block,
}

impl Probe {
    pub(super) fn of(hash: u128) -> Self {
        let bits = SALT.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27));
        Probe { upper: (hash >> 64) as u64, bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_little_else() {
        let mut rng = fastrand::Rng::with_seed(7);
        let keys: Vec<u128> = (0..20_000).map(|_| rng.u128(..)).collect();
        let mut filter = Filter::for_keys(keys.len() as u64);
        keys.iter().for_each(|key| filter.add(*key));
        assert!(keys.iter().all(|key| filter.may_have(&Probe::of(*key))));
        let vain = (0..100_000).filter(|_| filter.may_have(&Probe::of(rng.u128(..)))).count();
        assert!(vain < 1_000, "{vain} of 100000");
    }
}
