//! Disk images: from a signed bundle to the disk of a new device, without root, without mounts, without a running device.
//!
//! The disk is the one of `docs/disk.md`: a GPT with `boot-a`, `boot-b` (FAT32), `root-a`, `root-b` (ext4 with sealed files),
//! a pair for every image, and `data`. It is what `twinseal device init` would leave on an empty disk.
//!
//! # Invariants
//! - Nothing of the bundle reaches the disk unchecked: digests always, signatures and policy when keys are given, and then
//!   before anything else.
//! - The same bundle, options and version of e2fsprogs give the same bytes.
//! - The image appears under its name whole, or not at all.

mod boot;
mod content;
mod copy;
mod error;
mod ext4;
mod fat;
mod identity;
mod merkle;
mod sizes;
mod state;
mod systemd_boot;
mod table;
mod tools;

pub use error::{DiskError, LabelProblem};
pub use sizes::{ByteSize, ByteSizeError, Wanted};

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use twinseal_core::journal::Release;
use twinseal_core::verify::signature::Signers;
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::signatures::KeyId;

use crate::assemble::directory_of;
use crate::error::{Error, FileOperation};
use crate::keys::PublicKey;
use crate::pe::PeImage;
use crate::read::Bundle;
use crate::verify::{Device, verify};
use boot::FileIn;
use content::System;
use ext4::{Ext4, Tree};
use identity::Identity;
use sizes::Sizes;
use state::Installed;
use systemd_boot::SystemdBoot;
use table::{Kind, LABEL_MAX, Place};
use tools::{Call, DEBUGFS, E2FSCK, MKE2FS, QEMU_IMG};

/// The agent's state in `data`, which is mounted where `/var` comes from.
const STATE_FOLDER: &str = "var/lib/twinseal";

/// How the image is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Byte for byte as on a disk, with holes.
    #[default]
    Raw,
    /// For QEMU; made by `qemu-img`.
    Qcow2,
}

/// What a disk is made like.
#[derive(Clone, Debug, Default)]
pub struct DiskOptions {
    /// Sizes; the others follow from the content.
    pub wanted: Wanted,
    /// Whether set B has the release too.
    pub both: bool,
    /// The systemd-boot that starts the UKIs; without one, the firmware starts them itself.
    pub systemd_boot: Option<PathBuf>,
    /// How the image is stored.
    pub format: Format,
    /// Keys that the device trusts. Without any, no signature is checked.
    pub keys: Vec<PublicKey>,
}

/// A disk that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// SHA-256 of the bundle's manifest.
    pub manifest_sha256: Sha256Digest,
    /// The given keys that signed it.
    pub signers: Vec<KeyId>,
    /// Size of the disk in bytes.
    pub bytes: u64,
    /// Its partitions, from the first.
    pub partitions: Vec<MadePartition>,
}

/// A partition that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadePartition {
    /// Its label.
    pub label: String,
    /// Its first byte.
    pub start: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Makes a disk image of the bundle at `path`.
///
/// # Errors
/// [`DiskError`] says what cannot be made or is missing; [`Error::Bundle`] is what a device would say to the bundle.
pub fn make(path: &Path, output: &Path, options: &DiskOptions) -> Result<Made, Error> {
    for tool in [MKE2FS, DEBUGFS, E2FSCK] {
        tool.find()?;
    }
    if options.format == Format::Qcow2 {
        QEMU_IMG.find()?;
    }
    let bundle = Bundle::open(path)?;
    let manifest_sha256: Sha256Digest = Sha256::digest(bundle.manifest_entry()).into();
    let signers = signers(path, &manifest_sha256, options)?;
    let system = System::of(&bundle)?;
    let loader = options.systemd_boot.as_deref();
    let loader = loader.map(SystemdBoot::read).transpose()?;
    let mut content = system.content();
    content.loader_bytes = loader.as_ref().map_or(0, SystemdBoot::slot_bytes);
    let sizes = content.sizes(&options.wanted)?;
    let slots = system.slots();
    let places = places(&sizes, &slots, loader.is_some())?;

    let work = tempfile::Builder::new()
        .prefix(".twinseal-disk-")
        .tempdir_in(directory_of(output))
        .map_err(FileOperation::Create.on(output))?;
    let release = Release {
        version: bundle.manifest().version.clone(),
        manifest: manifest_sha256,
        anti_rollback: bundle.manifest().anti_rollback,
        signers: signers.clone(),
    };
    let mut maker = Maker {
        system: &system,
        installed: Installed {
            release,
            bundle_bytes: bundle.bytes(),
            blob_bytes: system.blob_bytes(),
            both: options.both,
        },
        inodes: content.inodes(),
        loader: loader.as_ref(),
        identity: Identity { manifest_sha256 },
        work: work.path(),
        slots,
        disk: Disk::create(&work.path().join("disk.raw"), sizes.disk)?,
    };
    maker.fill(&places)?;
    let made = maker.disk.finish(&places, &maker.identity)?;
    store(&made, options.format, output, work.path())?;
    Ok(Made {
        manifest_sha256,
        signers: signers.to_vec(),
        bytes: sizes.disk,
        partitions: places.into_iter().map(MadePartition::from).collect(),
    })
}

impl From<Place> for MadePartition {
    fn from(place: Place) -> Self {
        Self {
            label: place.label,
            start: place.start,
            bytes: place.bytes,
        }
    }
}

/// Has the bundle verified as a device would, if there are keys; gives those that signed.
fn signers(
    path: &Path,
    manifest_sha256: &Sha256Digest,
    options: &DiskOptions,
) -> Result<Signers, Error> {
    if options.keys.is_empty() {
        return Ok(Signers::new());
    }
    // Without a clock: a disk image is made long before it is started, and the same one tomorrow.
    let device = Device {
        keys: options.keys.clone(),
        ..Device::default()
    };
    let report = verify(path, &device)?;
    if report.manifest_sha256 != *manifest_sha256 {
        return Err(DiskError::BundleChanged(path.to_owned()).into());
    }
    Ok(report.signers.into_iter().collect())
}

/// Every partition in its order; `data` is last, so that it can grow with the disk. A boot loader of its own stands in the boot slot
/// of set A.
fn places(sizes: &Sizes, slots: &[String], has_loader: bool) -> Result<Vec<Place>, DiskError> {
    let pair =
        |name: &str, kind, bytes| ["a", "b"].map(|set| (format!("{name}-{set}"), kind, bytes));
    let mut list = Vec::new();
    let other = if has_loader {
        Kind::LoaderReads
    } else {
        Kind::Boot
    };
    for (label, kind) in [("boot-a", Kind::Boot), ("boot-b", other)] {
        list.push((label.to_owned(), kind, sizes.boot));
    }
    list.extend(pair("root", Kind::Linux, sizes.root));
    for (slot, bytes) in slots.iter().zip(&sizes.images) {
        let problem = match slot.as_str() {
            "boot" | "root" => Some(LabelProblem::Taken),
            _ if slot.len() + "-a".len() > LABEL_MAX => Some(LabelProblem::TooLong),
            _ => None,
        };
        if let Some(problem) = problem {
            let slot = slot.clone();
            return Err(DiskError::SlotLabel { slot, problem });
        }
        list.extend(pair(slot, Kind::Linux, *bytes));
    }
    list.push(("data".to_owned(), Kind::Linux, sizes.data));
    Ok(table::places(list))
}

/// The image that is being filled.
struct Disk {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Disk {
    fn create(path: &Path, bytes: u64) -> Result<Self, Error> {
        let failed = || FileOperation::Create.on(path);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed())?;
        file.set_len(bytes).map_err(failed())?;
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes,
        })
    }

    /// Copies a partition's content to its place and removes the file.
    fn take(&self, part: &Path, place: &Place) -> Result<(), Error> {
        let file = File::open(part).map_err(FileOperation::Open.on(part))?;
        copy::copy_sparse(&file, &self.file, place.start)
            .map_err(FileOperation::Write.on(&self.path))?;
        fs::remove_file(part).map_err(FileOperation::Write.on(part))
    }

    /// Writes the partition table, last; gives the path.
    fn finish(&mut self, places: &[Place], identity: &Identity) -> Result<PathBuf, Error> {
        let guid = |kind: &str, label: &str| identity.guid(kind, label);
        table::write(&mut self.file, self.bytes, places, guid)?;
        self.file
            .sync_all()
            .map_err(FileOperation::Write.on(&self.path))?;
        Ok(self.path.clone())
    }
}

/// Fills one partition after the other.
struct Maker<'m> {
    system: &'m System<'m>,
    loader: Option<&'m SystemdBoot>,
    installed: Installed,
    inodes: u64,
    identity: Identity,
    /// A folder for everything that is not the result.
    work: &'m Path,
    slots: Vec<String>,
    disk: Disk,
}

impl Maker<'_> {
    fn fill(&mut self, places: &[Place]) -> Result<(), Error> {
        let uki = self.system.uki()?;
        let mut root = Tree::new(self.work.join("root"))?;
        self.system.fill_root(&mut root)?;
        let empty = Tree::new(self.work.join("empty"))?;
        for place in places {
            let (name, set) = place.label.rsplit_once('-').unwrap_or((&place.label, ""));
            let has_release = set == "a" || self.installed.both;
            match (name, set) {
                ("boot", _) => self.boot(place, set, has_release, &uki)?,
                ("root", _) => {
                    let tree = if has_release { &root } else { &empty };
                    self.ext4(place, tree, Some(self.inodes))?;
                }
                ("data", "") => self.data(place)?,
                (slot, _) if has_release => self.image(place, slot)?,
                // A slot of set B that nothing was installed into.
                _ => {}
            }
        }
        Ok(())
    }

    fn part(&self) -> PathBuf {
        self.work.join("part")
    }

    /// The loader comes with set A, whether anything else is there or not.
    fn boot(&self, place: &Place, set: &str, has_uki: bool, uki: &[u8]) -> Result<(), Error> {
        let image = PeImage::parse(uki).map_err(DiskError::from)?;
        let machine = boot::machine_of(image.headers().machine)?;
        let mut files = Vec::new();
        if let Some(loader) = self.loader.filter(|_| set == "a") {
            files.extend(loader.files(machine)?);
        }
        let entry = |name| FileIn {
            path: vec!["EFI", "LINUX", name],
            long: None,
            content: uki,
        };
        let uki = match (self.loader, set) {
            (None, _) => machine.removable_media(uki),
            (Some(_), "a") => entry("TWINSE-A.EFI"),
            (Some(_), _) => entry("TWINSE-B.EFI"),
        };
        files.extend(has_uki.then_some(uki));
        let number = self.identity.volume_number(&place.label);
        let failed = || FileOperation::Write.on(&self.disk.path);
        let volume = boot::make(place.bytes, number, &place.label, &files).map_err(failed())?;
        copy::write_sparse(&volume, &self.disk.file, place.start).map_err(failed())
    }

    fn ext4(&self, place: &Place, tree: &Tree, inodes: Option<u64>) -> Result<(), Error> {
        let file_system = Ext4 {
            label: &place.label,
            guid: self.identity.guid("file-system", &place.label),
            bytes: place.bytes,
            inodes,
            verity: inodes.is_some(),
        };
        file_system.make(tree, &self.part(), self.work)?;
        self.disk.take(&self.part(), place)
    }

    fn data(&self, place: &Place) -> Result<(), Error> {
        let state = self.installed.state().map_err(twinseal_core::Error::from)?;
        let mut tree = Tree::new(self.work.join("data"))?;
        let name = |name: &str| format!("{STATE_FOLDER}/{name}");
        tree.file(&name("boot-record"), &state.boot_record)?;
        tree.file(&name("journal"), &state.journal)?;
        self.ext4(place, &tree, None)
    }

    fn image(&self, place: &Place, slot: &str) -> Result<(), Error> {
        let position = self.slots.iter().position(|name| name == slot);
        let path = self.part();
        self.system
            .write_image(position.unwrap_or(usize::MAX), &path)?;
        self.disk.take(&path, place)
    }
}

/// Gives the image its name, in the form that is wanted.
fn store(raw: &Path, format: Format, output: &Path, work: &Path) -> Result<(), Error> {
    let made = match format {
        Format::Raw => raw.to_owned(),
        Format::Qcow2 => {
            let path = work.join("disk.qcow2");
            let call = Call::new("the disk", ["convert", "-f", "raw", "-O", "qcow2"])
                .with_path(raw)
                .with_path(&path);
            QEMU_IMG.run(&call)?;
            path
        }
    };
    fs::rename(made, output).map_err(FileOperation::Rename.on(output))
}
