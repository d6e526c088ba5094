//! The name of a blob: its fs-verity digest, with the algorithm as a field.
//!
//! # Invariants
//! - The length of the digest always fits its algorithm.

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a SHA-256 digest.
pub const SHA256_BYTES: usize = 32;

/// Bytes of a SHA-512 digest.
pub const SHA512_BYTES: usize = 64;

/// A plain SHA-256, of a stored range, an index block or an `info/…` entry.
pub type Sha256Digest = [u8; SHA256_BYTES];

/// Hash algorithm of an fs-verity digest. The numbers are those of the kernel (`FS_VERITY_HASH_ALG_*`): never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum DigestAlgorithm {
    /// SHA-256 over 4 KiB blocks.
    Sha256 = 1,
    /// SHA-512 over 4 KiB blocks. It has a place in the format; this version cannot check it and says so.
    Sha512 = 2,
}

impl DigestAlgorithm {
    /// The algorithm with this number on the wire.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Length of a digest in bytes.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => SHA256_BYTES,
            Self::Sha512 => SHA512_BYTES,
        }
    }
}

/// The fs-verity digest of a blob (4 KiB blocks, no salt): what `fsverity digest` prints and the kernel enforces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BlobDigest {
    algorithm: DigestAlgorithm,
    bytes: [u8; SHA512_BYTES],
}

impl BlobDigest {
    /// A SHA-256 fs-verity digest.
    pub fn sha256(digest: Sha256Digest) -> Self {
        let mut bytes = [0; SHA512_BYTES];
        bytes[..SHA256_BYTES].copy_from_slice(&digest);
        Self {
            algorithm: DigestAlgorithm::Sha256,
            bytes,
        }
    }

    /// Takes exactly as many bytes as the algorithm has; `None` otherwise.
    pub fn new(algorithm: DigestAlgorithm, digest: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHA512_BYTES];
        if digest.len() != algorithm.digest_bytes() {
            return None;
        }
        bytes.get_mut(..digest.len())?.copy_from_slice(digest);
        Some(Self { algorithm, bytes })
    }

    /// Reads a digest in lower- or upper-case hex, as it stands on a kernel command line; the length says the algorithm.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let algorithm = match text.len() {
            64 => DigestAlgorithm::Sha256,
            128 => DigestAlgorithm::Sha512,
            _ => return None,
        };
        let mut bytes = [0; SHA512_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = match pair {
                [high, low] => hex_value(*high)? << 4 | hex_value(*low)?,
                _ => return None,
            };
        }
        Some(Self { algorithm, bytes })
    }

    /// The hash algorithm.
    pub const fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The digest itself: 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self.algorithm {
            DigestAlgorithm::Sha256 => &self.bytes[..SHA256_BYTES],
            DigestAlgorithm::Sha512 => &self.bytes,
        }
    }

    /// The digest in lower-case hex, as file names and command lines have it.
    pub fn to_hex(&self) -> heapless::String<{ 2 * SHA512_BYTES }> {
        let mut text = heapless::String::new();
        for byte in self.as_bytes() {
            // The string has room for the longest digest. Not through `write!`: an install names every object of a set.
            let _ = text.push(hex_digit(byte >> 4));
            let _ = text.push(hex_digit(byte & 15));
        }
        text
    }
}

const fn hex_digit(value: u8) -> char {
    (match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }) as char
}

/// What is no hex digit.
const NO_VALUE: u8 = 0xff;

/// The value of each hex digit. A table, since an install reads the name of every object of a set.
static HEX_VALUES: [u8; 256] = {
    let mut values = [NO_VALUE; 256];
    let mut value = 0;
    while value < 16 {
        let digit = hex_digit(value) as u8;
        values[digit as usize] = value;
        values[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};

fn hex_value(digit: u8) -> Option<u8> {
    HEX_VALUES
        .get(usize::from(digit))
        .copied()
        .filter(|value| *value != NO_VALUE)
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for BlobDigest {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=[u8]:02x}", self.as_bytes());
    }
}

impl Serialize for BlobDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.algorithm as u8, self.as_bytes()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BlobDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (number, bytes) = <(u8, &'de [u8])>::deserialize(deserializer)?;
        DigestAlgorithm::from_number(number)
            .and_then(|algorithm| Self::new(algorithm, bytes))
            .ok_or_else(|| serde::de::Error::custom("not a digest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithm_numbers_are_the_kernels() {
        assert_eq!(DigestAlgorithm::Sha256 as u8, 1);
        assert_eq!(DigestAlgorithm::Sha512 as u8, 2);
    }

    #[test]
    fn hex_reads_back() {
        let digest = BlobDigest::sha256([0xa5; 32]);
        assert_eq!(
            BlobDigest::from_hex(digest.to_hex().as_bytes()),
            Some(digest)
        );
        assert_eq!(BlobDigest::from_hex(&[b'g'; 64]), None);
        assert_eq!(BlobDigest::from_hex(&[b'0'; 63]), None);
        assert_eq!(
            BlobDigest::from_hex(&[b'0'; 128]).map(|digest| digest.algorithm()),
            Some(DigestAlgorithm::Sha512)
        );
    }

    #[test]
    fn wire_form_is_algorithm_and_bytes() {
        let mut buffer = [0; 80];
        let digest = BlobDigest::sha256([7; 32]);
        let wire = postcard::to_slice(&digest, &mut buffer).unwrap();
        assert_eq!(wire.len(), 34);
        assert_eq!((wire[0], wire[1]), (1, 32));
        assert_eq!(postcard::from_bytes::<BlobDigest>(wire).unwrap(), digest);
        wire[0] = 2;
        assert!(
            postcard::from_bytes::<BlobDigest>(wire).is_err(),
            "a SHA-512 digest has 64 bytes"
        );
    }
}
