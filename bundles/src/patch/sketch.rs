//! A few numbers that tell whether two blobs have much in common, without comparing them.
//!
//! A rolling hash of the last 32 bytes is taken at every place; of those hashes that say so themselves, one in 64 or so, the
//! smallest are kept. Two blobs share about as large a part of their numbers as of their content, wherever it stands in them.
//!
//! # Invariants
//! - The same bytes give the same sketch, in whatever pieces they come.
//! - Memory and time grow with neither the number of blobs that are compared nor their content: a sketch is small.

use std::io::{self, Write};

/// Numbers in a sketch.
const NUMBERS: usize = 32;

/// A hash counts when so many of its highest bits are zero.
const SAMPLE_ZERO_BITS: u32 = 6;

/// What each byte adds to the hash: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), cut
/// to 32 bits, which also makes the window 32 bytes long.
const GEAR: [u32; 256] = gear();

const fn gear() -> [u32; 256] {
    let (mut table, mut place, mut state) = ([0; 256], 0, 0_u64);
    while place < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[place] = (mixed ^ (mixed >> 31)) as u32;
        place += 1;
    }
    table
}

/// The sketch of a blob: different numbers, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(Vec<u32>);

impl Sketch {
    /// The sketch of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut sketcher = Sketcher::default();
        sketcher.update(bytes);
        sketcher.finish()
    }

    /// Its numbers.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }

    /// How many numbers both have.
    pub fn shared(&self, other: &Self) -> usize {
        let both = self
            .0
            .iter()
            .filter(|number| other.0.binary_search(number).is_ok());
        both.count()
    }
}

/// Makes a sketch of bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Sketcher {
    hash: u32,
    /// The smallest numbers, ascending.
    smallest: Vec<u32>,
}

impl Sketcher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            if self.hash.leading_zeros() >= SAMPLE_ZERO_BITS {
                self.take(self.hash);
            }
        }
    }

    /// The highest bits were looked at already; what decides which numbers are smallest must not depend on them alone.
    fn take(&mut self, hash: u32) {
        let number = hash.wrapping_mul(0x9e37_79b1);
        let full = self.smallest.len() == NUMBERS;
        if full && self.smallest.last().is_some_and(|last| *last <= number) {
            return;
        }
        if let Err(place) = self.smallest.binary_search(&number) {
            self.smallest.insert(place, number);
            self.smallest.truncate(NUMBERS);
        }
    }

    /// The sketch of everything that was taken.
    pub fn finish(self) -> Sketch {
        Sketch(self.smallest)
    }
}

impl Write for Sketcher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 11) as u8
            })
            .collect()
    }

    #[test]
    fn what_was_moved_and_changed_is_recognised() {
        let base = noise(200_000, 1);
        let mut new = noise(20_000, 2);
        new.extend_from_slice(&base[..150_000]);
        let (one, two) = (Sketch::of(&base), Sketch::of(&new));
        assert_eq!(one.numbers().len(), NUMBERS);
        assert!(one.shared(&two) > NUMBERS / 3, "{}", one.shared(&two));
        let strange = Sketch::of(&noise(200_000, 3));
        assert!(one.shared(&strange) < 2, "{}", one.shared(&strange));
    }

    #[test]
    fn pieces_make_no_difference_and_short_blobs_have_a_sketch() {
        let bytes = noise(5000, 5);
        let mut sketcher = Sketcher::default();
        bytes.chunks(77).for_each(|piece| sketcher.update(piece));
        assert_eq!(sketcher.finish(), Sketch::of(&bytes));
        assert!(Sketch::of(&bytes[..500]).numbers().len() > 2);
        assert!(Sketch::of(&[]).numbers().is_empty());
    }
}
