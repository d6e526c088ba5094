//! Decoders of ranges: what core asks of one ([`RangeDecoder`]), and DEFLATE without an allocator, through `miniz_oxide`.

use miniz_oxide::inflate::stream::{FullReset, InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

/// Bytes of a range that a decoder is given at once, if so many are left: more than any piece that it can only take whole.
///
/// The largest is a block of zstd (128 KiB) with what stands around it.
pub const INPUT_BYTES: usize = 128 * 1024 + 64;

/// Decodes one encoding of ranges; given to core as an argument, so that core depends on no codec but its own.
pub trait RangeDecoder {
    /// Starts a new range. `window_log` is the largest window, as a power of two, that the range may ask for.
    fn start(&mut self, window_log: u8);

    /// Decodes from `input` into `output`: gives bytes taken and bytes made. `input` is all that is left of the range, or at least
    /// [`INPUT_BYTES`] of it. What was made by earlier calls since [`start`](Self::start) can be read in `history`.
    ///
    /// Called until all of a range's bytes are made; at the end of a patch once more, to see that nothing follows, which is answered
    /// with 0 and 0 when nothing does.
    ///
    /// # Errors
    /// When the input cannot be decoded. The input has been authenticated, so this is the builder's fault, or the history's.
    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed>;
}

/// What a range has made so far, for a decoder that does not hold its whole window. Offsets count what was made since
/// [`RangeDecoder::start`].
pub trait History {
    /// Takes bytes that the decoder lets go of. Told of every byte, in order, before it is asked for.
    ///
    /// # Errors
    /// When they cannot be kept. Whoever gave the history knows why.
    fn keep(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DecodeFailed>;

    /// Reads exactly `buffer.len()` bytes that the decoder let go of.
    ///
    /// # Errors
    /// When they cannot be read. Whoever gave the history knows why.
    fn recall(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DecodeFailed>;
}

/// No history: for a decoder that holds its window itself.
pub struct NoHistory;

impl History for NoHistory {
    fn keep(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), DecodeFailed> {
        Ok(())
    }

    fn recall(&mut self, _offset: u64, _buffer: &mut [u8]) -> Result<(), DecodeFailed> {
        Err(DecodeFailed)
    }
}

/// A range could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeFailed;

/// A decoder for [`Encoding::Deflate`](crate::wire::index::Encoding::Deflate): about 43 KiB, window included. Put it into a
/// static or on the heap, not on a small stack.
pub struct Inflate(InflateState);

impl Inflate {
    /// A decoder that waits for its first range.
    pub fn new() -> Self {
        Self(InflateState::new(DataFormat::Raw))
    }
}

impl Default for Inflate {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeDecoder for Inflate {
    fn start(&mut self, _window_log: u8) {
        self.0.reset_as(FullReset(DataFormat::Raw));
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        let result = inflate(&mut self.0, input, output, MZFlush::None);
        match result.status {
            Ok(MZStatus::Ok | MZStatus::StreamEnd) => {
                Ok((result.bytes_consumed, result.bytes_written))
            }
            _ => Err(DecodeFailed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_deflate_makes_and_starts_anew() {
        let raw: std::vec::Vec<u8> = (0..200_000u32).map(|byte| (byte / 3 % 251) as u8).collect();
        let stored = miniz_oxide::deflate::compress_to_vec(&raw, 6);
        let mut decoder = Inflate::new();
        for _ in 0..2 {
            decoder.start(0);
            let (mut input, mut made) = (stored.as_slice(), std::vec::Vec::new());
            let mut output = [0; 5000];
            while made.len() < raw.len() {
                let (taken, written) = decoder.decode(input, &mut output, &mut NoHistory).unwrap();
                input = &input[taken..];
                made.extend_from_slice(&output[..written]);
            }
            assert_eq!(made, raw);
        }
        decoder.start(0);
        let bad = decoder.decode(&[0xff; 64], &mut [0; 64], &mut NoHistory);
        assert_eq!(bad, Err(DecodeFailed));
    }
}
