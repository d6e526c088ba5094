//! Slots that are named by partition label, found without udev.
//!
//! The default slots are udev's links (`/dev/disk/by-partlabel/boot-a`). Early in a boot, and on an appliance without udev, the
//! links are not there while the partitions are: the kernel is asked for the label then.
//!
//! # Invariants
//! - A path that exists is taken as it is. A label that no partition has, or that two have, stays the path that it was, so that
//!   the error of whoever opens it names it.

use crate::config::Description;
use std::path::{Path, PathBuf};
use twinseal_platform_linux::partition::BlockDevices;

/// Where udev puts its links.
const LINKS: &str = "/dev/disk/by-partlabel";

/// Gives every slot that is named by a label, and has no link, the kernel's name of its partition.
pub fn resolve(description: &mut Description) {
    let sets = description.sets.iter_mut();
    let set_slots = sets.flat_map(|pair| [&mut pair.a, &mut pair.b]);
    let slots = set_slots.flat_map(|slots| [&mut slots.boot, &mut slots.root]);
    let images = description
        .slots
        .values_mut()
        .flat_map(|pair| [&mut pair.a, &mut pair.b]);
    for path in slots.chain(images).chain([&mut description.record]) {
        if let Some(node) = node(path, &BlockDevices::SYSTEM) {
            *path = node;
        }
    }
}

/// The node of the partition that a missing link stands for.
fn node(path: &Path, devices: &BlockDevices<'_>) -> Option<PathBuf> {
    let label = path.strip_prefix(LINKS).ok()?.to_str()?;
    if path.exists() {
        return None;
    }
    let partition = devices.by_label(label).ok()??;
    Some(PathBuf::from(devices.node(&partition).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_missing_link_is_found_by_its_label() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path().to_str().unwrap();
        let part = folder.path().join("block/vda/vda3");
        fs::create_dir_all(&part).unwrap();
        fs::write(
            part.join("uevent"),
            "MAJOR=254\nMINOR=3\nDEVNAME=vda3\nDEVTYPE=partition\nPARTN=3\nPARTNAME=boot-a\n",
        )
        .unwrap();
        for (name, text) in [
            ("partition", "3\n"),
            ("start", "2048\n"),
            ("size", "4096\n"),
        ] {
            fs::write(part.join(name), text).unwrap();
        }
        let disk = folder.path().join("block/vda");
        fs::create_dir(disk.join("queue")).unwrap();
        fs::write(disk.join("queue/logical_block_size"), "512\n").unwrap();
        fs::write(disk.join("uevent"), "DEVNAME=vda\nDEVTYPE=disk\n").unwrap();
        let class = folder.path().join("class/block");
        fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink("../../block/vda/vda3", class.join("vda3")).unwrap();
        let devices = BlockDevices::below(sys, "/dev");
        let link = |label: &str| PathBuf::from(LINKS).join(label);
        assert_eq!(
            node(&link("boot-a"), &devices),
            Some(PathBuf::from("/dev/vda3"))
        );
        assert_eq!(node(&link("boot-b"), &devices), None);
        assert_eq!(node(Path::new("/srv/boot-a"), &devices), None);
    }
}
