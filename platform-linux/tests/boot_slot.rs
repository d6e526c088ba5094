//! The boot slot: no bootable name from `prepare` to `make_bootable`, and the front matter around it.

mod support;

use support::*;
use twinseal_core::error::{StorageObject, StorageOperation};
use twinseal_core::storage::Storage;
use twinseal_core::wire::index::Role;
use twinseal_platform_linux::read_front;

fn front(slots: &Slots) -> Option<Vec<u8>> {
    let mut buffer = [0; 64];
    let length = slots.with(|config| read_front(config.target.front, &mut buffer).unwrap());
    length.map(|length| buffer[..length].to_vec())
}

#[test]
fn a_uki_boots_only_after_make_bootable() {
    let slots = Slots::new();
    let bytes = noise(1, 9000);
    slots.prepared(1, |storage| {
        put(storage, Role::Uki, &bytes);
        storage.sync().unwrap();
        assert_eq!(slots.list("b/boot/EFI/BOOT"), ["TWINSEAL.NEW"]);
        assert_eq!(front(&slots), None);
        storage
            .make_bootable(&manifest(1), b"front matter")
            .unwrap();
    });
    let name = BOOTABLE.rsplit('/').next().unwrap();
    assert_eq!(slots.list("b/boot/EFI/BOOT"), [name]);
    assert_eq!(slots.read(&format!("b/boot/{BOOTABLE}")), bytes);
    assert_eq!(front(&slots).unwrap(), b"front matter");
    assert!(slots.list("a/boot").is_empty());
}

#[test]
fn prepare_takes_every_bootable_name_and_the_front_matter_away() {
    let slots = Slots::new();
    slots.write(&format!("b/boot/{BOOTABLE}"), "the old uki");
    for name in ["BOOTIA32.EFI", "grubx64.efi", "fallback.Efi", "BOOT.CSV"] {
        slots.write(&format!("b/boot/EFI/BOOT/{name}"), "other");
    }
    std::fs::create_dir(slots.path("b/boot/EFI/BOOT/dir.efi")).unwrap();
    slots.write("b/front/manifest.tar", "old front");
    slots.write("b/front/manifest.tar.new", "torn");
    slots.prepared(1, |_| ());
    assert_eq!(
        slots.list("b/boot/EFI/BOOT"),
        ["BOOT.CSV", "TWINSEAL.NEW", "dir.efi"]
    );
    assert!(slots.list("b/front").is_empty());
}

#[test]
fn the_same_uki_is_found_again() {
    let slots = Slots::new();
    let bytes = noise(2, 9000);
    slots.write(&format!("b/boot/{BOOTABLE}"), &bytes);
    for attempt in 0..2 {
        slots.prepared(1, |storage| {
            assert_eq!(
                storage
                    .open(&blob(Role::Uki, &bytes), &manifest(1))
                    .unwrap(),
                9000,
                "attempt {attempt}"
            );
            assert_eq!(read_back(storage, 9000), bytes);
        });
    }
    let shorter = blob(Role::Uki, &bytes[..5000]);
    slots.prepared(1, |storage| {
        assert_eq!(storage.open(&shorter, &manifest(1)).unwrap(), 5000);
        storage.settle().unwrap();
        storage.publish().unwrap();
        storage.make_bootable(&manifest(1), b"front").unwrap();
    });
    assert_eq!(
        slots.read(&format!("b/boot/{BOOTABLE}")),
        bytes[..5000],
        "the longer one was cut"
    );
}

#[test]
fn the_front_matter_is_there_before_the_uki_boots() {
    let slots = Slots::new();
    slots.prepared(1, |storage| {
        put(storage, Role::Uki, b"uki");
        // A directory that is not empty stands where the UKI must go: the last step fails.
        slots.write(&format!("b/boot/{BOOTABLE}/in-the-way"), "");
        let error = storage.make_bootable(&manifest(1), b"front").unwrap_err();
        assert_eq!(
            (error.operation, error.object),
            (StorageOperation::Rename, StorageObject::Uki)
        );
    });
    assert_eq!(front(&slots).unwrap(), b"front");
    assert!(slots.exists(&format!("b/boot/{STAGED}")));
}

#[test]
fn without_its_front_matter_a_set_does_not_boot() {
    let slots = Slots::new();
    slots.prepared(1, |storage| {
        put(storage, Role::Uki, b"uki");
        slots.write("b/front", "a file where a directory must be");
        assert!(storage.make_bootable(&manifest(1), b"front").is_err());
    });
    assert_eq!(slots.list("b/boot/EFI/BOOT"), ["TWINSEAL.NEW"]);
}

#[test]
fn a_bundle_without_a_uki_makes_no_file_bootable() {
    let slots = Slots::new();
    slots.write(&format!("b/boot/{STAGED}"), "left from before");
    let mut images_only = manifest(1);
    images_only.payloads.truncate(0);
    slots.prepared(1, |storage| {
        storage.make_bootable(&images_only, b"front").unwrap()
    });
    assert_eq!(slots.list("b/boot/EFI/BOOT"), ["TWINSEAL.NEW"]);
    assert_eq!(front(&slots).unwrap(), b"front");
}

#[test]
fn a_discarded_uki_is_gone() {
    let slots = Slots::new();
    slots.prepared(1, |storage| {
        settle(storage, &blob(Role::Uki, b"uki"), b"uki").unwrap();
        storage.discard().unwrap();
        assert!(storage.make_bootable(&manifest(1), b"front").is_err());
    });
    assert!(slots.list("b/boot/EFI/BOOT").is_empty());
}
