//! Why a disk image cannot be made.

use std::path::PathBuf;

use twinseal_core::wire::digest::BlobDigest;

/// Why a disk image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A bundle of images alone.
    #[error(
        "The bundle has no UKI and no composefs image, so nothing on the disk could boot. Give a bundle of a whole system."
    )]
    NoSystem,
    /// The file was replaced between two readings.
    #[error("`{}` changed while it was being read. Stop whatever writes there and start again.", .0.display())]
    BundleChanged(PathBuf),
    /// The UKI's headers cannot be read.
    #[error("The UKI cannot be read: {0}.")]
    Uki(#[from] crate::pe::PeError),
    /// A UKI for a processor whose removable-media path is not known.
    #[error(
        "The UKI is for machine {0:#06x}, whose file name on a boot partition is not known. Known are x86-64, arm64, riscv64 and arm."
    )]
    Machine(u16),
    /// A systemd-boot for a disk that is to have none.
    #[error(
        "`--systemd-boot` is given, and the loader is not systemd-boot. Give `--loader systemd-boot` too, or leave it out."
    )]
    SystemdBootNotWanted,
    /// A file that was given as systemd-boot and is something else.
    #[error(
        "`{}` is not systemd-boot: no section .sdmagic says so. Give systemd-bootx64.efi of the package systemd-boot-efi, signed with the key of the UKI where Secure Boot is on.", .0.display()
    )]
    NotSystemdBoot(PathBuf),
    /// A systemd-boot of before what the agents rely on.
    #[error("`{}` is systemd-boot {version}, and {least} or newer is needed.", path.display())]
    SystemdBootOld {
        /// The file.
        path: PathBuf,
        /// The version that it says.
        version: String,
        /// The oldest that will do.
        least: u32,
    },
    /// A systemd-boot for another processor than the UKI.
    #[error(
        "systemd-boot is for machine {own:#06x} and the UKI for machine {uki:#06x}. Give the one for the UKI's."
    )]
    SystemdBootMachine {
        /// That of systemd-boot.
        own: u16,
        /// That of the UKI.
        uki: u16,
    },
    /// The seal that was computed here is not the digest that names the blob.
    #[error("The seal of {0} came out different. This is a mistake of the program; report it.")]
    Seal(BlobDigest),
    /// A slot whose partition label would be too long or taken.
    #[error(
        "Slot `{slot}` cannot have partitions `{slot}-a` and `{slot}-b`: {problem}. Rename the slot in the recipe."
    )]
    SlotLabel {
        /// The slot.
        slot: String,
        /// What is wrong.
        problem: LabelProblem,
    },
    /// A size that was given and is too small.
    #[error("`--{flag}` is {given} bytes, and {what} needs {needed}. Give `--{flag} {}M` or more.", needed.div_ceil(1 << 20))]
    TooSmall {
        /// The flag.
        flag: &'static str,
        /// What does not fit.
        what: &'static str,
        /// Its value in bytes.
        given: u64,
        /// The lowest value in bytes.
        needed: u64,
    },
    /// A size beyond what the formats can say.
    #[error(
        "`--{flag}` is {given} bytes, more than {limit}, the most that is supported. Give less."
    )]
    TooLarge {
        /// The flag.
        flag: &'static str,
        /// Its value in bytes.
        given: u64,
        /// The highest value in bytes.
        limit: u64,
    },
    /// Content that no partition could hold.
    #[error("The bundle has {0} bytes for one slot, more than a disk image can hold.")]
    ContentTooLarge(u64),
    /// A program of another package is not there.
    #[error("`{program}` is needed and was not found. Install the Debian package {package}.")]
    ToolMissing {
        /// The program.
        program: &'static str,
        /// Its package.
        package: &'static str,
    },
    /// A program of another package failed.
    #[error("`{program}` failed on {on}: {message}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What it was working on.
        on: String,
        /// What it said.
        message: String,
    },
    /// The partition table could not be written.
    #[error("The partition table cannot be written: {0}.")]
    Table(#[from] gpt::GptError),
}

/// Why a slot cannot have partitions under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelProblem {
    /// Longer than a GPT takes.
    TooLong,
    /// It is what a slot of every set is called.
    Taken,
}

impl std::fmt::Display for LabelProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a partition label has at most 36 letters",
            Self::Taken => "every set has a slot of that name already",
        })
    }
}
