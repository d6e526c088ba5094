//! Finite state entropy: tables of states, and their descriptions (RFC 8878, section 4.1).

use super::bits::{Backward, Forward};
use twinseal_core::decode::DecodeFailed;

/// Most symbols of a table: the lengths of matches have 53.
pub(super) const SYMBOLS_MAX: usize = 53;

/// What a state means, and how the next one follows.
#[derive(Clone, Copy)]
struct State {
    symbol: u8,
    bits: u8,
    base: u16,
}

/// A table of at most `N` states.
pub(super) struct Table<const N: usize> {
    states: [State; N],
    /// Number of states, as a power of two.
    log: u32,
}

/// How often each symbol occurs; -1 for one that is rarer than 1.
pub(super) struct Shares<'s> {
    pub log: u32,
    pub of: &'s [i16],
}

impl<const N: usize> Table<N> {
    pub const fn new() -> Self {
        const NONE: State = State {
            symbol: 0,
            bits: 0,
            base: 0,
        };
        Self {
            states: [NONE; N],
            log: 0,
        }
    }

    /// Makes the table of a description whose symbols are below `symbols`; gives the bytes of the description.
    pub fn read(&mut self, input: &[u8], symbols: usize) -> Result<usize, DecodeFailed> {
        let mut shares = [0; SYMBOLS_MAX];
        let room = shares.get_mut(..symbols).ok_or(DecodeFailed)?;
        let mut bits = Forward::new(input);
        let log = bits.read(4) + 5;
        if 1 << log > N {
            return Err(DecodeFailed);
        }
        let mut left: u32 = 1 << log;
        let mut room = room.iter_mut();
        while left > 0 {
            let share = read_share(&mut bits, left);
            left -= share.unsigned_abs();
            *room.next().ok_or(DecodeFailed)? = share as i16;
            // Behind a share of nothing stands how many more such follow, in twos of bits, as long as those are full.
            let mut zeros = if share == 0 { 3 } else { 0 };
            while zeros == 3 {
                zeros = bits.read(2);
                for _ in 0..zeros {
                    room.next().ok_or(DecodeFailed)?;
                }
            }
        }
        let bytes = bits.end()?;
        self.make(&Shares { log, of: &shares })?;
        Ok(bytes)
    }

    /// Makes the table in which one symbol stands for everything.
    pub fn make_single(&mut self, symbol: u8) {
        self.log = 0;
        if let Some(state) = self.states.first_mut() {
            *state = State {
                symbol,
                bits: 0,
                base: 0,
            };
        }
    }

    /// Makes the table of shares that add up to all of its states.
    pub fn make(&mut self, shares: &Shares<'_>) -> Result<(), DecodeFailed> {
        let size = 1 << shares.log;
        let states = self.states.get_mut(..size).ok_or(DecodeFailed)?;
        let mut counts = [0_u16; SYMBOLS_MAX];
        // What is rarer than 1 has a state of its own at the end.
        let mut end = size;
        for ((symbol, share), count) in shares.of.iter().enumerate().zip(&mut counts) {
            *count = share.unsigned_abs();
            if *share == -1 {
                end = end.checked_sub(1).ok_or(DecodeFailed)?;
                states.get_mut(end).ok_or(DecodeFailed)?.symbol = symbol as u8;
            }
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut at = 0;
        for (symbol, share) in shares.of.iter().enumerate() {
            for _ in 0..(*share).max(0) {
                states.get_mut(at).ok_or(DecodeFailed)?.symbol = symbol as u8;
                at = (at + step) & (size - 1);
                while at >= end {
                    at = (at + step) & (size - 1);
                }
            }
        }
        for state in states {
            let count = counts
                .get_mut(usize::from(state.symbol))
                .filter(|count| **count > 0)
                .ok_or(DecodeFailed)?;
            let bits = shares.log - count.ilog2();
            state.bits = bits as u8;
            state.base = (*count << bits).wrapping_sub(size as u16);
            *count += 1;
        }
        self.log = shares.log;
        Ok(())
    }

    /// The first state, from the bits.
    pub fn first(&self, bits: &mut Backward<'_>) -> u16 {
        bits.read(self.log) as u16
    }

    /// What a state means.
    pub fn symbol(&self, state: u16) -> u8 {
        self.state(state).symbol
    }

    /// The state that follows, from the bits.
    pub fn next(&self, state: u16, bits: &mut Backward<'_>) -> u16 {
        let state = self.state(state);
        state.base + bits.read(state.bits.into()) as u16
    }

    fn state(&self, state: u16) -> State {
        // States come from this table alone, or from as many bits as it has.
        let state = self.states.get(usize::from(state));
        state.copied().unwrap_or(State {
            symbol: 0,
            bits: 0,
            base: 0,
        })
    }
}

/// One share: at most `left`, in as few bits as tell it from the others.
fn read_share(bits: &mut Forward<'_>, left: u32) -> i32 {
    let count = (left + 1).ilog2() + 1;
    let low = (1 << (count - 1)) - 1;
    let short = (1 << count) - 1 - (left + 1);
    let value = bits.peek(count);
    if value & low < short {
        bits.pass(count - 1);
        return (value & low) as i32 - 1;
    }
    bits.pass(count);
    let value = if value > low { value - short } else { value };
    value as i32 - 1
}
