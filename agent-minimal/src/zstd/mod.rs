//! A decoder for zstd (RFC 8878) without a heap, for the ranges of a bundle: [`Zstd`].
//!
//! - `frame`: what stands before frames and blocks; `block`: a compressed block; `literals`, `sequences`: its two halves;
//! - `huffman`, `entropy`: the two codes; `bits`: bits from the front and from the back; `window`: what was decoded.
//!
//! # Invariants
//! - A frame that asks for a larger window than the manifest states, or than [`WINDOW_BYTES`], is refused; no length from outside makes
//!   memory.
//! - No dictionary, and no feature that RFC 8878 reserves.
//! - A checksum of a frame is passed over: whoever decodes a range compares the SHA-256 of what comes out.

mod bits;
mod block;
mod entropy;
mod frame;
mod huffman;
mod literals;
mod sequences;
mod window;

pub use window::WINDOW_BYTES;

use block::Blocks;
use frame::{Block, BlockKind, Frame, Start};
use twinseal_core::storage::{DecodeFailed, RangeDecoder};
use window::Window;

/// Largest block, decoded (RFC 8878, section 3.1.1.2.4).
const BLOCK_MAX_BYTES: usize = 128 * 1024;

/// Smallest window that a limit may ask for (RFC 8878, section 3.1.1.1.2).
const WINDOW_LOG_MIN: u8 = 10;

/// The decoder. It takes whole ranges: each call is given all of the range that is left.
pub struct Zstd {
    window: Window,
    blocks: Blocks,
    /// Largest window of a frame.
    limit_bytes: u64,
    /// Whether blocks follow, and of which frame.
    in_frame: bool,
    frame: Frame,
}

impl Zstd {
    /// A decoder that waits for its first range: zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            window: Window::new(),
            blocks: Blocks::new(),
            limit_bytes: 0,
            in_frame: false,
            frame: Frame::NONE,
        }
    }

    /// Decodes what stands next: a frame's header, or a block and what follows the last one. Gives the bytes taken.
    fn step(&mut self, input: &[u8]) -> Result<usize, DecodeFailed> {
        if !self.in_frame {
            return self.begin(input);
        }
        let block = Block::read(input)?;
        let most_bytes = self.frame.block_max_bytes();
        let mut taken = Block::HEADER_BYTES + block.stored_bytes();
        let stored = input.get(Block::HEADER_BYTES..taken).ok_or(DecodeFailed)?;
        let before = self.window.made();
        match (block.kind, stored) {
            (BlockKind::Raw, _) if stored.len() <= most_bytes => self.window.append(stored),
            (BlockKind::Repeated, [byte]) if block.bytes <= most_bytes => {
                self.window.append_repeated(*byte, block.bytes);
            }
            (BlockKind::Compressed, _) if stored.len() <= most_bytes => {
                self.blocks.decode(stored, &mut self.window, &self.frame)?;
            }
            _ => return Err(DecodeFailed),
        }
        let made = self.window.made();
        if made - before > most_bytes as u64 || self.frame.content_bytes.is_less_than(made) {
            return Err(DecodeFailed);
        }
        if block.is_last {
            if !self.frame.content_bytes.fits(made) {
                return Err(DecodeFailed);
            }
            self.in_frame = false;
            taken += self.frame.checksum_bytes();
            input.get(..taken).ok_or(DecodeFailed)?;
        }
        Ok(taken)
    }

    fn begin(&mut self, input: &[u8]) -> Result<usize, DecodeFailed> {
        match Start::read(input)? {
            Start::Skippable { bytes } => input.get(..bytes).map(|_| bytes).ok_or(DecodeFailed),
            Start::Frame { frame, bytes } if frame.window_bytes <= self.limit_bytes => {
                self.window.begin();
                self.blocks.begin();
                self.frame = frame;
                self.in_frame = true;
                Ok(bytes)
            }
            Start::Frame { .. } => Err(DecodeFailed),
        }
    }
}

impl Default for Zstd {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeDecoder for Zstd {
    fn start(&mut self, window_log: u8) {
        let window_log = window_log.clamp(WINDOW_LOG_MIN, WINDOW_BYTES.ilog2() as u8);
        self.limit_bytes = 1 << window_log;
        self.in_frame = false;
        self.window.begin();
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), DecodeFailed> {
        let (mut taken, mut made) = (0, 0);
        loop {
            let room = output.get_mut(made..).unwrap_or(&mut []);
            made += self.window.give(room);
            let left = input.get(taken..).unwrap_or(&[]);
            if made == output.len() || (left.is_empty() && !self.in_frame) {
                return Ok((taken, made));
            }
            taken += self.step(left)?;
        }
    }
}

#[cfg(test)]
mod tests;
