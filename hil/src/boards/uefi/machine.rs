//! The machine of the virtual UEFI board, with a new QEMU for each start of its guest.
//!
//! A QEMU keeps what it translated of all earlier starts, and finds it in its way when memory is written anew: the firmware of a
//! fifth start may take ten times as long as that of the first. So a restart of the guest ends QEMU, and this program, which
//! stays for as long as the board is on, starts the next one on the same disk, variables and lines.
//!
//! # Invariants
//! - It ends when the guest switches off, when QEMU fails, and with the program that started it; its QEMU ends with it.
//! - The two channels stay connected from one QEMU to the next, and so do standard input, output and errors.
//!
//! # Power loss
//! Nothing here is stored.

use crate::guard::{self, Guarded};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// QEMU closes its channel shortly before it is gone.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A machine, as it is named on this program's own command line.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct MachineArguments {
    /// Socket that the control line is connected to.
    #[arg(long)]
    pub control: PathBuf,
    /// Socket that QEMU's own control channel is connected to.
    #[arg(long)]
    pub monitor: PathBuf,
    /// The first QEMU begins with a machine that it will be given, not with the firmware.
    #[arg(long)]
    pub waits_for_machine: bool,
    /// QEMU and its arguments, without the channels.
    #[arg(last = true, required = true)]
    pub qemu: Vec<OsString>,
}

/// Keeps the machine on until its guest switches it off.
///
/// # Errors
/// When a channel cannot be opened, or QEMU not be started.
pub fn run(arguments: &MachineArguments) -> io::Result<ExitCode> {
    let control = inherited(UnixStream::connect(&arguments.control)?)?;
    let monitor = inherited(UnixStream::connect(&arguments.monitor)?)?;
    let (program, words) = arguments
        .qemu
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut waits_for_machine = arguments.waits_for_machine;
    loop {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = inherited(theirs)?;
        let mut command = guard::command(program);
        command.args(words).arg("-no-reboot");
        command.args(["-chardev", &channel("control", &control)]);
        command.args(["-serial", "chardev:control"]);
        for (name, end) in [("monitor", &monitor), ("events", &theirs)] {
            command.args(["-chardev", &channel(name, end)]);
            command.args(["-mon", &format!("chardev={name},mode=control")]);
        }
        if waits_for_machine {
            command.args(["-incoming", "defer"]);
            waits_for_machine = false;
        }
        let qemu = Guarded::start(command)?;
        drop(theirs);
        let restarts = ends_for_a_restart(ours)?;
        qemu.wait(END_LIMIT);
        if !qemu.status().is_some_and(|status| status.success()) {
            return Ok(ExitCode::FAILURE);
        }
        if !restarts {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The stream, which programs that are started get too.
fn inherited(stream: UnixStream) -> io::Result<UnixStream> {
    fcntl_setfd(&stream, FdFlags::empty())?;
    Ok(stream)
}

/// How QEMU names a channel that is open already.
fn channel(name: &str, stream: &UnixStream) -> String {
    format!("socket,id={name},fd={}", stream.as_raw_fd())
}

/// Reads what happens to a QEMU until it ends: whether its guest wants to start anew.
fn ends_for_a_restart(mut events: UnixStream) -> io::Result<bool> {
    // A QEMU that ended already cannot be told; what it said can still be read.
    let _ = writeln!(events, r#"{{"execute":"qmp_capabilities"}}"#);
    let mut reason = None;
    for line in BufReader::new(events).lines() {
        // A line may break off where a QEMU is killed.
        let Ok(event) = line.map(|line| serde_json::from_str::<Value>(&line)) else {
            break;
        };
        if let Ok(event) = event
            && event["event"] == "SHUTDOWN"
        {
            reason = event["data"]["reason"].as_str().map(str::to_owned);
        }
    }
    Ok(reason.as_deref() == Some("guest-reset"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    /// A program in place of QEMU: it says on its channel of events why it ends, another reason each time.
    const QEMU: &str = r#"#!/bin/bash
while [ $# -gt 0 ]; do
  case "$1" in
    socket,id=events,fd=*) events="${1##*=}" ;;
    socket,id=control,fd=*) control="${1##*=}" ;;
    -incoming) echo "incoming" >&"$control" ;;
  esac
  shift
done
cd "$(dirname "$0")"
n=$(cat count 2>/dev/null || echo 0)
echo $((n + 1)) >count
echo "start $n" >&"$control"
reason=$(sed -n "$((n + 1))p" reasons)
[ -n "$reason" ] || exit 1
echo '{"event":"RESET","data":{"guest":true}}' >&"$events"
echo "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"$reason\"}}" >&"$events"
"#;

    /// Runs a machine whose QEMUs end for these reasons; whether it succeeded, and what came over the control line.
    fn machine(reasons: &str, waits_for_machine: bool) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("qemu"), QEMU).unwrap();
        fs::set_permissions(at("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("reasons"), reasons).unwrap();
        let [control, _monitor] =
            ["control", "monitor"].map(|name| UnixListener::bind(at(name)).unwrap());
        let ended = run(&MachineArguments {
            control: at("control"),
            monitor: at("monitor"),
            waits_for_machine,
            qemu: vec![at("qemu").into()],
        });
        let (control, _) = control.accept().unwrap();
        let said = io::read_to_string(control).unwrap();
        (ended.unwrap() == ExitCode::SUCCESS, said)
    }

    #[test]
    fn a_restart_of_the_guest_is_a_new_qemu_on_the_same_lines() {
        let (succeeded, said) = machine("guest-reset\nguest-reset\nguest-shutdown\n", false);
        assert!(succeeded);
        assert_eq!(said, "start 0\nstart 1\nstart 2\n");
    }

    #[test]
    fn only_the_first_qemu_is_given_a_machine() {
        let (succeeded, said) = machine("guest-reset\nguest-shutdown\n", true);
        assert!(succeeded);
        assert_eq!(said, "incoming\nstart 0\nstart 1\n");
    }

    #[test]
    fn a_qemu_that_fails_is_not_started_again() {
        let (succeeded, said) = machine("guest-reset\n", false);
        assert!(!succeeded);
        assert_eq!(said, "start 0\nstart 1\n");
    }
}
