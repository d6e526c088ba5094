//! Slots that are block devices are mounted for the time of a command, unseen by anybody else, and gone when it is killed.

mod support;

use std::path::Path;
use std::process::Command;
use support::Board;
use support::bundle::{Release, key};
use twinseal::loader::{LoaderSlot, MountingLoader};
use twinseal_core::boot::Set;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, SystemdBootLoader};

/// Loop devices that are given back at the end.
struct Loops(Vec<String>);

impl Loops {
    /// An ext4 file system on a loop device.
    fn add(&mut self, file: &Path) -> String {
        let name = file.to_str().unwrap();
        let size = 24 * 1024 * 1024;
        std::fs::File::create(file).unwrap().set_len(size).unwrap();
        let options = ["-q", "-t", "ext4", "-O", "verity", "-b", "4096", name];
        said("mke2fs", &options).expect("mke2fs makes a file system (package e2fsprogs)");
        let device = said("losetup", &["--find", "--show", name])
            .expect("losetup makes a loop device: needs root (package mount)")
            .trim_end()
            .to_owned();
        self.0.push(device.clone());
        device
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for device in &self.0 {
            said("losetup", &["--detach", device]);
        }
    }
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
#[ignore = "needs root, loop devices and mke2fs"]
fn block_devices_are_mounted_for_a_command_and_nobody_sees_it() {
    let mut loops = Loops(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|set| loops.add(&folder.path().join(set)));
    let slots = format!(
        "[sets.a]\nboot = \"boot-a\"\nroot = \"{a}\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"{b}\"\n"
    );
    let board = Board::at(tempfile::tempdir().unwrap(), "absent", &slots);
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    let seen = |mounts: &str| mounts.contains(a.as_str()) || mounts.contains(b.as_str());
    let board = board.booted(&Release::sealed(1).bundle(&[&key(1)]));
    let file = board.bundle(&Release::sealed(2).bundle(&[&key(1)]));
    let mut install = board.start(&["--json", "install", &file]);
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(install.stdout.take().unwrap()));
    let writing = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"writing\"")));
    assert!(writing.is_some());
    assert!(!seen(&mounts()), "seen while the install runs");
    install.kill().unwrap();
    install.wait().unwrap();
    assert!(!seen(&mounts()), "left behind");
    assert_eq!(
        board.install(&Release::sealed(2).bundle(&[&key(1)]))["event"],
        "installed"
    );
    assert_eq!(board.select(), "b trial, 2 attempts left");
    board.ok(&["mark-good"]);
    let said = said("e2fsck", &["-fn", &b]);
    assert!(said.is_some(), "the file system is clean");
}

/// A mount that is taken away at the end.
struct Mount(String);

impl Drop for Mount {
    fn drop(&mut self) {
        said("umount", &[&self.0]);
    }
}

#[test]
#[ignore = "needs root, loop devices and mke2fs"]
fn a_running_set_that_is_mounted_read_only_is_repaired_and_read_only_again() {
    let mut loops = Loops(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|set| loops.add(&folder.path().join(set)));
    let slots = format!(
        "[sets.a]\nboot = \"boot-a\"\nroot = \"{a}\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"{b}\"\n"
    );
    let board = Board::at(tempfile::tempdir().unwrap(), "absent", &slots);
    let board = board.booted(&Release::sealed(1).bundle(&[&key(1)]));
    board.install(&Release::sealed(1).bundle(&[&key(1)]));
    let root = board.text("root-slot");
    std::fs::create_dir(&root).unwrap();
    let mounted =
        |options: &str| said("mount", &["-o", options, &a, &root]).map(|_| Mount(root.clone()));
    let writable = mounted("rw").unwrap();
    let object = support::bundle::verity(&support::bundle::content(0, 20_000)).to_string();
    let file = format!("{root}/composefs/objects/{}/{}", &object[..2], &object[2..]);
    std::fs::write(&file, "short").unwrap();
    drop(writable);
    // As the initramfs leaves it.
    let _mount = mounted("ro").unwrap();
    assert_eq!(board.run(&["check", "--set", "a"]).code, 81);
    let run = board.run(&["repair", "--from-other-set"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(!run.err.contains("stays open"), "{}", run.err);
    assert_eq!(
        std::fs::read(&file).unwrap(),
        support::bundle::content(0, 20_000)
    );
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(&root)).unwrap();
    assert!(line.contains(" ro,"), "{line}");
    assert!(std::fs::write(&file, "again").is_err(), "read-only again");
    assert_eq!(board.run(&["check"]).code, 0);
}

#[test]
#[ignore = "needs root, loop devices, mke2fs, and a kernel with fs-verity"]
fn a_block_that_went_bad_is_refused_by_the_kernel_and_repaired() {
    assert!(
        Path::new("/sys/fs/ext4/features/verity").exists(),
        "this kernel has no fs-verity: leave this test out with --skip refused_by_the_kernel"
    );
    let mut loops = Loops(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|set| loops.add(&folder.path().join(set)));
    let slots = format!(
        "[sets.a]\nboot = \"boot-a\"\nroot = \"{a}\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"{b}\"\n"
    );
    let board = Board::at(tempfile::tempdir().unwrap(), "required", &slots);
    let bundle = board.bundle(&Release::sealed(1).bundle(&[&key(1)]));
    board.ok(&["device", "init", "--both", &bundle]);
    assert_eq!(board.select(), "a default");
    // A bit of the medium flips in the middle of an object of set a.
    let content = support::bundle::content(0, 20_000);
    let mut disk = std::fs::read(folder.path().join("a")).unwrap();
    let at = disk
        .windows(64)
        .position(|window| window == &content[8_192..8_256])
        .unwrap();
    disk[at] ^= 1;
    let medium = std::fs::OpenOptions::new().write(true).open(&a).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&medium, &disk[at..=at], at as u64).unwrap();
    medium.sync_all().unwrap();
    drop(medium);
    let run = board.run(&["--json", "check"]);
    assert_eq!(run.code, 81, "{}{}", run.out, run.err);
    let events = run.events();
    let set = events.iter().find(|event| event["event"] == "checked-set");
    let damaged = &set.unwrap()["damaged"];
    assert_eq!(damaged.as_array().unwrap().len(), 1, "{damaged}");
    assert_eq!(damaged[0]["problem"], "refused");
    let object = support::bundle::verity(&content).to_string();
    assert_eq!(damaged[0]["digest"], object.as_str());
    board.ok(&["repair", "--from-other-set"]);
    board.ok(&["check"]);
}

/// systemd-boot's boot slots on two devices, set a committed and set b installed. ext4 stands for FAT: what is mounted how is the same.
struct BootSlots {
    folder: tempfile::TempDir,
    slots: [LoaderSlot; 2],
}

impl BootSlots {
    fn new(devices: &[String; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(text("efivars")).unwrap();
        let [a, b] = devices;
        std::fs::write(text("uki"), "uki").unwrap();
        for (device, name) in [(a, "TWINSE-A.EFI"), (b, "TWINTRYB.EFI")] {
            // Not by a mount: a process of another test may take a copy of it into its own namespace.
            let write = format!("write {} /EFI/Linux/{name}", text("uki"));
            for request in ["mkdir /EFI", "mkdir /EFI/Linux", &write] {
                said("debugfs", &["-w", "-R", request, device]).unwrap();
            }
        }
        let slots = [(a, "at-a"), (b, "at-b")]
            .map(|(device, place)| LoaderSlot::at(device, &text(place), &["ext4"]));
        Self { folder, slots }
    }

    fn loader(&self) -> MountingLoader {
        let [a, b] = &self.slots;
        let boot = [1, 2].map(|number| BootPartition {
            number,
            start_blocks: 2048,
            size_blocks: 2048,
            guid: [number as u8; 16],
        });
        let variables = self.folder.path().join("efivars");
        let folders = [a.folder(), b.folder()];
        let loader = SystemdBootLoader::open(variables.to_str().unwrap(), boot, folders);
        MountingLoader::new(loader.unwrap(), self.slots.clone())
    }

    /// The name of the UKI on a device.
    fn name(&self, device: &str) -> String {
        said("debugfs", &["-R", "ls -p /EFI/Linux", device])
            .unwrap()
            .lines()
            .find_map(|line| line.split('/').find(|word| word.ends_with(".EFI")))
            .unwrap()
            .to_owned()
    }
}

#[test]
#[ignore = "needs root, loop devices and mke2fs"]
fn a_boot_slot_is_written_by_a_boot_loader_only_for_a_new_name() {
    let mut loops = Loops(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let devices = ["a", "b"].map(|set| loops.add(&folder.path().join(set)));
    let [a, b] = &devices;
    let slots = BootSlots::new(&devices);
    let mut loader = slots.loader();
    let before = std::fs::read(folder.path().join("a")).unwrap();
    assert_eq!(loader.set_default(Set::A), Ok(true));
    assert_eq!(loader.set_next(Some(Set::B)), Ok(true));
    assert_eq!(loader.next_set(), Ok(Some(Set::B)));
    let after = std::fs::read(folder.path().join("a")).unwrap();
    assert!(before == after, "mounted for reading only");
    // Somebody reads set b, as an install reads the running set, while it becomes the default.
    let place = slots.folder.path().join("reader");
    std::fs::create_dir(&place).unwrap();
    let place = place.to_str().unwrap().to_owned();
    said("mount", &["-o", "ro", b, &place]).unwrap();
    let reader = Mount(place.clone());
    assert_eq!(loader.set_default(Set::B), Ok(true));
    assert!(std::fs::metadata(format!("{place}/EFI/Linux/TWINSE-B.EFI")).is_ok());
    // The mounts are those of this thread alone.
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let of = |device: &str| {
        mounts
            .lines()
            .filter(|line| line.starts_with(device))
            .count()
    };
    assert_eq!((of(a), of(b)), (0, 1), "{mounts}");
    drop(reader);
    assert_eq!(slots.name(b), "TWINSE-B.EFI");
    // Somebody writes there: it cannot be mounted for reading then.
    said("mount", &[b, &place]).unwrap();
    let writer = Mount(place);
    assert_eq!(loader.set_next(Some(Set::B)), Ok(true), "by its new name");
    assert_eq!(loader.set_default(Set::B), Ok(false));
    drop(writer);
    for device in &devices {
        assert!(said("e2fsck", &["-fn", device]).is_some(), "{device}");
    }
}
