//! Writing while the next bytes are read and hashed: a storage whose large writes are done by a second thread.
//!
//! # Invariants
//! - Writes reach the storage in the order in which core made them; every other call that concerns a blob waits until they are
//!   all done, so core sees the same storage as without a second thread.
//! - A write that failed is reported by the next such call; nothing is settled or published after it.
//!
//! # Memory
//! `PIECES` buffers of the largest piece, made when they are first needed.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::{Location, Space, Storage};
use twinseal_core::wire::index::Blob;
use twinseal_core::wire::manifest::Manifest;

/// Pieces on their way: one that is being written and one that waits.
const PIECES: usize = 2;

/// Smaller pieces are not worth handing over.
const PIECE_MIN_BYTES: usize = 128 * 1024;

/// `EIO`: what a writer that is gone looks like. It goes only when the process does.
const WRITER_GONE: StorageError = StorageError {
    operation: StorageOperation::Write,
    object: StorageObject::ImageSlot,
    fault: StorageFault::Code(5),
};

struct Piece {
    offset: u64,
    bytes: Vec<u8>,
}

/// A piece that was written, or not: its buffer, and what came of it.
struct Written {
    bytes: Vec<u8>,
    result: Result<(), StorageError>,
}

/// A storage and the thread that writes to it.
pub struct Overlapped<'s, S> {
    storage: &'s Mutex<S>,
    pieces: SyncSender<Piece>,
    written: Receiver<Written>,
    /// Buffers that are not in use.
    spare: Vec<Vec<u8>>,
    /// Pieces handed over and not come back.
    outstanding: usize,
    failed: Option<StorageError>,
}

/// Runs `work` with a storage that writes in a second thread, which ends before this returns.
pub fn overlapped<S, R>(storage: S, work: impl FnOnce(&mut Overlapped<'_, S>) -> R) -> R
where
    S: Storage + Send,
{
    let storage = Mutex::new(storage);
    let (pieces, waiting) = sync_channel(PIECES);
    let (done, written) = channel();
    std::thread::scope(|scope| {
        let writer = &storage;
        scope.spawn(move || write_all(writer, &waiting, &done));
        // Dropping the sender at the end ends the thread.
        work(&mut Overlapped {
            storage: &storage,
            pieces,
            written,
            spare: vec![Vec::new(); PIECES],
            outstanding: 0,
            failed: None,
        })
    })
}

/// The second thread. After a failure it writes nothing more.
fn write_all<S: Storage>(storage: &Mutex<S>, waiting: &Receiver<Piece>, done: &Sender<Written>) {
    let mut result = Ok(());
    for Piece { offset, bytes } in waiting {
        if result.is_ok() {
            result = lock(storage).write(offset, &bytes);
        }
        if done.send(Written { bytes, result }).is_err() {
            return;
        }
    }
}

/// A lock is poisoned by a panic only, and a panic ends the program.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'s, S: Storage> Overlapped<'s, S> {
    /// Takes one piece back.
    fn take_back(&mut self) -> Result<(), StorageError> {
        let written = self.written.recv().map_err(|_| WRITER_GONE)?;
        self.outstanding -= 1;
        self.spare.push(written.bytes);
        self.failed = self.failed.or(written.result.err());
        self.failed.map_or(Ok(()), Err)
    }

    /// The storage, with nothing on its way to it.
    fn idle(&mut self) -> Result<MutexGuard<'s, S>, StorageError> {
        while self.outstanding > 0 {
            self.take_back()?;
        }
        self.failed.map_or_else(|| Ok(lock(self.storage)), Err)
    }

    /// Hands a piece over, waiting for a buffer when all are on their way.
    fn hand_over(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if self.spare.is_empty() {
            self.take_back()?;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let piece = Piece {
            offset,
            bytes: buffer,
        };
        self.pieces.send(piece).map_err(|_| WRITER_GONE)?;
        self.outstanding += 1;
        Ok(())
    }
}

impl<S: Storage> Storage for Overlapped<'_, S> {
    fn locate(&mut self, blob: &Blob, manifest: &Manifest) -> Result<Location, StorageError> {
        self.idle()?.locate(blob, manifest)
    }

    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        self.idle()?.image_slot_bytes(slot)
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        self.idle()?.space()
    }

    /// The scratch area has nothing to do with the open blob: no need to wait for all pieces.
    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        lock(self.storage).scratch_read(offset, buffer)
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        lock(self.storage).scratch_write(offset, bytes)
    }

    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        self.idle()?.prepare(manifest)
    }

    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        self.idle()?.open(blob, manifest)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.idle()?.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if bytes.len() < PIECE_MIN_BYTES {
            return self.idle()?.write(offset, bytes);
        }
        self.hand_over(offset, bytes)
    }

    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        // What is read has nothing to do with what is on its way, and a large copy gains by reading on.
        lock(self.storage).read_running(blob, offset, buffer)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        self.idle()?.settle()
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        self.idle()?.publish()
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        self.idle()?.discard()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.idle()?.sync()
    }

    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        self.idle()?.make_bootable(manifest, front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what reaches it; writes fail from an offset on.
    #[derive(Default)]
    struct Notes {
        calls: Vec<String>,
        fails_from: Option<u64>,
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
        fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), StorageError> {
            Ok(())
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
            Ok(())
        }
        fn make_bootable(&mut self, _: &Manifest, _: &[u8]) -> Result<(), StorageError> {
            self.calls.push("bootable".to_owned());
            Ok(())
        }
    }

    #[test]
    fn calls_reach_the_storage_in_order() {
        let (large, small) = (PIECE_MIN_BYTES as u64, 10);
        let calls = overlapped(Notes::default(), |storage| {
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
        let calls = overlapped(notes, |storage| {
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
}
