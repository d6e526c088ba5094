//! Changes in a root slot: an ext4 file system with a composefs repository.

use super::{Set, wipe};
use crate::command::Invocation;
use crate::disk::{Disk, DiskError};
use std::os::unix::fs::FileExt;

/// Block size of every root slot: that of fs-verity and of the page.
const BLOCK_BYTES: u64 = 4096;

/// The byte that is changed: every object has more than 64 bytes, since composefs keeps smaller files in its image.
const FLIPPED_BYTE: u64 = 60;

/// Flags of an ext4 inode without `EXT4_VERITY_FL`: only `EXT4_EXTENTS_FL` (Linux, fs/ext4/ext4.h).
const FLAGS_WITHOUT_VERITY: &str = "0x80000";

/// Path of an object in its root slot.
fn object(digest: &str) -> String {
    let (folder, rest) = digest.split_at_checked(2).unwrap_or((digest, ""));
    format!("/composefs/objects/{folder}/{rest}")
}

fn slot(set: Set) -> String {
    format!("root-{}", set.name())
}

/// Changes one bit of an object's first block.
pub(super) fn flip(disk: &Disk<'_>, set: Set, digest: &str) -> Result<(), DiskError> {
    let (label, file) = (slot(set), object(digest));
    let said = disk.debugfs(&label, &format!("bmap {file} 0"))?;
    let block = said.trim().parse::<u64>().ok().filter(|block| *block > 0);
    let unfit = |what| DiskError::Unfit {
        file: file.clone(),
        label: label.clone(),
        what,
    };
    let block = block.ok_or_else(|| unfit("its first block is a hole"))?;
    let place = disk.partition(&label)?;
    let at = place.offset_bytes + block * BLOCK_BYTES + FLIPPED_BYTE;
    let image = disk.open()?;
    let mut byte = [0];
    image
        .read_exact_at(&mut byte, at)
        .map_err(DiskError::file(disk.file, "read"))?;
    let flipped = byte.map(|byte| byte ^ 1);
    image
        .write_all_at(&flipped, at)
        .map_err(DiskError::file(disk.file, "written"))
}

/// Gives an object's name to another object.
pub(super) fn replace(disk: &Disk<'_>, set: Set, digest: &str, by: &str) -> Result<(), DiskError> {
    let (label, file) = (slot(set), object(digest));
    disk.debugfs(&label, &format!("unlink {file}"))?;
    disk.debugfs(&label, &format!("ln {} {file}", object(by)))?;
    Ok(())
}

/// Takes the verity flag from an object.
pub(super) fn clear_verity(disk: &Disk<'_>, set: Set, digest: &str) -> Result<(), DiskError> {
    disk.debugfs(
        &slot(set),
        &format!("sif {} flags {FLAGS_WITHOUT_VERITY}", object(digest)),
    )?;
    Ok(())
}

/// Removes an object.
pub(super) fn remove(disk: &Disk<'_>, set: Set, digest: &str) -> Result<(), DiskError> {
    disk.debugfs(&slot(set), &format!("rm {}", object(digest)))?;
    Ok(())
}

/// Puts the other set's root slot here, and lets the name of this set's image lead to the other image.
pub(super) fn take_other_image(
    disk: &Disk<'_>,
    set: Set,
    own: &str,
    other: &str,
) -> Result<(), DiskError> {
    let (to_label, from_label) = (slot(set), slot(set.other()));
    let (to, from) = (disk.partition(&to_label)?, disk.partition(&from_label)?);
    if to.size_bytes != from.size_bytes {
        let what = "its root slot and the other one differ in size";
        return Err(DiskError::Unfit {
            file: object(own),
            label: to_label,
            what,
        });
    }
    wipe(disk, &to_label)?;
    let copy = Invocation::new("dd")
        .argument(format!("if={}", disk.file.display()))
        .argument(format!("of={}", disk.file.display()))
        .argument(format!("skip={}", from.offset_bytes))
        .argument(format!("seek={}", to.offset_bytes))
        .argument(format!("count={}", from.size_bytes))
        .arguments([
            "bs=1M",
            "conv=notrunc,sparse",
            "iflag=skip_bytes,count_bytes",
            "oflag=seek_bytes",
            "status=none",
        ]);
    disk.runner.run(&copy)?.expect_success()?;
    let target = object(other).replace("/composefs/", "../");
    disk.debugfs(
        &to_label,
        &format!("symlink /composefs/images/{own} {target}"),
    )?;
    Ok(())
}
