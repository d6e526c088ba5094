//! Copies of whole directory trees, for what is not sealed: owner, mode, times, extended attributes, links and device nodes.
//!
//! # Invariants
//! - Nothing is followed: a symbolic link is copied as one, and neither tree is left through one.
//! - What a tree cannot be without (content, owner, mode) is an error when it cannot be copied.
//! - A tree deeper than [`DEPTH_MAX`] is an error, for each level takes from the stack.
//!
//! # Power loss
//! A copy is made beside its final place, by the callers; what a cut leaves of one is removed by the next boot.

use crate::files::{self, WalkPath};
use core::ffi::CStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod,
    chownat, lgetxattr, llistxattr, lsetxattr, mkdirat, mknodat, openat, readlinkat_raw, symlinkat,
    syncfs, unlinkat, utimensat,
};
use rustix::io::{Errno, read, retry_on_intr, write};
use twinseal_platform_linux::file::{for_each_entry, if_there, open_directory_path};

/// Called before every change, so that a test can end the work there as a power cut does.
pub type Step<'s> = &'s mut dyn FnMut() -> Result<(), Errno>;

/// Levels of directories that are walked. Each takes about 10 KiB of a stack of 8 MiB; `/var` of a Debian system has ten.
pub const DEPTH_MAX: usize = 128;

/// Longest list of attribute names, and longest value, that Linux allows (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`). Files are copied in
/// pieces of this size too.
const ATTRIBUTE_MAX_BYTES: usize = 65_536;

/// What an overlay notes about where a file came from, and which overlay it is. The first names a file of the image that the copy
/// no longer lies on; the second must not be that of two overlays.
const OVERLAYS_OWN: [&CStr; 2] = [c"trusted.overlay.origin", c"trusted.overlay.uuid"];

/// Copies the entry at `from`, with all below it, to `to`, which must not exist. `skip` says which entries (by their path
/// below `from`) are left out.
///
/// # Errors
/// What cannot be read or made; `ELOOP` when it is too deep.
pub fn copy(
    from: &str,
    to: &str,
    skip: &dyn Fn(&CStr) -> bool,
    step: Step<'_>,
) -> Result<(), Errno> {
    let mut copier = Copier {
        from: WalkPath::new(from)?,
        to: WalkPath::new(to)?,
        below: WalkPath::new("")?,
        skip,
        step,
        names: [0; ATTRIBUTE_MAX_BYTES],
        bytes: [0; ATTRIBUTE_MAX_BYTES],
    };
    copier.copy(DEPTH_MAX)
}

/// Where a copy is.
struct Copier<'c> {
    from: WalkPath,
    to: WalkPath,
    below: WalkPath,
    skip: &'c dyn Fn(&CStr) -> bool,
    step: Step<'c>,
    /// Names of attributes.
    names: [u8; ATTRIBUTE_MAX_BYTES],
    /// The value of one, or a piece of a file.
    bytes: [u8; ATTRIBUTE_MAX_BYTES],
}

impl Copier<'_> {
    fn copy(&mut self, levels: usize) -> Result<(), Errno> {
        let about = files::about(self.from.as_c_str())?.ok_or(Errno::NOENT)?;
        let kind = files::kind(&about);
        if kind.is_socket() {
            // A socket without its process is nothing.
            return Ok(());
        }
        (self.step)()?;
        if kind.is_dir() {
            mkdirat(CWD, self.to.as_c_str(), Mode::from_raw_mode(0o700))?;
            self.copy_entries(levels.checked_sub(1).ok_or(Errno::LOOP)?)?;
        } else if kind.is_file() {
            self.copy_content()?;
        } else if kind.is_symlink() {
            self.copy_link()?;
        } else {
            self.make_node(&about)?;
        }
        (self.step)()?;
        self.dress(&about)
    }

    fn copy_entries(&mut self, levels: usize) -> Result<(), Errno> {
        let directory = open_directory(self.from.as_c_str())?;
        for_each_entry(directory, |name| {
            let below = self.below.enter(name)?;
            if !(self.skip)(self.below.as_c_str()) {
                let (from, to) = (self.from.enter(name)?, self.to.enter(name)?);
                self.copy(levels)?;
                self.from.leave(from);
                self.to.leave(to);
            }
            self.below.leave(below);
            Ok(())
        })
    }

    fn copy_content(&mut self) -> Result<(), Errno> {
        let no_links = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = openat(
            CWD,
            self.from.as_c_str(),
            OFlags::RDONLY | no_links,
            Mode::empty(),
        )?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | no_links;
        let to = openat(CWD, self.to.as_c_str(), flags, Mode::from_raw_mode(0o600))?;
        loop {
            let length = retry_on_intr(|| read(&from, &mut self.bytes[..]))?;
            let mut rest = self.bytes.get(..length).unwrap_or(&[]);
            if rest.is_empty() {
                return Ok(());
            }
            while !rest.is_empty() {
                let written = retry_on_intr(|| write(&to, rest))?;
                rest = rest
                    .get(written..)
                    .filter(|_| written > 0)
                    .ok_or(Errno::IO)?;
            }
        }
    }

    fn copy_link(&mut self) -> Result<(), Errno> {
        let length = readlinkat_raw(CWD, self.from.as_c_str(), &mut self.bytes[..])?;
        // The kernel writes no NUL; a target has at most 4095 bytes.
        if let Some(end) = self.bytes.get_mut(length) {
            *end = 0;
        }
        let target = CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::NAMETOOLONG)?;
        symlinkat(target, CWD, self.to.as_c_str())
    }

    /// A device node or a FIFO. An overlay says "deleted" with a character device of number 0:0.
    fn make_node(&self, about: &Stat) -> Result<(), Errno> {
        let kind = FileType::from_raw_mode(about.st_mode);
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, self.to.as_c_str(), kind, mode, about.st_rdev)
    }

    /// Owner, then mode (a change of owner takes set-user-ID away), then attributes, then times.
    fn dress(&mut self, about: &Stat) -> Result<(), Errno> {
        let owner = Uid::from_raw(about.st_uid);
        let group = Gid::from_raw(about.st_gid);
        let to = self.to.as_c_str();
        chownat(CWD, to, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        if !files::kind(about).is_symlink() {
            chmod(to, Mode::from_raw_mode(about.st_mode & 0o7777))?;
        }
        self.copy_attributes()?;
        let time = |seconds, nanoseconds| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time(about.st_atime as _, about.st_atime_nsec as _),
            last_modification: time(about.st_mtime as _, about.st_mtime_nsec as _),
        };
        utimensat(CWD, self.to.as_c_str(), &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn copy_attributes(&mut self) -> Result<(), Errno> {
        let (from, to) = (self.from.as_c_str(), self.to.as_c_str());
        let length = match llistxattr(from, &mut self.names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let names = self.names.get(..length).unwrap_or(&[]);
        for name in names.split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            if OVERLAYS_OWN.contains(&name) {
                continue;
            }
            let length = lgetxattr(from, name, &mut self.bytes[..])?;
            let value = self.bytes.get(..length).unwrap_or(&[]);
            lsetxattr(to, name, value, XattrFlags::empty())?;
        }
        Ok(())
    }
}

/// Opens a directory of a tree, never through a symbolic link.
///
/// # Errors
/// What the kernel says.
pub fn open_directory(path: &CStr) -> Result<OwnedFd, Errno> {
    open_below(CWD, path)
}

fn open_below<Fd: AsFd>(directory: Fd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Removes a tree; fine when there is none.
///
/// # Errors
/// What cannot be removed; `ELOOP` when it is too deep.
pub fn remove(path: &str, step: Step<'_>) -> Result<(), Errno> {
    step()?;
    let Some(about) = files::about(path)? else {
        return Ok(());
    };
    if files::kind(&about).is_symlink() {
        return unlinkat(CWD, path, AtFlags::empty());
    }
    empty(
        &open_below(CWD, WalkPath::new(path)?.as_c_str())?,
        DEPTH_MAX,
    )?;
    unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

fn empty(directory: &OwnedFd, levels: usize) -> Result<(), Errno> {
    let levels = levels.checked_sub(1).ok_or(Errno::LOOP)?;
    for_each_entry(directory, |name| {
        match open_below(directory, name) {
            Ok(below) => {
                empty(&below, levels)?;
                unlinkat(directory, name, AtFlags::REMOVEDIR)
            }
            // ELOOP: a symbolic link.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {
                if_there(unlinkat(directory, name, AtFlags::empty())).map(|_| ())
            }
            Err(errno) => Err(errno),
        }
    })
}

/// Brings the whole file system that holds `path` to the medium.
///
/// # Errors
/// When the medium refuses.
pub fn sync(path: &str) -> Result<(), Errno> {
    syncfs(open_directory_path(path)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::borrow::ToOwned;
    use std::collections::BTreeMap;
    use std::format;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;
    use std::string::{String, ToString};

    /// Ends the work at step number `left`, as a power cut does.
    pub(crate) fn cut_after(mut left: usize) -> impl FnMut() -> Result<(), Errno> {
        move || {
            left = left.checked_sub(1).ok_or(Errno::CANCELED)?;
            Ok(())
        }
    }

    /// Type, mode, owner, time of change and content of everything below a directory.
    pub(crate) fn listing(root: &Path) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut open = std::vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let about = fs::symlink_metadata(&path).unwrap();
                let content = if about.is_file() {
                    fs::read_to_string(&path).unwrap()
                } else if about.is_symlink() {
                    fs::read_link(&path).unwrap().display().to_string()
                } else {
                    String::new()
                };
                let owner = (about.uid(), about.gid(), about.rdev());
                let text = format!("{:o} {owner:?} {} {content}", about.mode(), about.mtime());
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if about.is_dir() {
                    open.push(path);
                }
                all.insert(name, text);
            }
        }
        all
    }

    #[test]
    fn a_copy_has_all_that_the_original_has() {
        let temporary = tempfile::tempdir().unwrap();
        let from = temporary.path().join("from");
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::write(from.join("deep/file"), "content").unwrap();
        fs::set_permissions(from.join("deep/file"), Permissions::from_mode(0o4711)).unwrap();
        symlink("/nowhere", from.join("deep/link")).unwrap();
        mknodat(
            CWD,
            from.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o640),
            0,
        )
        .unwrap();
        let old = Timespec {
            tv_sec: 1_000,
            tv_nsec: 5,
        };
        let times = Timestamps {
            last_access: old,
            last_modification: old,
        };
        for name in ["deep/file", "deep/link", "deep/er", "deep", "fifo"] {
            utimensat(CWD, from.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        let to = temporary.path().join("to");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        copy(&text(&from), &text(&to), &|_| false, &mut || Ok(())).unwrap();
        assert_eq!(listing(&from), listing(&to));
        assert!(listing(&to)["deep/file"].contains(" 1000 content"));
        let part = temporary.path().join("part");
        copy(
            &text(&from),
            &text(&part),
            &|below| below == c"deep/er",
            &mut || Ok(()),
        )
        .unwrap();
        assert_eq!(listing(&part).len() + 1, listing(&from).len());
    }
}
