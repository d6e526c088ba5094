//! What a command has to tell, as values; with `--json` each is one line on standard output.
//!
//! `report` writes the same values for people, so both always say the same.
//!
//! # Invariants
//! - An event has the field `event`, its name. Fields are added, never renamed; sizes are in bytes and end in `_bytes`, times
//!   are in seconds and end in `_seconds`, digests and key ids are lower-case hex.

mod health;
mod history;

pub use health::{Check, CheckedSet, DamagedPart, Health, HealthFailure, Repaired};
pub use history::{Entry, Happened, Journal, SetAside};

use serde::Serialize;
use std::io::{self, Write};
use twinseal_core::install::{self, NoBase};

/// Anything that a command tells.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// What an install would do.
    Plan(Box<Plan>),
    /// How far an install is.
    Progress(Progress),
    /// What a bundle on a web server cost, when a `plan` or an `install` of it has ended.
    Traffic(Traffic),
    /// An install has ended well.
    Installed(Installed),
    /// A command has failed.
    Failed(Failed),
    /// A new device has been provisioned.
    Provisioned(Provisioned),
    /// `health`: one check has ended.
    Check(Check),
    /// `health`: the verdict.
    Health(Health),
    /// `check`: a set has been looked through.
    CheckedSet(CheckedSet),
    /// `repair`: what was replaced.
    Repaired(Repaired),
    /// `mark-good`: the running set is the default.
    Committed(Committed),
    /// `mark-bad`: the running set is bad.
    MarkedBad(Returning),
    /// `rollback`: the other set boots next.
    WentBack(Returning),
    /// `reboot-needed`.
    RebootNeeded(RebootNeeded),
    /// One entry of the journal.
    Entry(Entry),
    /// `history`: how the journal ends and whether it holds.
    Journal(Journal),
    /// `history --set-aside`: the journal was moved away.
    SetAside(SetAside),
    /// `select`: the set to boot.
    Selected(Selected),
    /// `status`.
    Status(Box<Status>),
}

/// What a bundle is, from its verified manifest.
#[derive(Clone, Debug, Serialize)]
pub struct Release {
    /// Version for people.
    pub version: String,
    /// Anti-rollback version.
    pub anti_rollback: u64,
    /// SHA-256 of the signed manifest.
    pub manifest: String,
    /// The trusted keys that signed it.
    pub signers: Vec<String>,
}

/// What an install would do; see [`twinseal_core::install::Plan`].
#[derive(Clone, Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are those of core's plan, which has the text"
)]
pub struct Plan {
    pub set: String,
    #[serde(flatten)]
    pub release: Release,
    pub source_bytes: u64,
    pub base: Option<String>,
    pub start: Start,
    pub bundle_bytes: u64,
    pub framing_bytes: u64,
    pub index_bytes: u64,
    pub fetch_bytes: u64,
    pub patch_bytes: u64,
    pub whole_bytes: u64,
    pub cheapest_bytes: u64,
    pub uki: Fetch,
    pub objects: Fetch,
    pub composefs: Fetch,
    pub images: Fetch,
    pub audit_bytes: u64,
    pub write_bytes: u64,
    pub copy_bytes: u64,
    pub present_bytes: u64,
    pub fetch_blobs: u32,
    pub patch_blobs: u32,
    pub copy_blobs: u32,
    pub present_blobs: u32,
    pub removed_blobs: u32,
    pub boot_slot_bytes: u64,
    pub root_slot_bytes: u64,
    pub boot_free_bytes: Option<u64>,
    pub root_free_bytes: Option<u64>,
    pub budget_bytes: Option<u64>,
    /// For a bundle on a web server.
    pub network: Option<NetworkCost>,
    /// Bytes a second that were asked about.
    pub rate: Option<u64>,
    /// For a bundle on a web server: how long an install takes at that rate, without the pauses of the link.
    pub seconds: Option<u64>,
    /// For a bundle on a web server: the hours in which bundles are fetched.
    pub hours: Option<Hours>,
}

/// What is fetched of one kind of blobs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fetch {
    /// Stored bytes of blobs that come whole.
    pub whole_bytes: u64,
    /// Stored bytes of patches.
    pub patch_bytes: u64,
}

impl From<install::Fetch> for Fetch {
    fn from(fetch: install::Fetch) -> Self {
        Self {
            whole_bytes: fetch.whole_bytes,
            patch_bytes: fetch.patch_bytes,
        }
    }
}

/// The hours in which bundles are fetched, in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct Hours {
    /// As they are written: `22:00-05:00`.
    pub hours: String,
    /// When they end, RFC 3339; `None` when they have not begun, or nobody can tell.
    pub closes: Option<String>,
    /// When they begin; `None` when they have begun, or nobody can tell.
    pub opens: Option<String>,
}

/// What an install costs on the network: bytes of the connections both ways, headers included.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NetworkCost {
    /// An install from now on, all of it, at most, as long as no connection fails. It finds the index where this run left it.
    pub install_bytes: u64,
    /// Requests that are still to come.
    pub requests: u64,
    /// What this run has cost so far.
    pub spent_bytes: u64,
    /// Of these, for the index.
    pub index_bytes: u64,
    /// What earlier installs spent on this bundle.
    pub bundle_before_bytes: u64,
    /// What the bundle's budget leaves; `None` without one.
    pub bundle_left_bytes: Option<u64>,
    /// What was spent in the calendar period before this run; `None` without a budget.
    pub period_before_bytes: Option<u64>,
    /// What the period's budget leaves.
    pub period_left_bytes: Option<u64>,
}

/// Where the release is that the route starts from, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the names are those of core's start, which has the text"
)]
pub enum Start {
    Target,
    Running,
    NoRoutes,
    NothingProved,
    NoRouteFrom,
    SetDiffers,
}

impl From<install::Start> for Start {
    fn from(start: install::Start) -> Self {
        match start {
            install::Start::Target => Self::Target,
            install::Start::Running => Self::Running,
            install::Start::Nothing(NoBase::NoRoutes) => Self::NoRoutes,
            install::Start::Nothing(NoBase::NothingProved) => Self::NothingProved,
            install::Start::Nothing(NoBase::NoRouteFrom) => Self::NoRouteFrom,
            install::Start::Nothing(NoBase::SetDiffers) => Self::SetDiffers,
        }
    }
}

/// What an install, or a look at every object, is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The target set is being made unbootable.
    Preparing,
    /// Blobs are fetched, copied, read back and published.
    Writing,
    /// Everything is brought to the medium.
    Syncing,
    /// The set is being made bootable.
    Activating,
    /// Objects are being read.
    Checking,
}

/// How far an install is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of the plan that are done: read from the bundle, or copied.
    pub done_bytes: u64,
    /// Bytes of the plan.
    pub total_bytes: u64,
    /// Read from the bundle.
    pub source_bytes: u64,
    /// Written into the target set.
    pub written_bytes: u64,
    /// Read back from the medium.
    pub read_back_bytes: u64,
}

/// What went over the network, above TCP.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Traffic {
    /// Bytes that came in, headers included.
    pub received_bytes: u64,
    /// Bytes that went out, headers included.
    pub sent_bytes: u64,
    /// Requests.
    pub requests: u32,
    /// Of these, new tries after a cut.
    pub tries: u32,
}

impl From<crate::source::http::Traffic> for Traffic {
    fn from(traffic: crate::source::http::Traffic) -> Self {
        let crate::source::http::Traffic {
            received_bytes,
            sent_bytes,
            requests,
            tries,
        } = traffic;
        Self {
            received_bytes,
            sent_bytes,
            requests,
            tries,
        }
    }
}

/// What an install did; the sizes are those of [`twinseal_core::install::Tally`].
#[derive(Clone, Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are those of core's tally, which has the text"
)]
pub struct Installed {
    pub set: String,
    #[serde(flatten)]
    pub release: Release,
    pub source_bytes: u64,
    pub framing_bytes: u64,
    pub index_bytes: u64,
    pub data_bytes: u64,
    pub patch_bytes: u64,
    pub audit_bytes: u64,
    pub written_bytes: u64,
    pub copied_bytes: u64,
    pub present_bytes: u64,
    pub present_audited_bytes: u64,
    pub read_back_bytes: u64,
    pub blobs: u32,
    pub patched_blobs: u32,
    pub damaged_bases: u32,
    pub damaged_blobs: u32,
    /// From the first byte of the bundle to the bootable set.
    pub total_seconds: f64,
    /// Of these, bringing blobs to the medium.
    pub settle_seconds: f64,
    /// Of these, reading back and comparing.
    pub read_back_seconds: f64,
    /// Largest memory of the process so far (`VmHWM`).
    pub peak_memory_bytes: Option<u64>,
    /// Attempts of the trial that was armed; `None` when none was.
    pub trial_attempts: Option<u8>,
}

/// A command has failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// The exit code.
    pub exit_code: u8,
    /// Its short name.
    pub name: &'static str,
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub help: Option<String>,
}

/// A new device has been provisioned.
#[derive(Clone, Debug, Serialize)]
pub struct Provisioned {
    /// The default set.
    pub set: String,
    /// What it holds.
    #[serde(flatten)]
    pub release: Release,
    /// The anti-rollback floor.
    pub floor: u64,
}

/// The running set is the default.
#[derive(Clone, Debug, Serialize)]
pub struct Committed {
    /// The set.
    pub set: String,
    /// The anti-rollback floor.
    pub floor: u64,
    /// Whether anything changed.
    pub changed: bool,
}

/// The device goes back to another set.
#[derive(Clone, Debug, Serialize)]
pub struct Returning {
    /// The running set.
    pub set: String,
    /// The set that boots next.
    pub next: String,
    /// Whether anything changed.
    pub changed: bool,
}

/// Whether a restart would boot another set.
#[derive(Clone, Debug, Serialize)]
pub struct RebootNeeded {
    /// The answer.
    pub needed: bool,
    /// The running set.
    pub running: String,
    /// What a restart would boot; `None` for nothing.
    pub next: Option<String>,
    /// Whether the running set is on trial.
    pub on_trial: bool,
    /// Whether the device stays on the running set because the firmware refused the one that must boot.
    pub stays: bool,
}

/// The set to boot.
#[derive(Clone, Debug, Serialize)]
pub struct Selected {
    /// The set.
    pub set: String,
    /// Why: the short name of the row in the table of boot states; "data-volatile" when the data partition could not be mounted and
    /// nothing was chosen.
    pub reason: &'static str,
    /// Attempts that the trial has left.
    pub attempts_left: u8,
    /// The set that runs, where the firmware chooses; `None` before the jump.
    pub running: Option<String>,
    /// Whether the device must restart to boot it: it was told to the firmware.
    pub restart: bool,
}

/// The state of the device.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Device type.
    pub compatible: String,
    /// The keys that this device trusts.
    pub trusted_keys: Vec<String>,
    /// The running set; `None` when nobody said.
    pub running: Option<String>,
    /// Whether the data partition could not be mounted: then the agent's state, the boot record in it, is not the device's own.
    pub data_volatile: bool,
    /// "sealed", "not sealed", or "no root slots".
    pub verity: &'static str,
    /// "record", "blank", "corrupt" or "unreadable".
    pub boot_record: &'static str,
    /// The set that boots when nothing is on trial.
    pub default: Option<String>,
    /// The trial.
    pub trial: Option<Trial>,
    /// Whether the firmware checks signatures; `None` when it does not say.
    pub secure_boot: Option<bool>,
    /// The boot loader; `None` where the boot record alone decides.
    pub loader: Option<LoaderStatus>,
    /// The anti-rollback floor.
    pub floor: Option<u64>,
    /// Highest time ever seen, RFC 3339.
    pub highest_time: Option<String>,
    /// Both sets.
    pub sets: Vec<SetStatus>,
    /// The journal.
    pub journal: Journal,
    /// Whether a restart would boot another set; `None` when it cannot be told.
    pub reboot_needed: Option<bool>,
    /// Whether another process is at work on the device.
    pub busy: bool,
}

/// What the boot loader says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoaderStatus {
    /// The set that it boots when nothing was told for the next boot.
    pub default: Option<String>,
    /// The set that it boots next and only once.
    pub next: Option<String>,
    /// Whether that is what the boot record says; `None` when it cannot be told.
    pub agrees: Option<bool>,
    /// Why it cannot be asked.
    pub problem: Option<String>,
}

/// A set on trial.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The set.
    pub set: String,
    /// Boots that are left.
    pub attempts_left: u8,
    /// The floor after a commit.
    pub anti_rollback: u64,
}

/// What a set holds.
#[derive(Clone, Debug, Serialize)]
pub struct SetStatus {
    /// The set.
    pub set: String,
    /// Whether it is complete.
    pub bootable: bool,
    /// Whether a trial of it failed or it was marked bad.
    pub marked_bad: bool,
    /// Starts of it of which nobody has said that they went well; counted where the UKI's command line asks for it.
    pub counted_starts: u64,
    /// What it holds, proved anew by its signatures.
    pub release: Option<Release>,
    /// Why what it holds cannot be proved; `None` when it is, or when it holds nothing.
    pub problem: Option<String>,
}

/// Writes events as JSON, one object a line; thins out the progress to one line a percent.
pub struct Json {
    out: Box<dyn Write>,
    last: Option<(Phase, u64)>,
}

impl Json {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write>) -> Self {
        Self { out, last: None }
    }

    /// Writes one event.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn tell(&mut self, event: &Event) -> io::Result<()> {
        if let Event::Progress(progress) = event {
            let step = Some((progress.phase, progress.percent()));
            if self.last == step {
                return Ok(());
            }
            self.last = step;
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

impl Progress {
    /// How much is done, in percent.
    pub const fn percent(&self) -> u64 {
        match self
            .done_bytes
            .saturating_mul(100)
            .checked_div(self.total_bytes)
        {
            Some(percent) if percent < 100 => percent,
            _ => 100,
        }
    }
}
