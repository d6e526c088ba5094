//! After a refusal: whether the firmware is told to boot the other set next, or neither set may start.
//!
//! # Invariants
//! - Another set is named only when it was committed, is not marked bad and is not below the floor; what it holds is judged by the
//!   manifest kept in its root slot, whose digest must be the one that the record committed.
//! - Nothing of that manifest is read before its digest is right.

use crate::console::{say, words_of};
use crate::files::{self, OwnPath};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use twinseal_core::boot::record::{BootRecord, Loaded};
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::error::Part;
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::tar::{BLOCK_BYTES, check_header};
use twinseal_platform_linux::calls::unlink;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::read_front;

/// What a refusal does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The firmware is told to boot this set, which was committed.
    Other(Set),
    /// The same for one that is on trial.
    Trial(Set),
    /// The firmware does what it does: a trial's default set is its default too.
    Restart,
    /// The other set may not start either, as far as is known: there is the recovery.
    Recover,
}

/// Decides what follows the refusal of `set`. `front` gives the folder where the other set's front matter lies, and is only asked
/// when the boot record speaks for that set. `is_over`: the trial has no attempt left, or none that can be spent.
///
/// A trial that is refused with attempts left goes back by itself. One that is over is sent back, for a firmware that lost its
/// variables would start it for ever.
pub fn decide<F>(loaded: Option<&Loaded>, set: Set, is_over: bool, front: F) -> Next
where
    F: FnOnce() -> Option<OwnPath>,
{
    let Some(Loaded::Record(record)) = loaded else {
        return Next::Recover;
    };
    let on_trial = record.trial().map(|trial| trial.set);
    if on_trial == Some(set) && !is_over {
        return Next::Restart;
    }
    if on_trial == Some(set.other()) {
        // The power failed between arming it and telling the firmware.
        return Next::Trial(set.other());
    }
    if record.is_bad(set.other()) {
        return Next::Recover;
    }
    match front() {
        Some(front) if may_boot(record, set.other(), &front) => Next::Other(set.other()),
        _ => Next::Recover,
    }
}

/// What a refusal of `set` does next, once it is known whether either set was refused before: the other set is tried once. A set
/// that was refused already, and is refused again, sent the device to one that did not get as far as its own `/init`.
pub fn try_once(next: Next, state: &str, set: Set) -> Next {
    match next {
        Next::Restart => Next::Restart,
        _ if Set::BOTH.iter().any(|set| was_refused(state, *set)) => Next::Recover,
        // Where that is not kept, two sets would send the device to each other for ever.
        Next::Other(_) | Next::Trial(_) if !note_refusal(state, set) => Next::Recover,
        next => next,
    }
}

/// Says durably in the agent's state that `set` was refused; gives whether that is there now.
fn note_refusal(state: &str, set: Set) -> bool {
    let Ok(mark) = refusal_mark(state, set) else {
        return false;
    };
    let made = files::make_durably(&mark, state);
    if let Err(errno) = made {
        say(format_args!("{mark} cannot be made: {}", words_of(errno)));
    }
    made.is_ok()
}

/// Whether `set` was refused, and no set has started since.
pub fn was_refused(state: &str, set: Set) -> bool {
    refusal_mark(state, set).is_ok_and(|mark| files::exists(&mark).unwrap_or(false))
}

/// Takes all that back: a set starts, or one is to be tried that has been made anew.
pub fn forget_refusals(state: &str) {
    for set in Set::BOTH {
        if let Ok(mark) = refusal_mark(state, set) {
            // Mostly there is none. One that stays costs a recovery where the other set might have been tried once more.
            let _ = unlink(mark.as_str());
        }
    }
}

fn refusal_mark(state: &str, set: Set) -> Result<OwnPath, Errno> {
    join(&[state, set.of(["/refused-a", "/refused-b"])])
}

/// Whether what a set holds was committed there and is no downgrade.
fn may_boot(record: &BootRecord, set: Set, front: &str) -> bool {
    let mut buffer = [0; FRONT_MAX_BYTES];
    let length = read_front(front, &mut buffer).unwrap_or(None);
    let Some(manifest) = length
        .and_then(|length| buffer.get(..length))
        .and_then(first_entry)
    else {
        return false;
    };
    let mut facts = SetFacts {
        // The firmware looks for the UKI itself, and goes on to its order when there is none.
        bootable: true,
        manifest: Some(Sha256::digest(manifest).into()),
        anti_rollback: None,
    };
    if !record.is_good(set, &facts) {
        return false;
    }
    facts.anti_rollback = Manifest::parse(manifest)
        .ok()
        .map(|manifest| manifest.anti_rollback);
    facts.reaches(record.floor())
}

/// The bytes of the manifest: the first entry of a front matter.
fn first_entry(front: &[u8]) -> Option<&[u8]> {
    let (header, rest) = front.split_at_checked(BLOCK_BYTES)?;
    let size = check_header(header, "manifest", Part::ManifestHeader).ok()?;
    rest.get(..usize::try_from(size).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::{MANIFEST, record_with_trial_of_b};
    use std::fs;
    use std::vec::Vec;
    use tempfile::TempDir;
    use twinseal_core::boot::trial::mark_bad;
    use twinseal_core::wire::FORMAT_VERSION;
    use twinseal_core::wire::digest::BlobDigest;
    use twinseal_core::wire::manifest::{
        BuildIdentity, Needs, Payload, PayloadKind, Route, ValidityWindow,
    };
    use twinseal_core::wire::tar::{emit_header, padding_bytes};
    use twinseal_core::wire::text::{Line, Name};

    /// A manifest with one image for a slot.
    fn manifest(anti_rollback: u64) -> Vec<u8> {
        let kind = PayloadKind::Image {
            slot: Name::new("fpga").unwrap(),
        };
        let digest = BlobDigest::sha256([1; 32]);
        let route = Route {
            base: None,
            blocks: 1,
            first_block: [2; 32],
        };
        let line = Line::new("").unwrap();
        let manifest = Manifest {
            format: FORMAT_VERSION,
            compatible: Name::new("test-device").unwrap(),
            version: Line::new("1").unwrap(),
            anti_rollback,
            window: ValidityWindow {
                not_before: 0,
                not_after: None,
            },
            sequence: 1,
            build: BuildIdentity {
                source: line.clone(),
                builder: line,
            },
            info: Default::default(),
            payloads: [Payload {
                kind,
                digest,
                size: 1,
            }]
            .into_iter()
            .collect(),
            seal: None,
            routes: [route].into_iter().collect(),
            data_parts: [1].into_iter().collect(),
            needs: Needs {
                range_bytes: 4096,
                zstd_window_log: 0,
            },
        };
        let mut buffer = [0; 4096];
        manifest.emit(&mut buffer).unwrap().to_vec()
    }

    /// The front matter folder of a set that holds this manifest.
    fn front(manifest: &[u8]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let size = manifest.len() as u64;
        let padding = std::vec![0; padding_bytes(size) as usize];
        let tar = [&emit_header("manifest", size)[..], manifest, &padding].concat();
        fs::write(folder.path().join("manifest.tar"), tar).unwrap();
        folder
    }

    fn next(record: &BootRecord, set: Set, is_over: bool, front: &TempDir) -> Next {
        let path = front.path().to_str().unwrap().try_into().ok();
        decide(Some(&Loaded::Record(*record)), set, is_over, || path)
    }

    fn committed(manifest: &[u8], floor: u64) -> BootRecord {
        let digest = Sha256::digest(manifest).into();
        BootRecord::provisioned(Set::A, floor, digest).provisioned_twice(digest)
    }

    #[test]
    fn a_committed_set_that_is_refused_gives_way_to_the_other() {
        let release = manifest(5);
        let record = committed(&release, 5);
        let front = front(&release);
        assert_eq!(next(&record, Set::A, false, &front), Next::Other(Set::B));
        assert_eq!(next(&record, Set::B, false, &front), Next::Other(Set::A));
    }

    #[test]
    fn what_was_never_committed_is_below_the_floor_or_bad_is_not_named() {
        let release = manifest(5);
        let holds = front(&release);
        assert_eq!(
            next(&committed(&release, 6), Set::A, false, &holds),
            Next::Recover,
            "floor"
        );
        let other = front(&manifest(6));
        assert_eq!(
            next(&committed(&release, 5), Set::A, false, &other),
            Next::Recover,
            "another release"
        );
        let facts = SetFacts {
            bootable: true,
            manifest: Some(Sha256::digest(&release).into()),
            anti_rollback: Some(5),
        };
        let bad = mark_bad(&committed(&release, 5), Set::B, [facts; 2]);
        // B was the running set of that record only in this call: it is the other one of A.
        assert_eq!(
            next(&bad.unwrap(), Set::A, false, &holds),
            Next::Recover,
            "bad"
        );
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            next(&committed(&release, 5), Set::A, false, &empty),
            Next::Recover,
            "nothing kept"
        );
    }

    #[test]
    fn a_lost_record_names_nothing() {
        for loaded in [None, Some(Loaded::Blank), Some(Loaded::Corrupt)] {
            let next = decide(loaded.as_ref(), Set::A, false, || panic!("is not asked"));
            assert_eq!(next, Next::Recover);
        }
    }

    #[test]
    fn a_trial_goes_back_by_itself_and_is_sent_back_when_it_is_spent() {
        let release = manifest(1);
        let record = record_with_trial_of_b();
        let front_of_a = front(&release);
        assert_eq!(next(&record, Set::B, false, &front_of_a), Next::Restart);
        // It waits, and the set that had to tell the firmware is refused.
        let waits = next(&record, Set::A, false, &front_of_a);
        assert_eq!(waits, Next::Trial(Set::B));
        // The record of that trial committed something else in A than what lies there.
        assert_eq!(next(&record, Set::B, true, &front_of_a), Next::Recover);
        assert_ne!(Sha256::digest(&release).as_slice(), MANIFEST);
        let digest: [u8; 32] = Sha256::digest(&release).into();
        let record = crate::gate::tests::record_with_trial(digest);
        assert_eq!(
            next(&record, Set::B, true, &front_of_a),
            Next::Other(Set::A)
        );
    }

    #[test]
    fn no_cut_of_a_front_matter_is_believed() {
        let release = manifest(5);
        let whole = fs::read(front(&release).path().join("manifest.tar")).unwrap();
        let record = committed(&release, 5);
        let mut cuts = 0;
        for end in 0..BLOCK_BYTES + release.len() {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("manifest.tar"), &whole[..end]).unwrap();
            assert_eq!(
                next(&record, Set::A, false, &folder),
                Next::Recover,
                "{end} bytes"
            );
            cuts += 1;
        }
        assert!(cuts > BLOCK_BYTES);
    }

    #[test]
    fn a_refusal_is_remembered_until_a_set_starts() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().to_str().unwrap();
        assert!(note_refusal(path, Set::B) && note_refusal(path, Set::B));
        assert!(was_refused(path, Set::B) && !was_refused(path, Set::A));
        forget_refusals(path);
        forget_refusals(path);
        assert!(!was_refused(path, Set::B));
        assert!(!note_refusal(
            state.path().join("absent").to_str().unwrap(),
            Set::A
        ));
    }

    #[test]
    fn the_other_set_is_tried_once_and_only_where_that_is_remembered() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().to_str().unwrap();
        let other = Next::Other(Set::B);
        assert_eq!(try_once(Next::Restart, path, Set::A), Next::Restart);
        assert_eq!(try_once(Next::Recover, path, Set::A), Next::Recover);
        for other in [other, Next::Trial(Set::B)] {
            forget_refusals(path);
            assert_eq!(try_once(other, path, Set::A), other);
        }
        // Set B was refused, or the firmware could not start it at all and came back to A.
        assert_eq!(try_once(Next::Other(Set::A), path, Set::B), Next::Recover);
        assert_eq!(try_once(other, path, Set::A), Next::Recover);
        forget_refusals(path);
        assert_eq!(try_once(other, path, Set::A), other);
        let nowhere = state.path().join("absent");
        let nowhere = nowhere.to_str().unwrap();
        assert_eq!(try_once(other, nowhere, Set::A), Next::Recover);
    }
}
