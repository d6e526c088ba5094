//! The flags of `build`: one for each field of a recipe.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::assemble::Compression;
use crate::error::Error;
use crate::recipe::{
    EarlyEntry, Image, InfoFile, InfoFileKind, Moment, Recipe, RecipeError, RootEntry, SecureBoot,
};

/// Arguments of `build`.
#[derive(Clone, Debug, Args)]
pub struct BuildArguments {
    /// The recipe. Without one, flags say everything.
    pub recipe: Option<PathBuf>,
    /// The bundle to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Fields of the recipe.
    #[command(
        flatten,
        next_help_heading = "Instead of, or over, what the recipe says"
    )]
    pub fields: Fields,
}

/// One flag for each field. A list that is given replaces that of the recipe.
#[derive(Clone, Debug, Default, Args)]
pub struct Fields {
    /// Device type.
    #[arg(long, value_name = "NAME")]
    compatible: Option<String>,
    /// Version for people.
    #[arg(long, value_name = "TEXT")]
    version: Option<String>,
    /// Anti-rollback version: devices refuse a lower one than they ever committed.
    #[arg(long, value_name = "N")]
    anti_rollback: Option<u64>,
    /// Not to be installed before: RFC 3339 or seconds since 1970.
    #[arg(long, value_name = "TIME")]
    not_before: Option<Moment>,
    /// Not to be installed after: RFC 3339 or seconds since 1970.
    #[arg(long, value_name = "TIME")]
    not_after: Option<Moment>,
    /// Number of the release.
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    /// Source revision.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Who or what builds.
    #[arg(long, value_name = "TEXT")]
    builder: Option<String>,
    /// Root file system: a directory.
    #[arg(long, value_name = "DIR", conflicts_with = "root_tar")]
    root_directory: Option<PathBuf>,
    /// Root file system: a tar archive, also with zstd or gzip.
    #[arg(long, value_name = "FILE")]
    root_tar: Option<PathBuf>,
    /// Directory or tar archive that is laid over the root; may be given again, and the later wins.
    #[arg(long, value_name = "DIR-OR-TAR")]
    root_overlay: Vec<PathBuf>,
    /// Seconds since 1970 that become the time of every file in the root.
    #[arg(long, value_name = "SECONDS")]
    epoch: Option<u64>,
    /// Kernel.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initramfs.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["early_init", "early_modules", "early_trusted_key"])]
    initramfs: Option<PathBuf>,
    /// Program that becomes /init of an initramfs that is made here.
    #[arg(long, value_name = "FILE")]
    early_init: Option<PathBuf>,
    /// Folder of that initramfs's kernel modules, with a file `order`.
    #[arg(long, value_name = "DIR")]
    early_modules: Option<PathBuf>,
    /// Public key that the recovery in that initramfs trusts for releases; may be given again.
    #[arg(long, value_name = "PUB")]
    early_trusted_key: Vec<PathBuf>,
    /// Kernel command line, without composefs=, which is added.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// os-release of the UKI; that of the root when none is given.
    #[arg(long, value_name = "FILE")]
    os_release: Option<PathBuf>,
    /// Release of the kernel (uname -r).
    #[arg(long, value_name = "TEXT")]
    uname: Option<String>,
    /// systemd's UEFI stub.
    #[arg(long, value_name = "FILE")]
    stub: Option<PathBuf>,
    /// Compiled device tree.
    #[arg(long, value_name = "FILE")]
    device_tree: Option<PathBuf>,
    /// SBAT text of the UKI.
    #[arg(long, value_name = "FILE")]
    sbat: Option<PathBuf>,
    /// UKI that was made before, instead of --kernel and its like. It must seal this root.
    #[arg(long, value_name = "FILE")]
    uki: Option<PathBuf>,
    /// Private key for UEFI Secure Boot, PEM.
    #[arg(long, value_name = "FILE", requires = "secure_boot_certificate")]
    secure_boot_key: Option<PathBuf>,
    /// Certificate for UEFI Secure Boot, PEM.
    #[arg(long, value_name = "FILE", requires = "secure_boot_key")]
    secure_boot_certificate: Option<PathBuf>,
    /// Raw image for a slot; may be given again.
    #[arg(long, value_name = "SLOT=FILE", value_parser = parse_image)]
    image: Vec<Image>,
    /// File for info/; KIND is sbom, provenance, notes or other; may be given again.
    #[arg(long, value_name = "KIND[:NAME]=FILE", value_parser = parse_info)]
    info: Vec<InfoFile>,
    /// Software bill of materials, for info/ under its own name.
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,
    /// How ranges are compressed.
    #[arg(long, value_enum)]
    compression: Option<Compression>,
    /// How hard: zstd 1 to 22 (15 when none is given), deflate 1 to 10 (9).
    #[arg(long, value_name = "N")]
    level: Option<i32>,
    /// Bytes of content that become one range, 4096 to 1048576.
    #[arg(long, value_name = "BYTES")]
    range_bytes: Option<u32>,
    /// Bundle of a release that devices may hold already: updating from it then costs what has changed. May be given again.
    #[arg(long, value_name = "BUNDLE")]
    base: Vec<PathBuf>,
    /// Leave kernel modules and the initramfs compressed, as they come. Updates of them cost more then.
    #[arg(long)]
    keep_compressed: bool,
    /// Private key that signs the bundle; may be given again.
    #[arg(long, value_name = "KEY")]
    sign: Vec<PathBuf>,
}

impl BuildArguments {
    /// The recipe with the flags over it.
    ///
    /// # Errors
    /// When the recipe cannot be read.
    pub fn recipe(&self) -> Result<Recipe, Error> {
        let mut recipe = self
            .recipe
            .as_deref()
            .map(Recipe::read)
            .transpose()?
            .unwrap_or_default();
        self.fields.clone().put_over(&mut recipe)?;
        Ok(recipe)
    }
}

impl Fields {
    fn put_over(self, recipe: &mut Recipe) -> Result<(), RecipeError> {
        put(&mut recipe.compatible, self.compatible);
        put(&mut recipe.version, self.version);
        put(&mut recipe.anti_rollback, self.anti_rollback);
        put(&mut recipe.window.not_before, self.not_before);
        put(&mut recipe.window.not_after, self.not_after);
        put(&mut recipe.sequence, self.sequence);
        put(&mut recipe.source, self.source);
        put(&mut recipe.builder, self.builder);
        put_root(
            &mut recipe.root,
            self.root_directory,
            self.root_tar,
            self.root_overlay,
            self.epoch,
        )?;
        put(&mut recipe.kernel, self.kernel);
        put_initramfs(
            recipe,
            self.initramfs,
            EarlyEntry {
                init: self.early_init,
                modules: self.early_modules,
                trusted_keys: self.early_trusted_key,
            },
        );
        put(&mut recipe.cmdline, self.cmdline);
        put(&mut recipe.os_release, self.os_release);
        put(&mut recipe.uname, self.uname);
        put(&mut recipe.stub, self.stub);
        put(&mut recipe.device_tree, self.device_tree);
        put(&mut recipe.sbat, self.sbat);
        put(&mut recipe.uki, self.uki);
        let pair = self.secure_boot_key.zip(self.secure_boot_certificate);
        put(
            &mut recipe.secure_boot,
            pair.map(|(key, certificate)| SecureBoot { key, certificate }),
        );
        put_list(&mut recipe.image, self.image);
        put_list(&mut recipe.info, self.info);
        put(&mut recipe.sbom, self.sbom);
        if let Some(compression) = self.compression {
            // A level of the recipe belongs to the compression of the recipe.
            recipe.level = recipe
                .level
                .filter(|_| recipe.compression.unwrap_or_default() == compression);
            recipe.compression = Some(compression);
        }
        put(&mut recipe.level, self.level);
        put(&mut recipe.range_bytes, self.range_bytes);
        put_list(&mut recipe.bases, self.base);
        put(
            &mut recipe.keep_compressed,
            self.keep_compressed.then_some(true),
        );
        put_list(&mut recipe.sign, self.sign);
        Ok(())
    }
}

fn put<T>(field: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *field = flag;
    }
}

fn put_list<T>(field: &mut Vec<T>, flags: Vec<T>) {
    if !flags.is_empty() {
        *field = flags;
    }
}

fn put_root(
    root: &mut Option<RootEntry>,
    directory: Option<PathBuf>,
    tar: Option<PathBuf>,
    overlays: Vec<PathBuf>,
    epoch: Option<u64>,
) -> Result<(), RecipeError> {
    if directory.is_some() || tar.is_some() {
        *root = Some(RootEntry {
            directory,
            tar,
            ..root.take().unwrap_or_default()
        });
    }
    match root {
        Some(root) => put_list(&mut root.overlays, overlays),
        None if !overlays.is_empty() => {
            return Err(RecipeError::MissingFor {
                needs: "root-overlay",
                missing: "root",
            });
        }
        None => {}
    }
    match (root, epoch) {
        (Some(root), Some(_)) => root.epoch = epoch,
        (None, Some(_)) => {
            return Err(RecipeError::MissingFor {
                needs: "epoch",
                missing: "root",
            });
        }
        (_, None) => {}
    }
    Ok(())
}

/// A file and parts are two ways to the same thing: what flags give takes the place of the recipe's other way.
fn put_initramfs(recipe: &mut Recipe, file: Option<PathBuf>, flags: EarlyEntry) {
    if file.is_some() {
        recipe.initramfs = file;
        recipe.early = None;
    }
    if flags != EarlyEntry::default() {
        recipe.initramfs = None;
        let early = recipe.early.get_or_insert_default();
        put(&mut early.init, flags.init);
        put(&mut early.modules, flags.modules);
        if !flags.trusted_keys.is_empty() {
            early.trusted_keys = flags.trusted_keys;
        }
    }
}

fn parse_image(text: &str) -> Result<Image, String> {
    let (slot, file) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not SLOT=FILE"))?;
    Ok(Image {
        slot: slot.to_owned(),
        file: file.into(),
    })
}

fn parse_info(text: &str) -> Result<InfoFile, String> {
    let (what, file) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not KIND[:NAME]=FILE"))?;
    let (kind, name) = what
        .split_once(':')
        .map_or((what, None), |(kind, name)| (kind, Some(name.to_owned())));
    let kind = InfoFileKind::from_str(kind, false)
        .map_err(|_| format!("`{kind}` is not one of sbom, provenance, notes, other"))?;
    Ok(InfoFile {
        kind,
        name,
        file: file.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn arguments(words: &[&str]) -> BuildArguments {
        let all = ["twinseal-bundle", "build", "--out", "o"]
            .iter()
            .chain(words);
        match super::super::Cli::parse_from(all).command {
            super::super::Command::Build(arguments) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    const EVERYTHING: &str = "compatible = 'a'\nversion = 'b'\nanti-rollback = 1\nsequence = 2\nsource = 'c'\nbuilder = 'd'\n\
        kernel = '/e'\ninitramfs = '/f'\ncmdline = '-g'\nos-release = '/h'\nuname = 'i'\nstub = '/j'\ndevice-tree = '/k'\n\
        sbat = '/l'\nuki = '/m'\nsbom = '/n'\ncompression = 'deflate'\nlevel = 3\nrange-bytes = 4\nkeep-compressed = true\nsign = ['/o', '/p']\n\
        [window]\nnot-before = 5\nnot-after = 6\n[root]\ntar = '/q'\noverlays = ['/x', '/y']\nepoch = 7\n[secure-boot]\nkey = '/r'\ncertificate = '/s'\n\
        [[image]]\nslot = 't'\nfile = '/u'\n[[info]]\nkind = 'notes'\nname = 'v'\nfile = '/w'\n";

    const FLAGS: &[&str] = &[
        "--compatible=a",
        "--version=b",
        "--anti-rollback=1",
        "--sequence=2",
        "--source=c",
        "--builder=d",
        "--kernel=/e",
        "--initramfs=/f",
        "--cmdline",
        "-g",
        "--os-release=/h",
        "--uname=i",
        "--stub=/j",
        "--device-tree=/k",
        "--sbat=/l",
        "--uki=/m",
        "--sbom=/n",
        "--compression=deflate",
        "--level=3",
        "--range-bytes=4",
        "--keep-compressed",
        "--sign=/o",
        "--sign=/p",
        "--not-before=5",
        "--not-after=6",
        "--root-tar=/q",
        "--root-overlay=/x",
        "--root-overlay=/y",
        "--epoch=7",
        "--secure-boot-key=/r",
        "--secure-boot-certificate=/s",
        "--image=t=/u",
        "--info=notes:v=/w",
    ];

    #[test]
    fn flags_say_everything_that_a_recipe_says() {
        let recipe = Recipe::parse(EVERYTHING).unwrap();
        assert_eq!(arguments(FLAGS).recipe().unwrap(), recipe);
        let directory = arguments(&["--root-directory", "x"]).recipe().unwrap();
        assert_eq!(directory.root.unwrap().directory, Some("x".into()));
    }

    #[test]
    fn flags_win() {
        let mut recipe = Recipe::parse(EVERYTHING).unwrap();
        let flags = arguments(&[
            "--version=9",
            "--sign=/z",
            "--compression=zstd",
            "--root-directory=/y",
        ]);
        flags.fields.put_over(&mut recipe).unwrap();
        assert_eq!(
            (recipe.version.as_deref(), recipe.compatible.as_deref()),
            (Some("9"), Some("a"))
        );
        assert_eq!(recipe.sign, [PathBuf::from("/z")]);
        assert_eq!(
            (recipe.compression, recipe.level),
            (Some(Compression::Zstd), None),
            "the level was deflate's"
        );
        assert_eq!(
            recipe.root,
            Some(RootEntry {
                directory: Some("/y".into()),
                tar: None,
                overlays: vec!["/x".into(), "/y".into()],
                epoch: Some(7)
            })
        );
    }

    #[test]
    fn a_file_and_parts_of_an_initramfs_take_each_other_s_place() {
        let mut recipe = Recipe::parse(EVERYTHING).unwrap();
        let put_over = |words: &[&str], recipe: &mut Recipe| {
            arguments(words).fields.put_over(recipe).unwrap();
            (recipe.initramfs.clone(), recipe.early.clone())
        };
        let early = EarlyEntry {
            init: Some("i".into()),
            modules: Some("m".into()),
            trusted_keys: vec!["k".into()],
        };
        let flags = [
            "--early-init=i",
            "--early-modules=m",
            "--early-trusted-key=k",
        ];
        assert_eq!(put_over(&flags, &mut recipe), (None, Some(early)));
        let file = Some("/f".into());
        assert_eq!(put_over(&["--initramfs=/f"], &mut recipe), (file, None));
    }

    #[test]
    fn an_epoch_without_a_root_is_refused() {
        assert!(arguments(&["--epoch=1"]).recipe().is_err());
        assert!(arguments(&["--root-overlay=o"]).recipe().is_err());
    }
}
