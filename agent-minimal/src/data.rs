//! The data partition, or memory that stands for it.
//!
//! # Invariants
//! - A device that cannot have its data still starts. What stands for them is gone with the power, and a mark in `/run` says so:
//!   who reads the boot record there must not take "no record" for the device's own word.

use crate::console::{say, words_of};
use crate::devices::{Devices, mount_ext4};
#[cfg(feature = "net")]
use crate::files::OWN_PATH_MAX_BYTES;
use crate::files::{self, OwnPath, is_directory};
use crate::refusal::Refusal;
use crate::var;
use rustix::io::Errno;
use rustix::mount::MountFlags;
#[cfg(feature = "net")]
use rustix::mount::UnmountFlags;
use twinseal_platform_linux::calls::{mount, mount_bind};
#[cfg(feature = "net")]
use twinseal_platform_linux::calls::{unlink, unmount};
use twinseal_platform_linux::file::join;

/// Where the data are mounted; `/run` moves with it into the system.
pub const DATA: &str = "/run/twinseal/data";

/// The agent's state, in the device's `/var`.
pub const STATE: &str = "/run/twinseal/data/var/lib/twinseal";

/// What a file system says that takes no writes, or is damaged.
#[cfg(feature = "net")]
const DAMAGED: [Errno; 7] = [
    Errno::ROFS,
    Errno::IO,
    Errno::BADMSG,
    Errno::UCLEAN,
    Errno::ACCESS,
    Errno::NOTDIR,
    Errno::ISDIR,
];

/// There, and empty, when memory stands for the data partition.
const VOLATILE: &str = "/run/twinseal/data-volatile";

/// Mounts the data partition, or memory in its place.
pub fn mount_data(devices: &Devices<'_>) {
    let mounted = match devices.node("data") {
        Some(node) => mount_ext4(&node, DATA, MountFlags::NOATIME),
        None => Err(Errno::NODEV),
    };
    if let Err(errno) = mounted {
        say(format_args!(
            "The data partition cannot be mounted ({}); /var and /etc are lost with the power.",
            words_of(errno)
        ));
        stand_in();
    }
}

/// Mounts the data partition in the place of memory, when it has turned up since: its entry in the partition table came back. Gives
/// whether it did.
#[cfg(feature = "net")]
pub fn mount_data_late(devices: &Devices<'_>) -> bool {
    if !files::exists(VOLATILE).unwrap_or(false) {
        return false;
    }
    let Some(node) = devices.node("data") else {
        return false;
    };
    // Nothing of it is wanted: what was told to memory is gone with the power anyway.
    let _ = unmount(DATA, UnmountFlags::DETACH);
    match mount_ext4(&node, DATA, MountFlags::NOATIME) {
        Ok(()) => {
            // One that stays makes the next round look again.
            let _ = unlink(VOLATILE);
            true
        }
        Err(errno) => {
            say(format_args!(
                "The data partition cannot be mounted ({}).",
                words_of(errno)
            ));
            stand_in();
            false
        }
    }
}

/// Memory stands for data that take no writes, from now on: a file system that the kernel keeps read-only after an error of the
/// medium, or one that is damaged where the state lies. One that is only full is not replaced. Gives whether that was so.
#[cfg(feature = "net")]
pub fn stand_in_for_read_only() -> bool {
    let probe = join::<OWN_PATH_MAX_BYTES>(&[STATE, "/probe"]);
    let written = probe.and_then(|probe| {
        files::make_directories(STATE)?;
        files::make_durably(&probe, STATE)?;
        unlink(probe.as_str())
    });
    let takes_none = written.is_err_and(|errno| DAMAGED.contains(&errno));
    if takes_none {
        stand_in();
    }
    takes_none
}

/// Fills the device's `/var` where it is not yet, and shows it in the new root. Memory stands for data that have no `/var` and
/// cannot get one.
///
/// # Errors
/// [`Refusal::Directory`] when the sealed root has no `/var`.
pub fn show_var(root: &str) -> Result<(), Refusal> {
    let directory = "/var";
    let refused = |errno| Refusal::Directory { directory, errno };
    let sealed: OwnPath = join(&[root, directory]).map_err(refused)?;
    if !is_directory(&sealed) {
        return Err(refused(Errno::NOTDIR));
    }
    let var: OwnPath = join(&[DATA, directory]).map_err(refused)?;
    fill(&sealed);
    if !is_directory(&var) {
        say(format_args!(
            "The data partition has no /var and takes none; /var and /etc are lost with the power."
        ));
        stand_in();
        fill(&sealed);
    }
    mount_bind(var.as_str(), sealed.as_str()).map_err(refused)
}

fn fill(sealed: &str) {
    match var::fill(DATA, sealed, &mut || Ok(())) {
        Ok(true) => say(format_args!("/var filled from the sealed image")),
        Ok(false) => {}
        Err(errno) => say(format_args!("/var cannot be filled: {}", words_of(errno))),
    }
}

/// Mounts memory where the data would be, over what is there, and marks that.
fn stand_in() {
    mark(VOLATILE);
    let _ = files::make_directories(DATA);
    if let Err(errno) = mount("tmpfs", DATA, "tmpfs", MountFlags::empty(), None) {
        say(format_args!(
            "No memory for /var either: {}",
            words_of(errno)
        ));
    }
}

/// Makes an empty file that says something to the system.
pub fn mark(path: &str) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let made = files::make_directories(folder).and_then(|()| files::write(path, b""));
    if let Err(errno) = made {
        say(format_args!("{path} cannot be made: {}", words_of(errno)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::string::String;

    /// Where the second half of the test runs, the sealed root.
    const INSIDE: &str = "TWINSEAL_TEST_ROOT";

    /// Memory for what the test would touch of this machine, and data that take no write.
    const MOUNTS: &str = "mount -t tmpfs none /run && mkdir -p /run/twinseal/data &&
        mount -t tmpfs -o ro none /run/twinseal/data && mount -t tmpfs none /dev &&
        exec \"$0\" --exact data::tests::memory_stands_for_data_that_take_no_var";

    #[test]
    fn memory_stands_for_data_that_take_no_var() {
        if let Some(root) = std::env::var_os(INSIDE) {
            return data_take_no_var(Path::new(&root));
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib")).unwrap();
        fs::write(root.path().join("var/lib/settings"), "sealed").unwrap();
        let output = Command::new("unshare")
            .args(["-rm", "sh", "-c", MOUNTS])
            .arg(std::env::current_exe().unwrap())
            .env(INSIDE, root.path())
            .output()
            .expect("unshare (package util-linux) is needed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "the right to mount in a namespace is needed: {text}{errors}"
        );
        assert!(!root.path().join("var/written").exists(), "in memory");
    }

    fn data_take_no_var(root: &Path) {
        assert!(!Path::new(VOLATILE).exists());
        assert_eq!(show_var(root.to_str().unwrap()), Ok(()));
        assert!(Path::new(VOLATILE).exists());
        let settings = fs::read_to_string(root.join("var/lib/settings")).unwrap();
        assert_eq!(settings, "sealed");
        fs::write(root.join("var/written"), "x").unwrap();
        assert!(Path::new(DATA).join("var/written").exists());
    }

    #[test]
    fn a_sealed_root_without_var_is_blamed_before_the_data_are() {
        let root = tempfile::tempdir().unwrap();
        let refused = Refusal::Directory {
            directory: "/var",
            errno: Errno::NOTDIR,
        };
        assert_eq!(show_var(root.path().to_str().unwrap()), Err(refused));
    }

    #[test]
    fn a_mark_is_an_empty_file_and_its_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twinseal/data-volatile");
        mark(path.to_str().unwrap());
        mark(path.to_str().unwrap());
        assert_eq!(fs::read(path).unwrap(), b"");
    }
}
