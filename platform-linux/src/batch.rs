//! Objects that wait under their temporary names, so that one sync brings all of them to the medium: a sync costs the same for one
//! small file as for many.
//!
//! # Power loss
//! What waits is bytes in `tmp`, as after any interrupted install; nothing of it has a name in the object store.

use crate::staged::Staged;
use heapless::Vec;
use twinseal_core::error::StorageError;
use twinseal_core::storage::Postponed;
use twinseal_core::wire::index::Role;

/// So many objects wait at most: each keeps a descriptor, of which a process has 1,024, and 64 make the sync small beside the writing.
const OBJECTS_MAX_COUNT: usize = 64;

/// A batch ends when so many bytes wait: it bounds what a power cut costs, and the page cache that is taken. A larger object is
/// settled by itself; the sync is then small beside the writing.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// The objects that wait.
pub(crate) struct Batch {
    waiting: Vec<Staged, OBJECTS_MAX_COUNT>,
    bytes: u64,
    synced: bool,
}

impl Batch {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: Vec::new(),
            bytes: 0,
            synced: false,
        }
    }

    /// Forgets what waits; the files stay where they are.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Takes an object that is to wait; `staged` keeps any other.
    pub(crate) fn take(&mut self, staged: &mut Option<Staged>) -> Result<Postponed, StorageError> {
        let may_wait = |open: &&mut Staged| {
            let blob = open.blob();
            blob.role == Role::Object && blob.size < BATCH_BYTES
        };
        if self.synced || self.waiting.is_full() {
            return Ok(Postponed::No);
        }
        let Some(open) = staged.as_mut().filter(may_wait) else {
            return Ok(Postponed::No);
        };
        open.cut()?;
        self.bytes = self.bytes.saturating_add(open.blob().size);
        self.waiting.extend(staged.take());
        Ok(if self.waiting.is_full() || self.bytes >= BATCH_BYTES {
            Postponed::Full
        } else {
            Postponed::Waits
        })
    }

    /// The next object, on the medium and out of the page cache; before the first one `sync` brings all of them there.
    pub(crate) fn next(
        &mut self,
        sync: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<Option<Staged>, StorageError> {
        if self.waiting.is_empty() {
            self.clear();
            return Ok(None);
        }
        if !self.synced {
            sync()?;
            self.synced = true;
        }
        let mut next = self.waiting.pop();
        next.as_mut().map_or(Ok(()), Staged::is_synced)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staged::Backing;
    use twinseal_core::wire::digest::BlobDigest;
    use twinseal_core::wire::index::Blob;

    fn staged(role: Role, size: u64) -> Option<Staged> {
        let blob = Blob {
            role,
            payload: 0,
            digest: BlobDigest::sha256([0; 32]),
            size,
            ranges: 1,
            stored_bytes: size,
            alternatives: 0,
        };
        let file = tempfile::tempfile().unwrap();
        Some(Staged::new(blob, file.into(), Backing::New))
    }

    fn drain(batch: &mut Batch) -> (usize, usize) {
        let (mut objects, mut syncs) = (0, 0);
        let mut sync = || {
            syncs += 1;
            Ok(())
        };
        while batch.next(&mut sync).unwrap().is_some() {
            objects += 1;
        }
        (objects, syncs)
    }

    #[test]
    fn one_sync_serves_as_many_objects_as_may_wait() {
        let mut batch = Batch::new();
        for _ in 0..2 {
            for number in 1..=OBJECTS_MAX_COUNT {
                let taken = batch.take(&mut staged(Role::Object, 100)).unwrap();
                assert_eq!(taken == Postponed::Full, number == OBJECTS_MAX_COUNT);
            }
            let mut one_more = staged(Role::Object, 100);
            assert_eq!(batch.take(&mut one_more), Ok(Postponed::No));
            assert!(one_more.is_some(), "it is left to its owner");
            assert_eq!(drain(&mut batch), (OBJECTS_MAX_COUNT, 1));
        }
        assert_eq!(drain(&mut batch), (0, 0), "nothing waits");
    }

    #[test]
    fn a_batch_ends_at_its_bytes_and_takes_small_objects_only() {
        let mut batch = Batch::new();
        let mut take = |role, size| batch.take(&mut staged(role, size)).unwrap();
        assert_eq!(take(Role::Object, BATCH_BYTES), Postponed::No);
        assert_eq!(take(Role::Composefs, 100), Postponed::No);
        assert_eq!(take(Role::Uki, 100), Postponed::No);
        assert_eq!(take(Role::Object, BATCH_BYTES - 1), Postponed::Waits);
        assert_eq!(take(Role::Object, 1), Postponed::Full);
    }

    #[test]
    fn a_sync_that_fails_gives_no_object() {
        let mut batch = Batch::new();
        batch.take(&mut staged(Role::Object, 100)).unwrap();
        let failed = StorageError {
            operation: twinseal_core::error::StorageOperation::Sync,
            object: twinseal_core::error::StorageObject::RootSlot,
            fault: twinseal_core::error::StorageFault::Code(5),
        };
        assert_eq!(batch.next(|| Err(failed)).err(), Some(failed));
        batch.clear();
        assert_eq!(drain(&mut batch), (0, 0));
    }
}
