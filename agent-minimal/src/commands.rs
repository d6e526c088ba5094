//! The commands of a running system, by name.

use crate::console::Stream;
use crate::device::Device;
use crate::process::Process;
use crate::{recover, status, update, verdict};
use rustix::fd::AsRawFd;
use rustix::fs::{CWD, Mode, OFlags};
use twinseal_core::exit::OK;
use twinseal_platform_linux::calls::openat;

/// Input, output and errors: descriptors below are theirs.
const STREAMS: i32 = 3;

/// Opens what a standard stream is that this program was started without: the next file that is opened would be taken for it, and
/// a sentence would be written into the boot record.
fn open_standard_streams() {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    while let Ok(stream) = openat(CWD, "/dev/null", flags, Mode::empty()) {
        if stream.as_raw_fd() >= STREAMS {
            return;
        }
        // It stays open until this program ends.
        core::mem::forget(stream);
    }
}

/// Runs the command that the words name; gives its exit code, or `None` when there is no such command.
pub fn run(process: &dyn Process) -> Option<u8> {
    process.ignore_broken_pipes();
    open_standard_streams();
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
