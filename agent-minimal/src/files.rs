//! Files and directories by path, without a heap.
//!
//! # Invariants
//! - A path that does not fit its buffer is an error (`ENAMETOOLONG`), never a shorter path.

use core::ffi::CStr;
use heapless::{String, Vec};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fsync, ftruncate};
use rustix::io::Errno;
use twinseal_platform_linux::calls::{Path, lstat, mkdirat, openat, stat};
use twinseal_platform_linux::file::{if_there, open_directory_path, read_up_to, write_all};

/// Longest path of ours, in bytes. All of them are constants with a set's letter or a digest in them.
pub const OWN_PATH_MAX_BYTES: usize = 255;

/// Longest path that the kernel takes, with its NUL (`PATH_MAX` of `linux/limits.h`).
pub const PATH_MAX_BYTES: usize = 4096;

/// A path that this program makes of constants.
pub type OwnPath = String<OWN_PATH_MAX_BYTES>;

/// A path that names from a medium are added to and taken from again, as a walk through a tree goes down and up.
pub struct WalkPath {
    /// The path and its NUL.
    bytes: Vec<u8, PATH_MAX_BYTES>,
}

impl WalkPath {
    /// Starts at `path`.
    ///
    /// # Errors
    /// `ENAMETOOLONG`.
    pub fn new(path: &str) -> Result<Self, Errno> {
        let mut bytes = Vec::new();
        let fits = bytes
            .extend_from_slice(path.as_bytes())
            .and_then(|()| bytes.extend_from_slice(&[0]));
        fits.map_err(|_| Errno::NAMETOOLONG)?;
        Ok(Self { bytes })
    }

    /// As the kernel takes it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    /// Goes down to `name`; gives what [`Self::leave`] takes to come back.
    ///
    /// # Errors
    /// `ENAMETOOLONG`; the path is then the same as before.
    pub fn enter(&mut self, name: &CStr) -> Result<usize, Errno> {
        let length = self.as_c_str().count_bytes();
        let separator: &[u8] = if length == 0 { b"" } else { b"/" };
        let name = name.to_bytes_with_nul();
        if length + separator.len() + name.len() > PATH_MAX_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes.truncate(length);
        // It was looked at above: it fits.
        let _ = self.bytes.extend_from_slice(separator);
        let _ = self.bytes.extend_from_slice(name);
        Ok(length)
    }

    /// Comes back up.
    pub fn leave(&mut self, length: usize) {
        self.bytes.truncate(length);
        // A NUL stood there before the name.
        let _ = self.bytes.push(0);
    }
}

/// Makes a directory and those above it; fine when they are there.
///
/// # Errors
/// What the kernel says.
pub fn make_directories(path: &str) -> Result<(), Errno> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    for end in ends.chain([path.len()]) {
        let part = path.get(..end).unwrap_or(path);
        match mkdirat(CWD, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // On a medium for reading only this stands for a directory that is there, too.
            Err(Errno::ROFS) if is_directory(part) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads a file from its start until `buffer` is full or the file ends.
///
/// # Errors
/// What the kernel says.
pub fn read<'b>(path: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    // A FIFO without another end is an empty file.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(CWD, path, flags, Mode::empty())?;
    let length = read_up_to(file, 0, buffer)?;
    Ok(buffer.get(..length).unwrap_or(&[]))
}

/// Writes a file anew, and does not wait for the medium.
///
/// # Errors
/// What the kernel says.
pub fn write(path: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(0o644))?;
    ftruncate(&file, 0)?;
    write_all(&file, 0, bytes)
}

/// Writes over the beginning of a file that is there, which ends behind it then, and brings it to the medium: where there is no room for
/// another file.
///
/// # Errors
/// What the kernel says.
pub fn overwrite(path: &str, bytes: &[u8]) -> Result<(), Errno> {
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_all(&file, 0, bytes)?;
    ftruncate(&file, bytes.len() as u64)?;
    fsync(file)
}

/// Makes an empty file, and brings it to the medium with its name in `directory`.
///
/// # Errors
/// What the kernel says.
pub fn make_durably(path: &str, directory: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(0o644))?;
    ftruncate(&file, 0)?;
    fsync(file)?;
    fsync(open_directory_path(directory)?)
}

/// Whether a directory is there, or a link to one; what cannot be looked at is none.
pub fn is_directory(path: &str) -> bool {
    stat(path).is_ok_and(|about| kind(&about).is_dir())
}

/// Whether something stands at a path, or behind the link there.
///
/// # Errors
/// What the kernel says.
pub fn exists(path: &str) -> Result<bool, Errno> {
    Ok(if_there(stat(path))?.is_some())
}

/// What stands at a path, itself and not what a link points to; `None` when nothing does.
///
/// # Errors
/// What the kernel says.
pub fn about(path: impl Path) -> Result<Option<Stat>, Errno> {
    if_there(lstat(path))
}

/// What kind of file it is.
pub fn kind(about: &Stat) -> FileType {
    FileType::from_raw_mode(about.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_walk_goes_down_and_comes_back() {
        let mut path = WalkPath::new("/top").unwrap();
        let top = path.enter(c"below").unwrap();
        let below = path.enter(c"deep").unwrap();
        assert_eq!(path.as_c_str(), c"/top/below/deep");
        path.leave(below);
        assert_eq!(path.as_c_str(), c"/top/below");
        path.leave(top);
        assert_eq!(path.as_c_str(), c"/top");
        let mut empty = WalkPath::new("").unwrap();
        empty.enter(c"first").unwrap();
        assert_eq!(empty.as_c_str(), c"first");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut path = WalkPath::new("/top").unwrap();
        let name = std::ffi::CString::new([b'x'; 255]).unwrap();
        let mut entered = 0;
        while path.enter(&name).is_ok() {
            entered += 1;
        }
        assert_eq!(entered, 15, "15 names of 256 bytes with their separators");
        assert_eq!(path.as_c_str().count_bytes(), 4 + 15 * 256);
        assert!(WalkPath::new(&"x".repeat(PATH_MAX_BYTES)).is_err());
    }

    #[test]
    fn directories_are_made_down_to_the_last_and_files_are_written_anew() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b/c");
        let path = path.to_str().unwrap();
        make_directories(path).unwrap();
        make_directories(path).unwrap();
        assert!(is_directory(path));
        let file = std::format!("{path}/file");
        write(&file, b"longer than before").unwrap();
        write(&file, b"short").unwrap();
        let mut buffer = [0; 3];
        assert_eq!(read(&file, &mut buffer), Ok(&b"sho"[..]));
        assert_eq!(
            make_directories(&std::format!("{file}/d")),
            Err(Errno::NOTDIR)
        );
        make_durably(&file, path).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"");
        let missing = std::format!("{path}/missing");
        assert_eq!(read(&missing, &mut buffer), Err(Errno::NOENT));
        assert!(about(missing.as_str()).unwrap().is_none());
    }
}
