//! The journal: what happened, in a chain of digests that shows when an entry was changed or taken out.
//!
//! ```text
//! frame: length of the entry u16 | entry: postcard | SHA-256 of (digest of the frame before, length, entry)
//! ```
//!
//! The first frame's predecessor is [`Head::START`]. The boot record carries the [`Head`] of its last write, so cutting off the
//! end below that shows too.
//!
//! # Invariants
//! - A frame is accepted only when its digest follows from all frames before.
//!
//! # Power loss
//! An append may leave a part of its frame at the end of the file. [`Chain::read`] reports that as [`Tail::Torn`]; the agent
//! cuts it off before the next append and says so in the journal.

use crate::boot::Set;
use crate::boot::select::Reason;
use crate::verify::signature::Signers;
use crate::wire::digest::{BlobDigest, SHA256_BYTES, Sha256Digest};
use crate::wire::text::Line;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest frame.
pub const FRAME_MAX_BYTES: usize = 512;

const LENGTH_BYTES: usize = 2;
const ENTRY_MAX_BYTES: usize = FRAME_MAX_BYTES - LENGTH_BYTES - SHA256_BYTES;

/// Where a chain stands: how many entries, and the digest of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Head {
    /// Number of entries.
    pub entries: u64,
    /// Digest of the last frame.
    #[serde(deserialize_with = "crate::wire::bytes::digest")]
    pub digest: Sha256Digest,
}

impl Head {
    /// Before the first entry.
    pub const START: Self = Self {
        entries: 0,
        digest: *b"twinseal journal v1, first entry",
    };
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Entry {
    /// Position in the chain, from 0.
    pub number: u64,
    /// The device's clock, in seconds since 1970; 0 when it has none.
    pub time: u64,
    /// What happened.
    pub event: Event,
}

/// What happened. postcard stores the position: add at the end, never renumber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// The device was provisioned.
    Provisioned {
        /// The set that holds the first release.
        set: Set,
        /// What was installed.
        release: Release,
    },
    /// An install began: its plan was accepted.
    InstallStarted {
        /// The target set.
        set: Set,
        /// What is being installed.
        release: Release,
    },
    /// An install ended well.
    InstallCompleted {
        /// The target set.
        set: Set,
        /// SHA-256 of the manifest.
        #[serde(deserialize_with = "crate::wire::bytes::digest")]
        manifest: Sha256Digest,
        /// Bytes that came from the source.
        source_bytes: u64,
        /// Bytes written into the target set.
        written_bytes: u64,
        /// Bytes that were found in the target set.
        present_bytes: u64,
        /// Bytes of patches among those of the source.
        patch_bytes: u64,
        /// Blobs of this device that were to be patched and proved damaged.
        damaged_bases: u32,
    },
    /// An install was refused or failed.
    InstallFailed {
        /// The target set.
        set: Set,
        /// SHA-256 of the manifest, when there was a verified one.
        #[serde(deserialize_with = "crate::wire::bytes::optional")]
        manifest: Option<Sha256Digest>,
        /// The agent's exit code for the reason.
        exit_code: u8,
        /// Bytes that came from the source.
        source_bytes: u64,
        /// Whether the target set had been made unbootable.
        target_touched: bool,
    },
    /// A set was made the next trial.
    TrialArmed {
        /// Which.
        set: Set,
        /// With how many attempts.
        attempts: u8,
    },
    /// A set was chosen at boot.
    Booted {
        /// Which; `None` for the recovery.
        set: Option<Set>,
        /// Why.
        reason: Reason,
        /// Attempts that are left.
        attempts_left: u8,
    },
    /// The running set was committed.
    Committed {
        /// Which.
        set: Set,
        /// The floor from now on.
        floor: u64,
    },
    /// The running set was marked bad.
    MarkedBad {
        /// Which.
        set: Set,
    },
    /// The other set was made the default by hand.
    WentBack {
        /// Which.
        set: Set,
    },
    /// A part of a frame was found at the end and cut off: power was lost during an append.
    TailCut {
        /// Bytes cut off.
        bytes: u32,
    },
    /// The firmware booted another set than the boot record says, although its boot loader had been told.
    Stayed {
        /// The set that runs.
        running: Set,
        /// The set that should.
        chosen: Set,
    },
    /// Every health check of a trial passed, and all that the set holds could be read.
    HealthPassed {
        /// The set on trial.
        set: Set,
        /// Checks that were run.
        checks: u16,
        /// Objects that were read whole.
        objects: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// A trial failed a health check.
    HealthFailed {
        /// The set on trial.
        set: Set,
        /// Why.
        failure: HealthFailure,
    },
    /// A damaged object was replaced by one with the same digest.
    ObjectRepaired {
        /// The set.
        set: Set,
        /// The object.
        object: BlobDigest,
        /// Where its bytes came from.
        from: RepairSource,
    },
    /// An install began that was told not to ask whether the firmware would start the UKI, although the firmware checks it.
    FirmwareNotAsked {
        /// The target set.
        set: Set,
    },
}

/// Why a health check failed. postcard stores the position: add at the end, never renumber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum HealthFailure {
    /// There is no check: a trial that checks nothing proves nothing.
    NoChecks,
    /// A check ended with an exit code other than 0, or by a signal.
    CheckFailed {
        /// Its file name.
        name: Line,
        /// The exit code; 128 and the number of the signal when one ended it, as a shell has it.
        exit_code: u8,
    },
    /// A check did not end in time.
    CheckTimedOut {
        /// Its file name.
        name: Line,
        /// Seconds that it had.
        limit_seconds: u32,
    },
    /// A check could not be started.
    CheckUnusable {
        /// Its file name.
        name: Line,
    },
    /// An object of the set is missing, or the kernel refuses it.
    ObjectDamaged {
        /// The object.
        object: BlobDigest,
    },
    /// The set's root slot could not be looked through.
    SlotUnreadable,
}

/// Where the bytes of a repaired object came from. postcard stores the position: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RepairSource {
    /// A bundle.
    Bundle,
    /// The other set.
    OtherSet,
}

/// A release, as the journal names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Release {
    /// Version for people.
    pub version: Line,
    /// SHA-256 of its signed manifest.
    #[serde(deserialize_with = "crate::wire::bytes::digest")]
    pub manifest: Sha256Digest,
    /// Anti-rollback version.
    pub anti_rollback: u64,
    /// The trusted keys that signed it.
    pub signers: Signers,
}

/// What a chain gives next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "core has no heap to put an entry on"
)]
pub enum Tail {
    /// An entry, and the bytes of its frame.
    Entry(Entry, usize),
    /// The end, cleanly.
    End,
    /// A part of a frame, or a last frame that was not written whole.
    Torn,
    /// A frame that does not follow from those before, with more after it: the journal was changed.
    Broken,
}

/// A place in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    head: Head,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: Head::START }
    }
}

impl Chain {
    /// Goes on at a known place.
    pub const fn at(head: Head) -> Self {
        Self { head }
    }

    /// Where the chain stands.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Reads the frame at the start of `bytes`. `last` says that `bytes` reaches the end of the journal; otherwise it must hold
    /// at least [`FRAME_MAX_BYTES`].
    pub fn read(&mut self, bytes: &[u8], last: bool) -> Tail {
        if bytes.is_empty() {
            return Tail::End;
        }
        // What a file system may leave of an append whose length reached the medium and whose bytes did not.
        if last && bytes.iter().all(|byte| *byte == 0) {
            return Tail::Torn;
        }
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Tail::Torn;
        };
        let size = usize::from(u16::from_le_bytes(*length));
        let frame = LENGTH_BYTES + size + SHA256_BYTES;
        let damaged = if last && bytes.len() <= frame.min(FRAME_MAX_BYTES) {
            Tail::Torn
        } else {
            Tail::Broken
        };
        if size > ENTRY_MAX_BYTES {
            return damaged;
        }
        let Some((body, rest)) = rest.split_at_checked(size) else {
            return damaged;
        };
        let Some(digest) = rest.get(..SHA256_BYTES) else {
            return damaged;
        };
        let right = self.digest_after(*length, body);
        let entry = postcard::from_bytes::<Entry>(body)
            .ok()
            .filter(|entry| entry.number == self.head.entries);
        match entry {
            Some(entry) if right == digest => {
                self.head = Head {
                    entries: self.head.entries + 1,
                    digest: right,
                };
                Tail::Entry(entry, frame)
            }
            _ => damaged,
        }
    }

    /// Writes the frame of the next entry into `buffer` and goes on behind it; gives the bytes used. The entry's number is the
    /// chain's.
    pub fn append<'b>(
        &mut self,
        time: u64,
        event: Event,
        buffer: &'b mut [u8; FRAME_MAX_BYTES],
    ) -> Option<&'b [u8]> {
        let entry = Entry {
            number: self.head.entries,
            time,
            event,
        };
        let mut body = [0; ENTRY_MAX_BYTES];
        let body = postcard::to_slice(&entry, &mut body).ok()?;
        let length = (body.len() as u16).to_le_bytes();
        let digest = self.digest_after(length, body);
        let content = length.iter().chain(body.iter()).chain(digest.iter());
        let used = LENGTH_BYTES + body.len() + SHA256_BYTES;
        buffer
            .iter_mut()
            .zip(content)
            .for_each(|(to, from)| *to = *from);
        self.head = Head {
            entries: self.head.entries + 1,
            digest,
        };
        buffer.get(..used)
    }

    fn digest_after(&self, length: [u8; LENGTH_BYTES], body: &[u8]) -> Sha256Digest {
        Sha256::new()
            .chain_update(self.head.digest)
            .chain_update(length)
            .chain_update(body)
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn release() -> Release {
        let signers = [[0xff; 8]; crate::wire::SIGNATURES_MAX_COUNT]
            .into_iter()
            .collect();
        let version = Line::new(core::str::from_utf8(&[b'v'; 128]).unwrap()).unwrap();
        Release {
            version,
            manifest: [0xff; 32],
            anti_rollback: u64::MAX,
            signers,
        }
    }

    fn three() -> Vec<Vec<u8>> {
        let mut chain = Chain::default();
        let mut buffer = [0; FRAME_MAX_BYTES];
        let events = [
            Event::Provisioned {
                set: Set::A,
                release: release(),
            },
            Event::TrialArmed {
                set: Set::B,
                attempts: 3,
            },
            Event::Committed {
                set: Set::B,
                floor: 7,
            },
        ];
        events
            .into_iter()
            .map(|event| chain.append(99, event, &mut buffer).unwrap().to_vec())
            .collect()
    }

    /// Reads a whole journal: entries read, and how it ends.
    fn read(bytes: &[u8]) -> (u64, Tail) {
        let mut chain = Chain::default();
        let mut position = 0;
        loop {
            match chain.read(&bytes[position..], true) {
                Tail::Entry(_, size) => position += size,
                end => return (chain.head().entries, end),
            }
        }
    }

    #[test]
    fn stored_numbers_stay() {
        let set = Set::A;
        let (manifest, source_bytes) = ([0; 32], 0);
        let events = [
            Event::Provisioned {
                set,
                release: release(),
            },
            Event::InstallStarted {
                set,
                release: release(),
            },
            Event::InstallCompleted {
                set,
                manifest,
                source_bytes,
                written_bytes: 0,
                present_bytes: 0,
                patch_bytes: 0,
                damaged_bases: 0,
            },
            Event::InstallFailed {
                set,
                manifest: None,
                exit_code: 0,
                source_bytes,
                target_touched: true,
            },
            Event::TrialArmed { set, attempts: 3 },
            Event::Booted {
                set: None,
                reason: Reason::Nothing,
                attempts_left: 0,
            },
            Event::Committed { set, floor: 1 },
            Event::MarkedBad { set },
            Event::WentBack { set },
            Event::TailCut { bytes: 1 },
            Event::Stayed {
                running: set,
                chosen: Set::B,
            },
            Event::HealthPassed {
                set,
                checks: 1,
                objects: 1,
                bytes: 1,
            },
            Event::HealthFailed {
                set,
                failure: HealthFailure::NoChecks,
            },
            Event::ObjectRepaired {
                set,
                object: BlobDigest::sha256([0; 32]),
                from: RepairSource::Bundle,
            },
            Event::FirmwareNotAsked { set },
        ];
        let mut buffer = [0; FRAME_MAX_BYTES];
        for (number, event) in events.iter().enumerate() {
            assert_eq!(
                postcard::to_slice(event, &mut buffer).unwrap()[0],
                number as u8,
                "{event:?}"
            );
        }
    }

    #[test]
    fn stored_numbers_of_health_and_repair_stay() {
        let name = Line::new("x").unwrap();
        let object = BlobDigest::sha256([0; 32]);
        let failures = [
            HealthFailure::NoChecks,
            HealthFailure::CheckFailed {
                name: name.clone(),
                exit_code: 1,
            },
            HealthFailure::CheckTimedOut {
                name: name.clone(),
                limit_seconds: 1,
            },
            HealthFailure::CheckUnusable { name },
            HealthFailure::ObjectDamaged { object },
            HealthFailure::SlotUnreadable,
        ];
        let mut buffer = [0; FRAME_MAX_BYTES];
        for (number, failure) in failures.iter().enumerate() {
            let stored = postcard::to_slice(failure, &mut buffer).unwrap();
            assert_eq!(stored[0], number as u8, "{failure:?}");
        }
        let sources = [RepairSource::Bundle, RepairSource::OtherSet];
        assert_eq!(postcard::to_slice(&sources, &mut buffer).unwrap(), &[0, 1]);
    }

    #[test]
    fn the_longest_entry_fits_a_frame() {
        assert_eq!(read(&three().concat()), (3, Tail::End));
    }

    #[test]
    fn a_changed_byte_shows() {
        let journal = three().concat();
        let first_two = three()[..2].concat().len();
        for position in 0..journal.len() {
            let mut bad = journal.clone();
            bad[position] ^= 1;
            let (entries, end) = read(&bad);
            assert!(entries < 3 && end != Tail::End, "byte {position}");
            if position >= first_two + 2 {
                assert_eq!(
                    (entries, end),
                    (2, Tail::Torn),
                    "byte {position} of the last frame"
                );
            }
        }
    }

    #[test]
    fn taking_out_or_reordering_frames_shows() {
        let frames = three();
        assert_eq!(read(&[frames[0].clone(), frames[2].clone()].concat()).0, 1);
        assert_eq!(
            read(&[frames[1].clone(), frames[0].clone(), frames[2].clone()].concat()),
            (0, Tail::Broken)
        );
        // Cutting off the end is a sound chain by itself; the head in the boot record shows it.
        assert_eq!(read(&frames[..2].concat()), (2, Tail::End));
    }

    #[test]
    fn every_torn_append_is_told_from_a_change() {
        let frames = three();
        let whole = frames[..2].concat();
        for cut in 1..frames[2].len() {
            let torn = [whole.clone(), frames[2][..cut].to_vec()].concat();
            assert_eq!(read(&torn), (2, Tail::Torn), "{cut} bytes");
            let zeros = [whole.clone(), std::vec![0; cut]].concat();
            assert_eq!(read(&zeros), (2, Tail::Torn), "{cut} zeros");
        }
    }
}
