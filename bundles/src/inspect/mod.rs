//! What is in a bundle, for people and for programs. Nothing here says that it may be trusted.

mod text;

pub(crate) use text::{Bytes, blob_title, printable};

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use twinseal_core::wire::index::{BLOCK_BYTES, Encoding, Range, Role};
use twinseal_core::wire::manifest::{Payload, PayloadKind};
use twinseal_core::wire::signatures::{ALGORITHM_ED25519, key_id};

use crate::composefs_image::{FileEntry, FileKind, file_list};
use crate::error::Error;
use crate::initramfs::recovery_in;
use crate::keys::key_id_text;
use crate::read::{BlobName, Bundle, IndexedBlob, find, image_slot};
use crate::recipe::{InfoFileKind, Moment};
use crate::uki;

/// Largest composefs image that is read for its list of files.
pub const COMPOSEFS_MAX_BYTES: u64 = 1 << 30;

/// Largest UKI that is read for what its recovery knows.
const UKI_MAX_BYTES: u64 = 1 << 30;

/// Everything about a bundle. The field names are those of the JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Length of the bundle in bytes.
    pub bundle_bytes: u64,
    /// SHA-256 of the manifest: the name of the bundle in journals.
    pub manifest_sha256: String,
    /// Version of the format.
    pub format: u16,
    /// Device type.
    pub compatible: String,
    /// Version for people.
    pub version: String,
    /// Anti-rollback version.
    pub anti_rollback: u64,
    /// Number of the release.
    pub sequence: u64,
    /// Not to be installed before, RFC 3339.
    pub not_before: Option<String>,
    /// Not to be installed after, RFC 3339.
    pub not_after: Option<String>,
    /// Source revision.
    pub source: String,
    /// Who or what built it.
    pub builder: String,
    /// The composefs image that the UKI seals.
    pub seal: Option<String>,
    /// Largest stored range in bytes.
    pub needs_range_bytes: u32,
    /// Largest zstd window as a power of two; 0 without zstd.
    pub needs_zstd_window_log: u8,
    /// Signatures, unchecked.
    pub signatures: Vec<SignatureReport>,
    /// `info/` entries.
    pub info: Vec<InfoReport>,
    /// What the bundle installs.
    pub payloads: Vec<PayloadReport>,
    /// The index and the data.
    pub index: IndexReport,
    /// What the recovery in the UKI's initramfs knows; `None` when there is none.
    pub recovery: Option<RecoveryReport>,
    /// Every blob, in the order of the data.
    pub blobs: Vec<BlobReport>,
    /// Every file of the composefs image, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileReport>>,
}

/// One signature.
#[derive(Clone, Debug, Serialize)]
pub struct SignatureReport {
    /// Key id in hex.
    pub key: String,
    /// Name or number of the algorithm.
    pub algorithm: String,
}

/// One `info/` entry.
#[derive(Clone, Debug, Serialize)]
pub struct InfoReport {
    /// The name after `info/`.
    pub name: String,
    /// What it is.
    pub kind: InfoFileKind,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
}

/// One payload.
#[derive(Clone, Debug, Serialize)]
pub struct PayloadReport {
    /// `uki`, `composefs` or `image`.
    pub kind: &'static str,
    /// Slot of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// fs-verity digest in hex.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// Number of objects of a composefs payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u32>,
    /// Bytes of those objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_bytes: Option<u64>,
}

/// What the recovery in an initramfs knows of its device.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryReport {
    /// Device type.
    pub compatible: String,
    /// It installs nothing below this anti-rollback version.
    pub anti_rollback: u64,
    /// Ids of the keys that it trusts for releases, in hex.
    pub keys: Vec<String>,
}

/// The index and the data, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
    /// Bytes of `index`.
    pub bytes: u64,
    /// Base of each route; `None` is the full one.
    pub routes: Vec<Option<String>>,
    /// What each route but the full one is about, in the same order.
    pub based_routes: Vec<RouteReport>,
    /// Sizes of the `data` entries.
    pub data_parts: Vec<u64>,
    /// Number of blobs.
    pub blobs: usize,
    /// Ranges by encoding.
    pub encodings: Vec<EncodingReport>,
}

/// Ranges of one encoding.
#[derive(Clone, Debug, Serialize)]
pub struct EncodingReport {
    /// `stored`, `deflate` or `zstd`.
    pub encoding: &'static str,
    /// How many.
    pub ranges: u64,
    /// Bytes that they decode to.
    pub raw_bytes: u64,
    /// Bytes in the bundle.
    pub stored_bytes: u64,
}

/// A route from a base.
#[derive(Clone, Debug, Serialize)]
pub struct RouteReport {
    /// SHA-256 of the base's manifest.
    pub base: String,
    /// Bytes of its part of the index.
    pub index_bytes: u64,
    /// Blobs that it lists.
    pub blobs: usize,
    /// Objects of the base that go.
    pub removed: usize,
    /// Blobs that have a patch.
    pub patches: usize,
    /// Bytes of these blobs.
    pub patched_bytes: u64,
    /// Bytes of the patches in the data.
    pub stored_bytes: u64,
    /// Bytes in the data of the blobs that have none.
    pub whole_stored_bytes: u64,
}

/// One blob.
#[derive(Clone, Debug, Serialize)]
pub struct BlobReport {
    /// What it is for.
    pub role: &'static str,
    /// Slot of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// fs-verity digest in hex.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes in the bundle.
    pub stored_bytes: u64,
    /// Ranges by encoding.
    pub encodings: Vec<EncodingReport>,
    /// Other ways to get it.
    pub alternatives: usize,
}

/// One file of the composefs image.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Absolute path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// What it is.
    pub kind: &'static str,
    /// Permission bits, octal.
    pub mode: String,
    /// Number of the owner.
    pub user: u32,
    /// Number of the group.
    pub group: u32,
    /// Bytes of content.
    pub bytes: u64,
    /// fs-verity digest in hex of a regular file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Reads a bundle; `files` asks for the list of files in its composefs image.
///
/// # Errors
/// When the bundle cannot be read as one.
pub fn inspect(path: &Path, files: bool) -> Result<Report, Error> {
    let bundle = Bundle::open(path)?;
    let index = bundle.index()?;
    let manifest = bundle.manifest();
    let files = if files {
        list_files(&bundle, &index)?
    } else {
        None
    };
    let not_before = Some(manifest.window.not_before).filter(|seconds| *seconds > 0);
    let moment = |seconds| Moment::from_seconds(seconds).to_string();
    Ok(Report {
        bundle_bytes: bundle.bytes(),
        manifest_sha256: hex(&Sha256::digest(bundle.manifest_entry())),
        format: manifest.format,
        compatible: manifest.compatible.to_string(),
        version: manifest.version.to_string(),
        anti_rollback: manifest.anti_rollback,
        sequence: manifest.sequence,
        not_before: not_before.map(moment),
        not_after: manifest.window.not_after.map(moment),
        source: manifest.build.source.to_string(),
        builder: manifest.build.builder.to_string(),
        seal: manifest.seal.map(|seal| seal.to_string()),
        needs_range_bytes: manifest.needs.range_bytes,
        needs_zstd_window_log: manifest.needs.zstd_window_log,
        signatures: signatures(&bundle),
        info: info(&bundle),
        payloads: manifest.payloads.iter().map(payload).collect(),
        index: IndexReport {
            bytes: manifest.index_bytes(),
            routes: manifest
                .routes
                .iter()
                .map(|route| route.base.map(|base| hex(&base)))
                .collect(),
            based_routes: based_routes(&bundle)?,
            data_parts: manifest.data_parts.to_vec(),
            blobs: index.len(),
            encodings: encodings(index.iter().flat_map(|blob| &blob.ranges)),
        },
        recovery: recovery(&bundle, &index)?,
        blobs: index
            .iter()
            .map(|blob| blob_report(blob, &bundle))
            .collect(),
        files,
    })
}

fn based_routes(bundle: &Bundle) -> Result<Vec<RouteReport>, Error> {
    let routes = bundle.manifest().routes.iter().enumerate();
    let based = routes.filter_map(|(number, route)| Some((number, route.blocks, route.base?)));
    let reports = based.map(|(number, blocks, base)| {
        let (blobs, removed) = bundle.route(number)?;
        let (patched, whole): (Vec<_>, Vec<_>) =
            blobs.iter().partition(|blob| !blob.alternatives.is_empty());
        // A hostile bundle may claim any sizes.
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let alternatives = patched.iter().flat_map(|blob| &blob.alternatives);
        Ok(RouteReport {
            base: hex(&base),
            index_bytes: u64::from(blocks) * BLOCK_BYTES as u64,
            blobs: blobs.len(),
            removed: removed.len(),
            patches: patched.len(),
            patched_bytes: sum(&mut patched.iter().map(|blob| blob.blob.size)),
            stored_bytes: sum(&mut alternatives.map(|(alternative, _)| alternative.stored_bytes)),
            whole_stored_bytes: sum(&mut whole.iter().map(|blob| blob.blob.stored_bytes)),
        })
    });
    reports.collect()
}

fn signatures(bundle: &Bundle) -> Vec<SignatureReport> {
    let all = bundle.signatures().iter().map(|signature| SignatureReport {
        key: key_id_text(&signature.key),
        algorithm: match signature.algorithm {
            ALGORITHM_ED25519 => "ed25519".to_owned(),
            number => number.to_string(),
        },
    });
    all.collect()
}

fn info(bundle: &Bundle) -> Vec<InfoReport> {
    let all = bundle.manifest().info.iter().map(|info| InfoReport {
        name: info.name.to_string(),
        kind: info.kind.into(),
        bytes: info.size,
        sha256: hex(&info.sha256),
    });
    all.collect()
}

fn payload(payload: &Payload) -> PayloadReport {
    let (kind, slot, objects) = match &payload.kind {
        PayloadKind::Uki => ("uki", None, None),
        PayloadKind::Composefs {
            objects,
            object_bytes,
        } => ("composefs", None, Some((*objects, *object_bytes))),
        PayloadKind::Image { slot } => ("image", Some(slot.to_string()), None),
    };
    PayloadReport {
        kind,
        slot,
        digest: payload.digest.to_string(),
        bytes: payload.size,
        objects: objects.map(|(count, _)| count),
        object_bytes: objects.map(|(_, bytes)| bytes),
    }
}

fn blob_report(blob: &IndexedBlob, bundle: &Bundle) -> BlobReport {
    BlobReport {
        role: match blob.blob.role {
            Role::Uki => "uki",
            Role::Image => "image",
            Role::Object => "object",
            Role::Composefs => "composefs",
        },
        slot: image_slot(&blob.blob, bundle.manifest()).map(str::to_owned),
        digest: blob.blob.digest.to_string(),
        bytes: blob.blob.size,
        stored_bytes: blob.blob.stored_bytes,
        encodings: encodings(&blob.ranges),
        alternatives: blob.alternatives.len(),
    }
}

fn encodings<'r>(ranges: impl IntoIterator<Item = &'r Range>) -> Vec<EncodingReport> {
    let empty = |encoding| EncodingReport {
        encoding,
        ranges: 0,
        raw_bytes: 0,
        stored_bytes: 0,
    };
    let mut sums = ["stored", "deflate", "zstd"].map(empty);
    let [stored, deflate, zstd] = &mut sums;
    for range in ranges {
        let sum = match range.encoding {
            Encoding::Stored => &mut *stored,
            Encoding::Deflate => &mut *deflate,
            Encoding::Zstd => &mut *zstd,
        };
        sum.ranges += 1;
        sum.raw_bytes += u64::from(range.raw_bytes);
        sum.stored_bytes += u64::from(range.stored_bytes);
    }
    sums.into_iter().filter(|sum| sum.ranges > 0).collect()
}

fn recovery(bundle: &Bundle, index: &[IndexedBlob]) -> Result<Option<RecoveryReport>, Error> {
    let Ok(blob) = find(index, &BlobName::Uki, bundle.manifest()) else {
        return Ok(None);
    };
    let image = bundle.blob_bytes(blob, UKI_MAX_BYTES)?;
    // A UKI that cannot be taken apart has no recovery that could be shown; `verify` says what is wrong with it.
    let initrd = uki::section(&image, ".initrd").unwrap_or(None);
    Ok(initrd.and_then(recovery_in).map(|recovery| RecoveryReport {
        compatible: recovery.compatible().to_string(),
        anti_rollback: recovery.anti_rollback(),
        keys: recovery
            .keys()
            .iter()
            .map(|key| key_id_text(&key_id(ALGORITHM_ED25519, key)))
            .collect(),
    }))
}

fn list_files(bundle: &Bundle, index: &[IndexedBlob]) -> Result<Option<Vec<FileReport>>, Error> {
    let Ok(blob) = find(index, &BlobName::Composefs, bundle.manifest()) else {
        return Ok(None);
    };
    let erofs = bundle.blob_bytes(blob, COMPOSEFS_MAX_BYTES)?;
    Ok(Some(file_list(&erofs)?.iter().map(file_report).collect()))
}

fn file_report(file: &FileEntry) -> FileReport {
    let (kind, target) = match &file.kind {
        FileKind::InlineFile { .. } => ("inline", None),
        FileKind::ObjectFile => ("object", None),
        FileKind::Directory => ("directory", None),
        FileKind::Symlink { target } => ("symlink", Some(target.to_string_lossy().into_owned())),
        FileKind::CharacterDevice { .. } => ("character-device", None),
        FileKind::BlockDevice { .. } => ("block-device", None),
        FileKind::Pipe => ("pipe", None),
        FileKind::Socket => ("socket", None),
    };
    FileReport {
        path: file.path.to_string_lossy().into_owned(),
        kind,
        mode: format!("{:04o}", file.mode),
        user: file.user,
        group: file.group,
        bytes: file.size,
        digest: file.digest.map(|digest| hex(&digest)),
        target,
    }
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
