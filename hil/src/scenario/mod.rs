//! Scenarios: what is done to a board and what must come of it, as TOML with a small, closed vocabulary.
//!
//! # Invariants
//! - A key, a step or a value that is not known is an error that names the file: a typing mistake never makes a test pass.

mod step;
mod words;

pub use step::{Expect, Step, Traffic};
pub use words::{Appliance, Bundle, Kernel, Loader, Need, Reading, SetOrNone, Start};

use crate::link::Shape;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name: that of its file.
    pub name: String,
    /// What it shows, in a sentence.
    pub shows: String,
    /// What it needs of a board.
    pub needs: Vec<Need>,
    /// What starts the UKIs of the board.
    #[serde(default)]
    pub loader: Loader,
    /// The kernel of its releases.
    #[serde(default)]
    pub kernel: Kernel,
    /// The state of the board before its first step.
    pub start: Start,
    /// Whether another disk with partitions of the same labels is plugged in, before the board's own in the kernel's order.
    #[serde(default)]
    pub other_disk: bool,
    /// A release on a stick that is plugged in: into a USB port where the kernel knows USB. From the start, or by a step.
    pub stick: Option<Bundle>,
    /// Whether the stick also has a UKI that starts a recovery.
    #[serde(default)]
    pub stick_starts: bool,
    /// Whether nobody is in reach of the board's network card.
    #[serde(default)]
    pub offline: bool,
    /// What is wrong with the way to the web server.
    pub link: Option<Shape>,
    /// Power cuts before the steps.
    pub cuts: Option<Cuts>,
    /// What is done, in this order. With cuts: after each cut.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// Power cuts at random moments. Each has a new copy of the start: `before`, then the cut within `within-ms` after the last of
/// these steps, then the steps of the scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cuts {
    /// How many, unless the command line says otherwise.
    pub count: u32,
    /// The latest moment of a cut.
    pub within_ms: u64,
    /// What is done before each; the last step is the one during which the power is cut. On a board that is on at the start it
    /// may be nothing.
    #[serde(default)]
    pub before: Vec<Step>,
    /// What is done once more after the last one.
    #[serde(default)]
    pub after: Vec<Step>,
}

/// A scenario that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// A file or folder cannot be read.
    #[error("{} could not be read: {source}.", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no scenario.
    #[error("{} is no scenario: {source}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// Its contents do not go together.
    #[error("{}: {what}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is none.
    #[error("There is no scenario in {}: files that end in .toml are looked for.", folder.display())]
    None {
        /// The folder.
        folder: PathBuf,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] names the file and what is wrong with it.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let scenario: Self = parse(file)?;
        match scenario.unfit(file) {
            None => Ok(scenario),
            Some(what) => Err(ScenarioError::Unfit {
                file: file.to_owned(),
                what,
            }),
        }
    }

    /// What it needs, and is not among what a board has.
    pub fn lacks(&self, has: &[Need]) -> Vec<Need> {
        let needs = self.needs.iter().copied();
        needs.filter(|need| !has.contains(need)).collect()
    }

    /// Whether a release must be made for it.
    pub fn takes(&self, bundle: Bundle) -> bool {
        self.start.holds(bundle)
            || self.stick == Some(bundle)
            || self.stick_starts && bundle == Bundle::Rescue
            || self
                .link
                .as_ref()
                .is_some_and(|link| link.takes(bundle.name()))
            || self.all_steps().any(|step| step.takes(bundle))
    }

    /// What its releases are made for.
    pub const fn appliance(&self) -> Appliance {
        Appliance {
            loader: self.loader,
            kernel: self.kernel,
        }
    }

    /// All its steps, those around a power cut too.
    fn all_steps(&self) -> impl Iterator<Item = &Step> {
        let (before, after) = self.cuts.as_ref().map_or((&[][..], &[][..]), |cuts| {
            (cuts.before.as_slice(), cuts.after.as_slice())
        });
        before.iter().chain(&self.steps).chain(after)
    }

    /// Whether a step of its own plugs the stick in.
    pub fn plugs_in(&self) -> bool {
        self.all_steps().any(|step| *step == Step::PlugIn {})
    }

    /// What it uses of a board.
    fn uses(&self) -> Vec<Need> {
        let mut uses: Vec<_> = self.all_steps().filter_map(Step::needs).collect();
        uses.extend(self.cuts.as_ref().map(|_| Need::PowerCut));
        uses.extend(self.link.as_ref().map(|_| Need::Network));
        uses
    }

    /// What does not go together.
    fn unfit(&self, file: &Path) -> Option<String> {
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let cuts = self.cuts.as_ref();
        if stem != Some(&self.name) {
            Some(format!(
                "it is called {:?}, and must be called as its file.",
                self.name
            ))
        } else if self.steps.is_empty() {
            Some("it has no steps, so it shows nothing.".to_owned())
        } else if cuts
            .is_some_and(|cuts| cuts.count == 0 || cuts.before.is_empty() && !self.start.is_on())
        {
            Some("its cuts need a count above 0, and steps before them.".to_owned())
        } else if self.start.is_on() && (self.other_disk || self.stick.is_some() || self.offline) {
            Some("its board is on at the start, and nothing can be plugged in or out.".to_owned())
        } else if self.other_disk && cuts.is_some() {
            Some("another disk is compared at the end, and cuts have many ends.".to_owned())
        } else if self.stick.is_some() && (self.other_disk || cuts.is_some()) {
            Some("a stick goes with neither another disk nor cuts.".to_owned())
        } else if !Appliance::ALL.contains(&self.appliance()) {
            Some("the general kernel goes with the loader uefi alone.".to_owned())
        } else if self.kernel == Kernel::General && self.other_disk {
            Some(
                "the general kernel finds another disk in a USB port, behind the board's own."
                    .to_owned(),
            )
        } else if self.stick_starts && self.stick.is_none() {
            Some("a stick that starts a recovery has a release to recover with.".to_owned())
        } else if self.plugs_in() && (self.stick.is_none() || self.kernel != Kernel::General) {
            Some(
                "what is plugged in is its stick, and the general kernel alone knows USB."
                    .to_owned(),
            )
        } else if self.offline && self.needs.contains(&Need::Network) {
            Some("it is offline, and needs the network.".to_owned())
        } else if self.link.is_none() && self.all_steps().any(Step::looks_at_link) {
            Some("its steps look at a link, and it has none.".to_owned())
        } else {
            let unsaid = self
                .uses()
                .into_iter()
                .find(|use_| !self.needs.contains(use_));
            unsaid.map(|need| {
                format!(
                    "its steps need {0}, and it does not say that it needs {0}.",
                    need.name()
                )
            })
        }
    }
}

/// Reads the scenarios of files and folders, folders by name; `filter` is a part of the name.
///
/// # Errors
/// The first [`ScenarioError`]; also when a folder has none.
pub fn read_all(paths: &[PathBuf], filter: Option<&str>) -> Result<Vec<Scenario>, ScenarioError> {
    let files = files_of(paths)?;
    let read = files.iter().map(|file| Scenario::read(file));
    let mut scenarios = read.collect::<Result<Vec<_>, _>>()?;
    scenarios.retain(|scenario| filter.is_none_or(|part| scenario.name.contains(part)));
    Ok(scenarios)
}

/// Reads a file of scenarios' TOML.
///
/// # Errors
/// When it cannot be read, or is none.
pub(crate) fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, ScenarioError> {
    let text = fs::read_to_string(file).map_err(|source| ScenarioError::Read {
        file: file.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| ScenarioError::Syntax {
        file: file.to_owned(),
        source: Box::new(source),
    })
}

/// The files of scenarios in files and folders, those of a folder by name.
///
/// # Errors
/// When a folder cannot be read, or has none.
pub(crate) fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ScenarioError> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(files(path)?);
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, ScenarioError> {
    let listed: io::Result<Vec<_>> = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    });
    let mut files = listed.map_err(|source| ScenarioError::Read {
        file: folder.to_owned(),
        source,
    })?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    if files.is_empty() {
        return Err(ScenarioError::None {
            folder: folder.to_owned(),
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
