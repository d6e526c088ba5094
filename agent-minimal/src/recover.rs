//! The command `recover`: the newest bundle on any medium at hand, into the set that is not running.
//!
//! # Power loss
//! That of an install ([`crate::update`]); looking for a bundle writes nothing.

use crate::console::Stream;
use crate::device::{Device, need_record};
use crate::error::AgentError;
use crate::files::{self, OwnPath};
use crate::media::Search;
use crate::memory::Memory;
use crate::update;
use twinseal_core::verify::policy::Policy;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::partition::BlockDevices;

/// Where a medium is mounted, beside the file that says which set runs.
const MEDIUM: &str = "medium";

/// `recover`: installs the newest bundle of all media and arms its trial.
///
/// # Errors
/// [`AgentError::NoMedium`] when no medium has a bundle for this device; otherwise why the install was refused or failed.
pub fn recover(device: &Device, memory: &mut Memory) -> Result<(), AgentError> {
    device.need_data()?;
    let record = need_record(&device.load_record()?)?;
    let folder = device.beside_running(MEDIUM).unwrap_or_default();
    files::make_directories(&folder).map_err(|errno| device.unusable(&folder, "made", errno))?;
    let search = Search {
        keys: &device.keys,
        policy: Policy {
            compatible: device.description.compatible.as_str(),
            floor: record.floor(),
            now: device.now(),
            highest_time_seen: record.highest_time(),
        },
        folder: &folder,
        alive: &|| (),
        say: &|line| Stream::Error.say(line),
    };
    let choice = search
        .newest(&BlockDevices::SYSTEM)?
        .ok_or(AgentError::NoMedium)?;
    Stream::Output.say(format_args!(
        "The newest bundle is {} on {}.",
        choice.name, choice.medium.name
    ));
    // It lasts to the end of the install, which opens the bundle by its path.
    let mounted = choice.medium.mount(&folder)?;
    let path: OwnPath = join(&[mounted.directory(), "/", &choice.name])
        .map_err(|errno| device.unusable(&folder, "used", errno))?;
    update::install(device, &path, memory)
}
