//! Copies of whole directory trees, for what is not sealed: owner, mode, times, extended attributes, links and device nodes.
//!
//! # Invariants
//! - Nothing is followed: a symbolic link is copied as one, and neither tree is left through one.
//! - What a tree cannot be without (content, owner, mode) is an error when it cannot be copied.
//!
//! # Power loss
//! A copy is made beside its final place, by the callers; what a cut leaves of one is removed by the next boot.

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lgetxattr,
    llistxattr, lsetxattr, makedev, mknodat, utimensat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink,
};
use std::path::Path;

/// Called before every change, so that a test can end the work there as a power cut does.
pub type Step<'s> = &'s mut dyn FnMut() -> io::Result<()>;

/// Longest list of attribute names, and longest value, that Linux allows (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTE_MAX_BYTES: usize = 65_536;

/// What an overlay notes about where a file came from, and which overlay it is. The first names a file of the image that the copy
/// no longer lies on; the second must not be that of two overlays.
const OVERLAYS_OWN: [&CStr; 2] = [c"trusted.overlay.origin", c"trusted.overlay.uuid"];

/// Copies the entry at `from`, with all below it, to `to`, which must not exist. `skip` says which entries (by their path
/// below `from`) are left out.
///
/// # Errors
/// What cannot be read or made.
pub fn copy(
    from: &Path,
    to: &Path,
    skip: &dyn Fn(&Path) -> bool,
    step: Step<'_>,
) -> io::Result<()> {
    copy_below(from, to, Path::new(""), skip, step)
}

fn copy_below(
    from: &Path,
    to: &Path,
    below: &Path,
    skip: &dyn Fn(&Path) -> bool,
    step: Step<'_>,
) -> io::Result<()> {
    let about = fs::symlink_metadata(from)?;
    let kind = about.file_type();
    if kind.is_socket() {
        // A socket without its process is nothing.
        return Ok(());
    }
    step()?;
    if kind.is_dir() {
        DirBuilder::new().mode(0o700).create(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            let below = below.join(&name);
            if !skip(&below) {
                copy_below(&from.join(&name), &to.join(&name), &below, skip, step)?;
            }
        }
    } else if kind.is_file() {
        let mut new = OpenOptions::new();
        let mut new = new.write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(&mut File::open(from)?, &mut new)?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else {
        make_node(&about, to)?;
    }
    step()?;
    dress(from, &about, to)
}

/// A device node or a FIFO. An overlay says "deleted" with a character device of number 0:0.
fn make_node(about: &Metadata, to: &Path) -> io::Result<()> {
    let kind = FileType::from_raw_mode(about.mode());
    let (major, minor) = (
        rustix::fs::major(about.rdev()),
        rustix::fs::minor(about.rdev()),
    );
    mknodat(
        CWD,
        to,
        kind,
        Mode::from_raw_mode(0o600),
        makedev(major, minor),
    )?;
    Ok(())
}

/// Owner, then mode (a change of owner takes set-user-ID away), then attributes, then times.
fn dress(from: &Path, about: &Metadata, to: &Path) -> io::Result<()> {
    let owner = Uid::from_raw(about.uid());
    let group = Gid::from_raw(about.gid());
    chownat(CWD, to, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    if !about.file_type().is_symlink() {
        fs::set_permissions(to, Permissions::from_mode(about.mode() & 0o7777))?;
    }
    copy_attributes(from, to)?;
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: time(about.atime(), about.atime_nsec()),
        last_modification: time(about.mtime(), about.mtime_nsec()),
    };
    utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE_MAX_BYTES];
    let length = match llistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let names = names.get(..length).unwrap_or(&[]);
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if OVERLAYS_OWN.contains(&name) {
            continue;
        }
        let mut value = vec![0; ATTRIBUTE_MAX_BYTES];
        let length = lgetxattr(from, name, &mut value)?;
        let value = value.get(..length).unwrap_or(&[]);
        lsetxattr(to, name, value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Removes a tree; fine when there is none.
///
/// # Errors
/// What cannot be removed.
pub fn remove(path: &Path, step: Step<'_>) -> io::Result<()> {
    step()?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Brings the whole file system that holds `path` to the medium.
///
/// # Errors
/// When the medium refuses.
pub fn sync(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Ends the work at step number `left`, as a power cut does.
    pub(crate) fn cut_after(mut left: usize) -> impl FnMut() -> io::Result<()> {
        move || {
            left = left.checked_sub(1).ok_or_else(|| io::Error::other("cut"))?;
            Ok(())
        }
    }

    /// Type, mode, owner, time of change and content of everything below a directory.
    pub(crate) fn listing(root: &Path) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut open = vec![root.to_owned()];
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
        copy(&from, &to, &|_| false, &mut || Ok(())).unwrap();
        assert_eq!(listing(&from), listing(&to));
        assert!(listing(&to)["deep/file"].contains(" 1000 content"));
        let part = temporary.path().join("part");
        copy(
            &from,
            &part,
            &|below| below == Path::new("deep/er"),
            &mut || Ok(()),
        )
        .unwrap();
        assert_eq!(listing(&part).len() + 1, listing(&from).len());
    }
}
