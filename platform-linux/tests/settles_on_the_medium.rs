//! After `settle` the page cache is empty, so that reading back asks the medium.

mod support;

use rustix::fs::{Mode, OFlags, fstatfs, open};
use support::*;
use twinseal_core::storage::Storage;
use twinseal_core::wire::index::Role;

/// File systems that have no medium under their pages (`linux/magic.h`).
const TMPFS_MAGIC: u64 = 0x0102_1994;
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// Bytes that this thread has made the kernel fetch from a medium (`Documentation/filesystems/proc.rst`, "read_bytes").
fn fetched_bytes() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = counters
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn settled_bytes_are_read_from_the_medium() {
    let slots = Slots::new();
    let bytes = noise(1, 12 * 1024 * 1024);
    let object = blob(Role::Object, &bytes);
    slots.prepared(1, |storage| {
        storage.open(&object, &manifest(1)).unwrap();
        let path = slots.path(&temporary_path(&object.digest));
        let file = open(path, OFlags::RDONLY, Mode::empty()).unwrap();
        if [TMPFS_MAGIC, OVERLAY_MAGIC].contains(&(fstatfs(&file).unwrap().f_type as u64)) {
            println!(
                "skipped: the temporary directory is on a file system without a medium of its own"
            );
            return;
        }
        let fetched_by_reading = |storage: &mut dyn Storage| {
            let before = fetched_bytes();
            let mut buffer = vec![0; bytes.len()];
            storage.read(0, &mut buffer).unwrap();
            assert!(buffer == bytes);
            fetched_bytes() - before
        };
        storage.write(0, &bytes).unwrap();
        storage.settle().unwrap();
        let fetched = fetched_by_reading(storage);
        assert!(
            fetched >= object.size,
            "only {fetched} of {} bytes were fetched",
            object.size
        );
        let again = fetched_by_reading(storage);
        assert!(
            again < object.size / 2,
            "the second time they are in memory, but {again} bytes were fetched"
        );
    });
}
