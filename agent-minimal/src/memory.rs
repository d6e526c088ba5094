//! The memory of an install: every buffer that it may need, at its largest, in one place.
//!
//! # Invariants
//! - There is no other: nothing of an install grows with the bundle, the number of objects or what a sender wrote.
//! - All of it is zeros at the start, so a program that keeps it where the kernel gives zeros on demand pays for a page only when
//!   an install touches it: from a file, whose bytes can be read twice, it touches no more of `request` than a piece.

use crate::inflate::Inflate;
use crate::zstd::Zstd;
use twinseal_core::install::OUTPUT_MIN_BYTES;
use twinseal_core::wire::{FRONT_MAX_BYTES, RANGE_MAX_BYTES};

/// Decoded and copied pieces. More saves system calls, and costs as much of the memory.
pub const OUTPUT_BYTES: usize = 16 * OUTPUT_MIN_BYTES;

/// What an install works in.
pub struct Memory {
    /// Manifest and signatures.
    pub(crate) front: [u8; FRONT_MAX_BYTES],
    /// One request to the source: a stored range at most, from a source that gives it only once.
    pub(crate) request: [u8; RANGE_MAX_BYTES as usize],
    /// Pieces on their way into a slot.
    pub(crate) output: [u8; OUTPUT_BYTES],
    /// The decoder for zstd, with the last block of its window.
    pub(crate) zstd: Zstd,
    /// The decoder for DEFLATE.
    pub(crate) inflate: Inflate,
}

/// Most of the stack that an install takes, whatever it installs. A test looks at the program (`hil/tests/small_memory.rs`).
pub const STACK_BYTES: usize = 272 * 1024;

/// Most memory at once, the program and its stack included, of an install from a file.
pub const PEAK_BYTES: usize = 960 * 1024;

/// Size of [`Memory`].
pub const MEMORY_BYTES: usize = size_of::<Memory>();

const _: () = assert!(
    MEMORY_BYTES <= 3 * 1024 * 1024 / 2,
    "what an install may touch is at most 1.5 MiB"
);

impl Memory {
    /// Memory that nobody has used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            front: [0; _],
            request: [0; _],
            output: [0; _],
            zstd: Zstd::new(),
            inflate: Inflate::new(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
