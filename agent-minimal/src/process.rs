//! What the kernel gave this program when it started, and the ways out of it.

use crate::console::Stream;
use crate::init;
use core::ffi::CStr;
use core::fmt;

/// Exit codes, those of `twinseal`.
pub mod exit {
    /// Command line or device description is wrong.
    pub const USAGE: u8 = 2;
    /// A panic, as of a program with the standard library.
    pub const FAULT: u8 = 101;
}

/// This process, as its entry point sees it.
pub trait Process {
    /// A word of the command line; number 0 is what the program was called.
    fn argument(&self, index: usize) -> Option<&CStr>;

    /// Becomes another program, with our arguments and environment. Gives back why not.
    fn execute(&self, program: &CStr) -> rustix::io::Errno;
}

/// Does what the command line says; gives the exit code. Does not come back in the first process of the system.
///
/// The kernel starts the first process by any name and with the words of its command line as arguments.
pub fn run(process: &dyn Process) -> u8 {
    if rustix::process::getpid().is_init() {
        init::run(process);
    }
    let word = |index| process.argument(index).map(CStr::to_bytes);
    let called = word(0).unwrap_or_default();
    if called.ends_with(b"init") || word(1) == Some(b"init") {
        Stream::Error.say(format_args!(
            "error: `init` runs as the first process of an initramfs and nowhere else."
        ));
        Stream::Error.say(format_args!(
            "help: put this program into the initramfs as /init."
        ));
    } else {
        Stream::Error.say(format_args!(
            "error: twinseal-minimal {} has one verb, `init`, for the initramfs.",
            env!("CARGO_PKG_VERSION")
        ));
        Stream::Error.say(format_args!("help: on a running system use `twinseal`."));
    }
    exit::USAGE
}

/// What a panic does: one line, then the machine restarts if this is its first process. Gives the exit code otherwise.
pub fn panicked(fault: &dyn fmt::Display) -> u8 {
    if rustix::process::getpid().is_init() {
        init::refuse_fault(fault);
    }
    Stream::Error.say(format_args!("error: This program has a fault: {fault}"));
    exit::FAULT
}
