//! `select` where the firmware chooses: the running system makes the firmware follow the boot record.
//!
//! # Invariants
//! - An attempt is spent, in the record and by a mark for the initramfs, before the firmware is told of a trial; a firmware that
//!   cannot be asked is told of none.
//! - The device is sent to another set that is not on trial once, until that set has run or the record is written again: a firmware
//!   that refuses a set does not make the device restart for ever, and one that loses its variables again is told again.
//! - A device that runs the set that must run, committed, is well whatever firmware and marks say: that they cannot be told is a
//!   warning.
//! - Run again in the same boot it spends nothing and blames nobody: only a restart shows what the firmware does.
//!
//! # Power loss
//! Every boot of either set runs this, and each step looks at what is there: whatever a cut left is brought together again. An
//! attempt that was spent and not used stays spent.

use super::{Choice, mark_trial, settle};
use crate::audit::Audit;
use crate::device::Device;
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::history::reason_name;
use crate::loader::resting_default;
use crate::marks;
use crate::report::{Outlet, warn};
use twinseal_core::boot::record::{BootRecord, Loaded};
use twinseal_core::boot::select::{Reason, select};
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::journal::Event as Noted;

/// Everything that the choice depends on.
pub(super) struct Case<'d> {
    pub device: &'d Device,
    pub loaded: Loaded,
    pub facts: [SetFacts; 2],
    pub audit: Audit,
}

impl Case<'_> {
    /// Chooses, stores, tells the firmware, and restarts when `restart` says so and another set must boot.
    ///
    /// # Errors
    /// When it is not known what runs or no set may be booted; when the firmware cannot be asked or told of another set, or while the
    /// running set is on trial.
    pub(super) fn follow(mut self, restart: bool, outlet: &mut Outlet) -> Result<(), AgentError> {
        let running = self.device.running_set()?;
        if let Loaded::Record(record) = &self.loaded {
            mark_trial(self.device, Some(record), running);
        }
        // A trial that cannot be told to the firmware must not cost an attempt.
        if let Err(error) = self.device.loader.told() {
            if !self.must_run(running) {
                return Err(error);
            }
            warn(&error.to_string());
        }
        let again = marks::was_selected(self.device);
        let (choice, record) = self.choose(running, again);
        mark_trial(self.device, record.as_ref(), running);
        let Some(set) = choice.set else {
            self.note(choice);
            return Err(AgentError::NothingToBoot);
        };
        let on_trial = record
            .and_then(|record| record.trial())
            .map(|trial| trial.set);
        let away = if set == running {
            self.note(choice);
            match self.stay(record.as_ref(), set) {
                // Nothing has to change for this device to be well: the next boot tells the firmware again.
                Err(error) if on_trial != Some(running) => warn(&error.to_string()),
                stayed => stayed?,
            }
            false
        } else if on_trial == Some(set) {
            self.note(choice);
            self.jump(record.as_ref(), set)?;
            true
        } else {
            let away = self.redirect(record.as_ref(), running, choice, again)?;
            marks::note_selected(self.device)?;
            away
        };
        outlet.tell(&Event::Selected(events::Selected {
            set: set.to_string(),
            reason: reason_name(choice.reason),
            attempts_left: choice.attempts_left,
            running: Some(running.to_string()),
            restart: away,
        }));
        if away && restart {
            (self.device.restart)()?;
        }
        Ok(())
    }

    /// Whether the running set is what must run, committed: then the firmware has nothing to do that it would not do by itself.
    fn must_run(&self, running: Set) -> bool {
        if let Loaded::Record(record) = self.loaded
            && record.trial().is_some_and(|trial| trial.set == running)
        {
            return false;
        }
        let selection = select(&self.loaded, self.facts, self.audit.past().floor);
        let trial = selection.record().and_then(BootRecord::trial);
        selection.boot() == Some(running) && trial.is_none_or(|trial| trial.set != running)
    }

    /// A trial that runs, or whose attempt was spent in this boot, has had its choice; everything else is core's.
    fn choose(&self, running: Set, again: bool) -> (Choice, Option<BootRecord>) {
        let spent = again && marks::is_attempt_noted(self.device);
        if let Loaded::Record(record) = self.loaded
            && let Some(trial) = record.trial()
            && (trial.set == running || spent)
        {
            let choice = Choice {
                set: Some(trial.set),
                reason: Reason::Trial,
                attempts_left: trial.attempts_left,
            };
            return (choice, Some(record));
        }
        let selection = select(&self.loaded, self.facts, self.audit.past().floor);
        settle(
            self.device,
            &self.loaded,
            &selection,
            self.facts,
            &self.audit,
        )
    }

    /// What runs is what must run: nothing is told for the next boot, and the firmware has not refused it. A set that the firmware
    /// refuses never gets here, so it is sent there no more than once. Every step is tried, whatever became of the one before it.
    fn stay(&self, record: Option<&BootRecord>, set: Set) -> Result<(), AgentError> {
        let steps = [
            marks::forget_attempt(self.device),
            marks::forget_redirect(self.device),
            marks::forget_stayed(self.device),
            self.device.loader.rest(self.resting(record, set)),
            marks::note_selected(self.device),
        ];
        steps.into_iter().collect()
    }

    /// To the trial, whose attempt the record has spent already: a jump that fails is tried again in this boot without another one.
    fn jump(&self, record: Option<&BootRecord>, set: Set) -> Result<(), AgentError> {
        // It ends this start before anybody can say that it went well.
        marks::forget_starts(self.device, set.other())?;
        marks::note_attempt(self.device)?;
        marks::note_selected(self.device)?;
        let resting = self.resting(record, set.other());
        self.device.loader.jump(set, resting)
    }

    /// To a set that is not on trial. Gives whether a restart is needed.
    fn redirect(
        &mut self,
        record: Option<&BootRecord>,
        running: Set,
        choice: Choice,
        again: bool,
    ) -> Result<bool, AgentError> {
        let set = running.other();
        marks::forget_attempt(self.device)?;
        let sequence = record.map_or(0, BootRecord::sequence);
        self.device.loader.rest(Some(set))?;
        let stayed = marks::has_stayed(self.device);
        if stayed || (!again && marks::was_redirected(self.device, sequence)) {
            if !stayed {
                self.audit.tell(Noted::Stayed {
                    running,
                    chosen: set,
                });
            }
            warn(&format!(
                "Set {set} must boot, and the firmware booted set {running} although it was told: it or the initramfs refuses set {set}, or it has lost what it was told."
            ));
            marks::note_stayed(self.device)?;
            return Ok(false);
        }
        self.note(choice);
        // It ends this start before anybody can say that it went well.
        marks::forget_starts(self.device, running)?;
        marks::note_redirect(self.device, sequence)?;
        Ok(true)
    }

    /// The set that boots without a trial.
    fn resting(&self, record: Option<&BootRecord>, otherwise: Set) -> Option<Set> {
        record.map_or(Some(otherwise), |record| {
            resting_default(record, self.facts)
        })
    }

    fn note(&mut self, choice: Choice) {
        self.audit.tell(Noted::Booted {
            set: choice.set,
            reason: choice.reason,
            attempts_left: choice.attempts_left,
        });
    }
}
