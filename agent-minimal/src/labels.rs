//! Slots that are named by partition label, found on the disk that the system runs from.
//!
//! # Invariants
//! - Once the initramfs has left the running set's root slot mounted, a label counts on that slot's disk alone. Without one, a label
//!   counts that one partition of all disks has.
//! - A label that no such partition has, or that two have, becomes a path that leads nowhere and names it, so that the error of
//!   whoever opens it does too.

use crate::description::Description;
use crate::files::{self, OwnPath};
use twinseal_platform_linux::calls::stat;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::partition::{BlockDevices, DeviceName};

/// Where udev puts its links to partitions by label.
const LINKS: &str = "/dev/disk/by-partlabel/";

/// Folder with the running set's root slot, beside the file that says which set runs.
const RUNNING_ROOT: &str = "root-slot";

/// Gives every slot that is named by a label the kernel's name of its partition.
pub fn resolve(description: &mut Description) {
    let devices = BlockDevices::SYSTEM;
    let disk = running_disk(&description.running, &devices);
    let sets = description.sets.iter_mut().flatten();
    let slots = sets.flat_map(|slots| [&mut slots.boot, &mut slots.root]);
    let images = description.images.iter_mut().flat_map(|pair| &mut pair.of);
    for path in slots.chain(images).chain([&mut description.record]) {
        if let Some(node) = node(path, &devices, disk.as_deref()) {
            *path = node;
        }
    }
}

/// The disk of the running set's root slot, where the initramfs left it mounted.
fn running_disk(running: &str, devices: &BlockDevices<'_>) -> Option<DeviceName> {
    let folder = running.rsplit_once('/').map_or("", |(folder, _)| folder);
    let root: OwnPath = join(&[folder, "/", RUNNING_ROOT]).ok()?;
    let objects: OwnPath = join(&[&root, "/composefs/objects"]).ok()?;
    if !files::is_directory(&objects) {
        return None;
    }
    let device = stat(root.as_str()).ok()?.st_dev;
    let partition = devices.numbered(device).unwrap_or(None)?;
    Some(partition.disk)
}

/// The path that stands for one of udev's links by label; `None` when it is none, or the kernel shows no partitions.
fn node(path: &str, devices: &BlockDevices<'_>, disk: Option<&str>) -> Option<OwnPath> {
    let label = path.strip_prefix(LINKS)?;
    let found = devices.by_label_on(disk, label).ok()?;
    let node = match found {
        Some(partition) => join(&[&devices.node(&partition)]),
        // Nothing is below a disk's own node, and nothing has the other name.
        None => join(&["/dev/", disk.unwrap_or("no-one-partition-is"), "/", label]),
    };
    node.ok()
}
