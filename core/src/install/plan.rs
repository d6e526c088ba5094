//! What an install would do, known before it starts: from the manifest and the index alone.

use super::walk::Count;
use super::ways::{Choice, Way};
use crate::error::PolicyRefused;
use crate::storage::{Location, Space};
use crate::wire::digest::Sha256Digest;
use crate::wire::index::{Blob, Role};

/// What the route that is followed starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Start {
    /// The release that the target set holds: what stays is at its place.
    Target,
    /// The release that runs: what stays is copied from there, or at its place already.
    Running,
    /// Nothing: every blob is listed, which costs a longer index, and mostly every changed blob whole.
    Nothing(NoBase),
}

/// Why no route from a base release is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NoBase {
    /// The bundle has no route from any release.
    NoRoutes,
    /// It is not proved what this device holds.
    NothingProved,
    /// The bundle has no route from what this device holds.
    NoRouteFrom,
    /// There is a route, but the set is not what its release says: an object is missing, or there is one too many.
    SetDiffers,
}

impl Default for Start {
    fn default() -> Self {
        Self::Nothing(NoBase::NoRoutes)
    }
}

/// The plan of an install. All sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Plan {
    /// SHA-256 of the manifest of the release that the route starts from; `None` for the full route.
    pub base: Option<Sha256Digest>,
    /// Where that release is, or why there is none.
    pub start: Start,
    /// The whole bundle.
    pub bundle_bytes: u64,
    /// Bytes of the route through the index that is followed; part of `framing_bytes`, but for what was in the scratch area.
    pub index_bytes: u64,
    /// To fetch: framing (headers, manifest, signatures, `info/`) and index, already fetched or about to be.
    pub framing_bytes: u64,
    /// To fetch: stored bytes of blobs that the device has nowhere.
    pub fetch_bytes: u64,
    /// Of these, for blobs that are made by patches of what the device has.
    pub patch_bytes: u64,
    /// What `fetch_bytes` would be without patches.
    pub whole_bytes: u64,
    /// What `fetch_bytes` would be if the device had every base that the route names.
    pub cheapest_bytes: u64,
    /// Of `fetch_bytes`, the UKI.
    pub uki: Fetch,
    /// Of `fetch_bytes`, objects of the composefs image.
    pub objects: Fetch,
    /// Of `fetch_bytes`, the composefs image itself.
    pub composefs: Fetch,
    /// Of `fetch_bytes`, raw images.
    pub images: Fetch,
    /// To read only for checking: stored bytes that the device does not need (a local bundle is checked whole).
    pub audit_bytes: u64,
    /// To write into the target set, decoded.
    pub write_bytes: u64,
    /// Of these, copied from the running set.
    pub copy_bytes: u64,
    /// Already at their place in the target set; of the objects that stay from a base, as the manifests say.
    pub present_bytes: u64,
    /// Number of blobs to fetch.
    pub fetch_blobs: u32,
    /// Of these, those that are made by patches.
    pub patch_blobs: u32,
    /// Number of blobs to copy from the running set.
    pub copy_blobs: u32,
    /// Number of blobs already at their place.
    pub present_blobs: u32,
    /// Number of objects that only the base has.
    pub removed_blobs: u32,
    /// Number of runs in which the data is fetched, at most: those whose gaps are longer than
    /// [`RUN_GAP_BYTES`](super::RUN_GAP_BYTES).
    pub runs: u32,
    /// Bytes of the gaps within them.
    pub gap_bytes: u64,
    /// Room that removing what only the base has will free in the root slot; in `space` already.
    pub freed_bytes: u64,
    /// Bytes that the boot slot must take.
    pub boot_slot_bytes: u64,
    /// Bytes that the root slot must take.
    pub root_slot_bytes: u64,
    /// Free room in the target set.
    pub space: PlanSpace,
}

/// What is fetched of one kind of blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fetch {
    /// Stored bytes of blobs that come whole.
    pub whole_bytes: u64,
    /// Stored bytes of patches.
    pub patch_bytes: u64,
}

/// Free room in the target set; `None` when the device cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PlanSpace {
    /// In the boot slot.
    pub boot_bytes: Option<u64>,
    /// In the root slot.
    pub root_bytes: Option<u64>,
}

/// A blob on its way into the plan.
pub(super) struct Planned {
    pub blob: Blob,
    pub location: Location,
    /// How it is fetched, if it must be.
    pub choice: Choice,
}

impl Plan {
    /// Adds one blob. `audit` says that ranges which store it whole and are not needed are audited, `audit_present` that they are
    /// even if it is at its place.
    pub(super) fn add(&mut self, planned: &Planned, audit: bool, audit_present: bool) {
        let Planned { blob, choice, .. } = planned;
        let audited = if audit { blob.stored_bytes } else { 0 };
        match planned.location {
            Location::Target => {
                self.present_bytes += blob.size;
                self.present_blobs += 1;
                self.audit_bytes += if audit_present { audited } else { 0 };
                return;
            }
            Location::Running => {
                self.copy_bytes += blob.size;
                self.copy_blobs += 1;
                self.audit_bytes += audited;
            }
            Location::Absent => {
                self.fetch_bytes += choice.stored_bytes;
                self.whole_bytes += blob.stored_bytes;
                self.fetch_blobs += 1;
                self.cheapest_bytes += choice.cheapest_bytes;
                let fetch = match blob.role {
                    Role::Uki => &mut self.uki,
                    Role::Object => &mut self.objects,
                    Role::Composefs => &mut self.composefs,
                    Role::Image => &mut self.images,
                };
                match choice.way {
                    Way::Whole => fetch.whole_bytes += choice.stored_bytes,
                    Way::Patch(_) => fetch.patch_bytes += choice.stored_bytes,
                }
                if let Way::Patch(_) = choice.way {
                    self.patch_bytes += choice.stored_bytes;
                    self.patch_blobs += 1;
                    self.audit_bytes += audited;
                }
            }
        }
        self.write_bytes += blob.size;
        match blob.role {
            Role::Uki => self.boot_slot_bytes += blob.size,
            Role::Object | Role::Composefs => self.root_slot_bytes += blob.size,
            Role::Image => {}
        }
    }

    /// Counts the objects that stay from the base.
    pub(crate) fn keep(&mut self, kept: Count) {
        self.present_blobs = self.present_blobs.saturating_add(kept.objects);
        self.present_bytes = self.present_bytes.saturating_add(kept.bytes);
    }

    /// Notes the free room; what the base leaves comes to it.
    pub(crate) fn set_space(&mut self, space: Space) {
        self.space = PlanSpace {
            boot_bytes: space.boot_bytes,
            root_bytes: space
                .root_bytes
                .map(|free| free.saturating_add(self.freed_bytes)),
        };
    }

    /// Bytes that the source must give, all told.
    pub const fn source_bytes(&self) -> u64 {
        self.framing_bytes + self.fetch_bytes + self.audit_bytes
    }

    /// Whether the plan fits the room and the budget.
    ///
    /// # Errors
    /// [`PolicyRefused::NoSpace`] or [`PolicyRefused::BudgetExceeded`].
    pub fn check(&self, budget: Option<u64>) -> Result<(), PolicyRefused> {
        let pairs = [
            (self.boot_slot_bytes, self.space.boot_bytes),
            (self.root_slot_bytes, self.space.root_bytes),
        ];
        for (needed, available) in pairs {
            if let Some(available) = available.filter(|available| needed > *available) {
                return Err(PolicyRefused::NoSpace { needed, available });
            }
        }
        match budget {
            Some(budget) if self.source_bytes() > budget => Err(PolicyRefused::BudgetExceeded {
                needed: self.source_bytes(),
                budget,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::digest::BlobDigest;

    fn planned(role: Role, location: Location) -> Planned {
        let blob = Blob {
            role,
            payload: 0,
            digest: BlobDigest::sha256([0; 32]),
            size: 100,
            ranges: 1,
            stored_bytes: 40,
            alternatives: 0,
        };
        Planned {
            blob,
            location,
            choice: Choice::new(&blob, 0),
        }
    }

    #[test]
    fn a_patched_blob_counts_by_what_is_fetched_of_it() {
        let mut patched = planned(Role::Object, Location::Absent);
        patched.choice.way = Way::Patch(0);
        patched.choice.stored_bytes = 7;
        let mut plan = Plan::default();
        plan.add(&patched, true, true);
        plan.add(&planned(Role::Object, Location::Absent), true, true);
        assert_eq!((plan.fetch_bytes, plan.patch_bytes), (47, 7));
        assert_eq!(plan.whole_bytes, 80);
        let objects = Fetch {
            whole_bytes: 40,
            patch_bytes: 7,
        };
        assert_eq!((plan.objects, plan.uki), (objects, Fetch::default()));
        assert_eq!((plan.fetch_blobs, plan.patch_blobs), (2, 1));
        assert_eq!((plan.audit_bytes, plan.write_bytes), (40, 200));
        plan = Plan::default();
        plan.add(&patched, false, false);
        assert_eq!((plan.fetch_bytes, plan.audit_bytes), (7, 0));
        plan.add(&planned(Role::Object, Location::Target), true, true);
        assert_eq!((plan.fetch_bytes, plan.audit_bytes), (7, 40));
    }

    #[test]
    fn room_and_budget_are_limits_to_the_byte() {
        let mut plan = Plan {
            framing_bytes: 10,
            ..Plan::default()
        };
        plan.add(&planned(Role::Uki, Location::Absent), true, false);
        plan.add(&planned(Role::Object, Location::Running), true, false);
        plan.add(&planned(Role::Object, Location::Target), true, false);
        assert_eq!(
            (
                plan.fetch_bytes,
                plan.audit_bytes,
                plan.write_bytes,
                plan.present_bytes
            ),
            (40, 40, 200, 100)
        );
        assert_eq!(plan.check(Some(90)), Ok(()));
        assert_eq!(
            plan.check(Some(89)),
            Err(PolicyRefused::BudgetExceeded {
                needed: 90,
                budget: 89
            })
        );
        plan.set_space(Space {
            boot_bytes: Some(100),
            root_bytes: Some(99),
        });
        assert_eq!(
            plan.check(None),
            Err(PolicyRefused::NoSpace {
                needed: 100,
                available: 99
            })
        );
        plan.set_space(Space {
            boot_bytes: Some(100),
            root_bytes: None,
        });
        assert_eq!(plan.check(None), Ok(()));
    }
}
