//! A small builder of bundles and a device in memory, for the promise tests of core.
#![allow(dead_code, reason = "each test uses its part")]

mod device;
mod draft;
pub mod forgetful;
mod release;
mod run;

pub use device::*;
pub use draft::*;
pub use release::*;
pub use run::*;

use ed25519_compact::{KeyPair, Seed};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use twinseal_core::decode::{Inflate, RangeDecoder};
use twinseal_core::error::{
    Error, Part, StorageError, StorageFault, StorageObject, StorageOperation,
};
use twinseal_core::install::{Config, Installer, Plan, Tally, Workspace};
use twinseal_core::source::{RunError, Seekable, Source, SourceError, run};
use twinseal_core::storage::{Location, PatchBase, Postponed, RunningObject, Space, Storage};
use twinseal_core::verify::digest::TREE_BYTES;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::verify::hashed::{TREES_MAX_COUNT, Trees};
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::verify::{Verified, verify_manifest};
use twinseal_core::wire::digest::{BlobDigest, DigestAlgorithm, Sha256Digest};
use twinseal_core::wire::index::{
    Alternative, BLOCK_BYTES, Blob, Encoding, METHOD_PATCH, Range, Record, Removed, Role,
    emit_block, set_next,
};
use twinseal_core::wire::layout::Layout;
use twinseal_core::wire::manifest::*;
use twinseal_core::wire::signatures::{
    ALGORITHM_ED25519, SIGNED_CONTEXT, Signature, emit as emit_signatures,
};
use twinseal_core::wire::tar::check_header;
use twinseal_core::wire::text::{Line, Name};
use twinseal_core::wire::{
    FORMAT_VERSION, FRONT_MAX_BYTES, MANIFEST_MAX_BYTES, SIGNATURES_MAX_BYTES, ZSTD_WINDOW_LOG_MAX,
};

pub const COMPATIBLE: &str = "test-device";
pub const REQUEST_BYTES: usize = 8192;

pub fn verity(bytes: &[u8]) -> BlobDigest {
    let mut digest = VerityDigest::new();
    digest.update(bytes);
    digest.finish()
}

pub fn sha256(bytes: &[u8]) -> Sha256Digest {
    Sha256::digest(bytes).into()
}

/// Bytes that do not compress, from a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A PE file with one section, `.cmdline`.
pub fn uki(cmdline: &str, filler: usize) -> Vec<u8> {
    let mut file = vec![0; 512];
    file[..2].copy_from_slice(b"MZ");
    file[60] = 64;
    file[64..68].copy_from_slice(b"PE\0\0");
    file[70] = 1;
    file[88..96].copy_from_slice(b".cmdline");
    for (at, value) in [(96, cmdline.len()), (104, cmdline.len()), (108, 512)] {
        file[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    file.extend_from_slice(cmdline.as_bytes());
    file.extend_from_slice(&noise(77, filler));
    file
}

pub fn key(number: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([number; 32]))
}

pub fn trusted(number: u8) -> TrustedKey {
    TrustedKey::ed25519(*key(number).pk)
}
