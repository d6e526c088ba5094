//! A machine under test, whatever it is made of.
//!
//! # Invariants
//! - What a board cannot do is said in its [`Description`], never silently left out.

use crate::command::{CommandError, Output};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine under test.
pub trait Board {
    /// What this board is, and what on it is not as on a real appliance.
    fn description(&self) -> Description;

    /// Makes it a new device: set A holds the bundle, and is the default.
    ///
    /// # Errors
    /// When it has been provisioned before, or the agent does not end well.
    fn provision(&mut self, bundle: &Path) -> Result<Output, BoardError>;

    /// Switches it on: the set is chosen, its seal is checked, and its root is mounted.
    ///
    /// # Errors
    /// When nothing may be booted, the seal does not hold, or the root cannot be mounted.
    fn power_on(&mut self) -> Result<Boot, BoardError>;

    /// Runs the health checks of the root that is running.
    ///
    /// # Errors
    /// When the board is off or the checks cannot be run. A check that fails is no error but a part of [`Health`].
    fn health(&mut self) -> Result<Health, BoardError>;

    /// Runs the agent on the board.
    ///
    /// # Errors
    /// When it cannot be run. Its exit code is no error here.
    fn agent(&mut self, arguments: &[&str]) -> Result<Output, BoardError>;

    /// Switches it off, without asking the software.
    ///
    /// # Errors
    /// When what the board is made of does not end.
    fn power_off(&mut self) -> Result<(), BoardError>;
}

/// What a board is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is made of, in one sentence.
    pub made_of: &'static str,
    /// What is not as on a real appliance: one sentence for each.
    pub limits: &'static [&'static str],
}

/// A set that was booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The set: "a" or "b".
    pub set: String,
    /// Why it was chosen: the agent's short name of the row in the table of boot states.
    pub reason: String,
    /// Attempts that its trial has left.
    pub attempts_left: u8,
    /// Digest of the composefs image that its UKI seals, in hex.
    pub seal: String,
}

/// What the health checks said.
#[derive(Clone, Debug)]
pub struct Health {
    /// The checks, in the order in which they ran.
    pub checks: Vec<Check>,
}

/// One health check that has run.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its file name.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What it printed.
    pub text: String,
}

/// How a health check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With exit code 0.
    Passed,
    /// With another exit code, or by a signal.
    Failed {
        /// Which.
        ending: String,
    },
    /// Not within its time.
    TimedOut {
        /// The time it had.
        limit: Duration,
    },
}

impl Health {
    /// Whether every check passed.
    pub fn is_good(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.verdict == Verdict::Passed)
    }

    /// The first check that did not pass.
    pub fn first_failure(&self) -> Option<&Check> {
        self.checks
            .iter()
            .find(|check| check.verdict != Verdict::Passed)
    }
}

/// What went wrong with a board.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// A program of the board failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file of the board could not be worked with.
    #[error("{} could not be {done}: {source}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried: "read", "written", …
        done: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The caller is not root.
    #[error(
        "This board mounts the sealed root for real, and only root may do that. Run twinseal-hil as root, on a machine or in a container that may mount."
    )]
    NotRoot,
    /// The command line of the UKI does not state exactly one seal.
    #[error(
        "The UKI {} states {found} seals on its command line, and must state one (composefs=, then a digest in hex): {command_line}",
        uki.display()
    )]
    SealNotStated {
        /// The UKI.
        uki: PathBuf,
        /// Number of seals.
        found: usize,
        /// Its command line.
        command_line: String,
    },
    /// The composefs image is another than the one that the UKI seals.
    #[error("The seal does not hold: the UKI seals {stated}, and {} has the digest {found}.", image.display())]
    SealBroken {
        /// The digest on the UKI's command line.
        stated: String,
        /// The image.
        image: PathBuf,
        /// Its fs-verity digest.
        found: String,
    },
    /// The root could not be mounted.
    #[error(
        "The sealed root could not be mounted: {message}\nThis board needs root, EROFS, loop devices, and overlayfs with data-only layers (Linux 6.6). In a container, it must be a privileged one."
    )]
    Mount {
        /// What the mount program said.
        message: String,
    },
    /// The set has no health checks.
    #[error("There are no health checks in {}: a trial that checks nothing proves nothing. Put one there.", folder.display())]
    NoChecks {
        /// Where they belong.
        folder: PathBuf,
    },
    /// The board is off.
    #[error("The board is off: switch it on first.")]
    Off,
    /// The board is on.
    #[error("The board is on: switch it off first.")]
    On,
}

impl BoardError {
    /// The error of a file, for `map_err`.
    pub(crate) fn file(file: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, done, source }
    }
}
