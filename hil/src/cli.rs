//! The command line.

use crate::demo;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs twinseal's programs on boards, as a device and its maker would.
#[derive(Clone, Debug, Parser)]
#[command(name = "twinseal-hil", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Shows the life of an appliance: v1 provisioned, v2 installed, tried and committed, a broken v3 rolled back.
    ///
    /// Every step is checked: the exit code is 0 only when all came out as it must, 1 when a step failed, 2 when the command
    /// line is wrong. Needs root, since the board mounts what it boots.
    Demo(DemoArguments),
}

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArguments {
    /// The machine to run on.
    #[arg(long, value_enum, default_value = "files")]
    pub board: BoardName,
    /// Where keys, bundles and the device go. A folder of an earlier demo is emptied, any other is left alone.
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub out: PathBuf,
    /// The releases and what their UKIs are made of; scripts/appliance.sh makes them.
    #[arg(long, value_name = "DIR", default_value = ".cache/appliance")]
    pub inputs: PathBuf,
    /// Where twinseal and twinseal-bundle are. Default: the folder of twinseal-hil itself.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Where the device's own programs are, static; scripts/device-programs.sh builds them.
    #[arg(long, value_name = "DIR", default_value = "target/device/bin")]
    pub device_programs: PathBuf,
    /// Keep keys and bundles of an earlier run, and begin at the device.
    #[arg(long)]
    pub keep: bool,
}

/// A board on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BoardName {
    /// Plain folders on this machine, with real kernel mounts.
    Files,
}

impl DemoArguments {
    /// The demo's options; `own_folder` is where this program is.
    pub fn options(self, own_folder: PathBuf) -> demo::Options {
        demo::Options {
            out: self.out,
            inputs: self.inputs,
            programs: self.programs.unwrap_or(own_folder),
            device_programs: self.device_programs,
            keep: self.keep,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  twinseal-hil demo
  twinseal-hil demo --out /tmp/demo --keep";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_of_the_help_parses() {
        let examples = EXAMPLES.lines().skip(1);
        assert_eq!(examples.clone().count(), 2);
        for line in examples {
            Cli::try_parse_from(line.split_whitespace())
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn programs_are_looked_for_beside_this_one() {
        let Command::Demo(arguments) = Cli::try_parse_from(["twinseal-hil", "demo"])
            .unwrap()
            .command;
        assert_eq!(arguments.board, BoardName::Files);
        assert_eq!(
            arguments.options("/own".into()).programs,
            PathBuf::from("/own")
        );
    }
}
