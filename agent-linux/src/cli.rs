//! The command line.

use crate::config::{Rate, Window};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use twinseal_core::boot::Set;

/// Moves a sealed appliance from one signed version to the next, over a bad link and through power cuts.
#[derive(Clone, Debug, Parser)]
#[command(name = "twinseal", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// The device description; without this the first of /etc/twinseal/device.toml and /usr/lib/twinseal/device.toml.
    #[arg(long, global = true, value_name = "FILE", env = "TWINSEAL_DEVICE")]
    pub device: Option<PathBuf>,
    /// One JSON object a line on standard output, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Works on the device as a whole.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Shows what runs, what boots next, what each set holds and who signed it.
    Status,
    /// Shows what an install would fetch and write. Changes nothing.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArguments),
    /// Installs a bundle into the set that is not running and makes it the next trial.
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(InstallArguments),
    /// Checks a running trial: runs the health checks of the sealed system, then reads every object of the running set. Outside a
    /// trial nothing is checked. Exit code 0 when the trial is healthy or none runs, 80 when it is not.
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(HealthArguments),
    /// Reads every object of both sets and names each one that is missing, damaged or not sealed; the UKIs too. Changes nothing.
    /// Exit code 0 when all is well, 81 when something is damaged.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArguments),
    /// Replaces damaged objects of a set by whole ones with the same digest. Exit code 0 when all is well then, 81 otherwise.
    #[command(after_help = REPAIR_EXAMPLES)]
    Repair(RepairArguments),
    /// Commits the running set: it becomes the default, and the anti-rollback floor rises to it.
    MarkGood,
    /// Says that the running set is bad: the next restart boots the other one.
    MarkBad,
    /// Goes back to the other set at the next restart, without calling the running one bad.
    Rollback,
    /// Says whether a restart would boot another set: exit code 0 for yes, 1 for no.
    RebootNeeded,
    /// Shows the journal: what happened, when, and who signed it.
    History(HistoryArguments),
    /// Chooses the set to boot, spends an attempt of a trial, and prints the set, once for each boot. With the boot record alone:
    /// for an initramfs or a board's boot script, before the jump. Where the firmware chooses: a service of the running system,
    /// early in every boot, that makes the firmware follow the boot record.
    #[command(after_help = SELECT_EXAMPLES)]
    Select(SelectArguments),
    /// Prints a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, or writes one page for each command.
    Man {
        /// Write the pages into this folder.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Command {
    /// Whether the command is there to change something; one that only shows has failed when nobody could see it.
    pub const fn changes_the_device(&self) -> bool {
        match self {
            Self::Device(_)
            | Self::Install(_)
            | Self::Health(_)
            | Self::Repair(_)
            | Self::MarkGood
            | Self::MarkBad
            | Self::Rollback
            | Self::Select(_) => true,
            Self::History(arguments) => arguments.set_aside,
            Self::Status
            | Self::Check(_)
            | Self::Plan(_)
            | Self::RebootNeeded
            | Self::Completions { .. }
            | Self::Man { .. } => false,
        }
    }
}

/// Works on the device as a whole.
#[derive(Clone, Debug, Subcommand)]
pub enum DeviceCommand {
    /// Fills the first set of a new device and writes its boot record. Interrupted, run it again: it goes on.
    Init(InitArguments),
}

/// Arguments of `device init`.
#[derive(Clone, Debug, Args)]
pub struct InitArguments {
    /// The bundle: a file, an address (http://… or https://…), or - for standard input.
    #[arg(value_name = "BUNDLE")]
    pub source: PathBuf,
    /// The set to fill; it becomes the default.
    #[arg(long, value_enum, default_value = "a")]
    pub set: SetName,
    /// Fill the other set with the same bundle too.
    #[arg(long)]
    pub both: bool,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArguments {
    /// What `install` takes too.
    #[command(flatten)]
    pub bundle: BundleArguments,
    /// Say how long the bytes take at so many a second; without this, at --max-rate.
    #[arg(long, value_name = "BYTES")]
    pub rate: Option<Rate>,
}

/// A bundle, and on what terms it is read.
#[derive(Clone, Debug, Args)]
pub struct BundleArguments {
    /// The bundle: a file, an address (http://… or https://…), or - for standard input.
    pub source: PathBuf,
    /// Most bytes that the bundle may cost: on the network all bytes of the connections, headers and new tries included, of this
    /// and all earlier installs of it; of a file what is read. `plan` compares with its own run.
    #[arg(long, value_name = "BYTES")]
    pub budget: Option<u64>,
    /// Do not check what this device does not need of the bundle. From a web server with ranges that is not fetched anyway.
    #[arg(long)]
    pub no_audit: bool,
    /// Most bytes a second over the network, both ways, instead of the device description's number.
    #[arg(long, value_name = "BYTES")]
    pub max_rate: Option<Rate>,
    /// Hours in UTC in which `install` uses the network, over midnight too, instead of the device description's; with seconds as
    /// `HH:MM:SS`. At their end it stops with exit code 72; the next install goes on.
    #[arg(long, value_name = "HH:MM-HH:MM")]
    pub window: Option<Window>,
}

/// Arguments of `install`.
#[derive(Clone, Debug, Args)]
pub struct InstallArguments {
    /// What `plan` takes too.
    #[command(flatten)]
    pub bundle: BundleArguments,
    /// Do not read every blob back from the medium before it counts.
    #[arg(long)]
    pub no_read_back: bool,
    /// Boots that the trial has, instead of the device description's number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub attempts: Option<u8>,
    /// Leave the default set to boot next. A later install of the same bundle finds what is there and arms the trial.
    #[arg(long, conflicts_with = "attempts")]
    pub no_trial: bool,
    /// Do not ask whether this machine's firmware (Secure Boot) would start the UKI: for a firmware that is known to trust others
    /// than its variables say.
    #[arg(long)]
    pub no_firmware_check: bool,
}

/// Arguments of `check`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CheckArguments {
    /// Look at this set alone.
    #[arg(long, value_enum)]
    pub set: Option<SetName>,
}

/// Arguments of `repair`.
#[derive(Clone, Debug, Args)]
pub struct RepairArguments {
    /// Take whole objects from this bundle: a file, an address (http://… or https://…), or - for standard input. Any release that a trusted key
    /// signed will do, if it has them.
    #[arg(
        required_unless_present = "from_other_set",
        conflicts_with = "from_other_set"
    )]
    pub source: Option<PathBuf>,
    /// Take whole objects from the other set.
    #[arg(long)]
    pub from_other_set: bool,
    /// Most bytes that may be read from the bundle.
    #[arg(long, value_name = "BYTES", requires = "source")]
    pub budget: Option<u64>,
    /// The set to repair, instead of the running one.
    #[arg(long, value_enum)]
    pub set: Option<SetName>,
}

/// Arguments of `health`.
#[derive(Clone, Copy, Debug, Args)]
pub struct HealthArguments {
    /// Act on the verdict: commit a healthy trial; mark an unhealthy one bad and restart.
    #[arg(long)]
    pub commit: bool,
    /// Seconds that each check has.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub time_limit: u32,
    /// Leave the restart after an unhealthy trial to somebody else.
    #[arg(long, requires = "commit")]
    pub no_restart: bool,
}

/// Arguments of `select`.
#[derive(Clone, Copy, Debug, Args)]
pub struct SelectArguments {
    /// Restart at once when another set than the running one must boot.
    #[arg(long)]
    pub restart: bool,
}

/// Arguments of `history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArguments {
    /// Check the whole chain and compare it with the boot record.
    #[arg(long)]
    pub verify: bool,
    /// Move a journal that does not hold away, keep it, and start a new chain.
    #[arg(long, conflicts_with = "verify")]
    pub set_aside: bool,
}

/// A set on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SetName {
    /// Set a.
    A,
    /// Set b.
    B,
}

impl From<SetName> for Set {
    fn from(name: SetName) -> Self {
        match name {
            SetName::A => Self::A,
            SetName::B => Self::B,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  twinseal device init release-1.tseal    provision a new device
  twinseal plan release-2.tseal           what would an update cost?
  twinseal install release-2.tseal        update the set that is not running
  twinseal reboot-needed && reboot        boot the trial
  twinseal mark-good                      keep it
  twinseal history --verify               what happened, and is the journal whole?";

const PLAN_EXAMPLES: &str = "\
Examples:
  twinseal plan release-2.tseal
  twinseal plan --budget 5000000 --no-audit release-2.tseal
  twinseal plan --rate 8000 https://updates.example/release-2.tseal";

const INSTALL_EXAMPLES: &str = "\
Examples:
  twinseal install release-2.tseal
  twinseal install http://updates.example/release-2.tseal
  twinseal install --max-rate 8000 --window 22:00-05:00 https://updates.example/release-2.tseal
  ssh host cat release-2.tseal | twinseal install -
  twinseal install --json release-2.tseal | jq -c 'select(.event != \"progress\")'";

const CHECK_EXAMPLES: &str = "\
Examples:
  twinseal check
  twinseal check --set b";

const REPAIR_EXAMPLES: &str = "\
Examples:
  twinseal repair --from-other-set
  twinseal repair http://updates.example/release-2.tseal
  twinseal repair --from-other-set --set b";

const HEALTH_EXAMPLES: &str = "\
Examples:
  twinseal health                            would this trial be kept?
  twinseal health --commit                   as a service, once the system is up
  twinseal health --commit --time-limit 10";

const SELECT_EXAMPLES: &str = "\
Examples:
  twinseal select              before the jump, or to see what must boot
  twinseal select --restart    as a service, where the firmware chooses";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_of_the_help_is_a_command_line_that_parses() {
        let mut seen = 0;
        for line in [
            EXAMPLES,
            PLAN_EXAMPLES,
            INSTALL_EXAMPLES,
            HEALTH_EXAMPLES,
            CHECK_EXAMPLES,
            REPAIR_EXAMPLES,
            SELECT_EXAMPLES,
        ]
        .iter()
        .flat_map(|text| text.lines().skip(1))
        {
            let command = line
                .split("| jq")
                .next()
                .unwrap()
                .split("&&")
                .next()
                .unwrap();
            let command = command
                .split("    ")
                .find(|part| !part.trim().is_empty())
                .unwrap()
                .trim();
            let command = command.rsplit("| ").next().unwrap();
            Cli::try_parse_from(command.split_whitespace())
                .unwrap_or_else(|error| panic!("{command}: {error}"));
            seen += 1;
        }
        assert_eq!(seen, 24);
    }
}
