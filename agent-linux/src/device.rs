//! The device as the commands see it: its description, its keys, its boot record, its lock, its running set.
//!
//! # Invariants
//! - Whoever changes anything holds the lock; whoever only looks does not need it.
//! - Looking makes no file: a record or a journal that is not there is blank or empty.
//!
//! # Power loss
//! The boot record is one value or another at any time (`twinseal_core::boot::record`). The file that says which set is running
//! is made by a rename, and lies where a restart forgets it.

use crate::clock;
use crate::config::{self, Description, KEYS_FOLDER};
use crate::error::{AgentError, RunningSetProblem};
use crate::journal::Journal;
use crate::keys;
use crate::labels;
use crate::loader::Follower;
use crate::marks;
use crate::restart::restart;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::journal::Head;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_platform_linux::{DeviceLock, FileRecordStore};

/// A device.
pub struct Device {
    /// What it is and where its slots are.
    pub description: Description,
    /// The keys that it trusts.
    pub keys: Vec<TrustedKey>,
    /// Makes its boot loader follow the boot record.
    pub loader: Follower,
    /// Restarts it.
    pub restart: fn() -> Result<(), AgentError>,
}

impl Device {
    /// Reads the description and the keys.
    ///
    /// # Errors
    /// When one of them is missing or wrong.
    pub fn open(named: Option<&Path>) -> Result<Self, AgentError> {
        let mut description = Description::read(&config::file(named))?;
        labels::resolve(&mut description);
        let keys = keys::load(description.trusted_keys.as_deref(), Path::new(KEYS_FOLDER))?;
        Ok(Self::new(description, keys))
    }

    /// Reads the description, and as many of the keys as there are: at boot a missing key must not keep a device from starting.
    ///
    /// # Errors
    /// When the description is missing or wrong.
    pub fn open_for_boot(named: Option<&Path>) -> Result<(Self, Option<AgentError>), AgentError> {
        let mut description = Description::read(&config::file(named))?;
        labels::resolve(&mut description);
        let (keys, problem) =
            match keys::load(description.trusted_keys.as_deref(), Path::new(KEYS_FOLDER)) {
                Ok(keys) => (keys, None),
                Err(problem) => (Vec::new(), Some(problem)),
            };
        Ok((Self::new(description, keys), problem))
    }

    fn new(description: Description, keys: Vec<TrustedKey>) -> Self {
        Self {
            loader: Follower::new(&description),
            restart,
            description,
            keys,
        }
    }

    /// Takes the lock; it is given back when the value is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// `Busy` when another process holds it.
    pub fn lock(&self) -> Result<DeviceLock, AgentError> {
        self.ensure_state()?;
        Ok(DeviceLock::acquire(text(&self.state("lock"))?)?)
    }

    /// Whether another process holds the lock, as `/proc/locks` (proc(5)) says: taking it to find out would be in the way of a
    /// command that needs it just then.
    pub fn is_busy(&self) -> bool {
        let (Ok(about), Ok(locks)) = (
            fs::metadata(self.state("lock")),
            fs::read_to_string("/proc/locks"),
        ) else {
            return false;
        };
        let (major, minor) = (
            rustix::fs::major(about.dev()),
            rustix::fs::minor(about.dev()),
        );
        let place = format!("{major:02x}:{minor:02x}:{}", about.ino());
        locks
            .lines()
            .any(|line| line.contains("FLOCK") && line.split_whitespace().any(|word| word == place))
    }

    /// A file or folder in the agent's state.
    pub fn state(&self, name: &str) -> PathBuf {
        self.description.state.join(name)
    }

    /// The journal's file.
    pub fn journal_file(&self) -> PathBuf {
        self.state("journal")
    }

    /// The device's clock.
    pub fn now(&self) -> Option<u64> {
        clock::now(self.description.clock)
    }

    /// The latest time that is known: the clock's, or the highest that was ever seen.
    ///
    /// # Errors
    /// When the boot record cannot be read.
    pub fn latest_time(&self) -> Result<Option<u64>, AgentError> {
        let seen = match self.load_record()? {
            Loaded::Record(record) => Some(record.highest_time()),
            Loaded::Blank | Loaded::Corrupt => None,
        };
        Ok(self.now().max(seen))
    }

    /// Reads the boot record without making it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load_record(&self) -> Result<Loaded, AgentError> {
        if !self.description.record.exists() {
            return Ok(Loaded::Blank);
        }
        Ok(record::load(&mut self.record_store()?)?)
    }

    /// Opens the boot record for writing.
    ///
    /// # Errors
    /// When it can be neither opened nor made.
    pub fn record_store(&self) -> Result<FileRecordStore, AgentError> {
        Ok(FileRecordStore::open(text(&self.description.record)?)?)
    }

    /// Opens the journal and compares it with the boot record.
    ///
    /// # Errors
    /// When it cannot be read; a journal that does not hold is no error here.
    pub fn journal(&self, loaded: Option<&Loaded>) -> Result<Journal, AgentError> {
        Journal::open(
            &self.journal_file(),
            anchor(loaded),
            self.description.clock,
            |_, _| (),
        )
    }

    /// Refuses what needs the agent's state, when the data partition with it could not be mounted.
    ///
    /// # Errors
    /// [`AgentError::DataVolatile`].
    pub fn need_data(&self) -> Result<(), AgentError> {
        if marks::is_data_volatile(self) {
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
        let unknown = |problem| AgentError::RunningSetUnknown {
            file: file.clone(),
            problem,
        };
        let says = fs::read_to_string(file)
            .map_err(|error| unknown(RunningSetProblem::Unreadable(error)))?;
        match says.trim_ascii_end() {
            "a" => Ok(Set::A),
            "b" => Ok(Set::B),
            _ => Err(unknown(RunningSetProblem::Content)),
        }
    }

    /// Writes the file that says which set is running.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_running_set(&self, set: Set) -> Result<(), AgentError> {
        let file = &self.description.running;
        let written = || -> io::Result<()> {
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            let new = file.with_extension("new");
            fs::write(&new, format!("{set}\n"))?;
            fs::rename(new, file)
        };
        written().map_err(|error| AgentError::File {
            file: file.clone(),
            done: "written",
            error,
        })
    }

    fn ensure_state(&self) -> Result<(), AgentError> {
        let file = &self.description.state;
        fs::create_dir_all(file).map_err(|error| AgentError::File {
            file: file.clone(),
            done: "made",
            error,
        })
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

/// Where the journal stood when the record was written, if there is one.
pub fn anchor(loaded: Option<&Loaded>) -> Option<Head> {
    match loaded {
        Some(Loaded::Record(record)) => Some(record.journal()),
        _ => None,
    }
}

/// A path as the platform takes it.
///
/// # Errors
/// [`AgentError::NotText`] for a path that is not UTF-8.
pub fn text(path: &Path) -> Result<&str, AgentError> {
    path.to_str().ok_or_else(|| AgentError::NotText {
        path: path.to_path_buf(),
    })
}
