//! From a recipe to ingredients: what is missing, what contradicts, what is no name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use twinseal_core::wire::RANGE_MAX_BYTES;
use twinseal_core::wire::manifest::{BuildIdentity, ValidityWindow};
use twinseal_core::wire::text::{Line, Name};

use super::{InfoFile, InfoFileKind, Recipe, RecipeError, SecureBoot, words};
use crate::assemble::{
    EncodingOptions, Identity, InfoContent, RANGE_DEFAULT_BYTES, RANGE_MIN_BYTES,
};
use crate::error::Error;
use crate::initramfs::{Early, RecoveryParts};
use crate::rootfs::RootOptions;

/// Largest `info/` file: it is held in memory, and no honest SBOM comes near it.
const INFO_FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Everything that a build needs, with nothing missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingredients {
    /// What the manifest says about the bundle as a whole.
    pub identity: Identity,
    /// The `info/` entries.
    pub info: Vec<InfoContent>,
    /// Root file system and UKI; a bundle of images has none.
    pub system: Option<(Root, UkiSource)>,
    /// Key and certificate for UEFI Secure Boot.
    pub secure_boot: Option<SecureBoot>,
    /// Slot and file of every image.
    pub images: Vec<(Name, PathBuf)>,
    /// How blobs are cut and compressed.
    pub encoding: EncodingOptions,
    /// Bundles of the releases that devices may hold.
    pub bases: Vec<PathBuf>,
    /// Private keys that sign the bundle.
    pub sign: Vec<PathBuf>,
}

/// Where the root file system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A directory.
    Directory(PathBuf, RootOptions),
    /// A tar archive.
    Tar(PathBuf, RootOptions),
}

/// Where the UKI comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UkiSource {
    /// It was made before.
    Prebuilt(PathBuf),
    /// It is made from parts.
    Parts(Box<Kernel>),
}

/// Where the initramfs comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Initramfs {
    /// It was made before.
    File(PathBuf),
    /// It is made from a program and modules.
    Early(Early),
}

/// The parts of a UKI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// systemd's UEFI stub.
    pub stub: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: Option<Initramfs>,
    /// The command line, without `composefs=`.
    pub cmdline: String,
    /// The `os-release`; that of the root when none is given.
    pub os_release: Option<PathBuf>,
    /// The kernel's release.
    pub uname: Option<String>,
    /// A compiled device tree.
    pub device_tree: Option<PathBuf>,
    /// SBAT text.
    pub sbat: Option<PathBuf>,
    /// Whether the initramfs stays compressed, as it comes.
    pub keep_compressed: bool,
}

impl Recipe {
    /// Checks the recipe and reads its `info/` files.
    ///
    /// # Errors
    /// [`RecipeError`] says what is missing or wrong.
    pub fn ingredients(&self) -> Result<Ingredients, Error> {
        let system = self.system()?;
        let images = self.images()?;
        if system.is_none() && images.is_empty() {
            return Err(RecipeError::Nothing.into());
        }
        if system.is_none() && !self.bases.is_empty() {
            return Err(RecipeError::MissingFor {
                needs: "bases",
                missing: "root",
            }
            .into());
        }
        Ok(Ingredients {
            identity: self.identity()?,
            info: self.info_contents()?,
            system,
            secure_boot: self.secure_boot.clone(),
            images,
            encoding: self.encoding()?,
            bases: self.bases.clone(),
            sign: self.sign.clone(),
        })
    }

    fn identity(&self) -> Result<Identity, RecipeError> {
        let compatible = self
            .compatible
            .as_deref()
            .ok_or(RecipeError::Missing("compatible"))?;
        let version = self
            .version
            .as_deref()
            .ok_or(RecipeError::Missing("version"))?;
        let moments = (self.window.not_before, self.window.not_after);
        let window = ValidityWindow {
            not_before: moments.0.map_or(0, |moment| moment.seconds()),
            not_after: moments.1.map(|moment| moment.seconds()),
        };
        if window
            .not_after
            .is_some_and(|not_after| not_after < window.not_before)
        {
            return Err(RecipeError::Window);
        }
        Ok(Identity {
            compatible: name("compatible", compatible)?,
            version: line("version", version)?,
            anti_rollback: self
                .anti_rollback
                .ok_or(RecipeError::Missing("anti-rollback"))?,
            window,
            sequence: self.sequence.unwrap_or(0),
            build: BuildIdentity {
                source: line("source", self.source.as_deref().unwrap_or(""))?,
                builder: line("builder", self.builder.as_deref().unwrap_or(""))?,
            },
        })
    }

    fn system(&self) -> Result<Option<(Root, UkiSource)>, RecipeError> {
        match (self.root()?, self.uki_source()?) {
            (Some(root), Some(uki)) => Ok(Some((root, uki))),
            (None, None) if self.secure_boot.is_some() => Err(RecipeError::MissingFor {
                needs: "secure-boot",
                missing: "kernel",
            }),
            (None, None) => Ok(None),
            (Some(_), None) => Err(RecipeError::MissingFor {
                needs: "root",
                missing: "kernel",
            }),
            (None, Some(UkiSource::Prebuilt(_))) => Err(RecipeError::MissingFor {
                needs: "uki",
                missing: "root",
            }),
            (None, Some(UkiSource::Parts(_))) => Err(RecipeError::MissingFor {
                needs: "kernel",
                missing: "root",
            }),
        }
    }

    fn root(&self) -> Result<Option<Root>, RecipeError> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let options = RootOptions {
            epoch: root.epoch,
            overlays: root.overlays.clone(),
            keep_compressed: self.keep_compressed.unwrap_or(false),
        };
        match (&root.directory, &root.tar) {
            (Some(directory), None) => Ok(Some(Root::Directory(directory.clone(), options))),
            (None, Some(tar)) => Ok(Some(Root::Tar(tar.clone(), options))),
            (Some(_), Some(_)) => Err(RecipeError::Both("root.directory", "root.tar")),
            (None, None) => Err(RecipeError::MissingFor {
                needs: "root",
                missing: "root.tar",
            }),
        }
    }

    fn uki_source(&self) -> Result<Option<UkiSource>, RecipeError> {
        let parts = [
            ("kernel", self.kernel.is_some()),
            ("initramfs", self.initramfs.is_some()),
            ("early", self.early.is_some()),
            ("cmdline", self.cmdline.is_some()),
            ("os-release", self.os_release.is_some()),
            ("uname", self.uname.is_some()),
            ("stub", self.stub.is_some()),
            ("device-tree", self.device_tree.is_some()),
            ("sbat", self.sbat.is_some()),
        ];
        let part = parts
            .iter()
            .find(|(_, given)| *given)
            .map(|(name, _)| *name);
        match (&self.uki, &self.kernel, part) {
            (Some(_), _, Some(part)) => Err(RecipeError::Both("uki", part)),
            (Some(uki), _, None) => Ok(Some(UkiSource::Prebuilt(uki.clone()))),
            (None, None, Some(needs)) => Err(RecipeError::MissingFor {
                needs,
                missing: "kernel",
            }),
            (None, None, None) => Ok(None),
            (None, Some(kernel), _) => {
                let stub = self.stub.clone().ok_or(RecipeError::MissingFor {
                    needs: "kernel",
                    missing: "stub",
                })?;
                let cmdline = self.cmdline.clone().unwrap_or_default();
                if cmdline.contains("composefs=") {
                    return Err(RecipeError::CommandLineSealed);
                }
                words::check(&cmdline)?;
                Ok(Some(UkiSource::Parts(Box::new(Kernel {
                    stub,
                    kernel: kernel.clone(),
                    initramfs: self.initramfs()?,
                    cmdline,
                    os_release: self.os_release.clone(),
                    uname: self.uname.clone(),
                    device_tree: self.device_tree.clone(),
                    sbat: self.sbat.clone(),
                    keep_compressed: self.keep_compressed.unwrap_or(false),
                }))))
            }
        }
    }

    fn initramfs(&self) -> Result<Option<Initramfs>, RecipeError> {
        match (&self.initramfs, &self.early) {
            (Some(_), Some(_)) => Err(RecipeError::Both("initramfs", "early")),
            (Some(file), None) => Ok(Some(Initramfs::File(file.clone()))),
            (None, Some(early)) => {
                let init = early.init.clone().ok_or(RecipeError::MissingFor {
                    needs: "early",
                    missing: "early.init",
                })?;
                let recovery = (!early.trusted_keys.is_empty())
                    .then(|| self.recovery(&early.trusted_keys))
                    .transpose()?;
                Ok(Some(Initramfs::Early(Early {
                    init,
                    modules: early.modules.clone(),
                    recovery,
                })))
            }
            (None, None) => Ok(None),
        }
    }

    fn recovery(&self, keys: &[PathBuf]) -> Result<RecoveryParts, RecipeError> {
        let identity = self.identity()?;
        Ok(RecoveryParts {
            compatible: identity.compatible,
            anti_rollback: identity.anti_rollback,
            trusted_keys: keys.to_vec(),
        })
    }

    fn images(&self) -> Result<Vec<(Name, PathBuf)>, RecipeError> {
        let mut seen = HashSet::new();
        let images = self.image.iter().map(|image| {
            if !seen.insert(&image.slot) {
                return Err(RecipeError::Twice {
                    field: "image",
                    name: image.slot.clone(),
                });
            }
            Ok((name("slot", &image.slot)?, image.file.clone()))
        });
        images.collect()
    }

    fn info_contents(&self) -> Result<Vec<InfoContent>, Error> {
        let sbom = self.sbom.iter().map(|file| InfoFile {
            kind: InfoFileKind::Sbom,
            name: None,
            file: file.clone(),
        });
        let mut seen = HashSet::new();
        let contents = sbom.chain(self.info.iter().cloned()).map(|info| {
            let text = info
                .name
                .clone()
                .or_else(|| Some(info.file.file_name()?.to_str()?.to_owned()));
            let name = name("info.name", &text.unwrap_or_default())?;
            if !seen.insert(name.as_str().to_owned()) {
                return Err(RecipeError::Twice {
                    field: "info",
                    name: name.as_str().to_owned(),
                }
                .into());
            }
            let content = super::read_file(&info.file, "file under info/", INFO_FILE_MAX_BYTES)?;
            Ok(InfoContent {
                name,
                kind: info.kind.into(),
                content,
            })
        });
        contents.collect()
    }

    fn encoding(&self) -> Result<EncodingOptions, RecipeError> {
        let compression = self.compression.unwrap_or_default();
        let level = self.level.unwrap_or(compression.default_level());
        let range_bytes = self.range_bytes.unwrap_or(RANGE_DEFAULT_BYTES);
        let (lowest, highest) = compression.levels();
        within(
            "level",
            i64::from(level),
            i64::from(lowest),
            i64::from(highest),
        )?;
        within(
            "range-bytes",
            i64::from(range_bytes),
            i64::from(RANGE_MIN_BYTES),
            i64::from(RANGE_MAX_BYTES),
        )?;
        Ok(EncodingOptions {
            compression,
            level,
            range_bytes,
        })
    }
}

fn within(field: &'static str, value: i64, lowest: i64, highest: i64) -> Result<(), RecipeError> {
    if (lowest..=highest).contains(&value) {
        Ok(())
    } else {
        Err(RecipeError::Number {
            field,
            value,
            lowest,
            highest,
        })
    }
}

fn name(field: &'static str, text: &str) -> Result<Name, RecipeError> {
    Name::new(text).ok_or_else(|| RecipeError::Name {
        field,
        text: text.to_owned(),
    })
}

fn line(field: &'static str, text: &str) -> Result<Line, RecipeError> {
    Line::new(text).ok_or_else(|| RecipeError::Line {
        field,
        text: text.to_owned(),
    })
}

/// Reads a small text file.
pub(super) fn read_text(
    path: &Path,
    what: &'static str,
    limit_bytes: u64,
) -> Result<String, Error> {
    let bytes = super::read_file(path, what, limit_bytes)?;
    String::from_utf8(bytes).map_err(|_| {
        RecipeError::NotText {
            path: path.to_owned(),
            what,
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "compatible = 'acme-gw'\nversion = '1'\nanti-rollback = 3\nkernel = 'k'\nstub = 's'\n\
        root = { tar = 't' }\n";

    fn error(text: &str) -> String {
        let recipe = Recipe::parse(text).unwrap_or_else(|message| panic!("{message}"));
        recipe.ingredients().unwrap_err().to_string()
    }

    #[test]
    fn a_whole_recipe_is_taken_with_its_defaults() {
        let whole = Recipe::parse(WHOLE).unwrap().ingredients().unwrap();
        assert_eq!(whole.encoding, EncodingOptions::default());
        assert_eq!(
            (whole.identity.sequence, whole.identity.window.not_after),
            (0, None)
        );
        let Some((Root::Tar(tar, RootOptions { epoch: None, .. }), UkiSource::Parts(kernel))) =
            whole.system
        else {
            panic!("a system")
        };
        assert_eq!((tar, kernel.cmdline.as_str()), ("t".into(), ""));
    }

    #[test]
    fn what_is_missing_or_contradicts_is_named() {
        for (text, expected) in [
            ("", "nothing to install"),
            (
                "[[image]]\nslot = 'a'\nfile = 'b'",
                "`compatible` is missing",
            ),
            (
                &WHOLE.replace("anti-rollback = 3\n", ""),
                "`anti-rollback` is missing",
            ),
            (&WHOLE.replace("acme-gw", "Acme GW"), "not a name"),
            (&WHOLE.replace("'1'", "\"1\\n2\""), "not one line"),
            (
                &WHOLE.replace("stub = 's'\n", ""),
                "`kernel` needs `stub` too",
            ),
            (
                &WHOLE.replace("kernel = 'k'\n", ""),
                "`stub` needs `kernel` too",
            ),
            (
                &WHOLE.replace("root = { tar = 't' }\n", ""),
                "`kernel` needs `root` too",
            ),
            (
                &WHOLE.replace("kernel = 'k'\nstub = 's'\n", ""),
                "`root` needs `kernel` too",
            ),
            (
                &WHOLE.replace("tar = 't'", "tar = 't', directory = 'd'"),
                "exclude each other",
            ),
            (
                &WHOLE.replace("tar = 't'", "epoch = 0"),
                "`root` needs `root.tar` too",
            ),
            (
                &WHOLE.replace("kernel", "uki = 'u'\nkernel"),
                "`uki` and `kernel` exclude each other",
            ),
            (
                &WHOLE.replace("kernel = 'k'\nstub = 's'", "uki = 'u'\nsbat = 's'"),
                "`uki` and `sbat` exclude",
            ),
            (
                &WHOLE.replace("stub", "cmdline = 'a composefs=x'\nstub"),
                "composefs=",
            ),
            (
                &WHOLE.replace("stub", "cmdline = 'twinseal.start=5'\nstub"),
                "`twinseal.start=5`, which `/init` does not take",
            ),
            (
                &format!("initramfs = 'i'\nearly = {{ init = 'e' }}\n{WHOLE}"),
                "`initramfs` and `early` exclude each other",
            ),
            (
                &format!("early = {{ modules = 'm' }}\n{WHOLE}"),
                "`early` needs `early.init` too",
            ),
            (
                &WHOLE.replace("tar = 't'", "overlays = ['o']"),
                "`root` needs `root.tar` too",
            ),
            (
                &format!("{WHOLE}[window]\nnot-before = 5\nnot-after = 4"),
                "ends before it begins",
            ),
            (&format!("level = 23\n{WHOLE}"), "must be from 1 to 22"),
            (
                &format!("level = 11\ncompression = 'deflate'\n{WHOLE}"),
                "must be from 1 to 10",
            ),
            (
                &format!("range-bytes = 4095\n{WHOLE}"),
                "must be from 4096 to 1048576",
            ),
            (
                &format!(
                    "{WHOLE}[[image]]\nslot = 'a'\nfile = 'x'\n[[image]]\nslot = 'a'\nfile = 'y'"
                ),
                "two entries",
            ),
            (
                &format!("sbom = '/no/such.json'\n{WHOLE}"),
                "Opening `/no/such.json` failed",
            ),
            (&format!("sbom = '/no/Such File'\n{WHOLE}"), "not a name"),
            (
                "compatible = 'a'\nsecure-boot = { key = 'k', certificate = 'c' }\n[[image]]\nslot = 'a'\nfile = 'b'",
                "`secure-boot` needs `kernel` too",
            ),
        ] {
            let found = error(text);
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }
}
