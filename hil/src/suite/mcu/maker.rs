//! The maker of the microcontroller's releases: a key, one program with different blocks, and the bundles of them.
//!
//! # Invariants
//! - Everything is made in a folder of the run; only the firmware comes from outside.

use super::scenario::Release;
use crate::boards::mcu::McuError;
use crate::boards::mcu::program::{Application, Behaviour};
use crate::command::{Invocation, Output, Runner};
use crate::maker::{MakerError, tools};
use std::fs;
use std::path::{Path, PathBuf};

/// Device type of the firmware, and one of somebody else.
const COMPATIBLE: &str = "twinseal-mcu";
const OTHER_COMPATIBLE: &str = "twinseal-other";

/// Content in one range: a sector, so that a range fits the device's buffer even where it does not compress.
const RANGE_BYTES: &str = "4096";

/// Bytes of an Ed25519 public key: the end of its DER form (RFC 8410, section 4).
const KEY_BYTES: usize = 32;

/// Why the releases could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReleasesError {
    /// A program of the maker failed, or a file could not be worked with.
    #[error(transparent)]
    Maker(#[from] MakerError),
    /// The firmware cannot be used.
    #[error(transparent)]
    Firmware(#[from] McuError),
    /// openssl says something else than a key.
    #[error("{} is no public key of Ed25519: its DER form has {found} bytes.", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
        /// Bytes of what openssl printed.
        found: usize,
    },
}

/// The releases of a run.
#[derive(Clone, Debug)]
pub(super) struct Releases {
    folder: PathBuf,
    /// The public key that devices trust.
    pub key: [u8; KEY_BYTES],
}

impl Releases {
    /// The bundle of a release.
    pub fn bundle(&self, release: Release) -> PathBuf {
        bundle(&self.folder, release)
    }
}

fn bundle(folder: &Path, release: Release) -> PathBuf {
    folder.join(format!("{}.tseal", release.name()))
}

/// Makes V1 and the releases that are wanted.
///
/// # Errors
/// [`ReleasesError`] for the first thing that cannot be made.
pub(super) fn make(
    runner: &Runner,
    bundler: &Path,
    application: &Path,
    wanted: impl Fn(Release) -> bool,
    folder: &Path,
) -> Result<Releases, ReleasesError> {
    fs::create_dir_all(folder).map_err(MakerError::file(folder, "made"))?;
    let maker = Maker {
        runner,
        bundler,
        application: Application::read(application)?,
        folder,
    };
    for name in ["release", "stranger"] {
        let keygen = maker.bundler("keygen").arguments(["--name", name, "--out"]);
        maker.run(keygen.argument(folder))?;
    }
    for release in Release::ALL {
        let is_made_from = release == Release::V2 && wanted(Release::Damaged);
        if release == Release::V1 || wanted(release) || is_made_from {
            maker.build(release)?;
        }
    }
    Ok(Releases {
        folder: folder.to_owned(),
        key: maker.key()?,
    })
}

struct Maker<'m> {
    runner: &'m Runner,
    bundler: &'m Path,
    application: Application,
    folder: &'m Path,
}

impl Maker<'_> {
    fn run(&self, invocation: Invocation) -> Result<Output, MakerError> {
        Ok(self.runner.run(&invocation)?.expect_success()?)
    }

    fn bundler(&self, command: &str) -> Invocation {
        Invocation::new(self.bundler).argument(command)
    }

    fn build(&self, release: Release) -> Result<(), MakerError> {
        let out = bundle(self.folder, release);
        if release == Release::Damaged {
            return self.damage(&out);
        }
        let (name, behaviour) = match release {
            Release::Stranger => ("v2", Behaviour::Works),
            Release::Hangs => ("hangs", Behaviour::Hangs),
            Release::Panics => ("panics", Behaviour::Panics),
            Release::Sick => ("sick", Behaviour::IsSick),
            other => (other.name(), Behaviour::Works),
        };
        let image = self.folder.join(format!("{}.bin", release.name()));
        fs::write(&image, self.application.release(name, behaviour))
            .map_err(MakerError::file(&image, "written"))?;
        let compatible = match release {
            Release::OtherDevice => OTHER_COMPATIBLE,
            _ => COMPATIBLE,
        };
        let (key, anti_rollback) = match release {
            Release::Stranger => ("stranger.key", "1"),
            Release::V3 => ("release.key", "2"),
            _ => ("release.key", "1"),
        };
        let build = self
            .bundler("build")
            .arguments(["--compatible", compatible, "--version", name])
            .arguments(["--anti-rollback", anti_rollback])
            .arguments(["--compression", "deflate", "--range-bytes", RANGE_BYTES])
            .argument("--image")
            .argument(format!("firmware={}", image.display()))
            .argument("--sign")
            .argument(self.folder.join(key))
            .argument("--out");
        self.run(build.argument(&out)).map(drop)
    }

    /// A copy of V2 with one bit changed in the middle.
    fn damage(&self, out: &Path) -> Result<(), MakerError> {
        let from = bundle(self.folder, Release::V2);
        let about = fs::metadata(&from).map_err(MakerError::file(&from, "read"))?;
        tools::flip_bit(&from, out, about.len() / 2).map_err(MakerError::file(out, "written"))
    }

    /// The public key, raw.
    fn key(&self) -> Result<[u8; KEY_BYTES], ReleasesError> {
        let (file, der) = (
            self.folder.join("release.pub"),
            self.folder.join("release.der"),
        );
        let convert = Invocation::new("openssl")
            .arguments(["pkey", "-pubin", "-outform", "DER", "-in"])
            .argument(&file)
            .argument("-out")
            .argument(&der);
        self.run(convert)?;
        let bytes = fs::read(&der).map_err(MakerError::file(&der, "read"))?;
        bytes.last_chunk().copied().ok_or(ReleasesError::NoKey {
            file,
            found: bytes.len(),
        })
    }
}
