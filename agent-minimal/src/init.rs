//! The steps from a kernel without a root to the sealed system, and what is done when one of them says no.
//!
//! # Invariants
//! - The order: the watchdog, the slot, the gate (an attempt is spent), the sealed root, `/var`, `/etc`, the system.
//!   From the first step on a hang of whatever comes ends in a restart.
//! - Where neither set may start, or the command line asks for it, the recovery rebuilds one before the machine restarts.
//! - Whatever happens, this process never ends: it becomes the system's first program, or the machine restarts; when that fails
//!   too, it waits for the watchdog.
//!
//! # Power loss
//! Only the gate, `/var` and `/etc` write, each in steps that the next boot takes up.

use crate::clock::{Moment, sleep};
use crate::command_line::CommandLine;
use crate::console::{say, words, words_of};
use crate::data::{self, STATE};
use crate::devices::Devices;
use crate::fallback::{self, Next};
use crate::files::{self, OwnPath};
use crate::gate::{self, Gate};
use crate::process::Process;
#[cfg(feature = "net")]
use crate::recovery;
use crate::refusal::Refusal;
use crate::{early, etc_overlay, firmware, handover, starts};
use core::fmt;
use core::time::Duration;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsmount,
};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::Loaded;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_platform_linux::calls::{fsconfig_set_string, fsopen, move_mount};
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::is_incomplete;
use twinseal_platform_linux::restart::restart;
use twinseal_platform_linux::sealed::SealedRoot;

/// What is ours is mounted below `/run`, and moves with it into the system.
const ROOT_SLOT: &str = "/run/twinseal/root-slot";
const ROOT_SLOT_FRONT: &str = "/run/twinseal/root-slot/twinseal";
const OTHER_SLOT: &str = "/run/twinseal/other-slot";
const IMAGE: &str = "/run/twinseal/image";
const RUNNING_SET: &str = "/run/twinseal/running-set";

/// There, and empty, when the set is on trial: the system then owes a verdict.
const ON_TRIAL: &str = "/run/twinseal/on-trial";

/// There, and empty, when the other set was refused before this one was started: it is no way back, and may be written.
const OTHER_REFUSED: &str = "/run/twinseal/other-refused";

const ROOT: &str = "/sysroot";

/// What a start mounts of the sets, in the order in which it is taken away.
pub const MOUNTS: [&str; 4] = [ROOT, IMAGE, ROOT_SLOT, OTHER_SLOT];

/// Where the kernel shows what it was told.
const COMMAND_LINE: &str = "/proc/cmdline";

/// Longest command line that is read: the longest of any architecture (`COMMAND_LINE_SIZE`, 4096 on s390), which is more than
/// what a UKI may have.
const COMMAND_LINE_MAX_BYTES: usize = 4096;

/// Before a restart: long enough to read the console, and for a bench to see it.
const BEFORE_RESTART: Duration = Duration::from_secs(2);

/// What is known when a refusal decides what comes next.
struct Known {
    devices: Devices<'static>,
    set: Option<Set>,
    loaded: Option<Loaded>,
}

impl Known {
    /// Looks for the disk, the data and the boot record.
    fn look(line: &CommandLine<'_>) -> Self {
        let devices = match line.recover {
            true => Devices::find().anywhere(),
            false => Devices::find(),
        };
        data::mount_data(&devices);
        let loaded = gate::read_record(STATE).unwrap_or_else(|error| {
            say(format_args!("The boot record cannot be read: {error}"));
            None
        });
        Self {
            set: devices.started_set(),
            devices,
            loaded,
        }
    }

    /// The set that a recovery rebuilds after a refusal. Of two sets that were never well it is the default one: the other may hold what
    /// went well once, and is what there is to go back to.
    fn rebuilt(&self, refusal: &Refusal) -> Option<Set> {
        match (refusal, &self.loaded) {
            (Refusal::NeverWell { .. }, Some(Loaded::Record(record))) => Some(record.default_set()),
            _ => self.set,
        }
    }
}

/// Starts the sealed system, or restarts the machine.
pub fn run(process: &dyn Process) -> ! {
    let start = Moment::now();
    early::prepare();
    let mut buffer = [0; COMMAND_LINE_MAX_BYTES];
    let line = CommandLine::parse(files::read(COMMAND_LINE, &mut buffer).unwrap_or_default());
    early::arm_watchdog(line.watchdog_seconds);
    let mut known = Known::look(&line);
    let refusal = boot(start, &line, &mut known, process);
    say(format_args!("REFUSED: {refusal}"));
    match next(&known, &refusal) {
        Next::Other(set) if firmware::boot_next(&known.devices, set) => {
            wait_and_restart("restarting, the other set is next")
        }
        Next::Trial(set) if firmware::try_next(&known.devices, set) => {
            wait_and_restart("restarting, the set on trial is next")
        }
        Next::Restart => {}
        _ if refusal.is_past_initramfs() => {}
        _ => {
            // Before it, too: the power may fail while it waits for a server, and the next start then tries the sets again.
            start_over();
            recover(&line, &known, known.rebuilt(&refusal), process);
            start_over();
        }
    }
    wait_and_restart("restarting")
}

/// Has the recovery rebuild a set.
#[cfg(feature = "net")]
fn recover(line: &CommandLine<'_>, known: &Known, refused: Option<Set>, process: &dyn Process) {
    let order = recovery::Order {
        line,
        devices: &known.devices,
        refused,
    };
    recovery::run(&order, process.memory());
}

/// This program was built without the recovery.
#[cfg(not(feature = "net"))]
const fn recover(
    _line: &CommandLine<'_>,
    _known: &Known,
    _refused: Option<Set>,
    _process: &dyn Process,
) {
}

/// Forgets why no set could start: one is rebuilt, or nothing better is left than to try both again.
fn start_over() {
    fallback::forget_refusals(STATE);
    for set in Set::BOTH {
        // One that stays costs a start of the other set, or a recovery.
        let _ = starts::forget(STATE, set);
    }
}

/// What a panic does in the first process.
pub fn refuse_fault(fault: &dyn fmt::Display) -> ! {
    say(format_args!("REFUSED: This program has a fault: {fault}"));
    wait_and_restart("restarting")
}

/// All steps behind the watchdog. Comes back only with a refusal.
fn boot(
    start: Moment,
    line: &CommandLine<'_>,
    known: &mut Known,
    process: &dyn Process,
) -> Refusal {
    if line.recover {
        return Refusal::RecoveryAsked;
    }
    match prepare_root(start, line, known) {
        Err(refusal) => refusal,
        Ok(()) => handover::start(ROOT, line.init, process),
    }
}

fn prepare_root(start: Moment, line: &CommandLine<'_>, known: &mut Known) -> Result<(), Refusal> {
    let seal = line.seal.ok_or(Refusal::NoSeal)?;
    let set = match known.set {
        Some(set) => set,
        None => {
            let preferred = gate::default_set(known.loaded.as_ref());
            known.devices.set_with_image(&seal, preferred, ROOT_SLOT)?
        }
    };
    known.set = Some(set);
    say(format_args!("set {set}, seal {}", seal.to_hex()));
    let gate = gate::pass(STATE, known.loaded.as_ref(), set)?;
    if gate.is_trial() {
        data::mark(ON_TRIAL);
    }
    match gate {
        Gate::Open => {}
        Gate::Paid => say(format_args!("set {set} is on trial")),
        Gate::Spent { left } => say(format_args!("set {set} is on trial, attempts left: {left}")),
    }
    // The starts of a trial are counted by the record.
    let counted = line.starts.filter(|_| gate == Gate::Open);
    if let Some(most) = counted {
        starts::check(STATE, set, most)?;
    }
    known.devices.mount_root_slot(set, ROOT_SLOT)?;
    if is_incomplete(ROOT_SLOT_FRONT) {
        return Err(Refusal::Incomplete { set });
    }
    mount_sealed(&seal)?;
    let time = start.elapsed();
    say(format_args!(
        "sealed root mounted in {}.{:03} s",
        time.as_secs(),
        time.subsec_millis()
    ));
    data::show_var(ROOT)?;
    prepare_etc(set, &seal);
    handover::look(ROOT, line.init)?;
    if fallback::was_refused(STATE, set.other()) {
        data::mark(OTHER_REFUSED);
    }
    fallback::forget_refusals(STATE);
    if counted.is_some() {
        starts::count(STATE, set);
    }
    if let Err(errno) = files::write(RUNNING_SET, set.of([b"a\n", b"b\n"])) {
        say(format_args!(
            "{RUNNING_SET} cannot be written: {}",
            words_of(errno)
        ));
    }
    Ok(())
}

fn mount_sealed(seal: &BlobDigest) -> Result<(), Refusal> {
    // What cannot be made shows in the mounts.
    let _ = files::make_directories(IMAGE);
    let _ = files::make_directories(ROOT);
    let root = SealedRoot {
        slot: ROOT_SLOT,
        image: IMAGE,
        target: ROOT,
    };
    root.mount(seal).map_err(Refusal::Seal)
}

fn prepare_etc(set: Set, seal: &BlobDigest) {
    let etc: Result<OwnPath, Errno> = join(&[STATE, "/etc"]);
    let prepared = etc
        .and_then(|etc| etc_overlay::generation(&etc, set, seal, &mut || Ok(())))
        .and_then(|generation| mount_etc(&generation));
    if let Err(errno) = prepared {
        say(format_args!(
            "/etc stays as it is sealed, it cannot be changed: {}",
            words_of(errno)
        ));
    }
}

/// Renames and changes of mode alone are written as whole files, for the sealed layer below is another one after an update.
fn mount_etc(generation: &etc_overlay::Generation) -> Result<(), Errno> {
    let etc: OwnPath = join(&[ROOT, "/etc"])?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "twinseal-etc")?;
    fsconfig_set_string(&context, "lowerdir+", etc.as_str())?;
    fsconfig_set_string(&context, "upperdir", generation.upper.as_str())?;
    fsconfig_set_string(&context, "workdir", generation.work.as_str())?;
    for key in ["metacopy", "redirect_dir", "index"] {
        fsconfig_set_string(&context, key, "off")?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::empty();
    let overlay = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&overlay, "", rustix::fs::CWD, etc.as_str(), flags)
}

fn next(known: &Known, refusal: &Refusal) -> Next {
    let Some(set) = known.set.filter(|_| *refusal != Refusal::RecoveryAsked) else {
        return Next::Recover;
    };
    let is_over = refusal.ends_trial();
    let next = fallback::decide(known.loaded.as_ref(), set, is_over, || {
        let mounted = known.devices.mount_root_slot(set.other(), OTHER_SLOT);
        mounted.ok()?;
        join(&[OTHER_SLOT, "/twinseal"]).ok()
    });
    fallback::try_once(next, STATE, set)
}

/// A first process that ends takes the kernel with it: when the machine does not restart, the watchdog decides.
fn wait_and_restart(sentence: &str) -> ! {
    say(format_args!("{sentence}"));
    sleep(BEFORE_RESTART);
    let fault = restart();
    say(format_args!(
        "The machine does not restart: {}. Switch it off and on.",
        words(fault)
    ));
    loop {
        sleep(Duration::from_secs(3600));
    }
}
