//! The command line.

use crate::boards::uefi::machine::MachineArguments;
use crate::{demo, link, suite};
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
    /// line is wrong. The board `files` needs root, since it mounts what it boots.
    Demo(DemoArguments),
    /// Runs scenarios on a board, reports what came of each, and counts them in the last line.
    ///
    /// The exit code is 0 only when none failed, 1 when one did or the run could not be made, 2 when the command line is wrong.
    Run(RunArguments),
    /// Opens a bad link to a web server of this machine: it throttles, cuts, corrupts, stalls and refuses, and counts every byte.
    ///
    /// The first line on standard output is a JSON object with the port; the link is open until standard input ends, and then
    /// another object says what went over it.
    Link(LinkArguments),
    /// Turns the log frames of a microcontroller into text.
    ///
    /// The board `mcu` does so by itself; this is for frames that a serial line brought.
    Decode {
        /// The ELF file of the program that sent them.
        elf: PathBuf,
        /// The frames, as they came.
        frames: PathBuf,
    },
    /// Joins standard input and output with a port of this machine: what a board's network starts for its guest.
    #[command(hide = true)]
    Relay {
        /// The port.
        port: u16,
    },
    /// Keeps a board's machine on, with a new QEMU for each start of its guest: what a virtual board is.
    #[command(hide = true)]
    Machine(MachineArguments),
}

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArguments {
    /// The machine to run on.
    #[arg(long, value_enum, default_value = "uefi")]
    pub board: BoardName,
    /// Where keys, bundles and the device go. A folder of an earlier demo is emptied, any other is left alone.
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub out: PathBuf,
    /// The releases and what their UKIs are made of; scripts/appliance.sh makes them.
    #[arg(long, value_name = "DIR", default_value = ".cache/appliance")]
    pub inputs: PathBuf,
    /// Where twinseal-bundle is. Default: the folder of twinseal-hil itself.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Where the device's own programs are, static; scripts/device-programs.sh builds them.
    #[arg(long, value_name = "DIR", default_value = "target/device/bin")]
    pub device_programs: PathBuf,
    /// Keep keys and bundles of an earlier run, and begin at the device.
    #[arg(long)]
    pub keep: bool,
    /// Multiply every limit by this, where the machine has much else to do.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: u32,
    /// The QEMU to use.
    #[arg(long, value_name = "PROGRAM", default_value = "qemu-system-x86_64")]
    pub qemu: PathBuf,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// Scenario files, and folders of them.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// The machine to run on.
    #[arg(long, value_enum, default_value = "uefi")]
    pub board: suite::Board,
    /// Write the report as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the report as a page.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Scenarios that run side by side.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Run only scenarios with this in their name.
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
    /// The seed of every random moment; a new one when none is given. It is printed.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Power cuts of each scenario that has some, instead of its own number.
    #[arg(long, value_name = "N")]
    pub cuts: Option<u32>,
    /// Where transcripts go, and, while it runs, disks.
    #[arg(long, value_name = "DIR", default_value = "hil-out")]
    pub out: PathBuf,
    /// What the appliances are made of; scripts/appliance.sh makes it.
    #[arg(long, value_name = "DIR", default_value = ".cache/appliance")]
    pub inputs: PathBuf,
    /// Where twinseal-bundle is. Default: the folder of twinseal-hil itself.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Where the static programs of a device are; scripts/device-programs.sh makes them, and scripts/cross.sh those for ARM.
    /// Default: target/device/bin, for an ARM board target/aarch64/bin or target/armv7/bin.
    #[arg(long, value_name = "DIR")]
    pub device_programs: Option<PathBuf>,
    /// Multiply every limit by this, where the machine has much else to do.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: u32,
    /// Where the firmware of the microcontroller is; scripts/mcu.sh makes it.
    #[arg(long, value_name = "DIR", default_value = "target/mcu/bin")]
    pub firmware: PathBuf,
    /// The QEMU to use. Default: that of the board's processor.
    #[arg(long, value_name = "PROGRAM")]
    pub qemu: Option<PathBuf>,
}

/// Arguments of `link`.
#[derive(Clone, Debug, Args)]
pub struct LinkArguments {
    /// The port of the server.
    #[arg(
        long,
        value_name = "PORT",
        required_unless_present = "serve",
        conflicts_with = "serve"
    )]
    pub to: Option<u16>,
    /// Start a web server for this folder instead.
    #[arg(long, value_name = "DIR")]
    pub serve: Option<PathBuf>,
    /// The nginx to start, before PATH is asked.
    #[arg(long, value_name = "PROGRAM", requires = "serve")]
    pub nginx: Option<PathBuf>,
    /// What is wrong with the link, in TOML; nothing without it.
    #[arg(long, value_name = "FILE")]
    pub shape: Option<PathBuf>,
    /// The seed of everything that happens by chance.
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// The port to listen on; any that is free when none is given.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

impl LinkArguments {
    /// The link's options; nothing without a server.
    pub fn options(self) -> Option<link::Options> {
        let nginx = self.nginx;
        let folder = self
            .serve
            .map(|served| link::Server::Folder { served, nginx });
        Some(link::Options {
            server: folder.or(self.to.map(link::Server::Port))?,
            shape: self.shape,
            seed: self.seed,
            port: self.port,
        })
    }
}

impl RunArguments {
    /// The run's options; `own` is this program.
    pub fn options(self, own: PathBuf, seed: u64) -> suite::Options {
        let own_folder = own.parent().map_or_else(PathBuf::new, Into::into);
        suite::Options {
            board: self.board,
            paths: self.paths,
            filter: self.filter,
            junit: self.junit,
            html: self.html,
            jobs: self.jobs.into(),
            seed: self.seed.unwrap_or(seed),
            cuts: self.cuts,
            out: self.out,
            inputs: self.inputs,
            programs: self.programs.unwrap_or(own_folder),
            device_programs: self
                .device_programs
                .unwrap_or_else(|| self.board.device_programs()),
            patience: self.patience,
            firmware: self.firmware,
            qemu: self.qemu.unwrap_or_else(|| self.board.qemu()),
            own,
        }
    }
}

/// A board on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BoardName {
    /// QEMU with UEFI firmware and Secure Boot: the appliance boots sealed.
    Uefi,
    /// Plain folders on this machine, with real kernel mounts.
    Files,
}

impl DemoArguments {
    /// The demo's options; `own` is this program.
    pub fn options(self, own: PathBuf) -> demo::Options {
        let own_folder = own.parent().map_or_else(PathBuf::new, Into::into);
        demo::Options {
            out: self.out,
            inputs: self.inputs,
            programs: self.programs.unwrap_or(own_folder),
            device_programs: self.device_programs,
            patience: self.patience,
            keep: self.keep,
            qemu: self.qemu,
            own,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  twinseal-hil demo
  twinseal-hil demo --board files --out /tmp/demo --keep
  twinseal-hil run scenarios --html report.html --junit report.xml
  twinseal-hil run scenarios --filter power-cuts --cuts 50 --seed 7
  twinseal-hil run scenarios/mcu --board mcu
  twinseal-hil link --serve bundles --shape bad.toml --seed 7";

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
        assert_eq!(examples.clone().count(), 6);
        for line in examples {
            Cli::try_parse_from(line.split_whitespace())
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn programs_are_looked_for_beside_this_one() {
        let parsed = Cli::try_parse_from(["twinseal-hil", "demo"]).unwrap();
        let Command::Demo(arguments) = parsed.command else {
            panic!("{parsed:?}");
        };
        assert_eq!(arguments.board, BoardName::Uefi);
        assert_eq!(
            arguments.options("/own/twinseal-hil".into()).programs,
            PathBuf::from("/own")
        );
    }
}
