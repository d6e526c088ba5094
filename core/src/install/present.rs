//! Which blobs the plan found at their place, so that the transfer need not look again: a bit for each, by their order in the
//! index, which every walk proves anew.

/// Size of the map. Blobs beyond its bits are looked up again, which costs time and nothing else.
const MAP_BYTES: usize = 4096;

/// A bit for each of the first blobs of a route.
pub(super) struct Present([u8; MAP_BYTES]);

impl Present {
    /// No blob is known to be there.
    pub const fn new() -> Self {
        Self([0; MAP_BYTES])
    }

    /// Blob `number` of the route is at its place.
    pub fn add(&mut self, number: u32) {
        let (byte, bit) = place(number);
        if let Some(byte) = self.0.get_mut(byte) {
            *byte |= bit;
        }
    }

    /// Whether blob `number` was found at its place; `false` when that is not known.
    pub fn contains(&self, number: u32) -> bool {
        let (byte, bit) = place(number);
        self.0.get(byte).is_some_and(|byte| byte & bit != 0)
    }
}

const fn place(number: u32) -> (usize, u8) {
    (number as usize / 8, 1 << (number % 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_added_is_there_and_beyond_the_map_nothing() {
        let mut present = Present::new();
        let last = MAP_BYTES as u32 * 8 - 1;
        for number in [0, 9, last, last + 1, u32::MAX] {
            assert!(!present.contains(number));
            present.add(number);
        }
        let found: std::vec::Vec<u32> = (0..last + 100)
            .filter(|number| present.contains(*number))
            .collect();
        assert_eq!(found, [0, 9, last]);
    }
}
