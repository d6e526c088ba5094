//! Slots that are named by partition label, found on the disk that the system runs from.
//!
//! The default slots are named as udev's links are (`/dev/disk/by-partlabel/boot-a`). The kernel is asked for the label instead:
//! early in a boot, and on an appliance without udev, there are no links, and where a stick has a partition of the same label the
//! link leads to whichever of the two udev met last.
//!
//! # Invariants
//! - Once the initramfs has left the running set's root slot mounted, a label counts on that slot's disk alone, as it does in
//!   the initramfs. Without one, a label counts that one partition of all disks has.
//! - A label that no such partition has, or that two have, becomes a path that leads nowhere and names it, so that the error of
//!   whoever opens it does too.

use crate::config::Description;
use crate::health::running_root_of;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use twinseal_platform_linux::partition::{BlockDevices, DeviceName};

/// Where udev puts its links.
const LINKS: &str = "/dev/disk/by-partlabel";

/// Gives every slot that is named by a label the kernel's name of its partition.
pub fn resolve(description: &mut Description) {
    let devices = BlockDevices::SYSTEM;
    let disk = running_disk(description, &devices);
    let sets = description.sets.iter_mut();
    let set_slots = sets.flat_map(|pair| [&mut pair.a, &mut pair.b]);
    let slots = set_slots.flat_map(|slots| [&mut slots.boot, &mut slots.root]);
    let images = description
        .slots
        .values_mut()
        .flat_map(|pair| [&mut pair.a, &mut pair.b]);
    for path in slots.chain(images).chain([&mut description.record]) {
        if let Some(node) = node(path, &devices, disk.as_deref()) {
            *path = node;
        }
    }
}

/// The disk of the running set's root slot, where the initramfs left it mounted.
fn running_disk(description: &Description, devices: &BlockDevices<'_>) -> Option<DeviceName> {
    let root = fs::metadata(running_root_of(&description.running)?).ok()?;
    let partition = devices.numbered(root.dev()).unwrap_or(None)?;
    Some(partition.disk)
}

/// The path that stands for one of udev's links by label; `None` when it is none, or the kernel shows no partitions.
fn node(path: &Path, devices: &BlockDevices<'_>, disk: Option<&str>) -> Option<PathBuf> {
    let label = path.strip_prefix(LINKS).ok()?.to_str()?;
    if label.is_empty() {
        return None;
    }
    let found = devices.by_label_on(disk, label).ok()?;
    Some(match found {
        Some(partition) => PathBuf::from(devices.node(&partition).as_str()),
        // Nothing is below a disk's own node, and nothing has the other name.
        None => Path::new("/dev")
            .join(disk.unwrap_or("no-one-partition-is"))
            .join(label),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    /// What the kernel shows of these partitions: disk, name, label.
    fn shown(partitions: &[(&str, &str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("class/block");
        fs::create_dir_all(&class).unwrap();
        for (disk, name, label) in partitions {
            let disk_folder = folder.path().join("block").join(disk);
            let part = disk_folder.join(name);
            fs::create_dir_all(disk_folder.join("queue")).unwrap();
            fs::create_dir_all(&part).unwrap();
            let has = |file: &str, text: &str| fs::write(part.join(file), text).unwrap();
            has("partition", "3\n");
            has("start", "2048\n");
            has("size", "4096\n");
            has("uevent", &format!("DEVNAME={name}\nPARTNAME={label}\n"));
            has("../queue/logical_block_size", "512\n");
            has("../uevent", &format!("DEVNAME={disk}\nDEVTYPE=disk\n"));
            std::os::unix::fs::symlink(&part, class.join(name)).unwrap();
        }
        folder
    }

    /// The path that the slot with this label gets when the system runs from this disk.
    fn found(sys: &TempDir, disk: Option<&str>, label: &str) -> PathBuf {
        let devices = BlockDevices::below(sys.path().to_str().unwrap(), "/dev");
        node(&link(label), &devices, disk).unwrap()
    }

    fn link(label: &str) -> PathBuf {
        Path::new(LINKS).join(label)
    }

    #[test]
    fn a_label_is_found_without_udev() {
        let sys = shown(&[("vda", "vda3", "boot-a"), ("sda", "sda1", "music")]);
        for disk in [Some("vda"), None] {
            assert_eq!(found(&sys, disk, "boot-a"), Path::new("/dev/vda3"));
        }
        let devices = BlockDevices::below(sys.path().to_str().unwrap(), "/dev");
        for other in ["/srv/boot-a", "/dev/vda3", "/dev/disk/by-partlabel"] {
            assert_eq!(node(Path::new(other), &devices, Some("vda")), None);
        }
    }

    #[test]
    fn the_disk_that_the_system_runs_from_has_its_slots() {
        let sys = shown(&[
            ("sda", "sda1", "boot-a"),
            ("vda", "vda3", "boot-a"),
            ("sda", "sda2", "boot-b"),
        ]);
        assert_eq!(found(&sys, Some("vda"), "boot-a"), Path::new("/dev/vda3"));
        assert_eq!(found(&sys, Some("sda"), "boot-a"), Path::new("/dev/sda1"));
        assert_eq!(
            found(&sys, None, "boot-a"),
            Path::new("/dev/no-one-partition-is/boot-a"),
            "nobody says which of the two"
        );
        assert_eq!(
            found(&sys, Some("vda"), "boot-b"),
            Path::new("/dev/vda/boot-b"),
            "a slot that is lost is not looked for on a stick"
        );
    }

    #[test]
    fn a_label_twice_on_the_disk_names_neither() {
        let sys = shown(&[("vda", "vda1", "boot-a"), ("vda", "vda2", "boot-a")]);
        assert_eq!(
            found(&sys, Some("vda"), "boot-a"),
            Path::new("/dev/vda/boot-a")
        );
    }

    #[test]
    fn a_kernel_that_shows_nothing_leaves_udevs_link() {
        let nothing = tempfile::tempdir().unwrap();
        let devices = BlockDevices::below(nothing.path().to_str().unwrap(), "/dev");
        assert_eq!(node(&link("boot-a"), &devices, None), None);
    }
}
