//! Everything that can end the demo.

use crate::board::BoardError;
use crate::command::CommandError;
use crate::programs::ProgramsError;
use crate::story::StepError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the demo ended before its last line.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A step failed.
    #[error(transparent)]
    Step(Box<StepError<Self>>),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The board failed.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// Programs are missing.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// A file could not be worked with.
    #[error("{} could not be {done}: {source}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried: "read", "written", …
        done: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The story could not be told.
    #[error("Standard output could not be written: {0}.")]
    Told(#[from] io::Error),
    /// An input is missing.
    #[error("The demo's input {} is missing. Make the inputs with scripts/appliance.sh, or name their folder with --inputs.", file.display())]
    InputMissing {
        /// The file.
        file: PathBuf,
    },
    /// A program of the device is missing.
    #[error("The device's program {} is missing. Build it with scripts/device-programs.sh, or name its folder with --device-programs.", file.display())]
    DeviceProgram {
        /// The file.
        file: PathBuf,
    },
    /// A release does not say its version.
    #[error("{} has no line IMAGE_VERSION=, so the release has no version.", file.display())]
    NoVersion {
        /// The os-release file.
        file: PathBuf,
    },
    /// The output folder is not the demo's.
    #[error("{} was not made by the demo, and the demo removes nothing that is not its own. Name another folder with --out.", folder.display())]
    FolderNotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// Something came out otherwise than it must.
    #[error("{what} must be {expected}, and is {found}.")]
    Unexpected {
        /// What.
        what: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The health checks of a release that must be healthy failed.
    #[error("The health check {check} of set {set} must pass, and it did not: {verdict}.\n{text}")]
    Unhealthy {
        /// The set.
        set: String,
        /// The check.
        check: String,
        /// How it ended.
        verdict: String,
        /// What it printed.
        text: String,
    },
    /// The broken release passed its health checks.
    #[error(
        "The health checks of set {set} must fail, since the release is broken, and they passed."
    )]
    Healthy {
        /// The set.
        set: String,
    },
    /// A recipe could not be written as TOML.
    #[error(
        "The recipe of {name} cannot be written as TOML: {source}. A path that is not UTF-8 is one cause."
    )]
    Recipe {
        /// The release.
        name: &'static str,
        /// Why.
        source: toml::ser::Error,
    },
}

impl From<StepError<Self>> for DemoError {
    fn from(error: StepError<Self>) -> Self {
        Self::Step(Box::new(error))
    }
}

impl DemoError {
    /// The error of a file, for `map_err`.
    pub(super) fn file(file: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, done, source }
    }
}

/// Holds a value against what it must be.
pub(super) fn must_be<T: PartialEq + std::fmt::Display>(
    what: &'static str,
    found: &T,
    expected: &T,
) -> Result<(), DemoError> {
    if found == expected {
        return Ok(());
    }
    Err(DemoError::Unexpected {
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_otherwise_is_told_with_both_values() {
        assert!(must_be("The floor", &2, &2).is_ok());
        let error = must_be("The floor", &1, &2).unwrap_err();
        assert!(matches!(error, DemoError::Unexpected { .. }));
        assert_eq!(error.to_string(), "The floor must be 2, and is 1.");
    }

    #[test]
    fn a_story_that_nobody_hears_is_an_error() {
        let error = DemoError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(
            error
                .to_string()
                .starts_with("Standard output could not be written"),
            "{error}"
        );
    }
}
