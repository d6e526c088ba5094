//! Changes of the UKI on a boot slot.

use super::{Scene, Set};
use crate::command::Invocation;
use crate::disk::{Disk, DiskError};
use std::fs;
use std::path::{Path, PathBuf};

/// Where firmware looks for a UKI on a disk without boot entries (UEFI specification, removable media), on x86-64.
const UKI: &str = "/EFI/BOOT/BOOTX64.EFI";

/// The kernel parameter that states the seal.
const PARAMETER: &[u8] = b"composefs=";

/// Digits of a SHA-256 in hex.
const DIGEST_DIGITS: usize = 64;

fn slot(set: Set) -> String {
    format!("boot-{}", set.name())
}

fn copy_out(scene: &Scene<'_>, set: Set) -> Result<PathBuf, DiskError> {
    let file = scene.scratch.join(format!("uki-{}.efi", set.name()));
    let disk = Disk {
        file: scene.disk,
        runner: scene.runner,
    };
    disk.copy_out(&slot(set), UKI, &file)?;
    Ok(file)
}

fn copy_in(scene: &Scene<'_>, set: Set, file: &Path) -> Result<(), DiskError> {
    let disk = Disk {
        file: scene.disk,
        runner: scene.runner,
    };
    disk.copy_in(&slot(set), file, UKI)
}

/// The seal that a set's UKI states, in hex.
pub(super) fn seal(scene: &Scene<'_>, set: Set) -> Result<String, DiskError> {
    let file = copy_out(scene, set)?;
    let bytes = fs::read(&file).map_err(DiskError::file(&file, "read"))?;
    let digits = seal_place(&bytes).and_then(|at| bytes.get(at..at + DIGEST_DIGITS));
    digits
        .and_then(|digits| String::from_utf8(digits.to_vec()).ok())
        .ok_or_else(|| no_seal(set))
}

fn no_seal(set: Set) -> DiskError {
    let what = "its command line states no seal";
    DiskError::Unfit {
        file: UKI.to_owned(),
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
    let file = copy_out(scene, set)?;
    let mut bytes = fs::read(&file).map_err(DiskError::file(&file, "read"))?;
    let at = seal_place(&bytes).ok_or_else(|| no_seal(set))?;
    if let Some(byte) = bytes.get_mut(at) {
        *byte = if *byte == b'0' { b'1' } else { b'0' };
    }
    fs::write(&file, bytes).map_err(DiskError::file(&file, "written"))?;
    copy_in(scene, set, &file)
}

/// Takes every signature from the UKI.
pub(super) fn unsign(scene: &Scene<'_>, set: Set) -> Result<(), DiskError> {
    let file = copy_out(scene, set)?;
    remove_signature(scene, &file)?;
    copy_in(scene, set, &file)
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
    let file = copy_out(scene, set)?;
    remove_signature(scene, &file)?;
    let sign = Invocation::new("sbsign")
        .argument("--key")
        .argument(scene.stranger_key)
        .argument("--cert");
    let sign = sign
        .argument(scene.stranger_certificate)
        .argument("--output")
        .arguments([&file, &file]);
    scene.runner.run(&sign)?.expect_success()?;
    copy_in(scene, set, &file)
}
