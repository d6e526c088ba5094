//! What an install will cost on the network, before it does.
//!
//! # Invariants
//! - The forecast is never too low, as long as no connection fails: what fits by it, fits. It is the same for two installs that find
//!   the same on the device, to the byte.

use crate::events;
use crate::source::account::BudgetProblem;
use crate::source::http::Http;
use twinseal_core::error::PolicyRefused;
use twinseal_core::install::{Plan, Tally};
use twinseal_core::verify::Verified;
use twinseal_core::wire::manifest::Manifest;

/// What an install by this plan costs, and the refusal when that is more than a budget leaves. From here on the account is that of
/// the manifest's bundle.
pub fn cost(
    web: &mut Http,
    manifest: &Verified<Manifest>,
    plan: &Plan,
    tally: &Tally,
) -> (events::NetworkCost, Option<PolicyRefused>) {
    let spent = web.spent_bytes();
    web.enter_manifest(manifest.manifest_sha256());
    let seams = plan.framing_bytes.saturating_sub(tally.source_bytes());
    let data = plan.fetch_bytes + plan.gap_bytes + plan.audit_bytes + seams;
    let (requests, rest) = web.forecast(data, u64::from(plan.runs));
    let index = web.index_bytes();
    let account = web.account_mut();
    let refused = account.check(spent + rest).err().map(refusal);
    let (bundle, period) = account.limits();
    let cost = events::NetworkCost {
        install_bytes: (spent + rest).saturating_sub(index),
        requests,
        spent_bytes: spent,
        index_bytes: index,
        bundle_before_bytes: bundle.before,
        bundle_left_bytes: bundle.left().map(|left| left.saturating_sub(spent)),
        period_before_bytes: period.budget.map(|_| period.before),
        period_left_bytes: period.left().map(|left| left.saturating_sub(spent)),
    };
    (cost, refused)
}

const fn refusal(problem: BudgetProblem) -> PolicyRefused {
    match problem {
        BudgetProblem::Bundle { needed, budget } | BudgetProblem::Period { needed, budget } => {
            PolicyRefused::BudgetExceeded { needed, budget }
        }
    }
}
