//! A disk beside the board's own with partitions of the same labels: a stick that somebody left plugged in, or a spare part.
//!
//! # Invariants
//! - No byte of it may change, whatever is done to the board.

use super::SuiteError;
use super::bench::{Bench, State};
use crate::command::{CommandError, Invocation};
use crate::disk::{self, Disk};
use crate::scenario::Scenario;
use std::path::{Path, PathBuf};

/// The disk, and a copy of it from before.
pub(super) struct OtherDisk {
    /// What is plugged in.
    pub disk: PathBuf,
    before: PathBuf,
}

impl OtherDisk {
    /// One for a scenario that has one: the board's own disk with other GUIDs.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make(
        bench: &Bench<'_>,
        scenario: &Scenario,
        state: &State,
        folder: &Path,
    ) -> Result<Option<Self>, SuiteError> {
        if !scenario.other_disk {
            return Ok(None);
        }
        let runner = &bench.runner;
        let made = Self {
            disk: folder.join("other.img"),
            before: folder.join("other-before.img"),
        };
        disk::copy(runner, &state.disk, &made.disk)?;
        let file = &made.disk;
        Disk { file, runner }.rename_all()?;
        disk::copy(runner, &made.disk, &made.before)?;
        Ok(Some(made))
    }

    /// Compares it with what it was.
    ///
    /// # Errors
    /// With a sentence when a byte was changed.
    pub(super) fn compare(&self, bench: &Bench<'_>) -> Result<(), String> {
        let compare = Invocation::new("cmp").arguments([&self.disk, &self.before]);
        let told = |error: CommandError| error.to_string();
        let output = bench.runner.run(&compare).map_err(told)?;
        output.expect_success().map(drop).map_err(|_| {
            "The disk beside the board's own was written, and must stay as it was.".to_owned()
        })
    }
}
