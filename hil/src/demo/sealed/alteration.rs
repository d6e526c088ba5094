//! One bit of the disk of the board, which is on, is flipped: in the object that holds a file's content. The root slot that runs is only
//! read by its system, so what its file system says of that place is on the disk as well.

use super::super::error::DemoError;
use super::factory::Device;
use crate::boards::uefi::Processor;
use crate::command::Runner;
use crate::disk::DiskError;
use crate::maker::tools;
use crate::scenario::Loader;
use crate::tamper::{self, Scene, Set, Tamper};
use std::path::Path;

/// A file of the sealed root that nothing needs to start: the keys by which packages are trusted.
pub(super) const ALTERED_FILE: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What is altered.
pub(super) struct Alteration<'a> {
    /// Runs tools of the host.
    pub runner: &'a Runner,
    /// The device.
    pub device: &'a Device,
    /// The root of the release that set b holds, a tar.
    pub root: &'a Path,
}

impl Alteration<'_> {
    /// Flips the bit.
    ///
    /// # Errors
    /// When the release has no such file, or the disk has no such object.
    pub(super) fn flip(&self) -> Result<(), DemoError> {
        let disk = &self.device.disk;
        let scratch = tempfile::tempdir().map_err(DemoError::file(disk, "altered"))?;
        let digest = tools::digest_in_tar(self.runner, self.root, ALTERED_FILE, scratch.path())?;
        let scene = Scene {
            processor: Processor::X86_64,
            runner: self.runner,
            disk,
            variables: &self.device.variables,
            new_variables: &self.device.variables,
            // Nothing is signed anew when a bit is flipped.
            stranger_key: disk,
            stranger_certificate: disk,
            scratch: scratch.path(),
            loader: Loader::Uefi,
        };
        let flip = Tamper::FlipObject {
            set: Set::B,
            file: ALTERED_FILE.to_owned(),
        };
        tamper::apply(&scene, &flip, |_, _| Ok::<_, DiskError>(digest.clone()))?;
        Ok(())
    }
}
