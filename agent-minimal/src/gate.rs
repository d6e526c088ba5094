//! The gate: whether the boot record lets this set start, and an attempt spent before it does.
//!
//! Who tells the firmware to start a trial spends the attempt first and leaves the file `boot-attempt`: that start is paid. A trial
//! that starts without it (its boot slot was chosen in the firmware's menu, say) is paid here.
//!
//! # Invariants
//! - A set that a record says is on trial starts only when its attempt is off the record on the medium, and one payment is good
//!   for one start. Where no record can be read there is no trial to pay for.
//! - A set that is not on trial changes nothing here.
//!
//! # Power loss
//! `boot-attempt` is removed durably before the set starts; a cut in between costs the attempt, as every start does.

use crate::files::{self, OwnPath};
use crate::refusal::Refusal;
use rustix::fs::fsync;
use rustix::io::Errno;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::select::select;
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_platform_linux::FileRecordStore;
use twinseal_platform_linux::calls::unlink;
use twinseal_platform_linux::file::{if_there, join, open_directory_path};

/// What the boot record says about starting a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It is not on trial, or nobody says so: there is no record, it is lost, or the medium does not give it. A device whose record
    /// cannot be read still starts; that such a start is one of a trial and is not paid is the price, and the firmware has
    /// forgotten by then what it was told, so the start after it is the default set's.
    Open,
    /// It is on trial, and the attempt was spent before the restart.
    Paid,
    /// It is on trial, and an attempt was spent now.
    Spent {
        /// Attempts that are left.
        left: u8,
    },
}

impl Gate {
    /// Whether this start is one of a trial.
    #[must_use]
    pub const fn is_trial(self) -> bool {
        matches!(self, Self::Paid | Self::Spent { .. })
    }
}

/// Reads the boot record in the agent's state; `None` when there is no file.
///
/// # Errors
/// When it cannot be read, or takes no writes: then a set that is on trial cannot pay, and starts as from a lost record.
pub fn read_record(state: &str) -> Result<Option<Loaded>, StorageError> {
    match open_record(state)? {
        Some(mut store) => record::load(&mut store).map(Some),
        None => Ok(None),
    }
}

/// The same of a record that need not take writes; `None` as well when it cannot be read.
#[cfg(feature = "net")]
pub fn look_at_record(state: &str) -> Option<Loaded> {
    let store = FileRecordStore::open_to_read(&record_path(state).ok()?);
    record::load(&mut store.ok()??).ok()
}

/// The set that the record calls the default, for when nobody says which one is meant.
pub const fn default_set(loaded: Option<&Loaded>) -> Set {
    match loaded {
        Some(Loaded::Record(record)) => record.default_set(),
        _ => Set::A,
    }
}

/// Asks whether `set` may start, and spends what that costs.
///
/// # Errors
/// [`Refusal`] when the trial is used up, or its attempt cannot be spent.
pub fn pass(state: &str, loaded: Option<&Loaded>, set: Set) -> Result<Gate, Refusal> {
    let Some(Loaded::Record(record)) = loaded else {
        return Ok(Gate::Open);
    };
    if record.trial().is_none_or(|trial| trial.set != set) {
        return Ok(Gate::Open);
    }
    // A payment that cannot be taken away would be good for the next start too, so it is not taken.
    if matches!(take_payment(state), Ok(true)) {
        return Ok(Gate::Paid);
    }
    spend(state, record, set)
}

/// Removes `boot-attempt`, durably; gives whether it was there.
fn take_payment(state: &str) -> Result<bool, Errno> {
    let path: OwnPath = join(&[state, "/boot-attempt"])?;
    if if_there(unlink(path.as_str()))?.is_none() {
        return Ok(false);
    }
    fsync(open_directory_path(state)?)?;
    Ok(true)
}

fn spend(state: &str, record: &BootRecord, set: Set) -> Result<Gate, Refusal> {
    let not_stored = |error| Refusal::AttemptNotStored { set, error };
    // The firmware started this set by its signature; which manifest it holds is checked when it is committed.
    let facts = SetFacts {
        bootable: true,
        manifest: record.trial().map(|trial| trial.manifest),
        anti_rollback: record.trial().map(|trial| trial.anti_rollback),
    };
    let selection = select(&Loaded::Record(*record), [facts; 2], record.floor());
    let (true, Some(next)) = (
        selection.boot() == Some(set)
            && record.trial().is_some_and(|trial| trial.attempts_left > 0),
        selection.record(),
    ) else {
        return Err(Refusal::NoAttemptLeft { set });
    };
    let store = open_record(state).map_err(not_stored)?;
    let mut store = store.ok_or(not_stored(unreadable(StorageFault::Short)))?;
    let stored = record::store(&mut store, next).map_err(not_stored)?;
    let left = stored.trial().map_or(0, |trial| trial.attempts_left);
    Ok(Gate::Spent { left })
}

/// Opens the record's file, and never makes one: that would be a record of nothing.
fn open_record(state: &str) -> Result<Option<FileRecordStore>, StorageError> {
    let path = record_path(state)?;
    let there = files::exists(&path)
        .map_err(|errno| unreadable(StorageFault::Code(errno.raw_os_error())))?;
    there.then(|| FileRecordStore::open(&path)).transpose()
}

fn record_path(state: &str) -> Result<OwnPath, StorageError> {
    let path = join(&[state, "/boot-record"]);
    path.map_err(|errno| unreadable(StorageFault::Code(errno.raw_os_error())))
}

const fn unreadable(fault: StorageFault) -> StorageError {
    StorageError {
        operation: StorageOperation::Open,
        object: StorageObject::BootRecord,
        fault,
    }
}

#[cfg(test)]
pub(crate) mod tests;
