//! The manifest of a bundle, from its plan and its stored data.

use sha2::{Digest, Sha256};
use twinseal_core::wire::FORMAT_VERSION;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Role;
use twinseal_core::wire::manifest::{Info, Manifest, Payload, PayloadKind, Route};

use super::plan::{Identity, InfoContent, Target};
use super::store::{Stored, StoredBlob};
use crate::error::Error;
use crate::recipe::RecipeError;

/// Writes the manifest of a bundle whose data is `stored` and whose index has these `routes`.
///
/// # Errors
/// [`RecipeError`] when there are more payloads, parts or `info/` entries than a manifest takes. What else is wrong with it is
/// found by [`Manifest::check`].
pub fn describe(
    identity: &Identity,
    info: &[InfoContent],
    stored: &Stored,
    routes: Vec<Route>,
) -> Result<Manifest, Error> {
    let payloads = stored
        .blobs
        .iter()
        .filter_map(|blob| payload(blob, &stored.blobs));
    let composefs = stored
        .blobs
        .iter()
        .find(|blob| blob.target == Target::Composefs);
    Ok(Manifest {
        format: FORMAT_VERSION,
        compatible: identity.compatible.clone(),
        version: identity.version.clone(),
        anti_rollback: identity.anti_rollback,
        window: identity.window,
        sequence: identity.sequence,
        build: identity.build.clone(),
        info: bounded(info.iter().map(describe_info), "info entries")?,
        payloads: bounded(payloads, "payloads")?,
        seal: composefs.map(|blob| blob.digest),
        routes: bounded(routes, "routes, one for each base and the full one")?,
        data_parts: bounded(stored.parts.iter().copied(), "data parts of 8 GiB")?,
        needs: stored.needs,
    })
}

fn payload(blob: &StoredBlob, all: &[StoredBlob]) -> Option<Payload> {
    let kind = match &blob.target {
        Target::Uki => PayloadKind::Uki,
        Target::Image { slot } => PayloadKind::Image { slot: slot.clone() },
        Target::Composefs => {
            let objects = all.iter().filter(|blob| blob.target.role() == Role::Object);
            let (count, bytes) = objects.fold((0, 0), |(count, bytes), object| {
                (count + 1, bytes + object.size)
            });
            PayloadKind::Composefs {
                objects: count,
                object_bytes: bytes,
            }
        }
        Target::Object => return None,
    };
    Some(Payload {
        kind,
        digest: BlobDigest::clone(&blob.digest),
        size: blob.size,
    })
}

fn describe_info(info: &InfoContent) -> Info {
    let sha256 = Sha256::digest(&info.content).into();
    Info {
        name: info.name.clone(),
        kind: info.kind,
        size: info.content.len() as u64,
        sha256,
    }
}

fn bounded<T, const LIMIT: usize>(
    items: impl IntoIterator<Item = T>,
    what: &'static str,
) -> Result<heapless::Vec<T, LIMIT>, Error> {
    let mut list = heapless::Vec::new();
    for item in items {
        list.push(item)
            .map_err(|_| RecipeError::TooMany { what, limit: LIMIT })?;
    }
    Ok(list)
}
