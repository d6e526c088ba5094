//! `twinseal-hil`: reads the command line, runs the command, says what failed.

use clap::Parser;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use twinseal_hil::cli::{BoardName, Cli, Command, DemoArguments};
use twinseal_hil::demo::{self, DemoError};

fn main() -> ExitCode {
    let Command::Demo(arguments) = Cli::parse().command;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twinseal-hil: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: DemoArguments) -> Result<(), DemoError> {
    match arguments.board {
        BoardName::Files => demo::run(&arguments.options(own_folder()), io::stdout()),
    }
}

/// The folder of this program.
fn own_folder() -> PathBuf {
    env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
        .map_or_else(PathBuf::new, Path::to_owned)
}
