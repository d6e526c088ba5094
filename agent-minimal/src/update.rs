//! The commands `plan` and `install`: a bundle into the set that is not running.
//!
//! The order, and what a cut leaves at each step, are those of `twinseal` (docs/boot-state.md): the journal says that the install
//! began; a boot loader forgets the target; a pending trial of it is called off in the record; core writes, and makes the set bootable as
//! its last step; the journal says that it is complete and that a trial is armed, then the record arms it; where the firmware jumps,
//! the first attempt is spent, and last the loader is told.
//!
//! # Invariants
//! - A refused bundle leaves the boot record as it is, byte for byte.
//! - What the firmware would say to the UKI is not asked here; where it checks, the journal says that it was not asked.

use crate::attempt::Attempt;
use crate::bundle::{Bundle, LocalBundle, is_address};
use crate::console::Stream;
use crate::device::{Device, need_record};
use crate::error::AgentError;
use crate::held::Held;
use crate::install::{Order, Releases, Stopped, Watcher, into_set};
use crate::memory::Memory;
#[cfg(feature = "fetch")]
use crate::net::{Attendant, KernelNet, Patience, Url, Web};
use crate::slots::{Access, Places, images};
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::{Set, trial};
use twinseal_core::install::{Installed, Plan};
use twinseal_core::verify::Verified;
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::manifest::Manifest;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::journal::Past;
use twinseal_platform_linux::loader::BootLoader;
use twinseal_platform_linux::{LinuxConfig, LinuxStorage};

/// Bytes of the bundle between two lines of progress.
const PROGRESS_BYTES: u64 = 64 * 1024 * 1024;

/// The state that an update starts from.
struct Start {
    running: Set,
    record: BootRecord,
    /// The record with a pending trial of the target called off; `None` when there is none.
    cleared: Option<BootRecord>,
    past: Past,
}

/// `plan`: shows what an install would do.
///
/// # Errors
/// What an install would be refused for.
pub fn plan(device: &Device, source: &str, memory: &mut Memory) -> Result<(), AgentError> {
    device.need_data()?;
    let _lock = device.lock()?;
    let loaded = device.load_record()?;
    let past = device.journal(&loaded)?.past();
    let start = start(device, &loaded, device.running_set()?, past)?;
    let mut shown = Shown(start.running.other());
    transfer(device, &start, source, memory, &mut shown)
        .map(|_| ())
        .map_err(|stopped| stopped.error)
}

/// `install`: installs a bundle and arms its trial.
///
/// # Errors
/// Why it was refused or failed; the journal has it too.
pub fn install(device: &Device, source: &str, memory: &mut Memory) -> Result<(), AgentError> {
    device.need_data()?;
    let _lock = device.lock()?;
    let mut store = device.record_store()?;
    let loaded = record::load(&mut store)?;
    let running = device.running_set()?;
    let mut journal = device.journal(&loaded)?;
    if let Some(damage) = journal.damage() {
        return Err(AgentError::JournalBroken(damage));
    }
    let attempt = Attempt {
        device,
        target: running.other(),
        store: &mut store,
        journal: &mut journal,
        recovers: false,
        forgets: false,
        keeps_etc: false,
    };
    let target = running.other();
    run(attempt, &loaded, source, memory).map_err(|stopped| {
        let failed = stopped.event(target);
        // The attempt has failed anyway: a journal that cannot take it is worth a warning only.
        if let Err(error) = journal.append(device.now().unwrap_or(0), failed) {
            let error = AgentError::from(error);
            Stream::Error.say(format_args!(
                "warning: The end of this attempt is not in the journal: {error}"
            ));
        }
        stopped.error
    })
}

/// What an update starts from, or why there may be none now.
fn start(device: &Device, loaded: &Loaded, running: Set, past: Past) -> Result<Start, AgentError> {
    let record = need_record(loaded)?;
    let cleared = trial::clear_for_install(&record, running)?;
    let target = running.other();
    // After mark-bad or rollback the other set is the default before the restart: it is the only way back. A set that the
    // firmware refused to boot, which only a restart shows, is no way back.
    if record.default_set() == target
        && !device.has_stayed()
        && record.is_good(target, &Held::look(device, target).facts())
    {
        return Err(AgentError::RestartFirst { target });
    }
    Ok(Start {
        running,
        record,
        cleared,
        past,
    })
}

fn transfer(
    device: &Device,
    start: &Start,
    source: &str,
    memory: &mut Memory,
    watcher: &mut dyn Watcher,
) -> Result<Option<Installed>, Stopped> {
    if !is_address(source) {
        let bundle = LocalBundle::open(source);
        let mut bundle = bundle.map_err(|problem| AgentError::source(source, problem))?;
        return transfer_from(device, start, source, &mut bundle, memory, watcher);
    }
    #[cfg(feature = "fetch")]
    if let Some(url) = Url::parse(source) {
        if device.description.limits_network {
            return Err(AgentError::NetworkLimited.into());
        }
        let mut network = KernelNet::new(Patience::default(), &Told);
        let bundle = Web::open(&mut network, &url);
        let mut bundle = bundle.map_err(|problem| AgentError::source(source, problem))?;
        return transfer_from(device, start, source, &mut bundle, memory, watcher);
    }
    let name = join(&[source]).unwrap_or_default();
    Err(AgentError::Address { name }.into())
}

/// The same from a bundle that is open.
fn transfer_from(
    device: &Device,
    start: &Start,
    source: &str,
    bundle: &mut dyn Bundle,
    memory: &mut Memory,
    watcher: &mut dyn Watcher,
) -> Result<Option<Installed>, Stopped> {
    let target = start.running.other();
    let mut running_places = Places::of(&device.description, start.running)?;
    let mut target_places = Places::of(&device.description, target)?;
    let running_set = running_places.open(Access::Read)?;
    let target_set = target_places.open(Access::Write)?;
    let in_target = Held::of(device, &target_set);
    let in_running = Held::of(device, &running_set);
    // A route leaves out what the base has: it must have been committed there, and not found wanting since.
    let is_base = |set: Set, held: &Held| start.record.is_good(set, &held.facts());
    let order = Order {
        keys: &device.keys,
        policy: Policy {
            compatible: device.description.compatible.as_str(),
            floor: start.record.floor(),
            now: device.now(),
            highest_time_seen: start.record.highest_time().max(start.past.highest_time),
        },
        needs_system: device.description.sets.is_some(),
        held: Releases {
            target: in_target.proved().filter(|_| is_base(target, &in_target)),
            running: in_running
                .proved()
                .filter(|_| is_base(start.running, &in_running)),
        },
        interrupted: start.past.interrupted(target),
    };
    let images = images(&device.description, target);
    let scratch = device.state("scratch")?;
    // Used where it is: each move of it would be another copy on the stack.
    let mut opened = LinuxStorage::open(LinuxConfig {
        running: running_set.paths(),
        target: target_set.paths(),
        images: &images,
        scratch: &scratch,
        verity: device.description.verity,
        probe_images: start.past.is_unfinished(target),
        recovers: false,
    });
    let storage = opened.as_mut().map_err(|error| AgentError::from(*error))?;
    into_set(&order, source, bundle, storage, memory, watcher)
}

/// Does an install and arms its trial.
fn run(
    mut attempt: Attempt<'_>,
    loaded: &Loaded,
    source: &str,
    memory: &mut Memory,
) -> Result<(), Stopped> {
    let past = attempt.journal.past();
    let start = start(attempt.device, loaded, attempt.target.other(), past)?;
    let mut began = Began {
        attempt: &mut attempt,
        record: start.record,
        cleared: start.cleared,
        said_to: 0,
    };
    let installed = transfer(began.attempt.device, &start, source, memory, &mut began)?;
    let record = began.record;
    let Some(installed) = installed else {
        return Ok(());
    };
    complete(&mut attempt, &installed, &record)
        .map_err(|error| Stopped::at_end(error, &installed))?;
    let (target, attempts) = (attempt.target, attempt.device.description.trial_attempts);
    let release = installed.manifest().value();
    Stream::Output.say(format_args!(
        "Set {target} holds version {} and is on trial: {attempts} attempts. Restart the device to start it.",
        release.version.as_str()
    ));
    Ok(())
}

/// The set is complete: arms the trial, then tells the boot loader. One that cannot be opened ends this before anything is armed.
fn complete(
    attempt: &mut Attempt<'_>,
    installed: &Installed,
    record: &BootRecord,
) -> Result<(), AgentError> {
    let loader = attempt.device.loader()?;
    attempt.arm(installed, record)?;
    if let Some(mut loader) = loader {
        loader.set_default(attempt.target.other())?;
        loader.set_next(Some(attempt.target))?;
    }
    Ok(())
}

/// What happens when the plan is accepted.
struct Began<'a, 'b> {
    attempt: &'a mut Attempt<'b>,
    record: BootRecord,
    cleared: Option<BootRecord>,
    said_to: u64,
}

impl Watcher for Began<'_, '_> {
    fn decide(&mut self, plan: &Plan, manifest: &Verified<Manifest>) -> Result<bool, AgentError> {
        let (device, set) = (self.attempt.device, self.attempt.target);
        show(set, plan, manifest);
        self.attempt.begin(manifest)?;
        if let Some(mut loader) = device.loader()? {
            loader.set_next(None)?;
            loader.set_default(set.other())?;
            device.forget_attempt()?;
        }
        if let Some(cleared) = self.cleared {
            self.record = self.attempt.store(&cleared)?;
        }
        Ok(true)
    }

    fn progress(&mut self, position: u64) {
        if position >= self.said_to + PROGRESS_BYTES {
            self.said_to = position;
            Stream::Error.say(format_args!(
                "{} MiB of the bundle are read",
                position >> 20
            ));
        }
    }
}

/// Tells people what the network does. Nothing else waits for this program.
#[cfg(feature = "fetch")]
struct Told;

#[cfg(feature = "fetch")]
impl Attendant for Told {
    fn say(&self, line: core::fmt::Arguments<'_>) {
        Stream::Error.say(line);
    }

    fn alive(&self) {}
}

/// A plan that is only shown.
struct Shown(Set);

impl Watcher for Shown {
    fn decide(&mut self, plan: &Plan, manifest: &Verified<Manifest>) -> Result<bool, AgentError> {
        show(self.0, plan, manifest);
        Ok(false)
    }
}

fn show(set: Set, plan: &Plan, manifest: &Verified<Manifest>) {
    let say = |line: core::fmt::Arguments<'_>| Stream::Output.say(line);
    let release = manifest.value();
    say(format_args!(
        "set {set}         version {}, anti-rollback {}",
        release.version.as_str(),
        release.anti_rollback
    ));
    say(format_args!(
        "bundle        {} bytes, to read {}, of these only to check {}",
        plan.bundle_bytes,
        plan.source_bytes(),
        plan.audit_bytes
    ));
    say(format_args!(
        "to write      {} bytes, of these copied from the running set {}; {} bytes are there",
        plan.write_bytes, plan.copy_bytes, plan.present_bytes
    ));
    say(format_args!(
        "blobs         fetch {} (patches {}), copy {}, there {}, to remove {}",
        plan.fetch_blobs, plan.patch_blobs, plan.copy_blobs, plan.present_blobs, plan.removed_blobs
    ));
}

#[cfg(test)]
mod tests;
