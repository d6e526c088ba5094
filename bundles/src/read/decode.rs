//! The zstd decoder that the build host gives to core.

use twinseal_core::decode::{DecodeFailed, History, RangeDecoder};
use twinseal_core::wire::ZSTD_WINDOW_LOG_MAX;
use zstd::stream::raw::{Decoder, Operation};
use zstd::zstd_safe::DParameter;

/// Smallest window that zstd can be told as a limit (`ZSTD_WINDOWLOG_ABSOLUTEMIN`), as a power of two.
const WINDOW_LOG_MIN: u8 = 10;

/// A decoder for [`Encoding::Zstd`](twinseal_core::wire::index::Encoding::Zstd): one frame for each range, and no larger window
/// than the manifest states.
pub struct ZstdDecoder(Option<Decoder<'static>>);

impl ZstdDecoder {
    /// A decoder that waits for its first range.
    pub const fn new() -> Self {
        Self(None)
    }
}

impl Default for ZstdDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeDecoder for ZstdDecoder {
    fn start(&mut self, window_log: u8) {
        let limit = u32::from(window_log.clamp(WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX));
        let ready = self.0.take().map_or_else(Decoder::new, |mut decoder| {
            decoder.reinit().map(|()| decoder)
        });
        let limited = ready.and_then(|mut decoder| {
            decoder.set_parameter(DParameter::WindowLogMax(limit))?;
            Ok(decoder)
        });
        // Without a decoder, decoding fails.
        self.0 = limited.ok();
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        let decoder = self.0.as_mut().ok_or(DecodeFailed)?;
        let status = decoder
            .run_on_buffers(input, output)
            .map_err(|_| DecodeFailed)?;
        Ok((status.bytes_read, status.bytes_written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinseal_core::decode::NoHistory;

    fn frame(raw: &[u8], window_log: u32) -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        compressor
            .set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(false))
            .unwrap();
        compressor
            .set_parameter(zstd::zstd_safe::CParameter::WindowLog(window_log))
            .unwrap();
        compressor.compress(raw).unwrap()
    }

    fn decode(
        decoder: &mut ZstdDecoder,
        mut input: &[u8],
        bytes: usize,
    ) -> Result<Vec<u8>, DecodeFailed> {
        let (mut raw, mut output) = (Vec::new(), [0; 1000]);
        while raw.len() < bytes {
            let (taken, made) = decoder.decode(input, &mut output, &mut NoHistory)?;
            if taken == 0 && made == 0 {
                return Err(DecodeFailed);
            }
            input = &input[taken..];
            raw.extend_from_slice(&output[..made]);
        }
        Ok(raw)
    }

    #[test]
    fn starts_anew_for_every_range_after_success_and_failure() {
        let raw: Vec<u8> = (0..50_000u32).map(|byte| (byte / 5 % 249) as u8).collect();
        let good = frame(&raw, 16);
        let mut decoder = ZstdDecoder::new();
        assert_eq!(
            decode(&mut decoder, &good, raw.len()),
            Err(DecodeFailed),
            "not started"
        );
        for _ in 0..2 {
            decoder.start(16);
            assert_eq!(decode(&mut decoder, &good, raw.len()).unwrap(), raw);
            decoder.start(16);
            assert_eq!(decode(&mut decoder, &[0xff; 100], 1), Err(DecodeFailed));
            decoder.start(16);
            assert_eq!(
                decode(&mut decoder, &good[..good.len() / 2], raw.len()),
                Err(DecodeFailed)
            );
        }
    }

    #[test]
    fn a_larger_window_than_stated_is_refused() {
        // Longer than the window, or zstd would make the window smaller by itself.
        let raw: Vec<u8> = (0..1u32 << 20).map(|byte| (byte / 5 % 249) as u8).collect();
        let large = frame(&raw, 19);
        let mut decoder = ZstdDecoder::new();
        decoder.start(18);
        assert_eq!(decode(&mut decoder, &large, raw.len()), Err(DecodeFailed));
        decoder.start(19);
        assert_eq!(decode(&mut decoder, &large, raw.len()).unwrap(), raw);
    }
}
