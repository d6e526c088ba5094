//! One bit of the disk of the board, which is off, is flipped: in the object that holds a file's content.

use super::super::error::DemoError;
use super::factory::Device;
use crate::command::{Invocation, Runner};
use crate::disk::DiskError;
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
        let digest = self.digest(scratch.path())?;
        let scene = Scene {
            runner: self.runner,
            disk,
            variables: &self.device.variables,
            new_variables: &self.device.variables,
            // Nothing is signed anew when a bit is flipped.
            stranger_key: disk,
            stranger_certificate: disk,
            scratch: scratch.path(),
        };
        let flip = Tamper::FlipObject {
            set: Set::B,
            file: ALTERED_FILE.to_owned(),
        };
        tamper::apply(&scene, &flip, |_, _| Ok::<_, DiskError>(digest.clone()))?;
        Ok(())
    }

    /// The name of the file's object, by other people's program.
    fn digest(&self, scratch: &Path) -> Result<String, DemoError> {
        let name = format!(".{ALTERED_FILE}");
        let unpack = Invocation::new("tar").argument("-xf").argument(self.root);
        let unpack = unpack.argument("-C").argument(scratch).argument(&name);
        self.runner.run(&unpack)?.expect_success()?;
        let measure = Invocation::new("fsverity").arguments(["digest", "--compact"]);
        let measure = measure.argument(scratch.join(&name));
        let measured = self.runner.run(&measure)?.expect_success()?;
        Ok(measured.stdout.trim().to_owned())
    }
}
