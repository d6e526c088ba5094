//! The boot loader of a device whose firmware chooses, made to follow the boot record.
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

use crate::config::{Description, Loader, Pair, SetSlots};
use crate::device::text;
use crate::error::AgentError;
use twinseal_core::boot::record::BootRecord;
use twinseal_core::boot::select::resting;
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::error::StorageError;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, UefiLoader};

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
        let (Loader::Uefi { variables }, Some(sets)) = (&description.loader, &description.sets)
        else {
            return Self { open: None };
        };
        let (variables, sets) = (variables.clone(), sets.clone());
        Self::with(Box::new(move || open_uefi(text(&variables)?, &sets)))
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
    let boot = |set: Set| -> Result<BootPartition, AgentError> {
        Ok(BootPartition::of_device(text(&sets.of(set).boot)?)?)
    };
    let boot = [boot(Set::A)?, boot(Set::B)?];
    Ok(Box::new(UefiLoader::open(variables, boot)?))
}
