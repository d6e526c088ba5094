//! What leaves the maker's house: firmware with the owner's keys, and a disk with the first release.

use super::super::error::DemoError;
use super::super::folder::Folder;
use super::super::inputs::Firmware;
use super::super::maker::Made;
use super::super::step;
use crate::boards::uefi::variables::{self, Certificates};
use crate::command::Runner;
use crate::maker::tools;
use crate::story::{Size, Story};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// A new device, switched off.
pub(super) struct Device {
    /// Its disk.
    pub disk: PathBuf,
    /// Its firmware's variables.
    pub variables: PathBuf,
}

/// The maker's last steps.
pub(super) struct Factory<'f> {
    /// Runs the programs.
    pub runner: &'f Runner,
    /// `twinseal-bundle`.
    pub bundler: &'f Path,
    /// Where everything goes.
    pub folder: &'f Folder,
    /// Where the inputs are.
    pub inputs_folder: &'f Path,
    /// The firmware.
    pub firmware: &'f Firmware,
    /// Keys and bundles.
    pub made: &'f Made,
}

impl Factory<'_> {
    /// Makes firmware variables and disk.
    pub(super) fn work<W: Write>(&self, story: &mut Story<W>) -> Result<Device, DemoError> {
        story.chapter("A new device leaves the maker's house")?;
        let device = self.folder.at("device");
        fs::create_dir_all(&device).map_err(DemoError::file(&device, "made"))?;
        let device = Device {
            disk: device.join("disk.img"),
            variables: device.join("firmware-variables.fd"),
        };
        let certificates = step(story, "platform key and key exchange key", || {
            let certificates = Certificates {
                platform: self.certificate("platform")?,
                exchange: self.certificate("exchange")?,
                signer: self.made.certificate.clone(),
            };
            Ok((
                certificates,
                "RSA, 2048 bits: who may change the firmware's list of signers",
            ))
        })?;
        step(story, "the firmware's variables", || {
            let program = variables::find_program(&self.inputs_folder.join("tools"))?;
            let (empty, out) = (&self.firmware.variables, &device.variables);
            variables::make(self.runner, &program, empty, &certificates, out)?;
            Ok((
                (),
                "Secure Boot is on, with the owner's three keys and no others",
            ))
        })?;
        step(story, "the disk", || {
            let [v1, _, _] = &self.made.bundles;
            tools::disk(
                self.runner,
                self.bundler,
                &v1.file,
                &self.made.release_key,
                None,
                &device.disk,
                &["--both"],
            )?;
            let about =
                fs::metadata(&device.disk).map_err(DemoError::file(&device.disk, "read"))?;
            let (size, used) = (Size(about.len()), Size(about.blocks() * BLOCK_BYTES));
            Ok((
                (),
                format!("{size}, of which {used} are used; v1 is in both sets"),
            ))
        })?;
        Ok(device)
    }

    /// A key and its certificate; those of an earlier run stay.
    fn certificate(&self, name: &str) -> Result<PathBuf, DemoError> {
        let file = |ending: &str| self.folder.at(&format!("keys/{name}.{ending}"));
        let certificate = file("crt");
        if !certificate.is_file() {
            let owner = format!("Demo appliance {name}");
            tools::certificate(self.runner, &owner, &file("key"), &certificate)?;
        }
        Ok(certificate)
    }
}
