//! Promise: images are byte for byte those of the C tool `mkcomposefs`, from a directory and from a tar archive of it.
//!
//! Needs `mkcomposefs` 1.0.8 (`scripts/reference-composefs.sh` fetches it) and GNU tar. Device nodes, owners and privileged
//! attributes can be made by root alone: without root those parts are left out, and the tests say so.

#[path = "support/reference.rs"]
mod reference_programs;

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tempfile::TempDir;
use twinseal_bundle::composefs_image::ComposefsImage;
use twinseal_bundle::composefs_image::from_directory;
use twinseal_bundle::composefs_image::from_tar;
use twinseal_bundle::rootfs::RootOptions;

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The image that the reference makes of `root`, and the digest that it prints.
fn reference(root: &Path, arguments: &[&str]) -> (Vec<u8>, String) {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let mut command = Command::new(reference_programs::program("mkcomposefs"));
    let digest = run(command
        .args(arguments)
        .arg("--print-digest")
        .arg(root)
        .arg(&image));
    (fs::read(image).unwrap(), digest.trim().to_owned())
}

fn assert_equal(image: &ComposefsImage, (erofs, digest): &(Vec<u8>, String), what: &str) {
    let hexadecimal: String = image
        .digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(&hexadecimal, digest, "digest of {what}");
    assert!(&image.erofs == erofs, "bytes of {what}");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A root under construction, with everything that has its own rule in an image.
struct Tree {
    directory: TempDir,
}

impl Tree {
    fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.directory.path().join(Path::new(name.as_ref()))
    }

    fn file(&self, name: impl AsRef<OsStr>, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn attribute(&self, name: &str, attribute: &str, value: &[u8]) {
        match rustix::fs::lsetxattr(self.path(name), attribute, value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => {
                println!("skipped: {attribute} (the file system has no such attributes)")
            }
            result => result.unwrap(),
        }
    }

    fn node(&self, name: &str, kind: FileType, major: u32, minor: u32) {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(
            CWD,
            self.path(name),
            kind,
            Mode::from_raw_mode(0o640),
            device,
        )
        .unwrap();
    }

    fn new() -> Self {
        let tree = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for name in ["bin", "etc", "empty", "many", "3b", "odd"] {
            fs::create_dir(tree.path(name)).unwrap();
        }
        tree.add_files();
        tree.add_names();
        if is_root() {
            tree.add_privileged();
        } else {
            println!(
                "skipped: devices, owners, capabilities and trusted attributes (they need root)"
            );
        }
        tree.set_times();
        tree
    }

    fn add_files(&self) {
        let large: Vec<u8> = (0..300_000_u32)
            .map(|index| (index.wrapping_mul(index) % 253) as u8)
            .collect();
        self.file("bin/large", &large);
        self.file("bin/copy", &large);
        for link in ["bin/linked", "etc/linked", "a-link"] {
            fs::hard_link(self.path("bin/large"), self.path(link)).unwrap();
        }
        for size in [0, 1, 63, 64, 65, 4095, 4096, 4097] {
            self.file(format!("etc/size-{size}"), &vec![b's'; size]);
        }
        fs::hard_link(self.path("etc/size-64"), self.path("etc/small-link")).unwrap();
        let sparse = fs::File::create(self.path("bin/sparse")).unwrap();
        sparse.set_len(5_000_000).unwrap();
        fs::set_permissions(self.path("bin/copy"), fs::Permissions::from_mode(0o6755)).unwrap();
        fs::set_permissions(self.path("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
        rustix::fs::mknodat(CWD, self.path("etc/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink("../bin/large", self.path("etc/symlink")).unwrap();
        symlink("t".repeat(4000), self.path("etc/long-symlink")).unwrap();
        for (name, attribute, value) in [
            ("bin/copy", "user.note", b"shared".as_slice()),
            ("etc/size-65", "user.note", b"shared"),
            ("etc/size-64", "user.note", b"of its own"),
            ("etc/size-1", "user.empty", b""),
            ("etc/size-63", "user.binary", b"\n=\0\xff\n"),
            ("many", "user.large", &[b'v'; 2000]),
        ] {
            self.attribute(name, attribute, value);
        }
    }

    fn add_names(&self) {
        self.file(OsStr::from_bytes(b"odd/not \xff\xfe utf-8"), b"1");
        self.file("odd/new\nline", b"2");
        self.file(format!("odd/{}", "n".repeat(255)), &[3; 100]);
        let deep = "d/".repeat(100);
        fs::create_dir_all(self.path(&deep)).unwrap();
        self.file(format!("{deep}file"), b"deep");
        for index in 0..1500 {
            self.file(
                format!("many/a-file-with-the-number-{index}"),
                format!("{index}").repeat(index % 40).as_bytes(),
            );
        }
    }

    fn add_privileged(&self) {
        self.node("etc/null", FileType::CharacterDevice, 1, 3);
        self.node("etc/disk", FileType::BlockDevice, 259, 70_000);
        self.node("etc/largest", FileType::CharacterDevice, 4095, 1_048_575);
        std::os::unix::fs::lchown(self.path("etc/size-65"), Some(70_000), Some(80_000)).unwrap();
        std::os::unix::fs::lchown(self.path("etc/symlink"), Some(1000), Some(65_536)).unwrap();
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        self.attribute("bin/copy", "security.capability", capability);
        self.attribute("etc/symlink", "trusted.of-a-link", b"1");
        self.attribute("empty", "trusted.overlay.opaque", b"y");
        self.attribute("etc/size-63", "trusted.overlay.redirect", b"/elsewhere");
    }

    /// Whiteouts, which another tool's overlay may have left, beside marks that already say so.
    fn add_whiteouts(&self) {
        fs::create_dir(self.path("layer")).unwrap();
        self.node("layer/gone", FileType::CharacterDevice, 0, 0);
        self.node("gone", FileType::CharacterDevice, 0, 0);
        self.attribute("layer", "trusted.overlay.opaque", b"y");
        self.attribute("layer/gone", "trusted.overlay.whiteout", b"w");
        self.set_times();
    }

    /// A different time with nanoseconds for everything, directories last.
    fn set_times(&self) {
        let mut paths = vec![self.directory.path().to_owned()];
        let mut next = 0;
        while let Some(path) = paths.get(next).cloned() {
            next += 1;
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                let mut children: Vec<_> = fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .collect();
                children.sort();
                paths.extend(children);
            }
        }
        for (index, path) in paths.iter().enumerate().rev() {
            let index = index as i64;
            // Few different seconds, so that some inodes share the earliest time and are stored in the short form.
            let time = Timespec {
                tv_sec: 1_577_926_923 + index % 5,
                tv_nsec: (index % 3) * 12_345,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }
}

#[test]
fn a_directory_gives_the_reference_image() {
    let tree = Tree::new();
    // Tar has no sockets, so they are here and not in the tests of archives.
    let _socket = UnixListener::bind(tree.path("etc/socket")).unwrap();
    tree.set_times();
    let image = from_directory(tree.root(), &RootOptions::default()).unwrap();
    assert_equal(&image, &reference(tree.root(), &[]), "a directory");
    let image = from_directory(tree.root(), &RootOptions::at_epoch(0)).unwrap();
    assert_equal(
        &image,
        &reference(tree.root(), &["--use-epoch"]),
        "a directory without times",
    );
}

#[test]
fn whiteouts_give_the_reference_image() {
    if !is_root() {
        println!("skipped: whiteouts (device nodes need root)");
        return;
    }
    let tree = Tree::new();
    tree.add_whiteouts();
    let image = from_directory(tree.root(), &RootOptions::default()).unwrap();
    assert_equal(&image, &reference(tree.root(), &[]), "whiteouts");
}

#[test]
fn a_file_of_more_than_4_gib_gives_the_reference_image() {
    let directory = tempfile::tempdir().unwrap();
    let file = fs::File::create(directory.path().join("sparse")).unwrap();
    match file.set_len((1 << 32) + 1) {
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            println!("skipped: the file system holds no file of 4 GiB");
            return;
        }
        result => result.unwrap(),
    }
    let image = from_directory(directory.path(), &RootOptions::default()).unwrap();
    assert_equal(&image, &reference(directory.path(), &[]), "a large file");
}

#[test]
fn objects_are_those_that_the_reference_stores() {
    let tree = Tree::new();
    let image = from_directory(tree.root(), &RootOptions::default()).unwrap();
    let store = tempfile::tempdir().unwrap();
    let argument = format!("--digest-store={}", store.path().display());
    reference(tree.root(), &[&argument]);
    let mut stored = Vec::new();
    for directory in fs::read_dir(store.path()).unwrap() {
        let directory = directory.unwrap();
        for file in fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap();
            let name = [directory.file_name(), file.file_name()]
                .map(|part| part.into_string().unwrap())
                .concat();
            stored.push((name, file.metadata().unwrap().len()));
        }
    }
    stored.sort();
    let objects = image.objects.iter().map(|object| {
        let name: String = object
            .digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (name, object.size)
    });
    assert_eq!(objects.collect::<Vec<_>>(), stored);
}

#[test]
fn an_archive_gives_the_image_of_what_tar_unpacks() {
    let tree = Tree::new();
    if is_root() {
        tree.add_whiteouts();
    }
    let work = tempfile::tempdir().unwrap();
    // Only the pax form has attributes and nanoseconds; GNU's and ustar's have their own ways to store names.
    for (format, attributes) in [("pax", true), ("gnu", false), ("oldgnu", false)] {
        let archive = work.path().join(format!("{format}.tar"));
        let unpacked = work.path().join(format);
        fs::create_dir(&unpacked).unwrap();
        let options: &[&str] = if attributes {
            &["--xattrs", "--xattrs-include=*"]
        } else {
            &[]
        };
        let mut create = Command::new("tar");
        create
            .env_remove("TAR_OPTIONS")
            .arg("--create")
            .arg("--numeric-owner");
        run(create
            .arg(format!("--format={format}"))
            .args(options)
            .arg("--file")
            .arg(&archive)
            .arg("-C")
            .arg(tree.root())
            .arg("."));
        let mut extract = Command::new("tar");
        extract.env_remove("TAR_OPTIONS").args([
            "--extract",
            "--preserve-permissions",
            "--numeric-owner",
        ]);
        extract.arg("--delay-directory-restore").args(options);
        run(extract.arg("--file").arg(&archive).arg("-C").arg(&unpacked));
        let image = from_tar(&archive, &RootOptions::default()).unwrap();
        assert_equal(&image, &reference(&unpacked, &[]), format);
    }
}
