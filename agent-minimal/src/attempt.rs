//! What an install writes beside the set: the journal, the boot record, and the mark that its first attempt is paid.
//!
//! # Power loss
//! The journal is told first, the record is stored second. A cut in between leaves a set that is complete and not on trial: the same
//! install again finds it there and arms it.

use crate::console::say;
use crate::description::Loader;
use crate::device::Device;
use crate::error::AgentError;
use twinseal_core::boot::record::{self, BootRecord};
use twinseal_core::boot::{Set, trial};
use twinseal_core::install::Installed;
use twinseal_core::journal::{Event, Release};
use twinseal_core::verify::Verified;
use twinseal_core::wire::manifest::Manifest;
use twinseal_platform_linux::FileRecordStore;
use twinseal_platform_linux::efivars::Variables;
use twinseal_platform_linux::journal::Journal;

/// An install with what it writes beside the set.
pub struct Attempt<'a> {
    /// The device.
    pub device: &'a Device,
    /// The set that is written.
    pub target: Set,
    /// Where the boot record is.
    pub store: &'a mut FileRecordStore,
    /// The journal.
    pub journal: &'a mut Journal,
    /// Whether this is a recovery. A journal that takes nothing does not stop it: the boot record keeps its old anchor then, so the
    /// damage stays visible.
    pub recovers: bool,
    /// Whether the journal is only in memory, since the device's own cannot be opened: the record keeps the anchor of that one.
    pub forgets: bool,
    /// Whether the set goes on with its own changes to `/etc`: one that is rebuilt after it was in use. All others start with the other
    /// set's.
    pub keeps_etc: bool,
}

impl Attempt<'_> {
    /// The plan is accepted: tells the journal.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn begin(&mut self, manifest: &Verified<Manifest>) -> Result<(), AgentError> {
        let set = self.target;
        let release = Release {
            version: manifest.value().version.clone(),
            manifest: *manifest.manifest_sha256(),
            anti_rollback: manifest.value().anti_rollback,
            signers: manifest.signers().clone(),
        };
        self.tell(Event::InstallStarted { set, release })?;
        if firmware_checks(&self.device.description.variables) {
            self.tell(Event::FirmwareNotAsked { set })?;
        }
        Ok(())
    }

    /// The set is complete: tells the journal, then arms the trial. Where the firmware jumps without asking anybody, the first attempt is
    /// spent now; the caller tells the firmware.
    ///
    /// # Errors
    /// When the journal or the record cannot be written.
    pub fn arm(&mut self, installed: &Installed, record: &BootRecord) -> Result<(), AgentError> {
        let (set, attempts) = (self.target, self.device.description.trial_attempts);
        let tally = installed.tally();
        self.tell(Event::InstallCompleted {
            set,
            manifest: *installed.manifest().manifest_sha256(),
            source_bytes: tally.source_bytes(),
            written_bytes: tally.written_bytes,
            present_bytes: tally.present_bytes,
            patch_bytes: tally.patch_bytes,
            damaged_bases: tally.damaged_bases,
        })?;
        self.tell(Event::TrialArmed { set, attempts })?;
        let kept = match installed.manifest().value().seal {
            Some(seal) if self.keeps_etc => self.device.keep_etc(set, &seal),
            _ => self.device.renew_etc(set),
        };
        match kept {
            // The set starts without its changes to `/etc` rather than not at all.
            Err(error) if self.recovers => say(format_args!("recovery: {error}")),
            kept => kept?,
        }
        let armed = self.store(&trial::arm(record, installed, set, attempts))?;
        if self.device.description.loader == Loader::Record {
            return Ok(());
        }
        if let Some(spent) = trial::spend_attempt(&armed) {
            record::store(self.store, &spent)?;
        }
        match self.device.note_attempt() {
            // The next start spends one of its own then.
            Err(_) if self.recovers => Ok(()),
            noted => noted,
        }
    }

    /// Appends to the journal.
    ///
    /// # Errors
    /// When the journal does not take it, and the install needs it.
    pub fn tell(&mut self, event: Event) -> Result<(), AgentError> {
        let time = self.device.now().unwrap_or(0);
        match self.journal.append(time, event) {
            Err(error) if !self.recovers => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Stores the record with the time and the journal's head.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&mut self, record: &BootRecord) -> Result<BootRecord, AgentError> {
        let anchor = match self.forgets {
            true => record.journal(),
            false => self.journal.anchor(record.journal()),
        };
        let noted = record.with_notes(self.device.now(), anchor);
        Ok(record::store(self.store, &noted)?)
    }
}

/// Whether this machine's firmware checks what it starts (UEFI specification, section 32.3: `SecureBoot` is 1).
fn firmware_checks(folder: &str) -> bool {
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let mut buffer = [0; 8];
    Variables::open(folder).is_ok_and(|variables| {
        let value = variables.read("SecureBoot", GLOBAL, &mut buffer);
        matches!(value, Ok(Some([1])))
    })
}
