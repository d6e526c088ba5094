//! The journal with this device's clock: each entry has the time at which it was told.
//!
//! Reading the chain, appending to it and what a power cut leaves: `twinseal_platform_linux::journal`.

use crate::clock;
use crate::config::Clock;
use crate::device::text;
use crate::error::AgentError;
use std::ops::Deref;
use std::path::Path;
use twinseal_core::journal::{Entry, Event, Head};
use twinseal_platform_linux::journal;

pub use twinseal_platform_linux::journal::{Damage, Past};

/// An open journal.
pub struct Journal {
    file: journal::Journal,
    clock: Clock,
}

impl Journal {
    /// Opens the journal and reads all of it; `visit` sees every entry that holds, and its number of bytes. A file that is not
    /// there is an empty journal.
    ///
    /// # Errors
    /// When it cannot be read. A journal that does not hold is no error: [`journal::Journal::damage`] says so.
    pub fn open<V>(
        path: &Path,
        anchor: Option<Head>,
        clock: Clock,
        mut visit: V,
    ) -> Result<Self, AgentError>
    where
        V: FnMut(&Entry, usize),
    {
        let file = journal::Journal::open(text(path)?, anchor, &mut visit)?;
        Ok(Self { file, clock })
    }

    /// Tells what happens: the entry is on the medium when this returns.
    ///
    /// # Errors
    /// [`AgentError::JournalBroken`] when the journal does not hold; otherwise when it cannot be written.
    pub fn append(&mut self, event: Event) -> Result<(), AgentError> {
        let time = clock::now(self.clock).unwrap_or(0);
        self.file.append(time, event).map_err(|error| match error {
            journal::JournalError::Broken(problem) => AgentError::JournalBroken { problem },
            journal::JournalError::Storage(error) => error.into(),
        })
    }
}

impl Deref for Journal {
    type Target = journal::Journal;

    fn deref(&self) -> &journal::Journal {
        &self.file
    }
}
