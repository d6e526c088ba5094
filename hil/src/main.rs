//! `twinseal-hil`: reads the command line, runs the command, says what failed.

use clap::Parser;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use twinseal_hil::cli::{BoardName, Cli, Command, DemoArguments, RunArguments};
use twinseal_hil::demo::{self, DemoError};
use twinseal_hil::{relay, suite};

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Demo(arguments) => run(arguments).map_err(|error| error.to_string()),
        Command::Run(arguments) => return scenarios(arguments),
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
    match arguments.board {
        BoardName::Files => demo::run(&arguments.options(own_folder()), io::stdout()),
    }
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

/// The folder of this program.
fn own_folder() -> PathBuf {
    own().parent().map_or_else(PathBuf::new, Path::to_owned)
}
