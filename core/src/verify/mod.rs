//! Bytes in, [`Verified<Manifest>`] out: the only way to get one.
//!
//! The order of checks, cheapest and least trusting first:
//! 1. sizes against named limits (nothing is parsed);
//! 2. signatures over the raw bytes of the manifest, by keys that the caller trusts;
//! 3. only then the manifest is parsed, and its fields checked against each other;
//! 4. the device's policy: compatible, validity window, anti-rollback floor.
//!
//! # Invariants
//! - No byte of a manifest is parsed before a trusted key has signed all of them.

pub mod digest;
pub mod hashed;
pub mod policy;
pub mod seal;
pub mod signature;

use crate::error::Error;
use crate::wire::digest::Sha256Digest;
use crate::wire::manifest::Manifest;
use policy::Policy;
use sha2::{Digest, Sha256};
use signature::{Signers, TrustedKey};

/// A value that has been proved to come from a trusted signer and to be allowed on this device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Verified<T> {
    value: T,
    signers: Signers,
    manifest_sha256: Sha256Digest,
}

impl<T> Verified<T> {
    /// The value.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// The keys whose signatures were checked and right.
    pub const fn signers(&self) -> &Signers {
        &self.signers
    }

    /// SHA-256 of the signed bytes: the name of this bundle in the journal.
    pub const fn manifest_sha256(&self) -> &Sha256Digest {
        &self.manifest_sha256
    }
}

/// Proves a manifest: `manifest` and `signatures` are the contents of these entries, as they came.
///
/// # Errors
/// The first check that fails, in the order of the module's text.
pub fn verify_manifest(
    manifest: &[u8],
    signatures: &[u8],
    keys: &[TrustedKey],
    policy: &Policy<'_>,
) -> Result<Verified<Manifest>, Error> {
    let signers = signature::verify_signatures(manifest, signatures, keys)?;
    let value = Manifest::parse(manifest)?;
    policy.check(&value)?;
    Ok(Verified {
        value,
        signers,
        manifest_sha256: Sha256::digest(manifest).into(),
    })
}
