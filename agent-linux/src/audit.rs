//! What the commands tell the journal, and what happens when it cannot be told.
//!
//! An update that nobody can be told of is not made: `install` and `device init` need a journal that holds and can be written.
//! But a journal must not keep a device from booting or from committing what runs well: `select`, `mark-good`, `mark-bad` and
//! `rollback` warn and go on. The boot record then keeps its old anchor, so the damage stays visible.

use crate::device::Device;
use crate::error::AgentError;
use crate::journal::{Journal, Past};
use crate::report::warn;
use twinseal_core::boot::record::Loaded;
use twinseal_core::journal::{Event, Head};

/// The journal of a command that goes on without one.
pub struct Audit(Option<Journal>);

impl Audit {
    /// Opens the journal; says on standard error when it cannot be used.
    pub fn open(device: &Device, loaded: Option<&Loaded>) -> Self {
        match device.journal(loaded) {
            Ok(journal) => {
                if let Some(problem) = journal.damage() {
                    warn(&AgentError::JournalBroken { problem }.to_string());
                }
                Self(Some(journal))
            }
            Err(error) => {
                warn(&error.to_string());
                Self(None)
            }
        }
    }

    /// Tells what happens; says on standard error when that cannot be written.
    pub fn tell(&mut self, event: Event) {
        let told = self
            .0
            .as_mut()
            .filter(|journal| journal.damage().is_none())
            .map(|journal| journal.append(event));
        match told {
            Some(Ok(())) => {}
            Some(Err(error)) => warn(&format!("This is not in the journal: {error}")),
            None => warn("This is not in the journal, because the journal cannot be used."),
        }
    }

    /// The anchor for a record that had `old`.
    pub fn anchor(&self, old: Head) -> Head {
        self.0.as_ref().map_or(old, |journal| journal.anchor(old))
    }

    /// What the entries that hold say about the past.
    pub fn past(&self) -> Past {
        self.0
            .as_ref()
            .map(|journal| journal.past())
            .unwrap_or_default()
    }
}

/// Opens the journal for a command that needs it.
///
/// # Errors
/// When it cannot be read or does not hold.
pub fn required(device: &Device, loaded: Option<&Loaded>) -> Result<Journal, AgentError> {
    let journal = device.journal(loaded)?;
    match journal.damage() {
        Some(problem) => Err(AgentError::JournalBroken { problem }),
        None => Ok(journal),
    }
}
