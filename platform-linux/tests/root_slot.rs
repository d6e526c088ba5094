//! The root slot: where objects and images appear, when they count, what is left after a stop, and what is taken away.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use support::*;
use twinseal_core::error::{StorageFault, StorageObject};
use twinseal_core::storage::{Location, Storage};
use twinseal_core::wire::index::Role;
use twinseal_platform_linux::LinuxStorage;

fn locate(slots: &Slots, blob: &twinseal_core::wire::index::Blob) -> Location {
    slots.storage(|storage| storage.locate(blob, &manifest(1)).unwrap())
}

#[test]
fn published_blobs_lie_where_composefs_tools_look() {
    let slots = Slots::new();
    let (object_bytes, image_bytes) = (noise(1, 20_000), noise(2, 5000));
    let (object, image) = slots.prepared(1, |storage| {
        (
            put(storage, Role::Object, &object_bytes),
            put(storage, Role::Composefs, &image_bytes),
        )
    });
    assert_eq!(slots.read(&object_path("b", &object.digest)), object_bytes);
    let link = slots.path(&image_path("b", &image.digest));
    let hex = image.digest.to_hex();
    assert_eq!(
        fs::read_link(&link).unwrap().to_str().unwrap(),
        format!("../objects/{}/{}", &hex[..2], &hex[2..])
    );
    assert_eq!(
        fs::read(link).unwrap(),
        image_bytes,
        "the link leads to the image"
    );
    assert_eq!(slots.list("b/root/composefs"), ["images", "objects", "tmp"]);
    assert!(slots.list("b/root/composefs/tmp").is_empty());
    for blob in [object, image] {
        assert_eq!(locate(&slots, &blob), Location::Target);
    }
    assert!(
        slots.list("a/root").is_empty(),
        "the running set is as it was"
    );
}

#[test]
fn an_empty_object_is_an_object() {
    let slots = Slots::new();
    let blob = slots.prepared(1, |storage| put(storage, Role::Object, b""));
    assert_eq!(locate(&slots, &blob), Location::Target);
}

#[test]
fn zeros_take_no_room_in_a_new_object_and_are_written_over_old_bytes() {
    const MIB: usize = 1024 * 1024;
    let slots = Slots::new();
    let mut bytes = vec![0; 4 * MIB];
    bytes[MIB] = 1;
    let object = slots.prepared(1, |storage| put(storage, Role::Object, &bytes));
    let path = slots.path(&object_path("b", &object.digest));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), object.size);
    assert!(
        metadata.blocks() * 512 < MIB as u64,
        "{} blocks",
        metadata.blocks()
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
    // What an earlier attempt left is not zeros.
    fs::remove_file(&path).unwrap();
    let left = format!("b/root/composefs/tmp/{}", object.digest.to_hex());
    slots.write(&left, noise(7, 4 * MIB));
    slots.prepared(1, |storage| put(storage, Role::Object, &bytes));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn nothing_is_visible_before_publish() {
    let slots = Slots::new();
    let bytes = noise(3, 9000);
    let object = blob(Role::Object, &bytes);
    let stops: [fn(&mut LinuxStorage<'_>, &[u8]); 3] = [
        |_, _| (),
        |storage, bytes| storage.write(0, &bytes[..5000]).unwrap(),
        |storage, bytes| {
            storage.write(0, bytes).unwrap();
            storage.settle().unwrap();
        },
    ];
    for (number, stop) in stops.into_iter().enumerate() {
        slots.prepared(1, |storage| {
            storage.open(&object, &manifest(1)).unwrap();
            stop(storage, &bytes);
        });
        assert_eq!(locate(&slots, &object), Location::Absent, "stop {number}");
        assert!(
            slots.list("b/root/composefs/objects").is_empty(),
            "stop {number}"
        );
    }
}

#[test]
fn an_interrupted_blob_is_found_again() {
    let slots = Slots::new();
    let bytes = noise(4, 9000);
    let object = blob(Role::Object, &bytes);
    slots.prepared(1, |storage| {
        assert_eq!(storage.open(&object, &manifest(1)).unwrap(), 0);
        storage.write(0, &bytes[..6000]).unwrap();
    });
    slots.prepared(1, |storage| {
        assert_eq!(storage.open(&object, &manifest(1)).unwrap(), 6000);
        assert_eq!(read_back(storage, 6000), bytes[..6000]);
        storage.write(6000, &bytes[6000..]).unwrap();
        storage.settle().unwrap();
        assert_eq!(read_back(storage, 9000), bytes);
        storage.publish().unwrap();
    });
    assert_eq!(slots.read(&object_path("b", &object.digest)), bytes);
}

#[test]
fn what_was_written_can_be_read_before_it_is_settled_zeros_included() {
    let slots = Slots::new();
    let bytes = [noise(9, 5000), vec![0; 200_000]].concat();
    let object = blob(Role::Object, &bytes);
    slots.prepared(1, |storage| {
        storage.open(&object, &manifest(1)).unwrap();
        storage.write(0, &bytes[..150_000]).unwrap();
        // The last of these zeros are beyond the end of the file as yet.
        assert_eq!(read_back(storage, 150_000), bytes[..150_000]);
        storage.write(150_000, &bytes[150_000..]).unwrap();
        storage.settle().unwrap();
        assert_eq!(read_back(storage, bytes.len()), bytes);
        storage.publish().unwrap();
    });
    assert_eq!(slots.read(&object_path("b", &object.digest)), bytes);
}

#[test]
fn what_is_too_long_is_bounded_and_cut() {
    let slots = Slots::new();
    let bytes = noise(5, 5000);
    let object = blob(Role::Object, &bytes);
    slots.prepared(1, |_| ());
    slots.write(&temporary_path(&object.digest), noise(6, 8000));
    slots.prepared(1, |storage| {
        assert_eq!(settle(storage, &object, &bytes).unwrap(), 5000);
        let error = storage.read(4000, &mut [0; 1001]).unwrap_err();
        assert_eq!(
            (error.object, error.fault),
            (StorageObject::Object, StorageFault::Short)
        );
        storage.publish().unwrap();
    });
    assert_eq!(slots.read(&object_path("b", &object.digest)), bytes);
}

#[test]
fn links_in_tmp_are_replaced_and_never_followed() {
    let slots = Slots::new();
    let bytes = noise(7, 5000);
    let object = blob(Role::Object, &bytes);
    slots.prepared(1, |_| ());
    slots.write("a/root/precious", "precious");
    let planted = slots.path(&temporary_path(&object.digest));
    symlink("../../../../a/root/precious", &planted).unwrap();
    assert_eq!(fs::read(&planted).unwrap(), b"precious");
    slots.prepared(1, |storage| {
        assert_eq!(settle(storage, &object, &bytes).unwrap(), 0)
    });
    assert_eq!(slots.read("a/root/precious"), b"precious");
    fs::remove_file(&planted).unwrap();
    fs::hard_link(slots.path("a/root/precious"), &planted).unwrap();
    slots.prepared(1, |storage| {
        assert_eq!(settle(storage, &object, &bytes).unwrap(), 0);
        storage.publish().unwrap();
    });
    assert_eq!(slots.read("a/root/precious"), b"precious");
    assert_eq!(slots.read(&object_path("b", &object.digest)), bytes);
}

#[test]
fn directories_behind_links_are_refused() {
    for name in [
        "composefs",
        "composefs/tmp",
        "composefs/objects",
        "composefs/images",
    ] {
        let slots = Slots::new();
        slots.prepared(1, |_| ());
        fs::remove_dir_all(slots.path("b/root").join(name)).unwrap();
        fs::create_dir_all(slots.path("elsewhere/composefs")).unwrap();
        symlink(slots.path("elsewhere"), slots.path("b/root").join(name)).unwrap();
        slots.write("b/boot/EFI/BOOT/BOOTX64.EFI", "uki");
        let refused = slots.with(|config| match LinuxStorage::open(config) {
            Ok(mut storage) => storage.prepare(&manifest(1)),
            Err(error) => Err(error),
        });
        assert_eq!(
            refused.unwrap_err().object,
            StorageObject::RootSlot,
            "{name}"
        );
        assert!(
            slots.exists("b/boot/EFI/BOOT/BOOTX64.EFI"),
            "{name}: refused before anything was taken away"
        );
    }
}

#[test]
fn a_wrong_size_or_kind_counts_as_absent_and_is_written_over() {
    let slots = Slots::new();
    let bytes = noise(8, 5000);
    let object = blob(Role::Object, &bytes);
    let place = object_path("b", &object.digest);
    slots.prepared(1, |_| ());
    slots.write(&place, &bytes[..4999]);
    assert_eq!(locate(&slots, &object), Location::Absent);
    fs::remove_file(slots.path(&place)).unwrap();
    slots.write("same-bytes", &bytes);
    symlink(slots.path("same-bytes"), slots.path(&place)).unwrap();
    assert_eq!(locate(&slots, &object), Location::Absent);
    slots.prepared(1, |storage| put(storage, Role::Object, &bytes));
    assert_eq!(locate(&slots, &object), Location::Target);
    assert!(fs::symlink_metadata(slots.path(&place)).unwrap().is_file());
}

#[test]
fn an_image_counts_only_when_it_is_listed_rightly() {
    let slots = Slots::new();
    let bytes = noise(9, 5000);
    let image = slots.prepared(1, |storage| put(storage, Role::Composefs, &bytes));
    let link = slots.path(&image_path("b", &image.digest));
    fs::remove_file(&link).unwrap();
    assert_eq!(locate(&slots, &image), Location::Absent);
    symlink(format!("../objects/00/{}", "0".repeat(62)), &link).unwrap();
    assert_eq!(locate(&slots, &image), Location::Absent);
    slots.prepared(1, |storage| put(storage, Role::Composefs, &bytes));
    assert_eq!(
        locate(&slots, &image),
        Location::Target,
        "a wrong link is replaced"
    );
}

#[test]
fn the_running_set_is_found_and_read() {
    let slots = Slots::new();
    let (one, two) = (noise(10, 9000), noise(11, 300));
    let blobs = [blob(Role::Object, &one), blob(Role::Object, &two)];
    slots.write(&object_path("a", &blobs[0].digest), &one);
    slots.write(&object_path("a", &blobs[1].digest), &two);
    fs::create_dir_all(slots.path("a/root/composefs/images")).unwrap();
    slots.prepared(2, |storage| {
        for (blob, bytes) in blobs.iter().zip([&one, &two]) {
            assert_eq!(
                storage.locate(blob, &manifest(2)).unwrap(),
                Location::Running
            );
            let mut buffer = vec![0; bytes.len() - 100];
            storage.read_running(blob, 100, &mut buffer).unwrap();
            assert_eq!(buffer, bytes[100..]);
            let short = storage.read_running(blob, 101, &mut buffer).unwrap_err();
            assert_eq!(short.fault, StorageFault::Short);
        }
        put(storage, Role::Object, &one);
        assert_eq!(
            storage.locate(&blobs[0], &manifest(2)).unwrap(),
            Location::Target
        );
        let missing = storage
            .read_running(&blob(Role::Object, b"nowhere"), 0, &mut [0; 1])
            .unwrap_err();
        assert_eq!(missing.fault, StorageFault::Code(2));
    });
}

#[test]
fn discard_leaves_nothing() {
    let slots = Slots::new();
    let bytes = noise(12, 5000);
    slots.prepared(1, |storage| {
        settle(storage, &blob(Role::Object, &bytes), &bytes).unwrap();
        storage.discard().unwrap();
        assert_eq!(
            storage
                .open(&blob(Role::Object, &bytes), &manifest(1))
                .unwrap(),
            0
        );
    });
}

#[test]
fn what_the_new_set_does_not_need_is_taken_away() {
    let slots = Slots::new();
    let old: Vec<_> = (0..50).map(|number| noise(100 + number, 3000)).collect();
    let kept = slots.prepared(50, |storage| {
        for bytes in &old {
            put(storage, Role::Object, bytes);
        }
        put(storage, Role::Composefs, &noise(99, 3000))
    });
    slots.write("b/root/composefs/objects/README", "not ours");
    slots.write("b/root/composefs/images/refs/name", "not ours");
    let new_image = blob(Role::Composefs, &noise(98, 3000));
    slots.storage(|storage| {
        for bytes in &old[..20] {
            let object = blob(Role::Object, bytes);
            assert_eq!(
                storage.locate(&object, &manifest(20)).unwrap(),
                Location::Target
            );
        }
        storage.locate(&new_image, &manifest(20)).unwrap();
        storage.prepare(&manifest(20)).unwrap();
        for (number, bytes) in old.iter().enumerate() {
            let there = slots.exists(&object_path("b", &verity_of(bytes)));
            assert_eq!(there, number < 20, "object {number}");
        }
    });
    assert!(!slots.exists(&image_path("b", &kept.digest)));
    assert!(slots.exists("b/root/composefs/objects/README"));
    assert!(slots.exists("b/root/composefs/images/refs/name"));
}

#[test]
fn nothing_is_taken_away_while_it_is_not_known_what_is_needed() {
    let slots = Slots::new();
    let bytes = noise(13, 3000);
    let object = slots.prepared(1, |storage| put(storage, Role::Object, &bytes));
    slots.storage(|storage| {
        storage
            .locate(&blob(Role::Object, b"another"), &manifest(2))
            .unwrap();
        storage.prepare(&manifest(2)).unwrap();
    });
    assert_eq!(locate(&slots, &object), Location::Target);
}

#[test]
fn tmp_keeps_only_what_may_be_resumed_and_is_empty_in_the_end() {
    let slots = Slots::new();
    let bytes = noise(14, 5000);
    let object = blob(Role::Object, &bytes);
    slots.prepared(1, |_| ());
    slots.write(&temporary_path(&object.digest), &bytes[..100]);
    for name in ["new-link", "probe", "README", &"AB".repeat(32)] {
        slots.write(&format!("b/root/composefs/tmp/{name}"), "garbage");
    }
    fs::create_dir(slots.path("b/root/composefs/tmp/empty")).unwrap();
    slots.write("b/root/composefs/tmp/full/file", "not ours");
    slots.prepared(1, |storage| {
        let kept = [object.digest.to_hex().as_str(), "full"].map(String::from);
        assert_eq!(slots.list("b/root/composefs/tmp"), kept);
        put(storage, Role::Uki, b"uki");
        storage.make_bootable(&manifest(1), b"front").unwrap();
    });
    assert_eq!(slots.list("b/root/composefs/tmp"), ["full"]);
}

#[test]
fn writing_before_prepare_is_refused() {
    let slots = Slots::new();
    slots.storage(|storage| {
        let object = blob(Role::Object, b"bytes");
        assert_eq!(
            storage.open(&object, &manifest(1)).unwrap_err().object,
            StorageObject::Object
        );
        assert!(storage.write(0, b"bytes").is_err());
        assert!(storage.settle().is_err());
        assert!(storage.publish().is_err());
        assert!(storage.discard().is_err());
    });
    assert!(slots.list("b/root").is_empty());
}

#[test]
fn an_object_is_readable_when_every_byte_of_it_is_there() {
    let slots = Slots::new();
    let bytes = noise(7, 100_000);
    slots.prepared(1, |storage| {
        let blob = put(storage, Role::Object, &bytes);
        let pulses = std::cell::Cell::new(0);
        let count = || pulses.set(pulses.get() + 1);
        assert!(storage.is_readable(&blob, &count));
        assert_eq!(pulses.get(), 7, "every 16 KiB");
        let absent = support::blob(Role::Object, &noise(8, 10));
        assert!(!storage.is_readable(&absent, &count));
        let file = slots.path(&object_path("b", &blob.digest));
        std::fs::OpenOptions::new()
            .write(true)
            .open(file)
            .unwrap()
            .set_len(99_999)
            .unwrap();
        assert!(!storage.is_readable(&blob, &count));
    });
}
