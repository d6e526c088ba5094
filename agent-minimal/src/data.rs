//! The data partition, or memory that stands for it.
//!
//! # Invariants
//! - A device that cannot have its data still starts. What stands for them is gone with the power, and a mark in `/run` says so:
//!   who reads the boot record there must not take "no record" for the device's own word.

use crate::console::say;
use crate::devices::{Devices, mount_ext4};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::path::Path;

/// Where the data are mounted; `/run` moves with it into the system.
pub const DATA: &str = "/run/twinseal/data";

/// There, and empty, when memory stands for the data partition.
const VOLATILE: &str = "/run/twinseal/data-volatile";

/// Mounts the data partition, or memory in its place.
pub fn mount_data(devices: &Devices<'_>) {
    let mounted = match devices.node("data") {
        Some(node) => mount_ext4(&node, Path::new(DATA), MountFlags::NOATIME),
        None => Err(Errno::NODEV),
    };
    if let Err(errno) = mounted {
        say(format_args!(
            "The data partition cannot be mounted ({errno}); /var and /etc are lost with the power."
        ));
        stand_in();
    }
}

/// Mounts memory where the data would be, over what is there, and marks that.
fn stand_in() {
    mark(VOLATILE);
    let _ = fs::create_dir_all(DATA);
    if let Err(errno) = mount("tmpfs", DATA, "tmpfs", MountFlags::empty(), None) {
        say(format_args!("No memory for /var either: {errno}"));
    }
}

/// Makes an empty file that says something to the system.
pub fn mark(path: &str) {
    let folder = Path::new(path).parent().map_or(Ok(()), fs::create_dir_all);
    if let Err(error) = folder.and_then(|()| fs::write(path, "")) {
        say(format_args!("{path} cannot be made: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_an_empty_file_and_its_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twinseal/data-volatile");
        mark(path.to_str().unwrap());
        mark(path.to_str().unwrap());
        assert_eq!(fs::read(path).unwrap(), b"");
    }
}
