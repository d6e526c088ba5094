//! Signatures over the manifest's raw bytes: Ed25519, several carried, one by a trusted key needed.
//!
//! # Invariants
//! - A wrong signature by a known key refuses the bundle even when another one is right: it is damage or forgery.
//! - Signatures by unknown keys or of unknown algorithms are passed over, so that keys can be rotated and hybrids added.

use crate::error::{BundleInvalid, Error, PolicyRefused};
use crate::wire::SIGNATURES_MAX_COUNT;
use crate::wire::signatures::{ALGORITHM_ED25519, KeyId, SIGNED_CONTEXT, key_id, parse};
use ed25519_compact::{PublicKey, Signature as Ed25519Signature};

/// Signatures by trusted keys that a bundle needs.
pub const THRESHOLD: usize = 1;

/// The keys that signed.
pub type Signers = heapless::Vec<KeyId, SIGNATURES_MAX_COUNT>;

/// A public key that this device trusts for releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    id: KeyId,
    public_key: [u8; 32],
}

impl TrustedKey {
    /// An Ed25519 public key (32 bytes, RFC 8032).
    pub fn ed25519(public_key: [u8; 32]) -> Self {
        Self {
            id: key_id(ALGORITHM_ED25519, &public_key),
            public_key,
        }
    }

    /// Its short name.
    pub const fn id(&self) -> KeyId {
        self.id
    }
}

/// Checks the `signatures` entry against the raw bytes of the manifest and gives the trusted keys that signed.
///
/// # Errors
/// [`BundleInvalid`] when the entry is damaged or a trusted key's signature is wrong; [`PolicyRefused::UnknownSigner`] when no
/// signature is by a trusted key.
pub fn verify_signatures(
    manifest: &[u8],
    entry: &[u8],
    keys: &[TrustedKey],
) -> Result<Signers, Error> {
    let mut signers = Signers::new();
    for signature in &parse(entry)? {
        let key = keys.iter().find(|key| key.id == signature.key);
        let (Some(key), ALGORITHM_ED25519) = (key, signature.algorithm) else {
            continue;
        };
        let wrong = BundleInvalid::SignatureWrong { key: key.id };
        let public_key = PublicKey::new(key.public_key);
        let mut state = Ed25519Signature::from_slice(signature.bytes)
            .and_then(|bytes| public_key.verify_incremental(&bytes))
            .map_err(|_| wrong)?;
        state.absorb(SIGNED_CONTEXT);
        state.absorb(manifest);
        state.verify().map_err(|_| wrong)?;
        if !signers.contains(&key.id) {
            // As many places as the entry may have signatures.
            let _ = signers.push(key.id);
        }
    }
    if signers.len() >= THRESHOLD {
        Ok(signers)
    } else {
        Err(PolicyRefused::UnknownSigner.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SIGNATURES_MAX_BYTES;
    use crate::wire::signatures::{Signature, emit};
    use ed25519_compact::{KeyPair, Seed};

    fn pair(number: u8) -> (KeyPair, TrustedKey) {
        let pair = KeyPair::from_seed(Seed::new([number; 32]));
        let key = TrustedKey::ed25519(*pair.pk);
        (pair, key)
    }

    fn sign(pair: &KeyPair, manifest: &[u8]) -> [u8; 64] {
        let mut state = pair
            .sk
            .sign_incremental(ed25519_compact::Noise::new([0; 16]));
        state.absorb(SIGNED_CONTEXT);
        state.absorb(manifest);
        *state.sign()
    }

    fn check(list: &[Signature<'_>], keys: &[TrustedKey]) -> Result<Signers, Error> {
        let mut buffer = [0; SIGNATURES_MAX_BYTES];
        verify_signatures(b"manifest", emit(list, &mut buffer).unwrap(), keys)
    }

    #[test]
    fn one_trusted_signature_is_enough_and_all_trusted_ones_must_be_right() {
        let ((first, first_key), (second, second_key)) = (pair(1), pair(2));
        let (good, also_good) = (sign(&first, b"manifest"), sign(&second, b"manifest"));
        let forged = sign(&second, b"other");
        let entry = |key: TrustedKey, bytes| Signature {
            key: key.id(),
            algorithm: ALGORITHM_ED25519,
            bytes,
        };
        let both = [first_key, second_key];

        let signers = check(
            &[entry(first_key, &good), entry(second_key, &also_good)],
            &both,
        )
        .unwrap();
        assert_eq!(signers.as_slice(), &[first_key.id(), second_key.id()]);
        let signers = check(
            &[entry(first_key, &good), entry(second_key, &forged)],
            &[first_key],
        )
        .unwrap();
        assert_eq!(
            signers.as_slice(),
            &[first_key.id()],
            "an unknown key's signature is passed over"
        );

        let wrong = Error::from(BundleInvalid::SignatureWrong {
            key: second_key.id(),
        });
        assert_eq!(
            check(
                &[entry(first_key, &good), entry(second_key, &forged)],
                &both
            ),
            Err(wrong)
        );
        assert_eq!(
            check(&[entry(second_key, &also_good[..63])], &both),
            Err(wrong)
        );
    }

    #[test]
    fn nobody_we_know_is_refused() {
        let ((first, first_key), (_, second_key)) = (pair(1), pair(2));
        let good = sign(&first, b"manifest");
        let unknown = Err(Error::from(PolicyRefused::UnknownSigner));
        let entry = Signature {
            key: first_key.id(),
            algorithm: ALGORITHM_ED25519,
            bytes: &good,
        };
        assert_eq!(check(&[], &[first_key]), unknown);
        assert_eq!(check(&[entry], &[second_key]), unknown);
        assert_eq!(
            check(
                &[Signature {
                    algorithm: 2,
                    ..entry
                }],
                &[first_key]
            ),
            unknown
        );
    }

    #[test]
    fn the_context_keeps_signatures_apart() {
        let (first, key) = pair(1);
        let bare = *first.sk.sign(b"manifest", None);
        let entry = Signature {
            key: key.id(),
            algorithm: ALGORITHM_ED25519,
            bytes: &bare,
        };
        assert_eq!(
            check(&[entry], &[key]),
            Err(BundleInvalid::SignatureWrong { key: key.id() }.into())
        );
    }
}
