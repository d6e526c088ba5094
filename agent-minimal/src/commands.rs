//! The commands of a running system, by name.

use crate::console::Stream;
use crate::device::Device;
use crate::{status, verdict};
use twinseal_core::exit::OK;

/// Runs the command that the words name; gives its exit code, or `None` when there is no such command.
pub fn run<'w>(word: impl Fn(usize) -> Option<&'w str>) -> Option<u8> {
    let (device, verb) = match word(1) {
        Some("--device") => (word(2), 3),
        _ => (None, 1),
    };
    let command = match (word(verb)?, word(verb + 1)) {
        ("status", None) => |device: &Device| {
            status::status(device);
            Ok(())
        },
        ("mark-good", None) => verdict::mark_good,
        _ => return None,
    };
    match Device::open(device).and_then(|device| command(&device)) {
        Ok(()) => Some(OK),
        Err(error) => {
            Stream::Error.say(format_args!("error: {error}"));
            Some(error.code())
        }
    }
}
