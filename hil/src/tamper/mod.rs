//! What an attacker with the storage in hands can do: changes of a disk that is off, and of the firmware's variables.
//!
//! # Invariants
//! - Each change is made, or is an error: an attack that did not happen proves nothing.
//!
//! # Power loss
//! Only copies of a run are changed.

mod ext4;
mod fat;
mod repository;
mod uki;

use crate::boards::uefi::Processor;
use crate::command::Runner;
use crate::disk::{Disk, DiskError};
use crate::programs::Tool;
use crate::scenario::Loader;
use rustix::fs::{FallocateFlags, fallocate};
use serde::Deserialize;
use std::path::Path;

/// What changes are made with, besides the tools of disks.
pub const TOOLS: &[Tool] = &[
    Tool {
        program: "sbsign",
        package: "sbsigntool",
    },
    Tool {
        program: "sbattach",
        package: "sbsigntool",
    },
    Tool {
        program: "mshowfat",
        package: "mtools",
    },
    Tool {
        program: "e2fsck",
        package: "e2fsprogs",
    },
    Tool {
        program: "tune2fs",
        package: "e2fsprogs",
    },
];

/// A set of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// Set a.
    A,
    /// Set b.
    B,
}

impl Set {
    /// "a" or "b".
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A partition of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the labels say it")]
pub enum Label {
    BootA,
    BootB,
    RootA,
    RootB,
    FpgaA,
    FpgaB,
    Data,
}

impl Label {
    /// Its GPT label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BootA => "boot-a",
            Self::BootB => "boot-b",
            Self::RootA => "root-a",
            Self::RootB => "root-b",
            Self::FpgaA => "fpga-a",
            Self::FpgaB => "fpga-b",
            Self::Data => "data",
        }
    }
}

/// A change. A file is one of the sealed root: what is changed is the object that holds its content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum Tamper {
    /// One bit of the content of a file.
    FlipObject { set: Set, file: String },
    /// A file's object is the object of another file, which has a verity digest of its own.
    ReplaceObject { set: Set, file: String, by: String },
    /// A file's object is not sealed with fs-verity any more.
    ClearObjectVerity { set: Set, file: String },
    /// A file's object is gone.
    RemoveObject { set: Set, file: String },
    /// One bit of the composefs image.
    FlipImage { set: Set },
    /// The composefs image is not sealed with fs-verity any more.
    ClearImageVerity { set: Set },
    /// The root slot is that of the other set, under the name that this set's UKI asks for: another image, validly sealed.
    ReplaceImage { set: Set },
    /// One bit of the UKI's command line, in the seal.
    FlipUki { set: Set },
    /// The UKI is signed by a key that the firmware does not know.
    ResignUki { set: Set },
    /// The UKI has no signature.
    UnsignUki { set: Set },
    /// An install was cut off while it wrote the UKI: a file under the staging name is longer than its chain of clusters on FAT.
    TearStagedUki { set: Set },
    /// The UKI has a counter in its name, as systemd-boot's own counting of attempts has it.
    CountUki { set: Set },
    /// The firmware's variables are new: the owner's keys are there, every boot entry is lost.
    WipeVariables {},
    /// A partition holds zeros.
    WipePartition { label: Label },
    /// Both copies of the partition table hold zeros, as some partitioning programs leave a disk.
    WipePartitionTable {},
    /// The first sector of the disk holds zeros: without it nobody takes notice of the partition table, which is whole.
    WipeFirstSector {},
    /// The first block of a folder of an ext4 partition is unreadable.
    RotFolder { label: Label, folder: String },
    /// An ext4 partition takes no writes.
    RefuseWrites { label: Label },
}

/// What a change works on and with.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'s> {
    /// The board's processor.
    pub processor: Processor,
    /// Runs the tools.
    pub runner: &'s Runner,
    /// The disk.
    pub disk: &'s Path,
    /// The firmware's variables.
    pub variables: &'s Path,
    /// Variables of a new board with the owner's keys.
    pub new_variables: &'s Path,
    /// Key of a stranger, PEM.
    pub stranger_key: &'s Path,
    /// Its certificate, PEM.
    pub stranger_certificate: &'s Path,
    /// For what is made on the way.
    pub scratch: &'s Path,
    /// What starts the UKIs, and so where they are.
    pub loader: Loader,
}

/// Makes a change. `digest_of` gives the fs-verity digest, in hex, of a file in the root of a set.
///
/// # Errors
/// When the change cannot be made: then it was not, or only in part.
pub fn apply<E: From<DiskError>>(
    scene: &Scene<'_>,
    tamper: &Tamper,
    digest_of: impl Fn(Set, &str) -> Result<String, E>,
) -> Result<(), E> {
    let disk = Disk {
        file: scene.disk,
        runner: scene.runner,
    };
    match tamper {
        Tamper::FlipObject { set, file } => repository::flip(&disk, *set, &digest_of(*set, file)?)?,
        Tamper::ReplaceObject { set, file, by } => {
            repository::replace(&disk, *set, &digest_of(*set, file)?, &digest_of(*set, by)?)?;
        }
        Tamper::ClearObjectVerity { set, file } => {
            repository::clear_verity(&disk, *set, &digest_of(*set, file)?)?;
        }
        Tamper::RemoveObject { set, file } => {
            repository::remove(&disk, *set, &digest_of(*set, file)?)?
        }
        Tamper::FlipImage { set } => repository::flip(&disk, *set, &uki::seal(scene, *set)?)?,
        Tamper::ClearImageVerity { set } => {
            repository::clear_verity(&disk, *set, &uki::seal(scene, *set)?)?
        }
        Tamper::ReplaceImage { set } => {
            let (own, other) = (uki::seal(scene, *set)?, uki::seal(scene, set.other())?);
            repository::take_other_image(&disk, *set, &own, &other)?;
        }
        Tamper::FlipUki { set } => uki::flip(scene, *set)?,
        Tamper::ResignUki { set } => uki::sign_by_stranger(scene, *set)?,
        Tamper::UnsignUki { set } => uki::unsign(scene, *set)?,
        Tamper::TearStagedUki { set } => fat::stage_longer_than_its_clusters(scene, *set)?,
        Tamper::CountUki { set } => uki::count(scene, *set)?,
        Tamper::WipeVariables {} => {
            crate::disk::copy(scene.runner, scene.new_variables, scene.variables)?
        }
        Tamper::WipePartition { label } => wipe(&disk, label.name())?,
        Tamper::WipePartitionTable {} => wipe_table(&disk)?,
        Tamper::WipeFirstSector {} => punch(&disk, 0, SECTOR_BYTES)?,
        Tamper::RotFolder { label, folder } => ext4::rot(scene, &disk, label.name(), folder)?,
        Tamper::RefuseWrites { label } => ext4::refuse_writes(scene, &disk, label.name())?,
    }
    Ok(())
}

/// The seal, in hex, that the UKI of a set states.
///
/// # Errors
/// When there is no UKI, or it states none.
pub fn seal_of(scene: &Scene<'_>, set: Set) -> Result<String, DiskError> {
    uki::seal(scene, set)
}

/// Makes a partition zeros.
fn wipe(disk: &Disk<'_>, label: &str) -> Result<(), DiskError> {
    let place = disk.partition(label)?;
    punch(disk, place.offset_bytes, place.size_bytes)
}

/// Makes the partition table zeros, and its backup at the disk's end (UEFI specification 2.10, section 5.3).
fn wipe_table(disk: &Disk<'_>) -> Result<(), DiskError> {
    let about = disk.open()?.metadata();
    let about = about.map_err(DiskError::file(disk.file, "read"))?;
    punch(disk, 0, TABLE_BYTES)?;
    punch(disk, about.len() - BACKUP_BYTES, BACKUP_BYTES)
}

const SECTOR_BYTES: u64 = 512;

/// Protective MBR, header and 128 entries.
const TABLE_BYTES: u64 = 34 * SECTOR_BYTES;

/// Entries and header.
const BACKUP_BYTES: u64 = 33 * SECTOR_BYTES;

fn punch(disk: &Disk<'_>, offset_bytes: u64, size_bytes: u64) -> Result<(), DiskError> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let punched = fallocate(disk.open()?, hole, offset_bytes, size_bytes);
    punched.map_err(|error| DiskError::file(disk.file, "given a hole")(error.into()))
}

#[cfg(test)]
mod tests;
