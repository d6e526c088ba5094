//! What reaches a storage through [`Overlapped`], and what it says of failures.

use super::*;
use crate::crew::with_threads;
use twinseal_core::storage::{Location, Space};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::manifest::Manifest;

/// Notes what reaches it; writes fail from an offset on.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) calls: Vec<String>,
    fails_from: Option<u64>,
    sync_fails: bool,
}

const BROKEN: StorageError = StorageError {
    operation: StorageOperation::Write,
    object: StorageObject::ImageSlot,
    fault: StorageFault::Full,
};

impl Storage for Notes {
    fn locate(&mut self, _: &Blob, _: &Manifest) -> Result<Location, StorageError> {
        Ok(Location::Absent)
    }
    fn starts_from(&mut self, _: &Manifest) -> Result<bool, StorageError> {
        Ok(false)
    }
    fn freed_bytes(&mut self, _: &BlobDigest) -> Result<u64, StorageError> {
        Ok(0)
    }
    fn remove(&mut self, _: &BlobDigest) -> Result<(), StorageError> {
        Ok(())
    }
    fn image_slot_bytes(&mut self, _: &str) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }
    fn space(&mut self) -> Result<Space, StorageError> {
        Ok(Space::default())
    }
    fn scratch_read(&mut self, _: u64, _: &mut [u8]) -> Result<(), StorageError> {
        Ok(())
    }
    fn scratch_write(&mut self, _: u64, _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
    fn prepare(&mut self, _: &Manifest) -> Result<(), StorageError> {
        Ok(())
    }
    fn open(&mut self, _: &Blob, _: &Manifest) -> Result<u64, StorageError> {
        Ok(0)
    }
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        buffer.fill((offset / TREE_BYTES as u64) as u8);
        match self.fails_from {
            Some(from) if offset >= from => Err(BROKEN),
            _ => Ok(()),
        }
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if self.fails_from.is_some_and(|from| offset >= from) {
            return Err(BROKEN);
        }
        self.calls.push(format!(
            "write {} at {offset}, all {}",
            bytes.len(),
            bytes[0]
        ));
        Ok(())
    }
    fn read_running(&mut self, _: &Blob, _: u64, _: &mut [u8]) -> Result<(), StorageError> {
        Ok(())
    }
    fn settle(&mut self) -> Result<(), StorageError> {
        self.calls.push("settle".to_owned());
        Ok(())
    }
    fn publish(&mut self) -> Result<(), StorageError> {
        self.calls.push("publish".to_owned());
        Ok(())
    }
    fn discard(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StorageError> {
        self.calls.push("sync".to_owned());
        Ok(())
    }
    fn make_bootable(&mut self, _: &Manifest, _: &[u8]) -> Result<(), StorageError> {
        self.calls.push("bootable".to_owned());
        Ok(())
    }
}

impl Target for Notes {
    fn early_sync(&self) -> Option<EarlySync> {
        let fails = self.sync_fails;
        Some(Box::new(move || if fails { Err(BROKEN) } else { Ok(()) }))
    }
}

fn with_overlapped<'s, R>(
    notes: &'s Mutex<Notes>,
    work: impl FnOnce(&mut Overlapped<'s, '_, Notes>) -> R,
) -> R {
    with_threads(2, |crew| overlapped(notes, crew, work))
}

#[test]
fn calls_reach_the_storage_in_order() {
    let (large, small) = (PIECE_MIN_BYTES as u64, 10);
    let notes = Mutex::new(Notes::default());
    let calls = with_overlapped(&notes, |storage| {
        for number in 0..20 {
            storage
                .write(number * large, &vec![number as u8; PIECE_MIN_BYTES])
                .unwrap();
        }
        storage.write(20 * large, &[99; 10]).unwrap();
        storage.settle().unwrap();
        storage.publish().unwrap();
        lock(storage.storage).calls.clone()
    });
    let mut expected: Vec<_> = (0..20)
        .map(|number| format!("write {large} at {}, all {number}", number * large))
        .collect();
    expected.push(format!("write {small} at {}, all 99", 20 * large));
    expected.extend(["settle".to_owned(), "publish".to_owned()]);
    assert_eq!(calls, expected);
}

#[test]
fn a_failed_write_is_told_before_anything_is_settled_and_nothing_follows_it() {
    let large = PIECE_MIN_BYTES as u64;
    let notes = Notes {
        fails_from: Some(2 * large),
        ..Notes::default()
    };
    let notes = Mutex::new(notes);
    let calls = with_overlapped(&notes, |storage| {
        let mut told = Ok(());
        for number in 0..10 {
            told = told.and(storage.write(number * large, &vec![1; PIECE_MIN_BYTES]));
        }
        assert_eq!(storage.settle(), Err(BROKEN));
        assert_eq!(storage.publish(), Err(BROKEN));
        assert_eq!(told, Err(BROKEN), "ten pieces do not fit on the way");
        lock(storage.storage).calls.clone()
    });
    assert_eq!(calls.len(), 2, "{calls:?}");
}

#[test]
fn hashed_pieces_keep_their_place_among_the_others() {
    let large = PIECE_MIN_BYTES as u64;
    let notes = Mutex::new(Notes::default());
    let calls = with_overlapped(&notes, |storage| {
        for number in 0..10 {
            let (offset, bytes) = (number * large, vec![number as u8; PIECE_MIN_BYTES]);
            if number % 2 == 0 {
                storage.write(offset, &bytes).unwrap();
            } else {
                storage.write_hashed(offset, &bytes).unwrap();
            }
        }
        storage.settle().unwrap();
        lock(storage.storage).calls.clone()
    });
    let mut expected: Vec<_> = (0..10)
        .map(|number| format!("write {large} at {}, all {number}", number * large))
        .collect();
    expected.push("settle".to_owned());
    assert_eq!(calls, expected);
}

#[test]
fn a_failed_early_sync_is_told_before_anything_is_settled() {
    let notes = Mutex::new(Notes {
        sync_fails: true,
        ..Notes::default()
    });
    with_overlapped(&notes, |storage| {
        let piece = vec![1; EARLY_SYNC_BYTES];
        storage.write_hashed(0, &piece).unwrap();
        assert_eq!(storage.settle(), Err(BROKEN));
        assert_eq!(storage.publish(), Err(BROKEN));
    });
    assert_eq!(lock(&notes).calls.len(), 1, "only the write");
}

#[test]
fn a_sync_brings_the_open_blob_to_the_medium_too() {
    for sync_fails in [false, true] {
        let notes = Mutex::new(Notes {
            sync_fails,
            ..Notes::default()
        });
        with_overlapped(&notes, |storage| {
            storage.write(0, &vec![1; PIECE_MIN_BYTES]).unwrap();
            assert_eq!(storage.sync().is_err(), sync_fails);
        });
        let calls = &lock(&notes).calls;
        assert_eq!(calls.len(), if sync_fails { 1 } else { 2 }, "{calls:?}");
    }
}

#[test]
fn trees_are_read_back_in_order_and_errors_stay_with_theirs() {
    let tree = TREE_BYTES as u64;
    let end = 20 * tree + 5;
    let notes = Mutex::new(Notes {
        fails_from: Some(17 * tree),
        ..Notes::default()
    });
    with_overlapped(&notes, |storage| {
        for number in 0..17 {
            let trees = storage.read_trees(number * tree, end).unwrap();
            let expected = Trees::of(&vec![number as u8; TREE_BYTES]);
            assert_eq!(trees, Some(expected), "{number}");
        }
        assert_eq!(storage.read_trees(17 * tree, end), Err(BROKEN));
        assert_eq!(storage.settle(), Ok(()), "nothing is left under way");
        assert!(storage.reading_back.is_empty());
        assert_eq!(storage.read_trees(0, 2 * tree), Ok(None), "too little");
    });
}
