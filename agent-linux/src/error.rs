//! Everything that can end a command, with the exit code and the help that goes with it.
//!
//! Core's errors pass through unchanged; what is added here is what core does not know: files, keys, the device description.

use crate::clock::Utc;
use crate::exit;
use crate::secure_boot::{Refusal, VariableProblem};
use crate::source::http::{HttpProblem, budget_problem_of, closed_of, problem_of};
use crate::source::line::Closed;
use std::io;
use std::path::PathBuf;
use twinseal_core::Error;
use twinseal_core::boot::Set;
use twinseal_core::error::{PolicyRefused, StorageError, StorageFault, StorageObject};

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Core refused, or the device's storage failed.
    #[error(transparent)]
    Core(#[from] Error),
    /// The device description is missing or wrong.
    #[error("The device description {} is wrong: {problem}", file.display())]
    Description {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: DescriptionProblem,
    },
    /// A key file is missing or wrong.
    #[error("The key file {} is wrong: {problem}.", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// There is no key to trust.
    #[error("This device trusts no key: the device description names none, and {} has no *.pub file.", folder.display())]
    NoKeys {
        /// Where keys are looked for.
        folder: PathBuf,
    },
    /// Two options contradict each other in a way that only shows at run time.
    #[error("--both reads the bundle twice, so it must be a file, not a pipe.")]
    BothFromPipe,
    /// Nobody said which set is running.
    #[error("The running set is not known: {} {problem}.", file.display())]
    RunningSetUnknown {
        /// The file that should say so.
        file: PathBuf,
        /// What is wrong with it.
        problem: RunningSetProblem,
    },
    /// The device was never provisioned.
    #[error("The boot record is blank: this device has not been provisioned.")]
    RecordBlank,
    /// Neither copy of the boot record can be read.
    #[error("Neither copy of the boot record can be read.")]
    RecordCorrupt,
    /// The device has been provisioned before.
    #[error("This device has a boot record already: it has been provisioned.")]
    AlreadyProvisioned,
    /// The data partition is not there.
    #[error(
        "The data partition could not be mounted at boot: what this device knows of its updates is not there, and what was written now would be lost."
    )]
    DataVolatile,
    /// No set may be booted.
    #[error("No set can be booted: neither is complete and at or above the floor.")]
    NothingToBoot,
    /// The journal does not hold.
    #[error("The journal does not hold: {problem}.")]
    JournalBroken {
        /// Why.
        problem: crate::journal::Damage,
    },
    /// The bundle's source could not be opened or read.
    #[error("The bundle could not be read from {name}: {error}.")]
    Source {
        /// Its name.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// The hours in which bundles are fetched have not begun.
    #[error("Nothing was asked for: {0}.")]
    WindowClosed(Closed),
    /// There are such hours, and no clock.
    #[error(
        "This device has hours in which bundles are fetched, and no clock that it trusts: nobody can tell whether they have begun."
    )]
    WindowWithoutClock,
    /// What the network has cost so far cannot be read.
    #[error("What the network has cost so far cannot be read: both copies in {} are damaged.", file.display())]
    LedgerDamaged {
        /// The ledger.
        file: PathBuf,
    },
    /// A file of the agent's own could not be read or written.
    #[error("{} could not be {done}: {error}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried: "written", "read", …
        done: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The system does not restart.
    #[error("The device could not be restarted: {error}.")]
    Restart {
        /// Why.
        error: io::Error,
    },
    /// The source is an address that is none of ours.
    #[error(
        "{url} is no address that this program can fetch from: it must begin with https:// or http://."
    )]
    Address {
        /// The address, without name and password.
        url: String,
    },
    /// A path is not UTF-8.
    #[error("The path {} is not UTF-8, and this agent needs it to be.", path.display())]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// The bundle has no UKI, and the device boots one.
    #[error(
        "The bundle carries no UKI, and this device boots one from each set: the set could not be booted."
    )]
    NoSystem,
    /// The default set is not the running one.
    #[error("Set {target} boots next, so it must not be written now.")]
    RestartFirst {
        /// The set.
        target: Set,
    },
    /// This machine's firmware would refuse the UKI.
    #[error("{0}")]
    FirmwareRefuses(Box<Refusal>),
    /// What the firmware trusts, or what it refuses, cannot be read.
    #[error("Secure Boot is on, and what the firmware trusts cannot be told from {}: {problem}.", file.display())]
    FirmwareKeys {
        /// The variable.
        file: PathBuf,
        /// What is wrong with it.
        problem: VariableProblem,
    },
    /// There was no memory for a decoder.
    #[error("There is not enough memory for the zstd decoder.")]
    NoMemory,
}

/// What is wrong with a device description.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionProblem {
    /// It cannot be read.
    #[error("{0}.")]
    Unreadable(#[from] io::Error),
    /// It is not TOML, or has a key or a value that is not known; the text names line and key.
    #[error("\n{0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// A name breaks the grammar of names.
    #[error(
        "{key} = \"{value}\" is not a name: lower-case letters, digits, `.`, `_`, `-`, at most 64."
    )]
    Name {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A number is out of its range.
    #[error("trial-attempts must be 1 to 255.")]
    Attempts,
    /// Both sets share a place.
    #[error("set a and set b share {}: an update would write what is running.", path.display())]
    Shared {
        /// The place.
        path: PathBuf,
    },
    /// `image-only` and `[sets]` contradict each other.
    #[error(
        "image-only = true says that there are no boot and root slots, and [sets] names some. Take one of them out."
    )]
    ImageOnlyWithSets,
    /// `variables` says where the firmware's are, and the firmware has no say.
    #[error(
        "variables needs loader = \"uefi\" or \"systemd-boot\": with loader = \"record\" nobody reads the firmware's variables."
    )]
    VariablesWithoutLoader,
    /// The loader boots from boot slots, and there are none.
    #[error(
        "loader = \"{loader}\" says that it boots a UKI from each set, and image-only = true that there are no boot slots. Take one of them out."
    )]
    LoaderWithoutBootSlots {
        /// The loader's name.
        loader: &'static str,
    },
    /// A certificate without a key, or the other way round.
    #[error("[network] needs both certificate and key, or neither.")]
    HalfIdentity,
    /// There is nothing to update.
    #[error("image-only = true needs at least one pair of [slots].")]
    ImageOnlyWithoutSlots,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyProblem {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is too large for a key.
    #[error("it has {size} bytes, and a key file has at most {limit}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not one Ed25519 public key.
    #[error("it is not one Ed25519 public key in PEM ({0})")]
    NotAKey(#[from] ed25519::pkcs8::spki::Error),
}

/// What is wrong with the file that says which set is running.
#[derive(Debug, thiserror::Error)]
pub enum RunningSetProblem {
    /// It cannot be read.
    #[error("cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    /// It says something else.
    #[error("says neither a nor b")]
    Content,
}

impl AgentError {
    /// A description that is wrong, with its file.
    pub fn description(file: impl Into<PathBuf>, problem: impl Into<DescriptionProblem>) -> Self {
        Self::Description {
            file: file.into(),
            problem: problem.into(),
        }
    }

    /// The exit code; `exit.rs` has the table.
    pub fn code(&self) -> u8 {
        match self {
            Self::Core(error) => exit::code_of(error),
            Self::Description { .. }
            | Self::Key { .. }
            | Self::NoKeys { .. }
            | Self::BothFromPipe
            | Self::Address { .. }
            | Self::NotText { .. }
            | Self::WindowWithoutClock
            | Self::RunningSetUnknown { .. } => exit::USAGE,
            Self::RecordBlank | Self::RecordCorrupt | Self::NothingToBoot => exit::BOOT_RECORD,
            Self::AlreadyProvisioned => exit::MISUSE,
            Self::NoSystem => exit::SLOT,
            Self::FirmwareRefuses(_) | Self::FirmwareKeys { .. } => exit::SECURE_BOOT,
            Self::RestartFirst { .. } => exit::TRIAL_RUNNING,
            Self::JournalBroken { .. } => exit::JOURNAL,
            Self::WindowClosed(_) => exit::WINDOW_CLOSED,
            Self::Source { error, .. } if closed_of(error).is_some() => exit::WINDOW_CLOSED,
            Self::Source { error, .. } if is_budget(error) => exit::BUDGET,
            Self::Source { error, .. } => match problem_of(error) {
                Some(HttpProblem::Changed) => exit::SOURCE_CHANGED,
                Some(HttpProblem::Setup(_) | HttpProblem::Address) => exit::USAGE,
                _ => exit::SOURCE,
            },
            Self::LedgerDamaged { .. }
            | Self::DataVolatile
            | Self::File { .. }
            | Self::Restart { .. }
            | Self::NoMemory => exit::STORAGE,
        }
    }

    /// What to do about it, when the sentence itself does not say.
    pub fn help(&self) -> Option<String> {
        let fixed = match self {
            Self::Core(error) => return core_help(error),
            Self::NoKeys { .. } => {
                "Put the release key there, or name it with trusted-keys in the device description."
            }
            Self::RunningSetUnknown { .. } => {
                "At boot, `twinseal select` or the initramfs writes a or b into that file; running = \"FILE\" names another one."
            }
            Self::RecordBlank => {
                "`twinseal device init BUNDLE` provisions a new device; `twinseal select` makes a lost record anew."
            }
            Self::RecordCorrupt => {
                "`twinseal select` makes it anew from what the sets hold and the journal says."
            }
            Self::AlreadyProvisioned => "Use `twinseal install BUNDLE`.",
            Self::Restart { .. } => "Restart it by hand: what had to be stored is stored.",
            Self::NoSystem => {
                "Ask the maker for a bundle with the whole system, or say image-only = true in the device description."
            }
            Self::FirmwareRefuses(_) => {
                "Ask the maker for a bundle whose UKI is signed for this device. For a firmware that is known to trust others than it \
                 says, --no-firmware-check installs it all the same."
            }
            Self::FirmwareKeys { .. } => {
                "Look after the firmware's variables. `twinseal install --no-firmware-check` installs without asking them."
            }
            Self::Source { error, .. } if closed_of(error).is_some() => {
                "What was fetched stays: run the command again then, and it goes on."
            }
            Self::WindowWithoutClock => {
                "Take window out of [network] in the device description, or give the device a clock that it can trust."
            }
            Self::Source { error, .. } if budget_problem_of(error).is_some() => {
                "`twinseal plan` shows what an update costs and what the budgets leave; --budget BYTES allows more for this bundle."
            }
            Self::Source { error, .. } if is_budget(error) => {
                "Put the bundle on a web server with ranges, or allow its whole size with --budget BYTES where the server says it."
            }
            Self::Source { error, .. } => match problem_of(error) {
                Some(HttpProblem::CertificateTime { .. }) => {
                    "Set the clock of this device if it is wrong; otherwise the server needs a new certificate."
                }
                Some(HttpProblem::Certificate(_)) => {
                    "Look after the address and the server; trust in [network] of the device description names the anchors."
                }
                Some(HttpProblem::Status(400 | 401 | 403) | HttpProblem::Refused(_)) => {
                    "If the server wants to know who asks, name certificate and key in [network] of the device description."
                }
                _ => return None,
            },
            Self::LedgerDamaged { .. } => {
                "Look after the medium. Without the file the count begins anew."
            }
            Self::RestartFirst { .. } => "Restart the device, then install.",
            Self::DataVolatile => {
                "Look after the data partition and restart; the running set stays as it is until then."
            }
            Self::NothingToBoot => "Start the recovery, or provision the device again.",
            Self::JournalBroken { .. } => {
                "`twinseal history --verify` shows where. Keep the file for the investigation: `twinseal history --set-aside` moves it \
                 away and starts a new chain."
            }
            Self::Description {
                problem: DescriptionProblem::Unreadable(_),
                ..
            } => {
                "It is looked for at /etc/twinseal/device.toml, then at /usr/lib/twinseal/device.toml; --device FILE or the environment \
                 variable TWINSEAL_DEVICE names another one."
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}

/// Whether a budget ended a read.
fn is_budget(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
        || budget_problem_of(error).is_some()
        || matches!(
            problem_of(error),
            Some(HttpProblem::BudgetNeedsRanges { .. })
        )
}

impl From<StorageError> for AgentError {
    fn from(error: StorageError) -> Self {
        Self::Core(error.into())
    }
}

impl From<PolicyRefused> for AgentError {
    fn from(error: PolicyRefused) -> Self {
        Self::Core(error.into())
    }
}

fn core_help(error: &Error) -> Option<String> {
    match error {
        Error::PolicyRefused(PolicyRefused::NotYetValid { not_before: time }) => Some(format!("That is {}.", Utc(*time))),
        Error::PolicyRefused(PolicyRefused::Expired { not_after: time }) => Some(format!("That is {}.", Utc(*time))),
        Error::PolicyRefused(PolicyRefused::UnknownSigner) => {
            Some("`twinseal status` lists the keys that this device trusts.".to_owned())
        }
        Error::PolicyRefused(PolicyRefused::BudgetExceeded { .. }) => {
            Some("`twinseal plan` shows what an update costs; --budget BYTES allows more.".to_owned())
        }
        Error::PolicyRefused(PolicyRefused::SlotUnknown { .. }) => {
            Some("Name the slot under [slots] in the device description, or take the bundle for this device type.".to_owned())
        }
        Error::Storage(StorageError { object: StorageObject::BootLoader, .. }) => {
            Some("The boot record decides; `twinseal select` tells the boot loader again at every boot.".to_owned())
        }
        Error::Storage(StorageError { fault: StorageFault::Code(code), .. }) => {
            Some(format!("The system says: {}.", io::Error::from_raw_os_error(*code)))
        }
        _ => None,
    }
}
