//! Everything that a device checks before it takes a bundle, on the build host; and then what no device can check.
//!
//! The checks are core's own: the installer runs against a device that stores nothing (`checker.rs`), and reads every byte.
//! After it, what a device finds out only when a file is opened or another route is followed: that the bundle carries every object
//! that its composefs image names, and that the routes from base releases say what the full one says.

mod checker;
mod routes;

pub use routes::{PatchCheck, check_patches};

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use twinseal_core::decode::Inflate;
use twinseal_core::error::{Misuse, Part};
use twinseal_core::install::{Config, Installer, Tally, Workspace};
use twinseal_core::source::{RunError, Source, SourceError, run};
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::wire::digest::{BlobDigest, Sha256Digest};
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::signatures::KeyId;
use twinseal_core::wire::tar::{BLOCK_BYTES, check_header};
use twinseal_core::wire::{FRONT_MAX_BYTES, RANGE_MAX_BYTES};

use crate::composefs_image::{FileKind, file_list};
use crate::error::{Error, FileOperation, Unsound};
use crate::keys::PublicKey;
use crate::read::{Bundle, ZstdDecoder};
use checker::Checker;

/// Bytes that a range is decoded to at once.
const OUTPUT_BYTES: usize = 256 * 1024;

/// The device that a bundle is checked for: a new one, with nothing installed.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Keys that it trusts.
    pub keys: Vec<PublicKey>,
    /// Device type; that of the bundle when none is given.
    pub compatible: Option<String>,
    /// Its anti-rollback floor.
    pub floor: u64,
    /// Its clock in seconds since 1970; `None` for a device without one.
    pub time: Option<u64>,
    /// Its slots for images and their sizes in bytes; `None` for a device where every image fits.
    pub slots: Option<Vec<(String, u64)>>,
}

/// A bundle that such a device takes.
#[derive(Clone, Debug)]
pub struct Report {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest's bytes: the name of the bundle in journals.
    pub manifest_sha256: Sha256Digest,
    /// The trusted keys that signed.
    pub signers: Vec<KeyId>,
    /// What was read and checked.
    pub tally: Tally,
    /// Objects that the bundle carries and its composefs image does not name: harmless, and wasted.
    pub unused_objects: Vec<BlobDigest>,
}

/// Checks the bundle at `path` for `device`.
///
/// # Errors
/// [`Error::Bundle`] is the very error of the device, [`Error::Unsound`] what a device would notice too late.
pub fn verify(path: &Path, device: &Device) -> Result<Report, Error> {
    let file = File::open(path).map_err(FileOperation::Open.on(path))?;
    let bytes = file.metadata().map_err(FileOperation::Read.on(path))?.len();
    let mut front = Vec::new();
    (&file)
        .take(FRONT_MAX_BYTES as u64)
        .read_to_end(&mut front)
        .map_err(Error::Source)?;
    let report = check(FileSource(&file), Some(bytes), &front, device)?;
    routes::check_routes(&Bundle::open(path)?)?;
    Ok(report)
}

/// Applies every patch of the bundle at `path` against the bundles of base releases, whose signatures are not checked: a patch
/// gives the blob that the new bundle signs, or it is refused.
///
/// # Errors
/// [`Unsound::BaseUnknown`] when the bundle has no route from a base, [`Unsound::Patch`] when a patch is no use.
pub fn verify_patches(path: &Path, bases: &[PathBuf]) -> Result<PatchCheck, Error> {
    let bundle = Bundle::open(path)?;
    let mut all = PatchCheck::default();
    for base in bases {
        let release = Bundle::open(base)?;
        let name: Sha256Digest = Sha256::digest(release.manifest_entry()).into();
        let routes = &bundle.manifest().routes;
        if !routes.iter().any(|route| route.base == Some(name)) {
            return Err(Unsound::BaseUnknown { path: base.clone() }.into());
        }
        let checked = check_patches(&bundle, &release)?;
        all.patches += checked.patches;
        all.stored_bytes = all.stored_bytes.saturating_add(checked.stored_bytes);
        all.bytes = all.bytes.saturating_add(checked.bytes);
    }
    Ok(all)
}

/// Checks a bundle that comes as a stream, from a pipe for example; of routes from base releases, that they are whole, and of
/// patches nothing.
///
/// # Errors
/// As [`verify`].
pub fn verify_stream<R: Read>(mut reader: R, device: &Device) -> Result<Report, Error> {
    let mut front = Vec::new();
    (&mut reader)
        .take(FRONT_MAX_BYTES as u64)
        .read_to_end(&mut front)
        .map_err(Error::Source)?;
    let source = StreamSource {
        reader: front.as_slice().chain(reader),
        position: 0,
    };
    check(source, None, &front, device)
}

/// Runs core's installer to its end, and then checks what no device can. `front` is the start of the bundle.
fn check<S>(
    mut source: S,
    source_bytes: Option<u64>,
    front: &[u8],
    device: &Device,
) -> Result<Report, Error>
where
    S: Source<Error = io::Error>,
{
    let keys: Vec<TrustedKey> = device.keys.iter().map(PublicKey::trusted).collect();
    // A manifest that cannot be read is refused below, by name of its fault, before its type matters.
    let stated = || manifest_at_start(front).map(|manifest| manifest.compatible.to_string());
    let compatible = device
        .compatible
        .clone()
        .or_else(stated)
        .unwrap_or_default();
    let policy = Policy {
        compatible: &compatible,
        floor: device.floor,
        now: device.time,
        highest_time_seen: 0,
    };
    let config = Config {
        keys: &keys,
        policy,
        request_max_bytes: RANGE_MAX_BYTES,
        source_bytes,
        audit: true,
        read_back: false,
        budget: None,
        // The bytes of patches stand behind those of all whole blobs; of a stream, whose length is not known, they are gone then.
        can_go_back: source_bytes.is_some(),
    };
    let mut checker = Checker::new(device.slots.clone()).map_err(Error::Source)?;
    let (mut front, mut output) = (vec![0; FRONT_MAX_BYTES], vec![0; OUTPUT_BYTES]);
    let (mut inflate, mut zstd) = (Box::new(Inflate::new()), ZstdDecoder::new());
    let workspace = Workspace {
        front: &mut front,
        output: &mut output,
        inflate: &mut *inflate,
        zstd: Some(&mut zstd),
    };
    let mut buffer = vec![0; RANGE_MAX_BYTES as usize];
    let mut installer = Installer::new(config, workspace)?;
    run(
        &mut installer,
        &mut source,
        &mut checker,
        &mut buffer,
        |_, _| true,
    )
    .map_err(|error| match error {
        RunError::Core(error) => Error::Bundle(error),
        RunError::Source(error) => Error::Source(error),
        RunError::Declined => Error::Bundle(Misuse::NotAccepted.into()),
    })?;
    let installed = installer.into_installed()?;
    let verified = installed.manifest();
    Ok(Report {
        manifest: verified.value().clone(),
        manifest_sha256: *verified.manifest_sha256(),
        signers: verified.signers().to_vec(),
        tally: installed.tally(),
        unused_objects: match checker.composefs() {
            Some(erofs) => check_objects(erofs, checker.objects())?,
            None => Vec::new(),
        },
    })
}

/// The manifest of a bundle that starts with these bytes, before anything about it has been checked.
fn manifest_at_start(front: &[u8]) -> Option<Manifest> {
    let (header, rest) = front.split_at_checked(BLOCK_BYTES)?;
    let size = check_header(header, "manifest", Part::ManifestHeader).ok()?;
    Manifest::parse(rest.get(..usize::try_from(size).ok()?)?).ok()
}

/// Every object that the composefs image names is carried and has the right size; gives those that it does not name. `carried`
/// ascends by digest.
pub(crate) fn check_objects(
    erofs: &[u8],
    carried: &[(BlobDigest, u64)],
) -> Result<Vec<BlobDigest>, Error> {
    let mut named = vec![false; carried.len()];
    for file in file_list(erofs)? {
        let (FileKind::ObjectFile, Some(digest)) = (&file.kind, file.digest) else {
            continue;
        };
        let digest = BlobDigest::sha256(digest);
        let found =
            carried.binary_search_by(|(object, _)| object.as_bytes().cmp(digest.as_bytes()));
        let Some((position, (_, size))) = found
            .ok()
            .and_then(|position| Some((position, carried.get(position)?)))
        else {
            return Err(Unsound::ObjectMissing {
                path: file.path,
                digest,
            }
            .into());
        };
        if *size != file.size {
            return Err(Unsound::ObjectSize {
                path: file.path,
                named: file.size,
                carried: *size,
            }
            .into());
        }
        named
            .iter_mut()
            .skip(position)
            .take(1)
            .for_each(|named| *named = true);
    }
    let unused = carried
        .iter()
        .zip(named)
        .filter(|(_, named)| !named)
        .map(|((digest, _), _)| *digest);
    Ok(unused.collect())
}

/// A bundle in a file.
struct FileSource<'f>(&'f File);

impl Source for FileSource<'_> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<io::Error>> {
        self.0
            .read_exact_at(buffer, offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SourceError::Ended,
                _ => SourceError::Source(error),
            })
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<io::Error>> {
        let metadata = self.0.metadata().map_err(SourceError::Source)?;
        Ok(metadata.len() == offset)
    }
}

/// A bundle that only goes forward.
struct StreamSource<R> {
    reader: R,
    position: u64,
}

impl<R: Read> StreamSource<R> {
    fn skip_to(&mut self, offset: u64) -> Result<(), SourceError<io::Error>> {
        let gap = offset.saturating_sub(self.position);
        let skipped = io::copy(&mut (&mut self.reader).take(gap), &mut io::sink())
            .map_err(SourceError::Source)?;
        self.position += skipped;
        if skipped == gap {
            Ok(())
        } else {
            Err(SourceError::Ended)
        }
    }
}

impl<R: Read> Source for StreamSource<R> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<io::Error>> {
        self.skip_to(offset)?;
        self.reader
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SourceError::Ended,
                _ => SourceError::Source(error),
            })?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<io::Error>> {
        self.skip_to(offset)?;
        let more = (&mut self.reader)
            .take(1)
            .read_to_end(&mut Vec::new())
            .map_err(SourceError::Source)?;
        Ok(more == 0)
    }
}
