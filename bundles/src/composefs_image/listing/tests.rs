//! What is read of images, good, damaged and made to harm.

use std::collections::BTreeSet;

use composefs::erofs::format::FormatVersion;
use composefs::fsverity::FsVerityHashValue;
use composefs::fsverity::Sha256HashValue;
use composefs::tree::Directory;
use composefs::tree::FileSystem;
use composefs::tree::Inode;
use composefs::tree::LeafContent;
use composefs::tree::RegularFile;
use composefs::tree::Stat;

use super::*;
use crate::composefs_image::from_tar;
use crate::rootfs::RootOptions;
use crate::rootfs::test_archive::TestArchive;
use crate::rootfs::test_archive::store;
use crate::rootfs::test_archive::varied;
use crate::rootfs::test_archive::with_whiteouts;
use crate::rootfs::test_sequence::Sequence;
use crate::rootfs::test_sequence::rounds;

const OBJECT: [u8; 32] = [0xab; 32];

fn image_of(archive: TestArchive) -> Vec<u8> {
    let (_directory, path) = store(&archive.finish());
    from_tar(&path, &RootOptions::default()).unwrap().erofs
}

/// An image of a directory each of `mmmm` and `nnnn`, an object, an inline file with an attribute and a link.
fn small_image() -> Vec<u8> {
    let stat = Stat {
        st_mode: 0o644,
        ..Stat::uninitialized()
    };
    let mut tree = FileSystem::<Sha256HashValue>::new(stat.clone());
    for name in ["mmmm", "nnnn"] {
        tree.root.insert(
            OsStr::new(name),
            Inode::Directory(Box::new(Directory::new(stat.clone()))),
        );
    }
    let mut noted = stat.clone();
    noted
        .xattrs
        .insert(OsStr::new("user.note").into(), b"value".as_slice().into());
    let object = Sha256HashValue::from_hex("ab".repeat(32)).unwrap();
    let leaves = [
        (
            "object",
            stat.clone(),
            LeafContent::Regular(RegularFile::External(object, 1000)),
        ),
        (
            "small",
            noted,
            LeafContent::Regular(RegularFile::Inline(b"content".as_slice().into())),
        ),
        (
            "link",
            stat,
            LeafContent::Symlink(OsStr::new("target").into()),
        ),
    ];
    for (name, stat, content) in leaves {
        let id = tree.push_leaf(stat, content);
        tree.root.insert(OsStr::new(name), Inode::leaf(id));
    }
    tree.compute_image_bytes(FormatVersion::V0).0.into_vec()
}

/// Where the inode of a file in the root of [`small_image`] begins.
fn inode_offset(image: &[u8], name: &str) -> usize {
    let image = Image::open(image).unwrap();
    let root = u64::from(image.sb.root_nid.get());
    image
        .find_child_nid(root, name.as_bytes())
        .unwrap()
        .unwrap() as usize
        * 32
}

/// Replaces the only occurrence of `old` by `new`.
fn replace(image: &mut [u8], old: &[u8], new: &[u8]) {
    let found: Vec<usize> = (0..image.len() - old.len())
        .filter(|at| image[*at..].starts_with(old))
        .collect();
    assert_eq!(found.len(), 1, "{} must occur once", old.escape_ascii());
    image[found[0]..][..new.len()].copy_from_slice(new);
}

fn fault_of(image: &[u8]) -> ImageFault {
    match file_list(image) {
        Err(RootError::Image(fault)) => fault,
        other => panic!("expected a fault of the image, got {other:?}"),
    }
}

#[test]
fn the_small_image_is_good() {
    let image = small_image();
    let files = file_list(&image).unwrap();
    let paths: Vec<_> = files
        .iter()
        .map(|file| file.path.to_str().unwrap())
        .collect();
    assert_eq!(paths, ["/", "/link", "/mmmm", "/nnnn", "/object", "/small"]);
    assert_eq!(files[4].kind, FileKind::ObjectFile);
    assert_eq!((files[4].size, files[4].digest), (1000, Some(OBJECT)));
    assert_eq!(objects_named_by(&image).unwrap(), [OBJECT]);
}

#[test]
fn files_are_listed_as_a_mounted_root_shows_them() {
    let files = file_list(&image_of(varied())).unwrap();
    let file = |path: &str| {
        files
            .iter()
            .find(|file| file.path == Path::new(path))
            .unwrap()
    };
    assert_eq!(files.len(), 317);
    assert_eq!(files[0].path, Path::new("/"));
    assert_eq!(
        file("/null").kind,
        FileKind::CharacterDevice { major: 1, minor: 3 }
    );
    assert_eq!(
        file("/disk").kind,
        FileKind::BlockDevice {
            major: 259,
            minor: 70_000
        }
    );
    assert_eq!(file("/pipe").kind, FileKind::Pipe);
    assert_eq!(
        file("/link").kind,
        FileKind::Symlink {
            target: "bin/tool".into()
        }
    );
    assert_eq!((file("/long-link").size, file("/link").mode), (4000, 0o777));
    assert_eq!(
        file("/at-the-limit").kind,
        FileKind::InlineFile {
            content: vec![b'x'; 64]
        }
    );
    assert_eq!(file("/over-the-limit").kind, FileKind::ObjectFile);
    assert_eq!(
        (file("/bin/empty").mode, file("/bin/empty").size),
        (0o4755, 0)
    );
    assert!(
        file("/bin/empty")
            .attributes
            .contains_key(b"security.capability".as_slice())
    );
    let tool = file("/bin/tool");
    assert_eq!(
        (
            tool.user,
            tool.group,
            tool.modified_seconds,
            tool.modified_nanoseconds
        ),
        (70_000, 2, 999, 7)
    );
    assert_eq!(tool.attributes[b"user.note".as_slice()], b"a\nb");
    assert_eq!(tool.digest, file("/bin/copy").digest);
    let odd = files
        .iter()
        .find(|file| file.path.as_os_str().as_bytes() == b"/odd \xff\n name")
        .unwrap();
    assert!(
        odd.attributes
            .contains_key(b"trusted.overlay.test".as_slice())
    );
    assert!(matches!(file("/3b").kind, FileKind::InlineFile { .. }));
    let digest_of_64_x = file("/at-the-limit").digest;
    assert!(digest_of_64_x.is_some() && digest_of_64_x != file("/over-the-limit").digest);
}

#[test]
fn escaped_whiteouts_are_listed_as_the_devices_that_they_are() {
    let files = file_list(&image_of(with_whiteouts())).unwrap();
    let paths_of_whiteouts: Vec<_> = files
        .iter()
        .filter(|file| file.kind == FileKind::CharacterDevice { major: 0, minor: 0 })
        .map(|file| file.path.to_str().unwrap())
        .collect();
    assert_eq!(paths_of_whiteouts, ["/gone-from-root", "/layer/gone"]);
    let layer = files
        .iter()
        .find(|file| file.path == Path::new("/layer"))
        .unwrap();
    assert!(layer.attributes.is_empty(), "{:?}", layer.attributes);
}

#[test]
fn what_is_no_image_is_malformed() {
    let image = small_image();
    for bytes in [
        b"".as_slice(),
        &[0; 8192],
        &image[..2000],
        &image[..image.len() / 2],
    ] {
        assert!(matches!(fault_of(bytes), ImageFault::Malformed(_)));
    }
}

#[test]
fn a_directory_has_one_place() {
    let mut image = small_image();
    let number = |name: &str| (inode_offset(&image, name) as u64 / 32).to_le_bytes();
    let (one, two) = (number("mmmm"), number("nnnn"));
    for at in 0..image.len() - 8 {
        if image[at..].starts_with(&two) {
            image[at..at + 8].copy_from_slice(&one);
        }
    }
    assert!(
        matches!(fault_of(&image), ImageFault::DirectoryTwice(path) if path == Path::new("/nnnn"))
    );
}

#[test]
fn names_are_in_order_and_not_paths() {
    for name in [b"n/nn", b"0nnn", b"mmmm", b"zzzz"] {
        let mut image = small_image();
        replace(&mut image, b"nnnn", name);
        assert!(
            matches!(fault_of(&image), ImageFault::NameRefused(path) if path == Path::new("/")),
            "{name:?}"
        );
    }
}

#[test]
fn lists_are_bounded() {
    let image = small_image();
    let read = |entries, bytes| read_files(&image, Budget { entries, bytes });
    let counted = read(1000, 1000).unwrap().len();
    assert_eq!(counted, 6);
    assert!(matches!(read(100, 1000), Err(ImageFault::ListingTooLarge)));
    assert!(matches!(read(1000, 20), Err(ImageFault::ListingTooLarge)));
}

#[test]
fn kinds_are_known() {
    let mut image = small_image();
    let mode = inode_offset(&image, "small") + 4;
    image[mode..mode + 2].fill(0);
    assert!(
        matches!(fault_of(&image), ImageFault::KindUnknown(path) if path == Path::new("/small"))
    );
    // The root must be a directory.
    let mut image = small_image();
    image[1024 + 14..1024 + 16]
        .copy_from_slice(&((inode_offset(&small_image(), "small") / 32) as u16).to_le_bytes());
    assert!(matches!(fault_of(&image), ImageFault::KindUnknown(path) if path == Path::new("/")));
}

#[test]
fn files_have_their_content_somewhere() {
    let mut image = small_image();
    let attribute_count = inode_offset(&image, "object") + 2;
    image[attribute_count..attribute_count + 2].fill(0);
    assert!(
        matches!(fault_of(&image), ImageFault::ContentMissing(path) if path == Path::new("/object"))
    );
    for name in ["small", "link"] {
        let mut image = small_image();
        let size = inode_offset(&image, name) + 8;
        image[size..size + 4].copy_from_slice(&5500_u32.to_le_bytes());
        assert!(
            matches!(fault_of(&image), ImageFault::ContentTooLarge(path) if path == Path::new("/").join(name))
        );
    }
}

#[test]
fn the_path_to_an_object_and_its_digest_agree() {
    let is_inconsistent = |image: &[u8]| matches!(fault_of(image), ImageFault::ObjectInconsistent(path) if path == Path::new("/object"));
    let mut image = small_image();
    replace(&mut image, b"/ab/abab", b"/ab/abac");
    assert!(is_inconsistent(&image));
    let mut image = small_image();
    replace(&mut image, b"\0\x24\0\x01\xab", b"\0\x24\0\x01\xac");
    assert!(is_inconsistent(&image));
    // SHA-512 in place of SHA-256.
    let mut image = small_image();
    replace(&mut image, b"\0\x24\0\x01\xab", b"\0\x24\0\x02\xab");
    assert!(is_inconsistent(&image));
    let mut image = small_image();
    replace(&mut image, b"overlay.redirect", b"overlay.rerouted");
    assert!(is_inconsistent(&image));
    // Only regular files have objects.
    let mut image = small_image();
    let mode = inode_offset(&image, "object") + 4;
    image[mode..mode + 2].copy_from_slice(&0o010_644_u16.to_le_bytes());
    assert!(is_inconsistent(&image));
}

#[test]
fn attributes_are_known_and_unique() {
    let mut image = small_image();
    replace(&mut image, b"\x04\x01\x05\0note", b"\x04\x09\x05\0note");
    assert!(
        matches!(fault_of(&image), ImageFault::AttributeRefused(path) if path == Path::new("/small"))
    );
    let mut image = small_image();
    replace(&mut image, b"overlay.metacopy", b"overlay.redirect");
    assert!(
        matches!(fault_of(&image), ImageFault::AttributeRefused(path) if path == Path::new("/object"))
    );
}

#[test]
fn damaged_images_give_errors_and_never_a_panic() {
    let mut sequence = Sequence::new();
    let good = [small_image(), image_of(with_whiteouts())];
    let (mut accepted, mut faults) = (0, BTreeSet::new());
    for _ in 0..rounds(1500) {
        let mut image = good[sequence.below(good.len())].clone();
        for _ in 0..=sequence.below(6) {
            let at = sequence.below(image.len());
            sequence.damage(&mut image[at]);
        }
        if sequence.below(20) == 0 {
            image.truncate(sequence.below(image.len()));
        }
        match objects_named_by(&image) {
            Ok(_) => accepted += 1,
            Err(RootError::Image(fault)) => {
                let text = format!("{fault:?}");
                faults.insert(text.split(['(', ' ']).next().unwrap_or_default().to_owned());
            }
            Err(other) => panic!("{other}"),
        }
    }
    println!("{accepted} accepted, faults: {faults:?}");
    assert!(accepted > 0 && faults.len() > 3);
}
