//! Which way each blob is fetched: chosen by the plan, kept for the transfer, chosen again when a base proves damaged.
//!
//! The cheapest of: the blob whole, and each patch whose base the device has. The patches of a base stand together in the data and come in
//! one request for many; a whole blob costs its stored bytes and a request of its own, [`RUN_GAP_BYTES`]. It wins a tie: it needs no base.

use super::runs::RUN_GAP_BYTES;
use crate::error::Error;
use crate::storage::PatchBase;
use crate::wire::index::{Alternative, Blob, METHOD_PATCH, Role};
use crate::wire::manifest::{Manifest, PayloadKind};

/// Size of the map: a half byte for each of the first 8,192 blobs of a route. Those beyond are fetched whole, which costs bytes
/// and nothing else.
const MAP_BYTES: usize = 4096;

/// Alternatives of a blob that are looked at; one more value of the half byte says "whole". The manifest has as many bases.
const ALTERNATIVES_MAX_COUNT: u16 = 15;

/// How a blob is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the ranges that store it whole.
    #[default]
    Whole,
    /// By the alternative with this number among those of its blob.
    Patch(u8),
}

/// The way of each of the first blobs of a route.
pub(super) struct Ways([u8; MAP_BYTES]);

impl Ways {
    /// All blobs whole.
    pub const fn new() -> Self {
        Self([0; MAP_BYTES])
    }

    /// Whether there is a place for blob `number` of the route.
    pub const fn reaches(number: u32) -> bool {
        (number as usize / 2) < MAP_BYTES
    }

    /// Keeps the way of blob `number`; each is kept once.
    pub fn keep(&mut self, number: u32, way: Way) {
        let value = match way {
            Way::Whole => 0,
            Way::Patch(alternative) => alternative + 1,
        };
        if let Some(pair) = self.0.get_mut(number as usize / 2) {
            *pair |= (value & 0xf) << (4 * (number % 2));
        }
    }

    /// The way of blob `number`.
    pub fn of(&self, number: u32) -> Way {
        let pair = self.0.get(number as usize / 2).copied().unwrap_or(0);
        match pair >> (4 * (number % 2)) & 0xf {
            0 => Way::Whole,
            value => Way::Patch(value - 1),
        }
    }
}

/// A choice under way, while the alternatives of a blob are passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// The cheapest way so far.
    pub way: Way,
    /// Its stored bytes.
    pub stored_bytes: u64,
    /// Stored bytes of the cheapest way of all, whether the device has its base or not.
    pub cheapest_bytes: u64,
    /// What a patch has to cost less than to be the cheapest of all.
    cheapest_limit: u64,
    /// Alternatives passed.
    passed: u16,
    /// A bit for each alternative whose base has proved damaged.
    given_up: u16,
}

impl Choice {
    /// Before the first alternative.
    pub const fn new(blob: &Blob, given_up: u16) -> Self {
        Self {
            way: Way::Whole,
            stored_bytes: blob.stored_bytes,
            cheapest_bytes: blob.stored_bytes,
            cheapest_limit: whole_costs(blob.stored_bytes),
            passed: 0,
            given_up,
        }
    }

    /// Passes an alternative and takes it if it is cheaper, and `has_base` says that the device has its base.
    ///
    /// # Errors
    /// Those of `has_base`.
    pub fn consider(
        &mut self,
        other: &Alternative,
        has_base: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let number = self.passed;
        self.passed = self.passed.saturating_add(1);
        let limit = match self.way {
            Way::Whole => whole_costs(self.stored_bytes),
            Way::Patch(_) => self.stored_bytes,
        };
        let candidate = other.method == METHOD_PATCH
            && other.stored_bytes < limit
            && number < ALTERNATIVES_MAX_COUNT
            && self.given_up & 1 << number == 0;
        if other.method == METHOD_PATCH && other.stored_bytes < self.cheapest_limit {
            (self.cheapest_bytes, self.cheapest_limit) = (other.stored_bytes, other.stored_bytes);
        }
        if candidate && has_base()? {
            self.way = Way::Patch(number as u8);
            self.stored_bytes = other.stored_bytes;
        }
        Ok(())
    }
}

/// What a whole blob costs beside patches: a request more than them.
const fn whole_costs(stored_bytes: u64) -> u64 {
    stored_bytes.saturating_add(RUN_GAP_BYTES)
}

/// The base of a patch, with the slot that an image of it is in.
pub(super) fn base_of<'m>(
    other: &Alternative,
    blob: &Blob,
    manifest: &'m Manifest,
) -> PatchBase<'m> {
    let payload = manifest.payloads.get(usize::from(blob.payload));
    let slot = match payload.map(|payload| &payload.kind) {
        Some(PayloadKind::Image { slot }) if other.base_role == Role::Image => Some(slot.as_str()),
        _ => None,
    };
    PatchBase {
        role: other.base_role,
        digest: other.base_digest,
        size: other.base_size,
        slot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::digest::BlobDigest;

    fn blob() -> Blob {
        Blob {
            role: Role::Object,
            payload: 0,
            digest: BlobDigest::sha256([1; 32]),
            size: 100,
            ranges: 1,
            stored_bytes: 50,
            alternatives: 9,
        }
    }

    fn patch(stored_bytes: u64) -> Alternative {
        Alternative {
            method: METHOD_PATCH,
            base_role: Role::Object,
            base_digest: BlobDigest::sha256([1; 32]),
            base_size: 7,
            ranges: 1,
            stored_bytes,
        }
    }

    #[test]
    fn a_way_is_kept_for_each_blob_that_there_is_a_place_for() {
        let mut ways = Ways::new();
        let last = MAP_BYTES as u32 * 2 - 1;
        assert!(Ways::reaches(last) && !Ways::reaches(last + 1));
        for (number, alternative) in [(0, 14), (1, 0), (8, 3), (last, 7), (last + 1, 2)] {
            ways.keep(number, Way::Patch(alternative));
        }
        ways.keep(2, Way::Whole);
        assert_eq!(ways.of(0), Way::Patch(14));
        assert_eq!(ways.of(1), Way::Patch(0));
        assert_eq!(ways.of(2), Way::Whole);
        assert_eq!(ways.of(8), Way::Patch(3));
        assert_eq!(ways.of(last), Way::Patch(7));
        assert_eq!(ways.of(last + 1), Way::Whole);
        assert_eq!(ways.of(u32::MAX), Way::Whole);
    }

    #[test]
    fn the_cheapest_way_whose_base_is_there_is_chosen() {
        let mut choice = Choice::new(&blob(), 0b1000);
        let there = || Ok(true);
        choice.consider(&patch(50 + RUN_GAP_BYTES), there).unwrap();
        assert_eq!(choice.way, Way::Whole, "a tie");
        assert_eq!(choice.cheapest_bytes, 50);
        choice.consider(&patch(40), there).unwrap();
        assert_eq!((choice.way, choice.stored_bytes), (Way::Patch(1), 40));
        choice.consider(&patch(10), || Ok(false)).unwrap();
        choice.consider(&patch(10), there).unwrap();
        assert_eq!(choice.way, Way::Patch(1), "no base, and given up");
        assert_eq!(choice.cheapest_bytes, 10, "with every base");
        let unknown = Alternative {
            method: 2,
            ..patch(1)
        };
        choice.consider(&unknown, there).unwrap();
        choice.consider(&patch(30), there).unwrap();
        assert_eq!((choice.way, choice.stored_bytes), (Way::Patch(5), 30));
        for _ in 6..70 {
            choice.consider(&patch(30), there).unwrap();
        }
        choice.consider(&patch(1), there).unwrap();
        assert_eq!(choice.way, Way::Patch(5), "beyond those that are looked at");
    }

    #[test]
    fn a_patch_that_saves_a_request_is_cheaper_than_the_whole_blob() {
        let mut choice = Choice::new(&blob(), 0);
        let longer = patch(50 + RUN_GAP_BYTES - 1);
        choice.consider(&longer, || Ok(true)).unwrap();
        assert_eq!(
            (choice.way, choice.stored_bytes),
            (Way::Patch(0), longer.stored_bytes)
        );
        assert_eq!(choice.cheapest_bytes, longer.stored_bytes);
        choice
            .consider(&patch(longer.stored_bytes), || Ok(true))
            .unwrap();
        assert_eq!(
            choice.way,
            Way::Patch(0),
            "beside another patch it saves none"
        );
    }

    #[test]
    fn a_dearer_base_is_not_looked_for() {
        let mut choice = Choice::new(&blob(), 0);
        let asked = choice.consider(&patch(50 + RUN_GAP_BYTES), || -> Result<bool, Error> {
            panic!("no look is worth it")
        });
        assert_eq!(asked, Ok(()));
    }
}
