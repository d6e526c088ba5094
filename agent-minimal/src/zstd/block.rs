//! A compressed block: its literals, and the sequences that put them between matches.

use super::frame::Frame;
use super::literals::Literals;
use super::sequences::Sequences;
use super::window::Window;
use twinseal_core::storage::DecodeFailed;

/// What blocks of a frame leave for each other.
pub(super) struct Blocks {
    literals: Literals,
    sequences: Sequences,
}

impl Blocks {
    pub const fn new() -> Self {
        Self {
            literals: Literals::new(),
            sequences: Sequences::new(),
        }
    }

    /// A frame begins.
    pub const fn begin(&mut self) {
        self.literals.begin();
        self.sequences.begin();
    }

    /// Decodes a block to the end of the window.
    pub fn decode(
        &mut self,
        block: &[u8],
        window: &mut Window,
        frame: &Frame,
    ) -> Result<(), DecodeFailed> {
        let (literals, rest) = self.literals.decode(block)?;
        let most_bytes = frame.block_max_bytes();
        self.sequences
            .follow(rest, literals, window, frame.window_bytes, most_bytes)
    }
}
