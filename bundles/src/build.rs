//! From ingredients to a bundle: root file system to composefs image, image to seal, seal to UKI, everything to the archive.
//!
//! # Invariants
//! - The UKI in the bundle seals the image in the bundle, whether it was made here or before.
//! - Keys and bases are read first: a wrong path is told before minutes of work, not after.

use std::path::Path;

use twinseal_core::Error as CoreError;
use twinseal_core::error::BundleInvalid;
use twinseal_core::verify::seal::{seal_of_command_line, sealed_digest};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Role;

use crate::assemble::{Assembled, BaseRelease, BlobPlan, Plan, Target, assemble};
use crate::authenticode;
use crate::composefs_image::{self, ComposefsImage, Digest, FileEntry, FileKind};
use crate::error::{Error, FileOperation};
use crate::initramfs;
use crate::keys::SigningKey;
use crate::patch::Watch;
use crate::plain;
use crate::recipe::{
    Ingredients, Initramfs, Kernel, RecipeError, Root, SecureBoot, UkiSource, read_file,
};
use crate::rootfs::RootError;
use crate::uki::{self, UkiParts};

/// Largest part of a UKI, and largest UKI: firmware loads it whole into memory.
const UKI_PART_MAX_BYTES: u64 = 1 << 30;

/// Largest key or certificate file.
const PEM_MAX_BYTES: u64 = 64 * 1024;

/// Where `os-release` is in a root (os-release(5)): the file itself, then the name that is usually a link to it.
const OS_RELEASE_PATHS: [&str; 2] = ["/usr/lib/os-release", "/etc/os-release"];

/// Builds the bundle to `output`.
///
/// # Errors
/// [`Error`] says whose fault it is: the recipe's, the root's, a key's, or the host's.
pub fn build(ingredients: &Ingredients, output: &Path) -> Result<Assembled, Error> {
    build_watched(ingredients, output, &|_| ())
}

/// As [`build`]; `watch` is told how far the patches are.
///
/// # Errors
/// As [`build`].
pub fn build_watched(
    ingredients: &Ingredients,
    output: &Path,
    watch: Watch<'_>,
) -> Result<Assembled, Error> {
    let keys = ingredients
        .sign
        .iter()
        .map(|path| SigningKey::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let secure_boot = ingredients
        .secure_boot
        .as_ref()
        .map(SecureBootPair::read)
        .transpose()?;
    let bases = bases(ingredients)?;
    let mut system = None;
    if let Some((root, source)) = &ingredients.system {
        let image = compose(root)?;
        let uki = sealed_uki(source, &image, secure_boot.as_ref())?;
        system = Some((image, uki));
    }
    let mut blobs = Vec::new();
    if let Some((_, uki)) = &system {
        blobs.push(BlobPlan::bytes(Target::Uki, uki));
    }
    for (slot, path) in &ingredients.images {
        let blob = BlobPlan::image(slot.clone(), path.clone())?;
        if blob.size == 0 {
            return Err(RecipeError::ImageEmpty(slot.as_str().to_owned()).into());
        }
        blobs.push(blob);
    }
    if let Some((image, _)) = &system {
        blobs.extend(BlobPlan::composefs(image));
    }
    let plan = Plan {
        identity: ingredients.identity.clone(),
        info: ingredients.info.clone(),
        blobs,
        encoding: ingredients.encoding,
        bases,
    };
    assemble(&plan, &keys, output, watch)
}

/// The releases that get a route of their own.
fn bases(ingredients: &Ingredients) -> Result<Vec<BaseRelease>, Error> {
    let mut bases: Vec<BaseRelease> = Vec::new();
    for path in &ingredients.bases {
        let base = BaseRelease::read(path, &ingredients.identity.compatible)?;
        let twin = |other: &BaseRelease| other.manifest_sha256 == base.manifest_sha256;
        if bases.iter().any(twin) {
            return Err(RecipeError::BaseTwice(path.clone()).into());
        }
        bases.push(base);
    }
    Ok(bases)
}

/// The composefs image of a root.
fn compose(root: &Root) -> Result<ComposefsImage, RootError> {
    match root {
        Root::Directory(path, options) => composefs_image::from_directory(path, options),
        Root::Tar(path, options) => composefs_image::from_tar(path, options),
    }
}

/// A UKI that seals `image`.
fn sealed_uki(
    source: &UkiSource,
    image: &ComposefsImage,
    pair: Option<&SecureBootPair>,
) -> Result<Vec<u8>, Error> {
    let seal = BlobDigest::sha256(image.digest);
    let unsigned = match source {
        UkiSource::Prebuilt(path) => prebuilt(path, seal)?,
        UkiSource::Parts(kernel) => from_parts(kernel, image, seal)?,
    };
    match pair {
        Some(pair) => Ok(authenticode::sign(&unsigned, &pair.key, &pair.certificate)?),
        None => Ok(unsigned),
    }
}

fn prebuilt(path: &Path, seal: BlobDigest) -> Result<Vec<u8>, Error> {
    let uki = read_file(path, "UKI", UKI_PART_MAX_BYTES)?;
    let path = path.to_owned();
    match sealed_by(&uki) {
        Ok(sealed) if sealed == seal => Ok(uki),
        Ok(sealed) => {
            let (sealed, made) = (sealed.to_string(), seal.to_string());
            Err(RecipeError::UkiSealsAnother { path, sealed, made }.into())
        }
        Err(CoreError::BundleInvalid(BundleInvalid::Uki { fault })) => {
            Err(RecipeError::UkiUnsealed { path, fault }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The composefs image that a UKI seals.
///
/// # Errors
/// [`BundleInvalid::Uki`] says what is wrong with it.
pub fn sealed_by(uki: &[u8]) -> Result<BlobDigest, CoreError> {
    use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
    let short = StorageError {
        operation: StorageOperation::Read,
        object: StorageObject::Uki,
        fault: StorageFault::Short,
    };
    sealed_digest(uki.len() as u64, |offset, buffer| {
        let start = usize::try_from(offset).map_err(|_| short)?;
        let from = uki
            .get(start..)
            .and_then(|rest| rest.get(..buffer.len()))
            .ok_or(short)?;
        buffer.copy_from_slice(from);
        Ok(())
    })
}

fn from_parts(kernel: &Kernel, image: &ComposefsImage, seal: BlobDigest) -> Result<Vec<u8>, Error> {
    let read = |path: &Path, what| read_file(path, what, UKI_PART_MAX_BYTES);
    let optional =
        |path: &Option<_>, what| path.as_deref().map(|path| read(path, what)).transpose();
    let cmdline = format!("{} composefs={seal}", kernel.cmdline);
    let cmdline = cmdline.trim();
    if seal_of_command_line(cmdline.as_bytes()) != Some(seal) {
        return Err(RecipeError::CommandLineQuote.into());
    }
    let os_release = match &kernel.os_release {
        Some(path) => read(path, "os-release")?,
        None => os_release_of(image)?,
    };
    let initrd = match &kernel.initramfs {
        Some(Initramfs::File(path)) if kernel.keep_compressed => Some(read(path, "initramfs")?),
        Some(Initramfs::File(path)) => {
            let initramfs = read(path, "initramfs")?;
            Some(plain::initramfs(initramfs, UKI_PART_MAX_BYTES))
        }
        Some(Initramfs::Early(early)) => Some(initramfs::assemble(early)?),
        None => None,
    };
    let sbat = optional(&kernel.sbat, "SBAT text")?;
    let device_tree = optional(&kernel.device_tree, "device tree")?;
    let parts = UkiParts {
        stub: &read(&kernel.stub, "stub")?,
        linux: &read(&kernel.kernel, "kernel")?,
        initrd: initrd.as_deref(),
        cmdline,
        os_release: &os_release,
        uname: kernel.uname.as_deref(),
        sbat: sbat.as_deref(),
        device_tree: device_tree.as_deref(),
    };
    Ok(uki::assemble(&parts)?)
}

/// The `os-release` in a root. A short one lies in the image itself.
fn os_release_of(image: &ComposefsImage) -> Result<Vec<u8>, Error> {
    let files = composefs_image::file_list(&image.erofs)?;
    for path in OS_RELEASE_PATHS.map(Path::new) {
        match files.iter().find(|file| file.path == path) {
            Some(FileEntry {
                kind: FileKind::InlineFile { content },
                ..
            }) if !content.is_empty() => return Ok(content.clone()),
            Some(FileEntry {
                kind: FileKind::ObjectFile,
                digest,
                ..
            }) => return object_content(image, *digest),
            _ => {}
        }
    }
    Err(RecipeError::OsReleaseMissing.into())
}

/// The content of the object of this digest, which stands for a text of a page at most.
fn object_content(image: &ComposefsImage, digest: Option<Digest>) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let object = image
        .objects
        .iter()
        .find(|object| Some(object.digest) == digest && object.size <= PEM_MAX_BYTES)
        .ok_or(RecipeError::OsReleaseMissing)?;
    let mut content = Vec::new();
    let path = Path::new(crate::error::role_name(Role::Object));
    image
        .open_object(object)?
        .read_to_end(&mut content)
        .map_err(FileOperation::Read.on(path))?;
    Ok(content)
}

/// What signs a UKI for Secure Boot, as text.
struct SecureBootPair {
    key: String,
    certificate: String,
}

impl SecureBootPair {
    fn read(pair: &SecureBoot) -> Result<Self, Error> {
        let text = |path: &Path, what| {
            let bytes = read_file(path, what, PEM_MAX_BYTES)?;
            String::from_utf8(bytes).map_err(|_| {
                Error::from(RecipeError::NotText {
                    path: path.to_owned(),
                    what,
                })
            })
        };
        Ok(Self {
            key: text(&pair.key, "private key")?,
            certificate: text(&pair.certificate, "certificate")?,
        })
    }
}
