//! What a set holds, proved anew each time: the release by its signature, the image by its digest.
//!
//! # Invariants
//! - A set counts as bootable only when a trusted key signed its front matter and every byte of its slot was hashed just now.

use crate::flash::Flash;
use crate::slots::{Running, SLOT, SLOT_BYTES, front_at, slot_at};
use crate::watchdog;
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::error::Part;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::verify::{Verified, verify_manifest};
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::manifest::{Manifest, Payload, PayloadKind};
use twinseal_core::wire::tar::{BLOCK_BYTES, check_header, padding_bytes};

/// Device type of this firmware.
pub const COMPATIBLE: &str = "twinseal-mcu";

/// What is hashed at once.
const PIECE_BYTES: usize = 4096;

/// A set that is complete.
#[derive(Clone, Copy)]
pub struct Held {
    /// SHA-256 of its manifest.
    pub manifest: Sha256Digest,
    /// Its anti-rollback version.
    pub anti_rollback: u64,
    /// Its image.
    pub image: Running,
}

/// Memory for a front matter.
pub type FrontBuffer = [u8; FRONT_MAX_BYTES];

/// Proves what a set holds; `None` when it is not complete.
pub fn look(flash: &Flash, set: Set, buffer: &mut FrontBuffer) -> Option<Held> {
    let key = TrustedKey::ed25519(flash.key());
    flash.read(front_at(set), buffer).ok()?;
    let release = prove(buffer, &key)?;
    watchdog::feed();
    let image = image_of(release.value())?;
    let held = Held {
        manifest: *release.manifest_sha256(),
        anti_rollback: release.value().anti_rollback,
        image: Running {
            digest: image.digest,
            size: image.size,
        },
    };
    is_whole(flash, set, held.image).then_some(held)
}

/// Proves what both sets hold.
pub fn look_at_both(flash: &Flash, buffer: &mut FrontBuffer) -> [Option<Held>; 2] {
    Set::BOTH.map(|set| look(flash, set, buffer))
}

/// The facts of both sets, for core's choice.
pub fn facts(held: &[Option<Held>; 2]) -> [SetFacts; 2] {
    held.map(|held| {
        held.map_or(SetFacts::default(), |held| SetFacts {
            bootable: true,
            manifest: Some(held.manifest),
            anti_rollback: Some(held.anti_rollback),
        })
    })
}

fn prove(front: &[u8], key: &TrustedKey) -> Option<Verified<Manifest>> {
    let (manifest, signatures) = entries(front)?;
    // What is installed may be below the floor by now: that is no reason not to name it.
    let policy = Policy {
        compatible: COMPATIBLE,
        floor: 0,
        now: None,
        highest_time_seen: 0,
    };
    verify_manifest(manifest, signatures, core::slice::from_ref(key), &policy).ok()
}

/// The contents of `manifest` and `signatures` in a front matter, or at the start of a bundle.
pub fn entries(front: &[u8]) -> Option<(&[u8], &[u8])> {
    let (manifest, rest) = entry(front, "manifest", Part::ManifestHeader)?;
    let (signatures, _) = entry(rest, "signatures", Part::SignaturesHeader)?;
    Some((manifest, signatures))
}

/// The content of the entry that `bytes` start with, and what follows its padding.
fn entry<'b>(bytes: &'b [u8], name: &str, part: Part) -> Option<(&'b [u8], &'b [u8])> {
    let (header, rest) = bytes.split_at_checked(BLOCK_BYTES)?;
    let size = check_header(header, name, part).ok()?;
    let padded = usize::try_from(size + padding_bytes(size)).ok()?;
    let content = rest.get(..usize::try_from(size).ok()?)?;
    Some((content, rest.get(padded..)?))
}

/// The image for the slot.
fn image_of(manifest: &Manifest) -> Option<&Payload> {
    manifest
        .payloads
        .iter()
        .find(|payload| match &payload.kind {
            PayloadKind::Image { slot } => slot.as_str() == SLOT,
            PayloadKind::Uki | PayloadKind::Composefs { .. } => false,
        })
}

/// Whether the slot holds the image.
fn is_whole(flash: &Flash, set: Set, image: Running) -> bool {
    let Some(size) = usize::try_from(image.size)
        .ok()
        .filter(|size| *size <= SLOT_BYTES)
    else {
        return false;
    };
    let (mut digest, mut piece) = (VerityDigest::new(), [0; PIECE_BYTES]);
    for start in (0..size).step_by(PIECE_BYTES) {
        watchdog::feed();
        let now = piece
            .get_mut(..PIECE_BYTES.min(size - start))
            .unwrap_or_default();
        if flash.read(slot_at(set) + start, now).is_err() {
            return false;
        }
        digest.update(now);
    }
    digest.finish() == image.digest
}
