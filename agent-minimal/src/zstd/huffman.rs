//! The Huffman code of literals (RFC 8878, section 4.2).

use super::bits::Backward;
use super::entropy::Table;
use twinseal_core::decode::DecodeFailed;

/// Most bits of a code (RFC 8878, section 4.2.1).
const CODE_MAX_BITS: u32 = 11;

/// States of the table of weights, at most (RFC 8878, section 4.2.1.2).
const WEIGHT_STATES: usize = 64;

/// Most weights: the last of 256 symbols has one that follows from the others.
const WEIGHTS_MAX: usize = 255;

#[derive(Clone, Copy)]
struct Code {
    symbol: u8,
    bits: u8,
}

/// A code: for every value of as many bits as the longest code has, the symbol that they begin with.
pub(super) struct Huffman {
    codes: [Code; 1 << CODE_MAX_BITS],
    /// Bits of the longest code; 0 when there is no code.
    log: u32,
}

impl Huffman {
    pub const fn new() -> Self {
        Self {
            codes: [Code { symbol: 0, bits: 0 }; _],
            log: 0,
        }
    }

    /// There is no code any more.
    pub const fn forget(&mut self) {
        self.log = 0;
    }

    /// Whether there is a code.
    pub const fn is_there(&self) -> bool {
        self.log > 0
    }

    /// Makes the code of a description; gives the bytes of the description.
    pub fn read(&mut self, input: &[u8]) -> Result<usize, DecodeFailed> {
        let (head, rest) = input.split_first().ok_or(DecodeFailed)?;
        let mut weights = [0; WEIGHTS_MAX + 1];
        let (count, bytes) = match head.checked_sub(128) {
            Some(more) => {
                let count = usize::from(more) + 1;
                let bytes = count.div_ceil(2);
                let packed = rest.get(..bytes).ok_or(DecodeFailed)?;
                let nibbles = packed.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                for (weight, nibble) in weights.iter_mut().zip(nibbles.take(count)) {
                    *weight = nibble;
                }
                (count, bytes)
            }
            None => {
                let bytes = usize::from(*head);
                let coded = rest.get(..bytes).ok_or(DecodeFailed)?;
                (read_weights(coded, &mut weights)?, bytes)
            }
        };
        self.make(&mut weights, count)?;
        Ok(1 + bytes)
    }

    /// Makes the code of weights, of which the last one is missing.
    fn make(
        &mut self,
        weights: &mut [u8; WEIGHTS_MAX + 1],
        count: usize,
    ) -> Result<(), DecodeFailed> {
        self.log = 0;
        let mut total: u32 = 0;
        for weight in weights.iter().take(count) {
            if u32::from(*weight) > CODE_MAX_BITS {
                return Err(DecodeFailed);
            }
            total += span(*weight) as u32;
        }
        let log = total.checked_ilog2().ok_or(DecodeFailed)? + 1;
        let missing = (1 << log) - total;
        if log > CODE_MAX_BITS || !missing.is_power_of_two() {
            return Err(DecodeFailed);
        }
        *weights.get_mut(count).ok_or(DecodeFailed)? = missing.ilog2() as u8 + 1;
        // The longest codes come in pairs.
        let longest = weights.iter().filter(|weight| **weight == 1).count();
        if longest < 2 || longest % 2 == 1 {
            return Err(DecodeFailed);
        }
        let mut codes = self.codes.iter_mut();
        for weight in 1..=log as u8 {
            for (symbol, _) in weights
                .iter()
                .enumerate()
                .filter(|(_, has)| **has == weight)
            {
                let code = Code {
                    symbol: symbol as u8,
                    bits: log as u8 + 1 - weight,
                };
                codes
                    .by_ref()
                    .take(span(weight))
                    .for_each(|place| *place = code);
            }
        }
        self.log = log;
        Ok(())
    }

    /// Decodes the next symbols of a stream.
    pub fn decode(&self, bits: &mut Backward<'_>, output: &mut [u8]) -> Result<(), DecodeFailed> {
        for byte in output {
            let code = self
                .codes
                .get(bits.peek(self.log) as usize)
                .ok_or(DecodeFailed)?;
            bits.pass(code.bits.into());
            *byte = code.symbol;
        }
        Ok(())
    }
}

/// Places that a weight takes of a code's table.
const fn span(weight: u8) -> usize {
    (1 << weight) >> 1
}

/// Weights in finite state entropy: two states take turns until the bits are used up. Gives their number.
fn read_weights(coded: &[u8], weights: &mut [u8; WEIGHTS_MAX + 1]) -> Result<usize, DecodeFailed> {
    let mut table = Table::<WEIGHT_STATES>::new();
    let head = table.read(coded, CODE_MAX_BITS as usize + 1)?;
    let mut bits = Backward::new(coded.get(head..).unwrap_or(&[]))?;
    let (mut turn, mut other) = (table.first(&mut bits), table.first(&mut bits));
    if bits.is_overdrawn() {
        return Err(DecodeFailed);
    }
    for count in 0..WEIGHTS_MAX - 1 {
        *weights.get_mut(count).ok_or(DecodeFailed)? = table.symbol(turn);
        let next = table.next(turn, &mut bits);
        if bits.is_overdrawn() {
            *weights.get_mut(count + 1).ok_or(DecodeFailed)? = table.symbol(other);
            return Ok(count + 2);
        }
        (turn, other) = (other, next);
    }
    Err(DecodeFailed)
}
