//! Changes of the UKI on a boot slot.

use super::{Scene, Set};
use crate::command::Invocation;
use crate::disk::{Disk, DiskError};
use crate::scenario::Loader;
use std::fs;
use std::path::{Path, PathBuf};

/// Where systemd-boot finds the UKIs of both sets: the names of what has been the default set, and of what has only been installed.
const ENTRIES: [[&str; 2]; 2] = [
    ["/EFI/Linux/TWINSE-A.EFI", "/EFI/Linux/TWINTRYA.EFI"],
    ["/EFI/Linux/TWINSE-B.EFI", "/EFI/Linux/TWINTRYB.EFI"],
];

/// The kernel parameter that states the seal.
const PARAMETER: &[u8] = b"composefs=";

const NO_SEAL: &str = "its command line states no seal";

/// Digits of a SHA-256 in hex.
const DIGEST_DIGITS: usize = 64;

pub(super) fn slot(set: Set) -> String {
    format!("boot-{}", set.name())
}

fn names(scene: &Scene<'_>, set: Set) -> Vec<&'static str> {
    let [a, b] = ENTRIES;
    match (scene.loader, set) {
        (Loader::Uefi, _) => vec![scene.processor.removable_media()],
        (Loader::SystemdBoot, Set::A) => a.to_vec(),
        (Loader::SystemdBoot, Set::B) => b.to_vec(),
    }
}

/// A UKI that was copied out of its slot.
pub(super) struct Copy {
    /// Its name on the slot.
    name: &'static str,
    /// The copy.
    pub(super) file: PathBuf,
}

pub(super) fn copy_out(scene: &Scene<'_>, set: Set) -> Result<Copy, DiskError> {
    let file = scene.scratch.join(format!("uki-{}.efi", set.name()));
    let mut last = unfit(set, "it is not there");
    for name in names(scene, set) {
        match disk(scene).copy_out(&slot(set), name, &file) {
            Ok(()) => return Ok(Copy { name, file }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn copy_in(scene: &Scene<'_>, set: Set, copy: &Copy) -> Result<(), DiskError> {
    disk(scene).copy_in(&slot(set), &copy.file, copy.name)
}

pub(super) fn disk<'s>(scene: &Scene<'s>) -> Disk<'s> {
    Disk {
        file: scene.disk,
        runner: scene.runner,
    }
}

/// The seal that a set's UKI states, in hex.
pub(super) fn seal(scene: &Scene<'_>, set: Set) -> Result<String, DiskError> {
    let Copy { file, .. } = copy_out(scene, set)?;
    let bytes = fs::read(&file).map_err(DiskError::file(&file, "read"))?;
    let digits = seal_place(&bytes).and_then(|at| bytes.get(at..at + DIGEST_DIGITS));
    digits
        .and_then(|digits| String::from_utf8(digits.to_vec()).ok())
        .ok_or_else(|| unfit(set, NO_SEAL))
}

fn unfit(set: Set, what: &'static str) -> DiskError {
    DiskError::Unfit {
        file: "The UKI".to_owned(),
        label: slot(set),
        what,
    }
}

/// Where the digits of the seal begin. The kernel and the initramfs are compressed or have the parameter's name only.
fn seal_place(bytes: &[u8]) -> Option<usize> {
    let is_digest = |digits: &[u8]| {
        digits
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut windows = bytes.windows(PARAMETER.len() + DIGEST_DIGITS);
    let at = windows.position(|window| window.strip_prefix(PARAMETER).is_some_and(is_digest))?;
    Some(at + PARAMETER.len())
}

/// Changes one digit of the seal on the command line.
pub(super) fn flip(scene: &Scene<'_>, set: Set) -> Result<(), DiskError> {
    let copy = copy_out(scene, set)?;
    let file = &copy.file;
    let mut bytes = fs::read(file).map_err(DiskError::file(file, "read"))?;
    let at = seal_place(&bytes).ok_or_else(|| unfit(set, NO_SEAL))?;
    if let Some(byte) = bytes.get_mut(at) {
        *byte = if *byte == b'0' { b'1' } else { b'0' };
    }
    fs::write(file, bytes).map_err(DiskError::file(file, "written"))?;
    copy_in(scene, set, &copy)
}

/// Takes every signature from the UKI.
pub(super) fn unsign(scene: &Scene<'_>, set: Set) -> Result<(), DiskError> {
    let copy = copy_out(scene, set)?;
    remove_signature(scene, &copy.file)?;
    copy_in(scene, set, &copy)
}

/// Gives the UKI a name with a counter of three attempts (Boot Loader Specification, "Boot counting").
pub(super) fn count(scene: &Scene<'_>, set: Set) -> Result<(), DiskError> {
    let Copy { name, file } = copy_out(scene, set)?;
    let stem = name.strip_suffix(".EFI").unwrap_or(name);
    let (folder, stem) = stem.rsplit_once('/').unwrap_or(("", stem));
    let counted = format!("{folder}/{}+3.efi", stem.to_lowercase());
    disk(scene).copy_in(&slot(set), &file, &counted)?;
    disk(scene).remove(&slot(set), name)
}

fn remove_signature(scene: &Scene<'_>, file: &Path) -> Result<(), DiskError> {
    let remove = Invocation::new("sbattach")
        .argument("--remove")
        .argument(file);
    scene.runner.run(&remove)?.expect_success()?;
    Ok(())
}

/// Signs the UKI anew, by a stranger.
pub(super) fn sign_by_stranger(scene: &Scene<'_>, set: Set) -> Result<(), DiskError> {
    let copy = copy_out(scene, set)?;
    let file = &copy.file;
    remove_signature(scene, file)?;
    let sign = Invocation::new("sbsign")
        .argument("--key")
        .argument(scene.stranger_key)
        .argument("--cert");
    let sign = sign
        .argument(scene.stranger_certificate)
        .argument("--output")
        .arguments([file, file]);
    scene.runner.run(&sign)?.expect_success()?;
    copy_in(scene, set, &copy)
}
