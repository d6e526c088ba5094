//! Promise: a disk made from a bundle is one that the programs that own its formats find nothing wrong with; what is sealed on
//! it has the digests of its names; and the same bundle makes the same bytes.

#[path = "support/factory.rs"]
mod factory;
mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use factory::Factory;
use support::{tool, try_tool};
use twinseal_bundle::disk::{DiskOptions, Format};
use twinseal_bundle::extract::extract_all;

const MIB: u64 = 1 << 20;

/// Runs a program with words, and a path at their end.
fn run(program: &str, line: &str, path: &Path) -> String {
    let mut arguments = support::words(line);
    arguments.push(path);
    tool(program, &arguments)
}

fn debugfs(image: &Path, command: &str) -> String {
    tool("debugfs", &[Path::new("-R"), Path::new(command), image])
}

#[test]
fn the_partition_table_is_one_that_sfdisk_takes() {
    let factory = Factory::new();
    let disk = factory.disk("disk.img", &factory.options());
    let verified = run("sfdisk", "--verify", &disk.path);
    assert!(verified.contains("No errors detected"), "{verified}");
    let table: serde_json::Value = serde_json::from_str(&run("sfdisk", "-J", &disk.path)).unwrap();
    let table = &table["partitiontable"];
    assert_eq!(
        (&table["label"], &table["sectorsize"]),
        (&"gpt".into(), &512.into())
    );
    let partitions = table["partitions"].as_array().unwrap();
    let labels: Vec<&str> = partitions
        .iter()
        .map(|part| part["name"].as_str().unwrap())
        .collect();
    let expected = [
        "boot-a", "boot-b", "root-a", "root-b", "fpga-a", "fpga-b", "data",
    ];
    assert_eq!(labels, expected);
    for (part, made) in partitions.iter().zip(&disk.made.partitions) {
        assert_eq!(part["start"].as_u64().unwrap() * 512, made.start);
        assert_eq!(part["size"].as_u64().unwrap() * 512, made.bytes);
        assert!(made.start.is_multiple_of(MIB) && made.bytes.is_multiple_of(MIB));
        let kind = if made.label.starts_with("boot") {
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
        } else {
            "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
        };
        assert_eq!(part["type"], kind, "{}", made.label);
    }
    // The second header is read when the first is damaged.
    let copy = factory.workshop.at("copy.img");
    fs::copy(&disk.path, &copy).unwrap();
    tool(
        "dd",
        &support::words(&format!(
            "if=/dev/zero of={} bs=512 seek=1 count=1 conv=notrunc status=none",
            copy.display()
        )),
    );
    let damaged = try_tool("sfdisk", &[Path::new("-J"), &copy]);
    let words = String::from_utf8_lossy(&damaged.stderr).into_owned();
    assert!(words.contains("backup"), "{words}");
    assert!(String::from_utf8_lossy(&damaged.stdout).contains("\"root-b\""));
    let image = fs::read(&disk.path).unwrap();
    let first = &image[..34 * 512];
    for spare in [512 << 10, image.len() - (1 << 20)] {
        assert!(image[spare..].starts_with(first), "spare at {spare}");
    }
}

#[test]
fn boot_slots_are_fat_and_only_a_has_something_to_boot() {
    let factory = Factory::new();
    let disk = factory.disk("disk.img", &factory.options());
    extract_all(&factory.bundle, &factory.workshop.at("out")).unwrap();
    for (label, free) in [("boot-a", false), ("boot-b", true)] {
        let part = disk.part(label);
        let checked = run("fsck.vfat", "-n -v", &part);
        for word in ["differ", "wrong", "rror", "ncorrect", "corrupt"] {
            assert!(!checked.contains(word), "{checked}");
        }
        // It ends with an error when there is nothing to list.
        let listed = try_tool(
            "mdir",
            &[&support::words("-a -/ -b -i")[..], &[&part]].concat(),
        );
        let listing = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed.status.success(), !free, "{label}");
        let expected = if free { "" } else { "::/EFI/BOOT/BOOTX64.EFI" };
        let files: Vec<&str> = listing
            .lines()
            .filter(|line| line.ends_with(".EFI"))
            .collect();
        assert_eq!(files.concat(), expected, "{listing}");
        let long_names = fs::read(&part).unwrap();
        // A long name of BOOTX64.EFI would hold its letters in UTF-16.
        let long: Vec<u8> = "BOOT".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(!long_names.windows(long.len()).any(|part| part == long));
    }
    let out = factory.workshop.at("uki");
    let part = disk.part("boot-a");
    tool(
        "mcopy",
        &[
            Path::new("-i"),
            &part,
            Path::new("::/EFI/BOOT/BOOTX64.EFI"),
            &out,
        ],
    );
    assert!(fs::read(out).unwrap() == fs::read(factory.workshop.at("out/uki.efi")).unwrap());
}

#[test]
fn everything_in_a_root_slot_is_sealed_under_its_digest() {
    let factory = Factory::new();
    let disk = factory.disk("disk.img", &factory.options());
    extract_all(&factory.bundle, &factory.workshop.at("out")).unwrap();
    let part = disk.part("root-a");
    run("e2fsck", "-f -n", &part);
    let features = run("dumpe2fs", "-h", &part);
    for word in [
        "verity",
        "has_journal",
        "Block size:               4096",
        "Inode size:\t          256",
    ] {
        assert!(features.contains(word), "{features}");
    }
    let mut count = 0;
    for entry in fs::read_dir(factory.workshop.at("out/objects")).unwrap() {
        for object in fs::read_dir(entry.unwrap().path()).unwrap() {
            let object = object.unwrap().path();
            let shard = object
                .parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap();
            let rest = object.file_name().unwrap().to_str().unwrap();
            is_sealed(&part, &object, &format!("{shard}{rest}"));
            count += 1;
        }
    }
    assert!(count >= 4, "{count} objects");
    let image = factory.workshop.at("out/image.erofs");
    let seal = run("fsverity", "digest --compact", &image)
        .trim()
        .to_owned();
    is_sealed(&part, &image, &seal);
    let link = debugfs(&part, &format!("stat /composefs/images/{seal}"));
    let target = format!("../objects/{}/{}", &seal[..2], &seal[2..]);
    assert!(link.contains("Type: symlink"), "{link}");
    assert_eq!(
        debugfs(&part, &format!("cat /composefs/images/{seal}")),
        target
    );
    let listing = debugfs(&part, "ls -p /composefs");
    assert!(listing.contains("/040755/0/0/tmp//"), "{listing}");

    let front = factory.workshop.at("manifest.tar");
    debugfs(
        &part,
        &format!("dump /twinseal/manifest.tar {}", front.display()),
    );
    assert_eq!(run("tar", "-tf", &front), "manifest\nsignatures\n");
    let bundle = fs::read(&factory.bundle).unwrap();
    let front = fs::read(front).unwrap();
    assert!(bundle.starts_with(&front[..front.len() - 1024]));

    let empty = disk.part("root-b");
    run("e2fsck", "-f -n", &empty);
    assert!(run("dumpe2fs", "-h", &empty).contains("verity"));
    assert_eq!(
        debugfs(&empty, "ls -p /").matches("/040").count(),
        3,
        "itself, its parent, lost+found"
    );
}

/// The object of this digest has the flag, its data, and behind it what makes the kernel measure that digest.
fn is_sealed(part: &Path, content: &Path, digest: &str) {
    let name = format!("/composefs/objects/{}/{}", &digest[..2], &digest[2..]);
    let about = debugfs(part, &format!("stat {name}"));
    let size = fs::metadata(content).unwrap().len();
    assert!(about.contains("Flags: 0x180000"), "{about}");
    assert!(about.contains(&format!("Size: {size}\n")), "{about}");
    assert!(
        about.contains("Mode:  0644") && about.contains("User:     0   Group:     0"),
        "{about}"
    );
    let dumped = part.with_extension("object");
    debugfs(part, &format!("dump {name} {}", dumped.display()));
    assert!(
        fs::read(&dumped).unwrap() == fs::read(content).unwrap(),
        "{name}"
    );
    assert_eq!(run("fsverity", "digest --compact", &dumped).trim(), digest);
    // The tree and the descriptor as fsverity itself writes them, found at their place behind the data.
    let (tree, descriptor) = (
        part.with_extension("tree"),
        part.with_extension("descriptor"),
    );
    let options = format!(
        "digest --compact --out-merkle-tree={} --out-descriptor={}",
        tree.display(),
        descriptor.display()
    );
    run("fsverity", &options, &dumped);
    let (mut expected, descriptor) = (fs::read(tree).unwrap(), fs::read(descriptor).unwrap());
    expected.extend_from_slice(&descriptor);
    let mut stored = Vec::new();
    let first = size.next_multiple_of(65_536) / 4096;
    for block in (first..).take(expected.len().div_ceil(4096)) {
        let number = debugfs(part, &format!("bmap {name} {block}"));
        let number: u64 = number.trim().parse().unwrap();
        assert_ne!(number, 0, "{name}, block {block}");
        let mut file = fs::File::open(part).unwrap();
        file.seek(SeekFrom::Start(number * 4096)).unwrap();
        let mut bytes = [0; 4096];
        file.read_exact(&mut bytes).unwrap();
        stored.extend_from_slice(&bytes);
    }
    assert!(stored.starts_with(&expected), "{name}");
    assert!(stored.ends_with(&256u32.to_le_bytes()), "{name}");
}

#[test]
fn data_and_image_slots_hold_what_a_new_device_has() {
    let factory = Factory::new();
    let both = DiskOptions {
        both: true,
        ..factory.options()
    };
    let disk = factory.disk("disk.img", &both);
    let data = disk.part("data");
    run("e2fsck", "-f -n", &data);
    let features = run("dumpe2fs", "-h", &data);
    assert!(
        features.contains("has_journal") && !features.contains("verity"),
        "{features}"
    );
    for (name, bytes) in [("boot-record", 8192), ("journal", 0)] {
        let file = factory.workshop.at(name);
        debugfs(
            &data,
            &format!("dump /var/lib/twinseal/{name} {}", file.display()),
        );
        let content = fs::read(file).unwrap();
        assert!(content.len() >= bytes && !content.is_empty());
    }
    let image = fs::read(factory.workshop.at("fpga.bin")).unwrap();
    for label in ["fpga-a", "fpga-b"] {
        assert!(
            fs::read(disk.part(label)).unwrap().starts_with(&image),
            "{label}"
        );
    }
    run("e2fsck", "-f -n", &disk.part("root-b"));
    assert!(run("mdir", "-a -/ -b -i", &disk.part("boot-b")).contains("BOOTX64.EFI"));
    let only_a = factory.disk("a.img", &factory.options());
    assert!(
        fs::read(only_a.part("fpga-b"))
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn the_same_bundle_makes_the_same_bytes() {
    let factory = Factory::new();
    let first = factory.disk("first.img", &factory.options());
    // Another folder, and another second. Only time itself can show the latter: mke2fs reads the host's clock, and whether it
    // stamps anything by it although it is told not to (SOURCE_DATE_EPOCH) is what is asked here. No inode of the disk is
    // stamped by a file that a test could touch, and the clock of the host is not the test's to set.
    fs::create_dir(factory.workshop.at("elsewhere")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = factory.disk("elsewhere/second.img", &factory.options());
    assert_eq!(first.made, second.made);
    tool("cmp", &[&first.path, &second.path]);
    let about = fs::metadata(&first.path).unwrap();
    assert_eq!(about.len(), first.made.bytes);
    assert!(about.blocks() * 512 < 64 * MIB, "holes stay holes");
    let left: Vec<_> = fs::read_dir(factory.workshop.at("elsewhere"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["second.img"], "nothing else is left");
}

#[test]
fn qcow2_holds_the_same_disk() {
    let factory = Factory::new();
    let raw = factory.disk("disk.img", &factory.options());
    let options = DiskOptions {
        format: Format::Qcow2,
        ..factory.options()
    };
    let qcow2 = factory.disk("disk.qcow2", &options);
    let compared = tool("qemu-img", &[Path::new("compare"), &raw.path, &qcow2.path]);
    assert!(compared.contains("identical"), "{compared}");
    assert!(run("qemu-img", "info", &qcow2.path).contains("file format: qcow2"));
}

#[test]
fn a_disk_with_systemd_boot_has_the_loader_twice_and_the_uki_among_its_entries() {
    let factory = Factory::new();
    let program = factory.systemd_boot(synthetic::AMD64, "257.13-1~deb13u1");
    let options = DiskOptions {
        systemd_boot: Some(program.clone()),
        ..factory.options()
    };
    let disk = factory.disk("disk.img", &options);
    let table: serde_json::Value = serde_json::from_str(&run("sfdisk", "-J", &disk.path)).unwrap();
    let kind = |index: usize| table["partitiontable"]["partitions"][index]["type"].clone();
    assert_eq!(kind(0), "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
    assert_eq!(kind(1), "BC13C2FF-59E6-4262-A352-B275FD6F7172", "XBOOTLDR");

    let part = disk.part("boot-a");
    let checked = run("fsck.vfat", "-n -v", &part);
    for word in ["differ", "wrong", "rror", "ncorrect", "corrupt", "rphan"] {
        assert!(!checked.contains(word), "{checked}");
    }
    extract_all(&factory.bundle, &factory.workshop.at("out")).unwrap();
    let out = factory.workshop.at("copied");
    let copied = |name: &str| {
        let name = format!("::{name}");
        tool(
            "mcopy",
            &[
                Path::new("-n"),
                Path::new("-i"),
                &part,
                Path::new(&name),
                &out,
            ],
        );
        let bytes = fs::read(&out).unwrap();
        fs::remove_file(&out).unwrap();
        bytes
    };
    let program = fs::read(program).unwrap();
    // By the names that the firmware, systemd-boot and the agents ask for.
    assert!(copied("/EFI/systemd/systemd-bootx64.efi") == program);
    assert!(copied("/EFI/BOOT/BOOTX64.EFI") == program);
    let uki = fs::read(factory.workshop.at("out/uki.efi")).unwrap();
    assert!(copied("/EFI/Linux/TWINSE-A.EFI") == uki);
    let configuration = String::from_utf8(copied("/loader/loader.conf")).unwrap();
    let expected =
        "timeout 0\ndefault twinse-*\nsecure-boot-enroll off\nauto-entries no\neditor no\n";
    assert_eq!(configuration, expected);
    let listing = run("mdir", "-a -/ -b -i", &part);
    let mut files: Vec<&str> = listing
        .lines()
        .filter(|line| !line.ends_with('/'))
        .collect();
    files.sort_unstable();
    let expected = [
        "::/EFI/BOOT/BOOTX64.EFI",
        "::/EFI/LINUX/TWINSE-A.EFI",
        "::/EFI/SYSTEMD/systemd-bootx64.efi",
        "::/LOADER/loader.conf",
    ];
    assert_eq!(
        files, expected,
        "nothing that was only a place for a name is left"
    );
    // A long name of a UKI would hold its letters in UTF-16.
    let bytes = fs::read(&part).unwrap();
    let long: Vec<u8> = "TWIN".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(!bytes.windows(long.len()).any(|part| part == long));

    let free = try_tool(
        "mdir",
        &[&support::words("-a -/ -b -i")[..], &[&disk.part("boot-b")]].concat(),
    );
    assert!(!free.status.success(), "set b has nothing to boot");
    let again = factory.disk("again.img", &options);
    tool("cmp", &[&disk.path, &again.path]);
    let both = DiskOptions {
        both: true,
        ..options
    };
    let both = factory.disk("both.img", &both);
    let listing = run("mdir", "-a -/ -b -i", &both.part("boot-b"));
    let files: Vec<&str> = listing
        .lines()
        .filter(|line| line.ends_with(".EFI"))
        .collect();
    assert_eq!(files, ["::/EFI/LINUX/TWINSE-B.EFI"]);
}
