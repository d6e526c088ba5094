//! What `health`, `check` and `repair` have to tell.

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

/// The verdict on a running trial, or on a start that was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// The running set.
    pub set: String,
    /// Whether it is on trial.
    pub on_trial: bool,
    /// Starts that were counted up to now of a set that is not on trial; without one nothing is checked there.
    pub counted_starts: u64,
    /// Whether the data partition could not be mounted: then it is not known whether there is a trial, and nothing is decided.
    pub data_volatile: bool,
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

/// A set has been looked through.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedSet {
    /// The set.
    pub set: String,
    /// Whether there is anything in it.
    pub holds_something: bool,
    /// Objects that are there or should be.
    pub objects: u32,
    /// Bytes of those that are there.
    pub bytes: u64,
    /// What is not well.
    pub damaged: Vec<DamagedPart>,
}

/// A damaged part of a set.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedPart {
    /// "object", "image" (its name among the images), "uki" or "release".
    pub part: &'static str,
    /// Its fs-verity digest, as it must be; `None` for a release, which nothing is known of.
    pub digest: Option<String>,
    /// "missing", "refused", "not-sealed", "other-digest" or "unreadable"; "not-proved" for a release.
    pub problem: &'static str,
    /// The same as a sentence.
    pub text: String,
}

/// Objects have been replaced.
#[derive(Clone, Debug, Serialize)]
pub struct Repaired {
    /// The set.
    pub set: String,
    /// Objects that were replaced.
    pub repaired: u64,
    /// Objects that are damaged still.
    pub left: u64,
}
