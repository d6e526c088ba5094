//! Power cuts: before every single change of a format, with what a program that looks for file systems finds after each.

use super::{Ext4, Fat, format_boot_slot, format_root_slot};
use crate::cut;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::string::{String, ToString};
use std::{assert, assert_eq, println};
use twinseal_core::error::StorageError;

const SLOT_BYTES: u64 = 16 << 20;

fn ext4(path: &Path) -> Result<(), StorageError> {
    let new = Ext4 {
        label: "root-a",
        uuid: [9; 16],
        inodes: None,
    };
    format_root_slot(path.to_str().unwrap(), &new)
}

fn fat(path: &Path) -> Result<(), StorageError> {
    let new = Fat {
        label: "boot-a",
        number: 9,
    };
    format_boot_slot(path.to_str().unwrap(), &new)
}

/// What `blkid` finds, by looking for everything that it knows; nothing when it finds nothing.
fn found(path: &Path) -> String {
    let output = Command::new("blkid")
        .args(["-p", "-o", "value", "-s", "TYPE"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Does the work with power for so many changes over a slot that holds `before`.
fn cut_off(
    path: &Path,
    before: &[u8],
    changes: u32,
    work: fn(&Path) -> Result<(), StorageError>,
) -> bool {
    fs::write(path, before).unwrap();
    cut::after(changes, || work(path)).is_ok()
}

#[test]
fn a_cut_leaves_the_old_file_system_none_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slot");
    let made = |work: fn(&Path) -> Result<(), StorageError>| {
        let file = File::create(&path).unwrap();
        file.set_len(SLOT_BYTES).unwrap();
        work(&path).unwrap();
        fs::read(&path).unwrap()
    };
    let (old_ext4, old_fat) = (made(ext4), made(fat));
    let mut cuts = 0;
    for (old, old_type) in [(&old_ext4, "ext4"), (&old_fat, "vfat")] {
        for (work, new_type) in [(ext4 as fn(&Path) -> _, "ext4"), (fat, "vfat")] {
            let mut changes = 0;
            while !cut_off(&path, old, changes, work) {
                let expected = if changes == 0 { old_type } else { "" };
                assert_eq!(found(&path), expected, "{old_type}, {changes} changes");
                changes += 1;
                cuts += 1;
            }
            assert_eq!(found(&path), new_type);
            // Where the power went, the same again is the way on.
            assert!(!cut_off(&path, old, changes / 2, work));
            work(&path).unwrap();
            assert_eq!(found(&path), new_type);
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 20);
}
