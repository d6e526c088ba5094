//! What a plan tells: core's figures, what they cost on the network, how long that takes, and at which hours it may begin.

use crate::clock::Utc;
use crate::config::Window;
use crate::events;
use crate::install::{Order, release_event};
use crate::keys::hex;
use twinseal_core::install::Plan;
use twinseal_core::verify::Verified;
use twinseal_core::wire::manifest::Manifest;

/// A plan as it is told; `network` is what it costs where the bundle is on a web server.
pub fn event(
    order: &Order<'_>,
    plan: &Plan,
    manifest: &Verified<Manifest>,
    network: Option<events::NetworkCost>,
) -> events::Plan {
    let rate = order.rate.map(|rate| rate.bytes().get());
    let seconds = |cost: events::NetworkCost| Some(cost.install_bytes.div_ceil(rate?));
    let hours = order.window.filter(|_| network.is_some());
    events::Plan {
        set: order.target.to_string(),
        release: release_event(manifest),
        source_bytes: plan.source_bytes(),
        base: plan.base.as_ref().map(|base| hex(base)),
        start: plan.start.into(),
        bundle_bytes: plan.bundle_bytes,
        framing_bytes: plan.framing_bytes,
        index_bytes: plan.index_bytes,
        fetch_bytes: plan.fetch_bytes,
        patch_bytes: plan.patch_bytes,
        whole_bytes: plan.whole_bytes,
        cheapest_bytes: plan.cheapest_bytes,
        uki: plan.uki.into(),
        objects: plan.objects.into(),
        composefs: plan.composefs.into(),
        images: plan.images.into(),
        audit_bytes: plan.audit_bytes,
        write_bytes: plan.write_bytes,
        copy_bytes: plan.copy_bytes,
        present_bytes: plan.present_bytes,
        fetch_blobs: plan.fetch_blobs,
        patch_blobs: plan.patch_blobs,
        copy_blobs: plan.copy_blobs,
        present_blobs: plan.present_blobs,
        removed_blobs: plan.removed_blobs,
        boot_slot_bytes: plan.boot_slot_bytes,
        root_slot_bytes: plan.root_slot_bytes,
        boot_free_bytes: plan.space.boot_bytes,
        root_free_bytes: plan.space.root_bytes,
        budget_bytes: order.budget,
        network,
        rate,
        seconds: network.and_then(seconds),
        hours: hours.map(|window| hours_event(window, order.device.now())),
    }
}

fn hours_event(window: Window, now: Option<u64>) -> events::Hours {
    let closes = now.and_then(|now| Some(now + window.closes_in(now)?));
    let opens = now.filter(|_| closes.is_none());
    events::Hours {
        hours: window.to_string(),
        closes: closes.map(|time| Utc(time).to_string()),
        opens: opens.map(|now| Utc(window.opens_at(now)).to_string()),
    }
}
