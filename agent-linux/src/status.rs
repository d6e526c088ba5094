//! `status`: everything that there is to know about the device, without changing anything.

use crate::clock::Utc;
use crate::config::Sealing;
use crate::device::{Device, anchor};
use crate::error::AgentError;
use crate::events::{self, Event, LoaderStatus, SetStatus, Status, Trial};
use crate::held::{Held, facts};
use crate::history::journal_event;
use crate::install::release_event;
use crate::keys::id_text;
use crate::loader::resting_default;
use crate::marks;
use crate::report::{Outlet, warn};
use crate::secure_boot;
use crate::slots::Places;
use crate::verdict::reboot_answer;
use twinseal_core::Error;
use twinseal_core::boot::record::{BootRecord, Loaded};
use twinseal_core::boot::{Set, SetFacts};

/// `status`: looks at everything.
///
/// # Errors
/// None that a part of the device gives: what cannot be read is shown as such.
pub fn status(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    let loaded = device.load_record();
    let record = match &loaded {
        Ok(Loaded::Record(record)) => Some(*record),
        _ => None,
    };
    let running = device.running_set().ok();
    let held = Held::look_at_both(device, &Places::new(device));
    let reboot_needed = record.zip(running).map(|(record, running)| {
        reboot_answer(&record, running, facts(&held), marks::has_stayed(device)).needed
    });
    let sets = Set::BOTH
        .into_iter()
        .zip(&held)
        .map(|(set, held)| set_status(device, set, held, record.as_ref()))
        .collect();
    outlet.tell(&Event::Status(Box::new(Status {
        compatible: device.description.compatible.as_str().to_owned(),
        trusted_keys: device.keys.iter().map(|key| id_text(&key.id())).collect(),
        running: running.map(|set| set.to_string()),
        data_volatile: marks::is_data_volatile(device),
        verity: verity_name(device),
        boot_record: record_name(&loaded),
        default: record.map(|record| record.default_set().to_string()),
        trial: record.and_then(|record| record.trial()).map(|trial| Trial {
            set: trial.set.to_string(),
            attempts_left: trial.attempts_left,
            anti_rollback: trial.anti_rollback,
        }),
        secure_boot: secure_boot::is_on(&device.description),
        loader: loader(device, record.as_ref(), facts(&held)),
        floor: record.map(|record| record.floor()),
        highest_time: record
            .map(|record| record.highest_time())
            .filter(|time| *time > 0)
            .map(|time| Utc(time).to_string()),
        sets,
        journal: journal(device, loaded.as_ref().ok()),
        reboot_needed,
        busy: device.is_busy(),
    })));
    Ok(())
}

/// What the boot loader says. It agrees when its default is the set that rests, and what was told for the next boot is the set
/// that is on trial.
fn loader(
    device: &Device,
    record: Option<&BootRecord>,
    facts: [SetFacts; 2],
) -> Option<LoaderStatus> {
    let told = match device.loader.told() {
        Ok(told) => told?,
        Err(error) => {
            return Some(LoaderStatus {
                problem: Some(error.to_string()),
                ..LoaderStatus::default()
            });
        }
    };
    let agrees = record.map(|record| {
        let trial = record.trial().map(|trial| trial.set);
        told.default == resting_default(record, facts)
            && (told.next.is_none() || told.next == trial)
    });
    Some(LoaderStatus {
        default: told.default.map(|set| set.to_string()),
        next: told.next.map(|set| set.to_string()),
        agrees,
        problem: None,
    })
}

const fn verity_name(device: &Device) -> &'static str {
    match (&device.description.sets, device.description.verity) {
        (None, _) => "no root slots",
        (Some(_), Sealing::Required) => "sealed",
        (Some(_), Sealing::Absent) => "not sealed",
    }
}

const fn record_name(loaded: &Result<Loaded, AgentError>) -> &'static str {
    match loaded {
        Ok(Loaded::Record(_)) => "record",
        Ok(Loaded::Blank) => "blank",
        Ok(Loaded::Corrupt) => "corrupt",
        Err(_) => "unreadable",
    }
}

fn journal(device: &Device, loaded: Option<&Loaded>) -> events::Journal {
    match device.journal(loaded) {
        Ok(journal) => journal_event(device, &journal, anchor(loaded)),
        Err(error) => {
            warn(&error.to_string());
            events::Journal::default()
        }
    }
}

fn set_status(device: &Device, set: Set, held: &Held, record: Option<&BootRecord>) -> SetStatus {
    let (release, problem) = match &held.release {
        Ok(release) => (release.as_ref().map(release_event), None),
        Err(error @ AgentError::Core(Error::BundleInvalid(_) | Error::PolicyRefused(_))) => {
            (None, Some(format!("signature cannot be proved: {error}")))
        }
        Err(error) => (None, Some(format!("cannot be looked at: {error}"))),
    };
    SetStatus {
        set: set.to_string(),
        bootable: held.bootable,
        marked_bad: record.is_some_and(|record| record.is_bad(set)),
        counted_starts: marks::counted_starts(device, set),
        release,
        problem,
    }
}
