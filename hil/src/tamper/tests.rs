use super::*;
use crate::command::Invocation;
use std::fs;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;
const ONE: &str = "11aa";
const TWO: &str = "22bb";

/// A disk of a FAT slot and two small root slots; an object is marked as sealed by its flag alone.
struct Small {
    folder: tempfile::TempDir,
    runner: Runner,
}

impl Small {
    fn new() -> Self {
        let small = Self {
            folder: tempfile::tempdir().unwrap(),
            runner: Runner::default(),
        };
        let disk = small.at("disk.img");
        fs::File::create(&disk).unwrap().set_len(48 * MIB).unwrap();
        let script = "label: gpt\nstart=2048,size=16MiB,name=boot-b\nsize=8MiB,name=root-a\nsize=8MiB,name=root-b\n";
        fs::write(small.at("table"), script).unwrap();
        small.shell("sfdisk -q disk.img < table");
        small.shell(
            "truncate -s 16M fat && mkfs.vfat fat >/dev/null && mmd -i fat ::/EFI ::/EFI/BOOT",
        );
        let uki = format!("MZ composefs=no composefs={} quiet", "ab".repeat(32));
        fs::write(small.at("uki"), uki).unwrap();
        small.shell("mcopy -i fat uki ::/EFI/BOOT/BOOTX64.EFI && dd if=fat of=disk.img bs=1M seek=1 conv=notrunc status=none");
        for (name, seek) in [("a", 17), ("b", 25)] {
            small.shell(&format!(
                "rm -rf tree && mkdir -p tree/composefs/objects/11 tree/composefs/objects/22 tree/composefs/images &&
                 yes one | head -c 9000 > tree/composefs/objects/11/aa && yes two-{name} | head -c 9000 > tree/composefs/objects/22/bb &&
                 mke2fs -q -t ext4 -b 4096 -O verity,^has_journal -d tree slot-{name} 8M &&
                 debugfs -w -R 'sif /composefs/objects/11/aa flags 0x180000' slot-{name} 2>/dev/null &&
                 dd if=slot-{name} of=disk.img bs=1M seek={seek} conv=notrunc status=none"
            ));
        }
        small
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shell(&self, script: &str) -> String {
        let script = format!("cd {} && {script}", self.folder.path().display());
        let run = Invocation::new("sh").arguments(["-c", &script]);
        self.runner
            .run(&run)
            .unwrap()
            .expect_success()
            .unwrap()
            .stdout
    }

    fn tamper(&self, tamper: &Tamper) -> Result<(), DiskError> {
        self.tamper_with(Loader::Uefi, tamper)
    }

    fn tamper_with(&self, loader: Loader, tamper: &Tamper) -> Result<(), DiskError> {
        let (disk, variables, new) = (self.at("disk.img"), self.at("vars"), self.at("new"));
        let scene = Scene {
            processor: Processor::X86_64,
            runner: &self.runner,
            disk: &disk,
            variables: &variables,
            new_variables: &new,
            stranger_key: Path::new("/no/key"),
            stranger_certificate: Path::new("/no/certificate"),
            scratch: self.folder.path(),
            loader,
        };
        apply(&scene, tamper, |_, file| {
            Ok(if file == "/one" { ONE } else { TWO }.to_owned())
        })
    }

    fn ask(&self, request: &str) -> Result<String, DiskError> {
        let disk = self.at("disk.img");
        Disk {
            file: &disk,
            runner: &self.runner,
        }
        .debugfs("root-b", request)
    }
}

fn one() -> (Set, String) {
    (Set::B, "/one".to_owned())
}

#[test]
fn objects_are_changed_one_way_each() {
    let small = Small::new();
    let content = || small.ask("cat /composefs/objects/11/aa");
    let before = content().unwrap();
    assert!(
        small
            .ask("stat /composefs/objects/11/aa")
            .unwrap()
            .contains("Flags: 0x180000")
    );

    let (set, file) = one();
    small.tamper(&Tamper::FlipObject { set, file }).unwrap();
    let flipped = content().unwrap();
    let different = before
        .bytes()
        .zip(flipped.bytes())
        .filter(|(a, b)| a != b)
        .count();
    assert_eq!((flipped.len(), different), (before.len(), 1));

    let (set, file) = one();
    small
        .tamper(&Tamper::ClearObjectVerity { set, file })
        .unwrap();
    assert!(
        small
            .ask("stat /composefs/objects/11/aa")
            .unwrap()
            .contains("Flags: 0x80000")
    );

    let (set, file) = one();
    small
        .tamper(&Tamper::ReplaceObject {
            set,
            file,
            by: "/two".into(),
        })
        .unwrap();
    assert!(content().unwrap().starts_with("two-b"));

    let (set, file) = one();
    small.tamper(&Tamper::RemoveObject { set, file }).unwrap();
    assert!(matches!(content(), Err(DiskError::Debugfs { .. })));
    let (set, file) = one();
    assert!(
        small.tamper(&Tamper::FlipObject { set, file }).is_err(),
        "an attack that did not happen"
    );
}

#[test]
fn the_other_slot_is_taken_under_the_own_name() {
    let small = Small::new();
    let disk = small.at("disk.img");
    let disk = Disk {
        file: &disk,
        runner: &small.runner,
    };
    repository::take_other_image(&disk, Set::B, "33cc", TWO).unwrap();
    assert!(
        small
            .ask("cat /composefs/objects/22/bb")
            .unwrap()
            .starts_with("two-a")
    );
    assert!(
        small
            .ask("stat /composefs/images/33cc")
            .unwrap()
            .contains("../objects/22/bb")
    );
}

#[test]
fn the_seal_of_a_uki_is_found_and_changed() {
    let small = Small::new();
    small.tamper(&Tamper::FlipUki { set: Set::B }).unwrap();
    let uki = small.shell("mcopy -i disk.img@@1M ::/EFI/BOOT/BOOTX64.EFI -");
    let seal = "ab".repeat(32).replacen('a', "0", 1);
    assert_eq!(uki, format!("MZ composefs=no composefs={seal} quiet"));
    small.shell("echo none > uki && mcopy -o -i disk.img@@1M uki ::/EFI/BOOT/BOOTX64.EFI");
    let error = small.tamper(&Tamper::FlipUki { set: Set::B }).unwrap_err();
    assert!(matches!(error, DiskError::Unfit { .. }), "{error}");
}

#[test]
fn an_entry_of_systemd_boot_is_found_by_either_name_and_gets_a_counter() {
    let small = Small::new();
    let (change, tamper) = (Tamper::FlipUki { set: Set::B }, |tamper: &Tamper| {
        small.tamper_with(Loader::SystemdBoot, tamper)
    });
    assert!(
        tamper(&change).is_err(),
        "that of the firmware is not meant"
    );
    let listed = || small.shell("mdir -b -i disk.img@@1M ::/EFI/Linux");
    for name in ["TWINTRYB.EFI", "TWINSE-B.EFI"] {
        small.shell(&format!(
            "mmd -D s -i disk.img@@1M ::/EFI/Linux </dev/null; mcopy -o -i disk.img@@1M uki ::/EFI/Linux/{name}"
        ));
        tamper(&change).unwrap();
        let uki = small.shell(&format!("mcopy -i disk.img@@1M ::/EFI/Linux/{name} -"));
        let seal = "ab".repeat(32).replacen('a', "0", 1);
        assert!(uki.contains(&seal), "{name}: {uki}");
        tamper(&Tamper::CountUki { set: Set::B }).unwrap();
        let counted = name.to_lowercase().replace(".efi", "+3.efi");
        assert!(listed().contains(&counted), "{}", listed());
        assert!(!listed().contains(name), "{}", listed());
    }
}

#[test]
fn partitions_and_variables_are_wiped() {
    let small = Small::new();
    fs::write(small.at("vars"), "old").unwrap();
    fs::write(small.at("new"), "new").unwrap();
    small.tamper(&Tamper::WipeVariables {}).unwrap();
    assert_eq!(fs::read_to_string(small.at("vars")).unwrap(), "new");
    small
        .tamper(&Tamper::WipePartition {
            label: Label::RootB,
        })
        .unwrap();
    assert!(small.ask("ls /").is_err());
    let error = small
        .tamper(&Tamper::WipePartition { label: Label::Data })
        .unwrap_err();
    assert!(
        error.to_string().contains("boot-b, root-a, root-b"),
        "{error}"
    );
}

#[test]
fn a_torn_file_is_longer_than_its_clusters_for_those_who_check_fat() {
    let small = Small::new();
    // The disks of devices have FAT32, which takes a larger volume.
    small.shell(
        "rm fat && truncate -s 40M fat && mkfs.vfat -F 32 -s 1 fat >/dev/null && mmd -i fat ::/EFI ::/EFI/BOOT &&
         head -c 9000 /dev/zero > uki && mcopy -i fat uki ::/EFI/BOOT/BOOTX64.EFI &&
         rm disk.img && truncate -s 48M disk.img && echo 'label: gpt
start=2048,size=40MiB,name=boot-b' | sfdisk -q disk.img && dd if=fat of=disk.img bs=1M seek=1 conv=notrunc status=none",
    );
    let set = Set::B;
    small.tamper(&Tamper::TearStagedUki { set }).unwrap();
    let checked = small
        .shell("dd if=disk.img of=fat bs=1M skip=1 count=40 status=none; fsck.vfat -n fat || true");
    assert!(checked.contains("TWINSEAL.NEW"), "{checked}");
    let found = "File size is 9000 bytes, cluster chain length is 512 bytes";
    assert!(checked.contains(found), "{checked}");

    small.shell(
        "head -c 100 /dev/zero > uki && mcopy -o -i disk.img@@1M uki ::/EFI/BOOT/BOOTX64.EFI",
    );
    let error = small.tamper(&Tamper::TearStagedUki { set }).unwrap_err();
    assert!(error.to_string().contains("one cluster"), "{error}");
}

#[test]
fn without_both_tables_nobody_finds_a_partition_and_all_else_is_there() {
    let small = Small::new();
    let rest = || small.shell("tail -c +17409 disk.img | head -c -16896 | sha256sum");
    let before = rest();
    small.tamper(&Tamper::WipePartitionTable {}).unwrap();
    assert_eq!(rest(), before);
    let table = small.shell("sfdisk --dump disk.img 2>&1 || true");
    assert!(!table.contains("name="), "{table}");
    let label = Label::RootA;
    assert!(small.tamper(&Tamper::WipePartition { label }).is_err());
}

#[test]
fn a_disk_gets_other_guids_and_keeps_its_labels() {
    let small = Small::new();
    let file = &small.at("disk.img");
    let runner = &small.runner;
    let guids = || small.shell("sfdisk -d disk.img | grep -o 'uuid=[^,]*\\|label-id: .*'");
    let (disk, before) = (Disk { file, runner }, guids());
    let place = disk.partition("root-b").unwrap();
    disk.rename_all().unwrap();
    assert_eq!(disk.partition("root-b").unwrap(), place);
    let after = guids();
    assert_eq!(after.lines().count(), 4);
    for (before, after) in before.lines().zip(after.lines()) {
        assert_ne!(before, after);
    }
}

#[test]
fn media_go_bad() {
    let small = Small::new();
    let label = Label::RootB;
    assert!(small.ask("ls /composefs/objects").unwrap().contains("11"));
    let folder = "/composefs/objects".to_owned();
    small.tamper(&Tamper::RotFolder { label, folder }).unwrap();
    let listed = small.ask("ls /composefs/objects");
    assert!(listed.is_err() || !listed.unwrap().contains("11"));
    let folder = "/nowhere".to_owned();
    assert!(small.tamper(&Tamper::RotFolder { label, folder }).is_err());
    let label = Label::RootA;
    small.tamper(&Tamper::RefuseWrites { label }).unwrap();
    let about = small.shell("dumpe2fs -h 'disk.img?offset=17825792' 2>/dev/null");
    assert!(about.contains("read-only"), "{about}");
    small.tamper(&Tamper::WipeFirstSector {}).unwrap();
    let head = fs::read(small.at("disk.img")).unwrap();
    assert!(head[..512] == [0; 512] && head[512..].starts_with(b"EFI PART"));
}
