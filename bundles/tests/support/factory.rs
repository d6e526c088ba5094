//! A factory for tests: a bundle with everything that could go wrong on a disk, and the disks made from it.
#![allow(
    dead_code,
    reason = "not every test that shares this file uses all of it"
)]

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::support::Workshop;
use twinseal_bundle::disk::{DiskOptions, Made, make};

/// A workshop with a bundle of a system and an image.
pub struct Factory {
    /// Where everything is.
    pub workshop: Workshop,
    /// A bundle of a system and an image.
    pub bundle: PathBuf,
}

impl Factory {
    pub fn new() -> Self {
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

    /// Options of somebody who trusts the release key.
    pub fn options(&self) -> DiskOptions {
        DiskOptions {
            keys: self.workshop.device().keys,
            ..DiskOptions::default()
        }
    }

    /// A file that says of itself that it is systemd-boot of a version.
    pub fn systemd_boot(&self, machine: u16, version: &str) -> PathBuf {
        let says = format!("#### LoaderInfo: systemd-boot {version} ####");
        let program = crate::synthetic::Synthetic {
            machine,
            sections: vec![(".text", vec![0xc3; 9000]), (".sdmagic", says.into_bytes())],
            ..crate::synthetic::Synthetic::default()
        };
        self.workshop.put("loader.efi", &program.build())
    }

    /// Makes a disk.
    pub fn disk(&self, name: &str, options: &DiskOptions) -> Disk {
        let path = self.workshop.at(name);
        let made = make(&self.bundle, &path, options).unwrap();
        Disk { path, made }
    }
}

/// A disk that was made.
pub struct Disk {
    pub path: PathBuf,
    pub made: Made,
}

impl Disk {
    /// Copies a partition out of the disk.
    pub fn part(&self, label: &str) -> PathBuf {
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
