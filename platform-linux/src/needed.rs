//! Which objects an install needs: a filter that tells them from garbage in memory of a fixed size.
//!
//! A Bloom filter. Digests are uniformly distributed already, so their own bytes serve as the hashes. It never forgets
//! an object that was added; of the others it takes some for needed, and these stay until a later install: 1 in 200
//! with 10,000 objects, 1 in 3 with 50,000.

use twinseal_core::wire::digest::BlobDigest;

/// Size of the filter.
const FILTER_BYTES: usize = 16 * 1024;

/// Bits that each object sets.
const HASHES: usize = 4;

/// The objects that were asked for.
pub(crate) struct Needed {
    filter: [u8; FILTER_BYTES],
    added: u64,
}

impl Needed {
    /// No object yet.
    pub(crate) const fn new() -> Self {
        Self {
            filter: [0; FILTER_BYTES],
            added: 0,
        }
    }

    /// How often an object was added; the same one counts again.
    pub(crate) const fn added(&self) -> u64 {
        self.added
    }

    /// Adds an object.
    pub(crate) fn add(&mut self, digest: &BlobDigest) {
        self.added += 1;
        for (byte, bit) in places(digest) {
            if let Some(byte) = self.filter.get_mut(byte) {
                *byte |= bit;
            }
        }
    }

    /// Whether an object may have been added; `false` is certain.
    pub(crate) fn may_contain(&self, digest: &BlobDigest) -> bool {
        places(digest).all(|(byte, bit)| self.filter.get(byte).is_some_and(|byte| byte & bit != 0))
    }
}

fn places(digest: &BlobDigest) -> impl Iterator<Item = (usize, u8)> {
    digest.as_bytes().chunks_exact(4).take(HASHES).map(|hash| {
        let hash = hash
            .iter()
            .fold(0, |hash, byte| hash << 8 | usize::from(*byte));
        ((hash >> 3) % FILTER_BYTES, 1 << (hash & 7))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn digest(number: u32) -> BlobDigest {
        BlobDigest::sha256(Sha256::digest(number.to_le_bytes()).into())
    }

    #[test]
    fn forgets_nothing_and_keeps_little_garbage() {
        let mut needed = Needed::new();
        assert!(!needed.may_contain(&digest(0)));
        (0..10_000).for_each(|number| needed.add(&digest(number)));
        assert_eq!(needed.added(), 10_000);
        assert!((0..10_000).all(|number| needed.may_contain(&digest(number))));
        let kept = (10_000..20_000)
            .filter(|number| needed.may_contain(&digest(*number)))
            .count();
        assert!(kept < 100, "{kept} of 10,000 strangers would be kept");
    }
}
