//! What becomes of archives, good and bad.

use std::path::PathBuf;

use super::*;
use crate::rootfs::TreeFault;
use crate::rootfs::test_archive::TestArchive;
use crate::rootfs::test_archive::store;

fn read_bytes(bytes: &[u8]) -> Result<RootTree, RootError> {
    let (_directory, path) = store(bytes);
    read(&path).map(|(tree, _)| tree)
}

fn fault_of(bytes: &[u8]) -> ArchiveFault {
    match read_bytes(bytes) {
        Err(RootError::Archive { fault, .. }) => fault,
        other => panic!("expected a fault of the archive, got {other:?}"),
    }
}

fn inode<'a>(root: &'a RootTree, path: &str) -> &'a Inode<FileContent> {
    let (directory, name) = root.tree.root.split(OsStr::new(path)).unwrap();
    directory
        .lookup(name)
        .unwrap_or_else(|| panic!("{path} is missing"))
}

fn stat<'a>(root: &'a RootTree, path: &str) -> &'a Stat {
    inode(root, path).stat(&root.tree.leaves)
}

fn content<'a>(root: &'a RootTree, path: &str) -> &'a LeafContent<FileContent> {
    match inode(root, path) {
        Inode::Leaf(id, _) => &root.tree.leaf(*id).content,
        Inode::Directory(_) => panic!("{path} is a directory"),
    }
}

#[test]
fn members_become_inodes() {
    let archive = TestArchive::default()
        .directory("./")
        .directory("etc/")
        .file("./etc/small", &[b's'; 64])
        .file("etc/large", &[b'l'; 65])
        .member(b'2', "etc/link", "../target", b"")
        .member(b'6', "pipe", "", b"")
        .changed(b'3', "null", |header| {
            header[329..337].copy_from_slice(b"0000001\0");
            header[337..345].copy_from_slice(b"0000003\0");
        })
        .changed(b'4', "disk", |header| {
            header[329..337].copy_from_slice(b"0000403\0");
            header[337..345].copy_from_slice(b"0210560\0");
        })
        .member(0, "old-directory/", "", b"");
    let root = read_bytes(&archive.finish()).unwrap();
    let is_inline = |path| {
        matches!(
            content(&root, path),
            LeafContent::Regular(FileContent::Inline(_))
        )
    };
    assert!(is_inline("etc/small") && !is_inline("etc/large"));
    // Headers: the root, `etc`, `small` and its block, `large`.
    let large = Unhashed {
        content: Content::Archive {
            offset: 5 * 512,
            length: 65,
        },
        size: 65,
    };
    assert_eq!(root.unhashed, [large]);
    assert!(
        matches!(content(&root, "etc/link"), LeafContent::Symlink(target) if target.as_ref() == "../target")
    );
    assert!(matches!(content(&root, "pipe"), LeafContent::Fifo));
    assert!(matches!(
        content(&root, "null"),
        LeafContent::CharacterDevice(0x103)
    ));
    // Major 259, minor 70000, as the kernel encodes them.
    assert!(matches!(
        content(&root, "disk"),
        LeafContent::BlockDevice(0x1111_0370)
    ));
    assert!(matches!(inode(&root, "old-directory"), Inode::Directory(_)));
    let etc = stat(&root, "etc");
    assert_eq!(
        (etc.st_mode, etc.st_uid, etc.st_gid, etc.st_mtim_sec),
        (0o755, 1, 2, 1000)
    );
    assert_eq!(root.tree.root.stat.st_uid, 1);
}

#[test]
fn names_may_be_long_in_every_form() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let split = |header: &mut [u8; 512]| {
        header[..90].fill(b'f');
        header[345..465].fill(b'd');
    };
    let zero_ended = |name: &str| format!("{name}\0").into_bytes();
    let forms = [
        TestArchive::default().changed(b'0', "f", split),
        TestArchive::default()
            .member(b'L', "long", "", &zero_ended(&long))
            .file("short", b""),
        TestArchive::default()
            .records(b'x', &[("path", long.as_bytes())])
            .file("short", b""),
    ];
    for form in forms {
        let root = read_bytes(&form.finish()).unwrap();
        assert!(matches!(content(&root, &long), LeafContent::Regular(_)));
    }
    let links = [
        TestArchive::default()
            .member(b'K', "long", "", &zero_ended(&long))
            .member(b'2', "link", "short", b""),
        TestArchive::default()
            .records(b'x', &[("linkpath", long.as_bytes())])
            .member(b'2', "link", "short", b""),
    ];
    for link in links {
        let root = read_bytes(&link.finish()).unwrap();
        assert!(
            matches!(content(&root, "link"), LeafContent::Symlink(target) if target.as_ref() == long.as_str())
        );
    }
}

#[test]
fn records_count_before_fields() {
    let large = [b'x'; 100];
    let archive = TestArchive::default()
        .records(b'g', &[("comment", b"a commit"), ("uid", b"70000")])
        .records(
            b'x',
            &[
                ("mtime", b"12.5"),
                ("gid", b"80000"),
                ("SCHILY.xattr.user.note", b"a\nb"),
            ],
        )
        .file("one", &large)
        .file("two", &large);
    let root = read_bytes(&archive.finish()).unwrap();
    let (one, two) = (stat(&root, "one"), stat(&root, "two"));
    assert_eq!(
        (one.st_uid, one.st_gid, one.st_mtim_sec, one.st_mtim_nsec),
        (70_000, 80_000, 12, 500_000_000)
    );
    assert_eq!(
        one.xattrs.get(OsStr::new("user.note")).unwrap().as_ref(),
        b"a\nb"
    );
    assert_eq!(
        (two.st_uid, two.st_gid, two.st_mtim_sec, two.xattrs.len()),
        (70_000, 2, 1000, 0)
    );
}

#[test]
fn missing_directories_belong_to_root() {
    let root = read_bytes(&TestArchive::default().file("usr/lib/file", b"").finish()).unwrap();
    for stat in [
        &root.tree.root.stat,
        stat(&root, "usr"),
        stat(&root, "usr/lib"),
    ] {
        assert_eq!(
            (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtim_sec),
            (0o755, 0, 0, 0)
        );
    }
    // A member that comes later still counts.
    let archive = TestArchive::default()
        .file("usr/lib/file", b"")
        .directory("usr");
    let root = read_bytes(&archive.finish()).unwrap();
    assert_eq!(stat(&root, "usr").st_uid, 1);
    assert!(matches!(inode(&root, "usr/lib/file"), Inode::Leaf(..)));
}

#[test]
fn hard_links_share_content() {
    let archive =
        TestArchive::default()
            .file("dir/one", &[1; 100])
            .member(b'1', "two", "./dir/one", b"");
    let root = read_bytes(&archive.finish()).unwrap();
    let index = |path| match content(&root, path) {
        LeafContent::Regular(FileContent::Object(index)) => *index,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (index("dir/one"), index("two"), root.unhashed.len()),
        (0, 0, 1)
    );
    assert_eq!(stat(&root, "two").st_uid, 1);
}

#[test]
fn every_fault_of_a_name_is_refused() {
    let file = |name: &str| TestArchive::default().file(name, b"").finish();
    assert_eq!(fault_of(&file("/etc/passwd")), ArchiveFault::AbsoluteName);
    assert_eq!(fault_of(&file("a/../../b")), ArchiveFault::ParentName);
    assert_eq!(fault_of(&file("")), ArchiveFault::NameInvalid);
    let root_link = TestArchive::default().member(b'2', ".", "x", b"");
    assert_eq!(
        fault_of(&root_link.finish()),
        ArchiveFault::RootNotDirectory
    );
    let zero = TestArchive::default()
        .records(b'x', &[("path", b"a\0b")])
        .file("a", b"");
    assert_eq!(fault_of(&zero.finish()), ArchiveFault::NameInvalid);
    let zero = TestArchive::default()
        .records(b'x', &[("linkpath", b"a\0b")])
        .member(b'2', "a", "", b"");
    assert_eq!(fault_of(&zero.finish()), ArchiveFault::NameInvalid);
    let through = TestArchive::default()
        .member(b'2', "a", "b", b"")
        .file("a/c", b"");
    assert_eq!(
        fault_of(&through.finish()),
        ArchiveFault::ThroughNonDirectory
    );
    let long = TestArchive::default()
        .records(b'x', &[("path", &[b'a'; 4096])])
        .file("a", b"");
    let result = read_bytes(&long.finish());
    assert!(matches!(
        result,
        Err(RootError::Tree {
            fault: TreeFault::PathTooLong,
            ..
        })
    ));
}

#[test]
fn only_directories_may_be_named_twice() {
    let twice = |one: u8, two: u8| {
        fault_of(
            &TestArchive::default()
                .member(one, "a", "", b"")
                .member(two, "./a", "", b"")
                .finish(),
        )
    };
    assert_eq!(twice(b'0', b'0'), ArchiveFault::NamedTwice);
    assert_eq!(twice(b'0', b'5'), ArchiveFault::NamedTwice);
    assert_eq!(twice(b'5', b'0'), ArchiveFault::NamedTwice);
    assert!(
        read_bytes(
            &TestArchive::default()
                .directory("a")
                .directory("a/")
                .finish()
        )
        .is_ok()
    );
}

#[test]
fn hard_links_to_nothing_or_to_directories_are_refused() {
    let link = |target: &str| {
        fault_of(
            &TestArchive::default()
                .directory("dir")
                .member(b'1', "link", target, b"")
                .finish(),
        )
    };
    assert_eq!(link("missing"), ArchiveFault::LinkTargetMissing);
    assert_eq!(link("missing/file"), ArchiveFault::LinkTargetMissing);
    assert_eq!(link("dir"), ArchiveFault::LinkTargetDirectory);
    assert_eq!(link("./"), ArchiveFault::LinkTargetDirectory);
    assert_eq!(link("/dir"), ArchiveFault::AbsoluteName);
}

#[test]
fn what_is_not_read_is_refused() {
    let kind = |kind| fault_of(&TestArchive::default().member(kind, "a", "", b"").finish());
    assert_eq!(kind(b'S'), ArchiveFault::SparseFile);
    assert_eq!(kind(b'V'), ArchiveFault::TypeNotRead(b'V'));
    assert_eq!(kind(b'M'), ArchiveFault::TypeNotRead(b'M'));
    let data = TestArchive::default().member(b'5', "a", "", b"data");
    assert_eq!(fault_of(&data.finish()), ArchiveFault::UnexpectedData);
    let acl = TestArchive::default()
        .records(b'x', &[("SCHILY.acl.access", b"user::rw-")])
        .file("a", b"");
    assert_eq!(
        fault_of(&acl.finish()),
        ArchiveFault::AttributesNotRead("SCHILY.acl.")
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    let records = |keyword, value: &str| {
        let archive = TestArchive::default().records(b'x', &[(keyword, value.as_bytes())]);
        fault_of(&archive.file("a", b"").finish())
    };
    assert_eq!(records("uid", "4294967295"), ArchiveFault::Number("uid"));
    assert_eq!(records("gid", "-1"), ArchiveFault::Number("gid"));
    assert_eq!(records("size", "-1"), ArchiveFault::Number("size"));
    assert_eq!(records("mtime", "noon"), ArchiveFault::Number("mtime"));
    let mode = TestArchive::default().changed(b'0', "a", |header| header[100] = b'9');
    assert_eq!(fault_of(&mode.finish()), ArchiveFault::Number("mode"));
    let device = TestArchive::default().changed(b'3', "a", |header| header[329..337].fill(b'7'));
    assert_eq!(
        fault_of(&device.finish()),
        ArchiveFault::Number("devmajor, devminor")
    );
}

#[test]
fn an_archive_must_be_whole() {
    let archive = || TestArchive::default().file("a", &[1; 600]);
    let whole = archive().unfinished();
    assert_eq!(fault_of(b"hello"), ArchiveFault::NotTar);
    assert_eq!(fault_of(&[b'x'; 2048]), ArchiveFault::NotTar);
    assert_eq!(fault_of(b""), ArchiveFault::EndMarkerMissing);
    assert_eq!(fault_of(&whole), ArchiveFault::EndMarkerMissing);
    assert_eq!(
        fault_of(&archive().block(&[0; 512]).unfinished()),
        ArchiveFault::EndMarkerMissing
    );
    assert_eq!(
        fault_of(&whole[..whole.len() - 500]),
        ArchiveFault::CutShort
    );
    assert_eq!(fault_of(&whole[..700]), ArchiveFault::CutShort);
    assert_eq!(
        fault_of(&[&whole[..], &[0; 100]].concat()),
        ArchiveFault::CutShort
    );
    assert_eq!(
        fault_of(&[&archive().finish()[..], &whole].concat()),
        ArchiveFault::DataAfterEnd
    );
    assert_eq!(
        fault_of(&archive().block(&[0; 512]).file("b", b"").finish()),
        ArchiveFault::DataAfterEnd
    );
    let mut damaged = archive().file("b", b"").finish();
    damaged[3 * 512] ^= 1;
    assert_eq!(fault_of(&damaged), ArchiveFault::Checksum);
    // What fills the last record of a tape is no fault.
    assert!(read_bytes(&archive().block(&[0; 10_240]).unfinished()).is_ok());
}

#[test]
fn extended_headers_are_bounded_and_belong_to_something() {
    let large = TestArchive::default().changed(b'x', "a", |header| header[124..136].fill(b'7'));
    assert_eq!(fault_of(&large.finish()), ArchiveFault::ExtensionTooLarge);
    let cut = TestArchive::default()
        .member(b'L', "a", "", &[b'n'; 600])
        .unfinished();
    assert_eq!(fault_of(&cut[..1024]), ArchiveFault::CutShort);
    let alone = TestArchive::default().records(b'x', &[("path", b"a")]);
    assert_eq!(
        fault_of(&alone.finish()),
        ArchiveFault::ExtensionWithoutMember
    );
    let malformed = TestArchive::default()
        .member(b'x', "a", "", b"7 path=")
        .file("a", b"");
    assert_eq!(
        fault_of(&malformed.finish()),
        ArchiveFault::ExtensionMalformed
    );
}

#[test]
fn messages_say_where_and_what_to_do() {
    let archive = TestArchive::default()
        .file("good", b"")
        .member(b'S', "bad", "", b"");
    let error = read_bytes(&archive.finish()).unwrap_err();
    let RootError::Archive { member, offset, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((member, *offset), (&PathBuf::from("bad"), 512));
    assert!(error.to_string().contains("without `--sparse`"), "{error}");
}
