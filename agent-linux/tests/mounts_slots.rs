//! Slots that are block devices are mounted for the time of a command, unseen by anybody else, and gone when it is killed.

mod support;

use std::path::Path;
use std::process::Command;
use support::Board;
use support::bundle::{Release, key};

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
