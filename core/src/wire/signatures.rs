//! The `signatures` entry: who signed the manifest.
//!
//! ```text
//! SHA-256 of what follows (32 bytes) | postcard: count, then (key id, algorithm, signature) for each
//! ```
//!
//! The leading digest is no protection against an attacker; it makes a damaged signature of a key that this device does not
//! know visible as damage, so that no byte of a bundle is without meaning.
//!
//! # Invariants
//! - Walking the entry borrows from it: nothing is copied, and the number of signatures has a named limit.

use crate::error::{BundleInvalid, Part};
use crate::wire::digest::SHA256_BYTES;
use crate::wire::{SIGNATURES_MAX_BYTES, SIGNATURES_MAX_COUNT};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is signed, before the manifest's bytes: keeps a signature over a manifest from meaning anything else.
pub const SIGNED_CONTEXT: &[u8] = b"twinseal bundle manifest v1\n";

/// Bytes of a key id: the start of the SHA-256 of the algorithm number and the public key.
pub const KEY_ID_BYTES: usize = 8;

/// Short name of a public key. It only finds the key to try; the signature alone proves anything.
pub type KeyId = [u8; KEY_ID_BYTES];

/// Ed25519 (RFC 8032). Other numbers are free for hybrids; a signature with an unknown number is passed over.
pub const ALGORITHM_ED25519: u8 = 1;

/// One signature over [`SIGNED_CONTEXT`] and the manifest's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature<'a> {
    /// Which key made it.
    pub key: KeyId,
    /// [`ALGORITHM_ED25519`], or a number that this version does not know.
    pub algorithm: u8,
    /// The signature itself.
    pub bytes: &'a [u8],
}

/// The key id of a public key.
pub fn key_id(algorithm: u8, public_key: &[u8]) -> KeyId {
    let digest = Sha256::new()
        .chain_update([algorithm])
        .chain_update(public_key)
        .finalize();
    let mut id = KeyId::default();
    id.iter_mut()
        .zip(digest.iter())
        .for_each(|(to, from)| *to = *from);
    id
}

/// Reads the entry.
///
/// # Errors
/// [`BundleInvalid`] when it is damaged, too large, has too many signatures or bytes left over.
pub fn parse(
    entry: &[u8],
) -> Result<heapless::Vec<Signature<'_>, SIGNATURES_MAX_COUNT>, BundleInvalid> {
    let unreadable = BundleInvalid::Unreadable {
        part: Part::Signatures,
    };
    if entry.len() > SIGNATURES_MAX_BYTES {
        return Err(BundleInvalid::TooLarge {
            part: Part::Signatures,
        });
    }
    let (digest, list) = entry.split_at_checked(SHA256_BYTES).ok_or(unreadable)?;
    if Sha256::digest(list).as_slice() != digest {
        return Err(BundleInvalid::Damaged {
            part: Part::Signatures,
        });
    }
    let (signatures, rest) = postcard::take_from_bytes(list).map_err(|_| unreadable)?;
    if rest.is_empty() {
        Ok(signatures)
    } else {
        Err(unreadable)
    }
}

/// Writes the entry into `buffer` and gives the bytes used.
///
/// # Errors
/// [`BundleInvalid::TooLarge`] when there are too many signatures or `buffer` is too small.
pub fn emit<'b>(
    signatures: &[Signature<'_>],
    buffer: &'b mut [u8],
) -> Result<&'b [u8], BundleInvalid> {
    let too_large = BundleInvalid::TooLarge {
        part: Part::Signatures,
    };
    if signatures.len() > SIGNATURES_MAX_COUNT {
        return Err(too_large);
    }
    let (digest, list) = buffer.split_at_mut_checked(SHA256_BYTES).ok_or(too_large)?;
    let list = postcard::to_slice(signatures, list).map_err(|_| too_large)?;
    digest.copy_from_slice(&Sha256::digest(&*list));
    let length = SHA256_BYTES + list.len();
    buffer.get(..length).ok_or(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> [Signature<'static>; 2] {
        [
            Signature {
                key: [1; 8],
                algorithm: ALGORITHM_ED25519,
                bytes: &[3; 64],
            },
            Signature {
                key: [2; 8],
                algorithm: 9,
                bytes: &[4; 4691],
            },
        ]
    }

    #[test]
    fn reads_what_it_writes() {
        let mut buffer = [0xa5; SIGNATURES_MAX_BYTES];
        let entry = emit(&two(), &mut buffer).unwrap();
        assert_eq!(parse(entry).unwrap().as_slice(), &two());
    }

    #[test]
    fn every_flip_and_every_truncation_is_refused() {
        let mut buffer = [0xa5; SIGNATURES_MAX_BYTES];
        let length = emit(&two(), &mut buffer).unwrap().len();
        for position in 0..length {
            let mut bad = buffer;
            bad[position] ^= 1;
            assert!(parse(&bad[..length]).is_err(), "byte {position}");
            assert!(parse(&buffer[..position]).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let mut buffer = [0; SIGNATURES_MAX_BYTES];
        let many = [two()[0]; SIGNATURES_MAX_COUNT + 1];
        assert_eq!(
            emit(&many, &mut buffer),
            Err(BundleInvalid::TooLarge {
                part: Part::Signatures
            })
        );
        // A hand-made list with one too many.
        let list: &[Signature<'_>] = &many;
        let used = postcard::to_slice(list, &mut buffer[32..]).unwrap().len();
        let digest = Sha256::digest(&buffer[32..32 + used]);
        buffer[..32].copy_from_slice(&digest);
        assert_eq!(
            parse(&buffer[..32 + used]),
            Err(BundleInvalid::Unreadable {
                part: Part::Signatures
            })
        );
    }
}
