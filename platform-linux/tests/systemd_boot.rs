//! systemd-boot follows what it is told: on a plain folder that stands for efivarfs and plain folders that stand for the boot slots.
//!
//! What systemd-boot does with these is modelled here in a few lines (`SystemdBoot`), from the Boot Loader Specification, and shown
//! with the real one on a board; `bootctl` reads the same files, as the format's own tool.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageFault, StorageObject, StorageOperation};
use twinseal_platform_linux::efivars::Variables;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, SystemdBootLoader};
use twinseal_platform_linux::partition::guid_of_text;
use twinseal_platform_linux::{BootLayout, uki_path};

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

const GUIDS: [&str; 2] = [
    "12345678-9abc-def0-1122-334455667788",
    "fedcba98-7654-3210-8877-665544332211",
];

/// A machine: its variables and its boot slots.
struct Machine {
    folder: TempDir,
    variables: String,
    slots: [String; 2],
}

impl Machine {
    /// Set A is what a disk is delivered with, set B has just been installed.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let machine = Self {
            variables: text("efivars"),
            slots: [text("boot-a"), text("boot-b")],
            folder,
        };
        fs::create_dir(&machine.variables).unwrap();
        for slot in &machine.slots {
            fs::create_dir_all(format!("{slot}/EFI/Linux")).unwrap();
        }
        fs::write(machine.uki(Set::A, "TWINSE-A.EFI"), uki("1")).unwrap();
        fs::write(machine.uki(Set::B, "TWINTRYB.EFI"), uki("2")).unwrap();
        machine
    }

    fn told(default: Set) -> Self {
        let machine = Self::new();
        machine.loader().set_default(default).unwrap();
        machine
    }

    fn loader(&self) -> SystemdBootLoader {
        let [a, b] = &self.slots;
        SystemdBootLoader::open(&self.variables, [partition(0), partition(1)], [a, b]).unwrap()
    }

    fn uki(&self, set: Set, name: &str) -> PathBuf {
        let [a, b] = &self.slots;
        PathBuf::from(format!("{}/EFI/Linux/{name}", set.of([a, b])))
    }

    /// The names of all UKIs.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .slots
            .iter()
            .flat_map(|slot| fs::read_dir(format!("{slot}/EFI/Linux")).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn file(&self, name: &str, vendor: &str) -> PathBuf {
        PathBuf::from(format!("{}/{name}-{vendor}", self.variables))
    }

    fn put(&self, name: &str, vendor: &str, value: &[u8]) {
        fs::write(self.file(name, vendor), [&[7, 0, 0, 0], value].concat()).unwrap();
    }

    fn put_text(&self, name: &str, text: &str) {
        self.put(name, LOADER, &utf16(text));
    }

    fn value(&self, name: &str, vendor: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.file(name, vendor)).ok()?;
        assert_eq!(bytes[..4], [7, 0, 0, 0], "attributes of {name}");
        Some(bytes[4..].to_vec())
    }

    fn wipe_variables(&self) {
        for entry in fs::read_dir(&self.variables).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// Everything that is stored, file by file.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let [a, b] = &self.slots;
        let folders = [
            self.variables.clone(),
            format!("{a}/EFI/Linux"),
            format!("{b}/EFI/Linux"),
        ];
        let mut all: Vec<_> = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect();
        all.sort();
        all
    }
}

/// What systemd-boot 257 does when it is started.
struct SystemdBoot {
    /// The set that it starts.
    starts: Option<Set>,
}

impl SystemdBoot {
    fn power_on(machine: &Machine) -> Self {
        let one_shot = text_of(machine, "LoaderEntryOneShot");
        let _ = fs::remove_file(machine.file("LoaderEntryOneShot", LOADER));
        let mut entries: Vec<(Set, String)> = Set::BOTH
            .into_iter()
            .flat_map(|set| {
                let folder = machine.uki(set, "");
                fs::read_dir(folder).unwrap().map(move |entry| (set, entry))
            })
            .map(|(set, entry)| (set, entry.unwrap().file_name().into_string().unwrap()))
            .map(|(set, name)| (set, name.to_ascii_lowercase()))
            .filter(|(_, name)| name.ends_with(".efi"))
            .collect();
        // The newest version first: here that of set B.
        entries.sort_by_key(|(set, _)| *set == Set::A);
        let by_id = |id: &Option<String>| {
            let id = id.as_ref()?;
            entries.iter().find(|(_, name)| name == id)
        };
        let default = text_of(machine, "LoaderEntryDefault");
        // `default twinse-*` of loader.conf.
        let configured = entries.iter().find(|(_, name)| name.starts_with("twinse-"));
        let chosen = by_id(&one_shot)
            .or_else(|| by_id(&default))
            .or(configured)
            .or_else(|| entries.first());
        Self {
            starts: chosen.map(|(set, _)| *set),
        }
    }
}

fn text_of(machine: &Machine, name: &str) -> Option<String> {
    let units: Vec<u16> = machine
        .value(name, LOADER)?
        .chunks(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]))
        .collect();
    Some(
        String::from_utf16(&units)
            .unwrap()
            .trim_end_matches('\0')
            .to_owned(),
    )
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

fn partition(index: usize) -> BootPartition {
    BootPartition {
        number: 1 + index as u32,
        start_blocks: 2048 + 131_072 * index as u64,
        size_blocks: 131_072,
        guid: guid_of_text(GUIDS[index].as_bytes()).unwrap(),
    }
}

/// A PE file with the two sections by which an entry is known (UAPI group, "Unified Kernel Image"), and nothing to run.
fn uki(version: &str) -> Vec<u8> {
    let release = format!(
        "ID=lab\nIMAGE_ID=lab\nPRETTY_NAME=Lab\nVERSION_ID={version}\nIMAGE_VERSION={version}\n"
    );
    let sections: [(&[u8; 8], Vec<u8>); 3] = [
        (b".osrel\0\0", release.into_bytes()),
        (b".cmdline", b"quiet".to_vec()),
        (b".linux\0\0", vec![0; 512]),
    ];
    let mut header = vec![0; 0x40];
    header[..2].copy_from_slice(b"MZ");
    header[0x3c] = 0x40;
    header.extend(b"PE\0\0");
    // IMAGE_FILE_HEADER: machine, sections, three fields unused, size of the optional header, executable.
    header.extend([0x64, 0x86, 3, 0]);
    header.extend([0; 12]);
    header.extend([112, 0, 0x22, 0]);
    // PE32+, and no data directories.
    header.extend([0x0b, 0x02]);
    header.extend([0; 110]);
    let mut content = Vec::new();
    for (index, (name, bytes)) in sections.iter().enumerate() {
        let offset = 1024 + content.len() as u32;
        let address = 0x1000 * (1 + index as u32);
        let length = bytes.len() as u32;
        header.extend(*name);
        for field in [
            length,
            address,
            length.next_multiple_of(512),
            offset,
            0,
            0,
            0,
        ] {
            header.extend(field.to_le_bytes());
        }
        header.extend(0x4000_0040_u32.to_le_bytes());
        content.extend(bytes);
        content.resize(content.len().next_multiple_of(512), 0);
    }
    header.resize(1024, 0);
    header.extend(content);
    header
}

#[test]
fn a_trial_boots_once_for_each_time_it_is_armed() {
    let machine = Machine::told(Set::A);
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
    for attempt in 0..3 {
        assert_eq!(machine.loader().set_next(Some(Set::B)), Ok(true));
        assert_eq!(machine.loader().next_set(), Ok(Some(Set::B)));
        assert_eq!(machine.loader().default_set(), Ok(Some(Set::A)));
        assert_eq!(
            SystemdBoot::power_on(&machine).starts,
            Some(Set::B),
            "attempt {attempt}"
        );
        assert_eq!(machine.loader().next_set(), Ok(None));
        for _ in 0..2 {
            assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
        }
        assert_eq!(machine.names(), ["TWINSE-A.EFI", "TWINTRYB.EFI"]);
    }
}

#[test]
fn the_default_set_has_a_name_of_its_own() {
    let machine = Machine::told(Set::A);
    machine.loader().set_next(Some(Set::B)).unwrap();
    SystemdBoot::power_on(&machine);
    assert_eq!(machine.loader().set_default(Set::B), Ok(true));
    assert_eq!(machine.names(), ["TWINSE-A.EFI", "TWINSE-B.EFI"]);
    assert_eq!(machine.loader().default_set(), Ok(Some(Set::B)));
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::B));
    assert_eq!(machine.loader().set_default(Set::A), Ok(true));
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
    assert_eq!(machine.loader().set_next(Some(Set::B)), Ok(true));
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::B));
    assert_eq!(machine.names(), ["TWINSE-A.EFI", "TWINSE-B.EFI"]);
}

#[test]
fn what_was_told_is_taken_back() {
    let machine = Machine::told(Set::A);
    assert_eq!(machine.loader().set_next(None), Ok(false));
    machine.loader().set_next(Some(Set::B)).unwrap();
    assert_eq!(machine.loader().set_next(None), Ok(true));
    assert_eq!(machine.value("LoaderEntryOneShot", LOADER), None);
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
}

/// Where systemd-boot counts, `LoaderBootCountPath` outlives a refused UKI, and the default set finds the path of what was refused.
/// Whatever it says, every call does the same.
#[test]
fn a_stale_path_of_the_boot_count_blesses_nothing() {
    let machine = Machine::told(Set::A);
    let mut paths = 0;
    for path in [
        "\\EFI\\Linux\\TWINTRYB.EFI",
        "\\EFI\\Linux\\twintryb+0-1.efi",
        "\\EFI\\Linux\\TWINSE-A.EFI",
        "",
    ] {
        // The firmware refused what systemd-boot was asked for, and started systemd-boot again.
        machine.loader().set_next(Some(Set::B)).unwrap();
        assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::B));
        assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
        machine.put_text("LoaderBootCountPath", path);
        machine.put_text("LoaderEntrySelected", "twintryb.efi");
        let before = machine.everything();
        assert_eq!(machine.loader().set_next(None), Ok(false));
        assert_eq!(machine.loader().set_default(Set::A), Ok(false));
        assert_eq!(machine.loader().default_set(), Ok(Some(Set::A)));
        assert_eq!(machine.everything(), before);
        assert_eq!(machine.names(), ["TWINSE-A.EFI", "TWINTRYB.EFI"]);
        paths += 1;
    }
    assert_eq!(paths, 4);
}

/// Set B is newer, so systemd-boot would take it first if the names said nothing.
#[test]
fn lost_variables_start_nothing_that_was_not_committed() {
    let machine = Machine::told(Set::A);
    machine.wipe_variables();
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
    // Armed.
    machine.loader().set_next(Some(Set::B)).unwrap();
    machine.wipe_variables();
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
    // The only set there is.
    fs::remove_file(machine.uki(Set::A, "TWINSE-A.EFI")).unwrap();
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::B));
    assert_eq!(machine.loader().default_set(), Ok(None));
    assert_eq!(machine.loader().set_default(Set::B), Ok(true));
    assert_eq!(machine.loader().default_set(), Ok(Some(Set::B)));
}

#[test]
fn what_is_so_already_is_not_written() {
    let machine = Machine::told(Set::A);
    machine.loader().set_next(Some(Set::B)).unwrap();
    let before = machine.everything();
    assert_eq!(machine.loader().set_default(Set::A), Ok(false));
    assert_eq!(machine.loader().set_next(Some(Set::B)), Ok(false));
    assert_eq!(machine.everything(), before);
}

#[test]
fn what_another_program_told_is_left_alone() {
    let machine = Machine::told(Set::A);
    machine.put_text("LoaderEntryOneShot", "memtest.conf");
    assert_eq!(machine.loader().next_set(), Ok(None));
    assert_eq!(machine.loader().set_next(None), Ok(false));
    assert_eq!(
        text_of(&machine, "LoaderEntryOneShot").unwrap(),
        "memtest.conf"
    );
    machine.put_text("LoaderEntryDefault", "@saved");
    assert_eq!(machine.loader().default_set(), Ok(None));
    machine.put_text("LoaderEntryDefault", "twintryb.efi");
    assert_eq!(machine.loader().default_set(), Ok(None), "a trial for ever");
    // In another case it is ours: systemd-boot compares without.
    machine.put_text("LoaderEntryOneShot", "TWINSE-B.efi");
    assert_eq!(machine.loader().next_set(), Ok(Some(Set::B)));
}

#[test]
fn the_firmware_starts_systemd_boot_twice_and_then_the_sets() {
    let machine = Machine::told(Set::B);
    let order = machine.value("BootOrder", GLOBAL).unwrap();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 3, 0]);
    let files = [
        ("twinseal loader", "\\EFI\\systemd\\systemd-bootx64.efi", 0),
        ("twinseal loader again", "\\EFI\\BOOT\\BOOTX64.EFI", 0),
        ("twinseal direct b", "\\EFI\\Linux\\TWINSE-B.EFI", 1),
        ("twinseal direct a", "\\EFI\\Linux\\TWINSE-A.EFI", 0),
    ];
    for (number, (description, file, partition)) in files.iter().enumerate() {
        let option = machine.value(&format!("Boot000{number}"), GLOBAL).unwrap();
        let has = |bytes: &[u8]| option.windows(bytes.len()).any(|found| found == bytes);
        assert!(option[6..].starts_with(&utf16(description)), "{number}");
        assert!(
            !cfg!(target_arch = "x86_64") || has(&utf16(file)),
            "{number}"
        );
        assert!(has(&guid_of_text(GUIDS[*partition].as_bytes()).unwrap()));
    }
    machine.loader().set_default(Set::A).unwrap();
    let order = machine.value("BootOrder", GLOBAL).unwrap();
    assert_eq!(order, [0, 0, 1, 0, 3, 0, 2, 0]);
    // Either entry of systemd-boot counts as the default set's: without the second a refused trial would stop the board.
    for number in [0, 1] {
        let name = format!("Boot000{number}");
        let entry = machine.value(&name, GLOBAL).unwrap();
        fs::remove_file(machine.file(&name, GLOBAL)).unwrap();
        assert_eq!(machine.loader().default_set(), Ok(None), "{name}");
        machine.put(&name, GLOBAL, &entry);
        assert_eq!(machine.loader().default_set(), Ok(Some(Set::A)));
    }
}

#[test]
fn an_initramfs_asks_once() {
    let machine = Machine::told(Set::B);
    machine.loader().set_default(Set::B).unwrap();
    let variables = Variables::open(&machine.variables).unwrap();
    assert_eq!(SystemdBootLoader::ask_once(&variables, Set::A), Ok(true));
    assert_eq!(SystemdBootLoader::ask_once(&variables, Set::A), Ok(false));
    assert_eq!(SystemdBootLoader::try_once(&variables, Set::A), Ok(true));
    assert_eq!(SystemdBootLoader::ask_once(&variables, Set::A), Ok(true));
    assert_eq!(machine.names(), ["TWINSE-A.EFI", "TWINSE-B.EFI"]);
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::A));
    assert_eq!(SystemdBoot::power_on(&machine).starts, Some(Set::B));
}

#[test]
fn whether_systemd_boot_ran_is_known() {
    let machine = Machine::new();
    let variables = Variables::open(&machine.variables).unwrap();
    assert_eq!(SystemdBootLoader::ran_in_this_boot(&variables), Ok(false));
    for (info, expected) in [
        ("systemd-boot 257.13-1~deb13u1", true),
        ("systemd-boot 257.13-1~a-very-long-name-of-a-version", true),
        ("GRUB 2.12", false),
        ("systemd-boot", false),
        ("", false),
    ] {
        machine.put_text("LoaderInfo", info);
        assert_eq!(
            SystemdBootLoader::ran_in_this_boot(&variables),
            Ok(expected),
            "{info}"
        );
    }
}

#[test]
fn no_state_of_the_variables_makes_it_fall_over() {
    for value in [&[][..], &[1], &[0xff; 63], &[0xd8; 64], &[0; 300]] {
        let machine = Machine::told(Set::A);
        for name in ["LoaderEntryDefault", "LoaderEntryOneShot", "LoaderInfo"] {
            machine.put(name, LOADER, value);
        }
        assert_eq!(machine.loader().default_set(), Ok(None), "{value:?}");
        assert_eq!(machine.loader().next_set(), Ok(None), "{value:?}");
        assert_eq!(machine.loader().set_next(None), Ok(false), "{value:?}");
    }
}

#[test]
fn a_set_without_a_uki_is_told_all_the_same() {
    let machine = Machine::new();
    fs::remove_file(machine.uki(Set::A, "TWINSE-A.EFI")).unwrap();
    assert_eq!(machine.loader().set_default(Set::A), Ok(true));
    assert_eq!(machine.names(), ["TWINTRYB.EFI"]);
    let folder = machine.slots[0].as_str();
    assert_eq!(uki_path(folder, BootLayout::EntryFolder(Set::A)), Ok(None));
}

#[test]
fn a_boot_slot_that_is_not_mounted_is_said() {
    let machine = Machine::told(Set::A);
    let absent = machine.folder.path().join("absent");
    let folders = [machine.slots[0].as_str(), absent.to_str().unwrap()];
    let partitions = [partition(0), partition(1)];
    let mut loader = SystemdBootLoader::open(&machine.variables, partitions, folders).unwrap();
    // What does not need it works.
    assert_eq!(loader.default_set(), Ok(Some(Set::A)));
    assert_eq!(loader.set_default(Set::A), Ok(false));
    assert_eq!(loader.set_next(None), Ok(false));
    let open = (StorageOperation::Open, StorageObject::BootSlot);
    let error = loader.set_next(Some(Set::B)).unwrap_err();
    assert_eq!((error.operation, error.object), open);
    let error = loader.set_default(Set::B).unwrap_err();
    assert_eq!((error.operation, error.object), open);
    assert_eq!(machine.value("LoaderEntryOneShot", LOADER), None);
    assert_eq!(loader.default_set(), Ok(Some(Set::A)));
}

#[test]
fn both_sets_never_boot_from_one_place() {
    let machine = Machine::new();
    let [a, b] = &machine.slots;
    let partitions = [partition(0), partition(1)];
    for (partitions, folders) in [
        ([partition(0), partition(0)], [a.as_str(), b]),
        (partitions, [a, a]),
    ] {
        let refused = SystemdBootLoader::open(&machine.variables, partitions, folders);
        let fault = refused.map(|_| ()).unwrap_err().fault;
        assert!(matches!(fault, StorageFault::Code(22)), "{fault:?}");
    }
}

/// The tool of systemd-boot reads what we made. It wants file systems of their own, so they are copied into such ones, in a mount
/// namespace of the tool's.
#[test]
fn bootctl_lists_our_entries() {
    const IN_FILE_SYSTEMS: &str = r#"
        set -e
        for slot in "$1" "$2"; do
            cp -r "$slot" "$slot.copy"
            mount -t tmpfs none "$slot"
            cp -r "$slot.copy/EFI" "$slot/EFI"
            rm -r "$slot.copy"
        done
        mkdir "$1/loader"
        exec bootctl --esp-path="$1" --boot-path="$2" --json=short list
    "#;
    let machine = Machine::told(Set::A);
    let list = || {
        let output = Command::new("unshare")
            .args(["-rm", "sh", "-c", IN_FILE_SYSTEMS, "sh"])
            .args(&machine.slots)
            .env("SYSTEMD_RELAX_ESP_CHECKS", "1")
            .env("SYSTEMD_RELAX_XBOOTLDR_CHECKS", "1")
            .output()
            .expect("unshare (package util-linux) is needed");
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "bootctl (package systemd-boot), and the right to mount in a namespace, are needed: {text}{errors}"
        );
        assert_eq!(text.lines().count(), 2, "{text}{errors}");
        text
    };
    // The newest version comes first. No name has a counter.
    let mut states = 0;
    let mut check = |b: &str| {
        let text = list();
        for (line, name) in text.lines().zip([b, "boot-a/EFI/Linux/TWINSE-A.EFI"]) {
            assert!(line.contains(name), "{name} is missing: {text}");
            assert!(!line.contains("tries"), "{text}");
        }
        states += 1;
    };
    check("boot-b/EFI/Linux/TWINTRYB.EFI");
    machine.loader().set_default(Set::B).unwrap();
    check("boot-b/EFI/Linux/TWINSE-B.EFI");
    assert_eq!(states, 2);
}
