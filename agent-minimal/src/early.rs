//! What must be there before anything else is looked at: the kernel's own file systems, its modules, and the watchdog.

use crate::console::{say, words, words_of};
use crate::files::{self, OwnPath, is_directory};
use core::ffi::CStr;
use core::fmt;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use twinseal_platform_linux::calls::mount;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::modules;
use twinseal_platform_linux::watchdog::{Armed, WATCHDOG_DEVICE, arm};

/// Mount point, type and options of the kernel's file systems, in their order.
const FILE_SYSTEMS: [(&str, &str, &CStr); 4] = [
    ("/dev", "devtmpfs", c"mode=0755"),
    ("/proc", "proc", c""),
    ("/sys", "sysfs", c""),
    ("/run", "tmpfs", c"mode=0755"),
];

/// Where the initramfs has the modules.
const MODULES: &str = "/modules";

/// The file there that says which of them are loaded at each start, in which order.
const ORDER: &str = "order";

/// The same for those that only a recovery needs.
const RECOVERY_ORDER: &str = "recovery";

/// Longest list of modules that is read; the modules of an appliance's disk are about twenty names of twenty letters.
const ORDER_MAX_BYTES: usize = 16 * 1024;

const VARIABLES: &str = twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;

/// Mounts the kernel's file systems and loads the modules.
pub fn prepare() {
    for (place, kind, options) in FILE_SYSTEMS {
        if let Err(errno) = mount_kernel(place, kind, options) {
            say(format_args!(
                "{place} cannot be mounted: {}",
                words_of(errno)
            ));
        }
    }
    load_modules(ORDER);
    // Without a UEFI firmware there is no such directory.
    if is_directory(VARIABLES)
        && let Err(errno) = mount_kernel(VARIABLES, "efivarfs", c"")
    {
        say(format_args!(
            "The firmware's variables cannot be mounted: {}",
            words_of(errno)
        ));
    }
}

fn mount_kernel(place: &str, kind: &str, options: &CStr) -> Result<(), Errno> {
    // What cannot be made shows in the mount.
    let _ = files::make_directories(place);
    match mount(kind, place, kind, MountFlags::NOSUID, Some(options)) {
        // A kernel may have mounted /dev already.
        Err(Errno::BUSY) => Ok(()),
        other => other,
    }
}

/// Loads what a recovery needs beyond that: network cards, sticks, the file systems of slots and media.
pub fn load_recovery_modules() {
    load_modules(RECOVERY_ORDER);
}

fn load_modules(list: &str) {
    let mut buffer = [0; ORDER_MAX_BYTES];
    let Some(order) = read_order(list, &mut buffer) else {
        return;
    };
    for name in order.split_ascii_whitespace() {
        let path: OwnPath = join(&[MODULES, "/", name, ".ko"]).unwrap_or_default();
        if let Err(fault) = modules::load(&path) {
            say(format_args!(
                "The kernel module {name} cannot be loaded: {}",
                words(fault)
            ));
        }
    }
}

fn read_order<'b>(list: &str, buffer: &'b mut [u8]) -> Option<&'b str> {
    let path: OwnPath = join(&[MODULES, "/", list]).ok()?;
    core::str::from_utf8(files::read(&path, buffer).ok()?).ok()
}

/// Starts the watchdog, if there is one; 0 seconds leave it alone.
pub fn arm_watchdog(seconds: u32) {
    if seconds == 0 {
        return;
    }
    match arm(WATCHDOG_DEVICE, seconds) {
        Ok(armed) => say(format_args!("{}", Sentence(armed))),
        Err(fault) => say(format_args!("No watchdog is armed: {}", words(fault))),
    }
}

/// What a watchdog does, in words.
struct Sentence(Armed);

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.seconds {
            Some(seconds) => write!(f, "watchdog armed, {seconds} s")?,
            None => f.write_str("watchdog armed, it takes no time from us")?,
        }
        if !self.0.keeps_running {
            f.write_str("; its driver may stop it when the initramfs ends")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_console_says_what_the_watchdog_does() {
        let words = |seconds, keeps_running| {
            let armed = Armed {
                seconds,
                keeps_running,
            };
            Sentence(armed).to_string()
        };
        assert_eq!(words(Some(60), true), "watchdog armed, 60 s");
        assert_eq!(
            words(None, true),
            "watchdog armed, it takes no time from us"
        );
        assert_eq!(
            words(Some(30), false),
            "watchdog armed, 30 s; its driver may stop it when the initramfs ends"
        );
    }
}
