//! The routes from base releases, against the full one: a device that follows one never reads the full route, so both must say
//! the same.

use std::collections::HashMap;

use twinseal_core::wire::index::Role;

use crate::error::{Error, Unsound};
use crate::read::{Bundle, IndexedBlob};

/// Every blob of a route from a base stands so in the full route, in the same order; every payload is there; and nothing is removed
/// that this release has. Whether the objects that are left out are those of the base, only a device that holds the base can count.
pub fn check_routes(bundle: &Bundle) -> Result<(), Error> {
    let full = bundle.index()?;
    let places: HashMap<_, _> = full
        .iter()
        .enumerate()
        .map(|(place, indexed)| (key(indexed), place))
        .collect();
    for route in 1..bundle.manifest().routes.len() {
        let (blobs, removed) = bundle.route(route)?;
        let mut payloads = 0;
        let mut next = 0;
        for indexed in &blobs {
            let digest = indexed.blob.digest;
            let place = places.get(&key(indexed)).copied();
            let place = place.filter(|place| *place >= next && full.get(*place) == Some(indexed));
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
    }
    Ok(())
}

fn key(indexed: &IndexedBlob) -> (u8, &[u8]) {
    (indexed.blob.role as u8, indexed.blob.digest.as_bytes())
}
