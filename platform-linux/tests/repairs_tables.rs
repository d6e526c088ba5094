//! A partition table brought back from its copies, on images of disks; `sfdisk` and `sgdisk` have the last word.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use twinseal_core::error::StorageFault;
use twinseal_platform_linux::partition_table::{
    Repaired, SPARE_BYTES, TableCopy, keep_spares, repair,
};

const MIB: u64 = 1024 * 1024;
const BYTES: u64 = 64 * MIB;

/// The table's sectors at the beginning, and those of its backup at the end.
const HEAD: u64 = 34 * 512;
const TAIL: u64 = 33 * 512;

struct Disk {
    path: PathBuf,
    _directory: TempDir,
}

impl Disk {
    /// With the partitions of a device, a mebibyte free at either end.
    fn new() -> Self {
        Self::with(
            BYTES,
            "label: gpt\nfirst-lba: 34\n\
             start=2048, size=8192, name=boot-a, type=U\n\
             start=10240, size=8192, name=boot-b, type=U\n\
             start=18432, size=110592, name=root-a, type=L\n",
        )
    }

    fn with(bytes: u64, script: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk");
        File::create(&path).unwrap().set_len(bytes).unwrap();
        let mut sfdisk = Command::new("sfdisk")
            .arg("-q")
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = sfdisk.stdin.take().unwrap();
        input.write_all(script.as_bytes()).unwrap();
        drop(input);
        assert!(sfdisk.wait().unwrap().success());
        Self {
            path,
            _directory: directory,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn said(&self, program: &str, argument: &str) -> String {
        let output = Command::new(program)
            .arg(argument)
            .arg(&self.path)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}{errors}");
        said + &errors
    }

    /// Two programs of others find nothing wrong; gives the partitions as one of them prints them.
    fn verified(&self) -> String {
        let said = self.said("sgdisk", "-v");
        assert!(said.contains("No problems found"), "{said}");
        let said = self.said("sfdisk", "--verify");
        assert!(said.contains("No errors detected"), "{said}");
        self.said("sfdisk", "--dump")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    fn byte(&self, at: usize) -> u8 {
        let mut byte = [0];
        let file = File::open(&self.path).unwrap();
        file.read_exact_at(&mut byte, at as u64).unwrap();
        byte[0]
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    fn lose(&self, offset: u64, bytes: u64) {
        self.write(offset, &vec![0xa5; bytes as usize]);
    }

    fn repair(&self) -> Repaired {
        repair(self.path()).unwrap()
    }
}

const PRIMARY: (u64, u64) = (0, HEAD);
const BACKUP: (u64, u64) = (BYTES - TAIL, TAIL);
const FIRST_SPARE: (u64, u64) = (SPARE_BYTES, HEAD);
const LAST_SPARE: (u64, u64) = (BYTES - MIB, HEAD);

#[test]
fn whatever_is_lost_comes_back_as_it_was() {
    let disk = Disk::new();
    let before = disk.verified();
    assert_eq!(keep_spares(disk.path()), Ok(2));
    assert_eq!(keep_spares(disk.path()), Ok(2), "they are there");
    assert_eq!(disk.verified(), before, "spares are nobody's business");
    let whole = disk.bytes();
    assert_eq!(disk.repair(), Repaired::Nothing);
    for (lost, from) in [
        (vec![PRIMARY], TableCopy::Backup),
        (vec![BACKUP], TableCopy::Primary),
        (vec![PRIMARY, FIRST_SPARE], TableCopy::Backup),
        (vec![PRIMARY, BACKUP], TableCopy::Spare),
        (vec![PRIMARY, BACKUP, FIRST_SPARE], TableCopy::Spare),
        (vec![PRIMARY, BACKUP, LAST_SPARE], TableCopy::Spare),
        // All of the first mebibyte, and the end.
        (vec![(0, MIB), BACKUP], TableCopy::Spare),
    ] {
        lost.iter()
            .for_each(|(offset, bytes)| disk.lose(*offset, *bytes));
        assert_eq!(disk.repair(), Repaired::From(from), "{lost:?}");
        assert_eq!(disk.verified(), before, "{lost:?}");
        assert_eq!(disk.repair(), Repaired::Nothing);
        assert_eq!(keep_spares(disk.path()), Ok(2));
        let now = disk.bytes();
        let same = |range: std::ops::Range<usize>| now[range.clone()] == whole[range];
        // The protective MBR has its own way to say nothing of cylinders.
        assert!(same(512..HEAD as usize), "{lost:?}");
        assert!(same((BYTES - TAIL) as usize..BYTES as usize), "{lost:?}");
    }
}

#[test]
fn every_flipped_byte_is_found_and_mended() {
    let disk = Disk::new();
    keep_spares(disk.path()).unwrap();
    let whole = disk.bytes();
    let last = (BYTES - 512) as usize;
    let backup_entries = (BYTES - TAIL) as usize;
    let mut flips = 0;
    // What has a meaning: header and entries that are in use, of either copy.
    for at in (512..604)
        .chain(1024..1024 + 3 * 128)
        .chain(last..last + 92)
        .chain(backup_entries..backup_entries + 3 * 128)
    {
        disk.write(at as u64, &[whole[at] ^ 0x10]);
        let from = if at < last - 32 * 512 {
            TableCopy::Backup
        } else {
            TableCopy::Primary
        };
        assert_eq!(disk.repair(), Repaired::From(from), "byte {at}");
        assert_eq!(disk.byte(at), whole[at], "byte {at}");
        flips += 1;
    }
    println!("{flips} flips");
    assert!(disk.bytes() == whole);
}

/// The kernel takes no notice of a table without it.
#[test]
fn the_first_sector_alone_comes_back() {
    let disk = Disk::new();
    let before = disk.verified();
    disk.lose(0, 512);
    assert_eq!(disk.repair(), Repaired::From(TableCopy::Primary));
    assert_eq!(disk.repair(), Repaired::Nothing);
    assert_eq!(disk.verified(), before);
}

/// The backup of an old table is still at the end of each of them.
#[test]
fn what_is_no_disk_of_ours_is_left_alone() {
    let table = |name| format!("label: gpt\nstart=2048, size=8192, name={name}\n");
    let photos = Disk::with(BYTES, &table("Photos"));
    photos.lose(0, HEAD);
    let pool = Disk::with(BYTES, &table("boot-abc"));
    pool.lose(0, HEAD);
    let stick = Disk::with(BYTES, &table("boot-a"));
    let mkfs = Command::new("mkfs.vfat")
        .args(["-I", stick.path()])
        .output()
        .unwrap();
    assert!(mkfs.status.success());
    let taken = |offset, magic: &[u8]| {
        let disk = Disk::with(BYTES, &table("boot-a"));
        disk.lose(0, HEAD);
        disk.write(offset, magic);
        disk
    };
    let luks = taken(0, b"LUKS\xba\xbe\0\x02");
    let volumes = taken(512, b"LABELONE");
    let swap = Disk::with(BYTES, &table("boot-a"));
    let mkswap = Command::new("mkswap").arg(swap.path()).output().unwrap();
    assert!(mkswap.status.success());
    for disk in [photos, pool, stick, luks, volumes, swap] {
        let before = disk.bytes();
        assert_eq!(disk.repair(), Repaired::Lost);
        assert!(disk.bytes() == before);
    }
}

/// As on boards whose boot loader begins at 8 KiB.
#[test]
fn entries_that_were_moved_stay_where_they_are() {
    let disk = Disk::new();
    let moved = Command::new("sgdisk")
        .args(["-j", "64", disk.path()])
        .output()
        .unwrap();
    assert!(moved.status.success(), "{moved:?}");
    assert_eq!(keep_spares(disk.path()), Ok(2));
    let loader = [0x42; 8192];
    disk.write(8192, &loader);
    let before = disk.verified();
    for lost in [vec![(512, 512)], vec![(512, 512), BACKUP]] {
        lost.into_iter()
            .for_each(|(at, bytes)| disk.lose(at, bytes));
        assert!(matches!(disk.repair(), Repaired::From(_)));
        assert_eq!(disk.verified(), before);
        assert!(disk.bytes()[8192..].starts_with(&loader));
    }
}

#[test]
fn one_dd_brings_a_table_back() {
    let disk = Disk::new();
    let before = disk.verified();
    keep_spares(disk.path()).unwrap();
    disk.lose(0, HEAD);
    let sectors = Command::new("dd")
        .args([
            "bs=512",
            "count=34",
            "skip=1024",
            "conv=notrunc",
            "status=none",
        ])
        .arg(format!("if={}", disk.path()))
        .arg(format!("of={}", disk.path()))
        .status()
        .unwrap();
    assert!(sectors.success());
    assert_eq!(disk.verified(), before);
}

#[test]
fn without_any_copy_nothing_is_written() {
    for (bytes, noise) in [(BYTES, 0), (BYTES, 0xff), (MIB, 0), (1024, 0), (0, 0)] {
        let disk = Disk::with(BYTES, "label: gpt\n");
        fs::write(&disk.path, vec![noise; bytes as usize]).unwrap();
        assert_eq!(disk.repair(), Repaired::Lost);
        assert_eq!(keep_spares(disk.path()), Ok(0));
        assert!(disk.bytes() == vec![noise; bytes as usize]);
    }
}

#[test]
fn a_partition_in_its_place_has_no_spare_written_over_it() {
    // From the first block that can be used to the last.
    let disk = Disk::with(
        BYTES,
        "label: gpt\nfirst-lba: 34\nlast-lba: 131038\nstart=34, size=131005, name=all\n",
    );
    let before = disk.bytes();
    assert_eq!(keep_spares(disk.path()), Ok(0));
    assert!(disk.bytes() == before);
}

#[test]
fn a_spare_of_a_larger_disk_is_not_believed() {
    let disk = Disk::new();
    keep_spares(disk.path()).unwrap();
    disk.lose(0, HEAD);
    let file = File::options().write(true).open(&disk.path).unwrap();
    file.set_len(BYTES / 2).unwrap();
    assert_eq!(disk.repair(), Repaired::Lost);
}

#[test]
fn a_disk_that_grew_keeps_its_table_where_it_was() {
    let disk = Disk::new();
    keep_spares(disk.path()).unwrap();
    let file = File::options().write(true).open(&disk.path).unwrap();
    file.set_len(2 * BYTES).unwrap();
    disk.lose(BACKUP.0, BACKUP.1);
    assert_eq!(disk.repair(), Repaired::From(TableCopy::Primary));
    disk.lose(0, HEAD);
    assert_eq!(disk.repair(), Repaired::From(TableCopy::Spare));
    file.set_len(BYTES).unwrap();
    disk.verified();
}

#[test]
fn what_is_no_disk_is_an_error() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("none");
    assert_eq!(repair(path.to_str().unwrap()), Err(StorageFault::Code(2)));
}
