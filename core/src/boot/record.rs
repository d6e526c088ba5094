//! The boot record: the small persisted state of the slot choice, in two copies.
//!
//! ```text
//! magic "TWINBOOT" | length of the body u16 | body: postcard BootRecord | SHA-256 of all before | zeros up to 512
//! ```
//!
//! # Invariants
//! - [`load`] gives the whole copy with the highest sequence; a copy that fails its digest does not exist.
//!
//! # Power loss
//! [`store`] writes over the copy that [`load`] would not choose. A cut tears that copy at most, so the record reads as the old
//! value or the new one, never a mixture.

use super::{Set, SetFacts};
use crate::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use crate::journal::Head;
use crate::storage::RecordStore;
use crate::wire::digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Size of a copy: one sector, the unit that a disk writes whole.
pub const COPY_BYTES: usize = 512;

const MAGIC: &[u8; 8] = b"TWINBOOT";
const HEADER_BYTES: usize = 10;
const DIGEST_BYTES: usize = 32;
const BODY_MAX_BYTES: usize = COPY_BYTES - HEADER_BYTES - DIGEST_BYTES;

/// The persisted state of the slot choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BootRecord {
    /// Grows by one with every write.
    pub(super) sequence: u64,
    /// The set that boots when nothing is on trial.
    pub(super) default: Set,
    /// The set on trial.
    pub(super) trial: Option<Trial>,
    /// SHA-256 of the manifest that was committed in each set. A set that holds anything else has not been committed, so an
    /// install need not be noted here.
    #[serde(deserialize_with = "crate::wire::bytes::of_sets")]
    pub(super) committed: [Option<Sha256Digest>; 2],
    /// Sets whose trial failed, or that were marked bad.
    pub(super) bad: [bool; 2],
    /// The anti-rollback floor.
    pub(super) floor: u64,
    /// Highest time ever seen, in seconds since 1970.
    pub(super) highest_time: u64,
    /// Where the journal stood when the record was written: entries below may not be missing.
    pub(super) journal: Head,
}

/// A set on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Trial {
    /// Which.
    pub set: Set,
    /// Boot attempts that are left.
    pub attempts_left: u8,
    /// Anti-rollback version of what is on trial: the floor after a commit.
    pub anti_rollback: u64,
    /// SHA-256 of the manifest of what is on trial.
    #[serde(deserialize_with = "crate::wire::bytes::digest")]
    pub manifest: Sha256Digest,
}

/// What the two copies hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Loaded {
    /// At least one whole copy.
    Record(BootRecord),
    /// Both copies are blank: no record was ever written.
    Blank,
    /// Neither copy is whole, and something was written once.
    Corrupt,
}

impl BootRecord {
    /// The record of a device that has just been provisioned: `default` holds the committed release with this manifest, nothing
    /// is on trial.
    pub const fn provisioned(default: Set, floor: u64, manifest: Sha256Digest) -> Self {
        let committed = match default {
            Set::A => [Some(manifest), None],
            Set::B => [None, Some(manifest)],
        };
        let journal = Head::START;
        Self {
            sequence: 0,
            default,
            trial: None,
            committed,
            bad: [false; 2],
            floor,
            highest_time: 0,
            journal,
        }
    }

    /// The record of a device that was provisioned with the same release in the other set too.
    pub const fn provisioned_twice(mut self, manifest: Sha256Digest) -> Self {
        self.committed = [Some(manifest); 2];
        self
    }

    /// Whether what the set holds now was committed there, and neither marked bad since nor touched.
    pub fn is_good(&self, set: Set, facts: &SetFacts) -> bool {
        let committed = facts.manifest.is_some() && set.of(self.committed) == facts.manifest;
        facts.bootable && committed && !self.is_bad(set)
    }

    /// The set that boots when nothing is on trial.
    pub const fn default_set(&self) -> Set {
        self.default
    }

    /// The set on trial.
    pub const fn trial(&self) -> Option<Trial> {
        self.trial
    }

    /// Whether the set's last trial failed, or it was marked bad.
    pub const fn is_bad(&self, set: Set) -> bool {
        set.of(self.bad)
    }

    /// The anti-rollback floor.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// Highest time ever seen, in seconds since 1970.
    pub const fn highest_time(&self) -> u64 {
        self.highest_time
    }

    /// Where the journal stood when the record was written.
    pub const fn journal(&self) -> Head {
        self.journal
    }

    /// How often the record has been written.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The record with a later time seen and the journal's present head.
    pub fn with_notes(mut self, now: Option<u64>, journal: Head) -> Self {
        self.highest_time = self.highest_time.max(now.unwrap_or(0));
        self.journal = journal;
        self
    }

    pub(super) fn set_committed(&mut self, set: Set, manifest: Option<Sha256Digest>) {
        let [a, b] = &mut self.committed;
        match set {
            Set::A => *a = manifest,
            Set::B => *b = manifest,
        }
    }

    pub(super) fn set_bad(&mut self, set: Set, bad: bool) {
        let [a, b] = &mut self.bad;
        match set {
            Set::A => *a = bad,
            Set::B => *b = bad,
        }
    }
}

/// Reads both copies and gives the newer whole one.
///
/// # Errors
/// When neither copy can be read at all.
pub fn load<S: RecordStore>(store: &mut S) -> Result<Loaded, StorageError> {
    Ok(read_both(store)?.0)
}

/// Writes a record over the older copy; the record's sequence becomes one more than the newest. Gives the record as written.
///
/// # Errors
/// When a copy can neither be read nor written; the newest whole copy is untouched then.
pub fn store<S: RecordStore>(
    store: &mut S,
    record: &BootRecord,
) -> Result<BootRecord, StorageError> {
    let (newest, copy) = match read_both(store)? {
        (Loaded::Record(newest), copy) => (newest.sequence, 1 - copy),
        (Loaded::Blank | Loaded::Corrupt, _) => (record.sequence, 0),
    };
    let mut record = *record;
    record.sequence = newest.saturating_add(1);
    store.write_copy(copy, &emit(&record)?)?;
    Ok(record)
}

/// What is loaded, and which copy it is from.
fn read_both<S: RecordStore>(store: &mut S) -> Result<(Loaded, usize), StorageError> {
    let mut best: Option<(BootRecord, usize)> = None;
    let mut blank = true;
    let mut failed = 0;
    let mut fault = None;
    for copy in 0..2 {
        let mut bytes = [0; COPY_BYTES];
        if let Err(error) = store.read_copy(copy, &mut bytes) {
            failed += 1;
            blank = false;
            fault = Some(error);
            continue;
        }
        blank &= bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff);
        if let Some(record) = parse(&bytes)
            && best.is_none_or(|(other, _)| record.sequence > other.sequence)
        {
            best = Some((record, copy));
        }
    }
    match (best, fault) {
        (Some((record, copy)), _) => Ok((Loaded::Record(record), copy)),
        (None, Some(error)) if failed == 2 => Err(error),
        (None, _) if blank => Ok((Loaded::Blank, 1)),
        (None, _) => Ok((Loaded::Corrupt, 1)),
    }
}

fn parse(bytes: &[u8; COPY_BYTES]) -> Option<BootRecord> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let (magic, length) = header.split_at_checked(MAGIC.len())?;
    let length = usize::from(u16::from_le_bytes(length.try_into().ok()?));
    if magic != MAGIC || length > BODY_MAX_BYTES {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length)?;
    let (digest, zeros) = rest.split_at_checked(DIGEST_BYTES)?;
    let right = Sha256::new()
        .chain_update(header)
        .chain_update(body)
        .finalize();
    if right.as_slice() != digest || zeros.iter().any(|byte| *byte != 0) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

fn emit(record: &BootRecord) -> Result<[u8; COPY_BYTES], StorageError> {
    let full = StorageError {
        operation: StorageOperation::Write,
        object: StorageObject::BootRecord,
        fault: StorageFault::Full,
    };
    let mut body = [0; BODY_MAX_BYTES];
    let body = postcard::to_slice(record, &mut body).map_err(|_| full)?;
    let mut bytes = [0; COPY_BYTES];
    let (header, rest) = bytes.split_at_mut(HEADER_BYTES);
    let (magic, length) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    length.copy_from_slice(&(body.len() as u16).to_le_bytes());
    let digest = Sha256::new()
        .chain_update(&*header)
        .chain_update(&*body)
        .finalize();
    let content = body.iter().chain(digest.iter());
    rest.iter_mut()
        .zip(content)
        .for_each(|(to, from)| *to = *from);
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two copies in memory; a write can be torn after a number of bytes.
    #[derive(Clone)]
    pub(crate) struct Copies {
        pub bytes: [[u8; COPY_BYTES]; 2],
        pub tear_after: Option<usize>,
    }

    impl Copies {
        pub(crate) fn blank() -> Self {
            Self {
                bytes: [[0; COPY_BYTES]; 2],
                tear_after: None,
            }
        }
    }

    impl RecordStore for Copies {
        fn read_copy(&mut self, copy: usize, buffer: &mut [u8]) -> Result<(), StorageError> {
            buffer.copy_from_slice(&self.bytes[copy]);
            Ok(())
        }
        fn write_copy(&mut self, copy: usize, bytes: &[u8]) -> Result<(), StorageError> {
            let end = self.tear_after.unwrap_or(bytes.len());
            self.bytes[copy][..end].copy_from_slice(&bytes[..end]);
            Ok(())
        }
    }

    fn example(floor: u64) -> BootRecord {
        BootRecord::provisioned(Set::A, floor, [0xff; 32])
    }

    #[test]
    fn blank_and_corrupt_are_states_of_their_own() {
        let mut copies = Copies::blank();
        assert_eq!(load(&mut copies), Ok(Loaded::Blank));
        copies.bytes = [[0xff; COPY_BYTES]; 2];
        assert_eq!(load(&mut copies), Ok(Loaded::Blank));
        copies.bytes[1][3] = 7;
        assert_eq!(load(&mut copies), Ok(Loaded::Corrupt));
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_old_record_or_the_new() {
        let mut copies = Copies::blank();
        let old = store(&mut copies, &example(1)).unwrap();
        let old = store(&mut copies, &BootRecord { floor: 2, ..old }).unwrap();
        let mut cuts = 0;
        for end in 0..=COPY_BYTES {
            let mut torn = copies.clone();
            torn.tear_after = Some(end);
            let new = store(&mut torn, &BootRecord { floor: 3, ..old }).unwrap();
            let loaded = load(&mut torn).unwrap();
            assert!(
                loaded == Loaded::Record(old) || loaded == Loaded::Record(new),
                "torn after {end} bytes: {loaded:?}"
            );
            cuts += 1;
        }
        assert_eq!(cuts, COPY_BYTES + 1);
    }

    #[test]
    fn any_flipped_byte_falls_back_to_the_other_copy() {
        let mut copies = Copies::blank();
        let old = store(&mut copies, &example(1)).unwrap();
        let new = store(&mut copies, &BootRecord { floor: 2, ..old }).unwrap();
        assert_eq!(load(&mut copies), Ok(Loaded::Record(new)));
        for position in 0..COPY_BYTES {
            let mut bad = copies.clone();
            bad.bytes[1][position] ^= 0x10;
            assert_eq!(load(&mut bad), Ok(Loaded::Record(old)), "byte {position}");
        }
    }

    #[test]
    fn the_longest_record_fits_a_copy() {
        let trial = Trial {
            set: Set::B,
            attempts_left: u8::MAX,
            anti_rollback: u64::MAX,
            manifest: [0xff; 32],
        };
        let journal = Head {
            entries: u64::MAX,
            digest: [0xff; 32],
        };
        let longest = BootRecord {
            sequence: u64::MAX - 1,
            default: Set::B,
            trial: Some(trial),
            committed: [Some([0xff; 32]); 2],
            bad: [true; 2],
            floor: u64::MAX,
            highest_time: u64::MAX,
            journal,
        };
        let mut copies = Copies::blank();
        assert!(store(&mut copies, &longest).is_ok());
    }
}
