//! The demo: a maker builds three releases of an appliance; a device runs the first, takes the second, and throws the
//! third, which is broken, out again.
//!
//! # Invariants
//! - Every step says what must come out, and the demo ends with an error when something else does.
//! - Only the output folder is written to, and only when it is the demo's own.

mod device;
mod error;
mod folder;
mod inputs;
mod maker;
mod recipe;
mod sealed;
mod tampered;

pub use error::DemoError;

use crate::board::Description;
use crate::boards::files::{self, Files};
use crate::command::Runner;
use crate::maker::tools::CERTIFICATE_TOOLS;
use crate::programs::{self, BUNDLER, require};
use crate::story::Story;
use device::Device;
use folder::Folder;
use inputs::Inputs;
use maker::{Made, Maker};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything goes.
    pub out: PathBuf,
    /// The demo's inputs.
    pub inputs: PathBuf,
    /// Where `twinseal-bundle` is.
    pub programs: PathBuf,
    /// Where the programs of the device are, static.
    pub device_programs: PathBuf,
    /// Keep keys and bundles of an earlier run.
    pub keep: bool,
    /// What every limit on the virtual board is multiplied by.
    pub patience: u32,
    /// QEMU, for the virtual board.
    pub qemu: PathBuf,
    /// This program: the virtual board's way to its web server.
    pub own: PathBuf,
}

/// Runs the demo on the virtual board: the appliance boots sealed, under Secure Boot.
///
/// # Errors
/// [`DemoError`] for the first thing that does not come out as it must.
pub fn run_on_uefi(options: &Options, out: impl Write) -> Result<(), DemoError> {
    sealed::run(options, out)
}

/// Runs the demo on the board of files, and tells it to `out`.
///
/// # Errors
/// [`DemoError`] for the first thing that does not come out as it must.
pub fn run_on_files(options: &Options, out: impl Write) -> Result<(), DemoError> {
    Files::check_machine()?;
    require(&[CERTIFICATE_TOOLS, device::TOOLS, files::TOOLS].concat())?;
    let bundler = &programs::built(&options.programs, BUNDLER)?;
    let inputs = Inputs::find(&options.inputs, &options.device_programs)?;
    let agent = &inputs.agent;
    let story = &mut Story::new(out);
    introduce(story, &files::DESCRIPTION)?;
    let folder = begin(story, options)?;
    let transcript = folder.at("transcript.txt");
    let file = File::create(&transcript).map_err(DemoError::file(&transcript, "written"))?;
    let runner = Arc::new(Runner::with_transcript(file));

    let maker = Maker {
        runner: &runner,
        bundler,
        folder: &folder,
        inputs: &inputs,
    };
    let made = maker.work(story)?;
    let board = &mut Files::new(parts(&folder, agent, &made), Arc::clone(&runner))?;
    Device {
        board,
        story,
        runner: &runner,
        folder: &folder,
        made: &made,
    }
    .live()?;
    summarise(story, &folder, agent, bundler)
}

/// Makes the output folder. Emptying that of an earlier run can take seconds, so it is told.
fn begin<W: Write>(story: &mut Story<W>, options: &Options) -> Result<Folder, DemoError> {
    let begin = || Folder::begin(&options.out, options.keep);
    if !Folder::is_of_a_demo(&options.out) {
        return begin();
    }
    story.line("")?;
    step(story, "remove what an earlier run left", || {
        Ok((begin()?, options.out.display().to_string()))
    })
}

fn parts(folder: &Folder, agent: &Path, made: &Made) -> files::Parts {
    files::Parts {
        folder: folder.at("device"),
        agent: agent.to_owned(),
        compatible: recipe::COMPATIBLE.to_owned(),
        release_key: made.release_key.clone(),
        certificate: made.certificate.clone(),
        trial_attempts: device::TRIAL_ATTEMPTS,
        check_limit: files::CHECK_LIMIT_DEFAULT,
    }
}

fn introduce<W: Write>(story: &mut Story<W>, board: &Description) -> Result<(), DemoError> {
    story.line(&format!("The board `{}`: {}.", board.name, board.made_of))?;
    board
        .limits
        .iter()
        .try_for_each(|limit| story.line(&format!("  - {limit}")))?;
    Ok(())
}

fn summarise<W: Write>(
    story: &mut Story<W>,
    folder: &Folder,
    agent: &Path,
    bundler: &Path,
) -> Result<(), DemoError> {
    let (agent, bundler) = (agent.display(), bundler.display());
    let (device, bundle) = (
        folder.at("device/device.toml"),
        folder.at("bundles/v2.tseal"),
    );
    let (device, bundle) = (device.display(), bundle.display());
    story.line(&format!(
        "\nDone in {:.0} s: v1 provisioned, v2 committed, v3 rolled back; a budget, a downgrade and two tampered bundles \
         refused.\nTo look around:\n  \
         {agent} --device {device} status\n  \
         {agent} --device {device} history --verify\n  \
         {bundler} inspect {bundle}\n  \
         tar tvf {bundle}\n  \
         less {transcript}     every command with its exit code and what it printed",
        story.elapsed().as_secs_f64(),
        transcript = folder.at("transcript.txt").display(),
    ))?;
    Ok(())
}

/// A step whose errors are the demo's: `work` gives a value and what to say about it.
fn step<W: Write, T, S: Into<String>>(
    story: &mut Story<W>,
    what: &str,
    work: impl FnOnce() -> Result<(T, S), DemoError>,
) -> Result<T, DemoError> {
    Ok(story.step(what, || work().map(|(value, said)| (value, said.into())))?)
}
