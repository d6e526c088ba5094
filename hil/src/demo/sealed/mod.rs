//! The demo on the virtual board: a real Debian with systemd, sealed, under Secure Boot.
//!
//! # Invariants
//! - What is shown is what the appliance says: on its console, and as the answer to commands on its control line.
//! - Console and control line are in files of the output folder, also when a step failed.
//!
//! # Power loss
//! The demo switches off in order; `scenarios/` cut the power.

mod alteration;
mod factory;
mod guest;
mod life;
mod served;

use super::error::DemoError;
use super::folder::Folder;
use super::inputs::{Firmware, Inputs};
use super::maker::Maker;
use super::{Options, begin, introduce};
use crate::board::Description;
use crate::boards::uefi::{Parts, Processor, Uefi, qemu};
use crate::command::Runner;
use crate::maker::tools::{CERTIFICATE_TOOLS, DIGEST_TOOLS};
use crate::programs::{self, BUNDLER, require};
use crate::story::Story;
use crate::stream::Stream;
use crate::web::WebServer;
use crate::{disk, guard};
use alteration::Alteration;
use guest::Guest;
use life::Life;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Memory of the board in MiB.
const MEMORY_MIB: u32 = 512;

/// What the board is.
const DESCRIPTION: Description = Description {
    name: "uefi",
    made_of: "QEMU with UEFI firmware, Secure Boot with the owner's keys, a disk, a watchdog, and a network with one web server",
    limits: &[
        "The processor is emulated: what takes seconds here takes a fraction of them on a machine.",
        "The appliance has a control line for this demo. One that leaves the house has no such door.",
    ],
};

/// Runs the demo on the virtual board, and tells it to `out`.
///
/// # Errors
/// [`DemoError`] for the first thing that does not come out as it must.
pub(super) fn run(options: &Options, out: impl Write) -> Result<(), DemoError> {
    qemu::check(&options.qemu).map_err(DemoError::NoVirtualBoard)?;
    require(&[CERTIFICATE_TOOLS, disk::TOOLS, guard::TOOLS, DIGEST_TOOLS].concat())?;
    let bundler = programs::built(&options.programs, BUNDLER)?;
    let inputs = Inputs::find(&options.inputs, &options.device_programs)?;
    let firmware = Firmware::find(&options.inputs)?;
    let story = &mut Story::new(out);
    introduce(story, &DESCRIPTION)?;
    let folder = begin(story, options)?;
    let transcript = folder.at("transcript.txt");
    let file = File::create(&transcript).map_err(DemoError::file(&transcript, "written"))?;
    let runner = &Runner::with_transcript(file);

    let maker = Maker {
        runner,
        bundler: &bundler,
        folder: &folder,
        inputs: &inputs,
    };
    let made = maker.work(story)?;
    let factory = factory::Factory {
        runner,
        bundler: &bundler,
        folder: &folder,
        inputs_folder: &options.inputs,
        firmware: &firmware,
        made: &made,
    };
    let device = factory.work(story)?;
    let nginx = options.inputs.join("tools/nginx");
    let server = WebServer::start(&folder.at("bundles"), &folder.at("web"), Some(&nginx))?;
    let parts = Parts {
        processor: Processor::X86_64,
        qemu: options.qemu.clone(),
        firmware: firmware.code.clone(),
        own: options.own.clone(),
        server_port: Some(server.port),
        memory_mib: MEMORY_MIB,
        patience: options.patience,
    };
    let board = Uefi::new(parts.clone(), device.disk.clone(), device.variables.clone());
    let guest = &mut Guest { board, runner };
    let [_, v2, _] = &inputs.releases;
    let alteration = Alteration {
        runner,
        device: &device,
        root: &v2.root,
    };
    let life = Life {
        guest,
        story,
        folder: &folder,
        made: &made,
        alteration,
    };
    lived(life, &folder)?;
    summarise(story, &folder, &parts, &device)
}

/// The life, and then its console and control line into files, however it ended.
fn lived<W: Write>(mut life: Life<'_, '_, W>, folder: &Folder) -> Result<(), DemoError> {
    let lived = life.live();
    let console = folder.at("console.txt");
    let board = &life.guest.board;
    keep(board.console(), &console)?;
    keep(board.control(), &folder.at("control-line.txt"))?;
    lived.map_err(|source| DemoError::WithConsole {
        source: Box::new(source),
        tail: board.console().tail(),
        file: console,
    })
}

fn keep(stream: &Stream, file: &Path) -> Result<(), DemoError> {
    let lines: Vec<String> = stream.since(0).iter().map(ToString::to_string).collect();
    fs::write(file, lines.join("\n") + "\n").map_err(DemoError::file(file, "written"))
}

fn summarise<W: Write>(
    story: &mut Story<W>,
    folder: &Folder,
    parts: &Parts,
    device: &factory::Device,
) -> Result<(), DemoError> {
    let by_hand = qemu::by_hand(parts, &device.disk, &device.variables);
    story.line(&format!(
        "\nDone in {seconds:.0} s: v1 left the house, v2 committed, an altered object repaired, v3 rolled back; a downgrade and a \
         tampered bundle refused.\n\
         {disk}     the disk; firmware-variables.fd beside it\n\
         {console}     what the appliance said on its console, with the seconds\n\
         {control}     what was asked of it and what it answered\n\
         {transcript}     every command with its exit code and what it printed\n\
         To boot it again, with its control line here (wait for \"ready\", then type commands, \"twinseal status\" for one):\n  {by_hand}",
        seconds = story.elapsed().as_secs_f64(),
        disk = device.disk.display(),
        console = folder.at("console.txt").display(),
        control = folder.at("control-line.txt").display(),
        transcript = folder.at("transcript.txt").display(),
    ))?;
    Ok(())
}
