//! Writes a bundle: the same input gives the same bytes.
//!
//! ```text
//! Plan ──store──▶ ranges in a temporary file ──alternatives──▶ patches behind them ──index──▶ records, blocks
//!      ──describe──▶ manifest ──▶ signatures ──▶ the archive
//! ```
//!
//! Each step is a public function of its own, so that the conformance kit ([`crate::vectors`]) can change what one step gives
//! before the next one takes it.
//!
//! # Invariants
//! - Everything on the wire is made by core's `emit` functions: reader and writer share one definition.
//! - A bundle that core's own checks refuse is never written.
//! - The output appears under its name whole, or not at all.

mod alternatives;
mod base;
mod describe;
mod encode;
mod framing;
mod index;
mod pieces;
mod plan;
mod store;
mod writer;

pub use alternatives::{Patches, store_patches};
pub use base::BaseRelease;
pub use describe::describe;
pub use encode::{
    Compression, Encoded, Encoder, EncodingOptions, RANGE_DEFAULT_BYTES, RANGE_MIN_BYTES,
};
pub(crate) use encode::{compress_zstd, frame_window_log, zstd_compressor};
pub use framing::{write_data, write_end, write_entry, write_front};
pub use index::{full_route, records, records_from, routes};
pub use plan::{BlobPlan, Content, Identity, InfoContent, Plan, Target};
pub use store::{Stored, StoredBlob, store};

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::{DATA_PART_MAX_BYTES, MANIFEST_MAX_BYTES};

use crate::error::{Error, FileOperation};
use crate::keys::SigningKey;
use crate::patch::Watch;
use crate::sign::{sign_manifest, signatures_entry};

/// A bundle that has been written.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest's bytes: the name of the bundle in journals.
    pub manifest_sha256: Sha256Digest,
    /// Length of the bundle in bytes.
    pub bundle_bytes: u64,
}

/// Writes the bundle of `plan` to `output`, signed by `keys`; without keys it has an empty list of signatures. `watch` is told
/// how far the patches are.
///
/// # Errors
/// Whatever cannot be read, encoded or written; [`Error::Bundle`] when core would refuse what the plan asks for.
pub fn assemble(
    plan: &Plan<'_>,
    keys: &[SigningKey],
    output: &Path,
    watch: Watch<'_>,
) -> Result<Assembled, Error> {
    let directory = directory_of(output);
    let data = tempfile::tempfile_in(&directory).map_err(FileOperation::Create.on(&directory))?;
    let mut stored = store(
        &plan.blobs,
        plan.encoding,
        DATA_PART_MAX_BYTES,
        &data,
        &directory,
    )?;
    let patches = store_patches(
        plan,
        &mut stored,
        DATA_PART_MAX_BYTES,
        &data,
        &directory,
        watch,
    )?;
    let (blocks, routes) = routes(&stored.blobs, &plan.bases, &patches);
    let manifest = describe(&plan.identity, &plan.info, &stored, routes)?;
    let manifest_entry = emit_manifest(&manifest)?;
    let signatures: Vec<_> = keys
        .iter()
        .map(|key| sign_manifest(key, &manifest_entry))
        .collect();
    let signatures_entry = signatures_entry(&signatures)?;
    let info: Vec<&[u8]> = plan
        .info
        .iter()
        .map(|info| info.content.as_slice())
        .collect();
    let bundle_bytes = write_new(output, |out| {
        write_front(
            out,
            &manifest,
            &manifest_entry,
            &signatures_entry,
            &info,
            &blocks,
        )?;
        let mut data = &data;
        data.rewind()?;
        write_data(out, &manifest.data_parts, data)?;
        write_end(out)
    })?;
    Ok(Assembled {
        manifest_sha256: Sha256::digest(&manifest_entry).into(),
        manifest,
        bundle_bytes,
    })
}

/// The bytes of a manifest that core accepts.
///
/// # Errors
/// [`Error::Bundle`] names the rule that it breaks.
pub fn emit_manifest(manifest: &Manifest) -> Result<Vec<u8>, Error> {
    manifest.check().map_err(twinseal_core::Error::from)?;
    let mut buffer = [0; MANIFEST_MAX_BYTES];
    let bytes = manifest
        .emit(&mut buffer)
        .map_err(twinseal_core::Error::from)?;
    Ok(bytes.to_vec())
}

/// Makes a file in one step: `write` fills a temporary one beside it, which then takes the name. Gives the length.
pub(crate) fn write_new<F>(output: &Path, write: F) -> Result<u64, Error>
where
    F: FnOnce(&mut File) -> std::io::Result<()>,
{
    let mut temporary = temporary_beside(output)?;
    let failed = FileOperation::Write.on(output);
    write(temporary.as_file_mut())
        .and_then(|()| temporary.as_file().sync_all())
        .and_then(|()| Ok(temporary.as_file().metadata()?.len()))
        .map_err(failed)
        .and_then(|length| {
            temporary
                .persist(output)
                .map_err(|error| FileOperation::Rename.on(output)(error.error))?;
            Ok(length)
        })
}

fn temporary_beside(output: &Path) -> Result<NamedTempFile, Error> {
    use std::os::unix::fs::PermissionsExt;
    // What any other new file gets; the umask takes away from it.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let directory = directory_of(output);
    tempfile::Builder::new()
        .prefix(".twinseal-")
        .permissions(permissions)
        .tempfile_in(&directory)
        .map_err(FileOperation::Create.on(output))
}

/// The directory that a file is in.
pub(crate) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
