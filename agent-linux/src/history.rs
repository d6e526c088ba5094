//! `history`: the journal for people and programs, its proof, and what to do with one that does not hold.

use crate::clock::Utc;
use crate::device::{Device, anchor};
use crate::error::AgentError;
use crate::events::{self, Event, Happened};
use crate::exit;
use crate::journal::{Damage, Journal};
use crate::keys::{hex, id_text};
use crate::report::{Outlet, count, warn};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use twinseal_core::boot::record::{self, Loaded};
use twinseal_core::boot::select::Reason;
use twinseal_core::journal::{Entry, Event as Noted, Head, HealthFailure, Release, RepairSource};

/// How many journals may be set aside: more, and somebody must look first.
const SET_ASIDE_MAX: u32 = 1000;

/// `history`: shows every entry that holds; with `verify`, how the chain ends and whether the boot record vouches for it.
///
/// # Errors
/// With `verify`, [`AgentError::JournalBroken`].
pub fn history(device: &Device, verify: bool, outlet: &mut Outlet) -> Result<(), AgentError> {
    let loaded = record_if_readable(device);
    let anchor = anchor(loaded.as_ref());
    let journal = Journal::open(
        &device.journal_file(),
        anchor,
        device.description.clock,
        |entry, _| {
            outlet.tell(&Event::Entry(entry_event(entry)));
        },
    )?;
    let damage = journal.damage();
    if verify {
        outlet.tell(&Event::Journal(journal_event(device, &journal, anchor)));
    }
    match damage.map(|problem| AgentError::JournalBroken { problem }) {
        Some(error) if verify => Err(error),
        Some(error) => {
            warn(&error.to_string());
            Ok(())
        }
        None => Ok(()),
    }
}

/// `history --set-aside`: moves a journal that does not hold away and starts a new chain; the boot record vouches for the new one
/// from then on. A journal that holds stays.
///
/// # Errors
/// When it cannot be moved, or the boot record cannot be stored.
pub fn set_aside(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    device.need_data()?;
    let _lock = device.lock()?;
    let loaded = record_if_readable(device);
    let damage = device.journal(loaded.as_ref())?.damage();
    let mut file = None;
    if damage.is_some() {
        file = move_away(device)?;
        if let Some(Loaded::Record(old)) = loaded {
            record::store(
                &mut device.record_store()?,
                &old.with_notes(device.now(), Head::START),
            )?;
        }
    }
    outlet.tell(&Event::SetAside(events::SetAside {
        file: file.map(|file| file.display().to_string()),
        damage: damage.map(|damage| damage.to_string()),
    }));
    Ok(())
}

/// How a journal ends and whether it holds, as an event.
pub fn journal_event(device: &Device, journal: &Journal, anchor: Option<Head>) -> events::Journal {
    let first_bad_entry = match journal.damage() {
        Some(Damage::Chain { entry }) => Some(entry),
        _ => None,
    };
    events::Journal {
        entries: journal.head().entries,
        chain_holds: first_bad_entry.is_none(),
        first_bad_entry,
        torn_bytes: journal.torn_bytes(),
        anchor_entries: anchor.map(|anchor| anchor.entries),
        anchor_holds: anchor.map(|_| journal.anchor_holds()),
        set_aside: journals_set_aside(device)
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
    }
}

/// The short name of a reason: that of its row in the table of boot states.
pub const fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Trial => "trial",
        Reason::RolledBack => "rolled-back",
        Reason::TrialDropped => "trial-dropped",
        Reason::Default => "default",
        Reason::Fallback => "fallback",
        Reason::LastResort => "last-resort",
        Reason::RecordRebuilt => "record-rebuilt",
        Reason::Nothing => "nothing",
    }
}

/// The boot record, when there is one that can be read: the journal is shown without it too.
fn record_if_readable(device: &Device) -> Option<Loaded> {
    device.load_record().ok()
}

fn move_away(device: &Device) -> Result<Option<PathBuf>, AgentError> {
    let journal = device.journal_file();
    if !journal.exists() {
        return Ok(None);
    }
    let failed = |error| AgentError::File {
        file: journal.clone(),
        done: "moved",
        error,
    };
    let mut free =
        (1..=SET_ASIDE_MAX).map(|number| device.state(&format!("journal.broken-{number}")));
    let to = free
        .find(|file| !file.exists())
        .ok_or_else(|| failed(io::ErrorKind::AlreadyExists.into()))?;
    fs::rename(&journal, &to)
        .and_then(|()| sync_folder(&device.description.state))
        .map_err(failed)?;
    Ok(Some(to))
}

fn journals_set_aside(device: &Device) -> Vec<PathBuf> {
    let files = (1..=SET_ASIDE_MAX).map(|number| device.state(&format!("journal.broken-{number}")));
    files.take_while(|file| file.exists()).collect()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn entry_event(entry: &Entry) -> events::Entry {
    events::Entry {
        number: entry.number,
        time: (entry.time > 0).then(|| Utc(entry.time).to_string()),
        text: sentence(&entry.event),
        what: happened(&entry.event),
    }
}

fn release(release: &Release) -> events::Release {
    events::Release {
        version: release.version.as_str().to_owned(),
        anti_rollback: release.anti_rollback,
        manifest: hex(&release.manifest),
        signers: release.signers.iter().map(id_text).collect(),
    }
}

fn named(release: &Release) -> String {
    let signers: Vec<String> = release.signers.iter().map(id_text).collect();
    let (version, floor) = (&release.version, release.anti_rollback);
    format!(
        "version {version} (anti-rollback {floor}, signed by {}, manifest {})",
        signers.join(", "),
        hex(&release.manifest)
    )
}

fn sentence(event: &Noted) -> String {
    match event {
        Noted::Provisioned { set, release } => {
            format!("Provisioned with {} in set {set}.", named(release))
        }
        Noted::InstallStarted { set, release } => {
            format!("Install of {} into set {set} began.", named(release))
        }
        Noted::InstallCompleted {
            set,
            source_bytes,
            written_bytes,
            present_bytes,
            patch_bytes,
            damaged_bases,
            ..
        } => {
            let damaged = match damaged_bases {
                0 => String::new(),
                1 => " 1 blob of the running set proved damaged.".to_owned(),
                many => format!(" {many} blobs of the running set proved damaged."),
            };
            format!(
                "Set {set} is complete: {source_bytes} bytes read ({patch_bytes} of patches), {written_bytes} written, {present_bytes} were there already.{damaged}"
            )
        }
        Noted::InstallFailed {
            set,
            exit_code,
            source_bytes,
            target_touched,
            ..
        } => {
            let touched = if *target_touched {
                "the set is not bootable"
            } else {
                "nothing was written"
            };
            let name = exit::name(*exit_code);
            format!(
                "Install into set {set} failed with exit code {exit_code} ({name}) after {source_bytes} bytes; {touched}."
            )
        }
        Noted::TrialArmed { set, attempts } => {
            format!(
                "Set {set} is the next trial, with {}.",
                count(*attempts, "attempt")
            )
        }
        Noted::Booted {
            set: Some(set),
            reason: Reason::Trial,
            attempts_left,
        } => {
            format!(
                "Set {set} was chosen to boot on trial, with {} left.",
                count(*attempts_left, "attempt")
            )
        }
        Noted::Booted {
            set: Some(set),
            reason,
            ..
        } => format!("Set {set} was chosen to boot ({}).", reason_name(*reason)),
        Noted::Booted {
            set: None, reason, ..
        } => format!("No set could be booted ({}).", reason_name(*reason)),
        Noted::Committed { set, floor } => {
            format!("Set {set} was committed; the floor is {floor}.")
        }
        Noted::MarkedBad { set } => format!("Set {set} was marked bad."),
        Noted::WentBack { set } => format!("Set {set} was made the default by hand."),
        Noted::TailCut { bytes } => {
            format!("Power was lost during an entry: {bytes} bytes of it were cut off.")
        }
        Noted::Stayed { running, chosen } => format!(
            "The firmware booted set {running} although it had been told to boot set {chosen}."
        ),
        Noted::HealthPassed {
            set,
            checks,
            objects,
            bytes,
        } => format!(
            "Set {set} passed {}; {} of it ({bytes} bytes) could be read.",
            count(*checks, "health check"),
            count(*objects, "object")
        ),
        Noted::HealthFailed { set, failure } => {
            format!("Set {set} failed on trial: {}.", failure_text(failure))
        }
        Noted::ObjectRepaired { set, object, from } => format!(
            "Object {object} of set {set} was damaged and is replaced from the {}.",
            source_name(*from)
        ),
        Noted::FirmwareNotAsked { set } => format!(
            "The install into set {set} does not ask whether the firmware would start its UKI (--no-firmware-check)."
        ),
    }
}

/// Why a health check failed, as the end of a sentence.
pub fn failure_text(failure: &HealthFailure) -> String {
    match failure {
        HealthFailure::NoChecks => "there is no health check".to_owned(),
        HealthFailure::CheckFailed { name, exit_code } => {
            format!("the check {name} ended with exit code {exit_code}")
        }
        HealthFailure::CheckTimedOut {
            name,
            limit_seconds,
        } => format!("the check {name} did not end within {limit_seconds} s"),
        HealthFailure::CheckUnusable { name } => {
            format!("the check {name} could not be started")
        }
        HealthFailure::ObjectDamaged { object } => {
            format!("object {object} is missing or damaged")
        }
        HealthFailure::SlotUnreadable => {
            "its root slot could not be looked through, or what it holds cannot be proved"
                .to_owned()
        }
    }
}

/// The same as a value.
pub fn failure_event(failure: &HealthFailure) -> events::HealthFailure {
    match failure {
        HealthFailure::NoChecks => events::HealthFailure::NoChecks,
        HealthFailure::CheckFailed { name, exit_code } => events::HealthFailure::CheckFailed {
            check: name.as_str().to_owned(),
            exit_code: *exit_code,
        },
        HealthFailure::CheckTimedOut {
            name,
            limit_seconds,
        } => events::HealthFailure::CheckTimedOut {
            check: name.as_str().to_owned(),
            limit_seconds: *limit_seconds,
        },
        HealthFailure::CheckUnusable { name } => events::HealthFailure::CheckUnusable {
            check: name.as_str().to_owned(),
        },
        HealthFailure::ObjectDamaged { object } => events::HealthFailure::ObjectDamaged {
            object: object.to_string(),
        },
        HealthFailure::SlotUnreadable => events::HealthFailure::SlotUnreadable,
    }
}

const fn source_name(from: RepairSource) -> &'static str {
    match from {
        RepairSource::Bundle => "bundle",
        RepairSource::OtherSet => "other set",
    }
}

fn happened(event: &Noted) -> Happened {
    match event {
        Noted::Provisioned { set, release: what } => Happened::Provisioned {
            set: set.to_string(),
            release: release(what),
        },
        Noted::InstallStarted { set, release: what } => Happened::InstallStarted {
            set: set.to_string(),
            release: release(what),
        },
        Noted::InstallCompleted {
            set,
            manifest,
            source_bytes,
            written_bytes,
            present_bytes,
            patch_bytes,
            damaged_bases,
        } => Happened::InstallCompleted {
            set: set.to_string(),
            manifest: hex(manifest),
            source_bytes: *source_bytes,
            written_bytes: *written_bytes,
            present_bytes: *present_bytes,
            patch_bytes: *patch_bytes,
            damaged_bases: *damaged_bases,
        },
        Noted::InstallFailed {
            set,
            manifest,
            exit_code,
            source_bytes,
            target_touched,
        } => Happened::InstallFailed {
            set: set.to_string(),
            manifest: manifest.as_ref().map(|manifest| hex(manifest)),
            exit_code: *exit_code,
            name: exit::name(*exit_code),
            source_bytes: *source_bytes,
            target_touched: *target_touched,
        },
        Noted::TrialArmed { set, attempts } => Happened::TrialArmed {
            set: set.to_string(),
            attempts: *attempts,
        },
        Noted::Booted {
            set,
            reason,
            attempts_left,
        } => Happened::Booted {
            set: set.map(|set| set.to_string()),
            reason: reason_name(*reason),
            attempts_left: *attempts_left,
        },
        Noted::Committed { set, floor } => Happened::Committed {
            set: set.to_string(),
            floor: *floor,
        },
        Noted::MarkedBad { set } => Happened::MarkedBad {
            set: set.to_string(),
        },
        Noted::WentBack { set } => Happened::WentBack {
            set: set.to_string(),
        },
        Noted::TailCut { bytes } => Happened::TailCut { bytes: *bytes },
        Noted::Stayed { running, chosen } => Happened::Stayed {
            running: running.to_string(),
            chosen: chosen.to_string(),
        },
        Noted::HealthPassed {
            set,
            checks,
            objects,
            bytes,
        } => Happened::HealthPassed {
            set: set.to_string(),
            checks: *checks,
            objects: *objects,
            bytes: *bytes,
        },
        Noted::HealthFailed { set, failure } => Happened::HealthFailed {
            set: set.to_string(),
            failure: failure_event(failure),
        },
        Noted::ObjectRepaired { set, object, from } => Happened::ObjectRepaired {
            set: set.to_string(),
            object: object.to_string(),
            from: source_name(*from),
        },
        Noted::FirmwareNotAsked { set } => Happened::FirmwareNotAsked {
            set: set.to_string(),
        },
    }
}
