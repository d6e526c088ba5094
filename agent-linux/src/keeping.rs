//! What came over a network is brought to the medium again and again, so that a power cut costs little.
//!
//! Core syncs a blob when it is whole, and small ones together: over a slow link that may be long after their bytes were paid for.
//! This layer counts what has come, and syncs in between.
//!
//! # Invariants
//! - The layer changes nothing: every call goes through as it came, and so does every answer.
//! - Without a network nothing is synced that core does not sync.
//!
//! # Power loss
//! At most `UNSYNCED_BYTES` that have come are not on the medium, or what comes in `PAUSE` if that is more; and the range under
//! way, of which the spool has a part.

use crate::source::line::Line;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twinseal_core::error::StorageError;
use twinseal_core::storage::{Storage, StorageLayer};
use twinseal_core::wire::manifest::Manifest;

/// So much may come before it is synced: half a minute of a link of 64 kbit/s.
const UNSYNCED_BYTES: u64 = 256 * 1024;

/// From one sync to the next at least: on a fast link bytes cost little, and syncs would cost more.
const PAUSE: Duration = Duration::from_secs(1);

/// A storage that syncs what came over a line.
pub struct Keeping<'k, S> {
    storage: &'k mut S,
    /// `None` for a bundle that is not on a network.
    line: Option<Arc<Line>>,
    /// The file of the scratch area, where the index is.
    scratch: PathBuf,
    pause: Duration,
    /// What had gone over the line at the last sync, and when that was.
    synced: (u64, Instant),
}

impl<'k, S: Storage> Keeping<'k, S> {
    /// A layer before `storage`, whose scratch area is in the file `scratch`.
    pub fn new(storage: &'k mut S, line: Option<Arc<Line>>, scratch: PathBuf) -> Self {
        Self {
            storage,
            line,
            scratch,
            pause: PAUSE,
            synced: (0, Instant::now()),
        }
    }

    /// Syncs, when it is time, what was written.
    fn keep(&mut self) -> Result<(), StorageError> {
        let Some(line) = &self.line else {
            return Ok(());
        };
        let (bytes, moment) = self.synced;
        let total = line.total_bytes();
        if total - bytes < UNSYNCED_BYTES || moment.elapsed() < self.pause {
            return Ok(());
        }
        self.storage.sync()?;
        self.synced = (total, Instant::now());
        Ok(())
    }
}

impl<S: Storage> StorageLayer for Keeping<'_, S> {
    type Below = S;
    type Reached<'l>
        = &'l mut S
    where
        Self: 'l;

    fn below(&mut self) -> Result<&mut S, StorageError> {
        Ok(&mut *self.storage)
    }

    /// The index is whole now. Where it cannot be synced a power cut costs it, and nothing else.
    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        if self.line.is_some() {
            let _ = File::open(&self.scratch).and_then(|file| file.sync_data());
        }
        self.storage.prepare(manifest)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.write(offset, bytes)?;
        self.keep()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlap::tests::Notes;

    /// Has so many bytes come before each write; says after how many writes each sync came.
    fn syncs(line: Option<Arc<Line>>, pause: Duration, came: &[u64]) -> Vec<usize> {
        let mut notes = Notes::default();
        let scratch = PathBuf::from("/nowhere");
        let mut storage = Keeping::new(&mut notes, line.clone(), scratch);
        storage.pause = pause;
        for bytes in came {
            if let Some(line) = &line {
                line.lose(*bytes);
            }
            Storage::write(&mut storage, 0, &[1]).unwrap();
        }
        let calls = notes.calls.iter().enumerate();
        let syncs = calls.filter(|(_, call)| *call == "sync").enumerate();
        syncs.map(|(before, (place, _))| place - before).collect()
    }

    #[test]
    fn what_has_come_and_is_written_is_synced() {
        let came = [
            UNSYNCED_BYTES - 1,
            1,
            0,
            UNSYNCED_BYTES,
            10 * UNSYNCED_BYTES,
            5,
        ];
        let line = Some(Line::unlimited());
        assert_eq!(syncs(line, Duration::ZERO, &came), [2, 4, 5]);
        assert_eq!(syncs(None, Duration::ZERO, &came), [0; 0]);
    }

    #[test]
    fn a_fast_link_is_not_slowed_by_syncs() {
        let (line, hour) = (Some(Line::unlimited()), Duration::from_secs(3_600));
        assert_eq!(syncs(line, hour, &[UNSYNCED_BYTES; 100]), [0; 0]);
    }
}
