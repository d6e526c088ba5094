//! `repair`: damaged objects of a set replaced by whole ones with the same digest.
//!
//! The one command that writes the running set; why that keeps the promise that it is never written stands in
//! `docs/decisions/0015-repair-writes-the-running-set.md`.
//!
//! # Invariants
//! - What gets an object's name has its digest: it was computed from the bytes that were written, and where objects are sealed the
//!   kernel has measured it too, before the rename.
//! - Nothing is written but objects that are damaged, one at a time, each aside first.
//!
//! # Power loss
//! The name is the damaged object's or the whole one's. What was being written lies in `composefs/tmp`; the next repair or install
//! removes it.

use crate::audit::Audit;
use crate::check::{Found, look_through};
use crate::cli::RepairArguments;
use crate::config::Sealing;
use crate::device::{Device, need_record};
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::exit;
use crate::health::running_root;
use crate::objects::{Objects, check_object};
use crate::report::{Outlet, warn};
use crate::slots::{Access, Places};
use rustix::mount::{MountFlags, mount_remount};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::Loaded;
use twinseal_core::journal::{Event as Noted, RepairSource};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_platform_linux::verity::enable;

/// What is written aside.
const NEW_OBJECT: &str = "repaired-object";

/// `repair`: replaces what is damaged in a set; gives the exit code.
///
/// # Errors
/// When the sets cannot be opened or an object cannot be written.
pub fn repair(
    device: &Device,
    arguments: &RepairArguments,
    outlet: &mut Outlet,
) -> Result<u8, AgentError> {
    let _lock = device.lock()?;
    let loaded = device.load_record()?;
    need_record(&loaded)?;
    let running = device.running_set()?;
    let set = arguments.set.map_or(running, Set::from);
    let places = Places::new(device);
    let Some(found) = look_through(device, &places, set, outlet)? else {
        outlet.tell(&Event::Repaired(repaired_event(set, 0, 0)));
        return Ok(exit::OK);
    };
    if let Some((uki, _)) = &found.uki {
        warn(&format!(
            "The UKI {uki} of set {set} is damaged. It is not replaced here: install the release again from the other set."
        ));
    }
    let repaired = replace(device, &places, set, running, &found, &loaded)?;
    let left = found.damaged.len() - repaired;
    outlet.tell(&Event::Repaired(repaired_event(set, repaired, left)));
    let well = left == 0 && found.uki.is_none();
    Ok(if well { exit::OK } else { exit::DAMAGED })
}

/// Replaces what the other set has whole; gives how many objects that were.
fn replace(
    device: &Device,
    places: &Places,
    set: Set,
    running: Set,
    found: &Found,
    loaded: &Loaded,
) -> Result<usize, AgentError> {
    if found.damaged.is_empty() {
        return Ok(0);
    }
    let (_other, whole) = crate::check::open_root(device, places, set.other())?;
    let Some(whole) = whole else { return Ok(0) };
    let mut audit = Audit::open(device, Some(loaded));
    // A root slot that is a mounted device is opened for writing no longer than this takes.
    let mounted = (set == running).then(|| running_root(device)).flatten();
    let _writable = mounted.clone().map(Writable::open).transpose()?;
    let opened = match mounted {
        Some(_) => None,
        None => Some(places.open(set, Access::Write)?),
    };
    let root = mounted.or_else(|| opened.as_ref()?.root().map(PathBuf::from));
    let Some(root) = root else { return Ok(0) };
    let mut repaired = 0;
    for (object, _) in &found.damaged {
        let from = Objects::path_in(&whole, object);
        let sealing = device.description.verity;
        if check_object(&from, object, sealing, |_| ()).is_err() {
            warn(&format!(
                "Object {object} is not whole in set {} either.",
                set.other()
            ));
            continue;
        }
        // Told first: an entry for a repair that did not happen is better than a repair without an entry.
        audit.tell(Noted::ObjectRepaired {
            set,
            object: *object,
            from: RepairSource::OtherSet,
        });
        put(&root, &from, object, sealing).map_err(|error| AgentError::File {
            file: Objects::path_in(&root, object),
            done: "replaced",
            error,
        })?;
        repaired += 1;
    }
    Ok(repaired)
}

/// Writes an object aside, seals it, checks it, and gives it its name.
fn put(root: &Path, from: &Path, object: &BlobDigest, sealing: Sealing) -> io::Result<()> {
    let folder = root.join("composefs/tmp");
    fs::create_dir_all(&folder)?;
    let new = folder.join(NEW_OBJECT);
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = File::create_new(&new)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()?;
    // The kernel seals a file only when nobody has it open for writing.
    drop(file);
    if sealing == Sealing::Required {
        enable(&File::open(&new)?, object.algorithm())
            .map_err(|fault| io::Error::other(format!("it could not be sealed ({fault:?})")))?;
    }
    check_object(&new, object, sealing, |_| ())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let name = Objects::path_in(root, object);
    if let Some(shard) = name.parent() {
        fs::create_dir_all(shard)?;
        fs::rename(&new, &name)?;
        File::open(shard)?.sync_all()?;
    }
    rustix::fs::syncfs(File::open(root)?)?;
    Ok(())
}

/// The running set's root slot, writable until this is dropped. A slot that is a folder is writable anyway.
struct Writable(Option<PathBuf>);

impl Writable {
    fn open(root: PathBuf) -> Result<Self, AgentError> {
        let read_only = rustix::fs::statvfs(&root)
            .is_ok_and(|about| about.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        if !read_only {
            return Ok(Self(None));
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        mount_remount(&root, flags, "").map_err(|errno| AgentError::File {
            file: root.clone(),
            done: "opened for writing",
            error: errno.into(),
        })?;
        Ok(Self(Some(root)))
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        let Some(root) = &self.0 else { return };
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        if let Err(errno) = mount_remount(root, flags, "") {
            warn(&format!(
                "{} stays open for writing until the next restart: {}.",
                root.display(),
                io::Error::from(errno)
            ));
        }
    }
}

fn repaired_event(set: Set, repaired: usize, left: usize) -> events::Repaired {
    events::Repaired {
        set: set.to_string(),
        repaired: repaired as u64,
        left: left as u64,
    }
}
