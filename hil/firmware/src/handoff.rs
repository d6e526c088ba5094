//! What the boot stage tells the application: which set it booted, and why.

use crate::sys;
use twinseal_core::boot::Set;
use twinseal_core::boot::select::Reason;

/// "hand", so that what RAM holds after power-on is not taken for a word of the boot stage.
const MAGIC: u32 = 0x6861_6e64;

const REASONS: [Reason; 8] = [
    Reason::Trial,
    Reason::RolledBack,
    Reason::TrialDropped,
    Reason::Default,
    Reason::Fallback,
    Reason::LastResort,
    Reason::RecordRebuilt,
    Reason::Nothing,
];

/// What was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Handoff {
    /// The set.
    pub set: Set,
    /// Why it.
    pub reason: Reason,
}

/// Tells the application.
pub fn give(handoff: Handoff) {
    let reason = REASONS
        .iter()
        .position(|reason| *reason == handoff.reason)
        .unwrap_or_default();
    sys::set_handoff_words([MAGIC, handoff.set as u32, reason as u32, 0, 0, 0, 0, 0]);
}

/// What the boot stage told; `None` when no boot stage started this program.
pub fn take() -> Option<Handoff> {
    let [magic, set, reason, ..] = sys::handoff_words();
    sys::set_handoff_words([0; 8]);
    let set = *Set::BOTH.get(usize::try_from(set).ok()?)?;
    let reason = *REASONS.get(usize::try_from(reason).ok()?)?;
    (magic == MAGIC).then_some(Handoff { set, reason })
}
