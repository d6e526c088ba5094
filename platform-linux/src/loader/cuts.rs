//! Power cuts while a loader is told something: before every single change, with what boots after each, and the same call again.
//!
//! A change is the value of one variable (the firmware keeps the old one or the new one) or the name of one UKI. What a firmware and
//! systemd-boot do with the rest is modelled here in a few lines, from the UEFI specification and the Boot Loader Specification.

use super::{BootLoader, BootPartition, SystemdBootLoader, UefiLoader};
use crate::cut;
use crate::efivars::{GLOBAL_VENDOR, LOADER_VENDOR};
use crate::partition::guid_of_text;
use std::borrow::ToOwned;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;
use std::{format, fs, println};
use tempfile::TempDir;
use twinseal_core::boot::Set;
use twinseal_core::error::StorageError;

const GUIDS: [&str; 2] = [
    "12345678-9abc-def0-1122-334455667788",
    "fedcba98-7654-3210-8877-665544332211",
];

/// What is started: a set, or a program of somebody else by its description.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Started {
    Set(Set),
    Other(String),
    Nothing,
}

/// A machine: its variables and its boot slots, as plain folders.
struct Machine {
    folder: TempDir,
}

impl Machine {
    /// A firmware with a setup program and another system in its order, the UKI of set A committed, that of set B just installed.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder };
        for name in ["variables", "a/EFI/Linux", "b/EFI/Linux"] {
            fs::create_dir_all(machine.folder.path().join(name)).unwrap();
        }
        fs::write(machine.uki(Set::A, "TWINSE-A.EFI"), "1").unwrap();
        fs::write(machine.uki(Set::B, "TWINTRYB.EFI"), "2").unwrap();
        for (name, description) in [("Boot0000", "other system"), ("Boot0002", "setup")] {
            let text = description.encode_utf16().chain([0]);
            let text = text.flat_map(u16::to_le_bytes);
            let option = [1, 0, 0, 0, 4, 0].into_iter().chain(text);
            let option: Vec<u8> = option.chain([0x7f, 0xff, 4, 0]).collect();
            machine.put(name, &option);
        }
        machine.put("BootOrder", &[2, 0, 0, 0]);
        machine
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn uki(&self, set: Set, name: &str) -> PathBuf {
        PathBuf::from(self.path(&format!("{set}/EFI/Linux/{name}")))
    }

    fn variable(&self, name: &str, vendor: &str) -> PathBuf {
        PathBuf::from(self.path(&format!("variables/{name}-{vendor}")))
    }

    fn put(&self, name: &str, value: &[u8]) {
        let bytes = [&[7, 0, 0, 0], value].concat();
        fs::write(self.variable(name, GLOBAL_VENDOR), bytes).unwrap();
    }

    fn lose(&self, name: &str) {
        fs::remove_file(self.variable(name, GLOBAL_VENDOR)).unwrap();
    }

    fn units(&self, name: &str, vendor: &str) -> Option<Vec<u16>> {
        let bytes = fs::read(self.variable(name, vendor)).ok()?;
        let two = bytes.get(4..)?.chunks_exact(2);
        Some(
            two.map(|two| u16::from_le_bytes([two[0], two[1]]))
                .collect(),
        )
    }

    fn uefi(&self) -> UefiLoader {
        UefiLoader::open(&self.path("variables"), partitions()).unwrap()
    }

    fn systemd_boot(&self) -> SystemdBootLoader {
        let (a, b) = (self.path("a"), self.path("b"));
        SystemdBootLoader::open(&self.path("variables"), partitions(), [&a, &b]).unwrap()
    }

    /// Variables without the numbers of entries, which depend on what was lost, and the names of all UKIs.
    fn state(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path("variables")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let name = if name.starts_with("Boot0") {
                "entry".to_owned()
            } else {
                name
            };
            if !name.starts_with("BootOrder") && !name.starts_with("BootNext") {
                all.push((name, fs::read(entry.path()).unwrap()));
            }
        }
        all.extend(
            self.ukis()
                .map(|(set, name)| (format!("{set} {name}"), Vec::new())),
        );
        all.sort();
        all
    }

    fn ukis(&self) -> impl Iterator<Item = (Set, String)> {
        // The newest version first: here that of set B.
        [Set::B, Set::A].into_iter().flat_map(|set| {
            let names = fs::read_dir(self.uki(set, "")).unwrap();
            names.map(move |name| (set, name.unwrap().file_name().into_string().unwrap()))
        })
    }

    /// What starts when the machine is switched on, without what the firmware changes by that.
    fn starts(&self) -> Started {
        let next = self.units("BootNext", GLOBAL_VENDOR).unwrap_or_default();
        let order = self.units("BootOrder", GLOBAL_VENDOR).unwrap_or_default();
        let mut entries = next.into_iter().chain(order).filter_map(|number| {
            let option = self.units(&format!("Boot{number:04X}"), GLOBAL_VENDOR)?;
            // Behind the attributes and the length of the path.
            let text = option.get(3..)?.iter().take_while(|unit| **unit != 0);
            String::from_utf16(&text.copied().collect::<Vec<u16>>()).ok()
        });
        let Some(first) = entries.next() else {
            return Started::Nothing;
        };
        match first.as_str() {
            "twinseal a" => Started::Set(Set::A),
            "twinseal b" => Started::Set(Set::B),
            "twinseal loader" | "twinseal loader again" => self.systemd_boot_starts(),
            _ => Started::Other(first),
        }
    }

    /// The one-shot entry, the default entry, `default twinse-*` of its configuration, or the newest.
    fn systemd_boot_starts(&self) -> Started {
        let entries: Vec<_> = self
            .ukis()
            .map(|(set, name)| (set, name.to_ascii_lowercase()))
            .collect();
        let named = |variable: &str| {
            let units = self.units(variable, LOADER_VENDOR)?;
            let id = String::from_utf16(&units).ok()?;
            let id = id.trim_end_matches('\0');
            entries.iter().find(|(_, name)| name == id)
        };
        let chosen = named("LoaderEntryOneShot")
            .or_else(|| named("LoaderEntryDefault"))
            .or_else(|| entries.iter().find(|(_, name)| name.starts_with("twinse-")))
            .or_else(|| entries.first());
        chosen.map_or(Started::Nothing, |(set, _)| Started::Set(*set))
    }
}

fn partitions() -> [BootPartition; 2] {
    [0, 1].map(|index| BootPartition {
        number: 1 + index as u32,
        start_blocks: 2048 + 131_072 * index as u64,
        size_blocks: 131_072,
        guid: guid_of_text(GUIDS[index].as_bytes()).unwrap(),
    })
}

/// Cuts the power before every change of `call`. After each cut what boots is what booted before or what boots when all is done, and
/// never the former again after the latter; the same call then brings the rest. Gives how many cuts there were.
fn cut_everywhere<C>(what: &str, machine: impl Fn() -> Machine, call: C) -> u32
where
    C: Fn(&Machine) -> Result<bool, StorageError>,
{
    let done = machine();
    let before = done.starts();
    assert_eq!(call(&done), Ok(true), "{what}");
    let after = done.starts();
    let mut is_new = false;
    for cuts in 0.. {
        let machine = machine();
        let result = cut::after(cuts, || call(&machine));
        let starts = machine.starts();
        assert!(
            starts == after || starts == before && !is_new,
            "{what}, cut {cuts}: {starts:?} starts"
        );
        is_new = starts == after && before != after;
        if result.is_ok() {
            assert_eq!(starts, after, "{what}");
            println!("{what}: {cuts} cuts");
            return cuts;
        }
        assert_eq!(call(&machine), Ok(true), "{what}, cut {cuts}");
        assert_eq!(machine.starts(), after, "{what}, cut {cuts}");
        assert_eq!(machine.state(), done.state(), "{what}, cut {cuts}");
        assert_eq!(call(&machine), Ok(false), "{what}, cut {cuts}: settled");
    }
    0
}

#[test]
fn a_cut_between_two_variables_boots_the_old_or_the_new_set() {
    let told = || {
        let machine = Machine::new();
        machine.uefi().set_default(Set::A).unwrap();
        machine
    };
    assert_eq!(told().starts(), Started::Set(Set::A));
    let fresh = cut_everywhere("a new machine", Machine::new, |machine| {
        machine.uefi().set_default(Set::A)
    });
    // Two entries and the order.
    assert_eq!(fresh, 3);
    let other = cut_everywhere("another default", told, |machine| {
        machine.uefi().set_default(Set::B)
    });
    assert_eq!(other, 1);
    for lost in ["Boot0001", "Boot0003", "BootOrder"] {
        let damaged = || {
            let machine = told();
            machine.lose(lost);
            machine
        };
        let default = cut_everywhere(lost, damaged, |machine| machine.uefi().set_default(Set::B));
        assert!(default > 0);
        let next = cut_everywhere(lost, damaged, |machine| {
            machine.uefi().set_next(Some(Set::B))
        });
        assert!(next > 0);
    }
    let armed = || {
        let machine = told();
        machine.uefi().set_next(Some(Set::B)).unwrap();
        machine
    };
    assert_eq!(armed().starts(), Started::Set(Set::B));
    let called_off = cut_everywhere("called off", armed, |machine| machine.uefi().set_next(None));
    assert_eq!(called_off, 1);
}

#[test]
fn a_cut_between_two_steps_boots_the_old_or_the_new_default_set() {
    let told = || {
        let machine = Machine::new();
        machine.systemd_boot().set_default(Set::A).unwrap();
        machine
    };
    assert_eq!(told().starts(), Started::Set(Set::A));
    let fresh = cut_everywhere("a new machine", Machine::new, |machine| {
        machine.systemd_boot().set_default(Set::A)
    });
    // The variable, four entries and the order.
    assert_eq!(fresh, 6);
    let commit = cut_everywhere("a commit", told, |machine| {
        machine.systemd_boot().set_default(Set::B)
    });
    // The name, the variable and the order.
    assert_eq!(commit, 3);
    let committed = || {
        let machine = told();
        machine.systemd_boot().set_default(Set::B).unwrap();
        machine
    };
    let back = cut_everywhere("back", committed, |machine| {
        machine.systemd_boot().set_default(Set::A)
    });
    assert_eq!(back, 2);
    let trial = cut_everywhere("a trial", told, |machine| {
        machine.systemd_boot().set_next(Some(Set::B))
    });
    assert_eq!(trial, 1);
    for lost in ["Boot0001", "Boot0003", "Boot0004", "Boot0005"] {
        let damaged = || {
            let machine = told();
            machine.lose(lost);
            machine
        };
        let cuts = cut_everywhere(lost, damaged, |machine| {
            machine.systemd_boot().set_default(Set::B)
        });
        assert!(cuts > 3, "{lost}");
    }
}
