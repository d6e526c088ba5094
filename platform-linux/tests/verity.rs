//! fs-verity: refused at once where there is none; sealed and measured where there is.

mod support;

use std::fs;
use support::*;
use tempfile::TempDir;
use twinseal_core::error::{StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::{Location, Storage};
use twinseal_core::wire::index::Role;
use twinseal_platform_linux::{LinuxStorage, Verity, verity};

/// No kernel has fs-verity on this file system.
const WITHOUT_VERITY: &str = "/dev/shm";

#[test]
fn a_file_system_without_it_is_refused_before_anything_changes() {
    let mut slots = Slots::below(TempDir::new_in(WITHOUT_VERITY).unwrap());
    slots.write(&format!("b/boot/{BOOTABLE}"), "the old uki");
    slots.write("b/front/manifest.tar", "the old front");
    slots.verity = Verity::Required;
    let error = slots.with(|config| LinuxStorage::open(config).map(|_| ()).unwrap_err());
    assert_eq!(error.fault, StorageFault::VerityUnsupported);
    assert_eq!(
        (error.operation, error.object),
        (StorageOperation::EnableVerity, StorageObject::RootSlot)
    );
    assert!(slots.list("b/root").is_empty());
    assert_eq!(slots.read(&format!("b/boot/{BOOTABLE}")), b"the old uki");
    assert_eq!(slots.read("b/front/manifest.tar"), b"the old front");
    slots.verity = Verity::Absent;
    slots.prepared(1, |storage| put(storage, Role::Object, b"fine without"));
}

#[test]
fn a_file_that_cannot_be_sealed_says_so() {
    let directory = TempDir::new_in(WITHOUT_VERITY).unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "bytes").unwrap();
    let file =
        rustix::fs::open(&path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(verity::measure(&file), Err(StorageFault::VerityUnsupported));
    let algorithm = verity_of(b"bytes").algorithm();
    assert_eq!(
        verity::enable(&file, algorithm),
        Err(StorageFault::VerityUnsupported)
    );
}

#[test]
#[ignore = "needs TWINSEAL_VERITY_DIRECTORY: a directory on a file system with fs-verity"]
fn sealed_objects_are_found_by_what_the_kernel_measures() {
    let place = std::env::var("TWINSEAL_VERITY_DIRECTORY").unwrap();
    let mut slots = Slots::below(TempDir::new_in(place).unwrap());
    slots.verity = Verity::Required;
    let (bytes, image_bytes) = (noise(1, 600_000), noise(2, 5000));
    let object = blob(Role::Object, &bytes);
    // The right size and no seal, as a stop before the seal leaves it: not good enough.
    slots.write(&object_path("b", &object.digest), &bytes);
    slots.prepared(1, |storage| {
        assert_eq!(
            storage.locate(&object, &manifest(1)).unwrap(),
            Location::Absent
        );
        put(storage, Role::Object, &bytes);
        put(storage, Role::Object, b"");
        let image = put(storage, Role::Composefs, &image_bytes);
        for blob in [&object, &image, &blob(Role::Object, b"")] {
            assert_eq!(
                storage.locate(blob, &manifest(1)).unwrap(),
                Location::Target
            );
        }
        assert!(
            slots.list("b/root/composefs/tmp").is_empty(),
            "the probe is gone"
        );
    });
    let path = slots.path(&object_path("b", &object.digest));
    let file =
        rustix::fs::open(&path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(verity::measure(&file), Ok(Some(object.digest)));
    assert!(
        fs::OpenOptions::new().write(true).open(&path).is_err(),
        "the kernel refuses to change it"
    );
    // Stopped between the seal and the name: the sealed file cannot be written, so it is made anew.
    let temporary = slots.path(&temporary_path(&object.digest));
    fs::rename(&path, &temporary).unwrap();
    slots.prepared(1, |storage| {
        assert_eq!(storage.open(&object, &manifest(1)).unwrap(), 0);
        put(storage, Role::Object, &bytes);
    });
    // Other bytes under this name: the kernel measures another digest, and the file goes.
    fs::remove_file(&path).unwrap();
    slots.prepared(1, |storage| {
        settle(storage, &object, &noise(3, 600_000)).unwrap();
        let error = storage.publish().unwrap_err();
        assert_eq!(
            (error.operation, error.fault),
            (StorageOperation::MeasureVerity, StorageFault::Digest)
        );
    });
    assert!(!path.exists() && !temporary.exists());
}
