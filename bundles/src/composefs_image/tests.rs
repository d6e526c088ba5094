//! What becomes of whole roots. The digests here were printed for the same input by `mkcomposefs --print-digest` 1.0.8
//! (archives unpacked as `rootfs` says) and by `fsverity digest` 1.5.

use std::fs;
use std::io;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::rootfs::TreeFault;
use crate::rootfs::test_archive::TestArchive;
use crate::rootfs::test_archive::set_checksum;
use crate::rootfs::test_archive::store;
use crate::rootfs::test_archive::varied;
use crate::rootfs::test_archive::with_whiteouts;
use crate::rootfs::test_sequence::Sequence;
use crate::rootfs::test_sequence::rounds;

const VARIED: &str = "e5571827f3b84cbd878ab738c53a7e0d5d069aabd0e88ad91b74fd7468aecfea";
const VARIED_AT_EPOCH: &str = "db65f77afbd7abf5569260f6859a6ee743dab77b72203f2f9ecef4eff935c284";
const WITH_WHITEOUTS: &str = "6d9c32f16d4444cdac6e4052a4957deac940e11270b07d02c1e2f4767807143b";

/// Sizes around every edge of the digest's tree, each filled with [`pattern`].
const MEASURED: [(u32, &str); 5] = [
    (
        65,
        "6a4dd2770df81514a6fe4f4126932a6569d8b4dc014bcaa03788baefeae55811",
    ),
    (
        4096,
        "1763c69e1974f0c7bdf968ee983219107f036a4790c659f389786fa1e1bf883b",
    ),
    (
        4097,
        "4e6f91f3dd931550d029c857452b3f98f0a2338d774b9a8b8e5b5df29eaaf249",
    ),
    (
        524_288,
        "62e2701562836a24926841f6a92603788880a70c1be27e902607b68e91f633b6",
    ),
    (
        524_289,
        "fc909348e1632921268bebf6d1df2241d07cdaf53e5cc39a382a67055240893c",
    ),
];

fn image_of(archive: TestArchive, options: &RootOptions) -> ComposefsImage {
    let (_directory, path) = store(&archive.finish());
    from_tar(&path, options).unwrap()
}

fn hexadecimal(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pattern(size: u32) -> Vec<u8> {
    (0..size)
        .map(|index| ((index * 7 + index / 256) % 251) as u8)
        .collect()
}

#[test]
fn images_of_archives_equal_the_reference() {
    let image = image_of(varied(), &RootOptions::default());
    assert_eq!(hexadecimal(&image.digest), VARIED);
    let image = image_of(varied(), &RootOptions::at_epoch(0));
    assert_eq!(hexadecimal(&image.digest), VARIED_AT_EPOCH);
    let image = image_of(with_whiteouts(), &RootOptions::default());
    assert_eq!(hexadecimal(&image.digest), WITH_WHITEOUTS);
}

#[test]
fn a_compressed_archive_gives_the_same_image() {
    let (_directory, path) = store(&zstd::encode_all(varied().finish().as_slice(), 1).unwrap());
    let image = from_tar(&path, &RootOptions::default()).unwrap();
    assert_eq!(hexadecimal(&image.digest), VARIED);
    let mut content = Vec::new();
    image
        .open_object(&image.objects[0])
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    assert_eq!(content.len() as u64, image.objects[0].size);
}

#[test]
fn objects_have_the_digests_that_the_kernel_gives_them() {
    let root = tempfile::tempdir().unwrap();
    for (size, _) in MEASURED {
        fs::write(root.path().join(size.to_string()), pattern(size)).unwrap();
    }
    let image = from_directory(root.path(), &RootOptions::default()).unwrap();
    assert_eq!(image.objects.len(), MEASURED.len());
    for (size, digest) in MEASURED {
        let object = image
            .objects
            .iter()
            .find(|object| object.size == u64::from(size))
            .unwrap();
        assert_eq!(hexadecimal(&object.digest), digest, "{size} bytes");
        assert_eq!(
            object.content,
            Content::File {
                path: PathBuf::from(size.to_string())
            }
        );
        let mut content = Vec::new();
        image
            .open_object(object)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert!(content == pattern(size), "{size} bytes");
    }
}

#[test]
fn objects_are_listed_once_in_order() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for index in 0..40_u8 {
        fs::write(path(&format!("file{index}")), [index; 100]).unwrap();
    }
    fs::write(path("copy-of-7"), [7; 100]).unwrap();
    fs::hard_link(path("file7"), path("a-link-to-7")).unwrap();
    fs::write(path("small"), [1; 64]).unwrap();
    symlink("file7", path("symlink")).unwrap();
    let image = from_directory(root.path(), &RootOptions::default()).unwrap();
    assert_eq!(image.objects.len(), 40);
    assert!(
        image
            .objects
            .is_sorted_by(|one, two| one.digest < two.digest)
    );
    let first_of_equals = Content::File {
        path: PathBuf::from("a-link-to-7"),
    };
    assert!(
        image
            .objects
            .iter()
            .any(|object| object.content == first_of_equals)
    );
    let digests: Vec<Digest> = image.objects.iter().map(|object| object.digest).collect();
    assert_eq!(objects_named_by(&image.erofs).unwrap(), digests);
}

#[test]
fn the_order_of_the_disk_does_not_matter() {
    let build = |names: &[&str]| {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(root.path().join(name), name.repeat(50)).unwrap();
        }
        from_directory(root.path(), &RootOptions::at_epoch(1)).unwrap()
    };
    let (one, two) = (
        build(&["one", "two", "three"]),
        build(&["three", "two", "one"]),
    );
    assert_eq!(one.erofs, two.erofs);
    assert_eq!(one.objects, two.objects);
}

#[test]
fn an_epoch_is_the_time_of_everything() {
    let image = image_of(varied(), &RootOptions::at_epoch(77));
    for file in file_list(&image.erofs).unwrap() {
        let time = (file.modified_seconds, file.modified_nanoseconds);
        assert_eq!(time, (77, 0), "{}", file.path.display());
    }
}

#[test]
fn a_file_that_changes_is_not_served() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, [1; 5000]).unwrap();
    let image = from_directory(root.path(), &RootOptions::default()).unwrap();
    let object = &image.objects[0];

    fs::write(&path, [2; 5000]).unwrap();
    let error = image
        .open_object(object)
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);

    fs::write(&path, [1; 5001]).unwrap();
    assert!(matches!(
        image.open_object(object),
        Err(RootError::Changed { .. })
    ));

    fs::write(&path, [1; 5000]).unwrap();
    let mut reader = image.open_object(object).unwrap();
    fs::write(&path, [1; 100]).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn inputs_that_are_not_there_or_not_directories_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("missing");
    assert!(matches!(
        from_directory(&missing, &RootOptions::default()),
        Err(RootError::Read { .. })
    ));
    assert!(matches!(
        from_tar(&missing, &RootOptions::default()),
        Err(RootError::Read { .. })
    ));
    let file = root.path().join("file");
    fs::write(&file, "content").unwrap();
    let result = from_directory(&file, &RootOptions::default());
    assert!(matches!(
        result,
        Err(RootError::Tree {
            fault: TreeFault::NotADirectory,
            ..
        })
    ));
}

#[test]
fn the_deepest_directories_fit_the_stack() {
    let deepest = "d/".repeat(511) + "f";
    let archive = TestArchive::default()
        .records(b'x', &[("path", deepest.as_bytes())])
        .file("f", &[1; 100]);
    let image = image_of(archive, &RootOptions::default());
    let files = file_list(&image.erofs).unwrap();
    assert_eq!(files.len(), 513);
    assert_eq!(files[512].path, PathBuf::from("/").join(deepest));
}

#[test]
fn damaged_archives_give_errors_or_images_and_never_a_panic() {
    let mut sequence = Sequence::new();
    let good = with_whiteouts().finish();
    let is_header = |block: &[u8]| {
        let mut header: [u8; 512] = block.try_into().unwrap();
        set_checksum(&mut header);
        header == block
    };
    let headers: Vec<usize> = (0..good.len())
        .step_by(512)
        .filter(|at| is_header(&good[*at..*at + 512]))
        .collect();
    let (mut built, mut refused) = (0, 0);
    for _ in 0..rounds(150) {
        let mut bytes = good.clone();
        for _ in 0..=sequence.below(4) {
            // Headers keep a right checksum, so that the damage gets further than the first check.
            let at = if sequence.below(2) == 0 {
                headers[sequence.below(headers.len())]
            } else {
                sequence.below(bytes.len())
            };
            let start = at - at % 512;
            let inside = start + sequence.below(512);
            sequence.damage(&mut bytes[inside]);
            if headers.contains(&start) {
                set_checksum((&mut bytes[start..start + 512]).try_into().unwrap());
            }
        }
        let (_directory, path) = store(&bytes);
        match from_tar(&path, &RootOptions::default()) {
            Ok(image) => {
                let digests: Vec<Digest> =
                    image.objects.iter().map(|object| object.digest).collect();
                assert_eq!(objects_named_by(&image.erofs).unwrap(), digests);
                built += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("{built} built, {refused} refused");
    assert!(built > 0 && refused > 0);
}
