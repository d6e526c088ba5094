//! `health`: whether a running trial is worth keeping, and whether a start that was counted went well.
//!
//! # Order
//! 1. the checks of the sealed system, in the order of their names, each with a time limit; the first that fails ends it;
//! 2. its release is proved anew, and every object of the running set is read whole: what the kernel refuses later would be a
//!    failure in the field;
//! 3. the verdict is told to the journal; with `--commit` the set is committed, or marked bad and the device restarted.
//!
//! Of a committed set whose starts are counted only the checks are run. With `--commit` they take the count back; a failure is told to
//! the journal and changes nothing else.
//!
//! # Invariants
//! - A trial without a check is not committed: one that checks nothing proves nothing.
//! - Where there is neither a trial nor a count nothing is checked and nothing is changed; nor is it while the data partition is not
//!   there, for nobody knows then whether there is a trial.
//!
//! # Power loss
//! Until the verdict is stored the trial is undecided, and its attempts run out as they would without this command.

pub mod checks;

use crate::cli::HealthArguments;
use crate::config::Sealing;
use crate::device::Device;
use crate::error::AgentError;
use crate::events::{self, Event, Phase, Progress};
use crate::exit;
use crate::held::Held;
use crate::history::{failure_event, failure_text};
use crate::marks;
use crate::objects::{Damage, Objects};
use crate::report::{Outlet, warn};
use crate::slots::{Access, Places};
use crate::verdict::{self, Patience};
use std::path::{Path, PathBuf};
use std::time::Duration;
use twinseal_core::boot::Set;
use twinseal_core::boot::record::Loaded;
use twinseal_core::journal::{Event as Noted, HealthFailure};
use twinseal_core::wire::digest::BlobDigest;

/// Where the initramfs leaves the root slot of the running set, mounted for reading; beside the file that says what runs.
const RUNNING_ROOT_SLOT: &str = "root-slot";

/// What was found well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Passed {
    checks: u16,
    objects: u32,
    bytes: u64,
}

/// `health`: checks the running trial; gives the exit code.
///
/// # Errors
/// When it is not known what runs or whether it is on trial, and when a verdict cannot be stored.
pub fn health(
    device: &Device,
    arguments: &HealthArguments,
    outlet: &mut Outlet,
) -> Result<u8, AgentError> {
    let running = device.running_set()?;
    if marks::is_data_volatile(device) {
        outlet.tell(&Event::Health(events::Health {
            set: running.to_string(),
            data_volatile: true,
            ..events::Health::default()
        }));
        return Ok(exit::OK);
    }
    let counted_starts = marks::counted_starts(device, running);
    // The initramfs counts no start of a trial. A record that was lost since keeps no set from being well.
    let on_trial = is_on_trial(device, running).or_else(|error| match counted_starts {
        0 => Err(error),
        _ => Ok(false),
    });
    if !on_trial? {
        return outside_trial(device, running, counted_starts, arguments, outlet);
    }
    let limit = Duration::from_secs(arguments.time_limit.into());
    let outcome = run_checks(device, limit, outlet)
        .and_then(|passed| read_objects(device, running, passed, outlet));
    outlet.tell(&Event::Health(events::Health {
        on_trial: true,
        ..health_event(running, &outcome)
    }));
    match outcome {
        Ok(passed) => keep(device, running, passed, arguments, outlet),
        Err(failure) => give_up(device, running, *failure, arguments, outlet),
    }
}

/// Says that a set whose starts are counted is well, or that it is not; there is nothing to do when none was counted.
fn outside_trial(
    device: &Device,
    running: Set,
    counted_starts: u64,
    arguments: &HealthArguments,
    outlet: &mut Outlet,
) -> Result<u8, AgentError> {
    if counted_starts == 0 {
        outlet.tell(&Event::Health(events::Health {
            set: running.to_string(),
            ..events::Health::default()
        }));
        return Ok(exit::OK);
    }
    let limit = Duration::from_secs(arguments.time_limit.into());
    let outcome = run_checks(device, limit, outlet);
    outlet.tell(&Event::Health(events::Health {
        counted_starts,
        ..health_event(running, &outcome)
    }));
    match outcome {
        Ok(_) => {
            if arguments.commit {
                marks::forget_starts(device, running)?;
            }
            Ok(exit::OK)
        }
        Err(failure) => {
            let set = running;
            let failure = *failure;
            let evidence = Noted::HealthFailed { set, failure };
            verdict::note(device, evidence, Patience::Waits)?;
            Ok(exit::HEALTH)
        }
    }
}

fn is_on_trial(device: &Device, running: Set) -> Result<bool, AgentError> {
    let trial = match device.load_record()? {
        Loaded::Record(record) => record.trial(),
        Loaded::Blank => return Err(AgentError::RecordBlank),
        Loaded::Corrupt => return Err(AgentError::RecordCorrupt),
    };
    Ok(trial.is_some_and(|trial| trial.set == running))
}

/// Runs every check.
fn run_checks(
    device: &Device,
    limit: Duration,
    outlet: &mut Outlet,
) -> Result<Passed, Box<HealthFailure>> {
    let folder = &device.description.health;
    let list = checks::list(folder).unwrap_or_else(|error| {
        warn(&format!("{} could not be read: {error}.", folder.display()));
        Vec::new()
    });
    if list.is_empty() {
        return Err(Box::new(HealthFailure::NoChecks));
    }
    for check in &list {
        let checked = checks::run(check, limit);
        outlet.tell(&Event::Check(events::Check {
            check: checked.name,
            passed: checked.failure.is_none(),
            seconds: checked.took.as_secs_f64(),
            output: String::from_utf8_lossy(&checked.output).into_owned(),
        }));
        if let Some(failure) = checked.failure {
            return Err(Box::new(failure));
        }
    }
    Ok(Passed {
        checks: u16::try_from(list.len()).unwrap_or(u16::MAX),
        ..Passed::default()
    })
}

/// Proves which release runs and reads every object of it; a device without root slots has none.
fn read_objects(
    device: &Device,
    running: Set,
    mut passed: Passed,
    outlet: &mut Outlet,
) -> Result<Passed, Box<HealthFailure>> {
    let unreadable = |what: &str| {
        warn(what);
        Box::new(HealthFailure::SlotUnreadable)
    };
    let slot = |error: &dyn std::fmt::Display| {
        unreadable(&format!(
            "The root slot of set {running} could not be looked through: {error}."
        ))
    };
    let places = Places::new(device);
    let opened = places
        .open(running, Access::Read)
        .map_err(|error| slot(&error))?;
    let held = Held::of(device, &opened);
    if let Some(problem) = held.problem() {
        return Err(unreadable(&format!(
            "What set {running} holds cannot be proved: {problem}"
        )));
    }
    if device.description.sets.is_none() {
        return Ok(passed);
    }
    let seal = held.proved().and_then(|release| release.value().seal);
    let root = running_root(device).or_else(|| opened.root().map(PathBuf::from));
    let root = root.ok_or_else(|| slot(&"there is none"))?;
    let objects = Objects::list(&root, seal.as_ref()).map_err(|error| slot(&error))?;
    let mut first = None;
    read_all(
        &objects,
        device.description.verity,
        outlet,
        |object, damage| {
            warn(&damage_text(&object, &damage));
            first.get_or_insert(object);
        },
    );
    let unlisted = seal.filter(|_| !objects.is_listed());
    if let Some(object) = first.or(unlisted) {
        return Err(Box::new(HealthFailure::ObjectDamaged { object }));
    }
    passed.objects = objects.count();
    passed.bytes = objects.bytes();
    Ok(passed)
}

/// Reads all objects and shows how far it is.
pub fn read_all(
    objects: &Objects,
    sealing: Sealing,
    outlet: &mut Outlet,
    damaged: impl FnMut(BlobDigest, Damage),
) {
    let mut progress = Progress {
        phase: Phase::Checking,
        done_bytes: 0,
        total_bytes: objects.bytes(),
        source_bytes: 0,
        written_bytes: 0,
        read_back_bytes: 0,
    };
    let count = |bytes| {
        progress.read_back_bytes += bytes;
        progress.done_bytes = progress.read_back_bytes.min(progress.total_bytes);
        outlet.tell(&Event::Progress(progress));
    };
    objects.check(sealing, count, damaged);
}

/// What is wrong with an object, as a sentence.
pub fn damage_text(object: &BlobDigest, damage: &Damage) -> String {
    match damage {
        Damage::Missing => format!("Object {object} is missing."),
        Damage::Refused => {
            format!("Object {object} is damaged: the kernel refuses to read it.")
        }
        Damage::NotSealed => format!("Object {object} is not sealed with fs-verity."),
        Damage::OtherDigest => format!("Object {object} has another digest than its name."),
        Damage::Unreadable(error) => format!("Object {object} could not be read: {error}."),
    }
}

/// The root slot of the running set, where the initramfs left it mounted.
pub fn running_root(device: &Device) -> Option<PathBuf> {
    running_root_of(&device.description.running)
}

/// The same, beside the file that says what runs.
pub fn running_root_of(running: &Path) -> Option<PathBuf> {
    let folder = running.with_file_name(RUNNING_ROOT_SLOT);
    folder.join("composefs/objects").is_dir().then_some(folder)
}

fn keep(
    device: &Device,
    running: Set,
    passed: Passed,
    arguments: &HealthArguments,
    outlet: &mut Outlet,
) -> Result<u8, AgentError> {
    let evidence = Noted::HealthPassed {
        set: running,
        checks: passed.checks,
        objects: passed.objects,
        bytes: passed.bytes,
    };
    verdict::note(device, evidence, Patience::Waits)?;
    if arguments.commit {
        verdict::mark_good(device, outlet, Patience::Waits)?;
    }
    Ok(exit::OK)
}

fn give_up(
    device: &Device,
    running: Set,
    failure: HealthFailure,
    arguments: &HealthArguments,
    outlet: &mut Outlet,
) -> Result<u8, AgentError> {
    let evidence = Noted::HealthFailed {
        set: running,
        failure,
    };
    let marked = verdict::note(device, evidence, Patience::Waits).and_then(|()| {
        if arguments.commit {
            verdict::mark_bad(device, outlet, Patience::Waits)?;
        }
        Ok(())
    });
    if let Err(error) = &marked {
        warn(&error.to_string());
    }
    if arguments.commit && !arguments.no_restart {
        // A verdict that could not be stored is no reason to stay: the attempts run out.
        (device.restart)()?;
    }
    marked.map(|()| exit::HEALTH)
}

fn health_event(set: Set, outcome: &Result<Passed, Box<HealthFailure>>) -> events::Health {
    let failure = outcome.as_ref().err();
    let passed = outcome.as_ref().copied().unwrap_or_default();
    events::Health {
        set: set.to_string(),
        passed: outcome.is_ok(),
        checks: passed.checks,
        objects: passed.objects,
        bytes: passed.bytes,
        problem: failure.map(|failure| failure_text(failure)),
        failure: failure.map(|failure| failure_event(failure)),
        ..events::Health::default()
    }
}
