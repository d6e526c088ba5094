//! Random moments for power cuts, and numbers for bad links, the same for the same seed.

use std::time::Duration;

/// Numbers that follow from a seed: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). It is
/// here because the moments of an old report must come again with a new version of any library.
#[derive(Clone, Debug)]
pub struct Moments {
    state: u64,
}

impl Moments {
    /// Numbers for one scenario: those of another have nothing to do with them.
    pub fn new(seed: u64, scenario: &str) -> Self {
        // FNV-1a over the name.
        let hash = scenario
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self { state: seed ^ hash }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.state;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number from 0 to `most`.
    pub fn up_to(&mut self, most: u64) -> u64 {
        let number = self.next();
        // Only a range of all numbers has no length.
        most.checked_add(1).map_or(number, |length| number % length)
    }

    /// A moment of at most so many milliseconds.
    pub fn within(&mut self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.up_to(milliseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut moments = Moments { state: 1_234_567 };
        let first: Vec<_> = (0..3).map(|_| moments.next()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn moments_follow_from_seed_and_scenario() {
        let take = |seed, name| {
            let mut moments = Moments::new(seed, name);
            (0..50).map(|_| moments.within(1000)).collect::<Vec<_>>()
        };
        assert_eq!(take(1, "x"), take(1, "x"));
        assert_ne!(take(1, "x"), take(2, "x"));
        assert_ne!(take(1, "x"), take(1, "y"));
        assert!(take(1, "x").iter().all(|moment| moment.as_millis() <= 1000));
        assert_eq!(Moments::new(1, "x").within(0), Duration::ZERO);
    }
}
