//! zstd for core: one decompression context for the whole install, its window bounded by the manifest.
//!
//! # Invariants
//! - Core hands over only bytes that it has authenticated.
//! - A frame that asks for a larger window than the manifest stated is refused, so memory stays bounded: the window, its block
//!   and the context, about 1.3 MiB at most.
//! - A checksum of a frame is passed over: whoever decodes a range compares the SHA-256 of what comes out.

use twinseal_core::decode::{DecodeFailed, History, RangeDecoder};
use twinseal_core::wire::ZSTD_WINDOW_LOG_MAX;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// Smallest window that a zstd decoder can be limited to (`ZSTD_WINDOWLOG_ABSOLUTEMIN` of zstd.h).
const WINDOW_LOG_MIN: u8 = 10;

/// The decoder of [`twinseal_core::wire::index::Encoding::Zstd`].
pub struct Zstd {
    context: DCtx<'static>,
    stage: Stage,
}

/// How far the current range is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The context did not take the limits of the range, or the range failed.
    Failed,
    /// Nothing of it came.
    Begins,
    /// Some of it came.
    Runs,
    /// All of its frame came, and is made.
    Ended,
}

impl Zstd {
    /// A decoder that waits for its first range; `None` when there is no memory for it.
    pub fn new() -> Option<Self> {
        Some(Self {
            context: DCtx::try_create()?,
            stage: Stage::Failed,
        })
    }
}

impl RangeDecoder for Zstd {
    fn start(&mut self, window_log: u8) {
        let window_log = window_log.clamp(WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX);
        let limit = DParameter::WindowLogMax(window_log.into());
        let is_ready = self.context.reset(ResetDirective::SessionOnly).is_ok()
            && self.context.set_parameter(limit).is_ok()
            && self
                .context
                .set_parameter(DParameter::ForceIgnoreChecksum(true))
                .is_ok();
        self.stage = if is_ready {
            Stage::Begins
        } else {
            Stage::Failed
        };
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        // A frame that is there at once, with room for all of it, would be decoded without a look at its window and blocks.
        let input = match self.stage {
            Stage::Failed => return Err(DecodeFailed),
            Stage::Begins => input.get(..1).unwrap_or(input),
            Stage::Runs => input,
            Stage::Ended => return Ok((0, 0)),
        };
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        let left = self.context.decompress_stream(&mut to, &mut from);
        self.stage = match left {
            Ok(0) => Stage::Ended,
            Ok(_) => Stage::Runs,
            Err(_) => Stage::Failed,
        };
        left.map(|_| (from.pos(), to.pos()))
            .map_err(|_| DecodeFailed)
    }

    fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
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

    fn decode(decoder: &mut Zstd, mut stored: &[u8]) -> Result<Vec<u8>, DecodeFailed> {
        let mut raw = Vec::new();
        let mut piece = [0; 3000];
        while !decoder.has_ended() {
            let (taken, made) = decoder.decode(stored, &mut piece, &mut NoHistory)?;
            stored = &stored[taken..];
            raw.extend_from_slice(&piece[..made]);
            if taken == 0 && made == 0 {
                return Err(DecodeFailed);
            }
        }
        stored.is_empty().then_some(raw).ok_or(DecodeFailed)
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
            assert_eq!(decode(&mut decoder, &stored).unwrap(), raw);
            decoder.start(16);
            assert_eq!(
                decode(&mut decoder, &stored[..stored.len() / 2]),
                Err(DecodeFailed)
            );
        }
    }

    #[test]
    fn a_window_beyond_the_manifests_is_refused() {
        let (raw, mut decoder) = (content(), Zstd::new().unwrap());
        let stored = frame(&raw, 20);
        decoder.start(16);
        assert_eq!(decode(&mut decoder, &stored), Err(DecodeFailed));
        decoder.start(20);
        assert_eq!(decode(&mut decoder, &stored).unwrap(), raw);
        decoder.start(255);
        assert_eq!(
            decode(&mut decoder, &frame(&raw, 21)),
            Err(DecodeFailed),
            "beyond the format's limit"
        );
    }

    /// What zstd itself would not look at where the frame is there at once and there is room for all of it.
    #[test]
    fn a_frame_that_is_there_at_once_is_looked_at_as_any_other() {
        let mut decoder = Zstd::new().unwrap();
        let mut verdict = |stored: &[u8], window_log| {
            decoder.start(window_log);
            decode(&mut decoder, stored)
        };
        // Header with its content size of four bytes, the window in its second byte; one block that is stored as it is.
        let of = |window: u8, raw: &[u8]| {
            let size = (raw.len() as u32).to_le_bytes();
            let block = ((raw.len() as u32) << 3 | 1).to_le_bytes();
            let header = [0x28, 0xb5, 0x2f, 0xfd, 0b1000_0000, window];
            [&header[..], &size, &block[..3], raw].concat()
        };
        let raw = vec![7; 2000];
        assert_eq!(verdict(&of(0b0_1000, &raw), 11).unwrap(), raw);
        assert_eq!(
            verdict(&of(0b1_0000, &raw), 11),
            Err(DecodeFailed),
            "window"
        );
        assert_eq!(verdict(&of(0, &raw), 11), Err(DecodeFailed), "block");
        let mut not_the_last = of(0b0_1000, &raw);
        not_the_last[10] &= !1;
        assert_eq!(verdict(&not_the_last, 11), Err(DecodeFailed));
        let last = [&not_the_last[..], &[1, 0, 0]].concat();
        assert_eq!(verdict(&last, 11).unwrap(), raw);
        for behind in [&[0][..], &last, &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]] {
            assert_eq!(verdict(&[&last, behind].concat(), 11), Err(DecodeFailed));
        }
    }

    #[test]
    fn a_checksum_is_passed_over() {
        let (raw, mut decoder) = (content(), Zstd::new().unwrap());
        let mut context = zstd_safe::CCtx::create();
        let checksum = zstd_safe::CParameter::ChecksumFlag(true);
        context.set_parameter(checksum).unwrap();
        let mut stored = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
        context.compress2(&mut stored, &raw).unwrap();
        *stored.last_mut().unwrap() ^= 1;
        decoder.start(20);
        assert_eq!(decode(&mut decoder, &stored).unwrap(), raw);
        decoder.start(20);
        stored.pop();
        assert_eq!(decode(&mut decoder, &stored), Err(DecodeFailed));
    }
}
