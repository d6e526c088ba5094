//! A conformance kit: small bundles, good and bad, and what a device must say to each.
//!
//! Whoever writes another reader of bundles, or changes this one, runs it over these. `vectors.toml` describes the device and
//! lists for every file what was done to it, whether it must be accepted, and if not, the name of the error
//! ([`crate::exit::error_name`]) and the exit code.
//!
//! # Invariants
//! - The same version writes the same bytes.
//! - Where the fault lies behind a signature, the bundle is signed anew: every vector reaches the check that it is for.

mod data;
mod draft;
mod framing;
mod good;
mod index;
mod manifest;
mod policy;
mod tiny_uki;
mod uki;

pub use draft::{Draft, Framed, Recipe, archive_of, entries_of, image};
pub use tiny_uki::{pe_file, sections};

use std::path::Path;

use serde::Serialize;
use twinseal_core::Error as CoreError;
use twinseal_core::wire::index::Record;
use twinseal_core::wire::manifest::Manifest;

use crate::composefs_image::ComposefsImage;
use crate::error::{Error, FileOperation};
use crate::exit::{error_name, exit_code};
use crate::keys::SigningKey;
use crate::verify::Device;

/// Device type of the vectors' device.
pub const COMPATIBLE: &str = "twinseal-vector";

/// Its anti-rollback floor, and the anti-rollback version of the good bundles.
pub const FLOOR: u64 = 10;

/// Its clock: 2027-01-15T08:00:00Z, in seconds since 1970.
pub const TIME: u64 = 1_800_000_000;

/// Its only slot for images, and the size of that slot.
pub const SLOT: (&str, u64) = ("firmware", 65_536);

/// Names of the files with the keys that the device trusts.
const KEY_FILES: [&str; 2] = ["first.pub", "second.pub"];

/// A bundle and what the device must say to it.
#[derive(Clone)]
pub struct Vector {
    /// Its name; the file is `NAME.tseal`.
    pub name: &'static str,
    /// What was done to it.
    pub what: &'static str,
    /// The bundle.
    pub bundle: Vec<u8>,
    /// The error of a device that knows the length of the bundle, as from a file; `None` when it must accept.
    pub refusal: Option<CoreError>,
    /// The error of a device that reads a stream, when it is another one.
    pub stream_refusal: Option<CoreError>,
    /// Whether only a device sees it that checks also what it does not need (`audit`).
    pub audit_only: bool,
}

/// The first key that the device trusts. Everybody knows it: it is for tests.
pub fn first_key() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

/// The second key that the device trusts.
pub fn second_key() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

/// A key that the device does not know.
pub fn strange_key() -> SigningKey {
    SigningKey::from_seed([3; 32])
}

/// The device that the vectors are for.
pub fn device() -> Device {
    Device {
        keys: vec![first_key().public(), second_key().public()],
        compatible: Some(COMPATIBLE.to_owned()),
        floor: FLOOR,
        time: Some(TIME),
        slots: Some(vec![(SLOT.0.to_owned(), SLOT.1)]),
    }
}

/// The good bundle that the bad ones are made from, signed by [`first_key`].
///
/// # Errors
/// When the host has no room for temporary files.
pub fn good_bundle() -> Result<Vec<u8>, Error> {
    let image = image()?;
    Ok(Recipe::new(&image).draft()?.signed_by(&[&first_key()]))
}

/// All vectors.
///
/// # Errors
/// When the host has no room for temporary files.
pub fn all() -> Result<Vec<Vector>, Error> {
    let image = image()?;
    let draft = Recipe::new(&image).draft()?;
    let base = Base {
        image: &image,
        bundle: draft.clone().signed_by(&[&first_key()]),
        draft,
    };
    let mut vectors = good::vectors(&base)?;
    vectors.extend(policy::vectors(&base));
    vectors.extend(manifest::vectors(&base));
    vectors.extend(uki::vectors(&base)?);
    vectors.extend(index::vectors(&base));
    vectors.extend(index::patches(&base)?);
    vectors.extend(data::vectors(&base)?);
    vectors.extend(framing::vectors(&base));
    Ok(vectors)
}

/// What bad bundles are made from.
struct Base<'a> {
    image: &'a ComposefsImage,
    draft: Draft,
    bundle: Vec<u8>,
}

impl Base<'_> {
    /// The bundle with another manifest, signed.
    fn with_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        let mut framed = self.draft.clone().index();
        change(&mut framed.manifest);
        framed.signed_by(&[&first_key()])
    }

    /// The bundle with other bytes for its manifest, signed.
    fn with_manifest_bytes(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let framed = self.draft.clone().index();
        let mut manifest = framed.manifest_entry();
        change(&mut manifest);
        framed.with_entries(
            &manifest,
            &[crate::sign::sign_manifest(&first_key(), &manifest)],
        )
    }

    /// The bundle with other records, indexed and signed.
    fn with_records(&self, change: impl FnOnce(&mut Vec<Record>)) -> Vec<u8> {
        self.with_draft(|draft| change(&mut draft.records))
    }

    /// The bundle with another draft, indexed and signed.
    fn with_draft(&self, change: impl FnOnce(&mut Draft)) -> Vec<u8> {
        let mut draft = self.draft.clone();
        change(&mut draft);
        draft.signed_by(&[&first_key()])
    }

    /// The bundle with other bytes, not signed anew.
    fn with_bytes(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bundle = self.bundle.clone();
        change(&mut bundle);
        bundle
    }
}

/// A vector that must be accepted.
fn accepted(name: &'static str, what: &'static str, bundle: Vec<u8>) -> Vector {
    Vector {
        name,
        what,
        bundle,
        refusal: None,
        stream_refusal: None,
        audit_only: false,
    }
}

/// A vector that must be refused.
fn refused(
    name: &'static str,
    what: &'static str,
    refusal: impl Into<CoreError>,
    bundle: Vec<u8>,
) -> Vector {
    Vector {
        refusal: Some(refusal.into()),
        ..accepted(name, what, bundle)
    }
}

/// Changes the byte at `position`.
fn flip(bytes: &mut [u8], position: usize) {
    bytes
        .iter_mut()
        .skip(position)
        .take(1)
        .for_each(|byte| *byte ^= 1);
}

/// What `vectors.toml` holds.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct List {
    device: DeviceEntry,
    vector: Vec<VectorEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DeviceEntry {
    compatible: &'static str,
    floor: u64,
    time: u64,
    keys: [&'static str; 2],
    slots: Vec<SlotEntry>,
}

#[derive(Serialize)]
struct SlotEntry {
    name: &'static str,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct VectorEntry {
    file: String,
    what: &'static str,
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_error: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    audit_only: bool,
}

/// The text above the list.
const HEADING: &str = "\
# Bundles for the device below, and what it must say to each.
#
# accepted      whether it must install the bundle
# error         the name of its error when it knows the bundle's length, and exit-code, that of the command
# stream-error  the name of its error when it reads a stream and cannot know the length, where that is another one
# audit-only    seen only by a device that checks also what it does not need; others accept the bundle
#
# The private keys are the Ed25519 seeds 0x01 and 0x02, 32 times each. Never trust them.

";

/// Writes all vectors into a directory, which is made, and gives their number.
///
/// # Errors
/// When a file cannot be written.
pub fn write(directory: &Path) -> Result<usize, Error> {
    let vectors = all()?;
    std::fs::create_dir_all(directory).map_err(FileOperation::Create.on(directory))?;
    let put = |name: &str, content: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, content).map_err(FileOperation::Write.on(&path))
    };
    for (name, key) in KEY_FILES.iter().zip([first_key(), second_key()]) {
        put(name, key.public().to_pem().as_bytes())?;
    }
    for vector in &vectors {
        put(&format!("{}.tseal", vector.name), &vector.bundle)?;
    }
    put("vectors.toml", list(&vectors).as_bytes())?;
    Ok(vectors.len())
}

/// The text of `vectors.toml`.
pub fn list(vectors: &[Vector]) -> String {
    let entry = |vector: &Vector| VectorEntry {
        file: format!("{}.tseal", vector.name),
        what: vector.what,
        accepted: vector.refusal.is_none(),
        error: vector.refusal.as_ref().map(error_name),
        exit_code: vector.refusal.as_ref().map(exit_code),
        stream_error: vector.stream_refusal.as_ref().map(error_name),
        audit_only: vector.audit_only,
    };
    let slots = vec![SlotEntry {
        name: SLOT.0,
        bytes: SLOT.1,
    }];
    let device = DeviceEntry {
        compatible: COMPATIBLE,
        floor: FLOOR,
        time: TIME,
        keys: KEY_FILES,
        slots,
    };
    let list = List {
        device,
        vector: vectors.iter().map(entry).collect(),
    };
    // Plain numbers, text and lists: nothing that TOML could not hold.
    HEADING.to_owned() + &toml::to_string_pretty(&list).unwrap_or_default()
}
