//! What the running system says about the sets: `mark-good`, `mark-bad`, `rollback`, `reboot-needed`.
//!
//! The rules are core's (`twinseal_core::boot::trial`). A change is told to the journal first and stored second; an order that
//! changes nothing writes nothing, so that a health check may say `mark-good` as often as it likes.
//!
//! # Power loss
//! The record is the old one or the new one; the same command, run again, finds out which and does the rest. A boot loader is told
//! after the record was stored: one that lags behind is told again by `select` in the next boot.

use crate::audit::Audit;
use crate::device::{Device, need_record};
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::exit;
use crate::held::{Held, facts};
use crate::loader::resting_default;
use crate::marks;
use crate::report::Outlet;
use crate::slots::Places;
use std::time::{Duration, Instant};
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::select::select;
use twinseal_core::boot::{Set, SetFacts, trial};
use twinseal_core::journal::Event as Noted;
use twinseal_platform_linux::{DeviceLock, FileRecordStore};

/// Whether a command waits for another one that has the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It says that the device is busy.
    None,
    /// It waits for a while: nobody would give a health check's verdict again.
    Waits,
}

/// How long a patient command waits; longer than everything but an install, which a trial refuses.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lock cannot be waited for with a limit, so it is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Patience {
    fn lock(self, device: &Device) -> Result<DeviceLock, AgentError> {
        let start = Instant::now();
        loop {
            match device.lock() {
                Err(error)
                    if error.code() == exit::BUSY
                        && self == Self::Waits
                        && start.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(ASK_AGAIN);
                }
                other => return other,
            }
        }
    }
}

/// Everything that a verdict is about.
struct Case {
    _lock: DeviceLock,
    store: FileRecordStore,
    record: BootRecord,
    running: Set,
    facts: [SetFacts; 2],
    audit: Audit,
}

impl Case {
    fn open(device: &Device, patience: Patience) -> Result<Self, AgentError> {
        device.need_data()?;
        let lock = patience.lock(device)?;
        let loaded = device.load_record()?;
        let record = need_record(&loaded)?;
        let running = device.running_set()?;
        let facts = facts(&Held::look_at_both(device, &Places::new(device)));
        let audit = Audit::open(device, Some(&loaded));
        Ok(Self {
            _lock: lock,
            store: device.record_store()?,
            record,
            running,
            facts,
            audit,
        })
    }

    /// Tells the journal, then stores the record. A device that stayed on this set because of the old record stays no more.
    fn change(
        &mut self,
        device: &Device,
        next: &BootRecord,
        event: Noted,
    ) -> Result<(), AgentError> {
        self.audit.tell(event);
        let anchor = self.audit.anchor(self.record.journal());
        record::store(&mut self.store, &next.with_notes(device.now(), anchor))?;
        marks::forget_stayed(device)
    }

    /// The boot loader follows, after the record was stored.
    fn tell_loader(&self, device: &Device, record: &BootRecord) -> Result<(), AgentError> {
        let resting = resting_default(record, self.facts);
        if record.trial().is_some() {
            // Told for the next boot is the trial that waits in the other set.
            device.loader.rest_later(resting)
        } else {
            device.loader.rest(resting)
        }
    }

    /// The set that a restart would boot with this record.
    fn next_boot(&self, record: &BootRecord) -> String {
        let next = select(&Loaded::Record(*record), self.facts, 0).boot();
        next.map_or_else(|| "none".to_owned(), |set| set.to_string())
    }
}

/// Tells the journal of something that a verdict rests on. As with a verdict, a journal that cannot be told gives a warning.
///
/// # Errors
/// When another process has the device.
pub fn note(device: &Device, event: Noted, patience: Patience) -> Result<(), AgentError> {
    let _lock = patience.lock(device)?;
    let loaded = device.load_record()?;
    Audit::open(device, Some(&loaded)).tell(event);
    Ok(())
}

/// `mark-good`: commits the running set.
///
/// # Errors
/// When the state of the device is not known, or the record cannot be stored.
pub fn mark_good(
    device: &Device,
    outlet: &mut Outlet,
    patience: Patience,
) -> Result<(), AgentError> {
    device.need_data()?;
    // First: a set that was committed and whose starts stay counted would be refused.
    if let Ok(running) = device.running_set() {
        marks::forget_starts(device, running)?;
    }
    let mut case = Case::open(device, patience)?;
    let set = case.running;
    if marks::has_stayed(device) {
        case.facts = SetFacts::not_starting(case.facts, set.other());
    }
    let next = trial::commit(&case.record, set, case.facts);
    if let Some(next) = &next {
        case.change(
            device,
            next,
            Noted::Committed {
                set,
                floor: next.floor(),
            },
        )?;
    }
    let record = next.as_ref().unwrap_or(&case.record);
    case.tell_loader(device, record)?;
    let floor = record.floor();
    outlet.tell(&Event::Committed(events::Committed {
        set: set.to_string(),
        floor,
        changed: next.is_some(),
    }));
    Ok(())
}

/// `mark-bad`: ends the running trial, or leaves the default set for the other one.
///
/// # Errors
/// When there is nothing to go back to.
pub fn mark_bad(
    device: &Device,
    outlet: &mut Outlet,
    patience: Patience,
) -> Result<(), AgentError> {
    let mut case = Case::open(device, patience)?;
    let set = case.running;
    let next = trial::mark_bad(&case.record, set, case.facts)?;
    let changed = next != case.record;
    if changed {
        marks::forget_starts(device, next.default_set())?;
        case.change(device, &next, Noted::MarkedBad { set })?;
    }
    case.tell_loader(device, &next)?;
    let next = case.next_boot(&next);
    outlet.tell(&Event::MarkedBad(events::Returning {
        set: set.to_string(),
        next,
        changed,
    }));
    Ok(())
}

/// `rollback`: goes back to the other set at the next restart.
///
/// # Errors
/// When there is nothing to go back to.
pub fn roll_back(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    let mut case = Case::open(device, Patience::None)?;
    let set = case.running;
    let next = trial::go_back(&case.record, set, case.facts)?;
    let changed = next != case.record;
    // Whoever orders a set back wants it to be started again, however its starts went.
    marks::forget_starts(device, next.default_set())?;
    marks::forget_stayed(device)?;
    if changed {
        case.change(
            device,
            &next,
            Noted::WentBack {
                set: next.default_set(),
            },
        )?;
    }
    case.tell_loader(device, &next)?;
    let next = case.next_boot(&next);
    outlet.tell(&Event::WentBack(events::Returning {
        set: set.to_string(),
        next,
        changed,
    }));
    Ok(())
}

/// `reboot-needed`: gives the exit code, 0 for yes.
///
/// # Errors
/// When the state of the device is not known.
pub fn reboot_needed(device: &Device, outlet: &mut Outlet) -> Result<u8, AgentError> {
    device.need_data()?;
    let record = need_record(&device.load_record()?)?;
    let running = device.running_set()?;
    let answer = reboot_answer(
        &record,
        running,
        facts(&Held::look_at_both(device, &Places::new(device))),
        marks::has_stayed(device),
    );
    let code = if answer.needed { exit::OK } else { exit::NO };
    outlet.tell(&Event::RebootNeeded(answer));
    Ok(code)
}

/// Whether a restart would boot another set. Asked of the same choice that a restart makes, so that a device that runs on its
/// other set because the default one is gone is not sent into restarts without end. A trial that runs waits for its verdict. A
/// device that `stayed`, because the firmware refused the other set, would stay again, unless a trial waits there.
pub fn reboot_answer(
    record: &BootRecord,
    running: Set,
    facts: [SetFacts; 2],
    stayed: bool,
) -> events::RebootNeeded {
    let trial = record.trial().map(|trial| trial.set);
    let on_trial = trial == Some(running);
    let stays = stayed && trial.is_none();
    let next = select(&Loaded::Record(*record), facts, 0).boot();
    events::RebootNeeded {
        needed: !on_trial && !stays && next.is_some_and(|next| next != running),
        running: running.to_string(),
        next: next.map(|set| set.to_string()),
        on_trial,
        stays,
    }
}
