//! The commands of a running system, by name.

use crate::console::{Stream, output_failure};
use crate::device::Device;
use crate::error::AgentError;
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

/// What is to be done.
enum Order<'w> {
    Status,
    MarkGood,
    Plan(&'w str),
    Install(&'w str),
    Recover,
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
    let order = match (word(verb)?, word(verb + 1), word(verb + 2)) {
        ("status", None, None) => Order::Status,
        ("mark-good", None, None) => Order::MarkGood,
        ("plan", Some(source), None) => Order::Plan(source),
        ("install", Some(source), None) => Order::Install(source),
        ("recover", None, None) => Order::Recover,
        _ => return None,
    };
    Some(match follow(&order, device, process) {
        Ok(()) => OK,
        Err(error) => {
            Stream::Error.say(format_args!("error: {error}"));
            error.code()
        }
    })
}

fn follow(
    order: &Order<'_>,
    device: Option<&str>,
    process: &dyn Process,
) -> Result<(), AgentError> {
    let device = Device::open(device)?;
    match order {
        Order::Status => status::status(&device),
        Order::Plan(source) => update::plan(&device, source, process.memory())?,
        Order::MarkGood => return verdict::mark_good(&device),
        Order::Install(source) => return update::install(&device, source, process.memory()),
        Order::Recover => return recover::recover(&device, process.memory()),
    }
    // The answer is all that the first two do.
    output_failure().map_or(Ok(()), |errno| Err(AgentError::Output(errno)))
}
