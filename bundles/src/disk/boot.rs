//! A boot slot: FAT32 with a UKI, and a boot loader of its own if the device has one; or with nothing that could boot.
//!
//! # Invariants
//! - The name of a UKI is a short one in capitals, without long-name entries, as far as its reader lets it: the agents' renames depend
//!   on it (a rename is then one sector). A file with another name has the long name that its readers ask for.
//! - Times are those of FAT's beginning, 1980, and the volume has the number that it is given.

use std::io::{self, Cursor, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};

use super::DiskError;
use super::fat::{PLACE, Volume, entries_before};

/// A processor, as boot slots know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Its number in a PE header (PE format, "Machine Types").
    pub number: u16,
    /// File of the removable-media path (UEFI specification 2.10, section 3.5.1.1).
    removable: &'static str,
    /// Its short name, when its own is too long for one.
    removable_short: Option<&'static str>,
    /// File of systemd-boot, as `bootctl install` calls it.
    pub loader: &'static str,
}

const MACHINES: [Machine; 4] = [
    machine(0x8664, "BOOTX64.EFI", "systemd-bootx64.efi"),
    machine(0xaa64, "BOOTAA64.EFI", "systemd-bootaa64.efi"),
    Machine {
        removable_short: Some("BOOTRI~1.EFI"),
        ..machine(0x5064, "BOOTRISCV64.EFI", "systemd-bootriscv64.efi")
    },
    machine(0x01c2, "BOOTARM.EFI", "systemd-bootarm.efi"),
];

impl Machine {
    /// What the firmware boots when nobody tells it something else.
    pub(super) fn removable_media(self, content: &[u8]) -> FileIn<'_> {
        FileIn {
            path: vec![
                "EFI",
                "BOOT",
                self.removable_short.unwrap_or(self.removable),
            ],
            long: self.removable_short.map(|_| self.removable),
            content,
        }
    }
}

const fn machine(number: u16, removable: &'static str, loader: &'static str) -> Machine {
    Machine {
        number,
        removable,
        removable_short: None,
        loader,
    }
}

/// A file for a boot slot.
#[derive(Clone, Debug)]
pub(super) struct FileIn<'f> {
    /// Its path, part by part, in short names.
    pub path: Vec<&'f str>,
    /// Its long name.
    pub long: Option<&'f str>,
    /// Its bytes.
    pub content: &'f [u8],
}

/// Clusters of 512 bytes up to this size, of 4096 above: as the table of FAT's specification has it for its smallest volumes.
const SMALL_CLUSTERS_TO_BYTES: u64 = 260 << 20;

/// The machine of this number.
///
/// # Errors
/// [`DiskError::Machine`] for one whose names are not known.
pub(super) fn machine_of(number: u16) -> Result<Machine, DiskError> {
    let found = MACHINES.iter().find(|machine| machine.number == number);
    found.copied().ok_or(DiskError::Machine(number))
}

/// The bytes of a slot of `bytes` with these files. In memory: a tree of small writes, and pages that stay zeros are never touched.
pub(super) fn make(
    bytes: u64,
    volume_number: u32,
    label: &str,
    files: &[FileIn<'_>],
) -> io::Result<Vec<u8>> {
    let cluster = if bytes <= SMALL_CLUSTERS_TO_BYTES {
        512
    } else {
        4096
    };
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(cluster)
        .volume_id(volume_number)
        .volume_label(volume_label(label));
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut volume = vec![0; bytes];
    format_volume(Cursor::new(volume.as_mut_slice()), options)?;
    change(&mut volume, |root| make_names(root, files))?;
    finish_names(&mut volume, files)
        .ok_or_else(|| io::Error::other("the volume is not laid out as expected"))?;
    change(&mut volume, |root| fill(root, files))?;
    Ok(volume)
}

type Directory<'d, 'v> = fatfs::Dir<'d, Cursor<&'v mut [u8]>>;

fn change<'v, F>(volume: &'v mut [u8], work: F) -> io::Result<()>
where
    F: FnOnce(&Directory<'_, 'v>) -> io::Result<()>,
{
    let volume = FileSystem::new(Cursor::new(volume), FsOptions::new())?;
    work(&volume.root_dir())?;
    // Counts what is free, so that it stands in the volume.
    volume.stats()?;
    volume.unmount()
}

/// Makes the directories and empty files; before a file with a long name, as many more as its long name takes entries.
fn make_names(root: &Directory<'_, '_>, files: &[FileIn<'_>]) -> io::Result<()> {
    for (index, file) in files.iter().enumerate() {
        let Some((name, directories)) = file.path.split_last() else {
            continue;
        };
        let mut directory = root.clone();
        for outer in directories {
            directory = directory.create_dir(outer)?;
        }
        for number in 0..file.long.map_or(0, entries_before) {
            directory.create_file(&format!("{PLACE}{index}.{number}"))?;
        }
        directory.create_file(name)?;
    }
    Ok(())
}

fn finish_names(volume: &mut [u8], files: &[FileIn<'_>]) -> Option<()> {
    let mut volume = Volume::new(volume)?;
    volume.mend_parents()?;
    for file in files {
        if let Some(long) = file.long {
            volume.give_long_name(&file.path, long)?;
        }
    }
    Some(())
}

fn fill(root: &Directory<'_, '_>, files: &[FileIn<'_>]) -> io::Result<()> {
    for file in files {
        let mut written = root.open_file(&file.path.join("/"))?;
        written.write_all(file.content)?;
        written.flush()?;
    }
    Ok(())
}

/// A label as FAT stores it: in capitals, filled with spaces.
fn volume_label(label: &str) -> [u8; 11] {
    let mut bytes = [b' '; 11];
    bytes
        .iter_mut()
        .zip(label.bytes())
        .for_each(|(to, from)| *to = from.to_ascii_uppercase());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// By mtools, which is nobody's of ours.
    #[test]
    fn the_firmware_of_every_machine_finds_its_file() {
        for machine in MACHINES {
            let file = machine.removable_media(b"uki");
            let volume = make(34 << 20, 7, "boot-a", &[file]).unwrap();
            let stored = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(stored.path(), volume).unwrap();
            let name = format!("::/EFI/BOOT/{}", machine.removable);
            let copied = Command::new("mcopy")
                .arg("-i")
                .arg(stored.path())
                .args([&name, "-"])
                .output()
                .unwrap();
            assert_eq!(copied.stdout, b"uki", "{name}: {copied:?}");
        }
    }
}
