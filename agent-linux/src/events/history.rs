//! What `history` has to tell: the journal and its entries.

use super::{HealthFailure, Release};
use serde::Serialize;

/// One entry of the journal.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Position in the chain, from 0.
    pub number: u64,
    /// RFC 3339, UTC; `None` when the device had no clock.
    pub time: Option<String>,
    /// What happened, as one sentence.
    pub text: String,
    /// What happened.
    #[serde(flatten)]
    pub what: Happened,
}

/// What an entry of the journal says, under the field `kind`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the names are those of core's journal events, which have the text"
)]
pub enum Happened {
    Provisioned {
        set: String,
        release: Release,
    },
    InstallStarted {
        set: String,
        release: Release,
    },
    InstallCompleted {
        set: String,
        manifest: String,
        source_bytes: u64,
        written_bytes: u64,
        present_bytes: u64,
        patch_bytes: u64,
        damaged_bases: u32,
    },
    InstallFailed {
        set: String,
        manifest: Option<String>,
        exit_code: u8,
        name: &'static str,
        source_bytes: u64,
        target_touched: bool,
    },
    TrialArmed {
        set: String,
        attempts: u8,
    },
    Booted {
        set: Option<String>,
        reason: &'static str,
        attempts_left: u8,
    },
    Committed {
        set: String,
        floor: u64,
    },
    MarkedBad {
        set: String,
    },
    WentBack {
        set: String,
    },
    TailCut {
        bytes: u32,
    },
    Stayed {
        running: String,
        chosen: String,
    },
    HealthPassed {
        set: String,
        checks: u16,
        objects: u32,
        bytes: u64,
    },
    HealthFailed {
        set: String,
        failure: HealthFailure,
    },
    ObjectRepaired {
        set: String,
        object: String,
        from: &'static str,
    },
    FirmwareNotAsked {
        set: String,
    },
}

/// How the journal ends and whether it holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Journal {
    /// Entries whose digests follow from those before.
    pub entries: u64,
    /// Whether the chain holds to its end.
    pub chain_holds: bool,
    /// Number of the first entry that is wrong.
    pub first_bad_entry: Option<u64>,
    /// Bytes of an append that power was lost in.
    pub torn_bytes: u64,
    /// Entries that the boot record's anchor covers; `None` when there is no boot record to compare with.
    pub anchor_entries: Option<u64>,
    /// Whether the chain passes through the anchor.
    pub anchor_holds: Option<bool>,
    /// Journals that did not hold and were set aside.
    pub set_aside: Vec<String>,
}

/// The journal was moved away.
#[derive(Clone, Debug, Serialize)]
pub struct SetAside {
    /// Where it is now; `None` when there was nothing to move.
    pub file: Option<String>,
    /// What was wrong with it; `None` when nothing was and it stayed.
    pub damage: Option<String>,
}
