//! A decoder for DEFLATE (RFC 1951) without a heap, for the ranges of a bundle: [`Inflate`].
//!
//! # Invariants
//! - A header, or a symbol with the bits behind it, is taken whole or not at all: the next call may have more input.
//! - It holds its whole window, 32 KiB. No length from outside makes memory.

use crate::zstd::bits::Forward;
use crate::zstd::values;
use twinseal_core::decode::{DecodeFailed, History, RangeDecoder};

/// The window, and the farthest distance.
const WINDOW_BYTES: usize = 32 * 1024;

/// Most bits of a code.
const CODE_MAX_BITS: usize = 15;

/// Symbols of literals and lengths, and of distances; the last two of either stand for nothing.
const LITERALS: usize = 288;
const DISTANCES: usize = 32;

/// The symbol that ends a block. What is below is a byte, what is above a length.
const END_OF_BLOCK: usize = 256;

/// Bits behind each length, and the first length of each; the last symbol has a length of its own.
const LENGTH_BITS: [u8; 28] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5,
];
const LENGTH_VALUES: [u32; 28] = values(3, &LENGTH_BITS);
const LENGTH_MAX: usize = 258;

/// The same of distances.
const DISTANCE_BITS: [u8; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
const DISTANCE_VALUES: [u32; 30] = values(1, &DISTANCE_BITS);

/// In which order the lengths of the code for lengths stand.
const ORDER: [u8; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// The decoder.
pub struct Inflate {
    /// The last bytes that were made.
    window: [u8; WINDOW_BYTES],
    made: u64,
    block: Block,
    is_last: bool,
    /// Bytes that are still to be made of what was taken last.
    left: usize,
    from: Origin,
    /// Bits of the first byte of the input that were taken by the call before.
    bits: usize,
    literals: Code<LITERALS>,
    distances: Code<DISTANCES>,
}

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// A header comes next, or nothing.
    None,
    /// Symbols.
    Coded,
}

/// Where bytes come from.
#[derive(Clone, Copy)]
enum Origin {
    /// They stand in the input.
    Input,
    /// It is this one.
    Byte(u8),
    /// They were made so many bytes before.
    Before(u32),
}

/// What was taken of the input.
enum Item {
    Header {
        block: Block,
        is_last: bool,
        stored_bytes: usize,
    },
    Bytes {
        count: usize,
        from: Origin,
    },
    EndOfBlock,
}

impl Inflate {
    /// A decoder that waits for its first range: zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            window: [0; _],
            made: 0,
            block: Block::None,
            is_last: false,
            left: 0,
            from: Origin::Input,
            bits: 0,
            literals: Code::new(),
            distances: Code::new(),
        }
    }

    /// Makes bytes of what was taken; gives their number.
    fn make(&mut self, input: &mut Forward<'_>, output: &mut [u8]) -> usize {
        let mut count = self.left.min(output.len());
        let mut stored: &[u8] = &[];
        if let Origin::Input = self.from {
            stored = input.take_bytes(count);
            count = stored.len();
        }
        let mut stored = stored.iter();
        for to in output.iter_mut().take(count) {
            *to = match self.from {
                Origin::Input => stored.next().copied().unwrap_or(0),
                Origin::Byte(byte) => byte,
                Origin::Before(distance) => {
                    let from = self.made.wrapping_sub(distance.into());
                    self.window.get(place(from)).copied().unwrap_or(0)
                }
            };
            if let Some(place) = self.window.get_mut(place(self.made)) {
                *place = *to;
            }
            self.made += 1;
        }
        self.left -= count;
        count
    }

    /// Takes what comes next in the input; `false` when all of it has not come yet.
    fn take(&mut self, input: &mut Forward<'_>) -> Result<bool, DecodeFailed> {
        let before = input.position();
        let item = match self.block {
            Block::None => self.header(input),
            Block::Coded => self.symbol(input),
        };
        // What was read beyond the end says nothing.
        if input.is_overdrawn() {
            input.go_to(before);
            return Ok(false);
        }
        match item? {
            Item::Header {
                block,
                is_last,
                stored_bytes,
            } => {
                (self.block, self.is_last) = (block, is_last);
                (self.left, self.from) = (stored_bytes, Origin::Input);
            }
            Item::Bytes { count, from } => (self.left, self.from) = (count, from),
            Item::EndOfBlock => self.block = Block::None,
        }
        Ok(true)
    }

    fn header(&mut self, input: &mut Forward<'_>) -> Result<Item, DecodeFailed> {
        let is_last = input.read(1) == 1;
        let (mut block, mut stored_bytes) = (Block::Coded, 0);
        match input.read(2) {
            0 => {
                input.go_to(input.position().next_multiple_of(8));
                let bytes = input.read(16);
                if input.read(16) != !bytes & 0xffff {
                    return Err(DecodeFailed);
                }
                (block, stored_bytes) = (Block::None, bytes as usize);
            }
            1 => {
                let mut lengths = [8; LITERALS];
                lengths
                    .iter_mut()
                    .skip(144)
                    .take(112)
                    .for_each(|of| *of = 9);
                lengths.iter_mut().skip(256).take(24).for_each(|of| *of = 7);
                self.literals.make(&lengths)?;
                self.distances.make(&[5; DISTANCES])?;
            }
            2 => self.read_codes(input)?,
            _ => return Err(DecodeFailed),
        }
        Ok(Item::Header {
            block,
            is_last,
            stored_bytes,
        })
    }

    /// The codes of a block, as it describes them.
    fn read_codes(&mut self, input: &mut Forward<'_>) -> Result<(), DecodeFailed> {
        let literals = input.read(5) as usize + 257;
        let distances = input.read(5) as usize + 1;
        if literals > LITERALS - 2 || distances > DISTANCES - 2 {
            return Err(DecodeFailed);
        }
        let described = input.read(4) as usize + 4;
        let mut lengths = [0; LITERALS + DISTANCES];
        for symbol in ORDER.iter().take(described) {
            if let Some(length) = lengths.get_mut(usize::from(*symbol)) {
                *length = input.read(3) as u8;
            }
        }
        // The room of the literals' code has the one for lengths as long as it is needed.
        let is_full = self
            .literals
            .make(lengths.get(..ORDER.len()).unwrap_or(&[]))?;
        if !is_full {
            return Err(DecodeFailed);
        }
        lengths = [0; _];
        let all = literals + distances;
        let (mut at, mut length) = (0, 0);
        while at < all {
            let symbol = self.literals.symbol(input)?;
            let count = match symbol {
                16 if at > 0 => 3 + input.read(2),
                17 => 3 + input.read(3),
                18 => 11 + input.read(7),
                ..16 => 1,
                _ => return Err(DecodeFailed),
            } as usize;
            if symbol != 16 {
                length = if symbol < 16 { symbol as u8 } else { 0 };
            }
            let room = lengths.get_mut(at..(at + count).min(LITERALS + DISTANCES));
            room.unwrap_or(&mut []).fill(length);
            at += count;
        }
        if at > all {
            return Err(DecodeFailed);
        }
        let (of_literals, rest) = lengths.split_at(literals);
        self.literals.make(of_literals)?;
        self.distances.make(rest.get(..distances).unwrap_or(&[]))?;
        Ok(())
    }

    /// A symbol of a block, with the distance behind a length.
    fn symbol(&self, input: &mut Forward<'_>) -> Result<Item, DecodeFailed> {
        let symbol = self.literals.symbol(input)?;
        if symbol < END_OF_BLOCK {
            let from = Origin::Byte(symbol as u8);
            return Ok(Item::Bytes { count: 1, from });
        }
        let Some(length) = symbol.checked_sub(END_OF_BLOCK + 1) else {
            return Ok(Item::EndOfBlock);
        };
        let count = if length == LENGTH_BITS.len() {
            LENGTH_MAX
        } else {
            value(length, &LENGTH_VALUES, &LENGTH_BITS, input)?
        };
        let symbol = self.distances.symbol(input)?;
        let distance = value(symbol, &DISTANCE_VALUES, &DISTANCE_BITS, input)?;
        if distance as u64 > self.made {
            return Err(DecodeFailed);
        }
        let from = Origin::Before(distance as u32);
        Ok(Item::Bytes { count, from })
    }
}

impl Default for Inflate {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeDecoder for Inflate {
    fn start(&mut self, _window_log: u8) {
        (self.made, self.left, self.bits) = (0, 0, 0);
        (self.block, self.is_last) = (Block::None, false);
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        let mut bits = Forward::new(input);
        bits.go_to(self.bits);
        let mut made = 0;
        loop {
            made += self.make(&mut bits, output.get_mut(made..).unwrap_or(&mut []));
            if self.has_ended() {
                // The bits behind the end are those of its last byte.
                let taken = bits.position().div_ceil(8);
                self.bits = 0;
                return Ok((taken, made));
            }
            // What is left after that is left for want of room, or of input.
            if self.left > 0 || !self.take(&mut bits)? {
                let taken = bits.position() / 8;
                self.bits = bits.position() % 8;
                return Ok((taken, made));
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.left == 0 && self.block == Block::None && self.is_last
    }
}

/// A canonical code: how many symbols have each length, and the symbols, by length and then by number.
struct Code<const N: usize> {
    counts: [u16; CODE_MAX_BITS + 1],
    symbols: [u16; N],
}

impl<const N: usize> Code<N> {
    const fn new() -> Self {
        Self {
            counts: [0; _],
            symbols: [0; _],
        }
    }

    /// Makes the code of these lengths, 0 for a symbol that does not occur; gives whether it is full.
    fn make(&mut self, lengths: &[u8]) -> Result<bool, DecodeFailed> {
        make_code(&mut self.counts, &mut self.symbols, lengths)
    }

    fn symbol(&self, input: &mut Forward<'_>) -> Result<usize, DecodeFailed> {
        next_symbol(&self.counts, &self.symbols, input)
    }
}

fn make_code(
    counts: &mut [u16; CODE_MAX_BITS + 1],
    symbols: &mut [u16],
    lengths: &[u8],
) -> Result<bool, DecodeFailed> {
    *counts = [0; _];
    let mut symbols = symbols.iter_mut();
    let mut room: i32 = 1;
    for (bits, count) in (0..).zip(counts.iter_mut()).skip(1) {
        for (symbol, _) in (0..).zip(lengths).filter(|(_, of)| **of == bits) {
            *symbols.next().ok_or(DecodeFailed)? = symbol;
            *count += 1;
        }
        room = 2 * room - i32::from(*count);
        if room < 0 {
            return Err(DecodeFailed);
        }
    }
    // A code that leaves room is one of a single symbol, which has one bit, or of none.
    if room > 0 && counts.iter().skip(2).any(|count| *count > 0) {
        return Err(DecodeFailed);
    }
    Ok(room == 0)
}

fn next_symbol(
    counts: &[u16; CODE_MAX_BITS + 1],
    symbols: &[u16],
    input: &mut Forward<'_>,
) -> Result<usize, DecodeFailed> {
    let mut bits = input.peek(CODE_MAX_BITS as u32);
    // The code of so many bits that was read; the first of that length, and the symbols of shorter ones.
    let (mut code, mut first, mut shorter) = (0, 0, 0);
    for (length, count) in (0..).zip(counts).skip(1) {
        code = code << 1 | bits & 1;
        first <<= 1;
        bits >>= 1;
        let count = u32::from(*count);
        if code < first + count {
            input.pass(length);
            let symbol = symbols.get((shorter + code - first) as usize);
            return symbol.map(|symbol| (*symbol).into()).ok_or(DecodeFailed);
        }
        first += count;
        shorter += count;
    }
    // Perhaps it is no code because it was read beyond the end.
    input.pass(CODE_MAX_BITS as u32);
    Err(DecodeFailed)
}

/// The value of a symbol with the bits behind it.
fn value(
    symbol: usize,
    values: &[u32],
    bits: &[u8],
    input: &mut Forward<'_>,
) -> Result<usize, DecodeFailed> {
    let (Some(value), Some(bits)) = (values.get(symbol), bits.get(symbol)) else {
        return Err(DecodeFailed);
    };
    Ok((value + input.read((*bits).into())) as usize)
}

/// Where a byte stands in the window.
const fn place(byte: u64) -> usize {
    (byte % WINDOW_BYTES as u64) as usize
}

#[cfg(test)]
mod tests;
