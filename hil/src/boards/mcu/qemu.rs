//! The QEMU command line of the microcontroller.

use super::Parts;
use crate::boards::uefi::qemu::{network, with_file};
use crate::guard;
use std::path::Path;
use std::process::Command;

/// A Cortex-M4 with a network controller, whose memory for the flash is a file (`docs/decisions/0044-mps2-an386.md`).
const MACHINE: &str = "mps2-an386,memory-backend=medium";

/// The command that switches the board on with a program at address 0; its serial line is standard output, and what it says to a
/// debugger is standard error.
pub(super) fn command(parts: &Parts, program: &Path, medium: &Path) -> Command {
    let mut command = guard::command(&parts.qemu);
    command.args(["-M", MACHINE, "-accel", "tcg,thread=single"]);
    command.args(["-nodefaults", "-display", "none", "-monitor", "none"]);
    command.arg("-object").arg(with_file(
        &format!(
            "memory-backend-file,id=medium,size={},share=on,mem-path=",
            super::medium::MEMORY_BYTES
        ),
        medium,
    ));
    command.arg("-kernel").arg(program);
    command.args(["-semihosting-config", "enable=on,target=native"]);
    command.args(["-action", "watchdog=reset"]);
    command.args([
        "-chardev",
        "stdio,id=line,signal=off",
        "-serial",
        "chardev:line",
    ]);
    command
        .arg("-netdev")
        .arg(network(&parts.relay, parts.server_port));
    command.args(["-net", "nic,model=lan9118,netdev=network"]);
    command
}
