//! What a new device knows: the boot record and the journal, as `twinseal device init` leaves them.
//!
//! # Invariants
//! - The boot record's anchor is the journal's head, so the first `twinseal history --verify` holds.
//! - Times are 0, "no clock": a disk image is made once and started many times, and when is the device's to say.

use twinseal_core::boot::Set;
use twinseal_core::boot::record::{self, BootRecord};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::journal::{Chain, Event, FRAME_MAX_BYTES, Release};
use twinseal_core::storage::RecordStore;

/// Distance of the record's two copies, and room for each; `twinseal-platform-linux` reads them there.
const COPY_ROOM_BYTES: usize = 4096;

/// Number of copies.
const COPIES: usize = 2;

/// What was installed.
pub(super) struct Installed {
    pub release: Release,
    /// Bytes of the bundle.
    pub bundle_bytes: u64,
    /// Bytes of its blobs.
    pub blob_bytes: u64,
    /// Whether set B has it too.
    pub both: bool,
}

/// The two files.
pub(super) struct State {
    pub boot_record: Vec<u8>,
    pub journal: Vec<u8>,
}

impl Installed {
    /// The state of a device that begins with this release in set A, or in both sets.
    ///
    /// # Errors
    /// When an entry is longer than a frame, which no release makes it.
    pub(super) fn state(&self) -> Result<State, StorageError> {
        let mut journal = JournalFile::default();
        let sets: &[Set] = if self.both { &Set::BOTH } else { &[Set::A] };
        for set in sets.iter().copied() {
            journal.append(Event::InstallStarted {
                set,
                release: self.release.clone(),
            })?;
            journal.append(Event::InstallCompleted {
                set,
                manifest: self.release.manifest,
                source_bytes: self.bundle_bytes,
                written_bytes: self.blob_bytes,
                present_bytes: 0,
                patch_bytes: 0,
                damaged_bases: 0,
            })?;
        }
        let (floor, manifest) = (self.release.anti_rollback, self.release.manifest);
        journal.append(Event::Provisioned {
            set: Set::A,
            release: self.release.clone(),
        })?;
        let record = BootRecord::provisioned(Set::A, floor, manifest);
        let record = if self.both {
            record.provisioned_twice(manifest)
        } else {
            record
        };
        let mut copies = RecordFile::default();
        // Twice: from the first start on, either copy may be lost.
        for _ in 0..COPIES {
            record::store(&mut copies, &record.with_notes(None, journal.chain.head()))?;
        }
        Ok(State {
            boot_record: copies.0,
            journal: journal.bytes,
        })
    }
}

/// A journal in memory: frames back to back.
#[derive(Default)]
struct JournalFile {
    chain: Chain,
    bytes: Vec<u8>,
}

impl JournalFile {
    fn append(&mut self, event: Event) -> Result<(), StorageError> {
        let mut buffer = [0; FRAME_MAX_BYTES];
        let frame = self.chain.append(0, event, &mut buffer);
        let frame = frame.ok_or(StorageError {
            operation: StorageOperation::Write,
            object: StorageObject::Journal,
            fault: StorageFault::Full,
        })?;
        self.bytes.extend_from_slice(frame);
        Ok(())
    }
}

/// A boot record in memory.
struct RecordFile(Vec<u8>);

impl Default for RecordFile {
    fn default() -> Self {
        Self(vec![0; COPIES * COPY_ROOM_BYTES])
    }
}

impl RecordFile {
    fn copy(&mut self, copy: usize, bytes: usize) -> Option<&mut [u8]> {
        self.0
            .chunks_mut(COPY_ROOM_BYTES)
            .nth(copy)
            .and_then(|room| room.get_mut(..bytes))
    }
}

impl RecordStore for RecordFile {
    fn read_copy(&mut self, copy: usize, buffer: &mut [u8]) -> Result<(), StorageError> {
        let bytes = self.copy(copy, buffer.len());
        buffer.copy_from_slice(bytes.ok_or(short(StorageOperation::Read))?);
        Ok(())
    }

    fn write_copy(&mut self, copy: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let room = self.copy(copy, bytes.len());
        room.ok_or(short(StorageOperation::Write))?
            .copy_from_slice(bytes);
        Ok(())
    }
}

const fn short(operation: StorageOperation) -> StorageError {
    StorageError {
        operation,
        object: StorageObject::BootRecord,
        fault: StorageFault::Short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinseal_core::boot::record::{Loaded, load};
    use twinseal_core::journal::Tail;
    use twinseal_core::wire::text::Line;

    fn installed(both: bool) -> Installed {
        let release = Release {
            version: Line::new("1.0").unwrap(),
            manifest: [7; 32],
            anti_rollback: 5,
            signers: [[1; 8]].into_iter().collect(),
        };
        Installed {
            release,
            bundle_bytes: 100,
            blob_bytes: 200,
            both,
        }
    }

    #[test]
    fn the_record_vouches_for_the_whole_journal() {
        for (both, entries) in [(false, 3), (true, 5)] {
            let state = installed(both).state().unwrap();
            let mut chain = Chain::default();
            let mut rest = state.journal.as_slice();
            while let Tail::Entry(entry, bytes) = chain.read(rest, true) {
                assert_eq!(entry.time, 0);
                rest = &rest[bytes..];
            }
            assert_eq!(
                (chain.read(rest, true), chain.head().entries),
                (Tail::End, entries)
            );
            assert_eq!(state.boot_record.len(), 8192);
            for lost in 0..COPIES {
                let mut copies = RecordFile(state.boot_record.clone());
                copies.copy(lost, COPY_ROOM_BYTES).unwrap().fill(0xff);
                let Loaded::Record(record) = load(&mut copies).unwrap() else {
                    panic!("copy {lost} was all that there was")
                };
                assert_eq!((record.floor(), record.journal()), (5, chain.head()));
                assert_eq!((record.default_set(), record.trial()), (Set::A, None));
            }
        }
    }
}
