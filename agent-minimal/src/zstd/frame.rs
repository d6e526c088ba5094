//! What stands before a frame and before a block (RFC 8878, sections 3.1.1 and 3.1.2).

use super::BLOCK_MAX_BYTES;
use twinseal_core::decode::DecodeFailed;

const MAGIC: u32 = 0xFD2F_B528;

/// A frame.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub window_bytes: u64,
    pub content_bytes: ContentBytes,
    has_checksum: bool,
}

/// How many bytes a frame makes.
#[derive(Clone, Copy)]
pub(super) struct ContentBytes {
    is_known: bool,
    bytes: u64,
}

/// What stands before a block.
pub(super) struct Block {
    pub is_last: bool,
    pub kind: BlockKind,
    /// Stored, or for [`BlockKind::Repeated`] made.
    pub bytes: usize,
}

/// How a block is stored.
pub(super) enum BlockKind {
    Raw,
    Repeated,
    Compressed,
}

impl Frame {
    /// What stands for a frame where there is none.
    pub const NONE: Self = Self {
        window_bytes: 0,
        content_bytes: ContentBytes {
            is_known: false,
            bytes: 0,
        },
        has_checksum: false,
    };

    /// Most bytes of a block, stored and made.
    pub const fn block_max_bytes(&self) -> usize {
        if self.window_bytes < BLOCK_MAX_BYTES as u64 {
            self.window_bytes as usize
        } else {
            BLOCK_MAX_BYTES
        }
    }

    /// Bytes behind the last block.
    pub const fn checksum_bytes(&self) -> usize {
        if self.has_checksum { 4 } else { 0 }
    }
}

impl ContentBytes {
    /// Whether a frame that made so many bytes has made too many.
    pub const fn is_less_than(&self, made: u64) -> bool {
        self.is_known && made > self.bytes
    }

    /// Whether a frame that made so many bytes is whole.
    pub const fn fits(&self, made: u64) -> bool {
        !self.is_known || made == self.bytes
    }
}

impl Frame {
    /// What a range begins with, and the bytes of its header.
    pub fn read(input: &[u8]) -> Result<(Self, usize), DecodeFailed> {
        let magic = number(input, 0, 4)? as u32;
        let descriptor = *input.get(4).ok_or(DecodeFailed)?;
        if magic != MAGIC || descriptor & 0b1000 != 0 {
            return Err(DecodeFailed);
        }
        let is_single = descriptor & 0b10_0000 != 0;
        let mut at = 5;
        let mut window_bytes = 0;
        if !is_single {
            let window = *input.get(at).ok_or(DecodeFailed)?;
            let base: u64 = 1 << (10 + (window >> 3));
            window_bytes = base + base / 8 * u64::from(window & 7);
            at += 1;
        }
        let dictionary_bytes = match descriptor & 3 {
            3 => 4,
            bytes => usize::from(bytes),
        };
        if number(input, at, dictionary_bytes)? != 0 {
            return Err(DecodeFailed);
        }
        at += dictionary_bytes;
        let size_bytes = match descriptor >> 6 {
            0 => usize::from(is_single),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let more = if size_bytes == 2 { 256 } else { 0 };
        let bytes = number(input, at, size_bytes)?.saturating_add(more);
        if is_single {
            window_bytes = bytes;
        }
        let frame = Self {
            window_bytes,
            content_bytes: ContentBytes {
                is_known: size_bytes > 0,
                bytes,
            },
            has_checksum: descriptor & 0b100 != 0,
        };
        Ok((frame, at + size_bytes))
    }
}

impl Block {
    pub const HEADER_BYTES: usize = 3;

    pub fn read(input: &[u8]) -> Result<Self, DecodeFailed> {
        let header = number(input, 0, Self::HEADER_BYTES)?;
        let kind = match header >> 1 & 3 {
            0 => BlockKind::Raw,
            1 => BlockKind::Repeated,
            2 => BlockKind::Compressed,
            _ => return Err(DecodeFailed),
        };
        Ok(Self {
            is_last: header & 1 == 1,
            kind,
            bytes: (header >> 3) as usize,
        })
    }

    /// Bytes behind the header.
    pub const fn stored_bytes(&self) -> usize {
        match self.kind {
            BlockKind::Repeated => 1,
            BlockKind::Raw | BlockKind::Compressed => self.bytes,
        }
    }
}

/// A number of at most 8 bytes, the lowest one first.
pub(super) fn number(input: &[u8], at: usize, bytes: usize) -> Result<u64, DecodeFailed> {
    let bytes = input.get(at..at + bytes).ok_or(DecodeFailed)?;
    let number = bytes.iter().rev();
    Ok(number.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
