//! The boot slot: no bootable name from `prepare` to `make_bootable`, or that of the UKI that is kept, and the front matter around
//! it; for each layout.

mod support;

use support::*;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageObject, StorageOperation};
use twinseal_core::storage::Storage;
use twinseal_core::wire::index::Role;
use twinseal_core::wire::manifest::Manifest;
use twinseal_platform_linux::{BootLayout, is_incomplete, read_front, uki_path};

/// A layout, and what it calls things in the boot slot of the target set.
struct Names {
    layout: BootLayout,
    folder: &'static str,
    /// What an install leaves.
    installed: &'static str,
    /// What has been the default.
    committed: &'static str,
    /// The staging name, with its folder.
    staged: &'static str,
}

const LAYOUTS: [Names; 2] = [
    Names {
        layout: BootLayout::RemovableMedia,
        folder: "EFI/BOOT",
        installed: BOOTABLE,
        committed: BOOTABLE,
        staged: STAGED,
    },
    Names {
        layout: BootLayout::EntryFolder(Set::B),
        folder: "EFI/Linux",
        installed: "EFI/Linux/TWINTRYB.EFI",
        committed: "EFI/Linux/TWINSE-B.EFI",
        staged: "EFI/Linux/TWINSEAL.NEW",
    },
];

impl Names {
    fn slots(&self) -> Slots {
        println!("{:?}", self.layout);
        let mut slots = Slots::new();
        slots.layout = self.layout;
        slots
    }

    fn list(&self, slots: &Slots) -> Vec<String> {
        slots.list(&format!("b/boot/{}", self.folder))
    }

    /// Where the UKI is found.
    fn uki(&self, slots: &Slots) -> Option<String> {
        let boot = slots.path("b/boot");
        let found = uki_path(boot.to_str().unwrap(), self.layout).unwrap();
        found.map(|path| path.as_str().to_owned())
    }
}

fn front(slots: &Slots) -> Option<Vec<u8>> {
    let mut buffer = [0; 64];
    let length = slots.with(|config| read_front(config.target.front, &mut buffer).unwrap());
    length.map(|length| buffer[..length].to_vec())
}

#[test]
fn a_uki_boots_only_after_make_bootable() {
    for names in LAYOUTS {
        let slots = names.slots();
        let bytes = noise(1, 9000);
        slots.prepared(1, |storage| {
            put(storage, Role::Uki, &bytes);
            storage.sync().unwrap();
            assert_eq!(names.list(&slots), ["TWINSEAL.NEW"]);
            assert_eq!(names.uki(&slots), None);
            assert_eq!(front(&slots), None);
            storage
                .make_bootable(&manifest(1), b"front matter")
                .unwrap();
        });
        let name = names.installed.rsplit('/').next().unwrap();
        assert_eq!(names.list(&slots), [name]);
        assert_eq!(slots.read(&format!("b/boot/{}", names.installed)), bytes);
        assert_eq!(names.uki(&slots).unwrap(), names.installed);
        assert_eq!(front(&slots).unwrap(), b"front matter");
        assert!(slots.list("a/boot").is_empty());
    }
}

#[test]
fn prepare_takes_every_bootable_name_and_the_front_matter_away() {
    for names in LAYOUTS {
        let slots = names.slots();
        let folder = names.folder;
        slots.write(&format!("b/boot/{}", names.committed), "the old uki");
        for name in ["BOOTIA32.EFI", "grubx64.efi", "fallback.Efi", "BOOT.CSV"] {
            slots.write(&format!("b/boot/{folder}/{name}"), "other");
        }
        std::fs::create_dir(slots.path(&format!("b/boot/{folder}/dir.efi"))).unwrap();
        slots.write("b/front/manifest.tar", "old front");
        slots.write("b/front/manifest.tar.new", "torn");
        slots.prepared(1, |_| ());
        assert_eq!(names.list(&slots), ["BOOT.CSV", "TWINSEAL.NEW", "dir.efi"]);
        assert_eq!(
            slots.read(&format!("b/boot/{}", names.staged)),
            b"the old uki"
        );
        assert!(slots.list("b/front").is_empty());
    }
}

#[test]
fn an_entry_is_taken_away_under_either_name() {
    let names = &LAYOUTS[1];
    for name in [names.committed, names.installed] {
        let slots = names.slots();
        slots.write(&format!("b/boot/{name}"), "the old uki");
        assert_eq!(names.uki(&slots).unwrap(), name);
        slots.prepared(1, |_| ());
        assert_eq!(names.list(&slots), ["TWINSEAL.NEW"], "{name}");
        assert_eq!(slots.read("b/boot/EFI/Linux/TWINSEAL.NEW"), b"the old uki");
    }
}

#[test]
fn of_two_entries_that_of_the_default_is_kept() {
    let names = &LAYOUTS[1];
    let slots = names.slots();
    slots.write(&format!("b/boot/{}", names.installed), "installed");
    slots.write(&format!("b/boot/{}", names.committed), "committed");
    slots.write("b/boot/EFI/Linux/twinse-b+1.efi", "somebody's");
    assert_eq!(names.uki(&slots).unwrap(), names.committed);
    slots.prepared(1, |_| ());
    assert_eq!(names.list(&slots), ["TWINSEAL.NEW"]);
    assert_eq!(slots.read("b/boot/EFI/Linux/TWINSEAL.NEW"), b"committed");
}

/// The boot slot of set A has systemd-boot besides the entries: an install into that set must leave it alone.
#[test]
fn nothing_outside_of_the_folder_of_the_uki_is_touched() {
    let [removable, entries] = LAYOUTS;
    for (names, others) in [
        (&removable, [entries.committed, entries.installed]),
        (&entries, [BOOTABLE, "EFI/systemd/systemd-bootx64.efi"]),
    ] {
        let slots = names.slots();
        let others = others.iter().chain(&["loader/loader.conf", "other.efi"]);
        for other in others.clone() {
            slots.write(&format!("b/boot/{other}"), *other);
        }
        slots.prepared(1, |storage| {
            put(storage, Role::Uki, b"uki");
            storage.make_bootable(&manifest(1), b"front").unwrap();
        });
        for other in others {
            assert_eq!(
                slots.read(&format!("b/boot/{other}")),
                other.as_bytes(),
                "{:?}",
                names.layout
            );
        }
    }
}

#[test]
fn the_same_uki_is_found_again() {
    for names in LAYOUTS {
        let slots = names.slots();
        let bytes = noise(2, 9000);
        slots.write(&format!("b/boot/{}", names.committed), &bytes);
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
            slots.read(&format!("b/boot/{}", names.installed)),
            bytes[..5000],
            "the longer one was cut"
        );
    }
}

#[test]
fn the_front_matter_is_there_before_the_uki_boots() {
    for names in LAYOUTS {
        let slots = names.slots();
        slots.prepared(1, |storage| {
            put(storage, Role::Uki, b"uki");
            // A directory that is not empty stands where the UKI must go: the last step fails.
            slots.write(&format!("b/boot/{}/in-the-way", names.installed), "");
            let error = storage.make_bootable(&manifest(1), b"front").unwrap_err();
            assert_eq!(
                (error.operation, error.object),
                (StorageOperation::Rename, StorageObject::Uki)
            );
        });
        assert_eq!(front(&slots).unwrap(), b"front");
        assert!(slots.exists(&format!("b/boot/{}", names.staged)));
        assert_eq!(names.uki(&slots), None);
    }
}

#[test]
fn without_its_front_matter_a_set_does_not_boot() {
    for names in LAYOUTS {
        let slots = names.slots();
        slots.prepared(1, |storage| {
            put(storage, Role::Uki, b"uki");
            slots.write("b/front", "a file where a directory must be");
            assert!(storage.make_bootable(&manifest(1), b"front").is_err());
        });
        assert_eq!(names.list(&slots), ["TWINSEAL.NEW"]);
    }
}

#[test]
fn a_bundle_without_a_uki_makes_no_file_bootable() {
    for names in LAYOUTS {
        let slots = names.slots();
        slots.write(&format!("b/boot/{}", names.staged), "left from before");
        let mut images_only = manifest(1);
        images_only.payloads.truncate(0);
        slots.prepared(1, |storage| {
            storage.make_bootable(&images_only, b"front").unwrap()
        });
        assert_eq!(names.list(&slots), ["TWINSEAL.NEW"]);
        assert_eq!(front(&slots).unwrap(), b"front");
    }
}

#[test]
fn a_discarded_uki_is_gone() {
    for names in LAYOUTS {
        let slots = names.slots();
        slots.prepared(1, |storage| {
            settle(storage, &blob(Role::Uki, b"uki"), b"uki").unwrap();
            storage.discard().unwrap();
            assert!(storage.make_bootable(&manifest(1), b"front").is_err());
        });
        assert!(names.list(&slots).is_empty());
    }
}

/// A manifest whose UKI has so many bytes.
fn with_uki_of(bytes: u64) -> Manifest {
    let mut manifest = manifest(1);
    manifest.payloads.first_mut().unwrap().size = bytes;
    manifest
}

#[test]
fn a_kept_uki_boots_until_the_new_one_takes_its_name() {
    for names in LAYOUTS {
        let mut slots = names.slots();
        slots.recovers = true;
        let [old, new] = [noise(3, 9000), noise(4, 7000)];
        let at = |name: &str| format!("b/boot/{name}");
        slots.write(&at(names.committed), &old);
        slots.write(&at(&format!("{}/OTHER.EFI", names.folder)), "other");
        slots.write("b/front/manifest.tar", "old front");
        let manifest = with_uki_of(7000);
        // The second time is that after a power cut.
        for attempt in 0..2 {
            slots.storage(|storage| storage.prepare(&manifest).unwrap());
            let name = names.committed.rsplit('/').next().unwrap();
            let mut both = [name, "TWINSEAL.NEW"];
            both.sort_unstable();
            assert_eq!(names.list(&slots), both, "attempt {attempt}");
            assert_eq!(slots.read(&at(names.committed)), old);
            assert_eq!(slots.read(&at(names.staged)), old[..7000]);
            assert_eq!(front(&slots), None);
            assert!(slots.with(|config| is_incomplete(config.target.front)));
        }
        slots.storage(|storage| {
            storage.prepare(&manifest).unwrap();
            put(storage, Role::Uki, &new);
            storage.sync().unwrap();
            assert_eq!(slots.read(&at(names.committed)), old);
            storage.make_bootable(&manifest, b"front").unwrap();
        });
        let name = names.installed.rsplit('/').next().unwrap();
        assert_eq!(names.list(&slots), [name]);
        assert_eq!(slots.read(&at(names.installed)), new);
        assert_eq!(front(&slots).unwrap(), b"front");
        assert!(!slots.with(|config| is_incomplete(config.target.front)));
    }
}

#[test]
fn what_is_staged_goes_on_with_the_bytes_of_the_kept_uki() {
    for names in LAYOUTS {
        let mut slots = names.slots();
        slots.recovers = true;
        let [old, new] = [noise(5, 9000), noise(6, 9000)];
        slots.write(&format!("b/boot/{}", names.installed), &old);
        slots.write(&format!("b/boot/{}", names.staged), &new[..4000]);
        let manifest = with_uki_of(9000);
        slots.storage(|storage| {
            storage.prepare(&manifest).unwrap();
            let left = storage.open(&blob(Role::Uki, &new), &manifest).unwrap();
            let found = read_back(storage, left as usize);
            assert_eq!(found, [&new[..4000], &old[4000..]].concat());
        });
    }
}

#[test]
fn where_no_uki_is_there_none_is_kept() {
    for names in LAYOUTS {
        let mut slots = names.slots();
        slots.recovers = true;
        for empty in [false, true] {
            if empty {
                slots.write(&format!("b/boot/{}", names.installed), "");
            }
            slots.prepared(1, |storage| {
                assert_eq!(names.uki(&slots), None);
                put(storage, Role::Uki, b"uki");
                storage.make_bootable(&manifest(1), b"front").unwrap();
            });
            assert_eq!(names.uki(&slots).unwrap(), names.installed);
            std::fs::remove_file(slots.path(&format!("b/boot/{}", names.installed))).unwrap();
        }
    }
}

/// An install that is none of a recovery ends what a recovery began.
#[test]
fn every_install_ends_complete() {
    let mut slots = LAYOUTS[0].slots();
    slots.recovers = true;
    slots.prepared(1, |_| ());
    slots.recovers = false;
    slots.prepared(1, |storage| {
        assert!(slots.with(|config| is_incomplete(config.target.front)));
        put(storage, Role::Uki, b"uki");
        storage.make_bootable(&manifest(1), b"front").unwrap();
    });
    assert!(!slots.with(|config| is_incomplete(config.target.front)));
}
