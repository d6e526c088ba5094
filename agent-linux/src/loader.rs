//! The boot loader of a device where it chooses, made to follow the boot record: the firmware's boot manager, or systemd-boot.
//!
//! The rules are few, and all of them are here: who decides is `select`, `update` and `verdict`.
//!
//! # Invariants
//! - The boot record is stored first and the loader told second, with one exception: before a target set is written over, the
//!   loader forgets it first, so that no firmware starts a set that is going away.
//! - The loader's default is the set that rests: the one that the boot record would boot if the set on trial were gone.
//! - It is never the set on trial, whatever else there is: a firmware that starts it by itself would spend no attempt.
//!
//! # Power loss
//! A cut leaves a loader that lags behind. `select` runs in every boot and tells it again.

mod mounting;

pub use mounting::{LoaderSlot, MountingLoader};

use crate::config::{Description, Loader, Pair, SetSlots};
use crate::device::text;
use crate::error::AgentError;
use crate::slots::BOOT_TYPES;
use std::path::Path;
use twinseal_core::boot::record::BootRecord;
use twinseal_core::boot::select::resting;
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::error::StorageError;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, SystemdBootLoader, UefiLoader};

/// Opens a boot loader.
type Opener = Box<dyn Fn() -> Result<Box<dyn BootLoader>, AgentError>>;

/// Makes a boot loader follow the boot record; does nothing on a device that has none but the record.
pub struct Follower {
    open: Option<Opener>,
}

/// What a boot loader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The set that boots when nothing was told for the next boot; `None` when the loader has lost that.
    pub default: Option<Set>,
    /// The set that boots next and only once.
    pub next: Option<Set>,
}

/// The set that the loader must have as its default. During a trial that is the other set even where the record would boot
/// nothing: what happens there is its `select` to decide.
pub fn resting_default(record: &BootRecord, facts: [SetFacts; 2]) -> Option<Set> {
    let other = record.trial().map(|trial| trial.set.other());
    resting(record, facts).or(other)
}

impl Follower {
    /// That of a device description.
    pub fn new(description: &Description) -> Self {
        let Some(sets) = description.sets.clone() else {
            return Self { open: None };
        };
        match description.loader.clone() {
            Loader::Record => Self { open: None },
            Loader::Uefi { variables } => {
                Self::with(Box::new(move || open_uefi(text(&variables)?, &sets)))
            }
            Loader::SystemdBoot { variables } => {
                let state = description.state.clone();
                Self::with(Box::new(move || {
                    open_systemd_boot(text(&variables)?, &sets, &state)
                }))
            }
        }
    }

    /// One that opens its loader in a way of the caller's.
    pub fn with(open: Opener) -> Self {
        Self { open: Some(open) }
    }

    /// Whether there is a loader with a state of its own.
    pub const fn is_there(&self) -> bool {
        self.open.is_some()
    }

    /// What the loader says; `None` without one.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn told(&self) -> Result<Option<Told>, AgentError> {
        self.tell(|loader| {
            Ok(Told {
                default: loader.default_set()?,
                next: loader.next_set()?,
            })
        })
    }

    /// Makes the loader boot what rests, now and later.
    ///
    /// # Errors
    /// When its state cannot be read or written.
    pub fn rest(&self, resting: Option<Set>) -> Result<(), AgentError> {
        let told = self.tell(|loader| {
            loader.set_next(None)?;
            resting.map_or(Ok(()), |set| loader.set_default(set).map(|_| ()))
        });
        told.map(|_| ())
    }

    /// Makes the loader boot what rests when nothing was told for the next boot; what was told stays.
    ///
    /// # Errors
    /// When its state cannot be read or written.
    pub fn rest_later(&self, resting: Option<Set>) -> Result<(), AgentError> {
        let told =
            self.tell(|loader| resting.map_or(Ok(()), |set| loader.set_default(set).map(|_| ())));
        told.map(|_| ())
    }

    /// Makes the loader boot `set` once, and after that what rests.
    ///
    /// # Errors
    /// When its state cannot be read or written.
    pub fn jump(&self, set: Set, resting: Option<Set>) -> Result<(), AgentError> {
        let told = self.tell(|loader| {
            if let Some(resting) = resting {
                loader.set_default(resting)?;
            }
            loader.set_next(Some(set))
        });
        told.map(|_| ())
    }

    fn tell<T>(
        &self,
        words: impl FnOnce(&mut dyn BootLoader) -> Result<T, StorageError>,
    ) -> Result<Option<T>, AgentError> {
        let Some(open) = &self.open else {
            return Ok(None);
        };
        Ok(Some(words(open()?.as_mut())?))
    }
}

/// The one place that makes the loader of the UEFI firmware.
fn open_uefi(variables: &str, sets: &Pair<SetSlots>) -> Result<Box<dyn BootLoader>, AgentError> {
    Ok(Box::new(UefiLoader::open(variables, partitions(sets)?)?))
}

/// The one place that makes systemd-boot's. Its boot slots are mounted beside those of a set that is open.
fn open_systemd_boot(
    variables: &str,
    sets: &Pair<SetSlots>,
    state: &Path,
) -> Result<Box<dyn BootLoader>, AgentError> {
    let slot = |set: Set| -> Result<LoaderSlot, AgentError> {
        let mount_point = state.join("mount").join(format!("loader-{set}"));
        Ok(LoaderSlot::at(
            text(&sets.of(set).boot)?,
            text(&mount_point)?,
            BOOT_TYPES,
        ))
    };
    let slots = [slot(Set::A)?, slot(Set::B)?];
    let [a, b] = &slots;
    let folders = [a.folder(), b.folder()];
    let loader = SystemdBootLoader::open(variables, partitions(sets)?, folders)?;
    Ok(Box::new(MountingLoader::new(loader, slots)))
}

/// The partitions of both boot slots.
fn partitions(sets: &Pair<SetSlots>) -> Result<[BootPartition; 2], AgentError> {
    let boot = |set: Set| -> Result<BootPartition, AgentError> {
        Ok(BootPartition::of_device(text(&sets.of(set).boot)?)?)
    };
    Ok([boot(Set::A)?, boot(Set::B)?])
}
