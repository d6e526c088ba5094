//! Bundles on a medium, and what tells a file system.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::process::Command;
use tempfile::TempDir;
use twinseal_platform_linux::media::{
    BUNDLE_NAME_MAX_BYTES, FileSystem, FoundBundle, newest_bundle, recognise,
};

/// A folder of files that say how new they are; what says nothing is refused. And the names that nearly were bundles.
struct Folder(TempDir, RefCell<Vec<String>>);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap(), RefCell::default())
    }

    fn add(&self, name: &str, content: &str) {
        fs::write(self.0.path().join(name), content).unwrap();
    }

    /// The newest, and the names that were asked for.
    fn newest(&self) -> (Option<FoundBundle>, Vec<String>) {
        let mut asked = Vec::new();
        let prove = |name: &str, file: &OwnedFd| {
            asked.push(name.to_owned());
            let mut text = String::new();
            let mut file = File::from(file.try_clone().unwrap());
            file.read_to_string(&mut text).unwrap();
            let (major, minor) = text.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        let passed_over = |name: &str| self.1.borrow_mut().push(name.to_owned());
        let newest = newest_bundle(self.0.path().to_str().unwrap(), prove, &passed_over);
        asked.sort();
        self.1.borrow_mut().sort();
        (newest.unwrap(), asked)
    }
}

#[test]
fn the_newest_is_chosen_by_what_it_proves() {
    let folder = Folder::new();
    assert!(folder.newest().0.is_none());
    folder.add("zzz-version-99.tseal", "1.9");
    folder.add("a.tseal", "2.1");
    folder.add("b.tseal", "2.3");
    folder.add("c.tseal", "2.3");
    folder.add("z.tseal", "refused");
    let (newest, asked) = folder.newest();
    let newest = newest.unwrap();
    assert_eq!(newest.name.as_str(), "b.tseal");
    assert_eq!(newest.newness, (2, 3));
    assert_eq!(asked.len(), 5);
}

#[test]
fn only_regular_files_with_a_bundles_name_are_looked_at() {
    let folder = Folder::new();
    let longest = format!("{}.tseal", "x".repeat(BUNDLE_NAME_MAX_BYTES - 6));
    folder.add(&longest, "1.1");
    for name in [
        ".tseal",
        "._v1.tseal",
        "v1.tseal.part",
        "v1 (copy).tseal",
        "v1.TSEAL",
        "v\u{fc}.tseal",
        "v1\n.tseal",
        &format!("x{longest}"),
    ] {
        folder.add(name, "9.9");
    }
    let root = folder.0.path();
    fs::create_dir(root.join("folder.tseal")).unwrap();
    fs::create_dir(root.join("deeper")).unwrap();
    folder.add("deeper/v1.tseal", "9.9");
    symlink(root.join("deeper/v1.tseal"), root.join("link.tseal")).unwrap();
    let made = Command::new("mkfifo").arg(root.join("fifo.tseal")).status();
    assert!(made.unwrap().success());
    let (newest, asked) = folder.newest();
    assert_eq!(asked, [longest.as_str()]);
    assert_eq!(newest.unwrap().name.as_str(), longest);
    let nearly = [
        "fifo.tseal",
        "folder.tseal",
        "link.tseal",
        "v1 (copy).tseal",
        "v1.TSEAL",
        "v1?.tseal",
        "v??.tseal",
        &format!("x{longest}")[..BUNDLE_NAME_MAX_BYTES],
    ];
    assert!(folder.1.borrow().iter().eq(nearly), "{:?}", folder.1);
}

#[test]
fn file_systems_of_others_are_recognised() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("medium");
    let made = |program: &str, arguments: &[&str]| {
        let file = File::create(&path).unwrap();
        file.set_len(40 << 20).unwrap();
        let output = Command::new(program)
            .args(arguments)
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        recognise(path.to_str().unwrap()).unwrap()
    };
    for kind in ["12", "16", "32"] {
        assert_eq!(made("mkfs.fat", &["-F", kind]), Some(FileSystem::Fat));
    }
    assert_eq!(made("mkfs.ext4", &["-q"]), Some(FileSystem::Ext4));
    assert_eq!(made("mkswap", &[]), None);
    assert_eq!(made("truncate", &["-s", "40M"]), None);
    assert_eq!(made("truncate", &["-s", "700"]), None);
    assert!(recognise("/nowhere").is_err());
}
