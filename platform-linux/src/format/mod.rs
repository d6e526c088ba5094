//! New file systems for slots that lost theirs: ext4 for a root slot, FAT for a boot slot.
//!
//! A recovery system has no `mkfs`. What is made here is what `twinseal-bundle disk` makes for an empty slot, by the same features
//! and sizes, so that agents, `/init`, firmware and repair tools meet one kind of slot.
//!
//! # Invariants
//! - A slot that somebody has mounted, or uses as a part of something else, is refused as busy; nothing is written to it then.
//! - What is made follows from the description alone: no clock, no random number.
//! - Memory is a few blocks on the stack, whatever the slot's size.
//!
//! # Power loss
//! The old file system is made unrecognisable first, and that is brought to the medium; the new one's superblock or boot sector is
//! written last, after all else was brought there. So a cut leaves the old one, none, or the new one whole: who finds none formats
//! again.

mod block;
mod ext4;
mod fat;
mod medium;

use medium::Medium;
use twinseal_core::error::{StorageError, StorageObject};

/// An ext4 file system to be made.
#[derive(Clone, Copy, Debug)]
pub struct Ext4<'l> {
    /// Its label, cut off at 16 bytes.
    pub label: &'l str,
    /// Its UUID. It also enters every checksum in it: with a new one nothing that an older file system left behind is taken for a
    /// part of this one.
    pub uuid: [u8; 16],
    /// How many files it can hold at least; one for each 16 KiB when nothing is said.
    pub inodes: Option<u32>,
}

/// A FAT file system to be made.
#[derive(Clone, Copy, Debug)]
pub struct Fat<'l> {
    /// Its label, cut off at 11 bytes and in capitals.
    pub label: &'l str,
    /// Its number, by which firmware and people tell volumes apart.
    pub number: u32,
}

/// Makes an empty ext4 file system, with journal and fs-verity, that fills the root slot at `path`: a block device, or a file that has
/// its size already. Of a slot above 16 TiB the rest stays unused.
///
/// # Errors
/// [`StorageFault::Full`](twinseal_core::error::StorageFault::Full) when the slot is too small for what the file system needs for
/// itself (16 MiB always do), [`StorageFault::Busy`](twinseal_core::error::StorageFault::Busy) when it is in use, and what the medium
/// says.
pub fn format_root_slot(path: &str, new: &Ext4<'_>) -> Result<(), StorageError> {
    ext4::make(&mut Medium::open(path, StorageObject::RootSlot)?, new)
}

/// Makes an empty FAT file system that fills the boot slot at `path`: FAT32, or FAT16 below the least size for it (34 MiB always do).
/// Above 4 GiB the rest stays unused. UEFI firmware boots from both.
///
/// # Errors
/// As [`format_root_slot`]; 4 MiB always do on a disk with blocks of 512 bytes.
pub fn format_boot_slot(path: &str, new: &Fat<'_>) -> Result<(), StorageError> {
    fat::make(&mut Medium::open(path, StorageObject::BootSlot)?, new)
}

#[cfg(test)]
mod tests;
