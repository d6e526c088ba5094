//! Promise: a disk made from a bundle is one that the programs that own its formats find nothing wrong with; what is sealed on
//! it has the digests of its names; the same bundle makes the same bytes; and a bundle with a fault makes no disk.

mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use support::{Workshop, tool, try_tool};
use twinseal_bundle::disk::{ByteSize, DiskError, DiskOptions, Format, Made, Wanted, make};
use twinseal_bundle::error::Error;
use twinseal_bundle::extract::extract_all;

const MIB: u64 = 1 << 20;

/// A workshop with a bundle of a system and an image.
struct Factory {
    workshop: Workshop,
    bundle: PathBuf,
}

impl Factory {
    fn new() -> Self {
        let workshop = Workshop::new();
        // Zeros within, a whole tree block (128 hashes), and more: what holes and levels could spoil.
        let mut large = vec![0x5a; 700_000];
        large[100_000..400_000].fill(0);
        workshop.put("over/usr/lib/large", &large);
        workshop.put("over/usr/lib/zeros", &[0; 50_000]);
        workshop.put("fpga.bin", &vec![0xf9; 1_500_000]);
        let recipe = Workshop::system_recipe().replace(
            "tar = 'root.tar',",
            "tar = 'root.tar', overlays = ['over'],",
        ) + "image = [{ slot = 'fpga', file = 'fpga.bin' }]\n";
        let bundle = workshop.build(&recipe, "b.tseal").unwrap();
        Self { workshop, bundle }
    }

    fn options(&self) -> DiskOptions {
        DiskOptions {
            keys: self.workshop.device().keys,
            ..DiskOptions::default()
        }
    }

    fn disk(&self, name: &str, options: &DiskOptions) -> Disk {
        let path = self.workshop.at(name);
        let made = make(&self.bundle, &path, options).unwrap();
        Disk { path, made }
    }
}

struct Disk {
    path: PathBuf,
    made: Made,
}

impl Disk {
    /// Copies a partition out of the disk.
    fn part(&self, label: &str) -> PathBuf {
        let place = self
            .made
            .partitions
            .iter()
            .find(|place| place.label == label);
        let place = place.unwrap_or_else(|| panic!("no partition {label}"));
        let out = self.path.with_extension(label);
        let mut disk = fs::File::open(&self.path).unwrap();
        disk.seek(SeekFrom::Start(place.start)).unwrap();
        std::io::copy(
            &mut disk.take(place.bytes),
            &mut fs::File::create(&out).unwrap(),
        )
        .unwrap();
        out
    }
}

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
    // Another folder, another second, another umask of the files inside.
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
fn a_bundle_with_a_fault_makes_no_disk_and_leaves_nothing() {
    let factory = Factory::new();
    let good = fs::read(&factory.bundle).unwrap();
    fs::create_dir(factory.workshop.at("empty")).unwrap();
    let out = factory.workshop.at("empty/disk.img");
    let refused = |bytes: &[u8], options: &DiskOptions| {
        let bundle = factory.workshop.put("bad.tseal", bytes);
        let error = make(&bundle, &out, options).unwrap_err();
        let left = fs::read_dir(factory.workshop.at("empty")).unwrap().count();
        assert_eq!(left, 0, "nothing is left behind");
        error
    };
    let trusting = factory.options();
    let mut cuts = 0;
    for position in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[position] ^= 1;
        let error = refused(&bad, &trusting);
        assert!(
            matches!(error, Error::Bundle(_)),
            "byte {position}: {error}"
        );
        cuts += 1;
    }
    assert!(cuts >= 40);
    // The last range belongs to the composefs image: seen without keys too, by its digest alone.
    let mut bad = good.clone();
    let end = bad.len() - 4096;
    bad[end] ^= 1;
    assert!(matches!(
        refused(&bad, &DiskOptions::default()),
        Error::Bundle(_)
    ));
    let stranger = twinseal_bundle::keys::SigningKey::generate().public();
    let error = refused(
        &good,
        &DiskOptions {
            keys: vec![stranger],
            ..DiskOptions::default()
        },
    );
    assert_eq!(twinseal_bundle::exit::exit_code_of(&error), 30, "{error}");
}

#[test]
fn sizes_that_do_not_do_are_refused_with_the_size_that_does() {
    let factory = Factory::new();
    let out = factory.workshop.at("disk.img");
    let refused = |wanted: Wanted| {
        let options = DiskOptions {
            wanted,
            ..factory.options()
        };
        make(&factory.bundle, &out, &options).unwrap_err()
    };
    let small = Some(ByteSize(MIB));
    for (wanted, flag) in [
        (
            Wanted {
                disk: small,
                ..Wanted::default()
            },
            "size",
        ),
        (
            Wanted {
                boot: small,
                ..Wanted::default()
            },
            "boot-bytes",
        ),
        (
            Wanted {
                root: small,
                ..Wanted::default()
            },
            "root-bytes",
        ),
    ] {
        let error = refused(wanted);
        let Error::Disk(DiskError::TooSmall { needed, .. }) = &error else {
            panic!("{error}")
        };
        let advice = format!("Give `--{flag} {}M` or more", needed / MIB);
        assert!(error.to_string().contains(&advice), "{error}");
    }
    // The least that is named is enough.
    let (mut wanted, mut error) = (
        Wanted {
            boot: small,
            root: small,
            ..Wanted::default()
        },
        None,
    );
    for _ in 0..3 {
        match refused_or_made(&factory, &out, wanted) {
            Ok(made) => {
                assert!(made.bytes < 500 * MIB);
                return;
            }
            Err(Error::Disk(DiskError::TooSmall { flag, needed, .. })) => match flag {
                "boot-bytes" => wanted.boot = Some(ByteSize(needed)),
                _ => wanted.root = Some(ByteSize(needed)),
            },
            Err(other) => error = Some(other),
        }
    }
    panic!("{error:?}");
}

fn refused_or_made(factory: &Factory, out: &Path, wanted: Wanted) -> Result<Made, Error> {
    let options = DiskOptions {
        wanted,
        ..factory.options()
    };
    make(&factory.bundle, out, &options)
}

#[test]
fn a_bundle_of_images_makes_no_disk() {
    let factory = Factory::new();
    let recipe = "compatible = 'test-device'\nversion = '1'\nanti-rollback = 1\nsign = ['keys/release.key']\n\
        image = [{ slot = 'fpga', file = 'fpga.bin' }]\n";
    let bundle = factory.workshop.build(recipe, "images.tseal").unwrap();
    let error = make(
        &bundle,
        &factory.workshop.at("disk.img"),
        &factory.options(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("no UKI"), "{error}");
    for (slot, problem) in [("root", "already"), (&"x".repeat(40), "36 letters")] {
        let recipe = Workshop::system_recipe().to_owned()
            + &format!("image = [{{ slot = '{slot}', file = 'fpga.bin' }}]\n");
        let bundle = factory.workshop.build(&recipe, "slots.tseal").unwrap();
        let error = make(
            &bundle,
            &factory.workshop.at("disk.img"),
            &factory.options(),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
