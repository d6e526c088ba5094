//! Telling whoever chooses the set of the next boot: systemd-boot when it ran in this boot, the UEFI boot manager otherwise.
//!
//! # Invariants
//! - One of the two is told, not both: what systemd-boot is not asked for it would not start, and a boot manager that is told a
//!   set's own entry would pass it by.

use crate::console::say;
use crate::devices::Devices;
use twinseal_core::boot::Set;
use twinseal_core::error::StorageError;
use twinseal_platform_linux::efivars::Variables;
use twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, SystemdBootLoader, UefiLoader};

/// Who chooses the set of the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// Nobody that this program can tell: there are no variables of a UEFI firmware.
    Nobody,
    /// The UEFI boot manager.
    BootManager,
    /// systemd-boot, which ran in this boot.
    SystemdBoot,
}

/// Who chooses the set of the next boot of this machine.
pub fn chooser() -> Chooser {
    chooser_in(VARIABLES_FOLDER)
}

fn chooser_in(folder: &str) -> Chooser {
    let ran = Variables::open(folder)
        .and_then(|variables| SystemdBootLoader::ran_in_this_boot(&variables));
    match ran {
        Err(_) => Chooser::Nobody,
        Ok(false) => Chooser::BootManager,
        Ok(true) => Chooser::SystemdBoot,
    }
}

/// Tells the firmware to boot a set next, once; gives whether it took that. The set must have been the default before.
pub fn boot_next(devices: &Devices<'_>, set: Set) -> bool {
    order_next(devices, set, SystemdBootLoader::ask_once)
}

/// The same for a set that was just installed.
pub fn try_next(devices: &Devices<'_>, set: Set) -> bool {
    order_next(devices, set, SystemdBootLoader::try_once)
}

/// What systemd-boot is told.
type Ask = fn(&Variables, Set) -> Result<bool, StorageError>;

fn order_next(devices: &Devices<'_>, set: Set, ask: Ask) -> bool {
    let told = tell(VARIABLES_FOLDER, set, ask, || boot_partitions(devices));
    if let Err(error) = &told {
        say(format_args!("The firmware cannot be told: {error}"));
    }
    told.is_ok()
}

fn tell<P>(folder: &str, set: Set, ask: Ask, partitions: P) -> Result<(), StorageError>
where
    P: FnOnce() -> Result<[BootPartition; 2], StorageError>,
{
    let variables = Variables::open(folder)?;
    if SystemdBootLoader::ran_in_this_boot(&variables)? {
        return ask(&variables, set).map(|_| ());
    }
    let mut loader = UefiLoader::open(folder, partitions()?)?;
    loader.set_next(Some(set)).map(|_| ())
}

fn boot_partitions(devices: &Devices<'_>) -> Result<[BootPartition; 2], StorageError> {
    let partition = |set: Set| {
        let node = devices
            .node(set.of(["boot-a", "boot-b"]))
            .unwrap_or_default();
        BootPartition::of_device(&node)
    };
    Ok([partition(Set::A)?, partition(Set::B)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::fs;
    use std::vec::Vec;
    use tempfile::TempDir;

    const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

    /// A plain folder in place of efivarfs, in which systemd-boot has left a name, or nobody has.
    fn machine(info: Option<&str>) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        if let Some(info) = info {
            let bytes: Vec<u8> = info.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let value = [&[6, 0, 0, 0], &bytes[..]].concat();
            fs::write(folder.path().join(format!("LoaderInfo-{LOADER}")), value).unwrap();
        }
        folder
    }

    fn value(folder: &TempDir, name: &str, vendor: &str) -> Option<Vec<u8>> {
        fs::read(folder.path().join(format!("{name}-{vendor}"))).ok()
    }

    fn partitions() -> Result<[BootPartition; 2], StorageError> {
        Ok([1, 2].map(|number| BootPartition {
            number,
            start_blocks: 2048,
            size_blocks: 2048,
            guid: [number as u8; 16],
        }))
    }

    #[test]
    fn systemd_boot_is_asked_where_it_ran() {
        let folder = machine(Some("systemd-boot 257.13\0"));
        let path = folder.path().to_str().unwrap();
        let asks: [(Ask, _); 2] = [
            (SystemdBootLoader::ask_once, "twinse-b.efi\0"),
            (SystemdBootLoader::try_once, "twintryb.efi\0"),
        ];
        for (ask, name) in asks {
            tell(path, Set::B, ask, || {
                panic!("its entries are no matter of the slots")
            })
            .unwrap();
            let told = value(&folder, "LoaderEntryOneShot", LOADER).unwrap();
            let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            assert_eq!(told[4..], name);
        }
        assert_eq!(value(&folder, "BootNext", GLOBAL), None);
    }

    #[test]
    fn the_boot_manager_is_told_where_it_did_not() {
        for info in [None, Some("GRUB 2.12\0")] {
            let folder = machine(info);
            let path = folder.path().to_str().unwrap();
            tell(path, Set::B, SystemdBootLoader::ask_once, partitions).unwrap();
            assert_eq!(value(&folder, "LoaderEntryOneShot", LOADER), None);
            let next = value(&folder, "BootNext", GLOBAL).unwrap();
            let entry = value(&folder, &format!("Boot{:04X}", next[4]), GLOBAL).unwrap();
            assert!(entry.windows(16).any(|found| found == [2; 16]), "boot-b");
        }
    }

    #[test]
    fn a_machine_without_such_variables_is_said() {
        let folder = machine(None);
        let absent = folder.path().join("absent");
        let told = tell(
            absent.to_str().unwrap(),
            Set::A,
            SystemdBootLoader::ask_once,
            partitions,
        );
        assert!(told.is_err());
        assert_eq!(chooser_in(absent.to_str().unwrap()), Chooser::Nobody);
    }

    #[test]
    fn who_chooses_is_seen_in_the_variables() {
        let chooser = |info| chooser_in(machine(info).path().to_str().unwrap());
        assert_eq!(chooser(None), Chooser::BootManager);
        assert_eq!(chooser(Some("systemd-boot 257.13\0")), Chooser::SystemdBoot);
    }
}
