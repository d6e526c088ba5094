//! A decoder for zstd (RFC 8878) without a heap, for the ranges of a bundle: [`Zstd`].
//!
//! - `frame`: what stands before frames and blocks; `block`: a compressed block; `literals`, `sequences`: its two halves;
//! - `huffman`, `entropy`: the two codes; `bits`: bits from the front and from the back; `window`: what was decoded.
//!
//! # Invariants
//! - A frame that asks for a larger window than the manifest states, or than the format's limit, is refused. No length from outside makes
//!   memory: what is older than a block is read from where it was written.
//! - One frame; no dictionary, and no feature that RFC 8878 reserves.
//! - A checksum of a frame is passed over: whoever decodes a range compares the SHA-256 of what comes out.

pub(crate) mod bits;
mod block;
mod entropy;
mod frame;
mod huffman;
mod literals;
mod sequences;
mod window;

pub(crate) use sequences::values;

use block::Blocks;
use frame::{Block, BlockKind, Frame};
use literals::copy;
use twinseal_core::decode::{DecodeFailed, History, RangeDecoder};
use twinseal_core::wire::ZSTD_WINDOW_LOG_MAX;
use window::Window;

/// Largest block, decoded (RFC 8878, section 3.1.1.2.4).
const BLOCK_MAX_BYTES: usize = 128 * 1024;

/// Smallest window that a limit may ask for (RFC 8878, section 3.1.1.1.2).
const WINDOW_LOG_MIN: u8 = 10;

/// The decoder.
pub struct Zstd {
    window: Window,
    blocks: Blocks,
    /// Largest window of a frame.
    limit_bytes: u64,
    follows: Follows,
    frame: Frame,
}

/// What stands next in the range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    Frame,
    Block,
    Nothing,
}

impl Zstd {
    /// A decoder that waits for its first range: zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            window: Window::new(),
            blocks: Blocks::new(),
            limit_bytes: 0,
            follows: Follows::Frame,
            frame: Frame::NONE,
        }
    }

    /// Decodes what stands next: the frame's header, or a block and what follows the last one. Gives the bytes taken.
    fn step(&mut self, input: &[u8], history: &mut dyn History) -> Result<usize, DecodeFailed> {
        if self.follows == Follows::Frame {
            return self.begin(input);
        }
        let block = Block::read(input)?;
        let most_bytes = self.frame.block_max_bytes();
        let mut taken = Block::HEADER_BYTES + block.stored_bytes();
        let mut stored = input.get(Block::HEADER_BYTES..taken).ok_or(DecodeFailed)?;
        if block.bytes > most_bytes {
            return Err(DecodeFailed);
        }
        let window = &mut self.window;
        match (block.kind, stored) {
            (BlockKind::Repeated, [byte]) => {
                let mut fill = |room: &mut [u8]| {
                    room.fill(*byte);
                    Ok(())
                };
                window.append(block.bytes, history, &mut fill)?;
            }
            (BlockKind::Compressed, _) => {
                self.blocks.decode(stored, window, &self.frame, history)?;
            }
            _ => window.append(block.bytes, history, &mut |room| copy(&mut stored, room))?,
        }
        let made = self.window.made();
        if self.frame.content_bytes.is_less_than(made) {
            return Err(DecodeFailed);
        }
        if block.is_last {
            if !self.frame.content_bytes.fits(made) {
                return Err(DecodeFailed);
            }
            self.follows = Follows::Nothing;
            taken += self.frame.checksum_bytes();
            input.get(..taken).ok_or(DecodeFailed)?;
        }
        Ok(taken)
    }

    fn begin(&mut self, input: &[u8]) -> Result<usize, DecodeFailed> {
        let (frame, bytes) = Frame::read(input)?;
        if frame.window_bytes > self.limit_bytes {
            return Err(DecodeFailed);
        }
        self.blocks.begin();
        self.frame = frame;
        self.follows = Follows::Block;
        Ok(bytes)
    }
}

impl Default for Zstd {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeDecoder for Zstd {
    fn start(&mut self, window_log: u8) {
        let window_log = window_log.clamp(WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX);
        self.limit_bytes = 1 << window_log;
        self.follows = Follows::Frame;
        self.window.begin();
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        let mut taken = 0;
        loop {
            // A block begins when all before it was given out by a call that has ended: it may reach back to it in the history.
            let made = self.window.give(output);
            // Behind the first step, what is left of the input may be shorter than the next block.
            if made > 0 || taken > 0 || output.is_empty() || self.follows == Follows::Nothing {
                return Ok((taken, made));
            }
            taken += self.step(input, history)?;
        }
    }

    fn has_ended(&self) -> bool {
        self.follows == Follows::Nothing && self.window.is_given()
    }
}

#[cfg(test)]
mod tests;
