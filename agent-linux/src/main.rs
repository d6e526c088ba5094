//! Reads the command line, runs the command, ends with its exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(twinseal::run(&twinseal::cli::Cli::parse()))
}
