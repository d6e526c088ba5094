//! `mark-good`: commits the running set.
//!
//! The rules are core's (`twinseal_core::boot::trial`). A change is told to the journal first and stored second; an order that changes
//! nothing writes nothing. A journal that cannot be told is said and keeps no device from committing what runs well; the boot record then
//! keeps its old anchor, so the damage stays visible.
//!
//! # Power loss
//! The record is the old one or the new one; the same command, run again, finds out which and does the rest.

use crate::console::Stream;
use crate::description::Loader;
use crate::device::{Device, need_record};
use crate::error::AgentError;
use crate::held::Held;
use twinseal_core::boot::record::{self, Loaded};
use twinseal_core::boot::{Set, SetFacts, trial};
use twinseal_core::journal::{Event, Head};

/// Commits the running set.
///
/// # Errors
/// When the state of the device is not known, or the record cannot be stored.
pub fn mark_good(device: &Device) -> Result<(), AgentError> {
    device.need_data()?;
    // First: a set that was committed and whose starts stay counted would be refused.
    if let Ok(running) = device.running_set() {
        device.forget_starts(running)?;
    }
    if device.description.loader == Loader::SystemdBoot {
        return Err(AgentError::LoaderUnknown);
    }
    let _lock = device.lock()?;
    let loaded = device.load_record()?;
    let old = need_record(&loaded)?;
    let set = device.running_set()?;
    let mut facts = [Set::A, Set::B].map(|set| Held::look(device, set).facts());
    if device.has_stayed() {
        facts = SetFacts::not_starting(facts, set.other());
    }
    let next = trial::commit(&old, set, facts);
    if let Some(next) = &next {
        let floor = next.floor();
        let anchor = tell(
            device,
            &loaded,
            old.journal(),
            Event::Committed { set, floor },
        );
        record::store(
            &mut device.record_store()?,
            &next.with_notes(device.now(), anchor),
        )?;
        device.forget_stayed()?;
    }
    let record = next.as_ref().unwrap_or(&old);
    device.rest_loader(record, facts)?;
    let what = if next.is_some() {
        "committed"
    } else {
        "committed already"
    };
    Stream::Output.say(format_args!(
        "Set {set} is {what}; the floor is {}.",
        record.floor()
    ));
    Ok(())
}

/// Tells the journal; gives the anchor for a record that had `old`.
fn tell(device: &Device, loaded: &Loaded, old: Head, event: Event) -> Head {
    let told = device.journal(loaded).and_then(|mut journal| {
        journal.append(device.now().unwrap_or(0), event)?;
        Ok(journal.anchor(old))
    });
    told.unwrap_or_else(|error| {
        Stream::Error.say(format_args!("warning: This is not in the journal: {error}"));
        old
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Description;
    use crate::gate::tests::record_with_trial_of_b;
    use crate::keys::Keys;
    use std::fs;
    use tempfile::TempDir;
    use twinseal_core::boot::record::BootRecord;

    /// A device whose set B runs, on trial.
    fn device() -> (TempDir, Device) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for slot in ["boot-a", "root-a", "boot-b", "root-b", "state"] {
            fs::create_dir(path.join(slot)).unwrap();
        }
        fs::write(path.join("set"), "b\n").unwrap();
        let text = "compatible = \"x\"\nstate = \"state\"\nrunning = \"set\"\nclock = \"none\"\n\
                    [sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n";
        let description = Description::parse(text, path.to_str().unwrap()).unwrap();
        let keys = Keys::new();
        let device = Device { description, keys };
        let mut store = device.record_store().unwrap();
        record::store(&mut store, &record_with_trial_of_b()).unwrap();
        (folder, device)
    }

    #[test]
    fn a_running_trial_is_committed_once_and_told() {
        let (folder, device) = device();
        mark_good(&device).unwrap();
        let record = need_record(&device.load_record().unwrap()).unwrap();
        assert_eq!((record.default_set(), record.trial()), (Set::B, None));
        assert_eq!(record.floor(), 2);
        let journal = device.journal(&Loaded::Record(record)).unwrap();
        assert_eq!((journal.head().entries, journal.damage()), (1, None));
        assert_eq!(record.journal(), journal.head());
        fs::write(folder.path().join("set"), "c").unwrap();
        let refused = mark_good(&device);
        assert!(matches!(refused, Err(AgentError::RunningSetUnknown { .. })));
    }

    #[test]
    fn a_set_that_is_well_has_no_counted_starts() {
        let (folder, device) = device();
        let [of_a, of_b] =
            ["state/starts-a", "state/starts-b"].map(|name| folder.path().join(name));
        for _ in 0..2 {
            fs::write(&of_a, "..").unwrap();
            fs::write(&of_b, ".").unwrap();
            mark_good(&device).unwrap();
            assert!(of_a.exists() && !of_b.exists(), "the running set is b");
        }
    }

    #[test]
    fn a_set_that_runs_because_the_other_was_refused_becomes_the_default() {
        let (folder, device) = device();
        let mut store = device.record_store().unwrap();
        let [of_a, of_b] = [[1; 32], [2; 32]];
        let default_is_a = BootRecord::provisioned(Set::A, 1, of_a).provisioned_twice(of_b);
        record::store(&mut store, &default_is_a).unwrap();
        fs::write(folder.path().join("other-refused"), "").unwrap();
        assert!(device.has_stayed());
        mark_good(&device).unwrap();
        let record = need_record(&device.load_record().unwrap()).unwrap();
        assert_eq!(record.default_set(), Set::B);
        assert!(!device.has_stayed());
    }

    #[test]
    fn without_a_record_or_its_data_nothing_is_decided() {
        let (folder, device) = device();
        fs::write(folder.path().join("data-volatile"), "").unwrap();
        assert_eq!(mark_good(&device), Err(AgentError::DataVolatile));
        fs::remove_file(folder.path().join("data-volatile")).unwrap();
        fs::remove_file(device.description.record.as_str()).unwrap();
        assert_eq!(mark_good(&device), Err(AgentError::RecordBlank));
    }

    #[test]
    fn a_journal_that_does_not_hold_keeps_no_device_from_committing() {
        let (folder, device) = device();
        fs::write(folder.path().join("state/journal"), [7; 600]).unwrap();
        mark_good(&device).unwrap();
        let record = need_record(&device.load_record().unwrap()).unwrap();
        assert_eq!(record.default_set(), Set::B);
        assert_eq!(record.journal(), record_with_trial_of_b().journal());
    }
}
