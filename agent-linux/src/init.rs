//! `device init`: the first release of a new device, by the same installer that brings the later ones.
//!
//! # Power loss
//! The boot record is written last. Until then the device counts as new, and the same command goes on where it stopped.

use crate::audit::required;
use crate::cli::InitArguments;
use crate::device::Device;
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::install::{
    Decision, Done, Order, Releases, Stopped, Target, install, installed_event, journal_release,
    release_event,
};
use crate::journal::Journal;
use crate::report::Outlet;
use crate::slots::{Access, Places};
use crate::source::{Bundle, Terms, Timing};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::error::Misuse;
use twinseal_core::install::Plan;
use twinseal_core::journal::Event as Noted;
use twinseal_core::verify::Verified;
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::manifest::Manifest;

/// `device init`: fills one set, or both, and writes the boot record.
///
/// # Errors
/// [`AgentError::AlreadyProvisioned`] when there is a boot record; otherwise why the bundle was refused or the install failed.
pub fn init(
    device: &Device,
    arguments: &InitArguments,
    outlet: &mut Outlet,
) -> Result<(), AgentError> {
    device.need_data()?;
    let _lock = device.lock()?;
    let loaded = device.load_record()?;
    match loaded {
        Loaded::Blank => {}
        Loaded::Record(_) => return Err(AgentError::AlreadyProvisioned),
        Loaded::Corrupt => return Err(AgentError::RecordCorrupt),
    }
    let terms = Terms::of_run(device, None, Timing::default());
    if arguments.both && Bundle::open(&arguments.source, &terms)?.bytes().is_none() {
        return Err(AgentError::BothFromPipe);
    }
    let mut journal = required(device, Some(&loaded))?;
    let set = Set::from(arguments.set);
    let places = Places::new(device);
    Set::BOTH
        .into_iter()
        .try_for_each(|set| places.make_folders(set))?;
    let done = fill(device, arguments, &places, set, true, &mut journal, outlet)?;
    if arguments.both {
        fill(
            device,
            arguments,
            &places,
            set.other(),
            false,
            &mut journal,
            outlet,
        )?;
    }
    let manifest = done.installed.manifest();
    journal.append(Noted::Provisioned {
        set,
        release: journal_release(manifest),
    })?;
    // A record that was lost may not lower the floor that the journal still knows.
    let floor = manifest.value().anti_rollback.max(journal.past().floor);
    let mut store = device.record_store()?;
    let digest = *manifest.manifest_sha256();
    let made = BootRecord::provisioned(set, floor, digest);
    let made = if arguments.both {
        made.provisioned_twice(digest)
    } else {
        made
    };
    record::store(&mut store, &made.with_notes(device.now(), journal.head()))?;
    device.loader.rest(Some(set))?;
    outlet.tell(&Event::Provisioned(events::Provisioned {
        set: set.to_string(),
        release: release_event(manifest),
        floor,
    }));
    Ok(())
}

/// Fills a set; the first one has nothing to copy from.
fn fill(
    device: &Device,
    arguments: &InitArguments,
    places: &Places,
    set: Set,
    first: bool,
    journal: &mut Journal,
    outlet: &mut Outlet,
) -> Result<Done, AgentError> {
    let done = transfer(device, arguments, places, set, first, journal, outlet)
        .map_err(|stopped| stopped.told(set, journal))?;
    done.tell(set, journal)?;
    outlet.tell(&installed_event(set, &done, None));
    Ok(done)
}

fn transfer(
    device: &Device,
    arguments: &InitArguments,
    places: &Places,
    set: Set,
    first: bool,
    journal: &mut Journal,
    outlet: &mut Outlet,
) -> Result<Done, Stopped> {
    let past = journal.past();
    let terms = Terms::of_install(device, None, Timing::default(), past.is_unfinished(set));
    let mut bundle = Bundle::open(&arguments.source, &terms)?;
    // A new device may have nothing at all where the other set will be.
    let other = if first {
        places.unopened(set.other())?
    } else {
        places.open(set.other(), Access::Read)?
    };
    let target = places.open(set, Access::Write)?;
    let order = Order {
        device,
        target: set,
        policy: Policy {
            compatible: device.description.compatible.as_str(),
            floor: past.floor,
            now: device.now(),
            highest_time_seen: past.highest_time,
        },
        budget: bundle.limit(None),
        audit: bundle.is_free_to_read(),
        interrupted: past.interrupted(set),
        read_back: true,
        rate: None,
        window: None,
    };
    let slots = Target {
        places,
        running: &other,
        target: &target,
        probe_images: past.is_unfinished(set),
        // A device may be provisioned on another machine than the one that will boot it.
        firmware: None,
        held: Releases::default(),
    };
    let accept = |_: &Plan, manifest: &Verified<Manifest>| {
        journal.append(Noted::InstallStarted {
            set,
            release: journal_release(manifest),
        })?;
        Ok(Decision::Accept)
    };
    let done = install(&order, &mut bundle, &slots, outlet, accept)?;
    done.ok_or_else(|| AgentError::Core(Misuse::NotAccepted.into()).into())
}
