//! Boot loaders that choose by a state of their own. The boot record stays the truth; a loader is made to follow it.
//!
//! A loader here does three things: it has a default set that it boots again and again, it can be told another set for the next
//! boot alone, and it can be asked about both. Everything else (attempts, verdicts, floors) is the boot record's, so that no
//! two places count the same thing.
//!
//! # Invariants
//! - What was told for the next boot is forgotten by the loader before that set starts: whatever the set does, the boot after
//!   it is the default set's again.
//!
//! # Power loss
//! The caller stores the boot record first and tells the loader second. A cut between the two leaves a loader that lags
//! behind; the next boot, of either set, compares and tells it again.

mod boot_manager;
#[cfg(test)]
mod cuts;
mod load_option;
pub mod systemd_boot;
pub mod uefi;

pub use systemd_boot::SystemdBootLoader;
pub use uefi::{BootPartition, UefiLoader};

use twinseal_core::boot::Set;
use twinseal_core::error::StorageError;

/// A boot loader that follows the boot record.
pub trait BootLoader {
    /// The set that boots when nothing was told for the next boot; `None` when the loader has lost that.
    ///
    /// # Errors
    /// When the loader's state cannot be read.
    fn default_set(&mut self) -> Result<Option<Set>, StorageError>;

    /// The set that boots next and only once; `None` when nothing was told.
    ///
    /// # Errors
    /// When the loader's state cannot be read.
    fn next_set(&mut self) -> Result<Option<Set>, StorageError>;

    /// Makes `set` the default and the other set what is tried when the loader refuses it. Entries that were lost are made
    /// anew. Writes nothing when all is so already, and gives whether it wrote.
    ///
    /// # Errors
    /// When the loader's state cannot be read or written.
    fn set_default(&mut self, set: Set) -> Result<bool, StorageError>;

    /// Tells the set of the next boot alone; `None` takes back what was told. Gives whether it wrote.
    ///
    /// # Errors
    /// When the loader's state cannot be read or written.
    fn set_next(&mut self, set: Option<Set>) -> Result<bool, StorageError>;
}
