//! What must be there before anything else is looked at: the kernel's own file systems, its modules, and the watchdog.

use crate::console::{say, words};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::path::Path;
use twinseal_platform_linux::modules;
use twinseal_platform_linux::watchdog::{Armed, WATCHDOG_DEVICE, arm};

/// Mount point, type and options of the kernel's file systems, in their order.
const FILE_SYSTEMS: [(&str, &str, &str); 4] = [
    ("/dev", "devtmpfs", "mode=0755"),
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/run", "tmpfs", "mode=0755"),
];

/// Where the initramfs has the modules, and the file that says in which order they are loaded.
const MODULES: &str = "/modules";

const VARIABLES: &str = twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;

/// Mounts the kernel's file systems and loads the modules.
pub fn prepare() {
    for (place, kind, options) in FILE_SYSTEMS {
        if let Err(errno) = mount_kernel(place, kind, options) {
            say(format_args!("{place} cannot be mounted: {errno}"));
        }
    }
    load_modules(Path::new(MODULES));
    // Without a UEFI firmware there is no such directory.
    if Path::new(VARIABLES).is_dir()
        && let Err(errno) = mount_kernel(VARIABLES, "efivarfs", "")
    {
        say(format_args!(
            "The firmware's variables cannot be mounted: {errno}"
        ));
    }
}

fn mount_kernel(place: &str, kind: &str, options: &str) -> Result<(), Errno> {
    // What cannot be made shows in the mount.
    let _ = fs::create_dir_all(place);
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::NOSUID;
    match mount(kind, place, kind, flags, Some(options.as_c_str())) {
        // A kernel may have mounted /dev already.
        Err(Errno::BUSY) => Ok(()),
        other => other,
    }
}

fn load_modules(folder: &Path) {
    let Ok(order) = fs::read_to_string(folder.join("order")) else {
        return;
    };
    for name in order.split_whitespace() {
        let path = folder.join(format!("{name}.ko"));
        let path = path.to_str().unwrap_or_default();
        if let Err(fault) = modules::load(path) {
            say(format_args!(
                "The kernel module {name} cannot be loaded: {}",
                words(fault)
            ));
        }
    }
}

/// Starts the watchdog, if there is one; 0 seconds leave it alone.
pub fn arm_watchdog(seconds: u32) {
    if seconds == 0 {
        return;
    }
    match arm(WATCHDOG_DEVICE, seconds) {
        Ok(armed) => say(format_args!("{}", sentence(&armed))),
        Err(fault) => say(format_args!("No watchdog is armed: {}", words(fault))),
    }
}

fn sentence(armed: &Armed) -> String {
    let time = armed.seconds.map_or_else(
        || "it takes no time from us".to_owned(),
        |seconds| format!("{seconds} s"),
    );
    let until = if armed.keeps_running {
        ""
    } else {
        "; its driver may stop it when the initramfs ends"
    };
    format!("watchdog armed, {time}{until}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_says_what_the_watchdog_does() {
        let words = |seconds, keeps_running| {
            sentence(&Armed {
                seconds,
                keeps_running,
            })
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
