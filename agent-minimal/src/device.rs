//! The device as the commands see it: its description, its keys, its boot record, its lock, its running set.
//!
//! # Invariants
//! - Whoever changes anything holds the lock; whoever only looks does not need it.
//! - Looking makes no file: a record or a journal that is not there is blank or empty.

use crate::clock;
use crate::description::{DESCRIPTION_MAX_BYTES, Description, DescriptionFault, Loader};
use crate::error::AgentError;
use crate::etc_overlay;
use crate::files::{self, OWN_PATH_MAX_BYTES, OwnPath};
use crate::keys::{self, KEYS_FOLDER, Keys};
use crate::labels;
use crate::starts;
use rustix::fs::fsync;
use rustix::io::Errno;
use twinseal_core::boot::Set;
use twinseal_core::boot::SetFacts;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::select::resting;
use twinseal_core::error::StorageError;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_platform_linux::calls::unlink;
use twinseal_platform_linux::file::{if_there, join, open_directory_path};
use twinseal_platform_linux::journal::Journal;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, UefiLoader};
use twinseal_platform_linux::{DeviceLock, FileRecordStore};

/// Where the description is, when none is named: the device's own, then that of the sealed system.
const DEFAULT_FILES: [&str; 2] = ["/etc/twinseal/device.toml", "/usr/lib/twinseal/device.toml"];

/// Name of the mark that says that the attempt of the next start of the set on trial has been spent already, in the agent's state.
const ATTEMPT: &str = "boot-attempt";

/// Name of the mark beside the running set that the initramfs makes when it refused the other one before.
const OTHER_REFUSED: &str = "other-refused";

/// A device.
pub struct Device {
    /// What it is and where its slots are.
    pub description: Description,
    /// The keys that it trusts.
    pub keys: Keys,
}

impl Device {
    /// Reads the description and the keys.
    ///
    /// # Errors
    /// When one of them is missing or wrong.
    pub fn open(named: Option<&str>) -> Result<Self, AgentError> {
        let [first, second] = DEFAULT_FILES;
        let is_there = |file: &&str| files::exists(file).unwrap_or(false);
        let default = [first, second].into_iter().find(is_there).unwrap_or(first);
        let file = named.unwrap_or(default);
        let wrong = |fault| AgentError::Description {
            file: join(&[file]).unwrap_or_default(),
            fault,
        };
        let mut buffer = [0; DESCRIPTION_MAX_BYTES + 1];
        let bytes = files::read(file, &mut buffer)
            .map_err(|errno| wrong(DescriptionFault::Unreadable(errno)))?;
        let text = core::str::from_utf8(bytes).ok();
        let text = text.filter(|text| text.len() <= DESCRIPTION_MAX_BYTES);
        let text = text.ok_or_else(|| wrong(DescriptionFault::NoText))?;
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut description = Description::parse(text, folder).map_err(wrong)?;
        labels::resolve(&mut description);
        let keys = keys::load(description.trusted_keys.as_deref(), KEYS_FOLDER)?;
        Ok(Self { description, keys })
    }

    /// A file or folder in the agent's state.
    ///
    /// # Errors
    /// When its path is too long.
    pub fn state(&self, name: &str) -> Result<OwnPath, AgentError> {
        let path = join(&[&self.description.state, "/", name]);
        path.map_err(|errno| self.unusable(&self.description.state, "used", errno))
    }

    /// Takes the lock; it is given back when the value is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// `Busy` when another process holds it.
    pub fn lock(&self) -> Result<DeviceLock, AgentError> {
        let state = &self.description.state;
        files::make_directories(state).map_err(|errno| self.unusable(state, "made", errno))?;
        Ok(DeviceLock::acquire(&self.state("lock")?)?)
    }

    /// Seconds since 1970-01-01 UTC; `None` when the device has no clock that it trusts.
    pub fn now(&self) -> Option<u64> {
        let now = clock::time_of_day().ok()?.as_secs();
        self.description.trusts_clock.then_some(now)
    }

    /// Reads the boot record without making it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load_record(&self) -> Result<Loaded, AgentError> {
        if !files::exists(&self.description.record).unwrap_or(false) {
            return Ok(Loaded::Blank);
        }
        Ok(record::load(&mut self.record_store()?)?)
    }

    /// Opens the boot record for writing.
    ///
    /// # Errors
    /// When it can be neither opened nor made.
    pub fn record_store(&self) -> Result<FileRecordStore, AgentError> {
        Ok(FileRecordStore::open(&self.description.record)?)
    }

    /// Opens the journal and compares it with the boot record. One that does not hold is no error here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn journal(&self, loaded: &Loaded) -> Result<Journal, AgentError> {
        let anchor = match loaded {
            Loaded::Record(record) => Some(record.journal()),
            Loaded::Blank | Loaded::Corrupt => None,
        };
        Ok(Journal::open(
            &self.state("journal")?,
            anchor,
            &mut |_, _| (),
        )?)
    }

    /// Refuses what needs the agent's state, when the data partition with it could not be mounted.
    ///
    /// # Errors
    /// [`AgentError::DataVolatile`].
    pub fn need_data(&self) -> Result<(), AgentError> {
        let mark = self.beside_running("data-volatile");
        if mark.is_ok_and(|mark| files::exists(&mark).unwrap_or(false)) {
            return Err(AgentError::DataVolatile);
        }
        Ok(())
    }

    /// The set that is running, as the file of the description says.
    ///
    /// # Errors
    /// [`AgentError::RunningSetUnknown`] when it does not say a or b.
    pub fn running_set(&self) -> Result<Set, AgentError> {
        let file = &self.description.running;
        // More than one letter and the white space around it, so that what stands behind them is seen.
        let mut buffer = [0; 64];
        let text = files::read(file, &mut buffer).unwrap_or_default();
        let is_whole = text.len() < 64;
        match text.trim_ascii_end() {
            b"a" if is_whole => Ok(Set::A),
            b"b" if is_whole => Ok(Set::B),
            _ => Err(AgentError::RunningSetUnknown { file: file.clone() }),
        }
    }

    /// Whether the device stays on a set that must not boot, because its firmware or its initramfs refused the other one.
    pub fn has_stayed(&self) -> bool {
        let stayed = join::<OWN_PATH_MAX_BYTES>(&[&self.running_stem(), ".stayed"]);
        let marks = [stayed, self.beside_running(OTHER_REFUSED)];
        let is_there = |mark: &OwnPath| files::exists(mark).unwrap_or(false);
        marks.iter().flatten().any(is_there)
    }

    /// Says that the attempt of the next start was spent, durably.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn note_attempt(&self) -> Result<(), AgentError> {
        let mark = self.state(ATTEMPT)?;
        files::make_durably(&mark, &self.description.state)
            .map_err(|errno| self.unusable(&mark, "written", errno))
    }

    /// Takes that back: the next start spends one of its own.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget_attempt(&self) -> Result<(), AgentError> {
        self.take_away(&self.state(ATTEMPT)?)
    }

    /// Makes the next start of a set begin with a fresh copy of the other set's changes to `/etc`.
    ///
    /// # Errors
    /// When the file that says otherwise cannot be removed.
    pub fn renew_etc(&self, set: Set) -> Result<(), AgentError> {
        self.take_away(&self.state(set.of(["etc/a/seal", "etc/b/seal"]))?)
    }

    /// Has a set that is rebuilt go on with its own changes to `/etc`.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn keep_etc(&self, set: Set, seal: &BlobDigest) -> Result<(), AgentError> {
        let etc = self.state("etc")?;
        etc_overlay::keep(&etc, set, seal).map_err(|errno| self.unusable(&etc, "written", errno))
    }

    /// Takes back that the device stays on a set that must not boot: which set must boot has been decided anew.
    ///
    /// # Errors
    /// When the mark cannot be removed.
    pub fn forget_stayed(&self) -> Result<(), AgentError> {
        let stayed = join(&[&self.running_stem(), ".stayed"]);
        for mark in [stayed, self.beside_running(OTHER_REFUSED)] {
            let unusable = |errno| self.unusable(&self.description.running, "used", errno);
            self.take_away(&mark.map_err(unusable)?)?;
        }
        Ok(())
    }

    /// Says that the running set is well: the starts of it that were counted are forgotten.
    ///
    /// # Errors
    /// When the count cannot be removed.
    pub fn forget_starts(&self, set: Set) -> Result<(), AgentError> {
        self.take_away(&self.state(set.of(starts::NAMES))?)
    }

    /// Removes a file, durably; fine when there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn take_away(&self, file: &OwnPath) -> Result<(), AgentError> {
        let folder = file.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let removed = match unlink(file.as_str()) {
            Err(Errno::NOTDIR) => Ok(None),
            other => if_there(other),
        };
        let synced = removed.and_then(|removed| match removed {
            Some(()) => fsync(open_directory_path(folder)?),
            None => Ok(()),
        });
        synced.map_err(|errno| self.unusable(file, "removed", errno))
    }

    /// Makes the boot loader boot what rests with this record; one that waits in the other set for its trial stays next.
    ///
    /// # Errors
    /// [`AgentError::LoaderUnknown`] for one that only the full agent can tell; otherwise when its state cannot be written.
    pub fn rest_loader(&self, record: &BootRecord, facts: [SetFacts; 2]) -> Result<(), AgentError> {
        let Some(mut loader) = self.loader()? else {
            return Ok(());
        };
        // During a trial that is the other set even where the record would boot nothing.
        let other = record.trial().map(|trial| trial.set.other());
        if record.trial().is_none() {
            loader.set_next(None)?;
        }
        if let Some(set) = resting(record, facts).or(other) {
            loader.set_default(set)?;
        }
        Ok(())
    }

    /// The boot loader that must be told; `None` on a device that has none but the record.
    ///
    /// # Errors
    /// [`AgentError::LoaderUnknown`] for one that only the full agent can tell; otherwise when its state cannot be read.
    pub fn loader(&self) -> Result<Option<UefiLoader>, AgentError> {
        match self.description.loader {
            Loader::Record => Ok(None),
            Loader::SystemdBoot => Err(AgentError::LoaderUnknown),
            Loader::Uefi => {
                let (variables, partitions) = (&self.description.variables, self.partitions()?);
                Ok(Some(UefiLoader::open(variables, partitions)?))
            }
        }
    }

    fn partitions(&self) -> Result<[BootPartition; 2], StorageError> {
        let node = |set: Set| {
            let slots = self.description.sets.as_ref();
            let boot = slots.map(|[a, b]| set.of([a, b]).boot.clone());
            BootPartition::of_device(&boot.unwrap_or_default())
        };
        Ok([node(Set::A)?, node(Set::B)?])
    }

    pub(crate) fn beside_running(&self, name: &str) -> Result<OwnPath, Errno> {
        let file = &self.description.running;
        let folder = file.rsplit_once('/').map_or(".", |(folder, _)| folder);
        join(&[folder, "/", name])
    }

    /// The file that says which set runs, without the end of its name, as marks beside it are called.
    fn running_stem(&self) -> OwnPath {
        let file = &self.description.running;
        let name = file.rfind('/').map_or(0, |at| at + 1);
        let end = file.rfind('.').filter(|dot| *dot > name);
        let stem = end.and_then(|end| file.get(..end)).unwrap_or(file);
        join(&[stem]).unwrap_or_default()
    }

    pub(crate) fn unusable(&self, file: &OwnPath, done: &'static str, errno: Errno) -> AgentError {
        let file = file.clone();
        AgentError::File { file, done, errno }
    }
}

/// The record, or the error that says what to do without one.
///
/// # Errors
/// [`AgentError::RecordBlank`] or [`AgentError::RecordCorrupt`].
pub const fn need_record(loaded: &Loaded) -> Result<BootRecord, AgentError> {
    match loaded {
        Loaded::Record(record) => Ok(*record),
        Loaded::Blank => Err(AgentError::RecordBlank),
        Loaded::Corrupt => Err(AgentError::RecordCorrupt),
    }
}
