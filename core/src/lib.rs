//! The core of twinseal: formats, verification, install and boot state, for every agent from a microcontroller to a server.
//!
//! Layers, lowest first:
//! - [`wire`]: the bytes of a bundle; parse and emit, one file for each structure;
//! - [`verify`]: bytes in, [`verify::Verified`] out; digests, signatures, policy, seal;
//! - [`patch`]: instructions that make a blob from another one;
//! - [`storage`]: what core needs from a device, as traits with their contract;
//! - [`install`]: asks for byte ranges, checks them, and gives the device what to write;
//! - [`boot`]: which set to boot, the trial, the commit, the rollback;
//! - [`journal`]: the hash-chained record of what happened; [`exit`]: the exit codes of the agents.
//!
//! # Invariants
//! The promises of the product that live here (`docs/architecture.md` has all eight):
//! - no byte from outside reaches a decoder, a parser of large structures or a slot before it has been authenticated;
//! - nothing becomes bootable before its signature and every digest have been checked;
//! - the anti-rollback floor never falls, and rises only at commit;
//! - an attempt is spent before the jump.
//!
//! # Example
//! What a device does first with a bundle: prove the manifest, before a single field of it is read.
//! ```
//! use twinseal_core::verify::{policy::Policy, signature::TrustedKey, verify_manifest};
//!
//! let bundle = include_bytes!("../tests/golden/small.tseal");
//! let archive = tar_no_std::TarArchiveRef::new(bundle)?;
//! let mut entries = archive.entries();
//! let (manifest, signatures) = (entries.next().unwrap(), entries.next().unwrap());
//!
//! let public_key = include_bytes!("../tests/golden/small.pub");
//! let keys = [TrustedKey::ed25519(*public_key)];
//! let policy = Policy { compatible: "test-device", floor: 5, now: Some(1500), highest_time_seen: 0 };
//! let verified = verify_manifest(manifest.data(), signatures.data(), &keys, &policy).unwrap();
//! assert_eq!(verified.value().version.as_str(), "1.0");
//!
//! let newer_floor = Policy { floor: 6, ..policy };
//! let refused = verify_manifest(manifest.data(), signatures.data(), &keys, &newer_floor).unwrap_err();
//! assert!(refused.to_string().contains("downgrade"));
//! # Ok::<(), tar_no_std::CorruptDataError>(())
//! ```
//!
//! # Power loss
//! Core keeps no state of its own. What a cut leaves is what the device's storage holds; the next install asks for every blob
//! "is it already there?", and the boot record always has one whole copy.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::string_slice
    )
)]

#[cfg(test)]
extern crate std;

pub mod boot;
pub mod decode;
pub mod error;
pub mod exit;
pub mod install;
pub mod journal;
pub mod patch;
pub mod source;
pub mod storage;
pub mod verify;
pub mod wire;

pub use error::Error;
pub use verify::Verified;
