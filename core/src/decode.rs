//! DEFLATE without an allocator, through `miniz_oxide`.

use crate::storage::{DecodeFailed, RangeDecoder};
use miniz_oxide::inflate::stream::{FullReset, InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

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

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), DecodeFailed> {
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
                let (taken, written) = decoder.decode(input, &mut output).unwrap();
                input = &input[taken..];
                made.extend_from_slice(&output[..written]);
            }
            assert_eq!(made, raw);
        }
        decoder.start(0);
        assert_eq!(decoder.decode(&[0xff; 64], &mut [0; 64]), Err(DecodeFailed));
    }
}
