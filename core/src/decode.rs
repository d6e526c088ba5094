//! Decoders of ranges: what core asks of one ([`RangeDecoder`]), and DEFLATE without an allocator, through `miniz_oxide`.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

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
    /// Called until the stream [has ended](Self::has_ended); a call that takes nothing and makes nothing says that it never will.
    ///
    /// # Errors
    /// When the input cannot be decoded. The input has been authenticated, so this is the builder's fault, or the history's.
    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed>;

    /// Whether the stream that was [started](Self::start) has come to the end that it states itself, with all of it made and every
    /// byte of it taken.
    fn has_ended(&self) -> bool;
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
pub struct Inflate {
    decompressor: DecompressorOxide,
    /// The last bytes that were made.
    window: [u8; INFLATE_WINDOW_BYTES],
    /// Bytes that were made, and of these those that were given out.
    made: u64,
    given: u64,
    is_last: bool,
}

/// The window of DEFLATE (RFC 1951, section 2).
const INFLATE_WINDOW_BYTES: usize = 32 * 1024;

impl Inflate {
    /// A decoder that waits for its first range.
    pub fn new() -> Self {
        Self {
            decompressor: DecompressorOxide::new(),
            window: [0; _],
            made: 0,
            given: 0,
            is_last: false,
        }
    }

    /// What was made and not given out. It stands in one piece: more is made when nothing is left.
    fn waiting(&self) -> &[u8] {
        let bytes = (self.made - self.given) as usize;
        let from = self.window.get(place(self.given)..).unwrap_or(&[]);
        from.get(..bytes).unwrap_or(from)
    }
}

impl Default for Inflate {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeDecoder for Inflate {
    fn start(&mut self, _window_log: u8) {
        self.decompressor.init();
        (self.made, self.given, self.is_last) = (0, 0, false);
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        let (mut taken, mut made) = (0, 0);
        loop {
            let room = output.get_mut(made..).unwrap_or(&mut []);
            let waiting = self.waiting();
            let bytes = waiting.len().min(room.len());
            if let (Some(room), Some(waiting)) = (room.get_mut(..bytes), waiting.get(..bytes)) {
                room.copy_from_slice(waiting);
            }
            self.given += bytes as u64;
            made += bytes;
            if self.given < self.made || self.is_last || made == output.len() {
                return Ok((taken, made));
            }
            let mut flags =
                inflate_flags::TINFL_FLAG_HAS_MORE_INPUT | inflate_flags::TINFL_FLAG_IGNORE_ADLER32;
            if self.made < INFLATE_WINDOW_BYTES as u64 {
                // Then a distance that reaches to what nobody made is seen.
                flags |= inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
            }
            let left = input.get(taken..).unwrap_or(&[]);
            let at = place(self.made);
            let (status, bytes_taken, bytes_made) =
                decompress(&mut self.decompressor, left, &mut self.window, at, flags);
            taken += bytes_taken;
            self.made += bytes_made as u64;
            self.is_last = status == TINFLStatus::Done;
            match status {
                TINFLStatus::Done | TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if bytes_made > 0 => {}
                TINFLStatus::NeedsMoreInput => return Ok((taken, made)),
                _ => return Err(DecodeFailed),
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.is_last && self.given == self.made
    }
}

/// Where a byte stands in the window.
const fn place(byte: u64) -> usize {
    (byte % INFLATE_WINDOW_BYTES as u64) as usize
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
            while !decoder.has_ended() {
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

    #[test]
    fn a_stream_that_is_not_one_whole_stream_is_seen() {
        let mut decoder = Inflate::new();
        let mut verdict = |stored: &[u8]| {
            decoder.start(0);
            let decoded = decoder.decode(stored, &mut [0; 64], &mut NoHistory);
            (decoded, decoder.has_ended())
        };
        let raw = miniz_oxide::deflate::compress_to_vec(b"abcabc", 6);
        assert_eq!(verdict(&raw), (Ok((raw.len(), 6)), true));
        let followed = [&raw[..], b"more"].concat();
        assert_eq!(verdict(&followed), (Ok((raw.len(), 6)), true));
        let cut = &raw[..raw.len() - 1];
        assert!(!verdict(cut).1);
        // A distance before the first byte.
        assert_eq!(verdict(&[0b0000_0011, 0b0000_0010, 0]).0, Err(DecodeFailed));
    }
}
