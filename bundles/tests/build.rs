//! Promises of the builder: the same input makes the same bytes, other programs can read them, and a device takes them.

mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::{Workshop, root_archive, tool};
use twinseal_bundle::authenticode::is_signed;
use twinseal_bundle::composefs_image::{from_tar, objects_named_by};
use twinseal_bundle::diff::diff;
use twinseal_bundle::extract::{extract_all, extract_blob};
use twinseal_bundle::inspect::inspect;
use twinseal_bundle::read::BlobName;
use twinseal_bundle::recipe::Recipe;
use twinseal_bundle::rootfs::RootOptions;
use twinseal_bundle::uki::section;
use twinseal_bundle::vectors::{pe_file, sections};
use twinseal_bundle::verify::verify;
use twinseal_core::wire::digest::BlobDigest;

/// What `fsverity digest` says, without its prefix.
fn fsverity(path: &Path) -> String {
    let line = tool(
        "fsverity",
        &[Path::new("digest"), Path::new("--compact"), path],
    );
    line.trim().trim_start_matches("sha256:").to_owned()
}

#[test]
fn two_builds_are_the_same_bytes() {
    for extra in ["", "compression = 'deflate'\n", "range-bytes = 4096\n"] {
        let workshop = Workshop::new();
        let recipe = format!("{extra}{}", Workshop::system_recipe());
        let first = workshop.build(&recipe, "first.tseal").unwrap();
        let second = workshop.build(&recipe, "elsewhere.tseal").unwrap();
        assert!(
            fs::read(first).unwrap() == fs::read(second).unwrap(),
            "{recipe}"
        );
        let left: Vec<_> = fs::read_dir(workshop.at(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            !left
                .iter()
                .any(|name| name.to_string_lossy().starts_with(".twinseal")),
            "{left:?}"
        );
    }
}

#[test]
fn tar_lists_what_is_in_a_bundle() {
    let workshop = Workshop::new();
    workshop.put("sbom.json", b"{}");
    workshop.put("CHANGES", b"much");
    let recipe = format!(
        "sbom = 'sbom.json'\n{}[[info]]\nkind = 'notes'\nname = 'changes.txt'\nfile = 'CHANGES'\n",
        Workshop::system_recipe()
    );
    let bundle = workshop.build(&recipe, "b.tseal").unwrap();
    let list = tool("tar", &[Path::new("tvf"), &bundle]);
    let names: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(
        names,
        [
            "manifest",
            "signatures",
            "info/sbom.json",
            "info/changes.txt",
            "index",
            "data"
        ]
    );
    assert!(
        list.lines()
            .all(|line| line.starts_with("-rw-r--r-- 0/0 ") && line.contains("1970-01-01")),
        "{list}"
    );
    verify(&bundle, &workshop.device()).unwrap();
}

#[test]
fn what_is_extracted_has_the_digests_that_fsverity_prints() {
    let workshop = Workshop::new();
    workshop.put("fpga.bin", &[0x5a; 70_000]);
    workshop.put("notes", b"some notes");
    let recipe = format!(
        "{}[[image]]\nslot = 'fpga'\nfile = 'fpga.bin'\n[[info]]\nkind = 'notes'\nfile = 'notes'\n",
        Workshop::system_recipe()
    );
    let bundle = workshop.build(&recipe, "b.tseal").unwrap();
    let out = workshop.at("out");
    extract_all(&bundle, &out).unwrap();
    let report = inspect(&bundle, true).unwrap();
    let mut objects = BTreeSet::new();
    for blob in &report.blobs {
        let path = match blob.role {
            "uki" => out.join("uki.efi"),
            "image" => out.join("images/fpga.img"),
            "composefs" => out.join("image.erofs"),
            _ => {
                objects.insert(blob.digest.clone());
                out.join("objects")
                    .join(&blob.digest[..2])
                    .join(&blob.digest[2..])
            }
        };
        assert_eq!(fsverity(&path), blob.digest, "{}", path.display());
        let alone = workshop.at("alone");
        extract_blob(&bundle, &blob.digest.parse().unwrap(), &alone).unwrap();
        assert!(fs::read(&alone).unwrap() == fs::read(&path).unwrap());
    }
    assert_eq!(
        fs::read(out.join("images/fpga.img")).unwrap(),
        [0x5a; 70_000]
    );
    assert_eq!(fs::read(out.join("info/notes")).unwrap(), b"some notes");
    let erofs = fs::read(out.join("image.erofs")).unwrap();
    let named = objects_named_by(&erofs)
        .unwrap()
        .into_iter()
        .map(|digest| BlobDigest::sha256(digest).to_string());
    assert_eq!(named.collect::<BTreeSet<_>>(), objects);
    let seal = format!("quiet composefs={}", fsverity(&out.join("image.erofs")));
    let uki = fs::read(out.join("uki.efi")).unwrap();
    assert_eq!(section(&uki, ".cmdline").unwrap(), Some(seal.as_bytes()));
    // Nobody gave an os-release, so it is that of the root.
    assert!(
        section(&uki, ".osrel")
            .unwrap()
            .unwrap()
            .starts_with(b"ID=test\n")
    );
    let absent =
        extract_blob(&bundle, &BlobName::Image("dsp".into()), &workshop.at("x")).unwrap_err();
    assert!(
        absent.to_string().contains("no image for slot `dsp`"),
        "{absent}"
    );
}

#[test]
fn every_compression_gives_the_same_content() {
    let workshop = Workshop::new();
    let mut digests = BTreeSet::new();
    let mut sizes = Vec::new();
    for compression in ["none", "deflate", "zstd"] {
        let recipe = format!(
            "compression = '{compression}'\n{}",
            Workshop::system_recipe()
        );
        let bundle = workshop.build(&recipe, "b.tseal").unwrap();
        let report = verify(&bundle, &workshop.device()).unwrap();
        digests.insert(report.manifest.seal.unwrap().to_string());
        sizes.push(fs::metadata(&bundle).unwrap().len());
        let needs = inspect(&bundle, false).unwrap().needs_zstd_window_log;
        assert_eq!(needs > 0, compression == "zstd");
    }
    assert_eq!(digests.len(), 1);
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
}

#[test]
fn a_sparse_image_becomes_a_small_bundle() {
    const IMAGE_BYTES: u64 = 300_000_000;
    let workshop = Workshop::new();
    fs::File::create(workshop.at("disk.img"))
        .unwrap()
        .set_len(IMAGE_BYTES)
        .unwrap();
    for options in ["", "range-bytes = 65536\n", "compression = 'deflate'\n"] {
        let recipe = format!(
            "compatible = 'test-device'\nversion = '1'\nanti-rollback = 1\nsign = ['keys/release.key']\n{options}\
             [[image]]\nslot = 'disk'\nfile = 'disk.img'\n"
        );
        let bundle = workshop.build(&recipe, "b.tseal").unwrap();
        let bytes = fs::metadata(&bundle).unwrap().len();
        assert!(bytes < 500_000, "{options}: {bytes}");
        let report = verify(&bundle, &workshop.device()).unwrap();
        assert_eq!(report.tally.written_bytes, IMAGE_BYTES);
        assert_eq!(
            report.manifest.payloads[0].digest.to_string(),
            fsverity(&workshop.at("disk.img"))
        );
        // A range of zeros asks for no larger window than others of its bundle.
        let window_log = inspect(&bundle, false).unwrap().needs_zstd_window_log;
        assert!(
            window_log <= 16 || !options.contains("65536"),
            "{window_log}"
        );
        fs::remove_file(bundle).unwrap();
    }
}

#[test]
fn a_uki_made_before_must_seal_this_root() {
    let workshop = Workshop::new();
    let image = from_tar(&workshop.at("root.tar"), &RootOptions::at_epoch(0)).unwrap();
    let recipe = "compatible = 'test-device'\nversion = '1'\nanti-rollback = 1\nsign = ['keys/release.key']\n\
        uki = 'made.efi'\nroot = { tar = 'root.tar', epoch = 0 }\n";
    let seal = format!("composefs={}", BlobDigest::sha256(image.digest));
    workshop.put("made.efi", &pe_file(&sections(&seal)));
    let bundle = workshop.build(recipe, "b.tseal").unwrap();
    verify(&bundle, &workshop.device()).unwrap();
    for (cmdline, expected) in [
        (
            format!("composefs={}", "ab".repeat(32)),
            "seals composefs image abab",
        ),
        ("quiet".to_owned(), "cannot seal this root"),
    ] {
        workshop.put("made.efi", &pe_file(&sections(&cmdline)));
        let error = workshop.build(recipe, "c.tseal").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(!workshop.at("c.tseal").exists());
}

#[test]
fn a_quote_cannot_swallow_the_seal() {
    let workshop = Workshop::new();
    let recipe = Workshop::system_recipe().replace("'quiet'", "'a=\"b'");
    let error = workshop.build(&recipe, "b.tseal").unwrap_err().to_string();
    assert!(error.contains("quote"), "{error}");
}

#[test]
fn a_secure_boot_key_signs_the_uki() {
    let workshop = Workshop::new();
    let (key, certificate) = (workshop.at("sb.key"), workshop.at("sb.crt"));
    let mut arguments =
        support::words("req -new -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=test -keyout");
    arguments.extend([&key, Path::new("-out"), &certificate]);
    tool("openssl", &arguments);
    let recipe = format!(
        "{}[secure-boot]\nkey = 'sb.key'\ncertificate = 'sb.crt'\n",
        Workshop::system_recipe()
    );
    let bundle = workshop.build(&recipe, "b.tseal").unwrap();
    verify(&bundle, &workshop.device()).unwrap();
    extract_blob(&bundle, &BlobName::Uki, &workshop.at("uki.efi")).unwrap();
    assert!(is_signed(&fs::read(workshop.at("uki.efi")).unwrap()).unwrap());
}

#[test]
fn a_directory_and_its_archive_make_the_same_objects() {
    let workshop = Workshop::new();
    fs::create_dir(workshop.at("tree")).unwrap();
    tool(
        "tar",
        &[
            Path::new("xf"),
            &workshop.at("root.tar"),
            Path::new("-C"),
            &workshop.at("tree"),
        ],
    );
    let from_tar = workshop
        .build(Workshop::system_recipe(), "tar.tseal")
        .unwrap();
    let recipe = Workshop::system_recipe().replace("tar = 'root.tar'", "directory = 'tree'");
    let from_directory = workshop.build(&recipe, "directory.tseal").unwrap();
    let difference = diff(&from_tar, &from_directory).unwrap();
    assert_eq!(
        (
            difference.objects_added.count,
            difference.objects_removed.count
        ),
        (0, 0)
    );
    assert_eq!(
        (difference.files_added.len(), difference.files_changed.len()),
        (0, 0)
    );
}

#[test]
fn a_difference_names_files_objects_and_cost() {
    let workshop = Workshop::new();
    workshop.put("fpga.bin", &[1; 9000]);
    let image = "[[image]]\nslot = 'fpga'\nfile = 'fpga.bin'\n";
    let old = workshop
        .build(
            &format!("{}{image}", Workshop::system_recipe()),
            "old.tseal",
        )
        .unwrap();
    workshop.put("root.tar", &root_archive(2));
    let new = workshop
        .build(
            &Workshop::system_recipe().replace("'1.0'", "'2.0'"),
            "new.tseal",
        )
        .unwrap();
    let difference = diff(&old, &new).unwrap();
    let changed: Vec<_> = difference
        .files_changed
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(changed, ["/usr/bin/tool"]);
    assert_eq!(
        (
            difference.objects_added.count,
            difference.objects_removed.count,
            difference.objects_kept.count
        ),
        (1, 1, 2)
    );
    assert_eq!(difference.objects_added.bytes, 5000);
    let sections: Vec<_> = difference
        .uki_sections
        .iter()
        .map(|section| section.name.as_str())
        .collect();
    assert_eq!(sections, [".cmdline"]);
    assert_eq!(
        (
            difference.images[0].slot.as_str(),
            difference.images[0].new_bytes
        ),
        ("fpga", None)
    );
    assert!(difference.update_bytes < difference.new_bundle_bytes);
    let text = difference.to_string();
    assert!(
        text.starts_with("1.0 -> 2.0\n") && text.contains("~ /usr/bin/tool"),
        "{text}"
    );
    let same = diff(&new, &new).unwrap();
    assert!(
        same.files_changed.is_empty() && same.uki_sections.is_empty() && same.images.is_empty()
    );
}

#[test]
fn a_short_os_release_is_read_from_the_image_itself() {
    let workshop = Workshop::new();
    workshop.put(
        "root.tar",
        &twinseal_bundle::vectors::archive_of(&[("etc/os-release".to_owned(), b"ID=a\n".to_vec())]),
    );
    let bundle = workshop
        .build(Workshop::system_recipe(), "b.tseal")
        .unwrap();
    let uki = workshop.at("uki.efi");
    extract_blob(&bundle, &BlobName::Uki, &uki).unwrap();
    let uki = fs::read(uki).unwrap();
    assert_eq!(section(&uki, ".osrel").unwrap(), Some(b"ID=a\n".as_slice()));
}

#[test]
fn a_failed_build_leaves_no_file() {
    let workshop = Workshop::new();
    for (from, to, expected) in [
        ("'vmlinuz'", "'missing'", "Opening"),
        ("'root.tar'", "'missing'", "could not be read"),
        (
            "'keys/release.key'",
            "'keys/release.pub'",
            "not an Ed25519 private key",
        ),
        ("'stub.efi'", "'root.tar'", "stub cannot be used"),
    ] {
        let error = workshop
            .build(&Workshop::system_recipe().replace(from, to), "b.tseal")
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!workshop.at("b.tseal").exists());
    }
    let unknown = Recipe::read(&workshop.put("r.toml", b"compatible = 'a'\nkernal = 'k'\n"))
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("kernal") && unknown.contains("line 2") && unknown.contains("r.toml"),
        "{unknown}"
    );
}

#[test]
fn what_cannot_be_a_bundle_is_refused_with_its_reason() {
    let workshop = Workshop::new();
    workshop.put("empty.img", b"");
    workshop.put("one.img", b"1");
    workshop.put("not-text", &[0xff; 10]);
    workshop.put(
        "no-release.tar",
        &twinseal_bundle::vectors::archive_of(&[("etc/motd".to_owned(), vec![b'a'; 100])]),
    );
    fs::File::create(workshop.at("huge"))
        .unwrap()
        .set_len(2 << 30)
        .unwrap();
    let plain = Workshop::system_recipe();
    let image = |slot: &str, file: &str| format!("[[image]]\nslot = '{slot}'\nfile = '{file}'\n");
    let many: String = (0..15)
        .map(|number| image(&format!("slot-{number}"), "one.img"))
        .collect();
    let secure_boot = "[secure-boot]\nkey = 'not-text'\ncertificate = 'not-text'\n";
    let infos: String = (0..9)
        .map(|number| format!("[[info]]\nkind = 'other'\nname = 'n{number}'\nfile = 'one.img'\n"))
        .collect();
    for (recipe, expected) in [
        (
            format!("{plain}{}", image("fpga", "empty.img")),
            "image for slot `fpga` is empty",
        ),
        (
            format!("{plain}{}", image("fpga", "keys")),
            "not a regular file",
        ),
        (format!("{plain}{many}"), "more than 16 payloads"),
        (format!("{plain}{infos}"), "more than 8 info entries"),
        (format!("{plain}{secure_boot}"), "not text in UTF-8"),
        (
            plain.replace("root.tar", "no-release.tar"),
            "no usable `usr/lib/os-release`",
        ),
        (
            plain.replace("initrd.cpio", "huge"),
            "larger than 1073741824 bytes",
        ),
    ] {
        let error = workshop.build(&recipe, "b.tseal").unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let not_text = Recipe::read(&workshop.at("not-text"))
        .unwrap_err()
        .to_string();
    assert!(not_text.contains("not text"), "{not_text}");
    assert!(!workshop.at("b.tseal").exists());
}
