//! The initramfs of a sealed appliance: one program that becomes `/init`, and the kernel modules that it loads.
//!
//! The archive is an uncompressed cpio in the `newc` form (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`). It holds:
//! - `/init`, 0755;
//! - `/modules/NAME.ko` for every line of the folder's `order`, and `/modules/order` with one NAME a line;
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

use crate::error::Error;
use crate::recipe::read_file;
use newc::{Archive, CONSOLE, Kind};

/// Largest program and largest module: all of it lies in memory before the root is mounted.
const FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Largest `order`.
const ORDER_MAX_BYTES: u64 = 64 * 1024;

/// Most modules. Stops a wrong file from opening a hundred thousand others.
const MODULES_MAX: usize = 1024;

/// Folders to mount at.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// What an initramfs is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Early {
    /// The program that becomes `/init`. It must need no library.
    pub init: PathBuf,
    /// A folder with `order` and the modules that it names; none for a kernel that has everything built in.
    pub modules: Option<PathBuf>,
}

/// The archive.
///
/// # Errors
/// [`EarlyError`] says what the folder of modules lacks; [`Error::File`] what cannot be read.
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
    let mut archive = Archive::new();
    for (name, kind) in &entries {
        archive.add(name, kind)?;
    }
    archive.finish()
}

fn add_modules(folder: &Path, entries: &mut BTreeMap<String, Kind>) -> Result<(), Error> {
    let names = read_order(folder)?;
    entries.insert("modules".to_owned(), Kind::Directory);
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
            let order = folder.join("order");
            return Err(EarlyError::ModuleTwice { order, name }.into());
        }
    }
    entries.insert("modules/order".to_owned(), Kind::File(order.into_bytes()));
    Ok(())
}

/// The names in `order`, one a line, with or without `.ko`.
fn read_order(folder: &Path) -> Result<Vec<String>, Error> {
    let order = folder.join("order");
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
        (folder, Early { init, modules })
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
