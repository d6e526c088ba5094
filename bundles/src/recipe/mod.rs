//! The recipe: what a bundle is made of, as a TOML file, as flags, or both.
//!
//! ```toml
//! compatible = "acme-gateway"
//! version = "1.4.2"
//! anti-rollback = 7
//! kernel = "vmlinuz"
//! initramfs = "initrd.cpio"
//! cmdline = "console=ttyS0 quiet"
//! stub = "linuxx64.efi.stub"
//! sign = ["keys/release.key"]
//!
//! [root]
//! tar = "rootfs.tar"
//! epoch = 0
//! ```
//!
//! # Invariants
//! - A key that is not known is an error: a misspelt `not-after` must not make a bundle that never expires.
//! - Paths are relative to the recipe; after [`Recipe::read`] they can be used as they are.

mod check;
mod error;
mod time;
mod words;

pub use check::{Ingredients, Initramfs, Kernel, Root, UkiSource};
pub use error::RecipeError;
pub use time::{Moment, MomentError};

use std::path::{Path, PathBuf};

use serde::Deserialize;
use twinseal_core::wire::manifest::InfoKind;

use crate::assemble::Compression;
use crate::error::{Error, FileOperation};

/// Longest recipe that is read. Stops a wrong path from filling the memory.
const RECIPE_MAX_BYTES: u64 = 1024 * 1024;

/// A recipe as it stands in its file. Every field may be missing; [`Recipe::ingredients`] says what a bundle needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Recipe {
    /// Device type.
    pub compatible: Option<String>,
    /// Version for people.
    pub version: Option<String>,
    /// Anti-rollback version.
    pub anti_rollback: Option<u64>,
    /// When the bundle may be installed.
    pub window: Window,
    /// Number of the release; 0 when none is given.
    pub sequence: Option<u64>,
    /// Source revision.
    pub source: Option<String>,
    /// Who or what builds.
    pub builder: Option<String>,
    /// The root file system.
    pub root: Option<RootEntry>,
    /// The kernel.
    pub kernel: Option<PathBuf>,
    /// The initramfs.
    pub initramfs: Option<PathBuf>,
    /// What an initramfs is made of, instead of one that was made before.
    pub early: Option<EarlyEntry>,
    /// The kernel command line, without `composefs=`.
    pub cmdline: Option<String>,
    /// The `os-release` of the UKI; that of the root when none is given.
    pub os_release: Option<PathBuf>,
    /// The kernel's release, `uname -r`.
    pub uname: Option<String>,
    /// systemd's UEFI stub.
    pub stub: Option<PathBuf>,
    /// A compiled device tree.
    pub device_tree: Option<PathBuf>,
    /// SBAT text of the UKI.
    pub sbat: Option<PathBuf>,
    /// A UKI that was made before, instead of `kernel` and what belongs to it.
    pub uki: Option<PathBuf>,
    /// Key and certificate for UEFI Secure Boot.
    pub secure_boot: Option<SecureBoot>,
    /// Raw images for slots.
    pub image: Vec<Image>,
    /// Files for `info/`.
    pub info: Vec<InfoFile>,
    /// Short for an `info` of kind `sbom` under the file's own name.
    pub sbom: Option<PathBuf>,
    /// How ranges are compressed.
    pub compression: Option<Compression>,
    /// How hard.
    pub level: Option<i32>,
    /// Bytes of a blob that become one range.
    pub range_bytes: Option<u32>,
    /// Bundles of the releases that devices may hold: the index gets a short route from each.
    pub bases: Vec<PathBuf>,
    /// Whether kernel modules and the initramfs stay compressed, as they come.
    pub keep_compressed: Option<bool>,
    /// Private keys that sign the bundle.
    pub sign: Vec<PathBuf>,
}

/// `[window]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Window {
    /// Not to be installed before.
    pub not_before: Option<Moment>,
    /// Not to be installed after.
    pub not_after: Option<Moment>,
}

/// `[root]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RootEntry {
    /// A directory.
    pub directory: Option<PathBuf>,
    /// A tar archive, also compressed with zstd or gzip.
    pub tar: Option<PathBuf>,
    /// Directories and tar archives that are laid over it, in this order.
    pub overlays: Vec<PathBuf>,
    /// Seconds since 1970 that become the time of every file; without it every file keeps its own.
    pub epoch: Option<u64>,
}

/// `[early]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EarlyEntry {
    /// The program that becomes `/init`.
    pub init: Option<PathBuf>,
    /// The folder of kernel modules and their `order`.
    pub modules: Option<PathBuf>,
    /// Public keys that the recovery trusts for releases; without one there is no recovery.
    pub trusted_keys: Vec<PathBuf>,
}

/// `[secure-boot]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecureBoot {
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificate, PEM.
    pub certificate: PathBuf,
}

/// `[[image]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Image {
    /// Name of the slot pair.
    pub slot: String,
    /// The bytes.
    pub file: PathBuf,
}

/// `[[info]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InfoFile {
    /// What it is.
    pub kind: InfoFileKind,
    /// The name after `info/`; that of the file when none is given.
    pub name: Option<String>,
    /// The file.
    pub file: PathBuf,
}

/// What an `info/` entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum InfoFileKind {
    /// A software bill of materials.
    Sbom,
    /// A provenance statement.
    Provenance,
    /// Release notes.
    Notes,
    /// Anything else.
    Other,
}

impl InfoFileKind {
    /// Its name in a recipe.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sbom => "sbom",
            Self::Provenance => "provenance",
            Self::Notes => "notes",
            Self::Other => "other",
        }
    }
}

impl From<InfoFileKind> for InfoKind {
    fn from(kind: InfoFileKind) -> Self {
        match kind {
            InfoFileKind::Sbom => Self::Sbom,
            InfoFileKind::Provenance => Self::Provenance,
            InfoFileKind::Notes => Self::Notes,
            InfoFileKind::Other => Self::Other,
        }
    }
}

impl From<InfoKind> for InfoFileKind {
    fn from(kind: InfoKind) -> Self {
        match kind {
            InfoKind::Sbom => Self::Sbom,
            InfoKind::Provenance => Self::Provenance,
            InfoKind::Notes => Self::Notes,
            InfoKind::Other => Self::Other,
        }
    }
}

impl Recipe {
    /// Reads a recipe and makes its paths relative to the current directory instead of to it.
    ///
    /// # Errors
    /// [`RecipeError::Unreadable`] shows the line that is wrong.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = check::read_text(path, "recipe", RECIPE_MAX_BYTES)?;
        let mut recipe = Self::parse(&text).map_err(|message| RecipeError::Unreadable {
            path: path.to_owned(),
            message,
        })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        recipe
            .paths_mut()
            .for_each(|path| *path = directory.join(&*path));
        Ok(recipe)
    }

    /// Reads a recipe from its text; paths stay as they are.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// Every path in the recipe.
    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let root = self.root.iter_mut().flat_map(|root| {
            let RootEntry {
                directory,
                tar,
                overlays,
                ..
            } = root;
            directory.iter_mut().chain(tar).chain(overlays)
        });
        let early = self.early.iter_mut().flat_map(|early| {
            let single = early.init.iter_mut().chain(&mut early.modules);
            single.chain(&mut early.trusted_keys)
        });
        let secure_boot = self
            .secure_boot
            .iter_mut()
            .flat_map(|pair| [&mut pair.key, &mut pair.certificate]);
        let single = [
            &mut self.kernel,
            &mut self.initramfs,
            &mut self.os_release,
            &mut self.stub,
            &mut self.device_tree,
            &mut self.sbat,
            &mut self.uki,
            &mut self.sbom,
        ];
        let single = single.into_iter().flatten();
        let images = self.image.iter_mut().map(|image| &mut image.file);
        let info = self.info.iter_mut().map(|info| &mut info.file);
        root.chain(early)
            .chain(secure_boot)
            .chain(single)
            .chain(images)
            .chain(info)
            .chain(&mut self.bases)
            .chain(&mut self.sign)
    }
}

/// Reads a file that must fit in memory.
pub(crate) fn read_file(
    path: &Path,
    what: &'static str,
    limit_bytes: u64,
) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(FileOperation::Open.on(path))?;
    let mut content = Vec::new();
    file.take(limit_bytes + 1)
        .read_to_end(&mut content)
        .map_err(FileOperation::Read.on(path))?;
    if content.len() as u64 > limit_bytes {
        return Err(RecipeError::FileTooLarge {
            path: path.to_owned(),
            what,
            limit_bytes,
        }
        .into());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_shown_with_their_line() {
        for text in [
            "compatible = 'a'\nnot-after = 5\n",
            "[window]\nnotafter = 5\n",
            "[root]\ntar = 'x'\nepoc = 0\n",
            "[early]\ninit = 'x'\nmodule = 'y'\n",
            "[[image]]\nslot = 'a'\nfile = 'b'\nsize = 3\n",
            "[secure-boot]\nkey = 'a'\ncertificate = 'b'\nengine = 'c'\n",
        ] {
            let message = Recipe::parse(text).unwrap_err();
            assert!(
                message.contains("unknown field") && message.contains("line"),
                "{message}"
            );
        }
    }

    #[test]
    fn every_path_is_relative_to_the_recipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recipe.toml");
        let text = "kernel = 'k'\ninitramfs = 'i'\nos-release = 'o'\nstub = 's'\ndevice-tree = 'd'\nsbat = 'b'\nuki = 'u'\n\
            sbom = 'm'\nsign = ['1', '2']\nbases = ['6']\nroot = { directory = 'r', tar = 't', overlays = ['3', '4'] }\nearly = { init = 'e', modules = '5', trusted-keys = ['7'] }\nsecure-boot = { key = 'y', certificate = '/z' }\n\
            [[image]]\nslot = 'x'\nfile = 'f'\n[[info]]\nkind = 'notes'\nfile = 'n'\n";
        std::fs::write(&path, text).unwrap();
        let mut recipe = Recipe::read(&path).unwrap();
        let mut found: Vec<_> = recipe.paths_mut().map(|path| path.clone()).collect();
        found.sort();
        let mut expected: Vec<_> = "1234567bdefikmnorstuy"
            .chars()
            .map(|name| directory.path().join(name.to_string()))
            .collect();
        expected.push("/z".into());
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn moments_are_dates_or_seconds() {
        let recipe = Recipe::parse(
            "[window]\nnot-before = 2026-01-02T03:04:05Z\nnot-after = '2026-01-02T04:04:06+01:00'\n",
        )
        .unwrap();
        let window = recipe.window;
        assert_eq!(window.not_before.map(Moment::seconds), Some(1_767_323_045));
        assert_eq!(window.not_after.map(Moment::seconds), Some(1_767_323_046));
        assert_eq!(
            Recipe::parse("window = { not-after = 7 }")
                .unwrap()
                .window
                .not_after
                .map(Moment::seconds),
            Some(7)
        );
        let message = Recipe::parse("[window]\nnot-after = 2026-01-02\n").unwrap_err();
        assert!(
            message.contains("time zone") && message.contains("line 2"),
            "{message}"
        );
    }
}
