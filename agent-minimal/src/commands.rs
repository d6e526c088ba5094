//! The commands of a running system, by name.

use crate::console::Stream;
use crate::device::Device;
use crate::process::Process;
use crate::{recover, status, update, verdict};
use twinseal_core::exit::OK;

/// Runs the command that the words name; gives its exit code, or `None` when there is no such command.
pub fn run(process: &dyn Process) -> Option<u8> {
    let word = |index| {
        let word = process.argument(index)?;
        Some(word.to_str().unwrap_or(""))
    };
    let (device, verb) = match word(1) {
        Some("--device") => (word(2), 3),
        _ => (None, 1),
    };
    let ended = match (word(verb)?, word(verb + 1), word(verb + 2)) {
        ("status", None, None) => Device::open(device).map(|device| status::status(&device)),
        ("mark-good", None, None) => {
            Device::open(device).and_then(|device| verdict::mark_good(&device))
        }
        ("plan", Some(source), None) => {
            Device::open(device).and_then(|device| update::plan(&device, source, process.memory()))
        }
        ("install", Some(source), None) => Device::open(device)
            .and_then(|device| update::install(&device, source, process.memory())),
        ("recover", None, None) => {
            Device::open(device).and_then(|device| recover::recover(&device, process.memory()))
        }
        _ => return None,
    };
    Some(match ended {
        Ok(()) => OK,
        Err(error) => {
            Stream::Error.say(format_args!("error: {error}"));
            error.code()
        }
    })
}
