//! A plan as lines of text: what an install fetches and writes, what that costs, and when it may begin.

use super::count;
use super::text::{bytes, signers};
use crate::events::{NetworkCost, Plan, Start};

/// A plan as lines of text.
pub(super) fn text(plan: &Plan) -> String {
    let release = &plan.release;
    let mut text = format!(
        "Plan: version {} (anti-rollback {}, {}) into set {}\n",
        release.version,
        release.anti_rollback,
        signers(release),
        plan.set
    );
    text += &format!(
        "  read from the bundle   {}: framing and index {}, data {}, only checked {}\n",
        bytes(plan.source_bytes),
        plan.framing_bytes,
        plan.fetch_bytes,
        plan.audit_bytes
    );
    text += &format!("  of the data            {}\n", kinds_text(plan));
    text += &format!("  by kind                {}\n", fetches_text(plan));
    text += &format!(
        "  instead of             {} with every base of the route, {} without patches, {} for the whole bundle\n",
        plan.cheapest_bytes,
        plan.whole_bytes,
        bytes(plan.bundle_bytes)
    );
    text += &format!("  route                  {}\n", route_text(plan));
    if let Some(network) = &plan.network {
        text += &network_text(network);
    } else if let Some(budget) = plan.budget_bytes {
        text += &format!("  budget                 {}\n", bytes(budget));
    }
    text += &format!(
        "  write                  {}, of these copied from the running set {}\n",
        bytes(plan.write_bytes),
        plan.copy_bytes
    );
    text += &format!("  already there          {}\n", bytes(plan.present_bytes));
    for (slot, needed, free) in [
        ("boot slot", plan.boot_slot_bytes, plan.boot_free_bytes),
        ("root slot", plan.root_slot_bytes, plan.root_free_bytes),
    ] {
        let free = free.map_or_else(|| "not known".to_owned(), bytes);
        text += &format!("  {slot:21}  takes {}, free {free}\n", bytes(needed));
    }
    text + &time_text(plan)
}

/// How long it takes, and when it may begin.
fn time_text(plan: &Plan) -> String {
    let mut text = String::new();
    if let (Some(seconds), Some(rate)) = (plan.seconds, plan.rate) {
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        text += &format!(
            "  time                   {hours} h {minutes:02} min {rest:02} s at {rate} bytes a second, without pauses of the link\n"
        );
    }
    if let Some(hours) = &plan.hours {
        let state = match (&hours.closes, &hours.opens) {
            (Some(closes), _) => format!("open until {closes}"),
            (None, Some(opens)) => format!("closed until {opens}"),
            (None, None) => "this device has no clock that it trusts".to_owned(),
        };
        text += &format!("  hours                  {} UTC: {state}\n", hours.hours);
    }
    text
}

/// What is fetched of each kind of blobs.
fn fetches_text(plan: &Plan) -> String {
    let kinds = [
        ("UKI", plan.uki),
        ("composefs image", plan.composefs),
        ("objects", plan.objects),
        ("images", plan.images),
    ];
    let texts = kinds.map(
        |(kind, fetch)| match (fetch.whole_bytes, fetch.patch_bytes) {
            (whole, 0) => format!("{kind} {whole}"),
            (0, patches) => format!("{kind} {patches} (patches)"),
            (whole, patches) => format!("{kind} {whole} + {patches} (patches)"),
        },
    );
    texts.join(", ")
}

/// What is fetched, by kind.
fn kinds_text(plan: &Plan) -> String {
    let whole_bytes = plan.fetch_bytes.saturating_sub(plan.patch_bytes);
    let whole_blobs = plan.fetch_blobs.saturating_sub(plan.patch_blobs);
    format!(
        "whole {whole_bytes} bytes for {}, patches {} bytes for {}",
        count(whole_blobs, "blob"),
        plan.patch_bytes,
        count(plan.patch_blobs, "blob")
    )
}

/// What it costs on the network, and what the budgets leave.
fn network_text(network: &NetworkCost) -> String {
    let mut text = format!(
        "  over the network       at most {} for an install from now on, in {} more; {} so far, of these index {}\n",
        bytes(network.install_bytes),
        count(
            u32::try_from(network.requests).unwrap_or(u32::MAX),
            "request"
        ),
        bytes(network.spent_bytes),
        network.index_bytes
    );
    if network.bundle_before_bytes > 0 || network.bundle_left_bytes.is_some() {
        text += &format!(
            "  budget of the bundle   spent before {}{}\n",
            bytes(network.bundle_before_bytes),
            left_text(network.bundle_left_bytes)
        );
    }
    if let Some(before) = network.period_before_bytes {
        text += &format!(
            "  budget of the period   spent before {}{}\n",
            bytes(before),
            left_text(network.period_left_bytes)
        );
    }
    text
}

fn left_text(left: Option<u64>) -> String {
    left.map_or_else(String::new, |left| format!(", left {}", bytes(left)))
}

fn route_text(plan: &Plan) -> String {
    let index = bytes(plan.index_bytes);
    let base = plan.base.as_deref().unwrap_or_default();
    let whole = |why: &str| {
        format!("{index} of index, every object, which costs more than from a base: {why}")
    };
    match plan.start {
        Start::Target => format!(
            "{index} of index, from the release {base} in set {}; {} of its objects go",
            plan.set, plan.removed_blobs
        ),
        Start::Running => format!("{index} of index, from the running set's release {base}"),
        Start::NoRoutes => whole("the bundle has no routes from other releases"),
        Start::NothingProved => whole("it is not proved what this device holds"),
        Start::NoRouteFrom => whole("the bundle has no route from what this device holds"),
        Start::SetDiffers => {
            whole("a set is not what its release says; `twinseal check` says more")
        }
    }
}
