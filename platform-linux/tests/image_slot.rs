//! Image slots: plain files with and without a size, and what must not be taken for a slot.

mod support;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use support::*;
use twinseal_core::error::{StorageFault, StorageObject};
use twinseal_core::storage::{Location, Storage};
use twinseal_core::wire::index::Role;
use twinseal_platform_linux::{ImageSlot, LinuxConfig, LinuxStorage, SetPaths};

fn size(slots: &Slots, name: &str) -> Option<u64> {
    slots.storage(|storage| storage.image_slot_bytes(name).unwrap())
}

#[test]
fn a_file_with_a_size_keeps_it() {
    let slots = Slots::new();
    slots.write("b/fpga", vec![0xff; 20_000]);
    assert_eq!(size(&slots, "fpga"), Some(20_000));
    let bytes = noise(1, 9000);
    slots.prepared(1, |storage| {
        let image = put(storage, Role::Image, &bytes);
        assert_eq!(
            storage.locate(&image, &manifest(1)).unwrap(),
            Location::Absent,
            "only a read can tell"
        );
        let error = storage
            .open(&blob(Role::Image, &noise(2, 20_001)), &manifest(1))
            .unwrap_err();
        assert_eq!(
            (error.object, error.fault),
            (StorageObject::ImageSlot, StorageFault::Full)
        );
    });
    let slot = slots.read("b/fpga");
    assert_eq!(slot[..9000], bytes);
    assert_eq!(slot[9000..], vec![0xff; 11_000]);
}

#[test]
fn a_slot_that_is_not_described_is_none() {
    assert_eq!(size(&Slots::new(), "other"), None);
}

#[test]
fn a_file_without_a_size_gets_that_of_the_first_image() {
    let slots = Slots::new();
    assert_eq!(size(&slots, "fpga"), Some(i64::MAX as u64), "missing");
    assert!(!slots.exists("b/fpga"), "asking makes nothing");
    slots.write("b/fpga", "");
    assert_eq!(size(&slots, "fpga"), Some(i64::MAX as u64), "empty");
    let bytes = noise(3, 9000);
    let image = blob(Role::Image, &bytes);
    slots.prepared(1, |storage| {
        storage.open(&image, &manifest(1)).unwrap();
        storage.write(0, &bytes[..100]).unwrap();
    });
    assert_eq!(
        size(&slots, "fpga"),
        Some(9000),
        "an interrupted install leaves a slot of the right size"
    );
    slots.prepared(1, |storage| put(storage, Role::Image, &bytes));
    assert_eq!(slots.read("b/fpga"), bytes);
}

#[test]
fn an_image_that_was_not_good_gives_no_size() {
    let slots = Slots::new();
    let bytes = noise(4, 9000);
    slots.prepared(1, |storage| {
        settle(storage, &blob(Role::Image, &bytes), &bytes).unwrap();
        storage.discard().unwrap();
    });
    assert_eq!(size(&slots, "fpga"), Some(i64::MAX as u64));
}

#[test]
fn zeros_stay_a_hole_where_there_was_nothing() {
    const MIB: usize = 1024 * 1024;
    let slots = Slots::new();
    let mut bytes = vec![0; 8 * MIB];
    bytes[3 * MIB] = 1;
    let image = slots.prepared(1, |storage| put(storage, Role::Image, &bytes));
    let metadata = fs::metadata(slots.path("b/fpga")).unwrap();
    assert_eq!(metadata.len(), image.size);
    assert!(
        metadata.blocks() * 512 < MIB as u64,
        "{} blocks",
        metadata.blocks()
    );
    assert_eq!(slots.read("b/fpga"), bytes);
    // The second image meets old bytes, and its zeros must be written.
    slots.write("b/fpga", noise(5, 8 * MIB));
    slots.prepared(1, |storage| put(storage, Role::Image, &bytes));
    assert_eq!(slots.read("b/fpga"), bytes);
}

#[test]
fn old_bytes_are_offered_only_when_asked_for() {
    let mut slots = Slots::new();
    let bytes = noise(6, 9000);
    let image = blob(Role::Image, &bytes);
    slots.write("b/fpga", noise(6, 20_000));
    assert_eq!(
        slots.prepared(1, |storage| storage.open(&image, &manifest(1)).unwrap()),
        0
    );
    slots.probe_images = true;
    slots.prepared(1, |storage| {
        assert_eq!(storage.open(&image, &manifest(1)).unwrap(), 9000);
        assert_eq!(read_back(storage, 9000), bytes);
    });
}

#[test]
fn a_missing_device_is_not_made_as_a_file() {
    const MISSING: &str = "/dev/no-such-device-of-twinseal";
    let slots = Slots::new();
    slots.with(|config| {
        let images = [ImageSlot {
            name: "fpga",
            running: "/dev/null",
            target: MISSING,
        }];
        let mut storage = LinuxStorage::open(LinuxConfig {
            images: &images,
            ..config
        })
        .unwrap();
        assert_eq!(
            storage.image_slot_bytes("fpga").unwrap_err().fault,
            StorageFault::Code(2)
        );
        let error = storage
            .open(&blob(Role::Image, b"x"), &manifest(1))
            .unwrap_err();
        assert_eq!(
            (error.object, error.fault),
            (StorageObject::ImageSlot, StorageFault::Code(2))
        );
    });
    assert!(fs::metadata(MISSING).is_err());
}

#[test]
fn what_is_neither_device_nor_file_is_no_slot() {
    let slots = Slots::new();
    slots.with(|config| {
        for target in ["/dev/null", "/dev"] {
            let images = [ImageSlot {
                name: "fpga",
                running: "/dev/zero",
                target,
            }];
            let mut storage = LinuxStorage::open(LinuxConfig {
                images: &images,
                ..config
            })
            .unwrap();
            assert_eq!(
                storage.image_slot_bytes("fpga").unwrap_err().fault,
                StorageFault::Code(15),
                "{target}"
            );
        }
    });
}

#[test]
fn nobody_waits_for_a_pipe_in_the_place_of_a_slot() {
    let slots = Slots::new();
    let pipes = ["one", "other"].map(|name| slots.path(name).to_str().unwrap().to_owned());
    for pipe in &pipes {
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, pipe.as_str(), FileType::Fifo, mode, 0).unwrap();
    }
    slots.with(|config| {
        let images = [ImageSlot {
            name: "fpga",
            running: &pipes[0],
            target: &pipes[1],
        }];
        let mut storage = LinuxStorage::open(LinuxConfig {
            images: &images,
            ..config
        })
        .unwrap();
        assert_eq!(
            storage.locate(&blob(Role::Image, b"x"), &manifest(1)),
            Ok(Location::Absent)
        );
        let size = storage.image_slot_bytes("fpga");
        assert_eq!(size.unwrap_err().fault, StorageFault::Code(15));
    });
}

#[test]
fn an_image_for_a_slot_that_is_not_described_is_refused() {
    let slots = Slots::new();
    slots.with(|config| {
        let mut storage = LinuxStorage::open(LinuxConfig {
            images: &[],
            ..config
        })
        .unwrap();
        let image = blob(Role::Image, b"x");
        assert_eq!(
            storage.locate(&image, &manifest(1)).unwrap_err().object,
            StorageObject::ImageSlot
        );
        assert_eq!(
            storage.open(&image, &manifest(1)).unwrap_err().object,
            StorageObject::ImageSlot
        );
    });
}

#[test]
fn sets_that_share_a_slot_are_refused() {
    let slots = Slots::new();
    slots.write("a/fpga", "x");
    symlink("../a/fpga", slots.path("b/fpga")).unwrap();
    symlink("root", slots.path("a/root-by-another-name")).unwrap();
    let alias = slots
        .path("a/root-by-another-name")
        .to_str()
        .unwrap()
        .to_owned();
    let refused = |change: &dyn for<'c> Fn(&mut LinuxConfig<'c>)| {
        slots.with(|mut config| {
            change(&mut config);
            LinuxStorage::open(config).map(|_| ()).unwrap_err()
        })
    };
    let invalid = StorageFault::Code(22);
    let by_image = refused(&|_| ());
    assert_eq!(
        (by_image.object, by_image.fault),
        (StorageObject::ImageSlot, invalid)
    );
    let by_boot = refused(&|config| config.target.boot = config.running.boot);
    assert_eq!(
        (by_boot.object, by_boot.fault),
        (StorageObject::BootSlot, invalid)
    );
    let by_front = refused(&|config| config.target.front = config.running.front);
    assert_eq!(by_front.fault, invalid);
    let by_link = slots.with(|config| {
        let target = SetPaths {
            root: Some(&alias),
            ..config.target
        };
        LinuxStorage::open(LinuxConfig { target, ..config })
            .map(|_| ())
            .unwrap_err()
    });
    assert_eq!(
        (by_link.object, by_link.fault),
        (StorageObject::RootSlot, invalid)
    );
}
