//! The boot manager of a UEFI firmware follows what it is told: on a plain folder that stands for efivarfs, without a firmware.
//!
//! What a real firmware does with these variables is shown on the `uefi` board; here `efibootmgr` reads them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use twinseal_core::boot::Set;
use twinseal_core::error::StorageFault;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, UefiLoader};
use twinseal_platform_linux::partition::guid_of_text;

const VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

const GUIDS: [&str; 2] = [
    "12345678-9abc-def0-1122-334455667788",
    "fedcba98-7654-3210-8877-665544332211",
];

/// A plain folder in place of efivarfs.
struct PlainFolder {
    folder: TempDir,
}

impl PlainFolder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    /// What a machine has that has run for a while: a boot manager of another system and a setup program.
    fn with_others() -> Self {
        let folder = Self::new();
        folder.put("Boot0000", &option("other system"));
        folder.put("Boot0002", &option("UiApp"));
        folder.put("BootOrder", &[2, 0, 0, 0]);
        folder.put("BootCurrent", &[0, 0]);
        folder.put("Boot00ff", b"a name with small letters is not an entry");
        folder
    }

    fn loader(&self) -> UefiLoader {
        UefiLoader::open(self.path(), [partition(0), partition(1)]).unwrap()
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}-{VENDOR}"))
    }

    fn put(&self, name: &str, value: &[u8]) {
        fs::write(self.file(name), [&[7, 0, 0, 0], value].concat()).unwrap();
    }

    fn value(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.file(name)).ok()?;
        assert_eq!(bytes[..4], [7, 0, 0, 0], "attributes of {name}");
        Some(bytes[4..].to_vec())
    }

    fn order(&self) -> Vec<u16> {
        let bytes = self.value("BootOrder").unwrap_or_default();
        bytes
            .chunks(2)
            .map(|two| u16::from_le_bytes([two[0], two[1]]))
            .collect()
    }

    /// All that the folder holds.
    fn everything(&self) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect();
        all.sort();
        all
    }
}

fn partition(index: usize) -> BootPartition {
    BootPartition {
        number: 1 + index as u32,
        start_blocks: 2048 + 131_072 * index as u64,
        size_blocks: 131_072,
        guid: guid_of_text(GUIDS[index].as_bytes()).unwrap(),
    }
}

/// A load option of somebody else: a description and a device path that ends at once.
fn option(description: &str) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 4, 0];
    bytes.extend(
        description
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes),
    );
    bytes.extend([0x7f, 0xff, 4, 0]);
    bytes
}

#[test]
fn lost_entries_are_made_in_free_numbers_and_go_first() {
    let folder = PlainFolder::with_others();
    let mut loader = folder.loader();
    assert_eq!(loader.default_set(), Ok(None));
    assert_eq!(loader.set_default(Set::B), Ok(true));
    assert_eq!(loader.default_set(), Ok(Some(Set::B)));
    // Set B was made first, in number 1; number 2 is another's.
    assert_eq!(folder.order(), [1, 3, 2, 0]);
    assert_eq!(folder.value("Boot0000"), Some(option("other system")));
    assert_eq!(folder.value("Boot0002"), Some(option("UiApp")));
    assert_eq!(loader.set_default(Set::A), Ok(true));
    assert_eq!(folder.order(), [3, 1, 2, 0]);
    assert_eq!(loader.default_set(), Ok(Some(Set::A)));
}

#[test]
fn what_is_so_already_is_not_written() {
    let folder = PlainFolder::with_others();
    let mut loader = folder.loader();
    loader.set_default(Set::A).unwrap();
    loader.set_next(Some(Set::B)).unwrap();
    let before = folder.everything();
    assert_eq!(loader.set_default(Set::A), Ok(false));
    assert_eq!(loader.set_next(Some(Set::B)), Ok(false));
    assert_eq!(folder.everything(), before);
}

#[test]
fn entries_that_a_firmware_adds_behind_ours_stay_there() {
    let folder = PlainFolder::new();
    let mut loader = folder.loader();
    loader.set_default(Set::A).unwrap();
    folder.put("Boot0002", &option("UEFI Misc Device"));
    folder.put("BootOrder", &[0, 0, 1, 0, 2, 0]);
    assert_eq!(loader.default_set(), Ok(Some(Set::A)));
    assert_eq!(loader.set_default(Set::A), Ok(false));
    // A firmware that puts its own entry first has another default than we told it.
    folder.put("BootOrder", &[2, 0, 0, 0, 1, 0]);
    assert_eq!(loader.default_set(), Ok(None));
    assert_eq!(loader.set_default(Set::A), Ok(true));
    assert_eq!(folder.order(), [0, 1, 2]);
}

#[test]
fn the_next_boot_is_told_and_taken_back() {
    let folder = PlainFolder::with_others();
    let mut loader = folder.loader();
    loader.set_default(Set::A).unwrap();
    assert_eq!(loader.next_set(), Ok(None));
    assert_eq!(loader.set_next(None), Ok(false));
    assert_eq!(loader.set_next(Some(Set::B)), Ok(true));
    assert_eq!(folder.value("BootNext"), Some(vec![3, 0]));
    assert_eq!(loader.next_set(), Ok(Some(Set::B)));
    assert_eq!(loader.default_set(), Ok(Some(Set::A)));
    assert_eq!(loader.set_next(Some(Set::A)), Ok(true));
    assert_eq!(loader.next_set(), Ok(Some(Set::A)));
    assert_eq!(loader.set_next(None), Ok(true));
    assert_eq!(folder.value("BootNext"), None);
}

#[test]
fn what_another_program_told_for_the_next_boot_is_left_alone() {
    let folder = PlainFolder::with_others();
    let mut loader = folder.loader();
    folder.put("BootNext", &[2, 0]);
    assert_eq!(loader.next_set(), Ok(None));
    assert_eq!(loader.set_next(None), Ok(false));
    assert_eq!(folder.value("BootNext"), Some(vec![2, 0]));
}

#[test]
fn an_entry_that_is_wrong_is_made_right_in_its_place() {
    let folder = PlainFolder::new();
    let mut loader = folder.loader();
    loader.set_default(Set::A).unwrap();
    let right = folder.value("Boot0000").unwrap();
    let mut attacked = 0;
    // Attributes, partition number, start, size, and the file's name: not the description and GUID, by which it is known.
    for position in [0, 32, 36, 44, 74, right.len() - 1] {
        let mut wrong = right.clone();
        wrong[position] ^= 1;
        folder.put("Boot0000", &wrong);
        assert_eq!(loader.default_set(), Ok(None), "byte {position}");
        assert_eq!(loader.set_default(Set::A), Ok(true), "byte {position}");
        assert_eq!(folder.value("Boot0000").unwrap(), right, "byte {position}");
        attacked += 1;
    }
    assert_eq!(attacked, 6);
    assert_eq!(folder.order(), [0, 1]);
}

#[test]
fn an_entry_of_another_disk_is_not_ours() {
    let folder = PlainFolder::new();
    folder.loader().set_default(Set::A).unwrap();
    let theirs = folder.value("Boot0000").unwrap();
    let mut partitions = [partition(0), partition(1)];
    partitions[0].guid[0] ^= 1;
    let mut loader = UefiLoader::open(folder.path(), partitions).unwrap();
    assert_eq!(loader.default_set(), Ok(None));
    assert_eq!(loader.set_default(Set::A), Ok(true));
    assert_eq!(folder.value("Boot0000").unwrap(), theirs);
    assert_eq!(folder.order(), [2, 1, 0]);
}

#[test]
fn variables_that_were_wiped_are_made_anew() {
    let folder = PlainFolder::new();
    let mut loader = folder.loader();
    loader.set_default(Set::B).unwrap();
    let before = folder.everything();
    for (name, _) in &before {
        fs::remove_file(folder.folder.path().join(name)).unwrap();
    }
    assert_eq!(loader.default_set(), Ok(None));
    assert_eq!(loader.set_default(Set::B), Ok(true));
    assert_eq!(folder.everything(), before);
}

#[test]
fn no_state_of_the_variables_makes_it_fall_over() {
    for value in [&[][..], &[1], &[1, 0, 0], &[0xff; 64], &[0; 64]] {
        let folder = PlainFolder::with_others();
        for name in ["BootOrder", "BootNext", "Boot0001"] {
            folder.put(name, value);
        }
        let mut loader = folder.loader();
        assert_eq!(loader.default_set(), Ok(None), "{value:?}");
        assert_eq!(loader.next_set(), Ok(None), "{value:?}");
    }
    let folder = PlainFolder::with_others();
    folder.put("BootOrder", &[0; 2000]);
    let error = folder.loader().default_set().unwrap_err();
    assert_eq!(error.fault, StorageFault::Full);
}

#[test]
fn both_sets_never_boot_from_one_partition() {
    let folder = PlainFolder::new();
    assert!(UefiLoader::open(folder.path(), [partition(0), partition(0)]).is_err());
}

/// The tool that others use on such variables reads ours. It is pointed to the plain folder.
#[test]
fn efibootmgr_reads_what_we_wrote() {
    let folder = PlainFolder::with_others();
    // The tool takes this name for an entry.
    fs::remove_file(folder.file("Boot00ff")).unwrap();
    let mut loader = folder.loader();
    loader.set_default(Set::A).unwrap();
    loader.set_next(Some(Set::B)).unwrap();
    let output = Command::new("efibootmgr")
        .arg("-v")
        .env("EFIVARFS_PATH", format!("{}/", folder.path()))
        .output()
        .expect("efibootmgr (package efibootmgr) is needed");
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}{errors}");
    let has = |words: &str| assert!(text.contains(words), "{words} is missing:\n{text}{errors}");
    has("BootOrder: 0001,0003,0002,0000\n");
    has("BootNext: 0003\n");
    for (entry, index) in [("Boot0001* twinseal a\t", 0), ("Boot0003* twinseal b\t", 1)] {
        let partition = partition(index);
        has(&format!(
            "{entry}HD({},GPT,{},{:#x},{:#x})/File(\\EFI\\BOOT\\BOOTX64.EFI)",
            partition.number, GUIDS[index], partition.start_blocks, partition.size_blocks
        ));
    }
}
