//! What the scenarios of a run share: the releases, the parts of the board, and the start states, each made once.
//!
//! # Invariants
//! - A start state is made by scenario steps on the board itself, and kept only when every step came out as it must.

use super::execute::Execution;
use super::{Options, SuiteError};
use crate::boards::uefi::Parts;
use crate::command::Runner;
use crate::disk;
use crate::maker::Made;
use crate::report::MOUNTED_WORDS;
use crate::scenario::{Appliance, Bundle, Expect, SetOrNone, Start, Step};
use crate::tamper::Set;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Limit of a boot on a busy machine.
const BOOT_SECONDS: u64 = 180;

/// What scenarios share.
pub(super) struct Bench<'b> {
    /// Runs the tools of the host.
    pub runner: Runner,
    /// `twinseal-bundle`.
    pub bundler: PathBuf,
    /// The board.
    pub parts: Parts,
    /// The releases, for each appliance that a scenario asks for.
    made: Vec<Made>,
    /// The seed of every random moment.
    pub seed: u64,
    /// Number of power cuts, instead of a scenario's own.
    pub cuts: Option<u32>,
    folder: &'b Path,
    /// Where boards are kept on which something failed.
    pub kept: &'b Path,
    starts: Mutex<HashMap<(Appliance, Start), Arc<Once>>>,
}

/// Folders of a run.
pub(super) struct Folders<'b> {
    /// For what goes with the run.
    pub scratch: &'b Path,
    /// For boards on which something failed.
    pub kept: &'b Path,
}

/// A start state that is made once, or the reason why it could not be.
type Once = OnceLock<Result<State, String>>;

/// A board that is off, or was set aside while it was on.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The disk.
    pub disk: PathBuf,
    /// The firmware's variables.
    pub variables: PathBuf,
    /// Memory and devices of a board that is on; they are only read.
    pub machine: Option<PathBuf>,
}

impl<'b> Bench<'b> {
    /// A bench without any start state yet.
    pub(super) fn new(
        runner: Runner,
        bundler: PathBuf,
        parts: Parts,
        made: Vec<Made>,
        folders: Folders<'b>,
        options: &Options,
    ) -> Self {
        Self {
            runner,
            bundler,
            parts,
            made,
            seed: options.seed,
            cuts: options.cuts,
            folder: folders.scratch,
            kept: folders.kept,
            starts: Mutex::default(),
        }
    }

    /// A folder that is removed with its value.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, SuiteError> {
        tempfile::tempdir_in(self.folder).map_err(SuiteError::file(self.folder, "written"))
    }

    /// The releases for an appliance.
    ///
    /// # Errors
    /// When none were made, which is a mistake of this program.
    pub(super) fn made(&self, appliance: Appliance) -> Result<&Made, String> {
        let found = self.made.iter().find(|made| made.appliance == appliance);
        found.ok_or_else(|| format!("No releases were made for {}.", appliance.name()))
    }

    /// Copies a start state into a folder, after making it if nobody has.
    ///
    /// # Errors
    /// With the reason why it could not be made.
    pub(super) fn start(
        &self,
        appliance: Appliance,
        start: Start,
        folder: &Path,
    ) -> Result<State, String> {
        let cell = {
            let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(starts.entry((appliance, start)).or_default())
        };
        let state = cell.get_or_init(|| self.make(appliance, start)).clone();
        let state =
            state.map_err(|why| format!("The start state {start} could not be made.\n{why}"))?;
        self.copy(&state, folder).map_err(|error| error.to_string())
    }

    /// Copies the state of a board into a folder.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub(super) fn copy(&self, from: &State, folder: &Path) -> Result<State, SuiteError> {
        let to = State {
            disk: folder.join("disk.img"),
            variables: folder.join("variables.fd"),
            machine: from.machine.clone(),
        };
        disk::copy(&self.runner, &from.disk, &to.disk)?;
        disk::copy(&self.runner, &from.variables, &to.variables)?;
        Ok(to)
    }

    fn make(&self, appliance: Appliance, start: Start) -> Result<State, String> {
        let made = self.made(appliance)?;
        let new = State {
            disk: made.disk(),
            variables: made.variables(),
            machine: None,
        };
        let (from, steps) = match start {
            Start::Factory => return Ok(new),
            Start::FactoryBoth => {
                let disk = made.disk_of_both_sets();
                return Ok(State { disk, ..new });
            }
            Start::CommittedV1 => (Start::Factory, first_boot()),
            Start::Armed(bundle) => (Start::RunningV1, vec![install(bundle), Step::PowerOff {}]),
            Start::CommittedV2 => (Start::Armed(Bundle::V2), commit()),
            Start::RunningV1 => (Start::CommittedV1, vec![Step::PowerOn {}, up(Bundle::V1)]),
            Start::RunningArmed(bundle) => (Start::RunningV1, vec![install(bundle)]),
            Start::Trying(bundle) => (Start::Armed(bundle), try_out()),
        };
        let name = format!("start-{}-{start}", appliance.name());
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let state = self.start(appliance, from, &folder)?;
        let machine = start.is_on().then(|| folder.join("machine"));
        let mut execution = Execution::new(self, made, &state, &format!("start {start}"), None)?;
        let done = execution.steps(&steps).and_then(|()| {
            machine
                .iter()
                .try_for_each(|file| execution.set_aside(file))
        });
        let console = execution.tail();
        drop(execution);
        done.map_err(|why| format!("{why}\nThe console's end:\n{console}"))?;
        Ok(State { machine, ..state })
    }
}

const fn up(release: Bundle) -> Step {
    Step::WaitUp {
        release: Some(release),
        limit_seconds: BOOT_SECONDS,
    }
}

fn settled(running: Set, seal: Bundle) -> Step {
    Step::Expect(Expect {
        running: Some(running),
        seal: Some(vec![seal]),
        trial: Some(SetOrNone::None),
        settled: true,
        limit_seconds: 60,
        ..Expect::default()
    })
}

fn first_boot() -> Vec<Step> {
    vec![
        Step::PowerOn {},
        up(Bundle::V1),
        settled(Set::A, Bundle::V1),
        Step::PowerOff {},
    ]
}

const fn install(bundle: Bundle) -> Step {
    Step::Install {
        bundle,
        exit: 0,
        attempts: None,
        no_trial: false,
        prints: None,
        limit_seconds: 240,
    }
}

fn try_out() -> Vec<Step> {
    let mounted = Step::WaitConsole {
        words: MOUNTED_WORDS.to_owned(),
        times: 1,
        limit_seconds: BOOT_SECONDS,
    };
    vec![Step::PowerOn {}, mounted]
}

fn commit() -> Vec<Step> {
    vec![
        Step::PowerOn {},
        up(Bundle::V2),
        settled(Set::B, Bundle::V2),
        Step::PowerOff {},
    ]
}
