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
//! The name is the damaged object's or the whole one's. What was being written lies in `composefs/tmp`, and so does a damaged object
//! of the running set that lost its name; the next install into this set removes both.

mod bundle;
mod writable;

use crate::audit::Audit;
use crate::check::{Found, look_through, open_root};
use crate::cli::RepairArguments;
use crate::config::Sealing;
use crate::device::{Device, need_record};
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::exit;
use crate::health::running_root;
use crate::marks;
use crate::objects::{Objects, check_object};
use crate::report::{Outlet, warn};
use crate::slots::{Access, Places};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use twinseal_core::boot::Set;
use twinseal_core::journal::{Event as Noted, RepairSource};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_platform_linux::verity::enable;
use writable::Writable;

/// Where objects are until they have their name, and after they have lost it.
const ASIDE: &str = "composefs/tmp";

/// What is written aside.
const NEW_OBJECT: &str = "repaired-object";

/// Begins the name that a damaged object of the running set gets, before its digest.
const DAMAGED: &str = "damaged-";

/// `repair`: replaces what is damaged in a set; gives the exit code.
///
/// # Errors
/// When the sets cannot be opened or an object cannot be written.
pub fn repair(
    device: &Device,
    arguments: &RepairArguments,
    outlet: &mut Outlet,
) -> Result<u8, AgentError> {
    device.need_data()?;
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
    if let Some(problem) = &found.unproved {
        warn(&format!(
            "{problem} It is not repaired here: install the release again from the other set."
        ));
    }
    let damaged = found.damaged.iter().map(|(object, _)| *object).collect();
    let mut job = Job {
        device,
        places: &places,
        set,
        runs: set == running,
        damaged,
        audit: Audit::open(device, Some(&loaded)),
    };
    if let Some(image) = &found.unlisted {
        warn(&format!(
            "Image {image} is not listed among the images of set {set}. It is not repaired here: install the release again from the other set."
        ));
    }
    let repaired = replace(&mut job, arguments, outlet)?;
    let left = found.damaged.len() - repaired;
    outlet.tell(&Event::Repaired(repaired_event(set, repaired, left)));
    let well = Found {
        damaged: Vec::new(),
        ..found
    };
    let well = left == 0 && well.is_well();
    if well && repaired > 0 {
        // What was damaged may be why no start of it went well.
        marks::forget_starts(device, set)?;
    }
    Ok(if well { exit::OK } else { exit::DAMAGED })
}

/// What is being repaired.
struct Job<'j> {
    device: &'j Device,
    places: &'j Places,
    set: Set,
    /// Whether the set runs, so that what is replaced may be in use.
    runs: bool,
    damaged: Vec<BlobDigest>,
    audit: Audit,
}

/// Opens the set for writing and replaces what can be replaced; gives how many objects that were.
fn replace(
    job: &mut Job<'_>,
    arguments: &RepairArguments,
    outlet: &mut Outlet,
) -> Result<usize, AgentError> {
    if job.damaged.is_empty() {
        return Ok(0);
    }
    let (places, set) = (job.places, job.set);
    let mounted = job.runs.then(|| running_root(job.device)).flatten();
    // Before the root slot becomes writable: the kernel mounts nothing for reading that is writable at another place.
    let access = match mounted {
        Some(_) => Access::Read,
        None => Access::Write,
    };
    let opened = places.open(set, access)?;
    // A root slot that is a mounted device is opened for writing no longer than this takes.
    let writable = mounted.map(|slot| Writable::open(job.device, slot));
    let writable = writable.transpose()?;
    let root = writable.as_ref().map(Writable::root);
    match (root.or(opened.root().map(Path::new)), &arguments.source) {
        (None, _) => Ok(0),
        (Some(root), Some(source)) => {
            bundle::replace(job, root, &opened, source, arguments, outlet)
        }
        (Some(root), None) => replace_from_other_set(job, root),
    }
}

fn replace_from_other_set(job: &mut Job<'_>, root: &Path) -> Result<usize, AgentError> {
    let (_other, whole) = open_root(job.device, job.places, job.set.other())?;
    let Some(whole) = whole else { return Ok(0) };
    let mut repaired = 0;
    for object in job.damaged.clone() {
        let from = Objects::path_in(&whole, &object);
        let sealing = job.device.description.verity;
        if check_object(&from, &object, sealing).is_err() {
            let other = job.set.other();
            warn(&format!(
                "Object {object} is not whole in set {other} either."
            ));
            continue;
        }
        let copied = aside(root).and_then(|(new, mut file)| {
            io::copy(&mut File::open(&from)?, &mut file)?;
            file.sync_all()?;
            Ok(new)
        });
        job.put(root, &object, copied, RepairSource::OtherSet)?;
        repaired += 1;
    }
    Ok(repaired)
}

impl Job<'_> {
    /// Gives an object that was written aside its name. The journal is told first: an entry for a repair that did not happen is
    /// better than a repair without an entry.
    fn put(
        &mut self,
        root: &Path,
        object: &BlobDigest,
        written: io::Result<PathBuf>,
        from: RepairSource,
    ) -> Result<(), AgentError> {
        let sealing = self.device.description.verity;
        let sealed = written.and_then(|new| {
            seal(&new, object, sealing)?;
            Ok(new)
        });
        let named = sealed.and_then(|new| {
            self.audit.tell(Noted::ObjectRepaired {
                set: self.set,
                object: *object,
                from,
            });
            rename(root, &new, object, self.runs)
        });
        named.map_err(|error| AgentError::File {
            file: Objects::path_in(root, object),
            done: "replaced",
            error,
        })
    }
}

/// A new file for an object, under a name that nobody reads.
fn aside(root: &Path) -> io::Result<(PathBuf, File)> {
    let folder = root.join(ASIDE);
    fs::create_dir_all(&folder)?;
    let new = folder.join(NEW_OBJECT);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&new)?;
    Ok((new, file))
}

/// Seals what was written, and checks it. The kernel seals a file only when nobody has it open for writing.
fn seal(new: &Path, object: &BlobDigest, sealing: Sealing) -> io::Result<()> {
    if sealing == Sealing::Required {
        enable(&File::open(new)?, object.algorithm())
            .map_err(|fault| io::Error::other(format!("it could not be sealed ({fault:?})")))?;
    }
    check_object(new, object, sealing)
        .map_err(|_| io::Error::other("what was written has another digest than its name"))
}

/// Gives a new object its name. A damaged one that may be in use keeps a name: a file system with a file that is open and has no
/// name cannot be closed for writing. The next install into this set removes it.
fn rename(root: &Path, new: &Path, object: &BlobDigest, keep: bool) -> io::Result<()> {
    let name = Objects::path_in(root, object);
    if let Some(shard) = name.parent() {
        fs::create_dir_all(shard)?;
        let exchanged = keep && exchange(new, &name)?;
        if exchanged {
            fs::rename(new, root.join(ASIDE).join(format!("{DAMAGED}{object}")))?;
        } else {
            fs::rename(new, &name)?;
        }
        File::open(shard)?.sync_all()?;
    }
    Ok(rustix::fs::syncfs(File::open(root)?)?)
}

/// Exchanges the names of two files; gives whether there were two.
fn exchange(new: &Path, name: &Path) -> io::Result<bool> {
    match renameat_with(CWD, new, CWD, name, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn repaired_event(set: Set, repaired: usize, left: usize) -> events::Repaired {
    events::Repaired {
        set: set.to_string(),
        repaired: repaired as u64,
        left: left as u64,
    }
}
