//! systemd-boot on a disk: the file that the caller gives, its configuration, and where both stand in the boot slot of set A.
//!
//! What is where is in `docs/systemd-boot.md`, section 1: the loader twice, so that the firmware has a second entry
//! to go on with when a UKI is refused.
//!
//! # Invariants
//! - What is put on a disk says of itself that it is systemd-boot, for the machine of the UKI, in a version that the agents' rules were
//!   shown with. Whether its signature is right is the firmware's to know.

use std::path::Path;

use super::DiskError;
use super::boot::{FileIn, Machine};
use crate::error::Error;
use crate::pe::PeImage;
use crate::recipe::read_file;

/// Largest loader that is read; Debian's has some 120 KiB.
const LOADER_MAX_BYTES: u64 = 16 << 20;

/// Where systemd-boot and its tools keep what it says of itself.
const MAGIC_SECTION: &str = ".sdmagic";

/// How that begins, before the version.
const MAGIC: &str = "#### LoaderInfo: systemd-boot ";

/// The oldest version that does what is relied on: its stub says from which partition a UKI was started.
const VERSION_MIN: u32 = 257;

/// Boots what was the default set when nobody says anything; the same on every device, and never written again.
const CONFIGURATION: &str =
    "timeout 0\ndefault twinse-*\nsecure-boot-enroll off\nauto-entries no\neditor no\n";

/// Short names of files whose own are too long for one; no reader asks for these.
const SHORT_LOADER: &str = "SYSTEM~1.EFI";
const SHORT_CONFIGURATION: &str = "LOADER~1.CON";

/// A systemd-boot that may go onto a disk.
pub(super) struct SystemdBoot {
    bytes: Vec<u8>,
}

impl SystemdBoot {
    /// Reads the file.
    ///
    /// # Errors
    /// [`DiskError::NotSystemdBoot`] or [`DiskError::SystemdBootOld`] for another one; when it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read_file(path, "systemd-boot", LOADER_MAX_BYTES)?;
        let text = magic(&bytes).ok_or_else(|| DiskError::NotSystemdBoot(path.to_owned()))?;
        let digits = text.split(|letter: char| !letter.is_ascii_digit()).next();
        let version: Option<u32> = digits.and_then(|digits| digits.parse().ok());
        if version.is_none_or(|version| version < VERSION_MIN) {
            return Err(DiskError::SystemdBootOld {
                path: path.to_owned(),
                version: text,
                least: VERSION_MIN,
            }
            .into());
        }
        Ok(Self { bytes })
    }

    /// Bytes that it takes in a boot slot, its configuration aside.
    pub(super) fn slot_bytes(&self) -> u64 {
        2 * self.bytes.len() as u64
    }

    /// Its files, for a UKI of a machine.
    ///
    /// # Errors
    /// [`DiskError::SystemdBootMachine`] when it is for another one.
    pub(super) fn files(&self, machine: Machine) -> Result<[FileIn<'_>; 3], DiskError> {
        let own = PeImage::parse(&self.bytes)?.headers().machine;
        if own != machine.number {
            return Err(DiskError::SystemdBootMachine {
                own,
                uki: machine.number,
            });
        }
        let file = |path: &[&'static str], long, content| FileIn {
            path: path.to_vec(),
            long,
            content,
        };
        Ok([
            file(
                &["EFI", "SYSTEMD", SHORT_LOADER],
                Some(machine.loader),
                self.bytes.as_slice(),
            ),
            machine.removable_media(&self.bytes),
            file(
                &["LOADER", SHORT_CONFIGURATION],
                Some("loader.conf"),
                CONFIGURATION.as_bytes(),
            ),
        ])
    }
}

/// What a systemd-boot says of its version: `257.13-1~deb13u1` for example.
fn magic(bytes: &[u8]) -> Option<String> {
    let image = PeImage::parse(bytes).ok()?;
    let section = image.section_named(MAGIC_SECTION).ok()??;
    let text = std::str::from_utf8(image.content(section).ok()?).ok()?;
    let version = text.strip_prefix(MAGIC)?.split(' ').next()?;
    Some(version.to_owned())
}
