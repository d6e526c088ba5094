//! From the initramfs to the sealed system: the mounts move along, the initramfs' memory is freed, the first program starts.
//!
//! # Invariants
//! - Only the file system that the initramfs lies in is emptied, and only when that is memory: nothing behind a mount is touched,
//!   and nothing on a medium.

use crate::files::{OWN_PATH_MAX_BYTES, OwnPath, WalkPath, is_directory};
use crate::process::Process;
use crate::refusal::Refusal;
use crate::tree::DEPTH_MAX;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs};
use rustix::io::Errno;
use rustix::process::{chdir, chroot};
use twinseal_platform_linux::calls::{mount_move, openat, openat2, statat, unlinkat};
use twinseal_platform_linux::file::{for_each_entry, join, open_directory_path, read_up_to};

/// What goes along, with all that is mounted below.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// A program is read in pieces of this size.
const READ_BYTES: usize = 16 * 1024;

/// `RAMFS_MAGIC` and `TMPFS_MAGIC` of `linux/magic.h`: what a kernel unpacks an initramfs into.
const IN_MEMORY: [u32; 2] = [0x8584_58f6, 0x0102_1994];

/// Reads the first program of `root` to its end: what cannot be read is refused while there still is a way to another set.
///
/// # Errors
/// [`Refusal::Program`].
pub fn look(root: &str, init: &str) -> Result<(), Refusal> {
    read_whole(root, init).map_err(|errno| Refusal::Program { errno })
}

fn read_whole(root: &str, init: &str) -> Result<(), Errno> {
    let root = open_directory_path(root)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // Links lead where they will lead when `root` is the root.
    let program = openat2(root, init, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    let mut buffer = [0; READ_BYTES];
    let mut offset = 0;
    loop {
        match read_up_to(&program, offset, &mut buffer)? {
            0 => return Ok(()),
            bytes => offset += bytes as u64,
        }
    }
}

/// Moves the mounts, makes `root` the root, and starts the system's first program with the arguments that the kernel gave us.
/// Comes back only when that fails.
///
/// # Errors
/// [`Refusal`] says what is missing in the sealed root.
pub fn start(root: &str, init: &str, process: &dyn Process) -> Refusal {
    if let Err(refusal) = switch(root) {
        return refusal;
    }
    let errno = match WalkPath::new(init) {
        Ok(program) => process.execute(program.as_c_str()),
        Err(errno) => errno,
    };
    Refusal::Start {
        code: errno.raw_os_error(),
    }
}

fn switch(root: &str) -> Result<(), Refusal> {
    check(root)?;
    let old = open_directory_path("/");
    for directory in MOVED {
        let moved = join::<OWN_PATH_MAX_BYTES>(&[root, directory])
            .and_then(|new| mount_move(directory, new.as_str()));
        moved.map_err(|errno| Refusal::Directory { directory, errno })?;
    }
    let entered = chdir(root).and_then(|()| mount_move(".", "/"));
    let entered = entered.and_then(|()| chroot(".")).and_then(|()| chdir("/"));
    let directory = "/";
    entered.map_err(|errno| Refusal::Directory { directory, errno })?;
    if let Ok(old) = old
        && is_memory(&old)
    {
        // Memory that stays in use is all that a failure costs.
        let _ = empty(&old, DEPTH_MAX);
    }
    Ok(())
}

/// Looks before anything is moved: without `/dev` and `/sys` a refusal can neither be said nor told to the firmware.
fn check(root: &str) -> Result<(), Refusal> {
    let is_there = |directory: &str| {
        let path: Result<OwnPath, Errno> = join(&[root, directory]);
        path.is_ok_and(|path| is_directory(&path))
    };
    match MOVED.into_iter().find(|directory| !is_there(directory)) {
        Some(directory) => {
            let errno = Errno::NOTDIR;
            Err(Refusal::Directory { directory, errno })
        }
        None => Ok(()),
    }
}

/// Whether a directory lies in memory, as that of an initramfs does. A kernel that was told `root=` starts the first program from
/// a medium, and a test bench may start this one there.
fn is_memory(directory: &OwnedFd) -> bool {
    fstatfs(directory).is_ok_and(|about| IN_MEMORY.contains(&(about.f_type as u32)))
}

/// Removes all that lies in the same file system as `directory`, as far as it goes down.
fn empty(directory: &OwnedFd, levels: usize) -> Result<(), Errno> {
    let levels = levels.checked_sub(1).ok_or(Errno::LOOP)?;
    let device = fstat(directory)?.st_dev;
    for_each_entry(directory, |name| {
        let about = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if about.st_dev != device {
            return Ok(());
        }
        let mut flags = AtFlags::empty();
        if FileType::from_raw_mode(about.st_mode).is_dir() {
            let below = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            empty(&openat(directory, name, below, Mode::empty())?, levels)?;
            flags = AtFlags::REMOVEDIR;
        }
        // A directory that is a mount point stays.
        let _ = unlinkat(directory, name, flags);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn a_root_without_room_for_the_mounts_is_refused_before_any_moves() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["dev", "proc", "sys"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        let refused = Refusal::Directory {
            directory: "/run",
            errno: Errno::NOTDIR,
        };
        assert_eq!(check(root.path().to_str().unwrap()), Err(refused));
        fs::create_dir(root.path().join("run")).unwrap();
        assert_eq!(check(root.path().to_str().unwrap()), Ok(()));
    }

    #[test]
    fn a_program_is_read_where_it_will_be() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        fs::create_dir(root.path().join("sbin")).unwrap();
        let path = root.path().to_str().unwrap();
        let link = root.path().join("sbin/init");
        std::os::unix::fs::symlink("/usr/lib/program", &link).unwrap();
        let missing = Refusal::Program {
            errno: Errno::NOENT,
        };
        assert_eq!(look(path, "/sbin/init"), Err(missing));
        fs::write(root.path().join("usr/lib/program"), [7; 40_000]).unwrap();
        assert_eq!(look(path, "/sbin/init"), Ok(()));
        let folder = Refusal::Program {
            errno: Errno::ISDIR,
        };
        assert_eq!(look(path, "/usr"), Err(folder));
    }

    #[test]
    fn only_memory_is_emptied() {
        let on = |path: &str| is_memory(&File::open(path).unwrap().into());
        assert!(on("/dev/shm"), "a tmpfs on every Linux");
        assert!(!on("/proc") && !on("/sys"));
    }

    #[test]
    fn a_tree_is_emptied_and_links_are_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("root");
        fs::create_dir_all(root.join("deep/er")).unwrap();
        fs::write(root.join("deep/er/file"), "x").unwrap();
        fs::write(temporary.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("..", root.join("deep/up")).unwrap();
        empty(&File::open(&root).unwrap().into(), DEPTH_MAX).unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        assert!(temporary.path().join("outside").exists());
    }
}
