//! Signatures of a bundle: made with the key at hand, or made elsewhere and attached.
//!
//! What is signed is the 28 bytes of [`SIGNED_CONTEXT`] and then the manifest's bytes, as plain Ed25519 (not pre-hashed).
//!
//! # Invariants
//! - Only `signatures` changes; every other byte of the bundle stays as it is.
//! - A signature is checked before it goes into a bundle.
//! - The bundle is replaced in one step: a signing that fails leaves the old file.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use twinseal_core::wire::signatures::{ALGORITHM_ED25519, KeyId, SIGNED_CONTEXT, Signature, emit};
use twinseal_core::wire::tar::padding_bytes;
use twinseal_core::wire::{SIGNATURES_MAX_BYTES, SIGNATURES_MAX_COUNT};

use crate::assemble::{write_entry, write_new};
use crate::error::{Error, FileOperation};
use crate::keys::{PublicKey, SigningKey};
use crate::read::Bundle;

/// A signature that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedSignature {
    /// Which key made it.
    pub key: KeyId,
    /// The algorithm's number.
    pub algorithm: u8,
    /// The signature itself.
    pub bytes: Vec<u8>,
}

/// The bytes that a signature covers.
pub fn signed_bytes(manifest: &[u8]) -> Vec<u8> {
    [SIGNED_CONTEXT, manifest].concat()
}

/// Signs the bytes of a manifest.
pub fn sign_manifest(key: &SigningKey, manifest: &[u8]) -> OwnedSignature {
    let bytes = key.sign(&signed_bytes(manifest)).to_vec();
    OwnedSignature {
        key: key.public().id(),
        algorithm: ALGORITHM_ED25519,
        bytes,
    }
}

/// The content of a `signatures` entry.
///
/// # Errors
/// [`Error::Bundle`] when there are more signatures than an entry takes.
pub fn signatures_entry(signatures: &[OwnedSignature]) -> Result<Vec<u8>, Error> {
    let borrowed = signatures.iter().map(|signature| Signature {
        key: signature.key,
        algorithm: signature.algorithm,
        bytes: &signature.bytes,
    });
    // One more than the limit is enough for `emit` to see that there are too many.
    let list: Vec<Signature<'_>> = borrowed.take(SIGNATURES_MAX_COUNT + 1).collect();
    let mut buffer = vec![0; SIGNATURES_MAX_BYTES];
    let entry = emit(&list, &mut buffer).map_err(twinseal_core::Error::from)?;
    Ok(entry.to_vec())
}

/// Signs the bundle at `path` with `keys`, in place. A signature by the same key is replaced, others stay.
///
/// # Errors
/// When the bundle is invalid, or cannot be read or written.
pub fn sign_bundle(path: &Path, keys: &[SigningKey]) -> Result<(), Error> {
    let bundle = Bundle::open(path)?;
    let new: Vec<_> = keys
        .iter()
        .map(|key| sign_manifest(key, bundle.manifest_entry()))
        .collect();
    for (key, signature) in keys.iter().zip(&new) {
        key.public()
            .verify(&signed_bytes(bundle.manifest_entry()), &signature.bytes)?;
    }
    replace_signatures(&bundle, path, new)
}

/// Attaches a signature that was made elsewhere over [`signed_bytes`], in place.
///
/// # Errors
/// [`crate::keys::KeyError::SignatureWrong`] when it is not by `key` over this bundle; otherwise as [`sign_bundle`].
pub fn attach_signature(path: &Path, signature: &[u8], key: &PublicKey) -> Result<(), Error> {
    let bundle = Bundle::open(path)?;
    key.verify(&signed_bytes(bundle.manifest_entry()), signature)?;
    let new = OwnedSignature {
        key: key.id(),
        algorithm: ALGORITHM_ED25519,
        bytes: signature.to_vec(),
    };
    replace_signatures(&bundle, path, vec![new])
}

fn replace_signatures(bundle: &Bundle, path: &Path, new: Vec<OwnedSignature>) -> Result<(), Error> {
    let mut signatures = bundle.signatures().to_vec();
    for signature in new {
        let same = |old: &&mut OwnedSignature| {
            old.key == signature.key && old.algorithm == signature.algorithm
        };
        match signatures.iter_mut().find(same) {
            Some(old) => *old = signature,
            None => signatures.push(signature),
        }
    }
    let entry = signatures_entry(&signatures)?;
    let old = bundle.layout().content(1);
    let rest = old.offset + old.size + padding_bytes(old.size);
    let mut source = File::open(path).map_err(FileOperation::Open.on(path))?;
    source
        .seek(SeekFrom::Start(rest))
        .map_err(FileOperation::Read.on(path))?;
    let permissions = source
        .metadata()
        .map_err(FileOperation::Read.on(path))?
        .permissions();
    write_new(path, |out| {
        let manifest = bundle.manifest_entry();
        write_entry(out, "manifest", manifest.len() as u64, manifest)?;
        write_entry(out, "signatures", entry.len() as u64, entry.as_slice())?;
        std::io::copy(&mut source, out)?;
        out.set_permissions(permissions)
    })?;
    Ok(())
}
