//! One piece of a blob in, one stored range out: compressed, or as it is when that saves too little.
//!
//! # Invariants
//! - The same piece with the same options gives the same bytes, on any machine and with any number of threads: every range is
//!   a frame of its own and the encoders are pinned by `Cargo.lock`.
//! - What a range needs to be read (its zstd window) is taken from the bytes that were made, not from what was asked for.

use super::pieces::is_zero;
use sha2::{Digest, Sha256};
use std::io;
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::index::Encoding;
use twinseal_core::wire::{RANGE_MAX_BYTES, ZSTD_WINDOW_LOG_MAX};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Smallest `range-bytes`: one page of fs-verity.
pub const RANGE_MIN_BYTES: u32 = 4096;

/// `range-bytes` when none is given: the largest, because small ranges compress worse.
pub const RANGE_DEFAULT_BYTES: u32 = RANGE_MAX_BYTES;

/// A range is stored compressed when that saves at least one part in so many; decoding costs a device time.
const SAVING_MIN_PART: usize = 64;

/// Smallest window of zstd (`ZSTD_WINDOWLOG_MIN`, RFC 8878 section 3.1.1.1.2), as a power of two.
const ZSTD_WINDOW_LOG_MIN: u8 = 10;

/// How ranges are compressed.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Deserialize,
    serde::Serialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// zstd, for devices that have a decoder for it. Smallest.
    #[default]
    Zstd,
    /// DEFLATE, which every device can read, the smallest included.
    Deflate,
    /// As they are, for images that are compressed already and devices that have no time.
    None,
}

impl Compression {
    /// The levels that its encoder has, lowest and highest.
    pub const fn levels(self) -> (i32, i32) {
        match self {
            Self::Zstd => (1, 22),
            Self::Deflate => (1, 10),
            Self::None => (0, 0),
        }
    }

    /// The level when none is given: the last one before the time grows much faster than the saving.
    pub const fn default_level(self) -> i32 {
        match self {
            Self::Zstd => 15,
            Self::Deflate => 9,
            Self::None => 0,
        }
    }
}

/// How a bundle's blobs are cut and compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingOptions {
    /// With what.
    pub compression: Compression,
    /// How hard; one of [`Compression::levels`].
    pub level: i32,
    /// Bytes of a blob that become one range, [`RANGE_MIN_BYTES`] to [`RANGE_MAX_BYTES`]; the last range of a blob is shorter, and
    /// one of zeros alone may be longer.
    pub range_bytes: u32,
}

impl EncodingOptions {
    /// Most zeros that become one range: nothing of them is kept by a device when they are compressed, and a sparse image has
    /// few records then.
    pub const fn zeros_bytes(&self) -> u32 {
        match self.compression {
            Compression::Zstd | Compression::Deflate => RANGE_MAX_BYTES,
            Compression::None => self.range_bytes,
        }
    }
}

impl Default for EncodingOptions {
    fn default() -> Self {
        let compression = Compression::default();
        Self {
            compression,
            level: compression.default_level(),
            range_bytes: RANGE_DEFAULT_BYTES,
        }
    }
}

/// A range as it will be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// How it is stored.
    pub encoding: Encoding,
    /// The window that a zstd decoder needs, as a power of two; 0 for the other encodings.
    pub window_log: u8,
    /// Bytes of the blob that it stands for.
    pub raw_bytes: u32,
    /// The stored bytes.
    pub stored: Vec<u8>,
    /// SHA-256 of the bytes that it stands for.
    pub raw_sha256: Sha256Digest,
    /// SHA-256 of the stored bytes.
    pub stored_sha256: Sha256Digest,
}

/// An encoder; every thread has its own.
pub struct Encoder {
    options: EncodingOptions,
    zstd: Option<Compressor<'static>>,
    /// The last range of zeros: sparse images are full of them.
    zeros: Option<Encoded>,
}

impl Encoder {
    /// An encoder with these options.
    ///
    /// # Errors
    /// When zstd refuses the level.
    pub fn new(options: EncodingOptions) -> io::Result<Self> {
        let zstd = match options.compression {
            Compression::Zstd => Some(zstd_compressor(options.level)?),
            Compression::Deflate | Compression::None => None,
        };
        Ok(Self {
            options,
            zstd,
            zeros: None,
        })
    }

    /// Encodes one piece, which is not empty and not longer than [`EncodingOptions::range_bytes`], or than
    /// [`EncodingOptions::zeros_bytes`] when it has nothing but zeros.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn encode(&mut self, raw: Vec<u8>) -> io::Result<Encoded> {
        let zeros = is_zero(&raw);
        if let Some(known) = self
            .zeros
            .as_ref()
            .filter(|known| zeros && known.raw_bytes as usize == raw.len())
        {
            return Ok(known.clone());
        }
        let encoded = self.encode_anew(raw)?;
        if zeros {
            self.zeros = Some(encoded.clone());
        }
        Ok(encoded)
    }

    fn encode_anew(&mut self, raw: Vec<u8>) -> io::Result<Encoded> {
        let raw_bytes = raw.len() as u32;
        let window_bytes = raw.len().min(self.options.range_bytes as usize);
        let raw_sha256 = Sha256::digest(&raw).into();
        let (encoding, stored) = match (self.options.compression, &mut self.zstd) {
            (Compression::Zstd, Some(compressor)) => (
                Encoding::Zstd,
                compress_zstd(compressor, &raw, window_bytes)?,
            ),
            (Compression::Deflate, _) => (
                Encoding::Deflate,
                miniz_oxide::deflate::compress_to_vec(&raw, self.options.level as u8),
            ),
            (Compression::None, _) | (Compression::Zstd, None) => (Encoding::Stored, raw.clone()),
        };
        if encoding == Encoding::Stored
            || stored.len() > raw.len() - raw.len().div_ceil(SAVING_MIN_PART)
        {
            let stored_sha256 = raw_sha256;
            return Ok(Encoded {
                encoding: Encoding::Stored,
                window_log: 0,
                raw_bytes,
                stored: raw,
                raw_sha256,
                stored_sha256,
            });
        }
        let window_log = if encoding == Encoding::Zstd {
            frame_window_log(&stored)?
        } else {
            0
        };
        let stored_sha256 = Sha256::digest(&stored).into();
        Ok(Encoded {
            encoding,
            window_log,
            raw_bytes,
            stored,
            raw_sha256,
            stored_sha256,
        })
    }
}

/// A frame says nothing that the index says already: no size, no checksum, no dictionary.
pub(crate) fn zstd_compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    for parameter in [
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ] {
        compressor.set_parameter(parameter)?;
    }
    Ok(compressor)
}

/// One frame with the smallest window that sees so many bytes.
pub(crate) fn compress_zstd(
    compressor: &mut Compressor<'static>,
    raw: &[u8],
    window_bytes: usize,
) -> io::Result<Vec<u8>> {
    let log = window_bytes.next_power_of_two().trailing_zeros();
    let log = log.clamp(
        u32::from(ZSTD_WINDOW_LOG_MIN),
        u32::from(ZSTD_WINDOW_LOG_MAX),
    );
    compressor.set_parameter(CParameter::WindowLog(log))?;
    compressor.compress(raw)
}

/// The window that a frame asks for, as a power of two: from its window descriptor (RFC 8878, section 3.1.1.1.2).
pub(crate) fn frame_window_log(frame: &[u8]) -> io::Result<u8> {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let (Some(flags), Some(window)) = (frame.get(4), frame.get(5)) else {
        return Err(io::Error::other("zstd made a frame without a header"));
    };
    if flags & SINGLE_SEGMENT != 0 {
        return Err(io::Error::other("zstd made a frame without a window"));
    }
    let fraction = u8::from(window & 7 != 0);
    Ok(ZSTD_WINDOW_LOG_MIN + (window >> 3) + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(compression: Compression, raw: &[u8]) -> Encoded {
        let options = EncodingOptions {
            compression,
            level: compression.default_level(),
            range_bytes: RANGE_MAX_BYTES,
        };
        Encoder::new(options).unwrap().encode(raw.to_vec()).unwrap()
    }

    /// Bytes that no encoder can shorten.
    fn noise(length: usize) -> Vec<u8> {
        let blocks =
            (0u64..).flat_map(|number| <[u8; 32]>::from(Sha256::digest(number.to_le_bytes())));
        blocks.take(length).collect()
    }

    #[test]
    fn what_saves_too_little_is_stored() {
        for compression in [Compression::Zstd, Compression::Deflate] {
            let encoded = encode(compression, &noise(10_000));
            assert_eq!(
                (encoded.encoding, encoded.stored.len(), encoded.window_log),
                (Encoding::Stored, 10_000, 0)
            );
            assert_eq!(encoded.raw_sha256, encoded.stored_sha256);
            // One part in 100 can be saved: not worth it. One in 10: worth it.
            let mut hardly = noise(9_900);
            hardly.resize(10_000, 0);
            assert_eq!(encode(compression, &hardly).encoding, Encoding::Stored);
            hardly.truncate(9_000);
            hardly.resize(10_000, 0);
            assert_ne!(encode(compression, &hardly).encoding, Encoding::Stored);
        }
        assert_eq!(encode(Compression::None, &[0; 100]).stored, [0; 100]);
        assert_eq!(encode(Compression::Zstd, &[7]).stored, [7]);
    }

    #[test]
    fn windows_are_as_small_as_the_piece_and_within_the_limit() {
        for (length, expected) in [
            (1 << 20, 20),
            ((1 << 19) + 1, 20),
            (1 << 19, 19),
            (5000, 13),
            (1000, 10),
            (200, 10),
        ] {
            let raw: Vec<u8> = (0..length).map(|byte| (byte / 7 % 251) as u8).collect();
            let encoded = encode(Compression::Zstd, &raw);
            assert_eq!(
                (encoded.encoding, encoded.window_log),
                (Encoding::Zstd, expected),
                "{length} bytes"
            );
            assert!(encoded.window_log <= ZSTD_WINDOW_LOG_MAX);
        }
    }

    #[test]
    fn frames_carry_no_size_no_checksum_and_no_dictionary() {
        let encoded = encode(Compression::Zstd, &[b'a'; 5000]);
        assert_eq!(encoded.stored[4], 0, "frame header descriptor");
    }

    #[test]
    fn a_long_range_of_zeros_needs_no_more_than_a_short_one() {
        for compression in [Compression::Zstd, Compression::Deflate] {
            let options = EncodingOptions {
                compression,
                level: compression.default_level(),
                range_bytes: 65_536,
            };
            let zeros = vec![0; options.zeros_bytes() as usize];
            let encoded = Encoder::new(options).unwrap().encode(zeros).unwrap();
            assert!(encoded.stored.len() < 2000, "{}", encoded.stored.len());
            assert!(encoded.window_log <= 16, "{}", encoded.window_log);
            assert_eq!(encoded.raw_bytes, RANGE_MAX_BYTES);
        }
    }

    #[test]
    fn zeros_that_were_seen_before_are_not_encoded_again() {
        let mut encoder = Encoder::new(EncodingOptions::default()).unwrap();
        let first = encoder.encode(vec![0; 8192]).unwrap();
        assert_eq!(encoder.encode(vec![0; 8192]).unwrap(), first);
        assert_eq!(encoder.encode(vec![0; 4096]).unwrap().raw_bytes, 4096);
        assert_eq!(encoder.encode(vec![1; 8192]).unwrap().raw_bytes, 8192);
    }
}
