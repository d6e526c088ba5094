//! Damage of ext4 file systems as media do it: a folder that cannot be read any more, a file system that takes no writes.

use super::Scene;
use crate::command::Invocation;
use crate::disk::{Disk, DiskError};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Block size of every root slot and of the data.
const BLOCK_BYTES: u64 = 4096;

/// What stands in a block that went bad: no entry of a folder.
const NOISE: [u8; BLOCK_BYTES as usize] = [0xa5; BLOCK_BYTES as usize];

/// Exit code of `e2fsck` when it found something and put it right.
const CORRECTED: i32 = 1;

/// Makes the first block of a folder noise.
pub(super) fn rot(
    scene: &Scene<'_>,
    disk: &Disk<'_>,
    label: &str,
    folder: &str,
) -> Result<(), DiskError> {
    settle(scene, disk, label)?;
    let said = disk.debugfs(label, &format!("blocks {folder}"))?;
    let block = said.split_whitespace().next().map(str::parse::<u64>);
    let Some(Ok(block)) = block else {
        return Err(DiskError::Unfit {
            file: folder.to_owned(),
            label: label.to_owned(),
            what: "it has no block of its own",
        });
    };
    let at = disk.partition(label)?.offset_bytes + block * BLOCK_BYTES;
    let written = disk.open()?.write_all_at(&NOISE, at);
    written.map_err(DiskError::file(disk.file, "written"))
}

/// Has the kernel mount a file system for reading only, whatever it is asked for.
pub(super) fn refuse_writes(
    scene: &Scene<'_>,
    disk: &Disk<'_>,
    label: &str,
) -> Result<(), DiskError> {
    settle(scene, disk, label)?;
    let place = disk.place(label)?;
    let tune = Invocation::new("tune2fs").arguments(["-O", "read-only", &place]);
    disk.runner.run(&tune)?.expect_success()?;
    Ok(())
}

/// What still waits in the file system's own journal takes its place: it would heal what is damaged here. In a copy, since e2fsck
/// (1.47.0) looks at the beginning of a disk for a file system whose journal it has emptied.
fn settle(scene: &Scene<'_>, disk: &Disk<'_>, label: &str) -> Result<(), DiskError> {
    let place = disk.partition(label)?;
    let copy = scene.scratch.join("partition");
    let dd = |from: &Path, skip: u64, to: &Path, seek: u64| {
        let words = [
            format!("if={}", from.display()),
            format!("of={}", to.display()),
            format!("skip={skip}"),
            format!("seek={seek}"),
            format!("count={}", place.size_bytes),
        ];
        let dd = Invocation::new("dd").arguments(words).arguments([
            "bs=1M",
            "conv=notrunc",
            "iflag=skip_bytes,count_bytes",
            "oflag=seek_bytes",
            "status=none",
        ]);
        disk.runner.run(&dd)?.expect_success()
    };
    dd(disk.file, place.offset_bytes, &copy, 0)?;
    let check = Invocation::new("e2fsck").arguments(["-f", "-y"]);
    let output = disk.runner.run(&check.argument(&copy))?;
    if output.status.code() != Some(CORRECTED) {
        output.expect_success()?;
    }
    dd(&copy, 0, disk.file, place.offset_bytes)?;
    fs::remove_file(&copy).map_err(DiskError::file(&copy, "removed"))
}
