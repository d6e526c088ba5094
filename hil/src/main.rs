//! `twinseal-hil`: reads the command line, runs the command, says what failed.

use clap::Parser;
use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use twinseal_hil::boards::mcu::frames;
use twinseal_hil::boards::uefi::machine;
use twinseal_hil::cli::{BoardName, Cli, Command, DemoArguments, LinkArguments, RunArguments};
use twinseal_hil::demo::{self, DemoError};
use twinseal_hil::{link, relay, suite};

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Demo(arguments) => run(arguments).map_err(|error| error.to_string()),
        Command::Run(arguments) => return scenarios(arguments),
        Command::Link(arguments) => open_link(arguments),
        Command::Decode { elf, frames } => {
            frames::decode(&elf, &frames, io::stdout()).map_err(|error| error.to_string())
        }
        Command::Machine(arguments) => match machine::run(&arguments) {
            Ok(code) => return code,
            Err(error) => Err(format!("The machine could not be started: {error}.")),
        },
        Command::Relay { port } => {
            relay::run(port).map_err(|error| format!("The relay broke: {error}."))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twinseal-hil: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: DemoArguments) -> Result<(), DemoError> {
    let board = arguments.board;
    let options = arguments.options(own());
    match board {
        BoardName::Uefi => demo::run_on_uefi(&options, io::stdout()),
        BoardName::Files => demo::run_on_files(&options, io::stdout()),
    }
}

fn open_link(arguments: LinkArguments) -> Result<(), String> {
    let options = arguments
        .options()
        .ok_or("A link needs a server: --to or --serve.")?;
    let ended = link::run(&options, io::stdin(), io::stdout());
    ended.map(drop).map_err(|error| error.to_string())
}

fn scenarios(arguments: RunArguments) -> ExitCode {
    // Any number does for a run whose seed is not given: it is printed.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.map_or(0, |now| u64::from(now.subsec_nanos()));
    match suite::run(&arguments.options(own(), seed), io::stdout()) {
        Ok(report) if report.counts().failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("twinseal-hil: {error}");
            ExitCode::FAILURE
        }
    }
}

/// This program.
fn own() -> PathBuf {
    env::current_exe().unwrap_or_default()
}
