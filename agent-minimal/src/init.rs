//! The steps from a kernel without a root to the sealed system, and what is done when one of them says no.
//!
//! # Invariants
//! - The order: the watchdog, the slot, the gate (an attempt is spent), the sealed root, `/var`, `/etc`, the system.
//!   From the first step on a hang of whatever comes ends in a restart.
//! - Whatever happens, this process never ends: it becomes the system's first program, or the machine restarts; when that fails
//!   too, it waits for the watchdog.
//!
//! # Power loss
//! Only the gate, `/var` and `/etc` write, each in steps that the next boot takes up.

use crate::command_line::CommandLine;
use crate::console::{say, words};
use crate::data::{self, DATA};
use crate::devices::Devices;
use crate::fallback::{self, Next};
use crate::gate::{self, Gate};
use crate::refusal::Refusal;
use crate::{early, etc_overlay, firmware, handover};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::Loaded;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_platform_linux::restart::restart;
use twinseal_platform_linux::sealed::SealedRoot;

/// What is ours is mounted below `/run`, and moves with it into the system.
const ROOT_SLOT: &str = "/run/twinseal/root-slot";
const OTHER_SLOT: &str = "/run/twinseal/other-slot";
const IMAGE: &str = "/run/twinseal/image";
const RUNNING_SET: &str = "/run/twinseal/running-set";

/// There, and empty, when the set is on trial: the system then owes a verdict.
const ON_TRIAL: &str = "/run/twinseal/on-trial";

const ROOT: &str = "/sysroot";

/// The agent's state on the data partition.
const STATE: &str = "var/lib/twinseal";

/// Before a restart: long enough to read the console, and for a bench to see it.
const BEFORE_RESTART: Duration = Duration::from_secs(2);

/// What is known when a refusal decides what comes next.
struct Known {
    devices: Devices<'static>,
    set: Option<Set>,
    loaded: Option<Loaded>,
}

/// Starts the sealed system, or restarts the machine.
pub fn run() -> ! {
    let start = Instant::now();
    std::panic::set_hook(Box::new(|fault| {
        say(format_args!("REFUSED: This program has a fault: {fault}"));
        wait_and_restart("restarting");
    }));
    early::prepare();
    let line = CommandLine::parse(&fs::read("/proc/cmdline").unwrap_or_default());
    early::arm_watchdog(line.watchdog_seconds);
    let mut known = Known {
        devices: Devices::find(),
        set: None,
        loaded: None,
    };
    let refusal = boot(start, &line, &mut known);
    say(format_args!("REFUSED: {refusal}"));
    match next(&known, &refusal) {
        Next::Other(set) if firmware::boot_next(&known.devices, set) => {
            wait_and_restart("restarting, the other set is next")
        }
        _ => wait_and_restart("restarting"),
    }
}

/// All steps behind the watchdog. Comes back only with a refusal.
fn boot(start: Instant, line: &CommandLine, known: &mut Known) -> Refusal {
    match prepare_root(start, line, known) {
        Err(refusal) => refusal,
        Ok(()) => {
            let arguments = std::env::args_os().skip(1).collect();
            handover::start(Path::new(ROOT), &line.init, arguments)
        }
    }
}

fn prepare_root(start: Instant, line: &CommandLine, known: &mut Known) -> Result<(), Refusal> {
    let seal = line.seal.ok_or(Refusal::NoSeal)?;
    let state = Path::new(DATA).join(STATE);
    data::mount_data(&known.devices);
    known.loaded = gate::read_record(&state).unwrap_or_else(|error| {
        say(format_args!("The boot record cannot be read: {error}"));
        None
    });
    let devices = &known.devices;
    let set = match devices.started_set() {
        Some(set) => set,
        None => devices.set_with_image(&seal, default_set(known), Path::new(ROOT_SLOT))?,
    };
    known.set = Some(set);
    say(format_args!("set {set}, seal {}", seal.to_hex()));
    let gate = gate::pass(&state, known.loaded.as_ref(), set)?;
    if gate.is_trial() {
        data::mark(ON_TRIAL);
    }
    match gate {
        Gate::Open => {}
        Gate::Paid => say(format_args!("set {set} is on trial")),
        Gate::Spent { left } => say(format_args!("set {set} is on trial, attempts left: {left}")),
    }
    known.devices.mount_root_slot(set, Path::new(ROOT_SLOT))?;
    mount_sealed(&seal)?;
    let seconds = start.elapsed().as_secs_f64();
    say(format_args!("sealed root mounted in {seconds:.3} s"));
    data::show_var(Path::new(ROOT))?;
    prepare_etc(&state.join("etc"), set, &seal);
    if let Err(error) = fs::write(RUNNING_SET, format!("{set}\n")) {
        say(format_args!("{RUNNING_SET} cannot be written: {error}"));
    }
    Ok(())
}

/// The set that the record calls the default, for when nobody says which one this is.
fn default_set(known: &Known) -> Set {
    match &known.loaded {
        Some(Loaded::Record(record)) => record.default_set(),
        _ => Set::A,
    }
}

fn mount_sealed(seal: &BlobDigest) -> Result<(), Refusal> {
    // What cannot be made shows in the mounts.
    let _ = fs::create_dir_all(IMAGE);
    let _ = fs::create_dir_all(ROOT);
    let root = SealedRoot {
        slot: ROOT_SLOT,
        image: IMAGE,
        target: ROOT,
    };
    root.mount(seal)
        .map_err(|refused| Refusal::Seal(Box::new(refused)))
}

fn prepare_etc(etc: &Path, set: Set, seal: &BlobDigest) {
    let prepared = etc_overlay::generation(etc, set, seal, &mut || Ok(()))
        .and_then(|generation| Ok(mount_etc(&generation)?));
    if let Err(error) = prepared {
        say(format_args!(
            "/etc stays as it is sealed, it cannot be changed: {error}"
        ));
    }
}

/// Renames and changes of mode alone are written as whole files, for the sealed layer below is another one after an update.
fn mount_etc(generation: &etc_overlay::Generation) -> Result<(), Errno> {
    let etc: PathBuf = Path::new(ROOT).join("etc");
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "twinseal-etc")?;
    fsconfig_set_string(&context, "lowerdir+", &etc)?;
    fsconfig_set_string(&context, "upperdir", &generation.upper)?;
    fsconfig_set_string(&context, "workdir", &generation.work)?;
    for key in ["metacopy", "redirect_dir", "index"] {
        fsconfig_set_string(&context, key, "off")?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::empty();
    let overlay = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&overlay, "", rustix::fs::CWD, &etc, flags)
}

fn next(known: &Known, refusal: &Refusal) -> Next {
    let Some(set) = known.set else {
        return Next::Restart;
    };
    let is_over = refusal.ends_trial();
    fallback::decide(known.loaded.as_ref(), set, is_over, || {
        let slot = Path::new(OTHER_SLOT);
        known.devices.mount_root_slot(set.other(), slot).ok()?;
        Some(format!("{OTHER_SLOT}/twinseal"))
    })
}

/// A first process that ends takes the kernel with it: when the machine does not restart, the watchdog decides.
fn wait_and_restart(sentence: &str) -> ! {
    say(format_args!("{sentence}"));
    std::thread::sleep(BEFORE_RESTART);
    let fault = restart();
    say(format_args!(
        "The machine does not restart: {}. Switch it off and on.",
        words(fault)
    ));
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
