//! The commands `plan` and `install`: a bundle into the set that is not running.
//!
//! # Order of an install
//! 1. lock; boot record; running set; journal, which must hold;
//! 2. what the target set holds is proved anew; core verifies and plans; nothing has been written;
//! 3. the plan fits: the journal says that the install began; a boot loader forgets the target; a pending trial of it is called off
//!    in the record, and only then the target set is made unbootable;
//! 4. core writes, reads back, and makes the set bootable as its last step; the UKI comes first, and one that this machine's
//!    firmware would refuse ends the install there;
//! 5. the journal says that it is complete and that a trial is armed, then the record arms it;
//! 6. where the firmware jumps, the first attempt is spent: in the record, then by a mark for the initramfs; last the loader is told.
//!
//! # Power loss
//! Before 3 nothing has changed. Between 3 and 5 the running set is the default and the target is in no record: the device boots
//! what ran, and the next `install` goes on. In 5 the set is complete but not on trial until the record is stored; the next
//! `install` finds everything there and arms it. In 6 what ran boots again, and its `select` spends an attempt and tells the loader.
//! A refused bundle leaves the boot record as it is, byte for byte.

use crate::audit::required;
use crate::cli::{BundleArguments, InstallArguments, PlanArguments};
use crate::config::Rate;
use crate::device::{Device, need_record};
use crate::error::AgentError;
use crate::events::Event;
use crate::held::Held;
use crate::install::{
    Decision, Done, Order, Releases, Stopped, Target, install, installed_event, journal_release,
};
use crate::journal::{Journal, Past};
use crate::marks;
use crate::report::Outlet;
use crate::secure_boot;
use crate::slots::{Access, Places};
use crate::source::{Bundle, Terms, Timing, closing};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::trial;
use twinseal_core::install::Plan;
use twinseal_core::journal::Event as Noted;
use twinseal_core::verify::Verified;
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::manifest::Manifest;
use twinseal_platform_linux::FileRecordStore;

/// The state that an update starts from.
struct Start {
    running: Set,
    record: BootRecord,
    /// The record with a pending trial of the target called off; `None` when there is none.
    cleared: Option<BootRecord>,
    places: Places,
}

/// How an install goes about it.
#[derive(Clone, Copy)]
struct Manner {
    /// Every blob is read back.
    read_back: bool,
    /// The firmware's variables are asked whether it would start the UKI.
    ask_firmware: bool,
    /// Bytes a second that the plan reckons with, other than those that are kept to.
    rate: Option<Rate>,
}

/// `plan`: shows what an install would do.
///
/// # Errors
/// What an install would be refused for.
pub fn plan(
    device: &Device,
    arguments: &PlanArguments,
    outlet: &mut Outlet,
) -> Result<(), AgentError> {
    device.need_data()?;
    let _lock = device.lock()?;
    let loaded = device.load_record()?;
    let journal = device.journal(Some(&loaded))?;
    let start = start(device, &loaded, device.running_set()?)?;
    let decline = |_: &Plan, _: &Verified<Manifest>| Ok(Decision::Decline);
    // A plan reads no UKI, so there is nothing to ask about.
    let manner = Manner {
        read_back: true,
        ask_firmware: false,
        rate: arguments.rate,
    };
    let timing = Timing {
        rate: arguments.bundle.max_rate,
        closing: None,
    };
    let terms = Terms::of_run(device, arguments.bundle.budget, timing);
    transfer(
        &terms,
        &start,
        &journal.past(),
        &arguments.bundle,
        manner,
        outlet,
        decline,
    )
    .map(|_| ())
    .map_err(|stopped| stopped.error)
}

/// `install`: installs a bundle and arms its trial.
///
/// # Errors
/// Why it was refused or failed; the journal has it too.
pub fn install_bundle(
    device: &Device,
    arguments: &InstallArguments,
    outlet: &mut Outlet,
) -> Result<(), AgentError> {
    device.need_data()?;
    let bundle = &arguments.bundle;
    let timing = Timing {
        rate: bundle.max_rate,
        // Before the journal is told: a timer may come many times a day.
        closing: closing(device, &bundle.source, bundle.window)?,
    };
    let _lock = device.lock()?;
    let mut store = device.record_store()?;
    let loaded = record::load(&mut store)?;
    let running = device.running_set()?;
    let mut journal = required(device, Some(&loaded))?;
    let was_interrupted = journal.past().is_unfinished(running.other());
    let terms = Terms::of_install(device, bundle.budget, timing, was_interrupted);
    attempt(
        &terms,
        arguments,
        &loaded,
        running,
        &mut store,
        &mut journal,
        outlet,
    )
    .map_err(|stopped| stopped.told(running.other(), &mut journal))
}

fn attempt(
    terms: &Terms<'_>,
    arguments: &InstallArguments,
    loaded: &Loaded,
    running: Set,
    store: &mut FileRecordStore,
    journal: &mut Journal,
    outlet: &mut Outlet,
) -> Result<(), Stopped> {
    let device = terms.device();
    let start = start(device, loaded, running)?;
    let target = running.other();
    let mut record = start.record;
    let past = journal.past();
    let firmware_checks = secure_boot::is_on(&device.description) == Some(true);
    let accept = |_: &Plan, manifest: &Verified<Manifest>| {
        journal.append(Noted::InstallStarted {
            set: target,
            release: journal_release(manifest),
        })?;
        if arguments.no_firmware_check && firmware_checks {
            journal.append(Noted::FirmwareNotAsked { set: target })?;
        }
        device.loader.rest(Some(running))?;
        if device.loader.is_there() {
            marks::forget_attempt(device)?;
        }
        if let Some(cleared) = start.cleared {
            record = record::store(store, &cleared.with_notes(device.now(), journal.head()))?;
        }
        Ok(Decision::Accept)
    };
    let manner = Manner {
        read_back: !arguments.no_read_back,
        ask_firmware: !arguments.no_firmware_check,
        rate: None,
    };
    let done = transfer(
        terms,
        &start,
        &past,
        &arguments.bundle,
        manner,
        outlet,
        accept,
    );
    // Also where nothing came of it: an address where nothing is costs a request.
    let done = done.map_err(|stopped| Stopped {
        source_bytes: stopped.source_bytes.max(terms.network_bytes()),
        ..stopped
    })?;
    let Some(done) = done else {
        return Ok(());
    };
    let attempts = (!arguments.no_trial).then(|| {
        arguments
            .attempts
            .unwrap_or(device.description.trial_attempts)
    });
    complete(device, &done, target, attempts, &record, store, journal).map_err(|error| {
        Stopped {
            error,
            manifest: Some(Box::new(*done.installed.manifest().manifest_sha256())),
            source_bytes: done.source_bytes,
            target_touched: true,
        }
    })?;
    outlet.tell(&installed_event(target, &done, attempts));
    Ok(())
}

/// The set is complete: tells the journal, then arms the trial.
fn complete(
    device: &Device,
    done: &Done,
    target: Set,
    attempts: Option<u8>,
    record: &BootRecord,
    store: &mut FileRecordStore,
    journal: &mut Journal,
) -> Result<(), AgentError> {
    done.tell(target, journal)?;
    if let Some(attempts) = attempts {
        journal.append(Noted::TrialArmed {
            set: target,
            attempts,
        })?;
        marks::renew_etc(device, target)?;
        let armed = trial::arm(record, &done.installed, target, attempts);
        let armed = record::store(store, &armed.with_notes(device.now(), journal.head()))?;
        if device.loader.is_there() {
            send_firmware(device, &armed, target, store)?;
        }
    }
    Ok(())
}

/// The firmware jumps without asking anybody, so the first attempt is spent now.
fn send_firmware(
    device: &Device,
    armed: &BootRecord,
    target: Set,
    store: &mut FileRecordStore,
) -> Result<(), AgentError> {
    if let Some(spent) = trial::spend_attempt(armed) {
        record::store(store, &spent)?;
    }
    marks::note_attempt(device)?;
    device.loader.jump(target, Some(target.other()))
}

/// What an update starts from, or why there may be none now.
fn start(device: &Device, loaded: &Loaded, running: Set) -> Result<Start, AgentError> {
    let record = need_record(loaded)?;
    let cleared = trial::clear_for_install(&record, running)?;
    let places = Places::new(device);
    let target = running.other();
    // After mark-bad or rollback the other set is the default before the restart: it is the only way back. A set that the
    // firmware refused to boot, which only a restart shows, is no way back.
    if record.default_set() == target
        && !marks::has_stayed(device)
        && record.is_good(target, &Held::look(device, &places, target).facts())
    {
        return Err(AgentError::RestartFirst { target });
    }
    Ok(Start {
        running,
        record,
        cleared,
        places,
    })
}

fn transfer<D>(
    terms: &Terms<'_>,
    start: &Start,
    past: &Past,
    arguments: &BundleArguments,
    manner: Manner,
    outlet: &mut Outlet,
    decide: D,
) -> Result<Option<Done>, Stopped>
where
    D: FnMut(&Plan, &Verified<Manifest>) -> Result<Decision, AgentError>,
{
    let target = start.running.other();
    let device = terms.device();
    let mut bundle = Bundle::open(&arguments.source, terms)?;
    let running_set = start.places.open(start.running, Access::Read)?;
    let target_set = start.places.open(target, Access::Write)?;
    let trust = if manner.ask_firmware {
        secure_boot::trusted(&device.description, target_set.boot())?
    } else {
        None
    };
    let network = &device.description.network;
    let order = Order {
        device,
        target,
        policy: Policy {
            compatible: device.description.compatible.as_str(),
            floor: start.record.floor(),
            now: device.now(),
            highest_time_seen: start.record.highest_time().max(past.highest_time),
        },
        budget: bundle.limit(arguments.budget),
        audit: !arguments.no_audit && bundle.is_free_to_read(),
        interrupted: past.interrupted(target),
        read_back: manner.read_back,
        rate: manner.rate.or(arguments.max_rate).or(network.max_rate),
        window: arguments.window.or(network.window),
    };
    let held = [
        Held::of(device, &target_set),
        Held::of(device, &running_set),
    ];
    // A route leaves out what the base has: it must have been committed there, and not found wanting since.
    let is_base = |set: Set, held: &Held| start.record.is_good(set, &held.facts());
    let [in_target, in_running] = &held;
    let slots = Target {
        places: &start.places,
        running: &running_set,
        target: &target_set,
        probe_images: past.is_unfinished(target),
        firmware: trust.as_ref(),
        held: Releases {
            target: in_target.proved().filter(|_| is_base(target, in_target)),
            running: in_running
                .proved()
                .filter(|_| is_base(start.running, in_running)),
        },
    };
    let ended = install(&order, &mut bundle, &slots, outlet, decide);
    if let Some(traffic) = bundle.traffic() {
        outlet.tell(&Event::Traffic(traffic.into()));
    }
    ended
}
