//! The choice at power-on: the rows of `docs/boot-state.md`, in the same order.
//!
//! # Invariants
//! - A trial's attempt is spent in the record that [`Selection::record`] gives; the caller stores it before the jump.
//! - On a committed set there is nothing to store.

use super::record::{BootRecord, Loaded, Trial};
use super::{Set, SetFacts};
use serde::{Deserialize, Serialize};

/// Attempts of a trial when nobody says otherwise.
pub const ATTEMPTS_DEFAULT: u8 = 3;

/// What to boot, and what to store before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Selection {
    boot: Option<Set>,
    reason: Reason,
    record: Option<BootRecord>,
}

/// Why this set. The order is stored in the journal: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reason {
    /// Row 1: it is on trial, and an attempt has been spent.
    Trial,
    /// Row 2: the trial's attempts are used up: back to the default set.
    RolledBack,
    /// Row 3: the set on trial is not complete, or holds something else: the trial is dropped.
    TrialDropped,
    /// Row 4: it is the default set.
    Default,
    /// Row 5: the default set is bad, not complete or not what was committed; the other one is good.
    Fallback,
    /// Row 6: neither is good; the default set, or else the other one, is better than nothing.
    LastResort,
    /// Row 7: the record was lost and has been made anew from what the sets hold.
    RecordRebuilt,
    /// Row 8: there is nothing that may be booted.
    Nothing,
}

impl Selection {
    /// The set to boot; `None` sends the device to its recovery.
    pub const fn boot(&self) -> Option<Set> {
        self.boot
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The record to store durably before the jump; `None` when nothing changes.
    pub const fn record(&self) -> Option<&BootRecord> {
        self.record.as_ref()
    }
}

/// Chooses. `journal_floor` is the highest floor that the journal knows, 0 when there is none: it only matters when the record
/// is lost.
pub fn select(loaded: &Loaded, facts: [SetFacts; 2], journal_floor: u64) -> Selection {
    match loaded {
        Loaded::Record(record) => match record.trial {
            Some(trial) => select_trial(record, trial, facts),
            None => select_committed(record, facts),
        },
        Loaded::Blank | Loaded::Corrupt => rebuild(facts, journal_floor),
    }
}

/// Rows 4 to 6 and 8 alone: what boots when nothing is on trial, or when its trial is over. A boot loader with a default set of its
/// own is told this one.
pub fn resting(record: &BootRecord, facts: [SetFacts; 2]) -> Option<Set> {
    without_trial(record, facts).boot
}

/// The choice of rows 4 to 6 and 8 as if the set on trial were gone. It may be the default set too, and what was committed there
/// once: booted without an attempt spent, its trial would have no end. There is nothing to store.
pub fn without_trial(record: &BootRecord, facts: [SetFacts; 2]) -> Selection {
    let Some(trial) = record.trial else {
        return select_committed(record, facts);
    };
    let mut next = *record;
    next.trial = None;
    next.set_bad(trial.set, true);
    let [a, b] = facts;
    let gone = SetFacts::default();
    let left = match trial.set {
        Set::A => [gone, b],
        Set::B => [a, gone],
    };
    select_committed(&next, left)
}

/// Rows 1 to 3.
fn select_trial(record: &BootRecord, trial: Trial, facts: [SetFacts; 2]) -> Selection {
    let mut next = *record;
    let there = trial.set.of(facts);
    let complete = there.bootable && there.manifest == Some(trial.manifest);
    if complete && trial.attempts_left > 0 {
        next.trial = Some(Trial {
            attempts_left: trial.attempts_left - 1,
            ..trial
        });
        return Selection {
            boot: Some(trial.set),
            reason: Reason::Trial,
            record: Some(next),
        };
    }
    next.trial = None;
    let reason = if trial.attempts_left == 0 {
        Reason::RolledBack
    } else {
        Reason::TrialDropped
    };
    next.set_bad(trial.set, reason == Reason::RolledBack);
    let after = select_committed(&next, facts);
    let reason = if after.reason == Reason::Default {
        reason
    } else {
        after.reason
    };
    Selection {
        boot: after.boot,
        reason,
        record: Some(next),
    }
}

/// Rows 4 to 6 and 8: nothing is counted and nothing is stored.
fn select_committed(record: &BootRecord, facts: [SetFacts; 2]) -> Selection {
    let (default, other) = (record.default, record.default.other());
    let floor = record.floor;
    let complete =
        |set: Set| set.of(facts).bootable && (set == default || set.of(facts).reaches(floor));
    let good = |set: Set| complete(set) && record.is_good(set, &set.of(facts));
    let (boot, reason) = if good(default) {
        (Some(default), Reason::Default)
    } else if good(other) {
        (Some(other), Reason::Fallback)
    } else if complete(default) {
        (Some(default), Reason::LastResort)
    } else if complete(other) {
        (Some(other), Reason::LastResort)
    } else {
        (None, Reason::Nothing)
    };
    Selection {
        boot,
        reason,
        record: None,
    }
}

/// Row 7: the set with the higher anti-rollback version is put on trial, the other one is the way back; a set alone is the
/// default. A lost record never makes a downgrade: the floor is what the journal and the sets say, whichever is higher.
fn rebuild(facts: [SetFacts; 2], journal_floor: u64) -> Selection {
    let version = |set: Set| set.of(facts).anti_rollback.unwrap_or(0);
    let usable = |set: Set| set.of(facts).bootable && set.of(facts).reaches(journal_floor);
    let (default, trial) = match (usable(Set::A), usable(Set::B)) {
        (true, true) if version(Set::B) > version(Set::A) => (Set::A, Some(Set::B)),
        (true, true) if version(Set::A) > version(Set::B) => (Set::B, Some(Set::A)),
        (true, _) => (Set::A, None),
        (false, true) => (Set::B, None),
        (false, false) => {
            return Selection {
                boot: None,
                reason: Reason::Nothing,
                record: None,
            };
        }
    };
    let manifest = |set: Set| set.of(facts).manifest.unwrap_or_default();
    let floor = journal_floor.max(version(default));
    let mut record = BootRecord::provisioned(default, floor, manifest(default));
    record.trial = trial.map(|set| Trial {
        set,
        attempts_left: ATTEMPTS_DEFAULT - 1,
        anti_rollback: version(set),
        manifest: manifest(set),
    });
    Selection {
        boot: trial.or(Some(default)),
        reason: Reason::RecordRebuilt,
        record: Some(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::digest::Sha256Digest;

    const OLD_MANIFEST: Sha256Digest = [5; 32];
    const NEW_MANIFEST: Sha256Digest = [6; 32];
    const GOOD: SetFacts = SetFacts {
        bootable: true,
        manifest: Some(OLD_MANIFEST),
        anti_rollback: Some(5),
    };
    const NEWER: SetFacts = SetFacts {
        bootable: true,
        manifest: Some(NEW_MANIFEST),
        anti_rollback: Some(6),
    };
    const EMPTY: SetFacts = SetFacts {
        bootable: false,
        manifest: None,
        anti_rollback: None,
    };

    fn committed() -> BootRecord {
        BootRecord::provisioned(Set::A, 5, OLD_MANIFEST).provisioned_twice(OLD_MANIFEST)
    }

    fn on_trial(attempts_left: u8) -> BootRecord {
        BootRecord {
            trial: Some(Trial {
                set: Set::B,
                attempts_left,
                anti_rollback: 6,
                manifest: NEW_MANIFEST,
            }),
            ..committed()
        }
    }

    fn choose(
        record: BootRecord,
        facts: [SetFacts; 2],
    ) -> (Option<Set>, Reason, Option<BootRecord>) {
        let selection = select(&Loaded::Record(record), facts, 0);
        (
            selection.boot(),
            selection.reason(),
            selection.record().copied(),
        )
    }

    #[test]
    fn row_1_spends_an_attempt_before_the_jump() {
        assert_eq!(
            choose(on_trial(3), [GOOD, NEWER]),
            (Some(Set::B), Reason::Trial, Some(on_trial(2)))
        );
        assert_eq!(
            choose(on_trial(1), [GOOD, NEWER]),
            (Some(Set::B), Reason::Trial, Some(on_trial(0)))
        );
    }

    #[test]
    fn row_2_rolls_back_and_remembers() {
        let after = BootRecord {
            bad: [false, true],
            ..committed()
        };
        assert_eq!(
            choose(on_trial(0), [GOOD, NEWER]),
            (Some(Set::A), Reason::RolledBack, Some(after))
        );
        assert_eq!(
            choose(after, [GOOD, NEWER]),
            (Some(Set::A), Reason::Default, None),
            "and stays there"
        );
    }

    #[test]
    fn row_3_drops_a_trial_whose_set_is_gone() {
        assert_eq!(
            choose(on_trial(2), [GOOD, EMPTY]),
            (Some(Set::A), Reason::TrialDropped, Some(committed()))
        );
    }

    #[test]
    fn row_3_drops_a_trial_of_something_else_than_was_installed() {
        assert_eq!(
            choose(on_trial(2), [GOOD, GOOD]),
            (Some(Set::A), Reason::TrialDropped, Some(committed()))
        );
    }

    #[test]
    fn row_5_never_takes_a_set_that_was_not_committed() {
        // The default set has been written over, and the power went before its trial was armed.
        assert_eq!(
            choose(committed(), [NEWER, GOOD]),
            (Some(Set::B), Reason::Fallback, None)
        );
        // A set without a proved manifest was not committed either: it is taken only when nothing else is left.
        let unproved = SetFacts {
            manifest: None,
            ..GOOD
        };
        assert_eq!(
            choose(committed(), [NEWER, unproved]),
            (Some(Set::A), Reason::LastResort, None)
        );
        assert_eq!(choose(committed(), [EMPTY, unproved]).1, Reason::LastResort);
    }

    #[test]
    fn row_4_writes_nothing_however_often() {
        for _ in 0..1000 {
            assert_eq!(
                choose(committed(), [GOOD, EMPTY]),
                (Some(Set::A), Reason::Default, None)
            );
        }
    }

    #[test]
    fn row_5_falls_back_but_never_below_the_floor() {
        let bad = BootRecord {
            bad: [true, false],
            ..committed()
        };
        assert_eq!(
            choose(bad, [GOOD, GOOD]),
            (Some(Set::B), Reason::Fallback, None)
        );
        assert_eq!(
            choose(committed(), [EMPTY, GOOD]),
            (Some(Set::B), Reason::Fallback, None)
        );
        let old = SetFacts {
            anti_rollback: Some(4),
            ..GOOD
        };
        assert_eq!(
            choose(bad, [GOOD, old]),
            (Some(Set::A), Reason::LastResort, None)
        );
        assert_eq!(
            choose(committed(), [EMPTY, old]),
            (None, Reason::Nothing, None)
        );
    }

    #[test]
    fn row_6_both_bad_still_boots_what_was_good_once() {
        let both = BootRecord {
            bad: [true, true],
            ..committed()
        };
        assert_eq!(
            choose(both, [GOOD, GOOD]),
            (Some(Set::A), Reason::LastResort, None)
        );
        assert_eq!(
            choose(both, [EMPTY, GOOD]),
            (Some(Set::B), Reason::LastResort, None)
        );
    }

    #[test]
    fn row_7_a_lost_record_costs_neither_floor_nor_way_back() {
        for lost in [Loaded::Blank, Loaded::Corrupt] {
            let selection = select(&lost, [GOOD, NEWER], 0);
            assert_eq!(
                (selection.boot(), selection.reason()),
                (Some(Set::B), Reason::RecordRebuilt)
            );
            let record = selection.record().unwrap();
            assert_eq!((record.default, record.floor), (Set::A, 5));
            assert_eq!(
                record.trial,
                Some(Trial {
                    set: Set::B,
                    attempts_left: 2,
                    anti_rollback: 6,
                    manifest: NEW_MANIFEST
                })
            );

            let alone = select(&lost, [GOOD, EMPTY], 0);
            assert_eq!(alone.record().unwrap().trial, None);
            assert_eq!(alone.boot(), Some(Set::A));
            let above = select(&lost, [GOOD, NEWER], 6);
            assert_eq!(above.boot(), Some(Set::B));
            assert_eq!(
                (
                    above.record().unwrap().default,
                    above.record().unwrap().floor
                ),
                (Set::B, 6)
            );
        }
    }

    #[test]
    fn row_8_nothing_to_boot_is_said() {
        assert_eq!(
            choose(committed(), [EMPTY, EMPTY]),
            (None, Reason::Nothing, None)
        );
        assert_eq!(select(&Loaded::Corrupt, [EMPTY, EMPTY], 0).boot(), None);
        assert_eq!(
            select(&Loaded::Corrupt, [GOOD, GOOD], 6).boot(),
            None,
            "below the journal's floor"
        );
    }

    #[test]
    fn what_rests_is_what_boots_without_the_trial() {
        assert_eq!(resting(&on_trial(3), [GOOD, NEWER]), Some(Set::A));
        // Set A has been written over and is on trial nowhere: booting it would be a trial without an end.
        assert_eq!(resting(&committed(), [NEWER, GOOD]), Some(Set::B));
        assert_eq!(resting(&committed(), [EMPTY, EMPTY]), None);
    }

    #[test]
    fn a_default_set_on_trial_does_not_rest() {
        // The default set's release was installed there again: it is the default set and on trial.
        let again = BootRecord {
            default: Set::B,
            committed: [Some(OLD_MANIFEST), Some(NEW_MANIFEST)],
            ..on_trial(2)
        };
        for attempts_left in 0..=2 {
            let mut record = again;
            record.trial = on_trial(attempts_left).trial;
            assert_eq!(resting(&record, [GOOD, NEWER]), Some(Set::A));
            assert_eq!(
                without_trial(&record, [GOOD, NEWER]).reason(),
                Reason::Fallback
            );
            assert_eq!(without_trial(&record, [GOOD, NEWER]).record(), None);
        }
        // The floor holds for the other set, which is no default set.
        let above = BootRecord { floor: 6, ..again };
        assert_eq!(resting(&above, [GOOD, NEWER]), None);
        assert_eq!(resting(&again, [EMPTY, NEWER]), None);
        // Nor does a set on trial rest because the default set is not good.
        let bad = BootRecord {
            bad: [true, false],
            committed: [Some(OLD_MANIFEST), Some(NEW_MANIFEST)],
            ..on_trial(2)
        };
        assert_eq!(resting(&bad, [GOOD, NEWER]), Some(Set::A));
    }

    #[test]
    fn stored_numbers_stay() {
        let reasons = [
            Reason::Trial,
            Reason::RolledBack,
            Reason::TrialDropped,
            Reason::Default,
            Reason::Fallback,
            Reason::LastResort,
            Reason::RecordRebuilt,
            Reason::Nothing,
        ];
        let mut buffer = [0; 4];
        for (number, reason) in reasons.iter().enumerate() {
            assert_eq!(
                postcard::to_slice(reason, &mut buffer).unwrap(),
                &[number as u8]
            );
        }
        assert_eq!(
            postcard::to_slice(&Set::BOTH, &mut buffer).unwrap(),
            &[0, 1]
        );
    }

    #[test]
    fn every_trial_ends() {
        let mut record = on_trial(ATTEMPTS_DEFAULT);
        let mut boots = std::vec::Vec::new();
        for _ in 0..6 {
            let (boot, _, next) = choose(record, [GOOD, NEWER]);
            boots.push(boot.unwrap());
            record = next.unwrap_or(record);
        }
        assert_eq!(boots, [Set::B, Set::B, Set::B, Set::A, Set::A, Set::A]);
    }
}
