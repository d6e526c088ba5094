//! The command line.
//!
//! # Invariants
//! - Every field of a recipe has its flag, and a flag wins over the recipe.

mod build;
mod progress;
mod run;

pub use build::BuildArguments;
pub use run::run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use twinseal_core::wire::text::Name;

use crate::disk::{ByteSize, Format};
use crate::read::BlobName;
use crate::recipe::Moment;

const EXAMPLES: &str = "\
Examples:
  twinseal-bundle keygen --out keys --name release
  twinseal-bundle build recipe.toml --out v1.tseal
  twinseal-bundle verify v1.tseal --key keys/release.pub
  twinseal-bundle diff v1.tseal v2.tseal";

const BUILD_EXAMPLES: &str = "\
Examples:
  twinseal-bundle build recipe.toml --out v1.tseal
  twinseal-bundle build recipe.toml --out v1.tseal --version 1.4.2 --anti-rollback 7 --sign keys/release.key
  twinseal-bundle build --compatible acme-gw --version 3 --anti-rollback 3 --image fpga=fpga.bin --out fpga.tseal

The same input makes the same bytes. Without a key the bundle has no signature: see `sign`.";

const SIGN_EXAMPLES: &str = "\
Examples:
  twinseal-bundle sign v1.tseal --key keys/release.key

With a key that is kept elsewhere:
  twinseal-bundle sign v1.tseal --print-signed-bytes > v1.tbs
  openssl pkeyutl -sign -rawin -inkey release.key -in v1.tbs -out v1.sig
  twinseal-bundle sign v1.tseal --attach v1.sig --public-key keys/release.pub";

const EXTRACT_EXAMPLES: &str = "\
Examples:
  twinseal-bundle extract v1.tseal --blob uki --out uki.efi
  twinseal-bundle extract v1.tseal --all v1/ && fsverity digest v1/image.erofs

The content is checked against its digests, not against a signature: `verify` does that.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  twinseal-bundle verify v1.tseal --key keys/release.pub
  twinseal-bundle verify v1.tseal --key keys/release.pub --compatible acme-gw --floor 7 --time 2026-12-31T00:00:00Z
  twinseal-bundle verify v2.tseal --key keys/release.pub --base v1.tseal
  curl -s https://example.org/v1.tseal | twinseal-bundle verify - --key keys/release.pub

The exit code is that of a device that refuses the bundle for the same reason.";

const DISK_EXAMPLES: &str = "\
Examples:
  twinseal-bundle disk v1.tseal --out disk.img --trusted-key keys/release.pub
  twinseal-bundle disk v1.tseal --out disk.img --trusted-key keys/release.pub --size 4G --both
  twinseal-bundle disk v1.tseal --out disk.qcow2 --format qcow2
  twinseal-bundle disk v1.tseal --out disk.img --loader systemd-boot --systemd-boot signed/systemd-bootx64.efi

The same bundle and the same flags make the same bytes. Needs no root, and e2fsprogs. Write the image whole: its holes are zeros.";

/// Builds, signs and inspects the one file that a sealed appliance is updated with.
#[derive(Clone, Debug, Parser)]
#[command(name = "twinseal-bundle", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Makes a release key: NAME.key, which stays with its owner, and NAME.pub, which goes into devices.
    Keygen(KeygenArguments),
    /// Builds a bundle from a recipe, from flags, or from both.
    #[command(after_help = BUILD_EXAMPLES)]
    Build(Box<BuildArguments>),
    /// Makes an initramfs from a program and kernel modules, as `build` does for a recipe with `early`; without a recovery, which belongs to
    /// a release.
    Initramfs(InitramfsArguments),
    /// Signs a bundle in place, or takes part in a signing elsewhere.
    #[command(after_help = SIGN_EXAMPLES)]
    Sign(SignArguments),
    /// Shows what is in a bundle. Checks no signature.
    Inspect(InspectArguments),
    /// Takes a bundle apart.
    #[command(after_help = EXTRACT_EXAMPLES)]
    Extract(ExtractArguments),
    /// Checks everything that a device checks, and that no object is missing.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArguments),
    /// Makes the disk image of a new device.
    #[command(after_help = DISK_EXAMPLES)]
    Disk(DiskArguments),
    /// Shows what changed between two bundles, and what the update costs a device.
    Diff(DiffArguments),
    /// Writes the conformance kit: small bundles, good and bad, and what a device must say to each.
    Vectors {
        /// The folder to write to; it is made.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
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

/// Arguments of `keygen`.
#[derive(Clone, Debug, Args)]
pub struct KeygenArguments {
    /// The folder to write to; it is made. Nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name of the key.
    #[arg(long, value_name = "NAME", default_value = "release")]
    pub name: String,
}

/// Arguments of `initramfs`.
#[derive(Clone, Debug, Args)]
pub struct InitramfsArguments {
    /// The program that becomes /init; it must need no library.
    #[arg(long, value_name = "FILE")]
    pub init: PathBuf,
    /// Folder of kernel modules, with a file `order` that has one name a line.
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,
    /// The archive to write: an uncompressed cpio.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Arguments of `sign`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["key", "print_signed_bytes", "attach"]))]
pub struct SignArguments {
    /// The bundle.
    pub bundle: PathBuf,
    /// Private key to sign with; may be given again. A signature by the same key is replaced, others stay.
    #[arg(long, value_name = "KEY")]
    pub key: Vec<PathBuf>,
    /// Write the bytes that a signature covers to standard output. They are signed as they are, not hashed first.
    #[arg(long)]
    pub print_signed_bytes: bool,
    /// Attach this signature, made elsewhere: 64 bytes.
    #[arg(long, value_name = "SIGNATURE", requires = "public_key")]
    pub attach: Option<PathBuf>,
    /// The public key that the attached signature is by; it is checked.
    #[arg(long, value_name = "PUB", requires = "attach")]
    pub public_key: Option<PathBuf>,
}

/// Arguments of `inspect`.
#[derive(Clone, Debug, Args)]
pub struct InspectArguments {
    /// The bundle.
    pub bundle: PathBuf,
    /// Everything as JSON, with every blob.
    #[arg(long)]
    pub json: bool,
    /// Also every file of the composefs image.
    #[arg(long)]
    pub files: bool,
    /// Also every blob: digest, size, stored size, encodings, role.
    #[arg(long)]
    pub objects: bool,
}

/// Arguments of `extract`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["blob", "all"]))]
pub struct ExtractArguments {
    /// The bundle.
    pub bundle: PathBuf,
    /// One blob: `uki`, `composefs`, `image:SLOT` or a digest in hex.
    #[arg(long, value_name = "BLOB", requires = "out")]
    pub blob: Option<BlobName>,
    /// The file to write it to.
    #[arg(long, value_name = "FILE", requires = "blob")]
    pub out: Option<PathBuf>,
    /// Everything, into this folder: uki.efi, image.erofs, objects/, images/, info/.
    #[arg(long, value_name = "DIR")]
    pub all: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArguments {
    /// The bundle; `-` is standard input.
    pub bundle: PathBuf,
    /// Public key that the device trusts; may be given again.
    #[arg(long, value_name = "PUB", required = true)]
    pub key: Vec<PathBuf>,
    /// Device type; that of the bundle when none is given.
    #[arg(long, value_name = "NAME")]
    pub compatible: Option<String>,
    /// The device's anti-rollback floor.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub floor: u64,
    /// The device's clock, RFC 3339 or seconds since 1970; `none` for a device without one. This machine's when none is given.
    #[arg(long, value_name = "TIME")]
    pub time: Option<Clock>,
    /// A slot of the device and its size; may be given again. Without any, every image fits.
    #[arg(long, value_name = "SLOT=BYTES", value_parser = parse_slot)]
    pub slot: Vec<(String, u64)>,
    /// Bundle of a base release: every patch against it is applied, and what it gives compared. May be given again.
    #[arg(long, value_name = "BUNDLE")]
    pub base: Vec<PathBuf>,
    /// The result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `disk`.
#[derive(Clone, Debug, Args)]
pub struct DiskArguments {
    /// The bundle.
    pub bundle: PathBuf,
    /// The image to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Size of the whole disk: 4G for example. `data` takes what the slots leave; 256M when no size is given.
    #[arg(long, value_name = "SIZE")]
    pub size: Option<ByteSize>,
    /// Size of each boot slot; 64M, or more for a large UKI, when none is given.
    #[arg(long, value_name = "SIZE")]
    pub boot_bytes: Option<ByteSize>,
    /// Size of each root slot; twice its content and 64M when none is given.
    #[arg(long, value_name = "SIZE")]
    pub root_bytes: Option<ByteSize>,
    /// Put the release into set B too; without it, B is empty.
    #[arg(long)]
    pub both: bool,
    /// What starts the UKIs: the firmware itself, or systemd-boot, which is put into boot-a.
    #[arg(long, value_enum, default_value_t)]
    pub loader: Loader,
    /// systemd-boot for `--loader systemd-boot`: 257 or newer, signed with the owner's key where Secure Boot is on.
    #[arg(long, value_name = "FILE", required_if_eq("loader", "systemd-boot"))]
    pub systemd_boot: Option<PathBuf>,
    /// How the image is stored.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Public key that the device trusts; may be given again. Without any, no signature is checked.
    #[arg(long, value_name = "PUB")]
    pub trusted_key: Vec<PathBuf>,
}

/// What starts the UKIs of a disk; the words of the device description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Loader {
    /// The UEFI firmware, from the removable-media path.
    #[default]
    Uefi,
    /// systemd-boot.
    SystemdBoot,
}

/// Arguments of `diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArguments {
    /// The bundle that a device has.
    pub old: PathBuf,
    /// The bundle that it will get.
    pub new: PathBuf,
    /// Everything as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It has none.
    None,
    /// It shows this time.
    At(Moment),
}

impl std::str::FromStr for Clock {
    type Err = crate::recipe::MomentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            Ok(Self::None)
        } else {
            text.parse().map(Self::At)
        }
    }
}

fn parse_slot(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("`{text}` is not SLOT=BYTES, fpga=1048576 for example");
    let (slot, bytes) = text.split_once('=').ok_or_else(wrong)?;
    let slot = Name::new(slot).ok_or_else(wrong)?;
    Ok((
        slot.as_str().to_owned(),
        bytes.parse().map_err(|_| wrong())?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_excludes_or_needs_each_other_is_refused() {
        for words in [
            "sign b",
            "sign b --key k --print-signed-bytes",
            "sign b --attach s",
            "sign b --public-key p",
            "extract b",
            "extract b --blob uki",
            "extract b --blob nothing --out f",
            "extract b --all d --blob uki --out f",
            "verify b",
            "verify b --key k --slot fpga",
            "verify b --key k --time soon",
        ] {
            let words = ["twinseal-bundle"].into_iter().chain(words.split(' '));
            assert!(
                Cli::try_parse_from(words.clone()).is_err(),
                "{}",
                words.collect::<Vec<_>>().join(" ")
            );
        }
    }
}
