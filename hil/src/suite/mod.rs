//! Runs scenarios on a board, side by side, and reports what came of them: here on the board `uefi`, in `mcu` on the
//! microcontroller.
//!
//! # Invariants
//! - Every scenario has a disk and variables of its own.
//! - The files of the report are those of this run: what an earlier one left there is removed first, and a run that cannot be
//!   made leaves a report that says why.

mod bench;
mod cuts;
mod execute;
mod expect;
mod kept;
mod landing;
mod mcu;
mod other_disk;
mod pool;
mod stick;
mod wire;

use crate::boards::mcu::McuError;
use crate::boards::uefi::qemu;
use crate::boards::uefi::{Parts, Processor, UefiError, beside};
use crate::command::{CommandError, Runner};
use crate::disk::{self, DiskError};
use crate::guard;
use crate::maker::{self, Inputs, Made, MakerError, Order};
use crate::programs::{self, BUNDLER, ProgramsError, require};
use crate::report::{self, Outcome, Report, ScenarioResult, Starts};
use crate::scenario::{self, Appliance, Bundle, Need, Scenario, ScenarioError, Start};
use crate::tamper;
use crate::web::{WebError, WebServer};
use bench::{Bench, Folders};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A board that scenarios run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Board {
    /// QEMU with UEFI firmware and Secure Boot.
    Uefi,
    /// The same with a 64-bit ARM processor.
    UefiAarch64,
    /// The same with a 32-bit ARM processor, without Secure Boot and watchdog.
    UefiArmv7,
    /// A microcontroller in QEMU: a Cortex-M4 with a network, a watchdog, and a flash that can cut the power.
    Mcu,
}

impl Board {
    /// Its name in reports.
    const fn name(self) -> &'static str {
        match self.processor() {
            Some(processor) => processor.board(),
            None => "mcu",
        }
    }

    /// The processor of a board with UEFI firmware.
    const fn processor(self) -> Option<Processor> {
        match self {
            Self::Uefi => Some(Processor::X86_64),
            Self::UefiAarch64 => Some(Processor::Aarch64),
            Self::UefiArmv7 => Some(Processor::Armv7),
            Self::Mcu => None,
        }
    }

    /// The QEMU that runs it, when nobody names one.
    pub fn qemu(self) -> PathBuf {
        let of_uefi = self.processor().map(Processor::qemu);
        of_uefi.unwrap_or("qemu-system-arm").into()
    }

    /// The folder of its device's programs, when nobody names one. The microcontroller has none.
    pub fn device_programs(self) -> PathBuf {
        let processor = self.processor().unwrap_or(Processor::X86_64);
        processor.device_programs().0.into()
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The board.
    pub board: Board,
    /// Scenario files, and folders of them.
    pub paths: Vec<PathBuf>,
    /// A part of the names of those that are run.
    pub filter: Option<String>,
    /// Where JUnit's XML goes.
    pub junit: Option<PathBuf>,
    /// Where the page goes.
    pub html: Option<PathBuf>,
    /// How many run side by side.
    pub jobs: usize,
    /// The seed of every random moment.
    pub seed: u64,
    /// Power cuts of each scenario that has some, instead of its own number.
    pub cuts: Option<u32>,
    /// What every limit is multiplied by.
    pub patience: u32,
    /// Where everything goes that is made.
    pub out: PathBuf,
    /// What `scripts/appliance.sh` made.
    pub inputs: PathBuf,
    /// Where `twinseal-bundle` is.
    pub programs: PathBuf,
    /// Where the static programs of a device are.
    pub device_programs: PathBuf,
    /// Where the programs of the microcontroller's firmware are.
    pub firmware: PathBuf,
    /// QEMU.
    pub qemu: PathBuf,
    /// This program.
    pub own: PathBuf,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Programs are missing.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// The releases could not be made.
    #[error("The releases for the scenarios could not be made.\n{0}")]
    Maker(#[from] MakerError),
    /// The releases of the microcontroller could not be made.
    #[error("The releases for the scenarios could not be made.\n{0}")]
    Releases(#[from] mcu::ReleasesError),
    /// The board cannot be had.
    #[error(transparent)]
    Board(#[from] UefiError),
    /// The microcontroller cannot be had.
    #[error(transparent)]
    Mcu(#[from] McuError),
    /// The disk image could not be worked with.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The web server does not serve.
    #[error(transparent)]
    Web(#[from] WebError),
    /// No scenario is left.
    #[error("No scenario has {filter:?} in its name, so nothing would be tested.")]
    NothingLeft {
        /// The filter.
        filter: String,
    },
    /// Power cuts were asked for, and none would be made.
    #[error(
        "--cuts 0 makes no power cuts, so nothing would be tested by them. Leave it out, or give a number above 0."
    )]
    NoCuts,
    /// A file could not be written.
    #[error("{} could not be {done}: {source}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried.
        done: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The XML could not be made.
    #[error("The report could not be written as XML: {0}.")]
    Xml(#[from] quick_junit::SerializeError),
    /// Nobody hears the results.
    #[error("Standard output could not be written: {0}.")]
    Told(#[from] io::Error),
}

impl SuiteError {
    fn file(file: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, done, source }
    }
}

/// Runs scenarios and tells each result to `out` as soon as it is there.
///
/// # Errors
/// [`SuiteError`] when there is no report. A scenario that failed is no error but a part of it.
pub fn run(options: &Options, out: impl Write + Send) -> Result<Report, SuiteError> {
    remove_files(options)?;
    let begin = Instant::now();
    let ran = match options.board.processor() {
        Some(processor) => run_here(options, processor, out),
        None => mcu::run(options, out),
    };
    if let Err(error) = &ran {
        // Why there is no report is told in any case; where it cannot be written, no file of an earlier run is left.
        let _ = write_files(options, &not_made(options, error, begin.elapsed()));
    }
    ran
}

fn run_here(
    options: &Options,
    processor: Processor,
    mut out: impl Write + Send,
) -> Result<Report, SuiteError> {
    let scenarios = scenario::read_all(&options.paths, options.filter.as_deref())?;
    check(options, scenarios.len())?;
    require(
        &[
            disk::TOOLS,
            tamper::TOOLS,
            guard::TOOLS,
            maker::tools::CERTIFICATE_TOOLS,
            maker::tools::DIGEST_TOOLS,
        ]
        .concat(),
    )?;
    let version = qemu::check(&options.qemu)?;
    let bundler = programs::built(&options.programs, BUNDLER)?;
    let begin = Instant::now();
    fs::create_dir_all(&options.out).map_err(SuiteError::file(&options.out, "made"))?;
    let folder = fs::canonicalize(&options.out).map_err(SuiteError::file(&options.out, "found"))?;
    let runner = runner(&folder)?;
    let inputs = Inputs {
        processor,
        folder: processor.inputs(&options.inputs),
        tools: options.inputs.join("tools"),
        general_folder: beside(&options.inputs, "-general"),
        device_programs: options.device_programs.clone(),
    };
    let scratch = tempfile::tempdir_in(&folder).map_err(SuiteError::file(&folder, "written"))?;
    let served = scratch.path().join("bundles");
    let make = |(appliance, bundles): (Appliance, Vec<Bundle>)| -> Result<Made, MakerError> {
        let from_both =
            |one: &Scenario| one.appliance() == appliance && one.start == Start::FactoryBoth;
        let order = Order {
            appliance,
            bundles: &bundles,
            both_sets: scenarios.iter().any(from_both),
            folder: &scratch.path().join(appliance.name()),
            served: &served,
        };
        maker::make(&runner, &bundler, &inputs, order)
    };
    let made: Result<Vec<_>, _> = orders(&scenarios).into_iter().map(make).collect();
    let made = made?;
    let server = WebServer::start(
        &served,
        &folder.join("web"),
        Some(&options.inputs.join("tools/nginx")),
    )?;
    writeln!(
        out,
        "made the releases in {:.0} s; seed {}",
        begin.elapsed().as_secs_f64(),
        options.seed
    )?;
    let parts = Parts {
        processor,
        qemu: options.qemu.clone(),
        firmware: inputs.firmware()?,
        own: options.own.clone(),
        server_port: Some(server.port),
        memory_mib: processor.memory_mib(),
        patience: options.patience,
    };
    let kept = folder.join(kept::FOLDER);
    remove_folder(&kept)?;
    let folders = Folders {
        scratch: scratch.path(),
        kept: &kept,
    };
    let bench = Bench::new(runner, bundler, parts, made, folders, options);
    let results = pool::run_all(&scenarios, options.jobs, &mut out, |scenario| {
        run_one(&bench, scenario)
    })?;
    let machine = format!("{version}; bundles from {}", server.name);
    let report = Report {
        board: options.board.name().to_owned(),
        machine,
        seed: options.seed,
        elapsed: begin.elapsed(),
        results,
    };
    finish(options, report, out)
}

/// Writes the report's files, and says the last lines.
fn finish(options: &Options, report: Report, mut out: impl Write) -> Result<Report, SuiteError> {
    write_files(options, &report)?;
    if report.cuts() > 0 {
        let (cuts, late) = (report.cuts(), report.late_cuts());
        writeln!(
            out,
            "{cuts} power cuts, of these {late} too late, seed {}",
            report.seed
        )?;
    }
    if let Some(starts) = Starts::of(&report) {
        writeln!(out, "{starts}")?;
    }
    writeln!(out, "{}", report.counts())?;
    Ok(report)
}

/// The releases to make, for each appliance that a scenario asks for.
fn orders(scenarios: &[Scenario]) -> Vec<(Appliance, Vec<Bundle>)> {
    let of = |appliance: Appliance| {
        let all = scenarios.iter();
        all.filter(move |one| one.appliance() == appliance)
    };
    let asked = Appliance::ALL
        .into_iter()
        .filter(|appliance| of(*appliance).next().is_some());
    asked
        .map(|appliance| {
            let mut bundles = Bundle::ALL.to_vec();
            bundles.retain(|bundle| of(appliance).any(|scenario| scenario.takes(*bundle)));
            (appliance, bundles)
        })
        .collect()
}

fn check(options: &Options, scenarios: usize) -> Result<(), SuiteError> {
    if scenarios == 0 {
        return Err(SuiteError::NothingLeft {
            filter: options.filter.clone().unwrap_or_default(),
        });
    }
    if options.cuts == Some(0) {
        Err(SuiteError::NoCuts)
    } else {
        Ok(())
    }
}

fn runner(folder: &Path) -> Result<Runner, SuiteError> {
    let transcript = folder.join("transcript.txt");
    let file = File::create(&transcript).map_err(SuiteError::file(&transcript, "written"))?;
    Ok(Runner::with_transcript(file))
}

/// Removes what an earlier run left where this one's report goes.
fn remove_files(options: &Options) -> Result<(), SuiteError> {
    for file in [&options.html, &options.junit].into_iter().flatten() {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SuiteError::file(file, "removed")(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<(), SuiteError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SuiteError::file(folder, "removed")(error))
        }
        _ => Ok(()),
    }
}

/// The report of a run that could not be made: one case, which failed.
fn not_made(options: &Options, error: &SuiteError, elapsed: Duration) -> Report {
    let outcome = Outcome::Failed(error.to_string());
    let result = ScenarioResult {
        elapsed,
        ..ScenarioResult::new("run", "The run can be made.", outcome)
    };
    Report {
        board: options.board.name().to_owned(),
        machine: "The run could not be made".to_owned(),
        seed: options.seed,
        elapsed,
        results: vec![result],
    }
}

fn write_files(options: &Options, report: &Report) -> Result<(), SuiteError> {
    if let Some(file) = &options.html {
        fs::write(file, report::html(report)).map_err(SuiteError::file(file, "written"))?;
    }
    if let Some(file) = &options.junit {
        fs::write(file, report::junit(report)?).map_err(SuiteError::file(file, "written"))?;
    }
    Ok(())
}

fn run_one(bench: &Bench<'_>, scenario: &Scenario) -> ScenarioResult {
    let begin = Instant::now();
    let processor = bench.parts.processor;
    let lacks = scenario.lacks(processor.has());
    if !lacks.is_empty() {
        return ended(
            scenario,
            Outcome::Skipped(lacking(processor, &lacks)),
            Duration::ZERO,
        );
    }
    pool::caught(
        || execute::scenario(bench, scenario),
        |failed| ended(scenario, failed, begin.elapsed()),
    )
}

/// Why a scenario cannot run on this board.
fn lacking(processor: Processor, lacks: &[Need]) -> String {
    let names: Vec<_> = lacks.iter().map(|need| need.name()).collect();
    format!(
        "The board {} has no {}.",
        processor.board(),
        names.join(", ")
    )
}

fn ended(scenario: &Scenario, outcome: Outcome, elapsed: Duration) -> ScenarioResult {
    ScenarioResult {
        elapsed,
        ..ScenarioResult::new(&scenario.name, &scenario.shows, outcome)
    }
}

#[cfg(test)]
mod tests;
