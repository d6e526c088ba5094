//! Numbers for tests that damage their input: they look random and are the same for the same seed.

/// xorshift64 (G. Marsaglia, "Xorshift RNGs", 2003).
pub(crate) struct Sequence(u64);

impl Sequence {
    /// Begins at a printed seed. `TWINSEAL_DAMAGE_SEED` chooses another one.
    pub(crate) fn new() -> Self {
        let seed = number("TWINSEAL_DAMAGE_SEED", 0x7477_696e_7365_616c);
        println!("seed {seed}");
        // Zero would stay zero.
        Self(seed.max(1))
    }

    /// The next number, less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// Changes one byte to something that programs are likely to stumble over.
    pub(crate) fn damage(&mut self, byte: &mut u8) {
        *byte = match self.below(5) {
            0 => 0,
            1 => 0xff,
            2 => byte.wrapping_add(1),
            3 => *byte ^ (1 << self.below(8)),
            _ => self.below(256) as u8,
        };
    }
}

/// How often to damage: `default`, or what `TWINSEAL_DAMAGE_ROUNDS` says.
pub(crate) fn rounds(default: u64) -> u64 {
    let rounds = number("TWINSEAL_DAMAGE_ROUNDS", default);
    println!("{rounds} rounds");
    rounds
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
