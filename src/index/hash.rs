//! Hashes of keys, ids and contents: SipHash-2-4 under a secret that is drawn when the index is made.
//!
//! Two keys with one hash would be one increment, so nobody may be able to make them. SipHash is a pseudo-random function:
//! without its 128-bit secret nobody can tell anything about two inputs' hashes but by asking. The secret stands nowhere
//! but in the index, which only the agent's user reads, and every index has its own. By chance two of 10^8 keys share
//! their 128 bits with a probability below 10^-22. Of a content 64 bits are enough: they are compared only between two
//! uses of one key, and whoever made them equal would have cheated nobody but themselves.

use std::hash::{BuildHasher, Hasher as _, RandomState};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

/// A caller's key, or an id in its hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub(super) u128);

impl std::hash::Hash for KeyHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // It is uniform already; see `Uniform`.
        state.write_u64(self.0 as u64);
    }
}

/// What an index hashes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret([u8; 16]);

impl Secret {
    /// A new one. The standard library's hash tables draw theirs from the system; this is two such draws, hashed.
    pub(super) fn draw() -> Self {
        let half = || RandomState::new().hash_one(0u8);
        Secret(((u128::from(half()) << 64) | u128::from(half())).to_le_bytes())
    }

    /// One for an index that nobody but a test asks.
    pub(super) fn none() -> Self {
        Secret([0; 16])
    }

    /// A key's hash, over `parts` each with its length.
    pub fn key(&self, parts: &[&[u8]]) -> KeyHash {
        KeyHash(self.hash(parts))
    }

    /// A content's.
    pub fn content(&self, parts: &[&[u8]]) -> u64 {
        self.hash(parts) as u64
    }

    fn hash(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }
}

/// For tables of [`KeyHash`]: takes them as they are. Nobody who does not know the secret can choose where they fall.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uniform(u64);

impl std::hash::Hasher for Uniform {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
