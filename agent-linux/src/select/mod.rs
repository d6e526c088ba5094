//! `select`: the choice of a set at boot.
//!
//! On a board without a boot loader that chooses, an initramfs or a boot script runs it once for each boot, with the agent's state
//! mounted, and boots the set that it prints. Where the firmware chooses, the running system does it (`firmware`). The choice itself
//! is core's (`twinseal_core::boot::select`); this gathers the facts and keeps the order.
//!
//! # Invariants
//! - The record is stored before anything else happens: an attempt is spent before the jump.
//! - An attempt that cannot be stored is not made: what would boot without the set on trial boots instead, and the medium gets
//!   another chance later.
//! - Without the data partition nothing is chosen, stored or told: what is in memory in its place says nothing about the device.
//! - Nothing but a missing set keeps a device from booting: a journal, a key or a lock that fails gives a warning.
//!
//! # Power loss
//! Before the record is stored nothing was decided. After it, the attempt is spent, whatever happens.

mod firmware;

use crate::audit::Audit;
use crate::cli::SelectArguments;
use crate::device::{Device, anchor};
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::held::{Held, facts};
use crate::history::reason_name;
use crate::marks;
use crate::report::{Outlet, warn};
use crate::slots::Places;
use twinseal_core::Error;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::select::{Reason, Selection, select, without_trial};
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::error::{StorageError, StorageFault};
use twinseal_core::journal::{Event as Noted, Head};

/// What is going to boot.
#[derive(Clone, Copy)]
struct Choice {
    set: Option<Set>,
    reason: Reason,
    attempts_left: u8,
}

/// `select`: chooses, stores, tells.
///
/// # Errors
/// [`AgentError::NothingToBoot`]; `Busy` when another process is at work on the device.
pub fn select_set(
    device: &Device,
    arguments: SelectArguments,
    outlet: &mut Outlet,
) -> Result<(), AgentError> {
    if marks::is_data_volatile(device) {
        return stay_without_data(device, outlet);
    }
    let _lock = match device.lock() {
        Ok(lock) => Some(lock),
        Err(
            error @ AgentError::Core(Error::Storage(StorageError {
                fault: StorageFault::Busy,
                ..
            })),
        ) => return Err(error),
        Err(error) => {
            warn(&error.to_string());
            None
        }
    };
    let loaded = device.load_record().unwrap_or_else(|error| {
        warn(&error.to_string());
        Loaded::Corrupt
    });
    let mut audit = Audit::open(device, Some(&loaded));
    let facts = facts(&Held::look_at_both(device, &Places::new(device)));
    if device.loader.is_there() {
        let case = firmware::Case {
            device,
            loaded,
            facts,
            audit,
        };
        return case.follow(arguments.restart, outlet);
    }
    let selection = select(&loaded, facts, audit.past().floor);
    let (choice, record) = settle(device, &loaded, &selection, facts, &audit);
    audit.tell(Noted::Booted {
        set: choice.set,
        reason: choice.reason,
        attempts_left: choice.attempts_left,
    });
    let Some(set) = choice.set else {
        return Err(AgentError::NothingToBoot);
    };
    if let Err(error) = device.write_running_set(set) {
        warn(&error.to_string());
    }
    mark_trial(device, record.as_ref(), set);
    outlet.tell(&Event::Selected(events::Selected {
        set: set.to_string(),
        reason: reason_name(choice.reason),
        attempts_left: choice.attempts_left,
        running: None,
        restart: false,
    }));
    Ok(())
}

/// Without the data partition there is no boot record, no journal and no mark: the running set goes on, and nobody is told anything.
fn stay_without_data(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    let running = device.running_set()?.to_string();
    warn(&AgentError::DataVolatile.to_string());
    outlet.tell(&Event::Selected(events::Selected {
        set: running.clone(),
        reason: "data-volatile",
        attempts_left: 0,
        running: Some(running),
        restart: false,
    }));
    Ok(())
}

/// Says beside the running set whether it is on trial.
fn mark_trial(device: &Device, record: Option<&BootRecord>, running: Set) {
    let trial = record.and_then(BootRecord::trial);
    let on_trial = trial.is_some_and(|trial| trial.set == running);
    if let Err(error) = marks::note_on_trial(device, on_trial) {
        warn(&error.to_string());
    }
}

/// Stores the record of a selection, if it has one, and gives what may boot after that, and the record as stored.
fn settle(
    device: &Device,
    loaded: &Loaded,
    selection: &Selection,
    facts: [SetFacts; 2],
    audit: &Audit,
) -> (Choice, Option<BootRecord>) {
    let before = match loaded {
        Loaded::Record(record) => Some(*record),
        Loaded::Blank | Loaded::Corrupt => None,
    };
    let chosen = Choice {
        set: selection.boot(),
        reason: selection.reason(),
        attempts_left: 0,
    };
    let Some(record) = selection.record() else {
        return (chosen, before);
    };
    let old = anchor(Some(loaded)).unwrap_or(Head::START);
    let next = record.with_notes(device.now(), audit.anchor(old));
    let stored = device
        .record_store()
        .and_then(|mut store| Ok(record::store(&mut store, &next)?));
    match stored {
        Ok(stored) => {
            let attempts_left = stored.trial().map_or(0, |trial| trial.attempts_left);
            let choice = Choice {
                attempts_left,
                ..chosen
            };
            (choice, Some(stored))
        }
        Err(error) => {
            warn(&format!("The choice could not be stored: {error}"));
            (unstored(record, chosen, facts), before)
        }
    }
}

/// What boots when the record could not be stored: never the trial, whose attempts would not run out.
fn unstored(record: &BootRecord, chosen: Choice, facts: [SetFacts; 2]) -> Choice {
    match record.trial() {
        Some(trial) if Some(trial.set) == chosen.set => {
            let selection = without_trial(record, facts);
            Choice {
                set: selection.boot(),
                reason: selection.reason(),
                attempts_left: 0,
            }
        }
        _ => chosen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinseal_core::boot::record::Trial;

    /// Set b is the default set and on trial: its release was installed there again.
    fn default_set_on_trial() -> BootRecord {
        let record = BootRecord::provisioned(Set::A, 1, [1; 32]).provisioned_twice([1; 32]);
        let mut value = serde_json::to_value(record).unwrap();
        value["default"] = serde_json::to_value(Set::B).unwrap();
        let trial = Trial {
            set: Set::B,
            attempts_left: 2,
            anti_rollback: 1,
            manifest: [1; 32],
        };
        value["trial"] = serde_json::to_value(trial).unwrap();
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_attempt_of_the_default_set_that_cannot_be_stored_is_not_made() {
        let record = default_set_on_trial();
        let there = SetFacts {
            bootable: true,
            manifest: Some([1; 32]),
            anti_rollback: Some(1),
        };
        let trial = Choice {
            set: Some(Set::B),
            reason: Reason::Trial,
            attempts_left: 2,
        };
        let choice = unstored(&record, trial, [there; 2]);
        assert_eq!(
            (choice.set, choice.reason, choice.attempts_left),
            (Some(Set::A), Reason::Fallback, 0)
        );
        let gone = [SetFacts::default(), there];
        assert_eq!(unstored(&record, trial, gone).set, None);
    }
}
