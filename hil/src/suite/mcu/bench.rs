//! What the scenarios of a run share: the releases, the parts of the board, and the start states, each made once.
//!
//! # Invariants
//! - A start state is made on the board itself, and kept only when every step came out as it must.

use super::execute::Execution;
use super::maker::Releases;
use super::scenario::{Expect, Release, Start, Step};
use crate::boards::mcu::medium::Medium;
use crate::boards::mcu::{Ending, Firmware, Parts, Program};
use crate::tamper::Set;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Limit of what the factory does.
const FACTORY_LIMIT: Duration = Duration::from_secs(60);

/// What scenarios share.
pub(super) struct Bench<'b> {
    /// QEMU.
    pub qemu: PathBuf,
    /// The firmware.
    pub firmware: Firmware,
    /// This program, as a relay.
    pub relay: PathBuf,
    /// The nginx to start, before `PATH` is asked.
    pub nginx: &'b Path,
    /// What every limit is multiplied by.
    pub patience: u32,
    /// The releases.
    pub releases: Releases,
    /// The seed of what happens by chance.
    pub seed: u64,
    /// Number of power cuts, instead of all.
    pub cuts: Option<u32>,
    /// For what goes with the run.
    pub scratch: &'b Path,
    /// For boards on which something failed.
    pub kept: &'b Path,
    /// The start states that were made.
    pub starts: Mutex<HashMap<Start, Arc<Once>>>,
}

/// A start state that is made once, or the reason why it could not be.
pub(super) type Once = OnceLock<Result<Medium, String>>;

impl Bench<'_> {
    /// The parts of a board whose server has this port.
    pub fn parts(&self, server_port: u16) -> Parts {
        Parts {
            qemu: self.qemu.clone(),
            firmware: self.firmware.clone(),
            relay: self.relay.clone(),
            server_port,
            patience: self.patience,
        }
    }

    /// The medium of a start state, which is made if nobody has. Nobody writes to it.
    ///
    /// # Errors
    /// With the reason why it could not be made.
    pub fn start(&self, start: Start) -> Result<Medium, String> {
        let cell = {
            let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(starts.entry(start).or_default())
        };
        let made = cell.get_or_init(|| self.make(start));
        made.clone()
            .map_err(|why| format!("The start state {start:?} could not be made.\n{why}"))
    }

    fn make(&self, start: Start) -> Result<Medium, String> {
        let kept = self.scratch.join(format!("{start:?}"));
        let mut execution = match start.committed() {
            None => {
                let new = Medium::make(&kept, &self.releases.key, self.seed as u32);
                let new = new.map_err(|error| error.to_string())?;
                Execution::new(self, &new).map_err(|error| error.to_string())?
            }
            Some(_) => {
                let factory = self.start(Start::Factory)?;
                Execution::new(self, &factory).map_err(|error| error.to_string())?
            }
        };
        match start.committed() {
            None => execution.noted("factory", |execution| {
                execution.serve(Release::V1)?;
                execution.run(Program::Factory, Ending::Done, FACTORY_LIMIT)
            })?,
            Some(release) => execution.steps(&committed(release))?,
        }
        let made = execution.board.medium().copy_to(&kept);
        made.map_err(|error| error.to_string())
    }
}

/// From V1 in set a to this release in set b.
fn committed(release: Release) -> [Step; 3] {
    let run = Step::Run {
        ends: Ending::Done,
        says: vec!["trial: committed set b".to_owned()],
        never_says: Vec::new(),
        limit_seconds: 60,
    };
    let expect = Step::Expect(Expect {
        running: Some(Set::B),
        settled: true,
        ..Expect::default()
    });
    [Step::Serve { bundle: release }, run, expect]
}
