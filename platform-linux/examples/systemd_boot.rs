//! Tells systemd-boot what to boot, by hand, the way an agent does: for a test rack, and to look at a device.
//!
//! ```text
//! systemd_boot DEVICE-A FOLDER-A DEVICE-B FOLDER-B show
//! systemd_boot DEVICE-A FOLDER-A DEVICE-B FOLDER-B default a|b
//! systemd_boot DEVICE-A FOLDER-A DEVICE-B FOLDER-B next a|b|none
//! ```
//! DEVICE is the partition of a boot slot, FOLDER is where it is mounted. There is no boot record here: who uses this on a device
//! with an agent is told otherwise by the next `twinseal select`.

use std::process::ExitCode;
use twinseal_core::boot::Set;
use twinseal_core::error::StorageError;
use twinseal_platform_linux::efivars::Variables;
use twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, SystemdBootLoader};

const USAGE: &str = "DEVICE-A FOLDER-A DEVICE-B FOLDER-B (show | default a|b | next a|b|none)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [device_a, folder_a, device_b, folder_b, command @ ..] = words.as_slice() else {
        return fail(USAGE);
    };
    let done = loader([device_a, device_b], [folder_a, folder_b])
        .map_err(|error| error.to_string())
        .and_then(|mut loader| run(&mut loader, command));
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => fail(&text),
    }
}

fn loader(devices: [&str; 2], folders: [&str; 2]) -> Result<SystemdBootLoader, StorageError> {
    let [a, b] = devices.map(BootPartition::of_device);
    SystemdBootLoader::open(VARIABLES_FOLDER, [a?, b?], folders)
}

fn run(loader: &mut SystemdBootLoader, command: &[&str]) -> Result<String, String> {
    let wrote = match command {
        ["show"] => return show(loader).map_err(|error| error.to_string()),
        ["default", set] => loader.set_default(set_of(set)?),
        ["next", "none"] => loader.set_next(None),
        ["next", set] => loader.set_next(Some(set_of(set)?)),
        _ => return Err(USAGE.into()),
    };
    let wrote = wrote.map_err(|error| error.to_string())?;
    let what = if wrote { "told" } else { "so already" };
    Ok(format!("{} {what}", command.join(" ")))
}

fn show(loader: &mut SystemdBootLoader) -> Result<String, StorageError> {
    let ran = SystemdBootLoader::ran_in_this_boot(&Variables::open(VARIABLES_FOLDER)?)?;
    let name = |set: Option<Set>| set.map_or("none".into(), |set| set.to_string());
    Ok(format!(
        "default {} next {} systemd-boot {}",
        name(loader.default_set()?),
        name(loader.next_set()?),
        if ran { "ran" } else { "did not run" }
    ))
}

fn set_of(word: &str) -> Result<Set, String> {
    match word {
        "a" => Ok(Set::A),
        "b" => Ok(Set::B),
        _ => Err(format!("there is no set {word}; write a or b")),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("systemd_boot: {text}");
    ExitCode::FAILURE
}
