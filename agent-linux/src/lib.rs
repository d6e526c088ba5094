//! `twinseal`: the full update agent for sealed Linux appliances.
//!
//! The program's parts, one file for each side effect. All that decides (formats, verification, the install's states, the choice
//! of a set) is `twinseal-core`; all that touches a slot is `twinseal-platform-linux`; here both are given what they ask for:
//! files, keys, time, memory, words.
//!
//! | file | does |
//! |---|---|
//! | `cli` | the command line |
//! | `config` | the device description |
//! | `device`, `slots` | record, lock, running set; slots opened and mounted |
//! | `labels` | slots by partition label, without udev |
//! | `held` | what a set holds, proved anew |
//! | `keys`, `decoder`, `clock`, `source` | keys, zstd, time, the bundle's bytes |
//! | `network`, `planned` | what an install will cost on the network; what a plan tells |
//! | `ledger` | what the network has cost so far |
//! | `journal`, `audit` | the journal's file; what happens when it cannot be written |
//! | `install`, `progress`, `keeping` | core's installer, run, counted and timed; what came over a network synced |
//! | `update`, `init` | `plan` and `install`; `device init` |
//! | `health`, `objects` | the checks of a trial; every object of a set, read |
//! | `check`, `repair` | a set looked through; damaged objects replaced |
//! | `verdict`, `select` | `mark-good` and its kin; the choice at boot |
//! | `secure_boot` | whether the firmware checks signatures, and what it would say to a UKI |
//! | `loader`, `marks`, `restart` | the firmware told; small files for the initramfs; the restart |
//! | `status`, `history` | looking |
//! | `events`, `report` | what is told: JSON, text |
//! | `man`, `exit`, `error` | manual pages; exit codes; errors |
//!
//! # Invariants
//! - A command that is refused leaves boot record and slots as they were, byte for byte.
//! - What a command changes is in the journal before it is changed.
//!
//! # Power loss
//! Every command may be cut anywhere and run again; `update`, `init`, `journal` and `select` say what a cut leaves.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::string_slice
    )
)]

pub mod ahead;
pub mod audit;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crew;
pub mod decoder;
pub mod device;
pub mod error;
pub mod events;
pub mod exit;
pub mod health;
pub mod held;
pub mod history;
pub mod init;
pub mod install;
pub mod journal;
pub mod keeping;
pub mod keys;
pub mod labels;
pub mod ledger;
pub mod loader;
pub mod man;
pub mod marks;
pub mod network;
pub mod objects;
pub mod overlap;
pub mod planned;
pub mod progress;
pub mod repair;
pub mod report;
pub mod restart;
pub mod secure_boot;
pub mod select;
pub mod slots;
pub mod source;
pub mod status;
pub mod update;
pub mod verdict;

use cli::{Cli, Command, DeviceCommand};
use device::Device;
use error::AgentError;
use events::{Event, Failed};
use report::{Outlet, fail, warn};
use verdict::Patience;

/// Runs a command and gives its exit code. All that it has to say is said.
pub fn run(cli: &Cli) -> u8 {
    let mut outlet = Outlet::standard(cli.json);
    let code = dispatch(cli, &mut outlet).unwrap_or_else(|error| {
        let (text, help) = (error.to_string(), error.help());
        fail(&text, help.as_deref());
        let name = exit::name(error.code());
        outlet.tell(&Event::Failed(Failed {
            exit_code: error.code(),
            name,
            error: text,
            help,
        }));
        error.code()
    });
    match outlet.take_failure() {
        Some(error) if code == exit::OK && !cli.command.changes_the_device() => {
            fail(
                &format!("Standard output could not be written: {error}."),
                None,
            );
            exit::STORAGE
        }
        Some(error) => {
            warn(&format!("Standard output could not be written: {error}."));
            code
        }
        None => code,
    }
}

fn dispatch(cli: &Cli, outlet: &mut Outlet) -> Result<u8, AgentError> {
    match &cli.command {
        Command::Completions { shell } => return man::completions(*shell).map(|()| exit::OK),
        Command::Man { dir } => return man::man(dir.as_deref()).map(|()| exit::OK),
        Command::Select(arguments) => {
            let (device, problem) = Device::open_for_boot(cli.device.as_deref())?;
            if let Some(problem) = problem {
                warn(&problem.to_string());
            }
            return select::select_set(&device, *arguments, outlet).map(|()| exit::OK);
        }
        _ => {}
    }
    let device = Device::open(cli.device.as_deref())?;
    match &cli.command {
        Command::Device(DeviceCommand::Init(arguments)) => init::init(&device, arguments, outlet)?,
        Command::Status => status::status(&device, outlet)?,
        Command::Plan(arguments) => update::plan(&device, arguments, outlet)?,
        Command::Install(arguments) => update::install_bundle(&device, arguments, outlet)?,
        Command::MarkGood => verdict::mark_good(&device, outlet, Patience::None)?,
        Command::MarkBad => verdict::mark_bad(&device, outlet, Patience::None)?,
        Command::Rollback => verdict::roll_back(&device, outlet)?,
        Command::Check(arguments) => return check::check(&device, arguments, outlet),
        Command::Repair(arguments) => return repair::repair(&device, arguments, outlet),
        Command::Health(arguments) => return health::health(&device, arguments, outlet),
        Command::RebootNeeded => return verdict::reboot_needed(&device, outlet),
        Command::History(arguments) if arguments.set_aside => history::set_aside(&device, outlet)?,
        Command::History(arguments) => history::history(&device, arguments.verify, outlet)?,
        Command::Select(_) | Command::Completions { .. } | Command::Man { .. } => {}
    }
    Ok(exit::OK)
}
