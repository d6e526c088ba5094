//! Why a command of the agent stops, as a sentence, and the exit code for it.

use crate::bundle::SourceProblem;
use crate::console::{meaning_of, words_of};
use crate::description::DescriptionFault;
use crate::files::OwnPath;
#[cfg(feature = "web")]
use crate::net::NetProblem;
use rustix::io::Errno;
use thiserror::Error;
use twinseal_core::boot::Set;
use twinseal_core::error::{Error as CoreError, StorageError};
use twinseal_core::exit;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::journal::{Damage, JournalError};

/// Why a command stops. The sentence stands behind `error:`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AgentError {
    /// Core refused, or the device failed.
    #[error("{}{}", .0, in_words(.0))]
    Core(CoreError),
    /// The device description is wrong.
    #[error("{file}: {fault}")]
    Description {
        /// The file.
        file: OwnPath,
        /// What is wrong.
        fault: DescriptionFault,
    },
    /// A file or folder cannot be used.
    #[error("{file} cannot be {done}: {}.", words_of(*.errno))]
    File {
        /// Which.
        file: OwnPath,
        /// What was to be done with it.
        done: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// A key file holds something else.
    #[error("{file} is not a public key of Ed25519 in PEM, as `openssl pkey -pubout` writes it.")]
    Key {
        /// Which.
        file: OwnPath,
    },
    /// A key file, or the folder of keys, cannot be read.
    #[error("The key {file} cannot be read: {}.", words_of(*.errno))]
    KeyUnread {
        /// Which.
        file: OwnPath,
        /// What the kernel said.
        errno: Errno,
    },
    /// Nobody has heard the answer.
    #[error("Standard output could not be written: {}.", words_of(*.0))]
    Output(Errno),
    /// There is no key.
    #[error(
        "This device trusts no key, so it can install nothing. Put the maker's key into {folder} as NAME.pub."
    )]
    NoKeys {
        /// Where keys are looked for.
        folder: OwnPath,
    },
    /// More keys than fit.
    #[error("This device trusts more than {limit} keys. Take some out of {folder}.")]
    TooManyKeys {
        /// Where keys are looked for.
        folder: OwnPath,
        /// Most keys.
        limit: usize,
    },
    /// Which set runs is not known.
    #[error("{file} must say `a` or `b`, the set that runs, and does not.")]
    RunningSetUnknown {
        /// The file that must say it.
        file: OwnPath,
    },
    /// There is no boot record.
    #[error(
        "This device has no boot record. Provision it with `twinseal device init`, or let the record be made at boot."
    )]
    RecordBlank,
    /// Both copies of the boot record are damaged.
    #[error(
        "Both copies of the boot record are damaged. Restart the device: the choice at boot makes a new one."
    )]
    RecordCorrupt,
    /// The journal does not hold.
    #[error("The journal is broken: {0}. Look at it with `twinseal history --verify`.")]
    JournalBroken(Damage),
    /// The data partition is missing.
    #[error(
        "The data partition could not be mounted at boot, so the state of this device is not known. Repair it and restart."
    )]
    DataVolatile,
    /// The boot loader needs the full agent.
    #[error("This device has systemd-boot, which only `twinseal` can tell what to boot. Use that.")]
    LoaderUnknown,
    /// The bundle's source could not be opened or read.
    #[error("The bundle could not be read from {name}: {problem}.")]
    Source {
        /// Its name; empty when it is too long to be kept.
        name: OwnPath,
        /// Why.
        problem: SourceProblem,
    },
    /// The source is an address that is none of ours.
    #[error("{}", no_address(.name))]
    Address {
        /// The address; empty when it is too long to be kept.
        name: OwnPath,
    },
    /// The description says how the network may be used, and this program does not know how.
    #[error(
        "The device description has [budget] or [network], which only `twinseal` keeps to. Fetch with that."
    )]
    NetworkLimited,
    /// The bundle has no UKI, and the device boots one.
    #[error(
        "The bundle carries no UKI, and this device boots one from each set: the set could not be booted."
    )]
    NoSystem,
    /// There is nothing to recover from.
    #[error(
        "No medium has a bundle that this device may install. Put one, called *.tseal, into the top folder of a medium with FAT or ext4."
    )]
    NoMedium,
    /// A slot's partition is missing, and no copy of the partition table has it.
    #[error(
        "There is no partition with the label {label}, or there are several. Take away a second disk that is a copy of this device's."
    )]
    SlotMissing {
        /// The label.
        label: &'static str,
    },
    /// The default set is not the running one.
    #[error("Set {target} boots next, so it must not be written now. Restart first.")]
    RestartFirst {
        /// The set.
        target: Set,
    },
}

impl AgentError {
    /// A bundle that could not be opened or read.
    pub fn source(name: &str, problem: impl Into<SourceProblem>) -> Self {
        let name = match name {
            "-" => "standard input",
            other => other,
        };
        Self::Source {
            name: join(&[name]).unwrap_or_default(),
            problem: problem.into(),
        }
    }

    /// The exit code, the same as of `twinseal`.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Core(error) => exit::code_of(error),
            Self::Description { .. }
            | Self::Key { .. }
            | Self::KeyUnread { .. }
            | Self::NoKeys { .. }
            | Self::TooManyKeys { .. }
            | Self::RunningSetUnknown { .. }
            | Self::Address { .. }
            | Self::NetworkLimited
            | Self::LoaderUnknown => exit::USAGE,
            Self::DataVolatile | Self::File { .. } | Self::Output(_) | Self::SlotMissing { .. } => {
                exit::STORAGE
            }
            Self::RecordBlank | Self::RecordCorrupt => exit::BOOT_RECORD,
            Self::JournalBroken(_) => exit::JOURNAL,
            Self::NoSystem => exit::SLOT,
            Self::RestartFirst { .. } => exit::TRIAL_RUNNING,
            #[cfg(feature = "web")]
            Self::Source {
                problem: SourceProblem::Net(NetProblem::Changed),
                ..
            } => exit::SOURCE_CHANGED,
            Self::Source { .. } | Self::NoMedium => exit::SOURCE,
        }
    }
}

/// What the number of a fault of the device's means, behind the sentence that has it.
fn in_words(error: &CoreError) -> impl core::fmt::Display {
    let meaning = match error {
        CoreError::Storage(error) => meaning_of(error.fault),
        _ => None,
    };
    core::fmt::from_fn(move |f| match meaning {
        Some(meaning) => write!(f, " ({meaning})"),
        None => Ok(()),
    })
}

fn no_address(name: &OwnPath) -> impl core::fmt::Display + '_ {
    core::fmt::from_fn(move |f| {
        if cfg!(feature = "fetch") {
            write!(
                f,
                "{name} is no address that this program can fetch from. It must be http://SERVER[:PORT]/PATH; for others there is `twinseal`."
            )
        } else {
            write!(
                f,
                "This program fetches nothing, so {name} must be downloaded first."
            )
        }
    })
}

impl From<CoreError> for AgentError {
    fn from(error: CoreError) -> Self {
        Self::Core(error)
    }
}

impl From<StorageError> for AgentError {
    fn from(error: StorageError) -> Self {
        Self::Core(CoreError::Storage(error))
    }
}

impl From<JournalError> for AgentError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Broken(damage) => Self::JournalBroken(damage),
            JournalError::Storage(error) => error.into(),
        }
    }
}
