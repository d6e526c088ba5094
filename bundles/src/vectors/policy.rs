//! Sound bundles that this device must not take.

use twinseal_core::error::PolicyRefused;
use twinseal_core::wire::manifest::PayloadKind;

use super::draft::name;
use super::{Base, FLOOR, SLOT, TIME, Vector, refused, strange_key};

pub(super) fn vectors(base: &Base<'_>) -> Vec<Vector> {
    let (before, after) = (TIME - 1, TIME + 1);
    vec![
        refused(
            "other-compatible",
            "it is for another device type",
            PolicyRefused::WrongCompatible,
            base.with_manifest(|manifest| manifest.compatible = name("twinseal-vectors")),
        ),
        refused(
            "below-floor",
            "its anti-rollback version is one below the floor",
            PolicyRefused::BelowFloor {
                version: FLOOR - 1,
                floor: FLOOR,
            },
            base.with_manifest(|manifest| manifest.anti_rollback = FLOOR - 1),
        ),
        refused(
            "expired",
            "its window ended a second ago",
            PolicyRefused::Expired { not_after: before },
            base.with_manifest(|manifest| manifest.window.not_after = Some(before)),
        ),
        refused(
            "not-yet-valid",
            "its window begins in a second",
            PolicyRefused::NotYetValid { not_before: after },
            base.with_manifest(|manifest| manifest.window.not_before = after),
        ),
        refused(
            "unknown-signer",
            "only a key that the device does not know has signed",
            PolicyRefused::UnknownSigner,
            base.draft.clone().signed_by(&[&strange_key()]),
        ),
        refused(
            "unsigned",
            "it has no signature",
            PolicyRefused::UnknownSigner,
            base.draft.clone().signed_by(&[]),
        ),
        refused(
            "slot-unknown",
            "it has an image for a slot that the device does not have",
            PolicyRefused::SlotUnknown { payload: 1 },
            base.with_manifest(|manifest| {
                for payload in &mut manifest.payloads {
                    if let PayloadKind::Image { slot } = &mut payload.kind {
                        *slot = name("fpga");
                    }
                }
            }),
        ),
        refused(
            "slot-too-small",
            "its image is a byte larger than the slot",
            PolicyRefused::SlotTooSmall {
                needed: SLOT.1 + 1,
                available: SLOT.1,
            },
            large_image(base),
        ),
    ]
}

/// Zeros behind the image's own bytes make it one byte larger than the slot.
fn large_image(base: &Base<'_>) -> Vec<u8> {
    use crate::assemble::{BlobPlan, Content, EncodingOptions, Plan, Target};
    let mut draft = base.draft.clone();
    let content = vec![0; SLOT.1 as usize + 1];
    let blob = BlobPlan {
        target: Target::Image { slot: name(SLOT.0) },
        size: content.len() as u64,
        digest: None,
        content: Content::Bytes(&content),
    };
    let identity = crate::assemble::Identity {
        compatible: draft.manifest.compatible.clone(),
        version: draft.manifest.version.clone(),
        anti_rollback: draft.manifest.anti_rollback,
        window: draft.manifest.window,
        sequence: draft.manifest.sequence,
        build: draft.manifest.build.clone(),
    };
    let plan = Plan {
        identity,
        info: Vec::new(),
        blobs: vec![blob],
        encoding: EncodingOptions::default(),
        bases: Vec::new(),
    };
    if let Ok(large) = super::Draft::from_plan(&plan, u64::MAX) {
        draft = large;
    }
    draft.signed_by(&[&super::first_key()])
}
