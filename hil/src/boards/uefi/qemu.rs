//! The QEMU command line of the virtual UEFI board.
//!
//! # Invariants
//! - The processor is emulated by one thread. KVM is never asked for: where it is broken, it hangs instead of failing.
//! - No key, network or disk of the host is in reach but what is named here.

use super::{Parts, UefiError};
use crate::command::{Invocation, Runner};
use crate::guard;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

/// The oldest QEMU that this board takes: older ones crash emulated guests now and then (7.2: 2 of 20 boots).
pub const VERSION_LEAST: (u32, u32) = (10, 0);

/// Where the guest finds the web server of the run.
pub const SERVER_ADDRESS: &str = "10.0.2.100";

/// The network card. Without an option ROM: nothing boots from it.
const NETWORK_CARD: &str = "virtio-net-pci,netdev=network,romfile=";

/// A network that has nobody on it.
const NOBODY: &str = "user,id=network,restrict=on";

/// A disk that is plugged in besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plugged<'c> {
    /// Its content.
    pub disk: &'c Path,
    /// Where it is.
    pub port: Port,
}

/// Where a disk can be plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Like the board's own, and found before it.
    Virtio,
    /// A USB port.
    Usb,
    /// A USB port that is free until the disk is plugged in.
    FreeUsb,
}

/// Files of one power cycle.
pub(super) struct Cycle<'c> {
    /// The disk, raw.
    pub disk: &'c Path,
    /// Another disk, raw.
    pub other_disk: Option<Plugged<'c>>,
    /// Whether nobody is in reach of its network card.
    pub offline: bool,
    /// The firmware's variables.
    pub variables: &'c Path,
    /// Socket of the control line; somebody listens on it already.
    pub control: &'c Path,
    /// Socket of QEMU's own control channel; the same.
    pub monitor: &'c Path,
    /// Whether it begins with a machine that it will be given, not with the firmware.
    pub waits_for_machine: bool,
}

/// The command that switches the board on: this program, which starts QEMU; the console is its standard input and output.
pub(super) fn command(parts: &Parts, cycle: &Cycle<'_>) -> Command {
    let mut command = guard::command(&parts.own);
    command.arg("machine");
    command.arg("--control").arg(cycle.control);
    command.arg("--monitor").arg(cycle.monitor);
    if cycle.waits_for_machine {
        command.arg("--waits-for-machine");
    }
    command.arg("--").arg(&parts.qemu);
    if let Some(other) = cycle.other_disk {
        let drive = "if=none,id=other,format=raw,cache=unsafe,file=";
        command.arg("-drive").arg(with_file(drive, other.disk));
        command.args(match other.port {
            Port::Virtio => &["-device", "virtio-blk-pci,drive=other"][..],
            Port::Usb => &["-device", "qemu-xhci", "-device", "usb-storage,drive=other"],
            Port::FreeUsb => &["-device", "qemu-xhci"],
        });
    }
    command.args(machine(parts, cycle.disk, cycle.variables));
    command.args([
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ]);
    if cycle.offline {
        command.args(["-netdev", NOBODY, "-device", NETWORK_CARD]);
    } else if let Some(port) = parts.server_port {
        command.arg("-netdev").arg(network(&parts.own, port));
        command.args(["-device", NETWORK_CARD]);
    }
    command
}

/// The command for a shell that switches a board on by hand: the control line is on the terminal, the console in a file beside
/// the disk, and nothing is in reach of the network.
pub fn by_hand(parts: &Parts, disk: &Path, variables: &Path) -> String {
    let console = disk.with_file_name("console-by-hand.txt");
    Invocation::new(&parts.qemu)
        .arguments(machine(parts, disk, variables))
        .argument("-serial")
        .argument(with_file("file:", &console))
        .arguments(["-serial", "stdio"])
        .arguments(["-netdev", NOBODY])
        .arguments(["-device", NETWORK_CARD])
        .to_string()
}

/// The machine without its serial lines and its network.
fn machine(parts: &Parts, disk: &Path, variables: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |more: &[&str]| words.extend(more.iter().map(OsString::from));
    add(&["-accel", "tcg,thread=single", "-smp", "1", "-m"]);
    add(&[&parts.memory_mib.to_string()]);
    add(parts.processor.machine());
    add(&["-nodefaults", "-display", "none", "-monitor", "none"]);
    add(&["-device", "virtio-blk-pci,drive=disk"]);
    add(&["-action", "watchdog=reset"]);
    for (option, file) in [
        (
            "if=pflash,unit=0,format=raw,readonly=on,file=",
            parts.firmware.as_path(),
        ),
        ("if=pflash,unit=1,format=raw,file=", variables),
        // The host brings nothing to its own medium: its memory outlives a QEMU that is killed, which is the power cut here.
        (
            "if=none,id=disk,format=raw,discard=unmap,cache=unsafe,file=",
            disk,
        ),
    ] {
        words.push("-drive".into());
        words.push(with_file(option, file));
    }
    words
}

/// A network with one machine on it: the web server, through a relay for each connection.
pub(in crate::boards) fn network(relay: &Path, port: u16) -> OsString {
    let mut option = OsString::from(format!(
        "user,id=network,restrict=on,guestfwd=tcp:{SERVER_ADDRESS}:80-cmd:"
    ));
    option.push(escaped(relay.as_os_str()));
    option.push(format!(" relay {port}"));
    option
}

pub(in crate::boards) fn with_file(option: &str, file: &Path) -> OsString {
    let mut option = OsString::from(option);
    option.push(escaped(file.as_os_str()));
    option
}

/// A comma in a value is written twice (QEMU's manual, "-drive").
fn escaped(value: &OsStr) -> OsString {
    match value.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => value.to_owned(),
    }
}

/// Checks that QEMU is there and new enough.
///
/// # Errors
/// [`UefiError::NoQemu`] or [`UefiError::OldQemu`].
pub fn check(qemu: &Path) -> Result<String, UefiError> {
    let output = Runner::default()
        .run(&Invocation::new(qemu).argument("--version"))
        .map_err(|_| UefiError::NoQemu {
            program: qemu.to_owned(),
        })?;
    let first = output.stdout.lines().next().unwrap_or_default().to_owned();
    match version(&first) {
        Some(version) if version >= VERSION_LEAST => Ok(first),
        _ => Err(UefiError::OldQemu { found: first }),
    }
}

/// The version in "QEMU emulator version 10.0.2 (Debian …)".
fn version(line: &str) -> Option<(u32, u32)> {
    let rest = line.split_once("version ")?.1;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::{Need, Processor};
    use super::*;

    fn parts() -> Parts {
        Parts {
            processor: Processor::X86_64,
            qemu: "qemu-system-x86_64".into(),
            firmware: "/fw/code,1.fd".into(),
            own: "/bin/hil".into(),
            server_port: Some(8080),
            memory_mib: 512,
            patience: 1,
        }
    }

    fn line(parts: &Parts) -> String {
        let cycle = Cycle {
            disk: "/d".as_ref(),
            other_disk: None,
            offline: false,
            variables: "/v".as_ref(),
            control: "/c".as_ref(),
            monitor: "/m".as_ref(),
            waits_for_machine: false,
        };
        let command = command(parts, &cycle);
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    #[test]
    fn the_guest_reaches_the_web_server_and_nothing_else() {
        let with = line(&parts());
        assert!(
            with.contains("restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:/bin/hil relay 8080"),
            "{with}"
        );
        let without = line(&Parts {
            server_port: None,
            ..parts()
        });
        assert!(!without.contains("netdev"), "{without}");
    }

    #[test]
    fn the_machine_is_emulated_and_its_watchdog_resets_it() {
        let text = line(&parts());
        for part in [
            "tcg,thread=single",
            "watchdog=reset",
            "smm=on",
            "file=/fw/code,,1.fd",
            "signal=off",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("kvm"), "{text}");
    }

    #[test]
    fn a_board_with_another_processor_is_another_machine() {
        for (processor, watchdog) in [(Processor::Aarch64, true), (Processor::Armv7, false)] {
            let text = line(&Parts {
                processor,
                ..parts()
            });
            assert!(text.contains("-M virt"), "{text}");
            assert!(!text.contains("smm") && !text.contains("q35"), "{text}");
            assert_eq!(text.contains("i6300esb"), watchdog, "{text}");
            assert_eq!(processor.has().contains(&Need::Watchdog), watchdog);
        }
    }

    #[test]
    fn by_hand_it_is_the_same_machine_with_the_control_line_on_the_terminal() {
        let text = by_hand(&parts(), "/out/disk.img".as_ref(), "/v".as_ref());
        let lines = "-serial file:/out/console-by-hand.txt -serial stdio";
        assert!(text.contains(lines), "{text}");
        assert!(
            text.contains("smm=on") && text.contains("code,,1.fd"),
            "{text}"
        );
        assert!(!text.contains("guestfwd"), "{text}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)"),
            Some((10, 0))
        );
        assert_eq!(version("QEMU emulator version 9.2.50"), Some((9, 2)));
        assert!(version("QEMU emulator version 9.2.50").unwrap() < VERSION_LEAST);
        assert_eq!(version("something else"), None);
    }

    #[test]
    fn what_is_no_qemu_is_named() {
        assert!(matches!(
            check("/no/qemu".as_ref()),
            Err(UefiError::NoQemu { .. })
        ));
        let error = check("true".as_ref()).unwrap_err();
        assert!(matches!(error, UefiError::OldQemu { .. }), "{error}");
    }
}
