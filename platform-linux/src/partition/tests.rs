//! A folder in place of sysfs, and a disk image whose GPT `sfdisk` wrote.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const GUIDS: [&str; 2] = [
    "12345678-9abc-def0-1122-334455667788",
    "AAAAAAAA-0000-0000-0000-000000000002",
];

/// A folder with `sys` and `dev` as the kernel shows a disk with two partitions; the kernel says no GUID.
struct Shown {
    folder: TempDir,
}

impl Shown {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("sys/class/block")).unwrap();
        fs::create_dir(folder.path().join("dev")).unwrap();
        let shown = Self { folder };
        shown.add_disk("vda");
        shown.add("vda1", 1, 2048, 4096, "boot-a");
        shown.add("vda2", 2, 6144, 2048, "boot-b");
        shown.write_disk();
        shown
    }

    fn add_disk(&self, name: &str) {
        let root = self.folder.path();
        let disk = root.join("sys/devices/pci/block").join(name);
        fs::create_dir_all(disk.join("queue")).unwrap();
        fs::write(disk.join("queue/logical_block_size"), "512\n").unwrap();
        let uevent = std::format!("DEVNAME={name}\nDEVTYPE=disk\n");
        fs::write(disk.join("uevent"), uevent).unwrap();
        let link = root.join("sys/class/block").join(name);
        symlink(std::format!("../../devices/pci/block/{name}"), link).unwrap();
    }

    /// A partition of the disk whose name its own name begins with.
    fn add(&self, name: &str, number: u32, start: u64, size: u64, label: &str) {
        let root = self.folder.path();
        let disk = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let partition = root.join("sys/devices/pci/block").join(disk).join(name);
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("partition"), std::format!("{number}\n")).unwrap();
        fs::write(partition.join("start"), std::format!("{start}\n")).unwrap();
        fs::write(partition.join("size"), std::format!("{size}\n")).unwrap();
        let uevent = std::format!("MAJOR=254\nDEVNAME={name}\nPARTN={number}\nPARTNAME={label}\n");
        fs::write(partition.join("uevent"), uevent).unwrap();
        let link = root.join("sys/class/block").join(name);
        symlink(std::format!("../../devices/pci/block/{disk}/{name}"), link).unwrap();
    }

    fn disk(&self) -> std::path::PathBuf {
        self.folder.path().join("dev/vda")
    }

    /// The disk, partitioned by the tool that others use.
    fn write_disk(&self) {
        let disk = fs::File::create(self.disk()).unwrap();
        disk.set_len(8 << 20).unwrap();
        let script = std::format!(
            "label: gpt\nstart=2048, size=4096, uuid={}\nstart=6144, size=2048, uuid={}\n",
            GUIDS[0],
            GUIDS[1]
        );
        let mut sfdisk = Command::new("sfdisk")
            .args(["--quiet", self.disk().to_str().unwrap()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sfdisk (package fdisk) is needed");
        std::io::Write::write_all(&mut sfdisk.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
    }

    fn with<T>(&self, look: impl FnOnce(&BlockDevices<'_>) -> T) -> T {
        let sys = self.folder.path().join("sys");
        let dev = self.folder.path().join("dev");
        look(&BlockDevices::below(
            sys.to_str().unwrap(),
            dev.to_str().unwrap(),
        ))
    }
}

#[test]
fn a_guid_is_stored_with_three_fields_turned() {
    let stored = [
        0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
        0x88,
    ];
    assert_eq!(guid_of_text(GUIDS[0].as_bytes()), Some(stored));
    assert_eq!(
        guid_of_text(GUIDS[0].to_uppercase().as_bytes()),
        Some(stored)
    );
    for wrong in [
        "",
        "12345678-9abc-def0-1122-33445566778",
        "12345678-9abc-def0-1122-33445566778x",
    ] {
        assert_eq!(guid_of_text(wrong.as_bytes()), None, "{wrong}");
    }
    assert_eq!(
        guid_of_text("1234567--9abc-def0-1122-334455667788".as_bytes()),
        None
    );
}

#[test]
fn other_disks_have_another_fingerprint() {
    let shown = Shown::new();
    let look = || shown.with(|devices| devices.fingerprint()).unwrap();
    let before = look();
    assert_eq!(look(), before);
    let stick = shown.folder.path().join("sys/class/block/sda");
    fs::create_dir(&stick).unwrap();
    assert_ne!(look(), before);
    fs::remove_dir(&stick).unwrap();
    assert_eq!(look(), before);
    let nowhere = BlockDevices::below("/nowhere", "/dev");
    assert!(nowhere.fingerprint().is_err());
}

#[test]
fn partitions_are_found_by_label_and_by_guid() {
    let shown = Shown::new();
    let found = shown
        .with(|devices| devices.by_label("boot-b"))
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.name.as_str(), found.disk.as_str(), found.number),
        ("vda2", "vda", 2)
    );
    assert_eq!(
        (found.start_units, found.size_units, found.block_bytes),
        (6144, 2048, 512)
    );
    assert_eq!(found.guid, None, "this kernel does not say it");
    assert_eq!(shown.with(|devices| devices.by_label("data")), Ok(None));
    let guid = guid_of_text(GUIDS[0].as_bytes()).unwrap();
    let found = shown
        .with(|devices| devices.by_guid(&guid))
        .unwrap()
        .unwrap();
    assert_eq!((found.label.as_str(), found.guid), ("boot-a", Some(guid)));
    assert_eq!(shown.with(|devices| devices.by_guid(&[7; 16])), Ok(None));
}

#[test]
fn the_kernels_own_word_on_a_guid_is_taken() {
    let shown = Shown::new();
    let uevent = shown.folder.path().join("sys/class/block/vda2/uevent");
    let text = std::format!(
        "DEVNAME=vda2\nPARTNAME=x\nPARTUUID={}\n",
        "0".repeat(8) + &GUIDS[0][8..]
    );
    fs::write(uevent, text).unwrap();
    let guid = guid_of_text(("0".repeat(8) + &GUIDS[0][8..]).as_bytes()).unwrap();
    let found = shown
        .with(|devices| devices.by_guid(&guid))
        .unwrap()
        .unwrap();
    assert_eq!(found.name.as_str(), "vda2");
}

#[test]
fn a_label_that_two_partitions_have_names_neither() {
    let shown = Shown::new();
    shown.add("vda3", 3, 8192, 2048, "boot-a");
    assert_eq!(shown.with(|devices| devices.by_label("boot-a")), Ok(None));
}

#[test]
fn a_label_on_another_disk_takes_nothing_away() {
    let shown = Shown::new();
    shown.add("vda3", 3, 8192, 2048, "data");
    shown.add_disk("sda");
    shown.add("sda1", 1, 2048, 4096, "data");
    shown.add("sda2", 2, 6144, 2048, "spare");
    let name = |disk: Option<&str>, label: &str| {
        let found = shown.with(|devices| devices.by_label_on(disk, label));
        found.unwrap().map(|partition| partition.name)
    };
    assert_eq!(name(None, "data"), None, "which of the two nobody said");
    assert_eq!(name(Some("vda"), "data").as_deref(), Some("vda3"));
    assert_eq!(name(Some("sda"), "data").as_deref(), Some("sda1"));
    assert_eq!(name(Some("vda"), "spare"), None);
    assert_eq!(name(None, "spare").as_deref(), Some("sda2"));
    shown.add("vda4", 4, 10240, 2048, "data");
    assert_eq!(name(Some("vda"), "data"), None, "two on one disk");
}

#[test]
fn a_table_that_contradicts_the_kernel_is_not_believed() {
    let shown = Shown::new();
    let mut partition = shown
        .with(|devices| devices.by_label("boot-a"))
        .unwrap()
        .unwrap();
    let disk = || fs::File::open(shown.disk()).unwrap();
    assert!(guid_in_table(disk(), &partition).unwrap().is_some());
    partition.start_units += 1;
    assert_eq!(guid_in_table(disk(), &partition), Ok(None));
    partition.start_units -= 1;
    for number in [0, 3, 129, u32::MAX] {
        partition.number = number;
        assert_eq!(
            guid_in_table(disk(), &partition),
            Ok(None),
            "entry {number}"
        );
    }
    partition.number = 1;
    let image = fs::read(shown.disk()).unwrap();
    // The magic, the place of the table, and the size of an entry.
    for position in [512, 512 + 79, 512 + 87] {
        let mut wild = image.clone();
        wild[position] = 0xff;
        fs::write(shown.disk(), &wild).unwrap();
        assert!(
            !matches!(guid_in_table(disk(), &partition), Ok(Some(_))),
            "byte {position}"
        );
    }
    fs::write(shown.disk(), &image[..1000]).unwrap();
    assert_eq!(guid_in_table(disk(), &partition), Err(StorageFault::Short));
}

#[test]
fn what_is_no_partition_is_said() {
    let shown = Shown::new();
    let disk = shown.disk();
    let error = shown.with(|devices| devices.partition_of(disk.to_str().unwrap()));
    assert_eq!(error, Err(StorageFault::Code(Errno::NOTBLK.raw_os_error())));
}
