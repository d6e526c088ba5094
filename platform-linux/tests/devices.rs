//! Real block devices and file systems, on loop devices.

mod support;

use std::path::Path;
use std::process::Command;
use support::*;
use tempfile::TempDir;
use twinseal_core::error::{StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::{RecordStore, Storage};
use twinseal_core::wire::index::Role;
use twinseal_platform_linux::format::{Ext4, format_root_slot};
use twinseal_platform_linux::media::{FileSystem, Medium, newest_bundle};
use twinseal_platform_linux::partition::BlockDevices;
use twinseal_platform_linux::partition_table::{Repaired, TableCopy, keep_spares, repair};
use twinseal_platform_linux::{
    FileRecordStore, ImageSlot, LinuxConfig, LinuxStorage, Mounted, SetPaths,
};

const MIB: u64 = 1024 * 1024;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device over a file; gone when dropped.
struct Loop {
    device: String,
    _file: TempDir,
}

impl Loop {
    fn new(bytes: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("medium");
        std::fs::File::create(&file)
            .and_then(|file| file.set_len(bytes))
            .unwrap();
        let device = run(
            "losetup",
            &["--find", "--show", "--partscan", file.to_str().unwrap()],
        );
        Self {
            device,
            _file: directory,
        }
    }

    fn ext4(bytes: u64) -> Self {
        let this = Self::new(bytes);
        run(
            "mkfs.ext4",
            &["-q", "-b", "4096", "-O", "^has_journal", &this.device],
        );
        this
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .args(["--detach", &self.device])
            .status();
    }
}

fn mount<'p>(medium: &Loop, at: &'p Path) -> Mounted<'p> {
    let types = ["vfat", "ext4"];
    Mounted::mount(
        &medium.device,
        at.to_str().unwrap(),
        &types,
        false,
        StorageObject::RootSlot,
    )
    .unwrap()
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn an_image_goes_to_a_device_and_only_to_a_free_one() {
    let medium = Loop::ext4(8 * MIB);
    let other = Loop::new(4 * MIB);
    let slots = Slots::new();
    let elsewhere = slots.path("a/boot");
    let bytes = noise(1, 3_000_001);
    let image = blob(Role::Image, &bytes);
    slots.with(|config| {
        let images = [ImageSlot {
            name: "fpga",
            running: &other.device,
            target: &medium.device,
        }];
        let mut storage = LinuxStorage::open(LinuxConfig {
            images: &images,
            ..config
        })
        .unwrap();
        assert_eq!(storage.image_slot_bytes("fpga").unwrap(), Some(8 * MIB));
        let mounted = mount(&medium, &elsewhere);
        let busy = storage.open(&image, &manifest(1)).unwrap_err();
        assert_eq!(
            (busy.object, busy.fault),
            (StorageObject::ImageSlot, StorageFault::Busy)
        );
        mounted.unmount().unwrap();
        put(&mut storage, Role::Image, &bytes);
        let large = storage.open(
            &blob(Role::Image, &noise(2, 8 * MIB as usize + 1)),
            &manifest(1),
        );
        assert_eq!(large.unwrap_err().fault, StorageFault::Full);
        let twice = [ImageSlot {
            name: "fpga",
            running: &medium.device,
            target: &medium.device,
        }];
        assert!(
            LinuxStorage::open(LinuxConfig {
                images: &twice,
                ..config
            })
            .is_err()
        );
    });
    assert_eq!(std::fs::read(&medium.device).unwrap()[..bytes.len()], bytes);
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn slots_are_file_systems_of_their_own() {
    let (root, boot) = (Loop::ext4(16 * MIB), Loop::ext4(8 * MIB));
    let slots = Slots::new();
    let (root_path, boot_path) = (slots.path("b/root"), slots.path("b/boot"));
    let bytes = noise(3, 100_000);
    {
        let _mounted = [mount(&root, &root_path), mount(&boot, &boot_path)];
        slots.prepared(1, |storage| {
            let space = storage.space().unwrap();
            assert!(space.root_bytes.unwrap() < 16 * MIB && space.boot_bytes.unwrap() < 8 * MIB);
            put(storage, Role::Uki, &bytes);
            put(storage, Role::Object, &bytes);
            let large = noise(4, 16 * MIB as usize);
            let error = settle(storage, &blob(Role::Object, &large), &large).unwrap_err();
            assert_eq!(
                (error.object, error.fault),
                (StorageObject::Object, StorageFault::Full)
            );
            storage.discard().unwrap();
            storage.sync().unwrap();
            storage.make_bootable(&manifest(1), b"front").unwrap();
        });
    }
    assert!(
        slots.list("b/root").is_empty() && slots.list("b/boot").is_empty(),
        "dropping unmounts"
    );
    let _mounted = [mount(&root, &root_path), mount(&boot, &boot_path)];
    assert_eq!(slots.read(&object_path("b", &verity_of(&bytes))), bytes);
    assert_eq!(slots.read(&format!("b/boot/{BOOTABLE}")), bytes);
}

/// An object that a power cut left half-written is gone on with, so its bytes are not room that is lost.
#[test]
#[ignore = "needs root: uses loop devices"]
fn what_was_left_half_written_is_no_lost_room() {
    let root = Loop::ext4(16 * MIB);
    let slots = Slots::new();
    let root_path = slots.path("b/root");
    let bytes = noise(5, 12 * MIB as usize);
    let object = blob(Role::Object, &bytes);
    let _mounted = mount(&root, &root_path);
    slots.prepared(1, |storage| {
        assert!(storage.space().unwrap().root_bytes.unwrap() > 12 * MIB);
        storage.open(&object, &manifest(1)).unwrap();
        storage.write(0, &bytes[..10 * MIB as usize]).unwrap();
        storage.sync().unwrap();
    });
    slots.storage(|storage| {
        assert!(storage.space().unwrap().root_bytes.unwrap() > 12 * MIB);
        storage.prepare(&manifest(1)).unwrap();
        put(storage, Role::Object, &bytes);
    });
}

/// With room for two the old UKI stays, without it goes away first. On FAT that is shown by a recovery on the virtual board.
#[test]
#[ignore = "needs root: uses loop devices"]
fn a_uki_is_kept_where_there_is_room_for_two() {
    for (mebibytes, is_kept) in [(8, true), (5, false)] {
        let boot = Loop::ext4(mebibytes * MIB);
        let mut slots = Slots::new();
        slots.recovers = true;
        let boot_path = slots.path("b/boot");
        let [old, new] = [3, 4].map(|seed| noise(seed, 3 * MIB as usize));
        let mut release = manifest(1);
        release.payloads.first_mut().unwrap().size = 3 * MIB;
        {
            let _mounted = mount(&boot, &boot_path);
            slots.write(&format!("b/boot/{BOOTABLE}"), &old);
            slots.storage(|storage| {
                storage.prepare(&release).unwrap();
                assert_eq!(slots.exists(&format!("b/boot/{BOOTABLE}")), is_kept);
                assert_eq!(slots.read(&format!("b/boot/{STAGED}")), old);
                put(storage, Role::Uki, &new);
                storage.sync().unwrap();
                storage.make_bootable(&release, b"front").unwrap();
            });
            assert_eq!(slots.read(&format!("b/boot/{BOOTABLE}")), new);
            assert_eq!(slots.list("b/boot/EFI/BOOT"), ["BOOTX64.EFI"]);
        }
        run("e2fsck", &["-f", "-n", &boot.device]);
    }
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn one_file_system_mounted_twice_is_one_slot() {
    let medium = Loop::ext4(8 * MIB);
    let slots = Slots::new();
    let (one, other) = (slots.path("a/root"), slots.path("b/root"));
    let _mounted = [mount(&medium, &one), mount(&medium, &other)];
    let error = slots.with(|config| LinuxStorage::open(config).map(|_| ()).unwrap_err());
    assert_eq!(
        (error.object, error.fault),
        (StorageObject::RootSlot, StorageFault::Code(22))
    );
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn a_slot_that_is_mounted_for_reading_is_not_written() {
    let medium = Loop::ext4(8 * MIB);
    let slots = Slots::new();
    let path = slots.path("b/root");
    let path = path.to_str().unwrap();
    let empty = Loop::new(MIB);
    let types = ["ext4", "vfat"];
    let error = Mounted::mount(&empty.device, path, &types, true, StorageObject::RootSlot)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        (error.operation, error.object),
        (StorageOperation::Mount, StorageObject::RootSlot)
    );
    let mounted =
        Mounted::mount(&medium.device, path, &types, true, StorageObject::RootSlot).unwrap();
    assert_eq!(mounted.directory(), path);
    slots.with(|config| {
        let target = SetPaths {
            boot: None,
            ..config.target
        };
        let error = LinuxStorage::open(LinuxConfig { target, ..config })
            .unwrap()
            .prepare(&manifest(1))
            .unwrap_err();
        assert_eq!(
            (error.object, error.fault),
            (StorageObject::RootSlot, StorageFault::Code(30))
        );
    });
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn the_boot_record_may_be_a_device() {
    let medium = Loop::new(MIB);
    let mut store = FileRecordStore::open(&medium.device).unwrap();
    store.write_copy(1, &[7; 512]).unwrap();
    let mut buffer = [0; 512];
    store.read_copy(1, &mut buffer).unwrap();
    assert_eq!(buffer, [7; 512]);
    assert_eq!(
        std::fs::metadata(&medium.device).unwrap().len(),
        0,
        "still a device"
    );
    assert_eq!(std::fs::read(&medium.device).unwrap()[4096..4608], [7; 512]);
}

/// Fills a mounted file system with files until there is no room, and takes every other one away again.
fn fill(at: &Path) -> usize {
    let bytes = noise(9, 3 * MIB as usize / 2);
    let mut written = 0;
    for number in 0.. {
        let name = at.join(format!("file-{number}"));
        let part = bytes.len() >> (number % 12);
        if std::fs::write(name, &bytes[..part]).is_err() && part < 1000 {
            break;
        }
        written += part;
    }
    for number in (0..).step_by(2) {
        if std::fs::remove_file(at.join(format!("file-{number}"))).is_err() {
            return written;
        }
    }
    written
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn a_formatted_root_slot_holds_what_it_says() {
    for bytes in [16 * MIB, 129 * MIB, 300 * MIB] {
        let medium = Loop::new(bytes);
        let new = Ext4 {
            label: "root-a",
            uuid: [7; 16],
            inodes: None,
        };
        format_root_slot(&medium.device, &new).unwrap();
        let slots = Slots::new();
        let at = slots.path("b/root");
        let mounted = mount(&medium, &at);
        let busy = format_root_slot(&medium.device, &new).unwrap_err();
        assert_eq!(busy.fault, StorageFault::Busy);
        let written = fill(&at) as u64;
        assert!(written > bytes / 2, "{written} of {bytes}");
        mounted.unmount().unwrap();
        run("e2fsck", &["-f", "-n", &medium.device]);
    }
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn a_table_comes_back_on_a_device() {
    let medium = Loop::new(64 * MIB);
    let device = &medium.device;
    let script = format!("echo 'start=2048, size=8192, name=root-a' | sfdisk -q -X gpt {device}");
    run("sh", &["-c", &script]);
    let before = run("sfdisk", &["--dump", device]);
    assert_eq!(keep_spares(device), Ok(2));
    run("wipefs", &["--all", device]);
    assert_eq!(repair(device), Ok(Repaired::From(TableCopy::Spare)));
    assert_eq!(run("sfdisk", &["--dump", device]), before);
}

#[test]
#[ignore = "needs root: uses loop devices"]
fn a_medium_is_found_and_not_written() {
    let medium = Loop::new(32 * MIB);
    let new = Ext4 {
        label: "stick",
        uuid: [8; 16],
        inodes: None,
    };
    format_root_slot(&medium.device, &new).unwrap();
    let slots = Slots::new();
    let at = slots.path("b/root");
    {
        let _mounted = mount(&medium, &at);
        std::fs::write(at.join("v1.tseal"), "1").unwrap();
    }
    let before = std::fs::read(&medium.device).unwrap();
    let mut last = None;
    let found = loop {
        let found = Medium::after(last.as_deref(), &BlockDevices::SYSTEM).unwrap();
        let found = found.expect("the medium is not found");
        if found.node.as_str() == medium.device {
            break found;
        }
        last = Some(found.name.to_string());
    };
    assert_eq!(found.file_system, FileSystem::Ext4);
    let mounted = found.mount(at.to_str().unwrap()).unwrap();
    let bundle = newest_bundle(at.to_str().unwrap(), |_, _| Some((1, 1)), &|_| ()).unwrap();
    assert_eq!(bundle.unwrap().name.as_str(), "v1.tseal");
    assert!(std::fs::write(at.join("v2.tseal"), "2").is_err());
    mounted.unmount().unwrap();
    assert!(std::fs::read(&medium.device).unwrap() == before);
}
