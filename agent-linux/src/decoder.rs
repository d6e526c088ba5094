//! zstd for core: one decompression context for the whole install, its window bounded by the manifest.
//!
//! # Invariants
//! - Core hands over only bytes that it has authenticated.
//! - A frame that asks for a larger window than the manifest stated is refused, so memory stays bounded: the window, its block
//!   and the context, about 1.3 MiB at most.

use twinseal_core::decode::{DecodeFailed, History, RangeDecoder};
use twinseal_core::wire::ZSTD_WINDOW_LOG_MAX;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// Smallest window that a zstd decoder can be limited to (`ZSTD_WINDOWLOG_ABSOLUTEMIN` of zstd.h).
const WINDOW_LOG_MIN: u8 = 10;

/// The decoder of [`twinseal_core::wire::index::Encoding::Zstd`].
pub struct Zstd {
    context: DCtx<'static>,
    /// Whether the context took the limit of the current range.
    ready: bool,
}

impl Zstd {
    /// A decoder that waits for its first range; `None` when there is no memory for it.
    pub fn new() -> Option<Self> {
        Some(Self {
            context: DCtx::try_create()?,
            ready: false,
        })
    }
}

impl RangeDecoder for Zstd {
    fn start(&mut self, window_log: u8) {
        let window_log = window_log.clamp(WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX);
        self.ready = self.context.reset(ResetDirective::SessionOnly).is_ok()
            && self
                .context
                .set_parameter(DParameter::WindowLogMax(u32::from(window_log)))
                .is_ok();
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        if !self.ready {
            return Err(DecodeFailed);
        }
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        self.context
            .decompress_stream(&mut to, &mut from)
            .map_err(|_| DecodeFailed)?;
        Ok((from.pos(), to.pos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinseal_core::decode::NoHistory;

    fn frame(raw: &[u8], window_log: u32) -> Vec<u8> {
        let mut context = zstd_safe::CCtx::create();
        context
            .set_parameter(zstd_safe::CParameter::WindowLog(window_log))
            .unwrap();
        context
            .set_parameter(zstd_safe::CParameter::ContentSizeFlag(false))
            .unwrap();
        let mut stored = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
        // Streaming, so that the frame states its window instead of its size.
        let mut to = OutBuffer::around(&mut stored);
        let mut from = InBuffer::around(raw);
        context.compress_stream(&mut to, &mut from).unwrap();
        while context.end_stream(&mut to).unwrap() > 0 {}
        stored
    }

    fn decode(
        decoder: &mut Zstd,
        mut stored: &[u8],
        raw_bytes: usize,
    ) -> Result<Vec<u8>, DecodeFailed> {
        let mut raw = Vec::new();
        let mut piece = [0; 3000];
        while raw.len() < raw_bytes {
            let (taken, made) = decoder.decode(stored, &mut piece, &mut NoHistory)?;
            stored = &stored[taken..];
            raw.extend_from_slice(&piece[..made]);
            if taken == 0 && made == 0 {
                return Err(DecodeFailed);
            }
        }
        Ok(raw)
    }

    fn content() -> Vec<u8> {
        (0..600_000u32)
            .map(|number| (number.wrapping_mul(2_654_435_761) >> 27) as u8)
            .collect()
    }

    #[test]
    fn decodes_one_range_after_another_and_recovers_from_a_bad_one() {
        let (raw, mut decoder) = (content(), Zstd::new().unwrap());
        let stored = frame(&raw, 16);
        for _ in 0..2 {
            decoder.start(16);
            assert_eq!(decode(&mut decoder, &stored, raw.len()).unwrap(), raw);
            decoder.start(16);
            assert_eq!(
                decode(&mut decoder, &stored[..stored.len() / 2], raw.len()),
                Err(DecodeFailed)
            );
        }
    }

    #[test]
    fn a_window_beyond_the_manifests_is_refused() {
        let (raw, mut decoder) = (content(), Zstd::new().unwrap());
        let stored = frame(&raw, 20);
        decoder.start(16);
        assert_eq!(decode(&mut decoder, &stored, raw.len()), Err(DecodeFailed));
        decoder.start(20);
        assert_eq!(decode(&mut decoder, &stored, raw.len()).unwrap(), raw);
        decoder.start(255);
        assert_eq!(
            decode(&mut decoder, &frame(&raw, 21), raw.len()),
            Err(DecodeFailed),
            "beyond the format's limit"
        );
    }
}
