//! What the kernel gave this program when it started, the commands, and the ways out of it.

#[cfg(feature = "commands")]
use crate::commands;
use crate::console::Stream;
use crate::init;
use crate::memory::Memory;
use core::ffi::CStr;
use core::fmt;
use twinseal_core::exit::{OK, USAGE};

/// Exit code of a panic, as of a program with the standard library.
const FAULT: u8 = 101;

/// What this build can do.
const HELP: &str = if cfg!(feature = "fetch") {
    "twinseal-minimal [--device FILE] status | plan SOURCE | install SOURCE | recover | mark-good
SOURCE is a file, - for standard input, or http://SERVER[:PORT]/PATH."
} else if cfg!(feature = "commands") {
    "twinseal-minimal [--device FILE] status | plan SOURCE | install SOURCE | recover | mark-good
SOURCE is a file, or - for standard input."
} else {
    "This build is the /init of an initramfs. The commands are in twinseal-minimal-commands and -fetch."
};

/// This process, as its entry point sees it.
pub trait Process {
    /// A word of the command line; number 0 is what the program was called.
    fn argument(&self, index: usize) -> Option<&CStr>;

    /// Becomes another program, with our arguments and environment. Gives back why not.
    fn execute(&self, program: &CStr) -> rustix::io::Errno;

    /// Has a write to a pipe or a connection that nobody reads fail, as any other, and not end this program.
    fn ignore_broken_pipes(&self);

    /// The memory of an install, which there is once: asking a second time is a fault of this program.
    fn memory(&self) -> &'static mut Memory;
}

/// Does what the command line says; gives the exit code. Does not come back in the first process of the system.
///
/// The kernel starts the first process by any name and with the words of its command line as arguments.
pub fn run(process: &dyn Process) -> u8 {
    if rustix::process::getpid().is_init() {
        init::run(process);
    }
    let word = |index| {
        process
            .argument(index)
            .map(|word| word.to_str().unwrap_or(""))
    };
    let called = word(0).unwrap_or_default();
    if word(1) == Some("init") || (called.ends_with("init") && word(1).is_none()) {
        return not_init();
    }
    if word(1) == Some("--help") {
        Stream::Output.say(format_args!("{HELP}"));
        return OK;
    }
    #[cfg(feature = "commands")]
    if let Some(code) = commands::run(process) {
        return code;
    }
    Stream::Error.say(format_args!(
        "error: twinseal-minimal {} does not know that command.",
        env!("CARGO_PKG_VERSION")
    ));
    Stream::Error.say(format_args!("help: {HELP}"));
    USAGE
}

fn not_init() -> u8 {
    Stream::Error.say(format_args!(
        "error: `init` runs as the first process of an initramfs and nowhere else."
    ));
    Stream::Error.say(format_args!(
        "help: put this program into the initramfs as /init."
    ));
    USAGE
}

/// What a panic does: one line, then the machine restarts if this is its first process. Gives the exit code otherwise.
pub fn panicked(fault: &dyn fmt::Display) -> u8 {
    if rustix::process::getpid().is_init() {
        init::refuse_fault(fault);
    }
    Stream::Error.say(format_args!("error: This program has a fault: {fault}"));
    FAULT
}
