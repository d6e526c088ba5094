//! The routes from base releases, against the full one: a device that follows one never reads the full route, so both must say
//! the same. And their patches, which no other device looks at.

use std::collections::HashMap;

use twinseal_core::wire::index::{METHOD_PATCH, Range, Role};

use crate::error::{Error, Unsound};
use crate::patch::{ApplyFault, BaseContent, check_alternative};
use crate::read::{Bundle, IndexedBlob};

/// Every blob of a route from a base stands so in the full route, in the same order; every payload is there; nothing is removed
/// that this release has; and the patches are undamaged and fill the data behind the whole blobs. Whether the objects that are
/// left out are those of the base, only a device that holds the base can count.
pub fn check_routes(bundle: &Bundle) -> Result<(), Error> {
    let full = bundle.index()?;
    let places: HashMap<_, _> = full
        .iter()
        .enumerate()
        .map(|(place, indexed)| (key(indexed), place))
        .collect();
    let mut data = DataCheck::default();
    data.take_whole(&full);
    data.take_alternatives(bundle, 0, &full)?;
    for route in 1..bundle.manifest().routes.len() {
        let (blobs, removed) = bundle.route(route)?;
        let mut payloads = 0;
        let mut next = 0;
        for indexed in &blobs {
            let digest = indexed.blob.digest;
            let place = places.get(&key(indexed)).copied();
            let place = place.filter(|place| {
                *place >= next
                    && full
                        .get(*place)
                        .is_some_and(|full| same_whole(full, indexed))
            });
            next = place.ok_or(Unsound::RouteBlob { route, digest })? + 1;
            payloads += usize::from(indexed.blob.role != Role::Object);
        }
        if payloads != bundle.manifest().payloads.len() {
            return Err(Unsound::RoutePayloads { route }.into());
        }
        for object in removed {
            let digest = object.digest;
            if places.contains_key(&(Role::Object as u8, digest.as_bytes())) {
                return Err(Unsound::RouteRemoves { route, digest }.into());
            }
        }
        data.take_alternatives(bundle, route, &blobs)?;
    }
    // Data that no route names has been refused before: a device's audit, which is the first thing done, knows it too.
    Ok(())
}

/// The same blob, stored whole in the same ranges; each route has its own alternatives.
fn same_whole(full: &IndexedBlob, other: &IndexedBlob) -> bool {
    let mut blob = other.blob;
    blob.alternatives = full.blob.alternatives;
    full.blob == blob && full.ranges == other.ranges
}

fn key(indexed: &IndexedBlob) -> (u8, &[u8]) {
    (indexed.blob.role as u8, indexed.blob.digest.as_bytes())
}

/// Follows the data from range to range: the whole blobs, then the alternatives of each route.
#[derive(Default)]
struct DataCheck {
    next: u64,
}

impl DataCheck {
    fn take_whole(&mut self, full: &[IndexedBlob]) {
        let ranges = full.iter().flat_map(|blob| &blob.ranges);
        // That they tile the data is checked as a device checks it.
        self.next = ranges.map(end_of).max().unwrap_or(0);
    }

    /// The alternatives of a route: their ranges go on where the data stood, tile their blobs, and are undamaged.
    fn take_alternatives(
        &mut self,
        bundle: &Bundle,
        route: usize,
        blobs: &[IndexedBlob],
    ) -> Result<(), Error> {
        for indexed in blobs {
            let digest = indexed.blob.digest;
            for (alternative, ranges) in &indexed.alternatives {
                let mut raw = 0;
                for range in ranges {
                    let joins = range.raw_offset == raw || alternative.method != METHOD_PATCH;
                    if range.stored_offset != self.next || !joins {
                        return Err(Unsound::PatchPlace { route, digest }.into());
                    }
                    bundle.stored(range)?;
                    raw = range.raw_offset + u64::from(range.raw_bytes);
                    self.next = end_of(range);
                }
                if alternative.method == METHOD_PATCH && raw != indexed.blob.size {
                    return Err(Unsound::PatchPlace { route, digest }.into());
                }
            }
        }
        Ok(())
    }
}

const fn end_of(range: &Range) -> u64 {
    range.stored_offset + range.stored_bytes as u64
}

/// What was found out about the patches against a base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchCheck {
    /// Patches that give their blob.
    pub patches: u32,
    /// Their stored bytes.
    pub stored_bytes: u64,
    /// Bytes that they make.
    pub bytes: u64,
}

/// Applies every patch of a bundle whose base blob `base` has, and compares what it gives.
///
/// # Errors
/// [`Unsound::Patch`] names the first patch that gives something else; [`Error::Bundle`] damage in one of the bundles.
pub fn check_patches(bundle: &Bundle, base: &Bundle) -> Result<PatchCheck, Error> {
    let index = base.index()?;
    let held: HashMap<_, _> = index.iter().map(|blob| (key(blob), blob)).collect();
    let mut checked = PatchCheck::default();
    for route in 0..bundle.manifest().routes.len() {
        for indexed in bundle.route(route)?.0 {
            for (alternative, ranges) in &indexed.alternatives {
                let name = (
                    alternative.base_role as u8,
                    alternative.base_digest.as_bytes(),
                );
                let Some(from) = held.get(&name) else {
                    continue;
                };
                if alternative.method != METHOD_PATCH {
                    continue;
                }
                let digest = indexed.blob.digest;
                let fault = if from.blob.size == alternative.base_size {
                    let content = BaseContent::read(base, from)?;
                    check_alternative(bundle, ranges, &digest, &content)?
                } else {
                    Some(ApplyFault::BaseSize)
                };
                if let Some(fault) = fault {
                    return Err(Unsound::Patch {
                        route,
                        digest,
                        fault,
                    }
                    .into());
                }
                checked.patches += 1;
                checked.stored_bytes += alternative.stored_bytes;
                checked.bytes += indexed.blob.size;
            }
        }
    }
    Ok(checked)
}
