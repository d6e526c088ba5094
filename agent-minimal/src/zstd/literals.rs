//! The literals of a block (RFC 8878, section 3.1.1.3.1).

use super::BLOCK_MAX_BYTES;
use super::frame::number;
use super::huffman::Huffman;
use twinseal_core::storage::DecodeFailed;

/// Literals that are coded, and the code that a block may use again.
pub(super) struct Literals {
    decoded: [u8; BLOCK_MAX_BYTES],
    code: Huffman,
}

/// What stands before literals.
struct Head {
    kind: u8,
    bytes: usize,
    /// Decoded, and stored.
    size: usize,
    stored: usize,
    streams: usize,
}

impl Literals {
    pub const fn new() -> Self {
        Self {
            decoded: [0; _],
            code: Huffman::new(),
        }
    }

    /// A frame begins: no code is left from before.
    pub const fn begin(&mut self) {
        self.code.forget();
    }

    /// The literals of a block, and what follows them.
    pub fn decode<'l>(&'l mut self, block: &'l [u8]) -> Result<(&'l [u8], &'l [u8]), DecodeFailed> {
        let head = Head::read(block)?;
        let rest = block.get(head.bytes..).unwrap_or(&[]);
        let (stored, rest) = rest.split_at_checked(head.stored).ok_or(DecodeFailed)?;
        let decoded = self.decoded.get_mut(..head.size).ok_or(DecodeFailed)?;
        match head.kind {
            0 => return Ok((stored, rest)),
            1 => decoded.fill(*stored.first().ok_or(DecodeFailed)?),
            kind => {
                let mut streams = stored;
                if kind == 2 {
                    let bytes = self.code.read(stored)?;
                    streams = stored.get(bytes..).ok_or(DecodeFailed)?;
                }
                if !self.code.is_there() {
                    return Err(DecodeFailed);
                }
                if head.streams == 1 {
                    self.code.decode(streams, decoded)?;
                } else {
                    decode_four(&self.code, streams, decoded)?;
                }
            }
        }
        Ok((decoded, rest))
    }
}

impl Head {
    fn read(block: &[u8]) -> Result<Self, DecodeFailed> {
        let first = *block.first().ok_or(DecodeFailed)?;
        let (kind, form) = (first & 3, first >> 2 & 3);
        if kind < 2 {
            let (bytes, shift) = match form {
                1 => (2, 4),
                3 => (3, 4),
                _ => (1, 3),
            };
            let size = (number(block, 0, bytes)? >> shift) as usize;
            let stored = if kind == 0 { size } else { 1 };
            return Ok(Self {
                kind,
                bytes,
                size,
                stored,
                streams: 0,
            });
        }
        let (bytes, bits, streams) = match form {
            0 => (3, 10, 1),
            1 => (3, 10, 4),
            2 => (4, 14, 4),
            _ => (5, 18, 4),
        };
        let head = number(block, 0, bytes)? >> 4;
        let mask = (1 << bits) - 1;
        Ok(Self {
            kind,
            bytes,
            size: (head & mask) as usize,
            stored: (head >> bits & mask) as usize,
            streams,
        })
    }
}

/// Four streams behind the lengths of the first three; each but the last makes a quarter, rounded up.
fn decode_four(code: &Huffman, streams: &[u8], decoded: &mut [u8]) -> Result<(), DecodeFailed> {
    const LENGTHS_BYTES: usize = 6;
    let mut rest = streams.get(LENGTHS_BYTES..).ok_or(DecodeFailed)?;
    let quarter = decoded.len().div_ceil(4);
    let mut output = decoded;
    for stream in 0..3 {
        let bytes = number(streams, 2 * stream, 2)? as usize;
        let (now, later) = rest.split_at_checked(bytes).ok_or(DecodeFailed)?;
        let (made, left) = output.split_at_mut_checked(quarter).ok_or(DecodeFailed)?;
        code.decode(now, made)?;
        (rest, output) = (later, left);
    }
    code.decode(rest, output)
}
