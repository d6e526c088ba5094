//! New file systems for slots, checked by the programs that own their formats. What needs root is in `devices.rs`.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::noise;
use tempfile::TempDir;
use twinseal_core::error::StorageFault;
use twinseal_platform_linux::format::{Ext4, Fat, format_boot_slot, format_root_slot};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const UUID: [u8; 16] = *b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\x11\x22\x33\x44\x55\x66\x77\x88";

/// A plain file of a size, with old bytes where a file system begins.
struct Slot {
    path: PathBuf,
    _directory: TempDir,
}

impl Slot {
    fn new(bytes: u64) -> Self {
        Self::below(&std::env::temp_dir(), bytes)
    }

    fn below(folder: &Path, bytes: u64) -> Self {
        let directory = TempDir::new_in(folder).unwrap();
        let path = directory.path().join("slot");
        let file = File::create(&path).unwrap();
        file.set_len(bytes).unwrap();
        let old = noise(7, bytes.min(MIB) as usize);
        file.write_all_at(&old, 0).unwrap();
        Self {
            path,
            _directory: directory,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .arg(&self.path)
            .output()
            .unwrap()
    }

    /// What a program prints that has to find nothing wrong.
    fn well(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}{errors}");
        said
    }

    fn ext4(&self, inodes: Option<u32>) {
        format_root_slot(self.path(), &ext4(inodes)).unwrap();
    }
}

const fn ext4(inodes: Option<u32>) -> Ext4<'static> {
    Ext4 {
        label: "root-b",
        uuid: UUID,
        inodes,
    }
}

const fn fat() -> Fat<'static> {
    Fat {
        label: "boot-a",
        number: 0x1234_abcd,
    }
}

/// The value of a line of `dumpe2fs -h`.
fn field(said: &str, name: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    let line = line.and_then(|line| line.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name}: {said}"))
        .trim()
        .to_owned()
}

#[test]
fn ext4_of_every_size_is_clean() {
    for bytes in [
        16 * MIB,
        16 * MIB + 511,
        33 * MIB + 4095,
        128 * MIB - 4 * KIB,
        128 * MIB,
        // A last group that is left out, the least that is kept, and one that is nearly whole.
        128 * MIB + 4 * KIB,
        129 * MIB,
        256 * MIB - 4 * KIB,
        256 * MIB,
        384 * MIB + 12 * MIB,
        (3 * 128 + 1) * MIB + 333,
        50 * 128 * MIB,
        1024 * GIB,
        16 * 1024 * GIB - 4 * KIB,
    ] {
        let slot = Slot::new(bytes);
        slot.ext4(None);
        // A terabyte's bitmaps take e2fsck minutes where nothing is written.
        if bytes <= 1024 * GIB {
            slot.well("e2fsck", &["-f", "-n"]);
        }
        let said = slot.well("dumpe2fs", &["-h"]);
        let blocks: u64 = field(&said, "Block count").parse().unwrap();
        assert!(blocks * 4 * KIB <= bytes, "{bytes}: {blocks}");
        assert!(bytes - blocks * 4 * KIB < 10 * MIB, "{bytes}: {blocks}");
        assert_eq!(field(&said, "Filesystem volume name"), "root-b");
    }
}

#[test]
fn ext4_is_like_that_of_a_disk_image() {
    let slot = Slot::new(300 * MIB);
    slot.ext4(None);
    let said = slot.well("dumpe2fs", &["-h"]);
    let features: Vec<String> = field(&said, "Filesystem features")
        .split(' ')
        .map(str::to_owned)
        .collect();
    let source = include_str!("../../bundles/src/disk/ext4.rs").replace("\\\n", "");
    let wanted = source
        .split_once("const FEATURES: &str = \"none,")
        .unwrap()
        .1;
    let wanted = wanted.split_once("\";").unwrap().0;
    for feature in wanted.split(',').map(str::trim).chain(["verity"]) {
        let is_there = features.iter().any(|found| found == feature);
        assert!(is_there || feature == "flex_bg", "{feature}: {said}");
    }
    assert_eq!(
        field(&said, "Filesystem UUID"),
        "12345678-9abc-def0-1122-334455667788"
    );
    assert_eq!(field(&said, "Inode size"), "256");
    assert_eq!(field(&said, "Total journal size"), "16M");
    assert_eq!(field(&said, "Inode count"), "19200", "one for each 16 KiB");
}

#[test]
fn ext4_has_the_inodes_that_are_asked_for() {
    for (bytes, inodes) in [(16 * MIB, 1), (64 * MIB, 40_000), (300 * MIB, 98_304)] {
        let slot = Slot::new(bytes);
        let error = format_root_slot(slot.path(), &ext4(Some(inodes)));
        if inodes > 32_768 && bytes < 128 * MIB {
            assert_eq!(error.unwrap_err().fault, StorageFault::Full);
            continue;
        }
        error.unwrap();
        slot.well("e2fsck", &["-f", "-n"]);
        let said = slot.well("dumpe2fs", &["-h"]);
        let count: u32 = field(&said, "Inode count").parse().unwrap();
        assert!(count >= inodes, "{count} of {inodes}");
    }
}

#[test]
fn fat_of_every_size_is_clean() {
    for (bytes, kind) in [
        (4 * MIB, "FAT16"),
        (16 * MIB + 511, "FAT16"),
        // Too many clusters of one sector for FAT16, too few for FAT32.
        (32 * MIB + 500 * KIB, "FAT16"),
        (34 * MIB, "FAT32"),
        (64 * MIB, "FAT32"),
        (260 * MIB, "FAT32"),
        (261 * MIB, "FAT32"),
        (4 * GIB, "FAT32"),
        (6 * GIB, "FAT32"),
    ] {
        let slot = Slot::new(bytes);
        format_boot_slot(slot.path(), &fat()).unwrap();
        slot.well("fsck.fat", &["-n"]);
        let said = slot.well("minfo", &["-i"]);
        assert!(
            said.contains(&format!("disk type=\"{kind}   \"")),
            "{bytes}: {said}"
        );
        let said = slot.well("mdir", &["-i"]);
        assert!(said.contains("BOOT-A"), "{said}");
        assert!(said.contains("1234-ABCD"), "{said}");
    }
}

/// By mtools: not every kernel that tests run on has FAT.
#[test]
fn fat_holds_files_to_its_last_cluster() {
    for bytes in [8 * MIB, 40 * MIB] {
        let slot = Slot::new(bytes);
        format_boot_slot(slot.path(), &fat()).unwrap();
        let content = slot.path.with_file_name("content");
        let mut size = bytes / 2;
        let mut files = 0;
        while size >= 256 {
            fs::write(&content, noise(files, size as usize)).unwrap();
            let copied = Command::new("mcopy")
                .arg("-i")
                .args([&slot.path, &content])
                .arg(format!("::/FILE{files}"))
                .output()
                .unwrap();
            if copied.status.success() {
                files += 1;
            } else {
                let _ = Command::new("mdel")
                    .arg("-i")
                    .arg(&slot.path)
                    .arg(format!("::/FILE{files}"))
                    .output();
                size /= 2;
            }
        }
        let said = slot.well("fsck.fat", &["-n", "-v"]);
        let line = said.lines().last().unwrap().to_owned();
        let numbers = line
            .rsplit_once(", ")
            .unwrap()
            .1
            .strip_suffix(" clusters")
            .unwrap();
        let (used, all) = numbers.split_once('/').unwrap();
        assert!(
            all.parse::<u64>().unwrap() - used.parse::<u64>().unwrap() < 2,
            "{line}"
        );
        assert!(files > 5, "{files}");
    }
}

#[test]
fn a_slot_that_is_too_small_keeps_its_bytes() {
    let ext4_sizes = [0, 512, 4 * KIB, 4 * MIB];
    let fat_sizes = [0, 512, 64 * KIB, 2 * MIB];
    for (ext4_bytes, fat_bytes) in ext4_sizes.into_iter().zip(fat_sizes) {
        let (root, boot) = (Slot::new(ext4_bytes), Slot::new(fat_bytes));
        let before = [&root, &boot].map(|slot| fs::read(&slot.path).unwrap());
        let error = format_root_slot(root.path(), &ext4(None)).unwrap_err();
        assert_eq!(error.fault, StorageFault::Full);
        let error = format_boot_slot(boot.path(), &fat()).unwrap_err();
        assert_eq!(error.fault, StorageFault::Full);
        assert_eq!(
            [&root, &boot].map(|slot| fs::read(&slot.path).unwrap()),
            before
        );
    }
}

#[test]
fn a_slot_that_is_not_there_is_not_made() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("slot");
    assert!(format_root_slot(path.to_str().unwrap(), &ext4(None)).is_err());
    assert!(format_boot_slot(path.to_str().unwrap(), &fat()).is_err());
    assert!(!path.exists());
}

/// On a file system that cannot make zeros by itself (tmpfs) they are written.
#[test]
fn what_is_made_follows_from_the_description() {
    let zeros = |folder: &Path| {
        let slot = Slot::below(folder, 64 * MIB);
        let file = File::options().write(true).open(&slot.path).unwrap();
        file.set_len(0).unwrap();
        file.set_len(64 * MIB).unwrap();
        slot
    };
    for make in [
        |path: &str| format_root_slot(path, &ext4(None)),
        |path: &str| format_boot_slot(path, &fat()),
    ] {
        let slots = [zeros(&std::env::temp_dir()), zeros(Path::new("/dev/shm"))];
        let [one, other] = slots.each_ref().map(|slot| {
            make(slot.path()).unwrap();
            fs::read(&slot.path).unwrap()
        });
        assert!(one == other);
    }
}
