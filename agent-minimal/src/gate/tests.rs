//! The gate on a folder with the agent's state.

use super::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use twinseal_core::boot::select::ATTEMPTS_DEFAULT;

pub(crate) const MANIFEST: [u8; 32] = [7; 32];

/// Two sets of which B is newer: what a lost record is made into puts B on trial.
pub(crate) fn record_with_trial_of_b() -> BootRecord {
    record_with_trial(MANIFEST)
}

/// The same, with what set A committed.
pub(crate) fn record_with_trial(committed: [u8; 32]) -> BootRecord {
    let facts = |version| SetFacts {
        bootable: true,
        manifest: Some(committed),
        anti_rollback: Some(version),
    };
    let selection = select(&Loaded::Blank, [facts(1), facts(2)], 0);
    *selection.record().unwrap()
}

fn read_record(state: &Path) -> Result<Option<Loaded>, StorageError> {
    super::read_record(state.to_str().unwrap())
}

fn pass(state: &Path, loaded: Option<&Loaded>, set: Set) -> Result<Gate, Refusal> {
    super::pass(state.to_str().unwrap(), loaded, set)
}

struct State {
    folder: TempDir,
}

impl State {
    fn new(record: &BootRecord) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot-record");
        let mut store = FileRecordStore::open(path.to_str().unwrap()).unwrap();
        record::store(&mut store, record).unwrap();
        Self { folder }
    }

    fn pass(&self, set: Set) -> Result<Gate, Refusal> {
        let loaded = read_record(self.folder.path()).unwrap();
        pass(self.folder.path(), loaded.as_ref(), set)
    }

    fn pay(&self) {
        fs::write(self.folder.path().join("boot-attempt"), "").unwrap();
    }

    fn left(&self) -> u8 {
        match read_record(self.folder.path()).unwrap() {
            Some(Loaded::Record(record)) => record.trial().unwrap().attempts_left,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_payment_is_good_for_one_start() {
    let state = State::new(&record_with_trial_of_b());
    assert_eq!(state.left(), ATTEMPTS_DEFAULT - 1);
    state.pay();
    assert_eq!(state.pass(Set::B), Ok(Gate::Paid));
    assert_eq!(
        state.left(),
        ATTEMPTS_DEFAULT - 1,
        "spent before the restart"
    );
    assert_eq!(state.pass(Set::B), Ok(Gate::Spent { left: 1 }));
    assert_eq!(state.pass(Set::B), Ok(Gate::Spent { left: 0 }));
    assert_eq!(
        state.pass(Set::B),
        Err(Refusal::NoAttemptLeft { set: Set::B })
    );
    assert_eq!(state.left(), 0);
}

#[test]
fn a_start_that_was_paid_or_pays_is_one_of_a_trial() {
    assert!(Gate::Paid.is_trial());
    assert!(Gate::Spent { left: 0 }.is_trial());
    assert!(!Gate::Open.is_trial());
}

#[test]
fn the_last_start_is_allowed_when_it_was_paid() {
    let state = State::new(&record_with_trial_of_b());
    state.pass(Set::B).unwrap();
    state.pass(Set::B).unwrap();
    state.pay();
    assert_eq!(state.pass(Set::B), Ok(Gate::Paid));
    assert!(state.pass(Set::B).is_err());
}

#[test]
fn a_set_that_is_not_on_trial_costs_nothing() {
    let state = State::new(&record_with_trial_of_b());
    let before = fs::read(state.folder.path().join("boot-record")).unwrap();
    state.pay();
    for _ in 0..5 {
        assert_eq!(state.pass(Set::A), Ok(Gate::Open));
    }
    assert_eq!(
        fs::read(state.folder.path().join("boot-record")).unwrap(),
        before
    );
    assert!(state.folder.path().join("boot-attempt").exists());
}

#[test]
fn without_a_record_the_gate_is_open_and_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read_record(folder.path()), Ok(None));
    assert_eq!(pass(folder.path(), None, Set::A), Ok(Gate::Open));
    for state in [Loaded::Blank, Loaded::Corrupt] {
        assert_eq!(pass(folder.path(), Some(&state), Set::A), Ok(Gate::Open));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_record_that_cannot_be_read_is_said_and_opens_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever looks below a file is told so: no "there is none".
    let state = folder.path().join("a-file");
    fs::write(&state, "").unwrap();
    assert!(read_record(&state).is_err());
    std::os::unix::fs::symlink("boot-record", folder.path().join("boot-record")).unwrap();
    assert!(read_record(folder.path()).is_err());
    assert_eq!(pass(folder.path(), None, Set::B), Ok(Gate::Open));
}

#[test]
fn an_attempt_that_cannot_be_spent_stops_the_trial() {
    let state = State::new(&record_with_trial_of_b());
    let loaded = read_record(state.folder.path()).unwrap();
    fs::remove_file(state.folder.path().join("boot-record")).unwrap();
    let refused = pass(state.folder.path(), loaded.as_ref(), Set::B);
    assert!(
        matches!(refused, Err(Refusal::AttemptNotStored { set: Set::B, .. })),
        "{refused:?}"
    );
}
