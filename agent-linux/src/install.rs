//! Running core's installer: from an open bundle to a complete set, or to the reason why not.
//!
//! `install`, `plan` and `device init` differ only in what they do at the plan and after the end; this is what they share.
//!
//! # Memory
//! Everything is allocated once: two buffers of 1 MiB, a few more for pieces on their way (`ahead.rs`, `overlap.rs`), the
//! front matter, and the decoders' windows. Nothing grows with the bundle.

use crate::ahead::AheadSource;
use crate::config::{Rate, Window};
use crate::crew::{Crew, with_crew};
use crate::decoder::Zstd;
use crate::device::{Device, text};
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::journal::Journal;
use crate::keeping::Keeping;
use crate::keys::{hex, id_text};
use crate::network;
use crate::overlap::overlapped;
use crate::planned;
use crate::progress::{Measured, Meter, MeteredSource, MeteredStorage};
use crate::report::{Outlet, warn};
use crate::secure_boot::{Gate, Trust};
use crate::slots::{OpenSet, Places};
use crate::source::Bundle;
use crate::source::http::Http;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use twinseal_core::boot::Set;
use twinseal_core::decode::{Inflate, RangeDecoder};
use twinseal_core::error::{Error, Misuse};
use twinseal_core::install::{Config, Installed, Installer, Plan, Workspace};
use twinseal_core::journal::{Event as Noted, Release};
use twinseal_core::source::{RunError, run};
use twinseal_core::storage::Storage;
use twinseal_core::verify::Verified;
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::{FRONT_MAX_BYTES, RANGE_MAX_BYTES};
use twinseal_platform_linux::{LinuxConfig, LinuxStorage, Verity};

/// Decoded, copied and read-back pieces: as large as a stored range, so that each is few system calls.
const OUTPUT_BYTES: usize = 1024 * 1024;

/// What is to be done.
pub struct Order<'d> {
    /// The device.
    pub device: &'d Device,
    /// The set to write.
    pub target: Set,
    /// What the device allows.
    pub policy: Policy<'d>,
    /// Most bytes that may be read from the bundle.
    pub budget: Option<u64>,
    /// Check every byte of the bundle, needed or not.
    pub audit: bool,
    /// The manifest of an install into this set that began and had no end: an audit of that release does not read again what is there.
    pub interrupted: Option<Sha256Digest>,
    /// Read every blob back.
    pub read_back: bool,
    /// Bytes a second that a plan reckons with.
    pub rate: Option<Rate>,
    /// Hours in which bundles are fetched.
    pub window: Option<Window>,
}

/// The storage of an install, in parts that must outlive it.
pub struct Target<'p> {
    /// The paths.
    pub places: &'p Places,
    /// The set that is read.
    pub running: &'p OpenSet<'p>,
    /// The set that is written.
    pub target: &'p OpenSet<'p>,
    /// Whether an image slot may hold much of its image already.
    pub probe_images: bool,
    /// What the firmware trusts, when it is asked whether it would start the UKI.
    pub firmware: Option<&'p Trust>,
    /// What both sets hold, as far as it is proved.
    pub held: Releases<'p>,
}

/// Releases that an update may start from: each proved by the front matter kept with its set, and committed there.
#[derive(Clone, Copy, Default)]
pub struct Releases<'p> {
    /// In the set to write.
    pub target: Option<&'p Verified<Manifest>>,
    /// In the set that is read.
    pub running: Option<&'p Verified<Manifest>>,
}

/// A set that is complete.
pub struct Done {
    /// The proof.
    pub installed: Installed,
    /// What was timed.
    pub measured: Measured,
    /// From the first byte of the bundle to the bootable set.
    pub total: Duration,
    /// What the bundle cost: over the network all bytes of the connections, otherwise what was read of it.
    pub source_bytes: u64,
}

/// Why an install stopped, and how far it was.
pub struct Stopped {
    /// Why.
    pub error: AgentError,
    /// SHA-256 of the manifest, when there was a verified one.
    pub manifest: Option<Box<Sha256Digest>>,
    /// What the bundle had cost, as in [`Done`].
    pub source_bytes: u64,
    /// Whether the target set may have been touched.
    pub target_touched: bool,
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

impl Stopped {
    /// Tells the journal how the attempt ended, and gives the error. The attempt has failed anyway: a journal that cannot take it
    /// is worth a warning only.
    pub fn told(self, set: Set, journal: &mut Journal) -> AgentError {
        let failed = Noted::InstallFailed {
            set,
            manifest: self.manifest.map(|manifest| *manifest),
            exit_code: self.error.code(),
            source_bytes: self.source_bytes,
            target_touched: self.target_touched,
        };
        if let Err(error) = journal.append(failed) {
            warn(&format!(
                "The end of this attempt is not in the journal: {error}"
            ));
        }
        self.error
    }
}

impl Done {
    /// Tells the journal that the set is complete.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn tell(&self, set: Set, journal: &mut Journal) -> Result<(), AgentError> {
        let tally = self.installed.tally();
        journal.append(Noted::InstallCompleted {
            set,
            manifest: *self.installed.manifest().manifest_sha256(),
            source_bytes: self.source_bytes,
            written_bytes: tally.written_bytes,
            present_bytes: tally.present_bytes,
            patch_bytes: tally.patch_bytes,
            damaged_bases: tally.damaged_bases,
        })
    }
}

/// What the caller says to a plan that fits.
pub enum Decision {
    /// Go on.
    Accept,
    /// Stop, and that is no failure.
    Decline,
}

/// The memory of an install.
struct Buffers {
    front: Vec<u8>,
    request: Vec<u8>,
    output: Vec<u8>,
    inflate: Box<Inflate>,
    zstd: Zstd,
}

impl Buffers {
    fn new() -> Result<Self, AgentError> {
        Ok(Self {
            front: vec![0; FRONT_MAX_BYTES],
            request: vec![0; RANGE_MAX_BYTES as usize],
            output: vec![0; OUTPUT_BYTES],
            inflate: Box::new(Inflate::new()),
            zstd: Zstd::new().ok_or(AgentError::NoMemory)?,
        })
    }

    /// Core's workspace, and the buffer for its requests.
    fn lend(&mut self) -> (Workspace<'_>, &mut [u8]) {
        let zstd: &mut dyn RangeDecoder = &mut self.zstd;
        let workspace = Workspace {
            front: &mut self.front,
            output: &mut self.output,
            inflate: &mut *self.inflate,
            zstd: Some(zstd),
        };
        (workspace, &mut self.request)
    }
}

/// Installs a bundle. `decide` is asked once, when the plan is known and fits room and budget; nothing has been written then.
/// Gives `None` when it declined.
///
/// # Errors
/// [`Stopped`] says why, and how far it was.
pub fn install<D>(
    order: &Order<'_>,
    bundle: &mut Bundle,
    target: &Target<'_>,
    outlet: &mut Outlet,
    decide: D,
) -> Result<Option<Done>, Stopped>
where
    D: FnMut(&Plan, &Verified<Manifest>) -> Result<Decision, AgentError>,
{
    let images = target.places.images(order.target)?;
    let scratch = order.device.state("scratch");
    let config = LinuxConfig {
        running: target.running.paths(),
        target: target.target.paths(),
        images: &images,
        scratch: text(&scratch)?,
        verity: order.device.description.verity.into(),
        probe_images: target.probe_images,
        recovers: false,
    };
    let storage = LinuxStorage::open(config).map_err(AgentError::from)?;
    let storage = Mutex::new(storage);
    with_crew(|crew| {
        overlapped(&storage, crew, |storage| {
            let mut gate = Gate::new(storage, target.firmware);
            run_installer(order, bundle, crew, &mut gate, target.held, outlet, decide)
                .map_err(|stopped| gate.explain(stopped))
        })
    })
}

/// The same into a storage of the caller's; `held` is what the sets hold whole, as far as that is proved.
///
/// # Errors
/// As [`install`].
pub fn run_installer<D, S>(
    order: &Order<'_>,
    bundle: &mut Bundle,
    crew: &Crew<'_>,
    storage: &mut S,
    held: Releases<'_>,
    outlet: &mut Outlet,
    mut decide: D,
) -> Result<Option<Done>, Stopped>
where
    S: Storage,
    D: FnMut(&Plan, &Verified<Manifest>) -> Result<Decision, AgentError>,
{
    let mut buffers = Buffers::new()?;
    let config = config(order, bundle.bytes(), bundle.can_go_back());
    let (workspace, request) = buffers.lend();
    let mut installer = Installer::new(config, workspace).map_err(AgentError::Core)?;
    if let Some(target) = held.target {
        installer.start_from(target);
    }
    if let Some(running) = held.running {
        installer.know_running(running);
    }
    if let Some(interrupted) = order.interrupted {
        installer.go_on_from(interrupted);
    }
    let start = Instant::now();
    let name = bundle.name().to_owned();
    let web = bundle.web();
    let line = web
        .as_ref()
        .map(|web| web.borrow().account().line().clone());
    let mut storage = Keeping::new(storage, line, order.device.state("scratch"));
    let meter = Meter::new(outlet);
    let mut refusal = None;
    let ended = run(
        &mut installer,
        &mut MeteredSource {
            source: &mut AheadSource::new(bundle, crew),
            meter: &meter,
        },
        &mut MeteredStorage {
            storage: &mut storage,
            meter: &meter,
        },
        request,
        |installer, plan| match at_plan(order, web.as_deref(), installer, plan, &meter, &mut decide)
        {
            Ok(go_on) => go_on,
            Err(error) => {
                refusal = Some(error);
                false
            }
        },
    );
    let measured = meter.measured();
    let source_bytes = match &web {
        Some(web) => {
            // What was wrong shall not be taken for right bytes again, and what is installed is of no more use.
            if let Ok(()) | Err(RunError::Core(Error::BundleInvalid(_))) = &ended {
                web.borrow_mut().forget();
            }
            settle(&mut web.borrow_mut())
        }
        None => installer.tally().source_bytes(),
    };
    let error = match (ended, refusal) {
        (Ok(()), _) => {
            let total = start.elapsed();
            let installed = installer.into_installed().map_err(AgentError::Core)?;
            return Ok(Some(Done {
                installed,
                measured,
                total,
                source_bytes,
            }));
        }
        (Err(RunError::Declined), None) => return Ok(None),
        (Err(_), Some(error)) => error,
        (Err(error), None) => run_error(error, name),
    };
    Err(Stopped {
        error,
        manifest: installer
            .manifest()
            .map(|manifest| Box::new(*manifest.manifest_sha256())),
        source_bytes,
        target_touched: measured.target_touched,
    })
}

/// Ends reading from a web server; gives what it cost. The install is over: a count that cannot be written is too high.
fn settle(web: &mut Http) -> u64 {
    if let Err(error) = web.settle() {
        warn(&format!(
            "What the network has cost is counted too high: {error}"
        ));
    }
    web.account_mut().line().total_bytes()
}

fn run_error(error: RunError<io::Error>, name: String) -> AgentError {
    match error {
        RunError::Core(error) => error.into(),
        RunError::Source(error) => AgentError::Source { name, error },
        RunError::Declined => AgentError::Core(Misuse::NotAccepted.into()),
    }
}

const fn config<'d>(order: &Order<'d>, source_bytes: Option<u64>, can_go_back: bool) -> Config<'d> {
    Config {
        keys: order.device.keys.as_slice(),
        policy: order.policy,
        request_max_bytes: RANGE_MAX_BYTES,
        source_bytes,
        audit: order.audit,
        read_back: order.read_back,
        budget: order.budget,
        can_go_back,
    }
}

/// Tells the plan and asks the caller. A plan that does not fit is accepted here, so that core refuses it: before the first write,
/// with its own reason, and without a word in the journal that an install began.
fn at_plan<D>(
    order: &Order<'_>,
    web: Option<&RefCell<Http>>,
    installer: &Installer<'_>,
    plan: &Plan,
    meter: &Meter<'_>,
    decide: &mut D,
) -> Result<bool, AgentError>
where
    D: FnMut(&Plan, &Verified<Manifest>) -> Result<Decision, AgentError>,
{
    let manifest = installer
        .manifest()
        .ok_or(AgentError::Core(Misuse::NotAccepted.into()))?;
    if order.device.description.sets.is_some() && manifest.value().uki().is_none() {
        return Err(AgentError::NoSystem);
    }
    let cost =
        web.map(|web| network::cost(&mut web.borrow_mut(), manifest, plan, &installer.tally()));
    let (cost, refused) = cost.map_or((None, None), |(cost, refused)| (Some(cost), refused));
    let event = planned::event(order, plan, manifest, cost);
    meter.tell(&Event::Plan(Box::new(event)));
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    if plan.check(order.budget).is_err() {
        return Ok(true);
    }
    match decide(plan, manifest)? {
        Decision::Decline => Ok(false),
        Decision::Accept => {
            if let Some(web) = web {
                web.borrow_mut().account_mut().accept();
            }
            meter.begin(plan);
            Ok(true)
        }
    }
}

/// What an install did, as an event.
pub fn installed_event(set: Set, done: &Done, trial_attempts: Option<u8>) -> Event {
    let tally = done.installed.tally();
    Event::Installed(events::Installed {
        set: set.to_string(),
        release: release_event(done.installed.manifest()),
        source_bytes: tally.source_bytes(),
        framing_bytes: tally.framing_bytes,
        index_bytes: tally.index_bytes,
        data_bytes: tally.data_bytes,
        patch_bytes: tally.patch_bytes,
        audit_bytes: tally.audit_bytes,
        written_bytes: tally.written_bytes,
        copied_bytes: tally.copied_bytes,
        present_bytes: tally.present_bytes,
        present_audited_bytes: tally.present_audited_bytes,
        read_back_bytes: tally.read_back_bytes,
        blobs: tally.blobs,
        patched_blobs: tally.patched_blobs,
        damaged_bases: tally.damaged_bases,
        damaged_blobs: tally.damaged_blobs,
        total_seconds: done.total.as_secs_f64(),
        settle_seconds: done.measured.settle.as_secs_f64(),
        read_back_seconds: done.measured.read_back.as_secs_f64(),
        peak_memory_bytes: peak_memory_bytes(),
        trial_attempts,
    })
}

/// A release, as events name it.
pub fn release_event(manifest: &Verified<Manifest>) -> events::Release {
    events::Release {
        version: manifest.value().version.as_str().to_owned(),
        anti_rollback: manifest.value().anti_rollback,
        manifest: hex(manifest.manifest_sha256()),
        signers: manifest.signers().iter().map(id_text).collect(),
    }
}

/// A release, as the journal names it.
pub fn journal_release(manifest: &Verified<Manifest>) -> Release {
    Release {
        version: manifest.value().version.clone(),
        manifest: *manifest.manifest_sha256(),
        anti_rollback: manifest.value().anti_rollback,
        signers: manifest.signers().clone(),
    }
}

/// Largest memory of this process so far: `VmHWM` of `/proc/self/status` (proc(5)).
fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes * 1024)
}

impl From<crate::config::Sealing> for Verity {
    fn from(sealing: crate::config::Sealing) -> Self {
        match sealing {
            crate::config::Sealing::Required => Self::Required,
            crate::config::Sealing::Absent => Self::Absent,
        }
    }
}
