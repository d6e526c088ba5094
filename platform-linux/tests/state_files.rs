//! The files in the state directory: boot record, journal, scratch, lock.

mod support;

use std::fs;
use support::noise;
use tempfile::TempDir;
use twinseal_core::boot::record::COPY_BYTES;
use twinseal_core::error::{StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::RecordStore;
use twinseal_platform_linux::{AppendFile, DeviceLock, FileRecordStore, Scratch};

fn place() -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file").to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn the_copies_of_the_record_do_not_touch() {
    let (_directory, path) = place();
    let copies = [noise(1, COPY_BYTES), noise(2, COPY_BYTES)];
    let mut buffer = [0xa5; COPY_BYTES];
    let mut store = FileRecordStore::open(&path).unwrap();
    for copy in [0, 1] {
        store.read_copy(copy, &mut buffer).unwrap();
        assert_eq!(buffer, [0; COPY_BYTES], "a new record is zeros");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 8192);
    for copy in [1, 0] {
        store.write_copy(copy, &copies[copy]).unwrap();
    }
    drop(store);
    let mut store = FileRecordStore::open(&path).unwrap();
    for copy in [0, 1] {
        store.read_copy(copy, &mut buffer).unwrap();
        assert_eq!(buffer[..], copies[copy]);
    }
    let file = fs::read(&path).unwrap();
    assert_eq!(file[..COPY_BYTES], copies[0]);
    assert_eq!(file[4096..4096 + COPY_BYTES], copies[1]);
    assert!(
        file[COPY_BYTES..4096]
            .iter()
            .chain(&file[4096 + COPY_BYTES..])
            .all(|byte| *byte == 0)
    );
}

#[test]
fn a_record_that_was_cut_short_reads_as_zeros_and_heals() {
    let (_directory, path) = place();
    fs::write(&path, [7; 100]).unwrap();
    let mut store = FileRecordStore::open(&path).unwrap();
    let mut buffer = [0xa5; COPY_BYTES];
    store.read_copy(1, &mut buffer).unwrap();
    assert_eq!(buffer, [0; COPY_BYTES]);
    store.read_copy(0, &mut buffer).unwrap();
    assert_eq!((buffer[99], buffer[100]), (7, 0));
    store.write_copy(1, &[9; COPY_BYTES]).unwrap();
    store.read_copy(1, &mut buffer).unwrap();
    assert_eq!(buffer, [9; COPY_BYTES]);
}

#[test]
fn there_is_no_third_copy_and_no_longer_one() {
    let (_directory, path) = place();
    let mut store = FileRecordStore::open(&path).unwrap();
    let invalid = StorageFault::Code(22);
    assert_eq!(store.read_copy(2, &mut [0; 1]).unwrap_err().fault, invalid);
    assert_eq!(store.write_copy(2, &[0; 1]).unwrap_err().fault, invalid);
    assert_eq!(store.write_copy(0, &[1; 4097]).unwrap_err().fault, invalid);
    assert_eq!(fs::read(&path).unwrap(), [0; 8192]);
}

#[test]
fn the_journal_grows_and_its_torn_tail_is_cut() {
    let (_directory, path) = place();
    let mut journal = AppendFile::open(&path).unwrap();
    assert!(journal.is_empty());
    journal.append_synced(b"first").unwrap();
    journal.append_synced(b"second").unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"to"))
        .unwrap();
    let mut journal = AppendFile::open(&path).unwrap();
    assert_eq!(journal.len(), 13);
    let mut buffer = [0; 32];
    assert_eq!(journal.read_at(5, &mut buffer).unwrap(), 8);
    assert_eq!(&buffer[..8], b"secondto");
    assert_eq!(journal.read_at(13, &mut buffer).unwrap(), 0);
    journal.truncate_synced(11).unwrap();
    assert_eq!(
        journal.truncate_synced(12).unwrap_err().object,
        StorageObject::Journal
    );
    journal.append_synced(b"third").unwrap();
    assert_eq!(journal.len(), 16);
    assert_eq!(fs::read(&path).unwrap(), b"firstsecondthird");
}

#[test]
fn a_journal_that_cannot_grow_says_so_and_stays() {
    let mut journal = AppendFile::open("/dev/full").map(|_| ()).unwrap_err();
    assert_eq!(
        journal.operation,
        StorageOperation::Open,
        "a device is no journal"
    );
    journal = AppendFile::open("/no/such/directory/journal")
        .map(|_| ())
        .unwrap_err();
    assert_eq!(journal.fault, StorageFault::Code(2));
}

#[test]
fn a_full_medium_is_named() {
    let full = Scratch::open("/dev/full").unwrap();
    assert_eq!(full.write(0, b"x").unwrap_err().fault, StorageFault::Full);
}

#[test]
fn scratch_reads_what_was_written_and_zeros_elsewhere() {
    let (_directory, path) = place();
    let scratch = Scratch::open(&path).unwrap();
    scratch.write(5000, b"block").unwrap();
    let mut buffer = [0xa5; 8];
    scratch.read(4998, &mut buffer).unwrap();
    assert_eq!(&buffer, b"\0\0block\0");
    scratch.read(1 << 40, &mut buffer).unwrap();
    assert_eq!(buffer, [0; 8]);
    Scratch::open(&path)
        .unwrap()
        .read(5000, &mut buffer)
        .unwrap();
    assert_eq!(&buffer[..5], b"block", "another opening finds it");
}

#[test]
fn only_one_holds_the_device() {
    let (_directory, path) = place();
    let held = DeviceLock::acquire(&path).unwrap();
    let error = DeviceLock::acquire(&path).map(|_| ()).unwrap_err();
    assert_eq!(
        (error.operation, error.fault),
        (StorageOperation::Lock, StorageFault::Busy)
    );
    drop(held);
    DeviceLock::acquire(&path).unwrap();
}
