//! What the running system may say about the sets: arm a trial, commit it, mark it bad, go back.
//!
//! Each function takes the record as it is and gives the record to store; nothing here does I/O.
//!
//! # Invariants
//! - Only an [`Installed`] set can be put on trial, and never the running one.
//! - The floor rises only in [`commit`], to the anti-rollback version of what is committed, and never falls.

use super::record::{BootRecord, Trial};
use super::{Set, SetFacts};
use crate::error::{Error, Misuse, PolicyRefused};
use crate::install::Installed;

/// Makes the set that was just installed the next trial.
pub fn arm(record: &BootRecord, installed: &Installed, target: Set, attempts: u8) -> BootRecord {
    let manifest = installed.manifest();
    let trial = Trial {
        set: target,
        attempts_left: attempts.max(1),
        anti_rollback: manifest.value().anti_rollback,
        manifest: *manifest.manifest_sha256(),
    };
    with_trial(record, trial)
}

/// Spends one attempt of the trial, for whoever jumps without asking `select`. Gives `None` when there is no trial, or no attempt
/// is left.
pub fn spend_attempt(record: &BootRecord) -> Option<BootRecord> {
    let trial = record.trial?;
    let attempts_left = trial.attempts_left.checked_sub(1)?;
    let mut next = *record;
    next.trial = Some(Trial {
        attempts_left,
        ..trial
    });
    Some(next)
}

fn with_trial(record: &BootRecord, trial: Trial) -> BootRecord {
    let mut next = *record;
    next.trial = Some(trial);
    next.set_bad(trial.set, false);
    next
}

/// Before the target set is written: a trial of it that has not begun is called off. Gives `None` when nothing changes.
///
/// # Errors
/// [`PolicyRefused::TrialRunning`] when the running set is on trial: the target set is the way back.
pub fn clear_for_install(record: &BootRecord, running: Set) -> Result<Option<BootRecord>, Error> {
    match record.trial {
        Some(trial) if trial.set == running => Err(PolicyRefused::TrialRunning.into()),
        Some(_) => Ok(Some(BootRecord {
            trial: None,
            ..*record
        })),
        None => Ok(None),
    }
}

/// Commits the running set: it becomes the default, and the floor rises to its anti-rollback version. Gives `None` when there is
/// nothing to commit: it is the default set already and holds what was committed, or it was left with [`go_back`] or
/// [`mark_bad`] and only the restart is still to come, which a health check that goes on running must not undo.
pub fn commit(record: &BootRecord, running: Set, facts: [SetFacts; 2]) -> Option<BootRecord> {
    let on_trial = record.trial.filter(|trial| trial.set == running);
    let held = running.of(facts);
    let decided = record.is_good(record.default, &record.default.of(facts));
    if on_trial.is_none() && decided {
        return None;
    }
    let version = on_trial
        .map(|trial| trial.anti_rollback)
        .or(held.anti_rollback);
    let mut next = *record;
    next.default = running;
    next.trial = record.trial.filter(|trial| trial.set != running);
    next.floor = record.floor.max(version.unwrap_or(0));
    next.set_committed(
        running,
        on_trial.map(|trial| trial.manifest).or(held.manifest),
    );
    next.set_bad(running, false);
    Some(next)
}

/// Marks the running set bad: its trial ends; when it is the default set, the other set becomes the default.
///
/// # Errors
/// [`PolicyRefused`] when there is no good set to go back to.
pub fn mark_bad(
    record: &BootRecord,
    running: Set,
    facts: [SetFacts; 2],
) -> Result<BootRecord, Error> {
    let mut next = go_back(record, running, facts)?;
    next.set_bad(running, true);
    Ok(next)
}

/// Goes back to the other set at the next boot, without calling the running one bad.
///
/// # Errors
/// [`PolicyRefused`] when the other set is not good or below the floor.
pub fn go_back(
    record: &BootRecord,
    running: Set,
    facts: [SetFacts; 2],
) -> Result<BootRecord, Error> {
    let mut next = *record;
    if record.trial.is_some_and(|trial| trial.set == running) {
        next.trial = None;
        if record.default != running {
            return Ok(next);
        }
        // The default set itself is on trial, after an install over a default set that would not boot.
    }
    let other = running.other();
    let facts = other.of(facts);
    if next.trial.is_some() || !record.is_good(other, &facts) {
        return Err(PolicyRefused::NothingToReturnTo.into());
    }
    if !facts.reaches(record.floor) {
        let version = facts.anti_rollback.unwrap_or(0);
        return Err(PolicyRefused::ReturnBelowFloor {
            version,
            floor: record.floor,
        }
        .into());
    }
    next.default = other;
    Ok(next)
}

/// The trial that is running.
///
/// # Errors
/// [`Misuse`] when none is, or the set on trial has not been booted yet.
pub fn running_trial(record: &BootRecord, running: Set) -> Result<Trial, Error> {
    match record.trial {
        Some(trial) if trial.set == running => Ok(trial),
        Some(_) => Err(Misuse::TrialNotRunning.into()),
        None => Err(Misuse::NoTrial.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::digest::Sha256Digest;

    const OLD_MANIFEST: Sha256Digest = [5; 32];
    const NEW_MANIFEST: Sha256Digest = [9; 32];
    const GOOD: SetFacts = SetFacts {
        bootable: true,
        manifest: Some(OLD_MANIFEST),
        anti_rollback: Some(5),
    };
    const NEWER: SetFacts = SetFacts {
        bootable: true,
        manifest: Some(NEW_MANIFEST),
        anti_rollback: Some(9),
    };

    fn committed() -> BootRecord {
        BootRecord::provisioned(Set::A, 5, OLD_MANIFEST).provisioned_twice(OLD_MANIFEST)
    }

    fn on_trial() -> BootRecord {
        with_trial(
            &committed(),
            Trial {
                set: Set::B,
                attempts_left: 2,
                anti_rollback: 9,
                manifest: NEW_MANIFEST,
            },
        )
    }

    #[test]
    fn the_floor_rises_at_commit_only_and_never_falls() {
        assert_eq!(on_trial().floor(), 5);
        let after = commit(&on_trial(), Set::B, [GOOD, NEWER]).unwrap();
        assert_eq!(
            (after.default_set(), after.trial(), after.floor()),
            (Set::B, None, 9)
        );
        let lower = with_trial(
            &after,
            Trial {
                set: Set::A,
                attempts_left: 1,
                anti_rollback: 2,
                manifest: NEW_MANIFEST,
            },
        );
        assert_eq!(commit(&lower, Set::A, [GOOD, NEWER]).unwrap().floor(), 9);
    }

    #[test]
    fn attempts_are_spent_until_none_is_left() {
        let mut record = on_trial();
        for left in [1, 0] {
            record = spend_attempt(&record).unwrap();
            assert_eq!(record.trial().unwrap().attempts_left, left);
        }
        assert_eq!(spend_attempt(&record), None);
        assert_eq!(spend_attempt(&committed()), None);
    }

    #[test]
    fn committing_twice_changes_nothing() {
        assert_eq!(commit(&committed(), Set::A, [GOOD, NEWER]), None);
        assert_eq!(
            commit(&on_trial(), Set::A, [GOOD, NEWER]),
            None,
            "the default set is good, a trial waits elsewhere"
        );
    }

    #[test]
    fn a_health_check_that_goes_on_does_not_undo_a_way_back() {
        let left = go_back(&committed(), Set::A, [GOOD, GOOD]).unwrap();
        assert_eq!(commit(&left, Set::A, [GOOD, GOOD]), None);
        // Booted because the default set is gone: the running one takes its place.
        let fallback = commit(&committed(), Set::B, [SetFacts::default(), GOOD]).unwrap();
        assert_eq!(fallback.default_set(), Set::B);
    }

    #[test]
    fn the_way_back_is_never_overwritten() {
        assert_eq!(
            clear_for_install(&on_trial(), Set::B),
            Err(PolicyRefused::TrialRunning.into())
        );
        assert_eq!(
            clear_for_install(&on_trial(), Set::A),
            Ok(Some(committed()))
        );
        assert_eq!(clear_for_install(&committed(), Set::A), Ok(None));
    }

    #[test]
    fn marking_bad_needs_something_to_go_back_to() {
        let after = mark_bad(&on_trial(), Set::B, [GOOD, NEWER]).unwrap();
        assert_eq!(
            (after.default_set(), after.trial(), after.is_bad(Set::B)),
            (Set::A, None, true)
        );
        let after = mark_bad(&committed(), Set::A, [GOOD, GOOD]).unwrap();
        assert_eq!((after.default_set(), after.is_bad(Set::A)), (Set::B, true));
        let nothing = Err(PolicyRefused::NothingToReturnTo.into());
        assert_eq!(
            mark_bad(&committed(), Set::A, [GOOD, SetFacts::default()]),
            nothing
        );
        assert_eq!(
            go_back(&on_trial(), Set::A, [GOOD, NEWER]),
            nothing,
            "never committed"
        );
        let below = SetFacts {
            anti_rollback: Some(4),
            ..GOOD
        };
        let refused = PolicyRefused::ReturnBelowFloor {
            version: 4,
            floor: 5,
        };
        assert_eq!(
            go_back(&committed(), Set::A, [GOOD, below]),
            Err(refused.into())
        );
    }

    #[test]
    fn a_default_set_on_trial_is_left_for_the_other_one_by_the_same_rules() {
        let trial = Trial {
            set: Set::A,
            attempts_left: 2,
            anti_rollback: 5,
            manifest: OLD_MANIFEST,
        };
        let again = with_trial(&committed(), trial);
        let after = go_back(&again, Set::A, [GOOD, GOOD]).unwrap();
        assert_eq!((after.default_set(), after.trial()), (Set::B, None));
        let after = mark_bad(&again, Set::A, [GOOD, GOOD]).unwrap();
        assert_eq!((after.default_set(), after.is_bad(Set::A)), (Set::B, true));
        assert_eq!(
            go_back(&again, Set::A, [GOOD, SetFacts::default()]),
            Err(PolicyRefused::NothingToReturnTo.into())
        );
        let below = SetFacts {
            anti_rollback: Some(4),
            ..GOOD
        };
        assert_eq!(
            mark_bad(&again, Set::A, [GOOD, below]),
            Err(PolicyRefused::ReturnBelowFloor {
                version: 4,
                floor: 5
            }
            .into())
        );
    }

    #[test]
    fn only_the_running_trial_is_named() {
        assert_eq!(
            running_trial(&on_trial(), Set::B).map(|trial| trial.anti_rollback),
            Ok(9)
        );
        assert_eq!(
            running_trial(&on_trial(), Set::A),
            Err(Misuse::TrialNotRunning.into())
        );
        assert_eq!(
            running_trial(&committed(), Set::A),
            Err(Misuse::NoTrial.into())
        );
    }
}
