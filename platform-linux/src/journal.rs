//! The journal's file: reading the whole chain, appending to it, and what it says about the past.
//!
//! # Invariants
//! - Nothing is appended to a journal that does not hold: a new entry would make the damage look like the past.
//! - An entry is on the medium before the boot record's anchor covers it, so a power cut never makes a sound journal look cut.
//!
//! # Order of journal and boot record
//! Every change is told first and made second: append and sync the entry, then store the record with the journal's new head. A cut
//! between the two leaves an entry for a change that did not happen; the same command, run again, tells and makes it again. The
//! other order could leave a change that nobody was told of, and that is the one thing a journal must not do.
//!
//! # Power loss
//! A cut during an append leaves a part of the entry at the end. It is cut off before the next append, which is preceded by an
//! entry that says so. A tail of zeros is the same: the file's length reached the medium and its bytes did not.

use crate::append::AppendFile;
use crate::calls::stat;
use crate::fault::During;
use crate::file::{if_there, join};
use core::fmt;
use heapless::String;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::journal::{Chain, Entry, Event, FRAME_MAX_BYTES, Head, Tail};
use twinseal_core::wire::digest::Sha256Digest;

/// The file is read in pieces of this size, on the stack: 32 of the longest frames.
const PIECE_BYTES: usize = 16 * 1024;

const OBJECT: StorageObject = StorageObject::Journal;

/// An open journal.
pub struct Journal {
    /// `None` when there is no file yet and nobody has written.
    file: Option<AppendFile>,
    path: String<255>,
    chain: Chain,
    /// Bytes of whole, right frames.
    good_bytes: u64,
    torn_bytes: u64,
    damage: Option<Damage>,
    anchor_holds: bool,
    past: Past,
}

/// Why a journal does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// An entry does not follow from those before.
    Chain {
        /// Its number.
        entry: u64,
    },
    /// It has fewer entries than the boot record vouches for.
    Cut {
        /// Entries that there are.
        entries: u64,
        /// Entries that the boot record vouches for.
        anchor: u64,
    },
    /// It is a sound chain, but not the one that the boot record vouches for.
    Replaced {
        /// Entries that the boot record vouches for.
        anchor: u64,
    },
}

/// Why an entry was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// The journal does not hold, and an entry would make that look like the past.
    Broken(Damage),
    /// It cannot be written.
    Storage(StorageError),
}

impl From<StorageError> for JournalError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// What the entries say about the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The highest floor that was ever in force.
    pub floor: u64,
    /// The latest time of an entry.
    pub highest_time: u64,
    /// For each set, whether the last install into it was interrupted or failed half-way.
    unfinished: [bool; 2],
    /// For each set, the manifest of the last install into it, if that has no end in the journal.
    interrupted: [Option<Sha256Digest>; 2],
}

impl Past {
    /// Whether the last install into a set was interrupted or failed half-way: then much of it may be there.
    pub const fn is_unfinished(&self, set: Set) -> bool {
        set.of(self.unfinished)
    }

    /// SHA-256 of the manifest of the last install into a set, if that began and has no end, good or bad: the power was cut, or the
    /// process killed.
    pub const fn interrupted(&self, set: Set) -> Option<Sha256Digest> {
        set.of(self.interrupted)
    }

    fn take(&mut self, entry: &Entry) {
        self.highest_time = self.highest_time.max(entry.time);
        match &entry.event {
            Event::Provisioned { release, .. } => {
                self.floor = self.floor.max(release.anti_rollback)
            }
            Event::Committed { floor, .. } => self.floor = self.floor.max(*floor),
            Event::InstallStarted { set, release } => {
                self.set_unfinished(*set, true);
                self.set_interrupted(*set, Some(release.manifest));
            }
            Event::InstallCompleted { set, .. } => {
                self.set_unfinished(*set, false);
                self.set_interrupted(*set, None);
            }
            Event::InstallFailed {
                set,
                target_touched,
                ..
            } => {
                if *target_touched {
                    self.set_unfinished(*set, true);
                }
                self.set_interrupted(*set, None);
            }
            Event::TrialArmed { .. }
            | Event::Booted { .. }
            | Event::MarkedBad { .. }
            | Event::WentBack { .. }
            | Event::TailCut { .. }
            | Event::Stayed { .. }
            | Event::HealthPassed { .. }
            | Event::HealthFailed { .. }
            | Event::ObjectRepaired { .. }
            | Event::FirmwareNotAsked { .. } => {}
        }
    }

    const fn set_unfinished(&mut self, set: Set, unfinished: bool) {
        let [a, b] = &mut self.unfinished;
        match set {
            Set::A => *a = unfinished,
            Set::B => *b = unfinished,
        }
    }

    const fn set_interrupted(&mut self, set: Set, interrupted: Option<Sha256Digest>) {
        let [a, b] = &mut self.interrupted;
        match set {
            Set::A => *a = interrupted,
            Set::B => *b = interrupted,
        }
    }
}

impl Journal {
    /// Opens the journal and reads all of it; `visit` sees every entry that holds, and its number of bytes. A file that is not
    /// there is an empty journal.
    ///
    /// # Errors
    /// When it cannot be read. A journal that does not hold is no error: [`damage`](Self::damage) says so.
    pub fn open(
        path: &str,
        anchor: Option<Head>,
        visit: &mut dyn FnMut(&Entry, usize),
    ) -> Result<Self, StorageError> {
        let there = if_there(stat(path)).during(StorageOperation::Open, OBJECT)?;
        let file = there.map(|_| AppendFile::open(path)).transpose()?;
        let mut journal = Self {
            file,
            path: join(&[path]).during(StorageOperation::Open, OBJECT)?,
            chain: Chain::default(),
            good_bytes: 0,
            torn_bytes: 0,
            damage: None,
            anchor_holds: true,
            past: Past::default(),
        };
        journal.read(anchor, visit)?;
        Ok(journal)
    }

    /// Why it does not hold; `None` when it does.
    pub const fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// Whether the chain passes through the boot record's anchor; true when there is none.
    pub const fn anchor_holds(&self) -> bool {
        self.anchor_holds
    }

    /// Bytes of an append that power was lost in.
    pub const fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Where the chain stands.
    pub const fn head(&self) -> Head {
        self.chain.head()
    }

    /// What the entries say about the past.
    pub const fn past(&self) -> Past {
        self.past
    }

    /// Tells what happens at `time` (seconds since 1970-01-01 UTC; 0 without a clock): the entry is on the medium when this
    /// returns.
    ///
    /// # Errors
    /// [`JournalError::Broken`] when the journal does not hold; otherwise when it cannot be written.
    pub fn append(&mut self, time: u64, event: Event) -> Result<(), JournalError> {
        if let Some(damage) = self.damage {
            return Err(JournalError::Broken(damage));
        }
        if self.torn_bytes > 0 {
            let bytes = u32::try_from(self.torn_bytes).unwrap_or(u32::MAX);
            let end = self.good_bytes;
            self.file()?.truncate_synced(end)?;
            self.torn_bytes = 0;
            self.append_frame(time, Event::TailCut { bytes })?;
        }
        Ok(self.append_frame(time, event)?)
    }

    /// The anchor for a record that had `old`: the journal's head, or what the record had when the journal does not hold, so that
    /// the damage stays visible.
    pub fn anchor(&self, old: Head) -> Head {
        if self.damage.is_some() {
            old
        } else {
            self.head()
        }
    }

    fn append_frame(&mut self, time: u64, event: Event) -> Result<(), StorageError> {
        let mut chain = self.chain;
        let mut buffer = [0; FRAME_MAX_BYTES];
        let number = chain.head().entries;
        let frame = chain
            .append(time, event.clone(), &mut buffer)
            .ok_or(StorageError {
                operation: StorageOperation::Write,
                object: StorageObject::Journal,
                fault: StorageFault::Full,
            })?;
        self.file()?.append_synced(frame)?;
        self.good_bytes += frame.len() as u64;
        self.chain = chain;
        self.past.take(&Entry {
            number,
            time,
            event,
        });
        Ok(())
    }

    /// The file, made when it is missing.
    fn file(&mut self) -> Result<&mut AppendFile, StorageError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => AppendFile::open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    fn read(
        &mut self,
        anchor: Option<Head>,
        visit: &mut dyn FnMut(&Entry, usize),
    ) -> Result<(), StorageError> {
        let mut at_anchor = anchor
            .filter(|anchor| anchor.entries == 0)
            .map(|_| Head::START);
        if let Some(file) = self.file.take() {
            let mut piece = [0; PIECE_BYTES];
            let mut visit = |entry: &Entry, size: usize, head: Head| {
                visit(entry, size);
                if anchor.is_some_and(|anchor| anchor.entries == head.entries) {
                    at_anchor = Some(head);
                }
            };
            loop {
                let bytes = file.read_at(self.good_bytes, &mut piece)?;
                let last = self.good_bytes + bytes as u64 >= file.len();
                match self.read_piece(piece.get(..bytes).unwrap_or(&[]), last, &mut visit) {
                    Tail::Torn => self.torn_bytes = file.len().saturating_sub(self.good_bytes),
                    Tail::Broken => {
                        self.damage = Some(Damage::Chain {
                            entry: self.head().entries,
                        })
                    }
                    Tail::Entry(..) if !last => continue,
                    Tail::Entry(..) | Tail::End => {}
                }
                break;
            }
            self.file = Some(file);
        }
        self.compare(anchor, at_anchor);
        Ok(())
    }

    /// Reads as many frames as `rest` surely holds; gives how that ended, an entry when there is more to read.
    fn read_piece<V>(&mut self, mut rest: &[u8], last: bool, visit: &mut V) -> Tail
    where
        V: FnMut(&Entry, usize, Head),
    {
        loop {
            match self.chain.read(rest, last) {
                Tail::Entry(entry, size) => {
                    self.past.take(&entry);
                    visit(&entry, size, self.head());
                    self.good_bytes += size as u64;
                    rest = rest.get(size..).unwrap_or(&[]);
                    if !last && rest.len() < FRAME_MAX_BYTES {
                        return Tail::Entry(entry, size);
                    }
                }
                Tail::Broken
                    if last
                        && rest.len() <= FRAME_MAX_BYTES
                        && rest.iter().all(|byte| *byte == 0) =>
                {
                    return Tail::Torn;
                }
                end => return end,
            }
        }
    }

    /// Compares the chain with the boot record's anchor.
    fn compare(&mut self, anchor: Option<Head>, at_anchor: Option<Head>) {
        let Some(anchor) = anchor else { return };
        let damage = match at_anchor {
            None => Damage::Cut {
                entries: self.head().entries,
                anchor: anchor.entries,
            },
            Some(head) if head != anchor => Damage::Replaced {
                anchor: anchor.entries,
            },
            Some(_) => return,
        };
        self.anchor_holds = false;
        self.damage.get_or_insert(damage);
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain { entry } => {
                write!(f, "entry {entry} was changed, or the medium is damaged")
            }
            Self::Cut { entries, anchor } => {
                write!(
                    f,
                    "it has {entries} entries, and the boot record vouches for {anchor}"
                )
            }
            Self::Replaced { anchor } => {
                write!(
                    f,
                    "its first {anchor} entries are not those that the boot record vouches for"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::vec;
    use std::vec::Vec;
    use twinseal_core::journal::Release;
    use twinseal_core::wire::text::Line;

    /// Frames of so many entries.
    fn frames(entries: u64) -> Vec<Vec<u8>> {
        let mut chain = Chain::default();
        let mut buffer = [0; FRAME_MAX_BYTES];
        let mut frame = |number: u64| {
            let event = Event::Committed {
                set: Set::B,
                floor: number % 100,
            };
            chain
                .append(1_000_000 + number, event, &mut buffer)
                .unwrap()
                .to_vec()
        };
        (0..entries).map(&mut frame).collect()
    }

    fn open(path: &Path, anchor: Option<Head>) -> (Journal, u64) {
        let mut seen = 0;
        let journal = Journal::open(path.to_str().unwrap(), anchor, &mut |_, _| seen += 1).unwrap();
        (journal, seen)
    }

    #[test]
    fn a_journal_of_many_pieces_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal");
        let frames = frames(4000);
        fs::write(&file, frames.concat()).unwrap();
        assert!(fs::metadata(&file).unwrap().len() > 2 * PIECE_BYTES as u64);
        let (journal, seen) = open(&file, None);
        assert_eq!(
            (seen, journal.head().entries, journal.damage()),
            (4000, 4000, None)
        );
        let past = Past {
            floor: 99,
            highest_time: 1_003_999,
            ..Past::default()
        };
        assert_eq!(journal.past(), past);

        let mut bad = frames.concat();
        let start: usize = frames[..3000].iter().map(Vec::len).sum();
        bad[start + 5] ^= 1;
        fs::write(&file, bad).unwrap();
        let (journal, seen) = open(&file, None);
        assert_eq!(
            (seen, journal.damage()),
            (3000, Some(Damage::Chain { entry: 3000 }))
        );
    }

    #[test]
    fn the_anchor_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal");
        let frames = frames(2500);
        for anchor in [0, 1, 1234, 2500] {
            fs::write(&file, frames[..anchor].concat()).unwrap();
            let head = open(&file, None).0.head();
            fs::write(&file, frames.concat()).unwrap();
            assert_eq!(open(&file, Some(head)).0.damage(), None, "{anchor}");
            let other = Head {
                digest: [7; 32],
                ..head
            };
            let replaced = Some(Damage::Replaced {
                anchor: anchor as u64,
            });
            assert_eq!(open(&file, Some(other)).0.damage(), replaced, "{anchor}");
            fs::write(&file, frames[..anchor.saturating_sub(1)].concat()).unwrap();
            let cut = Damage::Cut {
                entries: anchor.saturating_sub(1) as u64,
                anchor: anchor as u64,
            };
            assert_eq!(
                open(&file, Some(head)).0.damage(),
                (anchor > 0).then_some(cut),
                "{anchor}"
            );
        }
    }

    #[test]
    fn a_torn_tail_at_any_byte_is_cut_off_before_the_next_entry() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal");
        let frames = frames(3);
        let whole = frames[..2].concat();
        for cut in 1..frames[2].len() {
            let zeros = vec![0; cut];
            for tail in [&frames[2][..cut], &zeros] {
                fs::write(&file, [whole.as_slice(), tail].concat()).unwrap();
                let (mut journal, _) = open(&file, None);
                assert_eq!((journal.torn_bytes(), journal.damage()), (cut as u64, None));
                journal.append(0, Event::MarkedBad { set: Set::A }).unwrap();
                let (journal, seen) = open(&file, Some(journal.head()));
                assert_eq!((seen, journal.torn_bytes(), journal.damage()), (4, 0, None));
            }
        }
    }

    #[test]
    fn an_install_that_did_not_end_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(&folder.path().join("journal"), None);
        let failed = |target_touched| Event::InstallFailed {
            set: Set::B,
            manifest: None,
            exit_code: 20,
            source_bytes: 0,
            target_touched,
        };
        let completed = Event::InstallCompleted {
            set: Set::B,
            manifest: [0; 32],
            source_bytes: 0,
            written_bytes: 0,
            present_bytes: 0,
            patch_bytes: 0,
            damaged_bases: 0,
        };
        let started = Event::InstallStarted {
            set: Set::B,
            release: Release {
                version: Line::new("2").unwrap(),
                manifest: [9; 32],
                anti_rollback: 1,
                signers: Default::default(),
            },
        };
        let steps = [
            (failed(false), false, None),
            (failed(true), true, None),
            (failed(false), true, None),
            (completed.clone(), false, None),
            (started.clone(), true, Some([9; 32])),
            (completed, false, None),
            (started.clone(), true, Some([9; 32])),
            (failed(true), true, None),
            (started, true, Some([9; 32])),
            // Nothing of it was touched, and still it is an end.
            (failed(false), true, None),
        ];
        for (event, unfinished, interrupted) in steps {
            journal.append(0, event).unwrap();
            let past = journal.past();
            assert_eq!(past.is_unfinished(Set::B), unfinished);
            assert_eq!(past.interrupted(Set::B), interrupted);
            assert!(!past.is_unfinished(Set::A));
            assert_eq!(past.interrupted(Set::A), None);
        }
    }
}
