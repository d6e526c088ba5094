//! Running core's installer: from an open bundle to a complete set, or to the reason why not.
//!
//! The command `install` and a recovery differ in where the bundle comes from, which set is written and what they do at the plan and
//! after the end; this is what they share.
//!
//! # Invariants
//! - Nothing is written before core has verified the bundle and the caller has accepted the plan.
//! - All memory is the caller's [`Memory`], and of the stack no more than [`STACK_BYTES`](crate::memory::STACK_BYTES).

use crate::bundle::{Bundle, SourceProblem};
use crate::error::AgentError;
use crate::memory::Memory;
use core::cell::RefCell;
use twinseal_core::boot::Set;
use twinseal_core::error::Misuse;
use twinseal_core::install::{Config, Installed, Installer, Plan, Workspace};
use twinseal_core::journal::Event;
use twinseal_core::source::{RunError, Source, SourceError, run};
use twinseal_core::storage::Storage;
use twinseal_core::verify::Verified;
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::wire::RANGE_MAX_BYTES;
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::manifest::Manifest;

/// What is to be done.
#[derive(Clone, Copy)]
pub struct Order<'o> {
    /// Keys that the device trusts for releases.
    pub keys: &'o [TrustedKey],
    /// What the device allows.
    pub policy: Policy<'o>,
    /// Whether the device boots a UKI from each set, so that a bundle without one is of no use.
    pub needs_system: bool,
    /// What the sets hold, as far as it is proved.
    pub held: Releases<'o>,
    /// The manifest of an install into this set that began and had no end: an audit of that release does not read again what is there.
    pub interrupted: Option<Sha256Digest>,
}

/// Releases that an update may start from: each proved by the front matter kept with its set, and committed there.
#[derive(Clone, Copy, Default)]
pub struct Releases<'o> {
    /// In the set to write.
    pub target: Option<&'o Verified<Manifest>>,
    /// In the set that is read.
    pub running: Option<&'o Verified<Manifest>>,
}

/// Who decides about an install, and hears how far it is.
pub trait Watcher {
    /// Asked once, when the plan is known; nothing has been written then. `false` ends the install, and that is no failure. A plan that
    /// does not fit the device's room is refused right after.
    ///
    /// # Errors
    /// Whatever keeps the caller from going on; the install stops with it.
    fn decide(&mut self, plan: &Plan, manifest: &Verified<Manifest>) -> Result<bool, AgentError>;

    /// Told before each read: bytes of the bundle up to here have been read or passed.
    fn progress(&mut self, _position: u64) {}
}

/// Why an install stopped, and how far it was.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Why.
    pub error: AgentError,
    /// SHA-256 of the manifest, when there was a verified one.
    pub manifest: Option<Sha256Digest>,
    /// Bytes that had come from the bundle.
    pub source_bytes: u64,
    /// Whether the target set may have been touched.
    pub target_touched: bool,
}

impl Stopped {
    /// A stop after the set was complete.
    #[must_use]
    pub fn at_end(error: AgentError, installed: &Installed) -> Self {
        Self {
            error,
            manifest: Some(*installed.manifest().manifest_sha256()),
            source_bytes: installed.tally().source_bytes(),
            target_touched: true,
        }
    }

    /// What the journal is told of it.
    #[must_use]
    pub const fn event(&self, set: Set) -> Event {
        Event::InstallFailed {
            set,
            manifest: self.manifest,
            exit_code: self.error.code(),
            source_bytes: self.source_bytes,
            target_touched: self.target_touched,
        }
    }
}

impl From<AgentError> for Stopped {
    /// A stop before anything was read.
    fn from(error: AgentError) -> Self {
        Self {
            error,
            manifest: None,
            source_bytes: 0,
            target_touched: false,
        }
    }
}

/// Installs a bundle into the target set of `storage`, which is bootable then; `name` is what the bundle is called in an error.
/// Everything is audited where that costs nothing, and every blob is read back. Gives `None` when the watcher declined.
///
/// # Errors
/// [`Stopped`] says why, and how far it was.
pub fn into_set<S: Storage>(
    order: &Order<'_>,
    name: &str,
    bundle: &mut dyn Bundle,
    storage: &mut S,
    memory: &mut Memory,
    watcher: &mut dyn Watcher,
) -> Result<Option<Installed>, Stopped> {
    let workspace = Workspace {
        front: &mut memory.front,
        output: &mut memory.output,
        inflate: &mut memory.inflate,
        zstd: Some(&mut memory.zstd),
    };
    let config = config(order, bundle);
    // Used where it is: each move of it would be another copy on the stack.
    let mut made = Installer::new(config, workspace);
    let installer = made.as_mut().map_err(|error| AgentError::Core(*error))?;
    if let Some(target) = order.held.target {
        installer.start_from(target);
    }
    if let Some(running) = order.held.running {
        installer.know_running(running);
    }
    if let Some(interrupted) = order.interrupted {
        installer.go_on_from(interrupted);
    }
    let watched = RefCell::new(Watched {
        watcher,
        refusal: None,
        accepted: false,
    });
    let mut source = WatchedSource {
        bundle,
        watched: &watched,
    };
    let ended = run(
        installer,
        &mut source,
        storage,
        &mut memory.request,
        |installer, plan| watched.borrow_mut().at_plan(order, installer, plan),
    );
    let watched = watched.into_inner();
    let error = match (ended, watched.refusal) {
        (Ok(()), _) => {
            let installed = made.and_then(Installer::into_installed);
            return Ok(Some(installed.map_err(AgentError::Core)?));
        }
        (Err(RunError::Declined), None) => return Ok(None),
        (Err(_), Some(error)) => error,
        (Err(error), None) => run_error(error, name),
    };
    let manifest = installer.manifest();
    Err(Stopped {
        error,
        manifest: manifest.map(|manifest| *manifest.manifest_sha256()),
        source_bytes: installer.tally().source_bytes(),
        target_touched: watched.accepted,
    })
}

fn config<'o>(order: &Order<'o>, bundle: &dyn Bundle) -> Config<'o> {
    Config {
        keys: order.keys,
        policy: order.policy,
        request_max_bytes: RANGE_MAX_BYTES,
        source_bytes: bundle.bytes(),
        audit: bundle.is_free_to_read(),
        read_back: true,
        budget: None,
        can_go_back: bundle.can_go_back(),
    }
}

fn run_error(error: RunError<SourceProblem>, name: &str) -> AgentError {
    match error {
        RunError::Core(error) => error.into(),
        RunError::Source(problem) => AgentError::source(name, problem),
        RunError::Declined => AgentError::Core(Misuse::NotAccepted.into()),
    }
}

/// The watcher, and what it said.
struct Watched<'w> {
    watcher: &'w mut dyn Watcher,
    refusal: Option<AgentError>,
    accepted: bool,
}

impl Watched<'_> {
    /// A plan that does not fit is accepted here, so that core refuses it: before the first write, with its own reason, and without a
    /// word to the watcher.
    fn at_plan(&mut self, order: &Order<'_>, installer: &Installer<'_>, plan: &Plan) -> bool {
        let decided = match installer.manifest() {
            None => Err(AgentError::Core(Misuse::NotAccepted.into())),
            Some(manifest) if order.needs_system && manifest.value().uki().is_none() => {
                Err(AgentError::NoSystem)
            }
            Some(_) if plan.check(None).is_err() => return true,
            Some(manifest) => self.watcher.decide(plan, manifest),
        };
        match decided {
            Ok(accepted) => {
                self.accepted = accepted;
                accepted
            }
            Err(error) => {
                self.refusal = Some(error);
                false
            }
        }
    }
}

/// A bundle whose reads the watcher hears of.
struct WatchedSource<'b, 'w> {
    bundle: &'b mut dyn Bundle,
    watched: &'b RefCell<Watched<'w>>,
}

impl Source for WatchedSource<'_, '_> {
    type Error = SourceProblem;

    fn read_at(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), SourceError<SourceProblem>> {
        self.watched.borrow_mut().watcher.progress(offset);
        self.bundle.read_at(offset, buffer)
    }

    fn gives_twice(&self) -> bool {
        self.bundle.gives_twice()
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<SourceProblem>> {
        self.bundle.ends_at(offset)
    }
}
