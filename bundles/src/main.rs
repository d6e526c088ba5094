//! Reads the command line, runs the command, ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use twinseal_bundle::cli::{Cli, run};
use twinseal_bundle::exit::exit_code_of;

fn main() -> ExitCode {
    let Err(error) = run(&Cli::parse()) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    if let Some(help) = error.help() {
        eprintln!("  help: {help}");
    }
    ExitCode::from(exit_code_of(&error))
}
