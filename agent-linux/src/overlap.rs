//! Writing while the next bytes are read and hashed: a storage whose large writes are done by a second thread, and whose
//! read-back of a large blob is hashed by the crew.
//!
//! # Invariants
//! - Writes reach the storage in the order in which core made them; every other call that concerns a blob waits until they are
//!   all done, so core sees the same storage as without a second thread.
//! - A write or an early sync that failed is reported by the next such call; nothing is settled or published after it.
//!
//! # Memory
//! `PIECES` buffers of the largest piece, made when they are first needed; the read-back uses the same ones, and as many
//! more as make `TREES`, half as large.

use crate::crew::Crew;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::{self, PatchBase, Storage};
use twinseal_core::verify::digest::TREE_BYTES;
use twinseal_core::verify::hashed::Trees;
use twinseal_core::wire::index::Blob;
use twinseal_platform_linux::LinuxStorage;

/// Pieces on their way: one that is being written and one that waits.
const PIECES: usize = 2;

/// Smaller pieces are not worth handing over.
const PIECE_MIN_BYTES: usize = 128 * 1024;

/// Trees that are read back at the same time: one for each of two threads, and as many that wait for core.
const TREES: usize = 4;

/// Reading back less than this is not worth handing over.
const READ_BACK_MIN_BYTES: u64 = 2 * 1024 * 1024;

/// After so many bytes the medium is told to keep them, in the background: then little is left to sync at the end.
const EARLY_SYNC_BYTES: usize = 32 * 1024 * 1024;

/// `EIO`: what a writer that is gone looks like. It goes only when the process does.
const WRITER_GONE: StorageError = StorageError {
    operation: StorageOperation::Write,
    object: StorageObject::ImageSlot,
    fault: StorageFault::Code(5),
};

/// The same of the crew, which lives as long.
const CREW_GONE: StorageError = StorageError {
    operation: StorageOperation::Read,
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

/// A storage that can be used this way.
pub trait Target: Storage + Send {
    /// What brings to the medium, from another thread, what was written of the open blob before.
    fn early_sync(&self) -> Option<EarlySync>;
}

/// Gives an error that will not be told again.
pub type EarlySync = Box<dyn FnOnce() -> Result<(), StorageError> + Send>;

impl Target for LinuxStorage<'_> {
    fn early_sync(&self) -> Option<EarlySync> {
        let early = LinuxStorage::early_sync(self)?;
        Some(Box::new(move || early.sync()))
    }
}

/// A tree that the crew reads back: where it starts, then its buffer and its hash.
struct ReadBack {
    offset: u64,
    hashed: Receiver<(Vec<u8>, Result<Trees, StorageError>)>,
}

/// A storage and the thread that writes to it.
pub struct Overlapped<'s, 'c, S> {
    storage: &'s Mutex<S>,
    crew: &'c Crew<'s>,
    reading_back: VecDeque<ReadBack>,
    /// Bytes written since the last early sync began, and that sync.
    unsynced: usize,
    early_sync: Option<Receiver<Result<(), StorageError>>>,
    pieces: SyncSender<Piece>,
    written: Receiver<Written>,
    /// Buffers that are not in use.
    spare: Vec<Vec<u8>>,
    /// Pieces handed over and not come back.
    outstanding: usize,
    failed: Option<StorageError>,
}

/// Runs `work` with a storage that writes in a second thread, which ends before this returns.
pub fn overlapped<'s, S, R>(
    storage: &'s Mutex<S>,
    crew: &Crew<'s>,
    work: impl FnOnce(&mut Overlapped<'s, '_, S>) -> R,
) -> R
where
    S: Target,
{
    let (pieces, waiting) = sync_channel(PIECES);
    let (done, written) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || write_all(storage, &waiting, &done));
        // Dropping the sender at the end ends the thread.
        work(&mut Overlapped {
            storage,
            crew,
            reading_back: VecDeque::new(),
            unsynced: 0,
            early_sync: None,
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
        // Who has stopped takes no answer, and what was handed over before is written all the same: a resume finds it.
        let _ = done.send(Written { bytes, result });
    }
}

/// A lock is poisoned by a panic only, and a panic ends the program.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'s, S: Target> Overlapped<'s, '_, S> {
    /// Takes one piece back.
    fn take_back(&mut self) -> Result<(), StorageError> {
        let written = self.written.recv().map_err(|_| WRITER_GONE)?;
        self.outstanding -= 1;
        self.spare.push(written.bytes);
        self.failed = self.failed.or(written.result.err());
        self.failed.map_or(Ok(()), Err)
    }

    /// The storage, with nothing on its way to it and no sync under way.
    fn idle(&mut self) -> Result<MutexGuard<'s, S>, StorageError> {
        if let Some(early_sync) = self.early_sync.take() {
            let synced = early_sync.recv().unwrap_or(Err(CREW_GONE));
            self.failed = self.failed.or(synced.err());
        }
        self.unsynced = 0;
        self.written()
    }

    /// The storage, with nothing on its way to it.
    fn written(&mut self) -> Result<MutexGuard<'s, S>, StorageError> {
        while self.outstanding > 0 {
            self.take_back()?;
        }
        while self.next_read_back().is_some() {}
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

    /// Starts an early sync when it is time for one and the last one is over.
    fn sync_early(&mut self, bytes: usize) {
        self.unsynced += bytes;
        if self.unsynced < EARLY_SYNC_BYTES || self.crew.is_empty() {
            return;
        }
        if let Some(last) = &self.early_sync {
            match last.try_recv() {
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.failed = self.failed.or(Some(CREW_GONE)),
                Ok(synced) => self.failed = self.failed.or(synced.err()),
            }
        }
        self.unsynced = 0;
        let early_sync = lock(self.storage).early_sync();
        self.early_sync = early_sync.map(|sync| self.crew.start(sync));
    }

    /// Waits for the tree that was started first; `None` when there is none.
    fn next_read_back(&mut self) -> Option<(u64, Result<Trees, StorageError>)> {
        let next = self.reading_back.pop_front()?;
        let hashed = next.hashed.recv().map(|(buffer, trees)| {
            self.spare.push(buffer);
            trees
        });
        Some((next.offset, hashed.unwrap_or(Err(CREW_GONE))))
    }

    /// Has the crew read the trees from `offset` on, as far as there are buffers and whole trees before `end`.
    fn read_back_on(&mut self, mut offset: u64, end: u64) {
        let tree = TREE_BYTES as u64;
        if let Some(last) = self.reading_back.back() {
            offset = last.offset + tree;
        }
        while self.reading_back.len() < TREES && offset + tree <= end {
            let mut buffer = self.spare.pop().unwrap_or_default();
            let storage = self.storage;
            let hashed = self.crew.start(move || {
                buffer.resize(TREE_BYTES, 0);
                let read = lock(storage).read(offset, &mut buffer);
                let trees = read.map(|()| Trees::of(&buffer));
                (buffer, trees)
            });
            self.reading_back.push_back(ReadBack { offset, hashed });
            offset += tree;
        }
    }
}

impl<'s, S: Target> storage::StorageLayer for Overlapped<'s, '_, S> {
    type Below = S;
    type Reached<'l>
        = MutexGuard<'s, S>
    where
        Self: 'l;

    fn below(&mut self) -> Result<MutexGuard<'s, S>, StorageError> {
        self.idle()
    }

    /// The scratch area has nothing to do with the open blob: no need to wait for all pieces.
    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        lock(self.storage).scratch_read(offset, buffer)
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        lock(self.storage).scratch_write(offset, bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if bytes.len() < PIECE_MIN_BYTES {
            return self.idle()?.write(offset, bytes);
        }
        self.hand_over(offset, bytes)
    }

    /// Who read and hashed these bytes was another thread, so this one has nothing better to do than to write them.
    fn write_hashed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.written()?.write_hashed(offset, bytes)?;
        self.sync_early(bytes.len());
        Ok(())
    }

    fn read_trees(&mut self, offset: u64, end: u64) -> Result<Option<Trees>, StorageError> {
        let goes_on = self.reading_back.front().map(|next| next.offset) == Some(offset);
        if !goes_on {
            let worth_it = end.saturating_sub(offset) >= READ_BACK_MIN_BYTES;
            drop(self.idle()?);
            if self.crew.is_empty() || !worth_it {
                return Ok(None);
            }
            self.read_back_on(offset, end);
        }
        let next = self.next_read_back();
        self.read_back_on(offset + TREE_BYTES as u64, end);
        next.map(|(_, trees)| trees).transpose()
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

    /// Also what was written of the open blob.
    fn sync(&mut self) -> Result<(), StorageError> {
        let mut storage = self.idle()?;
        if let Some(sync) = storage.early_sync() {
            sync()?;
        }
        storage.sync()
    }

    fn read_base(
        &mut self,
        base: &PatchBase<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        // Nor has this: what a patch makes is on its way while its next bytes are made.
        lock(self.storage).read_base(base, offset, buffer)
    }
}

#[cfg(test)]
pub(crate) mod tests;
