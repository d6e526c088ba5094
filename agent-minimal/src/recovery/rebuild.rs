//! From an open bundle to a set that is on trial.
//!
//! The order is that of an update ([`crate::update`]), with what a recovery cannot ask for: a boot record that is lost is made anew once
//! the set is complete, and a journal that does not hold is said and left as it is.
//!
//! # Invariants
//! - A refused bundle leaves the boot record as it is.
//! - No release in a slot is believed to be a base: both sets are what is doubted here. Objects are taken over by their digests.

use super::Kept;
use super::attendance::Attendance;
use crate::attempt::Attempt;
use crate::bundle::Bundle;
use crate::device::Device;
use crate::error::AgentError;
use crate::files;
use crate::install::{Order, Releases, Stopped, Watcher, into_set};
use crate::memory::Memory;
use crate::slots::{Access, Places, images};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::{BootRecord, Loaded};
use twinseal_core::error::StorageError;
use twinseal_core::install::{Installed, Plan};
use twinseal_core::storage::{Location, Storage, StorageLayer};
use twinseal_core::verify::Verified;
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::index::Blob;
use twinseal_core::wire::manifest::Manifest;
use twinseal_platform_linux::journal::Journal;
use twinseal_platform_linux::{LinuxConfig, LinuxStorage, SetPaths};

/// Bytes of the bundle between two lines of progress.
const PROGRESS_BYTES: u64 = 8 * 1024 * 1024;

/// Where the journal is when the device's own cannot be opened: what it is told then is gone with the power.
const JOURNAL_IN_MEMORY: &str = "/run/twinseal/journal";

/// What an install needs besides the set: in memory, since the data partition may be full.
const IN_MEMORY: &str = "/run/twinseal";
const SCRATCH: &str = "/run/twinseal/scratch";

/// What a set is rebuilt with.
pub struct Rebuild<'r> {
    device: &'r Device,
    target: Set,
    loaded: Loaded,
    journal: Journal,
    /// The journal is gone with the power.
    forgets: bool,
    floor: u64,
    attendance: &'r Attendance,
}

impl<'r> Rebuild<'r> {
    /// Reads what is left of the device's state.
    ///
    /// # Errors
    /// When not even memory can hold a journal.
    pub fn new(
        device: &'r Device,
        target: Set,
        kept: &Kept,
        attendance: &'r Attendance,
    ) -> Result<Self, AgentError> {
        let loaded = kept.record.map_or_else(|| device.load_record(), Ok);
        let loaded = loaded.unwrap_or_else(|error| {
            attendance.say(format_args!("{error}"));
            Loaded::Corrupt
        });
        // What cannot be made shows in the record.
        let _ = files::make_directories(&device.description.state);
        let (journal, forgets) = match device.journal(&loaded) {
            Ok(journal) => (journal, false),
            Err(error) => {
                attendance.say(format_args!("{error}"));
                let journal = Journal::open(JOURNAL_IN_MEMORY, None, &mut |_, _| ())?;
                (journal, true)
            }
        };
        let record_floor = match &loaded {
            Loaded::Record(record) => record.floor(),
            Loaded::Blank | Loaded::Corrupt => 0,
        };
        Ok(Self {
            floor: kept.floor.max(record_floor).max(journal.past().floor),
            device,
            target,
            loaded,
            journal,
            forgets,
            attendance,
        })
    }

    /// The device.
    pub const fn device(&self) -> &'r Device {
        self.device
    }

    /// Whether the set is the one that the device used, as far as is known: its changes to `/etc` are the device's.
    fn was_in_use(&self) -> bool {
        match &self.loaded {
            Loaded::Record(record) => record.default_set() == self.target,
            Loaded::Blank | Loaded::Corrupt => true,
        }
    }

    /// What the device allows.
    pub fn policy(&self) -> Policy<'r> {
        let record_time = match &self.loaded {
            Loaded::Record(record) => record.highest_time(),
            Loaded::Blank | Loaded::Corrupt => 0,
        };
        Policy {
            compatible: self.device.description.compatible.as_str(),
            floor: self.floor,
            now: self.device.now(),
            highest_time_seen: record_time.max(self.journal.past().highest_time),
        }
    }

    /// Installs a bundle and puts the set on trial.
    ///
    /// # Errors
    /// Why it was refused or failed; the journal has it too.
    pub fn install(
        &mut self,
        name: &str,
        bundle: &mut dyn Bundle,
        memory: &mut Memory,
    ) -> Result<(), AgentError> {
        let policy = self.policy();
        let past = self.journal.past();
        let keeps_etc = self.was_in_use();
        let mut store = self.device.record_store()?;
        let attempt = Attempt {
            device: self.device,
            target: self.target,
            store: &mut store,
            journal: &mut self.journal,
            recovers: true,
            forgets: self.forgets,
            keeps_etc,
        };
        let mut rebuilt = Rebuilding {
            attempt,
            attendance: self.attendance,
            said_to: 0,
        };
        let order = Order {
            keys: &self.device.keys,
            policy,
            needs_system: true,
            held: Releases::default(),
            interrupted: past.interrupted(self.target),
        };
        let ended = transfer(
            self.device,
            self.target,
            &order,
            name,
            bundle,
            memory,
            &mut rebuilt,
        );
        let ended = ended.and_then(|installed| {
            let armed = rebuilt.arm(&self.loaded, self.floor, &installed);
            armed.map_err(|error| Stopped::at_end(error, &installed))
        });
        ended.map_err(|stopped| {
            // It has failed anyway, and the reason is said.
            let _ = rebuilt.attempt.tell(stopped.event(self.target));
            stopped.error
        })
    }
}

fn transfer(
    device: &Device,
    target: Set,
    order: &Order<'_>,
    name: &str,
    bundle: &mut dyn Bundle,
    memory: &mut Memory,
    watcher: &mut Rebuilding<'_>,
) -> Result<Installed, Stopped> {
    let mut target_places = Places::below(IN_MEMORY, &device.description, target)?;
    let mut other_places = Places::below(IN_MEMORY, &device.description, target.other())?;
    let attendance = watcher.attendance;
    let target_set = target_places.open(Access::Write)?;
    // What the other set still has is not fetched; a set that cannot be opened has nothing.
    let other_set = other_places.open(Access::Read).ok();
    let nothing = SetPaths {
        boot: None,
        root: None,
        ..target_set.paths()
    };
    let images = images(&device.description, target);
    // Used where it is: each move of it would be another copy on the stack.
    let mut opened = LinuxStorage::open(LinuxConfig {
        running: other_set.as_ref().map_or(nothing, |set| set.paths()),
        target: target_set.paths(),
        images: &images,
        scratch: SCRATCH,
        verity: device.description.verity,
        // Mostly the image is there already, and a look costs no byte of the link.
        probe_images: true,
        recovers: true,
    });
    let storage = opened.as_mut().map_err(|error| AgentError::from(*error))?;
    let mut doubted = Doubted {
        storage,
        attendance,
    };
    let installed = into_set(order, name, bundle, &mut doubted, memory, watcher)?;
    // The watcher never declines.
    installed.ok_or_else(|| AgentError::NoSystem.into())
}

/// The slots of a set that was refused: what they say to hold counts only when every byte of it can be read, for a block on the
/// medium may have gone bad.
struct Doubted<'d, 'p> {
    storage: &'d mut LinuxStorage<'p>,
    attendance: &'d Attendance,
}

impl<'p> StorageLayer for Doubted<'_, 'p> {
    type Below = LinuxStorage<'p>;
    type Reached<'l>
        = &'l mut LinuxStorage<'p>
    where
        Self: 'l;

    fn below(&mut self) -> Result<Self::Reached<'_>, StorageError> {
        self.attendance.feed();
        Ok(self.storage)
    }

    fn locate(&mut self, blob: &Blob, manifest: &Manifest) -> Result<Location, StorageError> {
        let attendance = self.attendance;
        let storage = self.below()?;
        match storage.locate(blob, manifest)? {
            Location::Target if !storage.is_readable(blob, &|| attendance.feed()) => {
                Ok(Location::Absent)
            }
            location => Ok(location),
        }
    }
}

/// An install of the recovery, and what it says.
struct Rebuilding<'r> {
    attempt: Attempt<'r>,
    attendance: &'r Attendance,
    said_to: u64,
}

impl Rebuilding<'_> {
    fn arm(
        &mut self,
        loaded: &Loaded,
        floor: u64,
        installed: &Installed,
    ) -> Result<(), AgentError> {
        let record = match loaded {
            Loaded::Record(record) => *record,
            Loaded::Blank | Loaded::Corrupt => {
                self.attendance
                    .say(format_args!("the boot record was lost; it is made anew"));
                let manifest = *installed.manifest().manifest_sha256();
                BootRecord::provisioned(self.attempt.target, floor, manifest)
            }
        };
        self.attempt.arm(installed, &record)?;
        let (set, release) = (self.attempt.target, installed.manifest().value());
        self.attendance.say(format_args!(
            "set {set} is rebuilt and holds version {}; it is tried next",
            release.version
        ));
        Ok(())
    }
}

impl Watcher for Rebuilding<'_> {
    fn decide(&mut self, plan: &Plan, manifest: &Verified<Manifest>) -> Result<bool, AgentError> {
        self.attendance.say(format_args!(
            "version {} is rightly signed; {} MiB to read, {} MiB to write",
            manifest.value().version,
            plan.source_bytes() >> 20,
            plan.write_bytes >> 20
        ));
        self.attempt.begin(manifest)?;
        self.attempt.device.forget_attempt()?;
        Ok(true)
    }

    fn progress(&mut self, position: u64) {
        self.attendance.feed();
        if position >= self.said_to + PROGRESS_BYTES {
            self.said_to = position;
            self.attendance.say(format_args!(
                "{} MiB of the bundle are read",
                position >> 20
            ));
        }
    }
}
