//! A compressed block: its literals, and the sequences that put them between matches.

use super::frame::Frame;
use super::huffman::Huffman;
use super::literals::Literals;
use super::sequences::Sequences;
use super::window::Window;
use twinseal_core::decode::{DecodeFailed, History};

/// What blocks of a frame leave for each other.
pub(super) struct Blocks {
    /// The code of literals.
    code: Huffman,
    sequences: Sequences,
}

impl Blocks {
    pub const fn new() -> Self {
        Self {
            code: Huffman::new(),
            sequences: Sequences::new(),
        }
    }

    /// A frame begins.
    pub const fn begin(&mut self) {
        self.code.forget();
        self.sequences.begin();
    }

    /// Decodes a block to the end of the window.
    pub fn decode(
        &mut self,
        block: &[u8],
        window: &mut Window,
        frame: &Frame,
        history: &mut dyn History,
    ) -> Result<(), DecodeFailed> {
        let most_bytes = frame.block_max_bytes();
        let (mut literals, rest) = Literals::read(block, &mut self.code, most_bytes)?;
        self.sequences
            .follow(rest, &mut literals, window, frame, history)
    }
}
