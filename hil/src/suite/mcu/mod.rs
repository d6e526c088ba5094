//! Runs scenarios on the board `mcu`.
//!
//! # Invariants
//! - Every scenario has a medium and a server of its own.

mod bench;
mod cuts;
mod execute;
mod maker;
mod scenario;

pub use maker::ReleasesError;

use super::{Options, SuiteError, check, finish, kept, pool, remove_folder, runner};
use crate::boards::mcu::Firmware;
use crate::boards::uefi::qemu;
use crate::guard;
use crate::maker::tools::CERTIFICATE_TOOLS;
use crate::programs::{self, BUNDLER, require};
use crate::report::{Outcome, Report, ScenarioResult};
use bench::Bench;
use execute::Execution;
use scenario::Scenario;
use std::fs;
use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

/// Runs scenarios and tells each result to `out` as soon as it is there.
///
/// # Errors
/// When there is no report.
pub(super) fn run(options: &Options, mut out: impl Write + Send) -> Result<Report, SuiteError> {
    let scenarios = scenario::read_all(&options.paths, options.filter.as_deref())?;
    check(options, scenarios.len())?;
    require(&[guard::TOOLS, CERTIFICATE_TOOLS].concat())?;
    let version = qemu::check(&options.qemu)?;
    let bundler = programs::built(&options.programs, BUNDLER)?;
    let firmware = Firmware::find(&options.firmware)?;
    let begin = Instant::now();
    fs::create_dir_all(&options.out).map_err(SuiteError::file(&options.out, "made"))?;
    let folder = fs::canonicalize(&options.out).map_err(SuiteError::file(&options.out, "found"))?;
    let scratch = tempfile::tempdir_in(&folder).map_err(SuiteError::file(&folder, "written"))?;
    let kept = folder.join(kept::FOLDER);
    remove_folder(&kept)?;
    let releases = maker::make(
        &runner(&folder)?,
        &bundler,
        &firmware.application(),
        |release| scenarios.iter().any(|scenario| scenario.takes(release)),
        &scratch.path().join("bundles"),
    )?;
    let bench = Bench {
        qemu: options.qemu.clone(),
        firmware,
        relay: options.own.clone(),
        nginx: &options.inputs.join("tools/nginx"),
        patience: options.patience,
        releases,
        seed: options.seed,
        cuts: options.cuts,
        scratch: scratch.path(),
        kept: &kept,
        starts: Mutex::default(),
    };
    let results = pool::run_all(&scenarios, options.jobs, &mut out, |scenario| {
        pool::caught(
            || run_one(&bench, scenario),
            |failed| ScenarioResult::new(&scenario.name, &scenario.shows, failed),
        )
    })?;
    let report = Report {
        board: options.board.name().to_owned(),
        machine: version,
        seed: options.seed,
        elapsed: begin.elapsed(),
        results,
    };
    finish(options, report, out)
}

fn run_one(bench: &Bench<'_>, scenario: &Scenario) -> ScenarioResult {
    let begin = Instant::now();
    let mut result = ScenarioResult::new(&scenario.name, &scenario.shows, Outcome::Passed);
    let begun = bench
        .start(scenario.start)
        .and_then(|start| Execution::new(bench, &start).map_err(|error| error.to_string()));
    let ended = begun.and_then(|mut execution| {
        let ended = match scenario.cuts {
            None => execution.steps(&scenario.steps),
            Some(cuts) => cuts::with_cuts(bench, scenario, cuts, &mut execution, &mut result.cuts),
        };
        result.steps = std::mem::take(&mut execution.results);
        ended.map_err(|why| format!("{why}\n{}", execution.keep(scenario)))
    });
    if let Err(why) = ended {
        result.outcome = Outcome::Failed(why);
    }
    result.elapsed = begin.elapsed();
    result
}
