//! Scenarios of the microcontroller: what its server has, and what it makes of that. A small, closed vocabulary of its own.
//!
//! # Invariants
//! - A key, a step or a value that is not known is an error that names the file: a typing mistake never makes a test pass.

use crate::boards::mcu::Ending;
use crate::boards::mcu::medium::Moment;
use crate::scenario::{ScenarioError, SetOrNone, files_of, parse};
use crate::tamper::Set;
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// A scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name: that of its file.
    pub name: String,
    /// What it shows, in a sentence.
    pub shows: String,
    /// What is on the board before the first step.
    pub start: Start,
    /// Power cuts: the steps are done without one, and then, from a new copy of the start, after each.
    pub cuts: Option<Cuts>,
    /// What is done, in this order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// A power cut at every operation of the flash during the scenario's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cuts {
    /// Where in the operation.
    pub moment: When,
    /// What the server has while the power is cut.
    pub serve: Release,
}

/// Where in an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Just before it.
    Before,
    /// In the middle: what it writes is torn.
    Within,
}

impl From<When> for Moment {
    fn from(when: When) -> Self {
        match when {
            When::Before => Self::Before,
            When::Within => Self::Within,
        }
    }
}

/// A release that the maker builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// The first release.
    V1,
    /// A good update of the same anti-rollback version.
    V2,
    /// A good update that raises the floor.
    V3,
    /// It stops before its health check.
    Hangs,
    /// It panics.
    Panics,
    /// Its health check fails.
    Sick,
    /// V2 with one bit changed in the middle.
    Damaged,
    /// V2 signed by a stranger.
    Stranger,
    /// A release for another type of device.
    OtherDevice,
}

impl Release {
    /// Its name in scenarios, and that of its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
            Self::Hangs => "hangs",
            Self::Panics => "panics",
            Self::Sick => "sick",
            Self::Damaged => "damaged",
            Self::Stranger => "stranger",
            Self::OtherDevice => "other-device",
        }
    }

    /// All of them, each behind what it is made from.
    pub const ALL: [Self; 9] = [
        Self::V1,
        Self::V2,
        Self::V3,
        Self::Hangs,
        Self::Panics,
        Self::Sick,
        Self::Damaged,
        Self::Stranger,
        Self::OtherDevice,
    ];
}

/// What is on the board; it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// V1 in set a, as the factory installed it.
    Factory,
    /// From there, V2 was installed into set b, tried and committed.
    CommittedV2,
    /// From there, V3 was installed into set b, tried and committed.
    CommittedV3,
}

impl Start {
    /// The release that was committed after V1.
    pub const fn committed(self) -> Option<Release> {
        match self {
            Self::Factory => None,
            Self::CommittedV2 => Some(Release::V2),
            Self::CommittedV3 => Some(Release::V3),
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Step {
    /// The server has this release from now on.
    Serve { bundle: Release },
    /// The server has none from now on.
    ServeNothing {},
    /// Switches the board on, and waits until it goes off.
    Run {
        ends: Ending,
        /// Each in a line behind that of the one before.
        #[serde(default)]
        says: Vec<String>,
        #[serde(default)]
        never_says: Vec<String>,
        #[serde(default = "run_seconds")]
        limit_seconds: u64,
    },
    /// Compares what the board said last of its state.
    Expect(Expect),
    /// Flips a bit of the image in a set.
    FlipImageBit { set: Set },
}

const fn run_seconds() -> u64 {
    60
}

/// What the state of the device must be; what is not named is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// The running set.
    pub running: Option<Set>,
    /// The default set.
    pub default: Option<Set>,
    /// The set on trial.
    pub trial: Option<SetOrNone>,
    /// The anti-rollback floor.
    pub floor: Option<u64>,
    /// Sets marked bad: exactly these.
    pub bad: Option<Vec<Set>>,
    /// The running set is the default set, and nothing is on trial.
    #[serde(default)]
    pub settled: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve { bundle } => write!(f, "the server has {}", bundle.name()),
            Self::ServeNothing {} => f.write_str("the server has nothing"),
            Self::Run { ends, .. } => write!(f, "run until it is off: {ends:?}"),
            Self::Expect(_) => f.write_str("compare the state"),
            Self::FlipImageBit { set } => {
                write!(f, "flip a bit of the image in set {}", set.name())
            }
        }
    }
}

impl Scenario {
    fn read(file: &Path) -> Result<Self, ScenarioError> {
        let scenario: Self = parse(file)?;
        match scenario.unfit(file) {
            None => Ok(scenario),
            Some(what) => Err(ScenarioError::Unfit {
                file: file.to_owned(),
                what: what.to_owned(),
            }),
        }
    }

    fn unfit(&self, file: &Path) -> Option<&'static str> {
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let runs = |step: &Step| matches!(step, Step::Run { .. });
        if stem != Some(&self.name) {
            Some("its name must be that of its file.")
        } else if !self.steps.iter().any(runs) {
            Some("it never runs the board, so it shows nothing.")
        } else {
            None
        }
    }

    /// Whether a release must be made for it.
    pub fn takes(&self, release: Release) -> bool {
        let served = |step: &Step| matches!(step, Step::Serve { bundle } if *bundle == release);
        self.start.committed() == Some(release)
            || self.cuts.is_some_and(|cuts| cuts.serve == release)
            || self.steps.iter().any(served)
    }
}

/// Reads the scenarios of files and folders, folders by name; `filter` is a part of the name.
///
/// # Errors
/// The first [`ScenarioError`].
pub fn read_all(paths: &[PathBuf], filter: Option<&str>) -> Result<Vec<Scenario>, ScenarioError> {
    let files = files_of(paths)?;
    let read = files.iter().map(|file| Scenario::read(file));
    let mut scenarios = read.collect::<Result<Vec<_>, _>>()?;
    scenarios.retain(|scenario| filter.is_none_or(|part| scenario.name.contains(part)));
    Ok(scenarios)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, ScenarioError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("small.toml");
        std::fs::write(&file, text).unwrap();
        Scenario::read(&file)
    }

    const GOOD: &str = r#"
name = "small"
shows = "It can be read."
start = "committed-v3"
cuts = { moment = "within", serve = "sick" }

[[step]]
do = "run"
ends = "done"
says = ["state: "]

[[step]]
do = "expect"
running = "b"
settled = true
"#;

    #[test]
    fn a_scenario_is_read() {
        let scenario = read(GOOD).unwrap();
        let [Step::Run { ends, says, .. }, Step::Expect(expect)] = scenario.steps.as_slice() else {
            panic!("{scenario:?}");
        };
        assert_eq!(
            (*ends, says.len(), expect.running),
            (Ending::Done, 1, Some(Set::B))
        );
        let taken: Vec<_> = Release::ALL
            .into_iter()
            .filter(|one| scenario.takes(*one))
            .collect();
        assert_eq!(taken, [Release::V3, Release::Sick]);
    }

    #[test]
    fn what_is_not_known_or_shows_nothing_is_an_error() {
        for (from, to, words) in [
            ("settled", "setled", "setled"),
            ("\"run\"", "\"serve-nothing\"", "unknown field"),
            ("committed-v3", "committed-v9", "committed-v9"),
            ("\"small\"", "\"large\"", "that of its file"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let idle = GOOD.replace(
            "do = \"run\"\nends = \"done\"\nsays = [\"state: \"]",
            "do = \"serve-nothing\"",
        );
        let error = read(&idle).unwrap_err().to_string();
        assert!(error.contains("never runs"), "{error}");
    }

    #[test]
    fn every_scenario_of_the_board_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/mcu");
        assert!(!read_all(&[folder], None).unwrap().is_empty());
    }
}
