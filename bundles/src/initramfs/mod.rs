//! The initramfs of a sealed appliance: one program that becomes `/init`, and the kernel modules that it loads.
//!
//! The archive is an uncompressed cpio in the `newc` form (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`). It holds:
//! - `/init`, 0755;
//! - `/modules/NAME.ko` for every line of the folder's `order`, and `/modules/order` with one NAME a line; the same for `recovery`,
//!   the modules that are loaded for a recovery alone, when the folder has that file;
//! - `/recovery`, what the recovery knows of its device ([`twinseal_core::wire::recovery`]), when keys are given;
//! - `/dev/console` (character device 5,1), so that the kernel gives init a console before `/dev` is mounted;
//! - the empty folders `/dev`, `/proc`, `/run`, `/sys` and `/sysroot`, to mount at.
//!
//! # Invariants
//! - The same input makes the same bytes: names in the order of their bytes, everything root's, every time 0.
//! - A module that `order` names and the folder does not have is an error here, not on the device.

mod error;
mod newc;

pub use error::EarlyError;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use twinseal_core::wire::recovery::{KEYS_MAX_COUNT, Recovery};
use twinseal_core::wire::text::Name;

use crate::error::Error;
use crate::keys::PublicKey;
use crate::recipe::read_file;
use newc::{Archive, CONSOLE, Kind};

/// Largest program and largest module: all of it lies in memory before the root is mounted.
const FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Largest `order`.
const ORDER_MAX_BYTES: u64 = 64 * 1024;

/// Most modules. Stops a wrong file from opening a hundred thousand others.
const MODULES_MAX: usize = 1024;

/// The list of modules that are loaded at each start, and of those for a recovery.
const ORDER: &str = "order";
const RECOVERY_ORDER: &str = "recovery";

/// What the recovery knows of its device.
const RECOVERY: &str = "recovery";

/// Folders to mount at.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// What an initramfs is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Early {
    /// The program that becomes `/init`. It must need no library.
    pub init: PathBuf,
    /// A folder with `order` and the modules that it names; none for a kernel that has everything built in.
    pub modules: Option<PathBuf>,
    /// What the recovery knows of its device; without it there is none.
    pub recovery: Option<RecoveryParts>,
}

/// What a recovery is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryParts {
    /// Device type.
    pub compatible: Name,
    /// Anti-rollback version of the release.
    pub anti_rollback: u64,
    /// Public keys that it trusts for releases.
    pub trusted_keys: Vec<PathBuf>,
}

/// The archive.
///
/// # Errors
/// [`EarlyError`] says what the folder of modules or the recovery lacks; [`Error::File`] what cannot be read.
pub fn assemble(early: &Early) -> Result<Vec<u8>, Error> {
    let mut entries = BTreeMap::new();
    for name in MOUNT_POINTS {
        entries.insert(name.to_owned(), Kind::Directory);
    }
    entries.insert("dev/console".to_owned(), CONSOLE);
    let init = read_file(&early.init, "program for /init", FILE_MAX_BYTES)?;
    if init.is_empty() {
        return Err(EarlyError::InitEmpty(early.init.clone()).into());
    }
    entries.insert("init".to_owned(), Kind::Program(init));
    if let Some(folder) = &early.modules {
        add_modules(folder, &mut entries)?;
    }
    if let Some(parts) = &early.recovery {
        let text = recovery(parts)?.emit();
        entries.insert(RECOVERY.to_owned(), Kind::File(text.as_bytes().to_vec()));
    }
    let mut archive = Archive::new();
    for (name, kind) in &entries {
        archive.add(name, kind)?;
    }
    archive.finish()
}

/// What the recovery in an initramfs of ours knows; `None` when there is none, or the archive is another's.
pub fn recovery_in(archive: &[u8]) -> Option<Recovery> {
    Recovery::parse(newc::find(archive, RECOVERY)?)
}

fn recovery(parts: &RecoveryParts) -> Result<Recovery, Error> {
    let keys = parts.trusted_keys.iter();
    let keys = keys.map(|path| Ok(PublicKey::read(path)?.to_bytes()));
    let keys = keys.collect::<Result<Vec<_>, Error>>()?;
    let made = Recovery::new(parts.compatible.clone(), parts.anti_rollback, &keys);
    Ok(made.ok_or(EarlyError::Keys {
        limit: KEYS_MAX_COUNT,
    })?)
}

fn add_modules(folder: &Path, entries: &mut BTreeMap<String, Kind>) -> Result<(), Error> {
    entries.insert("modules".to_owned(), Kind::Directory);
    add_list(folder, ORDER, entries)?;
    if folder.join(RECOVERY_ORDER).exists() {
        add_list(folder, RECOVERY_ORDER, entries)?;
    }
    Ok(())
}

fn add_list(folder: &Path, list: &str, entries: &mut BTreeMap<String, Kind>) -> Result<(), Error> {
    let names = read_order(folder, list)?;
    let mut order = String::new();
    for name in names {
        order += &name;
        order.push('\n');
        let file = format!("{name}.ko");
        let content = read_file(&folder.join(&file), "kernel module", FILE_MAX_BYTES)?;
        if entries
            .insert(format!("modules/{file}"), Kind::File(content))
            .is_some()
        {
            let order = folder.join(list);
            return Err(EarlyError::ModuleTwice { order, name }.into());
        }
    }
    entries.insert(format!("modules/{list}"), Kind::File(order.into_bytes()));
    Ok(())
}

/// The names in a list, one a line, with or without `.ko`.
fn read_order(folder: &Path, list: &str) -> Result<Vec<String>, Error> {
    let order = folder.join(list);
    let text = String::from_utf8_lossy(&read_file(&order, "list of modules", ORDER_MAX_BYTES)?)
        .into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines
        .map(|line| {
            let name = line.strip_suffix(".ko").unwrap_or(line);
            let plain =
                |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
            if !name.is_empty() && name.chars().all(plain) {
                return Ok(name.to_owned());
            }
            Err(EarlyError::ModuleName {
                order: order.clone(),
                line: line.to_owned(),
            })
        })
        .collect::<Result<_, _>>()?;
    if names.len() > MODULES_MAX {
        let limit = MODULES_MAX;
        return Err(EarlyError::TooManyModules { order, limit }.into());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(order: &str) -> (tempfile::TempDir, Early) {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("modules");
        fs::create_dir(&modules).unwrap();
        fs::write(modules.join("order"), order).unwrap();
        for name in ["erofs", "virtio_blk"] {
            fs::write(modules.join(format!("{name}.ko")), format!("module {name}")).unwrap();
        }
        fs::write(modules.join("unused.ko"), "not in the list").unwrap();
        let init = folder.path().join("program");
        fs::write(&init, "a program").unwrap();
        let modules = Some(modules);
        let early = Early {
            init,
            modules,
            recovery: None,
        };
        (folder, early)
    }

    #[test]
    fn a_recovery_is_found_again_and_its_modules_come_along() {
        let (kept, mut early) = folder("virtio_blk\n");
        let key = kept.path().join("release.pub");
        let public = crate::keys::SigningKey::from_seed([7; 32]).public();
        fs::write(&key, public.to_pem()).unwrap();
        fs::write(kept.path().join("modules/recovery"), "erofs\n").unwrap();
        assert_eq!(recovery_in(&assemble(&early).unwrap()), None);
        let mut parts = RecoveryParts {
            compatible: Name::new("acme-gateway").unwrap(),
            anti_rollback: 7,
            trusted_keys: vec![key.clone()],
        };
        early.recovery = Some(parts.clone());
        let archive = assemble(&early).unwrap();
        let recovery = recovery_in(&archive).unwrap();
        assert_eq!(recovery.compatible(), &parts.compatible);
        assert_eq!(
            (recovery.anti_rollback(), recovery.keys()),
            (7, &[public.to_bytes()][..])
        );
        assert!(String::from_utf8_lossy(&archive).contains("module erofs"));
        for end in 0..archive.len() {
            let cut = recovery_in(&archive[..end]);
            assert!(cut.is_none() || cut.as_ref() == Some(&recovery), "{end}");
        }
        for keys in [vec![], vec![key; KEYS_MAX_COUNT + 1]] {
            parts.trusted_keys = keys;
            early.recovery = Some(parts.clone());
            let refused = assemble(&early).unwrap_err().to_string();
            assert!(refused.contains("from 1 to 8 keys"), "{refused}");
        }
    }

    #[test]
    fn both_spellings_of_a_module_make_the_same_archive() {
        let (_kept, plain) = folder("virtio_blk\nerofs\n");
        let (_kept, suffixed) = folder("\nvirtio_blk.ko\n erofs.ko");
        let archive = assemble(&plain).unwrap();
        assert_eq!(archive, assemble(&suffixed).unwrap());
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("virtio_blk\nerofs\n") && !text.contains("unused"));
    }

    #[test]
    fn what_the_folder_lacks_is_named() {
        for (order, expected) in [
            ("missing\n", "missing.ko"),
            ("../erofs\n", "`../erofs`, which is no name of a module"),
            ("erofs.ko.xz\n", "no name of a module"),
            ("erofs\nvirtio_blk\nerofs\n", "names `erofs` twice"),
            (&"a\n".repeat(MODULES_MAX + 1), "more than 1024 modules"),
        ] {
            let (_kept, early) = folder(order);
            let error = assemble(&early).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let (_kept, early) = folder("erofs\n");
        fs::write(&early.init, "").unwrap();
        assert!(
            assemble(&early)
                .unwrap_err()
                .to_string()
                .contains("is empty")
        );
    }
}
