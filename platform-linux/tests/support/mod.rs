//! Two slot sets in temporary directories, and blobs to put into them.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use twinseal_core::error::StorageError;
use twinseal_core::storage::Storage;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::{
    BuildIdentity, Manifest, Needs, Payload, PayloadKind, ValidityWindow,
};
use twinseal_core::wire::text::{Line, Name};
use twinseal_platform_linux::{BootLayout, ImageSlot, LinuxConfig, LinuxStorage, SetPaths, Verity};

/// The name of the machine that the tests run on, at the removable-media path.
pub const BOOTABLE: &str = if cfg!(target_arch = "x86_64") {
    "EFI/BOOT/BOOTX64.EFI"
} else {
    "EFI/BOOT/BOOTAA64.EFI"
};

/// Where the UKI waits.
pub const STAGED: &str = "EFI/BOOT/TWINSEAL.NEW";

pub fn verity_of(bytes: &[u8]) -> BlobDigest {
    let mut digest = VerityDigest::new();
    digest.update(bytes);
    digest.finish()
}

/// Bytes that repeat nowhere, from a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn blob(role: Role, bytes: &[u8]) -> Blob {
    let payload = match role {
        Role::Uki => 0,
        Role::Object | Role::Composefs => 1,
        Role::Image => 2,
    };
    let (digest, size) = (verity_of(bytes), bytes.len() as u64);
    Blob {
        role,
        payload,
        digest,
        size,
        ranges: 1,
        stored_bytes: size,
        alternatives: 0,
    }
}

/// A manifest with a UKI, a composefs image with `objects` objects, and an image for the slot `fpga`.
pub fn manifest(objects: u32) -> Manifest {
    let payload = |kind, number| Payload {
        kind,
        digest: BlobDigest::sha256([number; 32]),
        size: 1,
    };
    Manifest {
        format: 1,
        compatible: Name::new("test-device").unwrap(),
        version: Line::new("1").unwrap(),
        anti_rollback: 1,
        window: ValidityWindow {
            not_before: 0,
            not_after: None,
        },
        sequence: 1,
        build: BuildIdentity {
            source: Line::new("").unwrap(),
            builder: Line::new("").unwrap(),
        },
        info: Default::default(),
        payloads: [
            payload(PayloadKind::Uki, 1),
            payload(
                PayloadKind::Composefs {
                    objects,
                    object_bytes: 1,
                },
                2,
            ),
            payload(
                PayloadKind::Image {
                    slot: Name::new("fpga").unwrap(),
                },
                3,
            ),
        ]
        .into_iter()
        .collect(),
        seal: Some(BlobDigest::sha256([2; 32])),
        routes: Default::default(),
        data_parts: Default::default(),
        needs: Needs {
            range_bytes: 4096,
            zstd_window_log: 0,
        },
    }
}

/// Two slot sets, `a` running and `b` the target.
pub struct Slots {
    pub directory: TempDir,
    texts: Vec<String>,
    /// Where the UKI stands in the boot slots.
    pub layout: BootLayout,
    pub verity: Verity,
    pub probe_images: bool,
    pub recovers: bool,
}

const PATHS: [&str; 9] = [
    "a/boot", "a/root", "a/front", "b/boot", "b/root", "b/front", "a/fpga", "b/fpga", "scratch",
];

impl Slots {
    pub fn new() -> Self {
        Self::below(TempDir::new().unwrap())
    }

    pub fn below(directory: TempDir) -> Self {
        for name in ["a/boot", "a/root", "b/boot", "b/root"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let text = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let texts = PATHS.map(text).to_vec();
        Self {
            directory,
            texts,
            layout: BootLayout::RemovableMedia,
            verity: Verity::Absent,
            probe_images: false,
            recovers: false,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn with<T>(&self, run: impl FnOnce(LinuxConfig<'_>) -> T) -> T {
        let at = |number: usize| self.texts[number].as_str();
        let set = |first| SetPaths {
            boot: Some(at(first)),
            layout: self.layout,
            root: Some(at(first + 1)),
            front: at(first + 2),
        };
        let images = [ImageSlot {
            name: "fpga",
            running: at(6),
            target: at(7),
        }];
        run(LinuxConfig {
            running: set(0),
            target: set(3),
            images: &images,
            scratch: at(8),
            verity: self.verity,
            probe_images: self.probe_images,
            recovers: self.recovers,
        })
    }

    /// Runs with the storage opened anew, as after a restart.
    pub fn storage<T>(&self, run: impl FnOnce(&mut LinuxStorage<'_>) -> T) -> T {
        self.with(|config| run(&mut LinuxStorage::open(config).unwrap()))
    }

    /// As [`storage`](Self::storage), prepared for `manifest(objects)`.
    pub fn prepared<T>(&self, objects: u32, run: impl FnOnce(&mut LinuxStorage<'_>) -> T) -> T {
        self.storage(|storage| {
            storage.prepare(&manifest(objects)).unwrap();
            run(storage)
        })
    }

    pub fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Names in a directory, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        list(&self.path(name))
    }
}

pub fn list(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Path of an object below a root slot.
pub fn object_path(set: &str, digest: &BlobDigest) -> String {
    let hex = digest.to_hex();
    let (shard, rest) = hex.split_at(2);
    format!("{set}/root/composefs/objects/{shard}/{rest}")
}

pub fn image_path(set: &str, digest: &BlobDigest) -> String {
    format!("{set}/root/composefs/images/{digest}")
}

pub fn temporary_path(digest: &BlobDigest) -> String {
    format!("b/root/composefs/tmp/{digest}")
}

/// Writes a blob up to the point where it could be published.
pub fn settle(storage: &mut impl Storage, blob: &Blob, bytes: &[u8]) -> Result<u64, StorageError> {
    let left = storage.open(blob, &manifest(0))?;
    for (number, piece) in bytes.chunks(4096).enumerate() {
        storage.write(number as u64 * 4096, piece)?;
    }
    storage.settle()?;
    Ok(left)
}

/// Writes a blob and publishes it.
pub fn put(storage: &mut impl Storage, role: Role, bytes: &[u8]) -> Blob {
    let blob = blob(role, bytes);
    settle(storage, &blob, bytes).unwrap();
    storage.publish().unwrap();
    blob
}

/// What the open blob reads.
pub fn read_back(storage: &mut impl Storage, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; length];
    storage.read(0, &mut bytes).unwrap();
    bytes
}
