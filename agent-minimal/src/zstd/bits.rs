//! Bits of a block: forwards for the descriptions of tables, backwards for everything that the tables code.

use twinseal_core::decode::DecodeFailed;

/// Bits from the first byte on, in each the lowest one first.
pub(crate) struct Forward<'b> {
    bytes: &'b [u8],
    position: usize,
}

impl<'b> Forward<'b> {
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next bits, at most 16, with zeros for what is behind the end.
    pub fn peek(&self, count: u32) -> u32 {
        low_bits(word(self.bytes, self.position), count) as u32
    }

    /// Passes bits.
    pub const fn pass(&mut self, count: u32) {
        self.position += count as usize;
    }

    /// Reads bits, at most 16.
    pub fn read(&mut self, count: u32) -> u32 {
        let value = self.peek(count);
        self.pass(count);
        value
    }

    /// Bits that were read.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Goes to a bit.
    pub const fn go_to(&mut self, position: usize) {
        self.position = position;
    }

    /// Whether more was read than there is.
    pub const fn is_overdrawn(&self) -> bool {
        self.position > 8 * self.bytes.len()
    }

    /// Takes whole bytes from a byte's start on, as many as there are.
    pub fn take_bytes(&mut self, count: usize) -> &'b [u8] {
        let rest = self.bytes.get(self.position / 8..).unwrap_or(&[]);
        let bytes = rest.get(..count).unwrap_or(rest);
        self.position += 8 * bytes.len();
        bytes
    }

    /// Bytes that were read, the last one maybe in part.
    ///
    /// # Errors
    /// When more was read than there is.
    pub fn end(&self) -> Result<usize, DecodeFailed> {
        let bytes = self.position.div_ceil(8);
        if bytes > self.bytes.len() {
            return Err(DecodeFailed);
        }
        Ok(bytes)
    }
}

/// Bits from the last byte back; the highest one that is set in it says where they begin.
pub(super) struct Backward<'b> {
    bytes: &'b [u8],
    /// Bits that are left; below zero when more was read than there is.
    left: isize,
}

impl<'b> Backward<'b> {
    /// # Errors
    /// When there is no byte, or no bit is set in the last one.
    pub fn new(bytes: &'b [u8]) -> Result<Self, DecodeFailed> {
        let last = bytes.last().filter(|last| **last != 0);
        let unused = last.ok_or(DecodeFailed)?.leading_zeros() as usize + 1;
        Ok(Self {
            bytes,
            left: (bytes.len() * 8 - unused) as isize,
        })
    }

    /// The next bits, at most 32, with zeros for what is before the start.
    pub fn peek(&self, count: u32) -> u32 {
        let end = self.left.max(0) as usize;
        let there = (count as usize).min(end);
        let value = low_bits(word(self.bytes, end - there), there as u32);
        // 32 at most, for both.
        (value << (count as usize - there)) as u32
    }

    /// Passes bits.
    pub const fn pass(&mut self, count: u32) {
        self.left -= count as isize;
    }

    /// Reads bits, at most 32.
    pub fn read(&mut self, count: u32) -> u32 {
        let value = self.peek(count);
        self.pass(count);
        value
    }

    /// Whether more was read than there is.
    pub const fn is_overdrawn(&self) -> bool {
        self.left < 0
    }

    /// Whether all was read, and no more.
    pub const fn is_at_end(&self) -> bool {
        self.left == 0
    }
}

/// The bits from `position` on, 57 of them at least where there are so many.
fn word(bytes: &[u8], position: usize) -> u64 {
    let from = bytes.get(position / 8..).unwrap_or(&[]);
    let word = match from.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => from
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    word >> (position % 8)
}

const fn low_bits(word: u64, count: u32) -> u64 {
    word & ((1 << count) - 1)
}
