//! What this machine's firmware would say to a UKI: whether Secure Boot is on, whom the firmware trusts, and whether it would
//! start the UKI that is being installed.
//!
//! | file | what it does |
//! |---|---|
//! | `lists` | `db` and `dbx`: lists of certificates and hashes |
//! | `image` | the PE file: what the firmware hashes, and the signatures that it carries |
//! | `asn1` | the encoding of certificates and messages |
//! | `certificate` | one X.509 certificate, as far as a chain needs it |
//! | `message` | one signature: an Authenticode message in PKCS#7 |
//! | `trust` | the verdict: the rules of the firmware |
//! | `gate` | the storage of an install that ends before a UKI that the firmware would refuse is published |
//!
//! # Invariants
//! - This is no security boundary: the bundle's signatures have been checked before, and the firmware checks what it starts. It
//!   spares a device a transfer and a trial that would end in the firmware.
//! - No byte of a UKI, of a signature or of a variable makes this panic; every length has a limit.
//!
//! # Power loss
//! Nothing is written here.

mod asn1;
mod certificate;
mod gate;
mod image;
mod lists;
mod message;
mod trust;

pub use gate::Gate;
pub use image::{Image, ImageFault, ImageStop};
pub use lists::ListFault;
pub use message::MessageFault;
pub use trust::{Finding, Refusal, Trust};

use crate::config::{Description, EFI_VARIABLES, Loader};
use crate::error::AgentError;
use lists::Lists;
use rustix::fs::statfs;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The variable, with the GUID of those that the specification defines (UEFI specification 2.10, section 3.3).
const VARIABLE: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// What the firmware trusts, with the GUID of the signature databases (section 32.6.1).
const DB: &str = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// What the firmware refuses whoever signed it.
const DBX: &str = "dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// Attributes before a variable's content (Documentation/filesystems/efivarfs.rst).
const ATTRIBUTES_BYTES: usize = 4;

/// Largest variable that is read; the largest `dbx` in use has some 25 KiB. Keeps a broken firmware from filling the memory.
const VARIABLE_MAX_BYTES: usize = 1024 * 1024;

/// `MSDOS_SUPER_MAGIC` of statfs(2): FAT, the one file system that every UEFI firmware reads.
const FAT_MAGIC: u64 = 0x4d44;

/// Why `db` or `dbx` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VariableProblem {
    /// It cannot be read.
    #[error("it cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    /// It is too short for its attributes, or larger than any in use.
    #[error("it has {bytes} bytes, which no such variable has")]
    Length {
        /// Bytes that were read.
        bytes: usize,
    },
    /// It is not a sequence of signature lists.
    #[error("{0}")]
    Lists(#[from] ListFault),
}

/// Whether Secure Boot is on; `None` when nobody says so: no UEFI firmware, or one without the variable.
pub fn is_on(description: &Description) -> Option<bool> {
    read(variables(description))
}

/// What the firmware trusts, where it checks what is in `boot_slot`; `None` where it does not: Secure Boot is not on, or the
/// boot loader is not the firmware and the slot has a file system that no firmware reads.
///
/// # Errors
/// When Secure Boot is on and `db` or `dbx` cannot be read as what they must be.
pub fn trusted(
    description: &Description,
    boot_slot: Option<&str>,
) -> Result<Option<Trust>, AgentError> {
    let Some(boot_slot) = boot_slot else {
        return Ok(None);
    };
    // systemd-boot, too, has the firmware check and start its entries.
    let by_firmware = description.loader != Loader::Record || is_fat(boot_slot);
    let folder = variables(description);
    if !by_firmware || read(folder) != Some(true) {
        return Ok(None);
    }
    let (db, dbx) = (lists(folder, DB)?, lists(folder, DBX)?);
    Ok(Some(Trust::new(&db, &dbx)))
}

fn variables(description: &Description) -> &Path {
    let loader = description.loader.variables();
    loader.unwrap_or(Path::new(EFI_VARIABLES))
}

fn is_fat(folder: &str) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type as u64 == FAT_MAGIC)
}

/// Four bytes of attributes come first, then one byte, 1 for on.
fn read(folder: &Path) -> Option<bool> {
    match fs::read(folder.join(VARIABLE)).ok()?.as_slice() {
        [_, _, _, _, 1] => Some(true),
        [_, _, _, _, 0] => Some(false),
        _ => None,
    }
}

/// One of the signature databases; a variable that is not there is an empty one.
fn lists(folder: &Path, variable: &str) -> Result<Lists, AgentError> {
    let file = folder.join(variable);
    read_lists(&file).map_err(|problem| AgentError::FirmwareKeys { file, problem })
}

fn read_lists(file: &PathBuf) -> Result<Lists, VariableProblem> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lists::default()),
        Err(error) => return Err(error.into()),
    };
    let content = bytes
        .get(ATTRIBUTES_BYTES..)
        .filter(|content| content.len() <= VARIABLE_MAX_BYTES)
        .ok_or(VariableProblem::Length { bytes: bytes.len() })?;
    Ok(Lists::parse(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_says_it_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        for (bytes, says) in [
            (&[6, 0, 0, 0, 1][..], Some(true)),
            (&[6, 0, 0, 0, 0], Some(false)),
            (&[6, 0, 0, 0, 2], None),
            (&[6, 0, 0, 0], None),
            (&[6, 0, 0, 0, 1, 1], None),
        ] {
            fs::write(folder.path().join(VARIABLE), bytes).unwrap();
            assert_eq!(read(folder.path()), says, "{bytes:?}");
        }
    }

    #[test]
    fn a_variable_that_is_missing_is_empty_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(lists(folder.path(), DB).is_ok());
        for bytes in [
            &[7, 0, 0][..],
            &[7, 0, 0, 0, 1],
            &vec![0; VARIABLE_MAX_BYTES + 5],
        ] {
            fs::write(folder.path().join(DB), bytes).unwrap();
            let error = lists(folder.path(), DB).err().unwrap();
            assert_eq!(error.code(), crate::exit::SECURE_BOOT);
            assert!(error.to_string().contains(DB), "{error}");
        }
        fs::remove_file(folder.path().join(DB)).unwrap();
        fs::create_dir(folder.path().join(DB)).unwrap();
        let error = lists(folder.path(), DB).err().unwrap().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
