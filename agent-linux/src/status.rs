//! `status`: everything that there is to know about the device, without changing anything.

use crate::clock::Utc;
use crate::config::Sealing;
use crate::device::{Device, anchor};
use crate::error::AgentError;
use crate::events::{self, Event, SetStatus, Status, Trial};
use crate::held::{Held, facts};
use crate::history::journal_event;
use crate::install::release_event;
use crate::keys::id_text;
use crate::report::{Outlet, warn};
use crate::slots::Places;
use crate::verdict::reboot_answer;
use twinseal_core::Error;
use twinseal_core::boot::Set;
use twinseal_core::boot::record::{BootRecord, Loaded};

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
    let reboot_needed = record
        .zip(running)
        .map(|(record, running)| reboot_answer(&record, running, facts(&held)).needed);
    let sets = Set::BOTH
        .into_iter()
        .zip(&held)
        .map(|(set, held)| set_status(set, held, record.as_ref()))
        .collect();
    outlet.tell(&Event::Status(Box::new(Status {
        compatible: device.description.compatible.as_str().to_owned(),
        trusted_keys: device.keys.iter().map(|key| id_text(&key.id())).collect(),
        running: running.map(|set| set.to_string()),
        verity: verity_name(device),
        boot_record: record_name(&loaded),
        default: record.map(|record| record.default_set().to_string()),
        trial: record.and_then(|record| record.trial()).map(|trial| Trial {
            set: trial.set.to_string(),
            attempts_left: trial.attempts_left,
            anti_rollback: trial.anti_rollback,
        }),
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

fn set_status(set: Set, held: &Held, record: Option<&BootRecord>) -> SetStatus {
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
        release,
        problem,
    }
}
