//! What `health` has to tell.

use serde::Serialize;

/// A health check has ended.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its file name.
    pub check: String,
    /// Whether it passed.
    pub passed: bool,
    /// How long it took.
    pub seconds: f64,
    /// What it printed, up to a limit; bytes that are not UTF-8 are replaced.
    pub output: String,
}

/// The verdict on a running trial.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// The running set.
    pub set: String,
    /// Whether it is on trial; outside a trial nothing is checked.
    pub on_trial: bool,
    /// Whether it is healthy.
    pub passed: bool,
    /// Checks that passed.
    pub checks: u16,
    /// Objects that could be read.
    pub objects: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Why it is not healthy, as the end of a sentence.
    pub problem: Option<String>,
    /// The same for programs.
    pub failure: Option<HealthFailure>,
}

/// Why a health check failed, under the field `reason`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the names are those of core's journal events, which have the text"
)]
pub enum HealthFailure {
    NoChecks,
    CheckFailed { check: String, exit_code: u8 },
    CheckTimedOut { check: String, limit_seconds: u32 },
    CheckUnusable { check: String },
    ObjectDamaged { object: String },
    SlotUnreadable,
}
