//! Slots that are block devices are mounted for the time of a command, unseen by anybody else, and gone when it is killed.

mod support;

use std::path::Path;
use std::process::Command;
use support::Board;
use support::bundle::{Release, key};

/// Loop devices that are given back at the end.
struct Loops(Vec<String>);

impl Loops {
    /// An ext4 file system on a loop device; `None` when this machine or this user cannot make one.
    fn add(&mut self, file: &Path) -> Option<String> {
        std::fs::File::create(file)
            .ok()?
            .set_len(24 * 1024 * 1024)
            .ok()?;
        said(
            "mke2fs",
            &["-q", "-t", "ext4", "-b", "4096", file.to_str()?],
        )?;
        let device = said("losetup", &["--find", "--show", file.to_str()?])?
            .trim_end()
            .to_owned();
        self.0.push(device.clone());
        Some(device)
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
fn block_devices_are_mounted_for_a_command_and_nobody_sees_it() {
    let mut loops = Loops(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let roots = ["a", "b"].map(|set| loops.add(&folder.path().join(set)));
    let [Some(a), Some(b)] = roots else {
        eprintln!("skipped: no right to make loop devices, or no mke2fs");
        return;
    };
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
