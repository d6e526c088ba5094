//! The zstd decoder that the build host gives to core.

use twinseal_core::decode::{DecodeFailed, History, NoHistory, RangeDecoder};
use twinseal_core::wire::ZSTD_WINDOW_LOG_MAX;
use zstd::stream::raw::{Decoder, Operation};
use zstd::zstd_safe::DParameter;

/// Smallest window that zstd can be told as a limit (`ZSTD_WINDOWLOG_ABSOLUTEMIN`), as a power of two.
const WINDOW_LOG_MIN: u8 = 10;

/// A decoder for [`Encoding::Zstd`](twinseal_core::wire::index::Encoding::Zstd): one frame for each range, and no larger window
/// than the manifest states. A checksum of the frame is passed over, as devices do.
pub struct ZstdDecoder {
    /// None before the first range, and after a failure.
    decoder: Option<Decoder<'static>>,
    /// Bytes of the range that were taken, and whether its frame was whole with them.
    taken: usize,
    has_ended: bool,
}

impl ZstdDecoder {
    /// A decoder that waits for its first range.
    pub const fn new() -> Self {
        Self {
            decoder: None,
            taken: 0,
            has_ended: false,
        }
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
        let ready = self
            .decoder
            .take()
            .map_or_else(Decoder::new, |mut decoder| {
                decoder.reinit().map(|()| decoder)
            });
        let limited = ready.and_then(|mut decoder| {
            decoder.set_parameter(DParameter::WindowLogMax(limit))?;
            decoder.set_parameter(DParameter::ForceIgnoreChecksum(true))?;
            Ok(decoder)
        });
        self.decoder = limited.ok();
        (self.taken, self.has_ended) = (0, false);
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        if self.has_ended {
            return Ok((0, 0));
        }
        // A frame that is there at once, with room for all of it, would be decoded without a look at its window and blocks.
        let most = if self.taken == 0 { 1 } else { input.len() };
        let input = input.get(..most).unwrap_or(input);
        let mut decoder = self.decoder.take().ok_or(DecodeFailed)?;
        let status = decoder
            .run_on_buffers(input, output)
            .map_err(|_| DecodeFailed)?;
        self.decoder = Some(decoder);
        self.taken += status.bytes_read;
        self.has_ended = status.remaining == 0;
        Ok((status.bytes_read, status.bytes_written))
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// Decodes a whole stream, for which `decoder` was started, through `room`; gives what it makes to `take`, piece by piece.
///
/// # Errors
/// `wrong()` when it cannot be decoded, does not end, or ends before its last byte; and what `take` gives.
pub fn decode_stream<E>(
    decoder: &mut dyn RangeDecoder,
    mut stored: &[u8],
    room: &mut [u8],
    wrong: impl Fn() -> E,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    while !decoder.has_ended() {
        let (taken, made) = decoder
            .decode(stored, room, &mut NoHistory)
            .map_err(|DecodeFailed| wrong())?;
        if taken == 0 && made == 0 && !decoder.has_ended() {
            return Err(wrong());
        }
        stored = stored.get(taken..).ok_or_else(&wrong)?;
        take(room.get(..made).ok_or_else(&wrong)?)?;
    }
    if stored.is_empty() {
        Ok(())
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn decode(decoder: &mut ZstdDecoder, stored: &[u8]) -> Result<Vec<u8>, DecodeFailed> {
        let mut raw = Vec::new();
        decode_stream(
            decoder,
            stored,
            &mut [0; 1000],
            || DecodeFailed,
            |made| {
                raw.extend_from_slice(made);
                Ok(())
            },
        )?;
        Ok(raw)
    }

    #[test]
    fn starts_anew_for_every_range_after_success_and_failure() {
        let raw: Vec<u8> = (0..50_000u32).map(|byte| (byte / 5 % 249) as u8).collect();
        let good = frame(&raw, 16);
        let mut decoder = ZstdDecoder::new();
        assert_eq!(
            decode(&mut decoder, &good),
            Err(DecodeFailed),
            "not started"
        );
        for _ in 0..2 {
            decoder.start(16);
            assert_eq!(decode(&mut decoder, &good).unwrap(), raw);
            decoder.start(16);
            assert_eq!(decode(&mut decoder, &[0xff; 100]), Err(DecodeFailed));
            decoder.start(16);
            let behind = [&good[..], &good].concat();
            assert_eq!(decode(&mut decoder, &behind), Err(DecodeFailed));
            decoder.start(16);
            assert_eq!(
                decode(&mut decoder, &good[..good.len() / 2]),
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
        assert_eq!(decode(&mut decoder, &large), Err(DecodeFailed));
        decoder.start(19);
        assert_eq!(decode(&mut decoder, &large).unwrap(), raw);
    }
}
