//! Small files that the initramfs and the agent leave for each other, and one run of the agent for the next.
//!
//! | file in the agent's state | says |
//! |---|---|
//! | `boot-attempt` | the attempt of the next start of the set on trial has been spent already; the initramfs removes it |
//! | `redirect` | with this write of the boot record (its sequence) the firmware was sent to another set, and the device restarted |
//! | `starts-<set>` | as long as the starts of the committed set of which nobody has said yet that they went well; the initramfs counts |
//! | `etc/<set>/seal` | the digest of the image that the set's changes to `/etc` belong to; without it the next start makes them anew |
//!
//! | file beside the one that says what runs | says |
//! |---|---|
//! | `.selected` in place of its extension | `select` was run in this boot |
//! | `data-volatile` in place of its name | the data partition could not be mounted, `/var` is memory; the initramfs makes it |
//! | `on-trial` | the running set is on trial; the initramfs makes it too, and the service that gives the verdict needs it |
//! | `start-counted` | this start was counted; the initramfs makes it, and the service that says that the system is well needs it |
//! | `.stayed` in place of its extension | the firmware refused the set that must boot, so the device stays on this one |
//!
//! # Invariants
//! - A mark in the state is there whole or not at all, and durable when the call returns; the others are gone after a restart.
//!
//! # Power loss
//! A mark that is missing costs an attempt or a restart, never a wrong choice: the boot record alone decides.

use crate::device::Device;
use crate::error::AgentError;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use twinseal_core::boot::Set;

const ATTEMPT: &str = "boot-attempt";
const REDIRECT: &str = "redirect";
const DATA_VOLATILE: &str = "data-volatile";
const ON_TRIAL: &str = "on-trial";

/// Says that the attempt of the next start was spent.
///
/// # Errors
/// When the file cannot be made durably.
pub fn note_attempt(device: &Device) -> Result<(), AgentError> {
    put(device, ATTEMPT, "spent\n")
}

/// Takes that back: the next start spends one of its own.
///
/// # Errors
/// When the file cannot be removed durably.
pub fn forget_attempt(device: &Device) -> Result<(), AgentError> {
    take_away(&device.state(ATTEMPT))
}

/// Whether the attempt of the next start was spent.
pub fn is_attempt_noted(device: &Device) -> bool {
    device.state(ATTEMPT).exists()
}

/// Says that `select` was run in this boot. The mark lies beside the file that says what runs, where a restart forgets it.
///
/// # Errors
/// When the file cannot be written.
pub fn note_selected(device: &Device) -> Result<(), AgentError> {
    let file = selected(device);
    fs::write(&file, "").map_err(|error| AgentError::File {
        file,
        done: "written",
        error,
    })
}

/// Whether `select` was run in this boot.
pub fn was_selected(device: &Device) -> bool {
    selected(device).exists()
}

/// Says that the device stays on a set that must not boot, because its firmware refused the other one in a restart. The mark lies
/// beside the file that says what runs, where a restart forgets it.
///
/// # Errors
/// When the file cannot be written.
pub fn note_stayed(device: &Device) -> Result<(), AgentError> {
    let file = stayed(device);
    fs::write(&file, "").map_err(|error| AgentError::File {
        file,
        done: "written",
        error,
    })
}

/// Takes that back: which set must boot has been decided anew.
///
/// # Errors
/// When the file cannot be removed.
pub fn forget_stayed(device: &Device) -> Result<(), AgentError> {
    take_away(&stayed(device))
}

/// Whether the device stays on a set that must not boot, because its firmware refused the other one.
pub fn has_stayed(device: &Device) -> bool {
    stayed(device).exists()
}

/// Starts of a committed set of which nobody has said that they went well.
pub fn counted_starts(device: &Device, set: Set) -> u64 {
    fs::metadata(starts(device, set)).map_or(0, |file| file.len())
}

/// Says that `set` is well: the starts that were counted are forgotten.
///
/// # Errors
/// When the count cannot be removed durably.
pub fn forget_starts(device: &Device, set: Set) -> Result<(), AgentError> {
    take_away(&starts(device, set))
}

fn starts(device: &Device, set: Set) -> PathBuf {
    device.state(set.of(["starts-a", "starts-b"]))
}

/// Whether the data partition could not be mounted at boot. What is in the agent's state then is neither what was there nor what will
/// be: nothing may be concluded from it, and nothing decided.
pub fn is_data_volatile(device: &Device) -> bool {
    device
        .description
        .running
        .with_file_name(DATA_VOLATILE)
        .exists()
}

/// Says whether the running set is on trial, for services that are about that alone.
///
/// # Errors
/// When the file cannot be made or removed.
pub fn note_on_trial(device: &Device, on_trial: bool) -> Result<(), AgentError> {
    let file = device.description.running.with_file_name(ON_TRIAL);
    if !on_trial {
        return take_away(&file);
    }
    fs::write(&file, "").map_err(|error| AgentError::File {
        file,
        done: "written",
        error,
    })
}

/// Says that the firmware was sent to another set with this write of the boot record.
///
/// # Errors
/// When the file cannot be made durably.
pub fn note_redirect(device: &Device, sequence: u64) -> Result<(), AgentError> {
    put(device, REDIRECT, &format!("{sequence}\n"))
}

/// Whether the firmware was sent to another set with this write of the boot record already.
pub fn was_redirected(device: &Device, sequence: u64) -> bool {
    fs::read_to_string(device.state(REDIRECT))
        .is_ok_and(|text| text.trim_end().parse() == Ok(sequence))
}

/// Takes that back: the set that had to boot runs, so the next loss is worth a restart of its own.
///
/// # Errors
/// When the file cannot be removed durably.
pub fn forget_redirect(device: &Device) -> Result<(), AgentError> {
    take_away(&device.state(REDIRECT))
}

/// Makes the next start of a set begin with a fresh copy of the other set's changes to `/etc`.
///
/// # Errors
/// When the file cannot be removed durably.
pub fn renew_etc(device: &Device, set: Set) -> Result<(), AgentError> {
    take_away(&device.state("etc").join(set.to_string()).join("seal"))
}

fn selected(device: &Device) -> PathBuf {
    device.description.running.with_extension("selected")
}

fn stayed(device: &Device) -> PathBuf {
    device.description.running.with_extension("stayed")
}

/// Writes a file aside and renames it, durably.
fn put(device: &Device, name: &str, text: &str) -> Result<(), AgentError> {
    let (file, new) = (device.state(name), device.state(&format!("{name}.new")));
    let written = || -> io::Result<()> {
        fs::write(&new, text)?;
        File::open(&new)?.sync_all()?;
        fs::rename(&new, &file)?;
        sync_folder_of(&file)
    };
    written().map_err(|error| AgentError::File {
        file,
        done: "written",
        error,
    })
}

fn take_away(file: &Path) -> Result<(), AgentError> {
    let removed = match fs::remove_file(file) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        other => other.and_then(|()| sync_folder_of(file)),
    };
    removed.map_err(|error| AgentError::File {
        file: file.to_path_buf(),
        done: "removed",
        error,
    })
}

fn sync_folder_of(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
