//! Files and directories by descriptor: whole reads and writes, durable creation, directories without symbolic links.

use crate::calls::{mkdirat, openat, statat, unlinkat};
use crate::fault::fault_of;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use heapless::String;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, OFlags, RawDir, fstat, fsync};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use twinseal_core::error::StorageFault;

/// Permissions of new files; a umask narrows them.
pub(crate) const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Permissions of new directories; a umask narrows them.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// A directory is read this many bytes at a time: a longest name (255 bytes) fits many times.
const ENTRIES_BYTES: usize = 8192;

/// What never follows a symbolic link, never outlives an `exec`, and never waits for the other end of a FIFO.
pub(crate) const NO_LINKS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Reads until `buffer` is full or the file ends; gives the bytes read.
///
/// # Errors
/// What the kernel says.
pub fn read_up_to<Fd: AsFd>(file: Fd, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match retry_on_intr(|| pread(&file, &mut *rest, offset + done as u64))? {
            0 => break,
            bytes => done += bytes,
        }
    }
    Ok(done)
}

/// Reads exactly `buffer.len()` bytes.
pub(crate) fn read_exact<Fd: AsFd>(
    file: Fd,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), StorageFault> {
    match read_up_to(file, offset, buffer) {
        Ok(bytes) if bytes == buffer.len() => Ok(()),
        Ok(_) => Err(StorageFault::Short),
        Err(errno) => Err(fault_of(errno)),
    }
}

/// Reads, and takes what lies past the end as zeros.
pub(crate) fn read_or_zeros<Fd: AsFd>(
    file: Fd,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    let bytes = read_up_to(file, offset, buffer)?;
    buffer.iter_mut().skip(bytes).for_each(|byte| *byte = 0);
    Ok(())
}

/// Writes all of `bytes`.
///
/// # Errors
/// What the kernel says.
pub fn write_all<Fd: AsFd>(file: Fd, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match retry_on_intr(|| pwrite(&file, rest, offset + done as u64))? {
            0 => return Err(Errno::IO),
            written => done += written,
        }
    }
    Ok(())
}

/// Puts a path together from its parts.
///
/// # Errors
/// `ENAMETOOLONG` when it does not fit.
pub fn join<const N: usize>(parts: &[&str]) -> Result<String<N>, Errno> {
    let mut path = String::new();
    parts
        .iter()
        .try_for_each(|part| path.push_str(part))
        .map_err(|_| Errno::NAMETOOLONG)?;
    Ok(path)
}

/// Opens a directory that the configuration names; symbolic links on the way are the owner's business.
///
/// # Errors
/// What the kernel says.
pub fn open_directory_path(path: &str) -> Result<OwnedFd, Errno> {
    openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens a directory inside a slot, never through a symbolic link.
pub(crate) fn open_directory<Fd: AsFd>(parent: Fd, name: &str) -> Result<OwnedFd, Errno> {
    openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | NO_LINKS,
        Mode::empty(),
    )
}

/// Opens a directory inside a slot, and makes it when it is missing.
pub(crate) fn ensure_directory<Fd: AsFd>(parent: Fd, name: &str) -> Result<OwnedFd, Errno> {
    match open_directory(&parent, name) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    match mkdirat(&parent, name, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => open_directory(parent, name),
        Err(errno) => Err(errno),
    }
}

/// The length of a regular file; `ENXIO` for anything else.
pub(crate) fn regular_length<Fd: AsFd>(file: Fd) -> Result<u64, Errno> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode).is_file() {
        Ok(stat.st_size as u64)
    } else {
        Err(Errno::NXIO)
    }
}

/// What tells one file from another, whatever its path: the file system and the number in it.
pub(crate) fn identity<Fd: AsFd>(file: Fd) -> Result<(Dev, u64), Errno> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// `None` for what is not there.
///
/// # Errors
/// Every other one.
pub fn if_there<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes a file (or a symbolic link, not what it points to); gives whether there was one.
pub(crate) fn remove<Fd: AsFd>(parent: Fd, name: &str) -> Result<bool, Errno> {
    Ok(if_there(unlinkat(parent, name, AtFlags::empty()))?.is_some())
}

/// Opens for reading and writing a file in a slot that nobody else may share: made anew when what stands there is a symbolic
/// link, is not a regular file, has a second name (which would be written too) or refuses to be written, as a file sealed just
/// before a power cut does.
pub(crate) fn open_own<Fd: AsFd>(parent: Fd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | NO_LINKS;
    if let Some(stat) = if_there(statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW))? {
        if FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_nlink == 1 {
            match openat(&parent, name, flags, Mode::empty()) {
                Err(Errno::PERM | Errno::ACCESS) => {}
                other => return other,
            }
        }
        remove(&parent, name)?;
    }
    openat(
        parent,
        name,
        flags | OFlags::CREATE | OFlags::EXCL,
        FILE_MODE,
    )
}

/// Opens for reading and writing a file that the configuration names, and makes it when it is missing: durably, directory
/// entry included. Gives whether it was made.
pub(crate) fn open_or_make(path: &str) -> Result<(OwnedFd, bool), Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other.map(|file| (file, false)),
    }
    let file = openat(CWD, path, flags | OFlags::CREATE, FILE_MODE)?;
    fsync(&file)?;
    sync_parent(path)?;
    Ok((file, true))
}

/// Brings the directory that holds `path` to the medium.
pub(crate) fn sync_parent(path: &str) -> Result<(), Errno> {
    let parent = match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => ".",
    };
    fsync(open_directory_path(parent)?)
}

/// Calls `visit` for every entry of a directory, `.` and `..` left out. An entry may be removed while it is visited.
///
/// # Errors
/// What the kernel says, and what `visit` says.
pub fn for_each_entry<Fd: AsFd, V>(directory: Fd, mut visit: V) -> Result<(), Errno>
where
    V: FnMut(&CStr) -> Result<(), Errno>,
{
    visit_entries(directory.as_fd(), &mut visit)
}

/// The loop of [`for_each_entry`], once in a program whoever visits.
fn visit_entries(
    directory: BorrowedFd<'_>,
    visit: &mut dyn FnMut(&CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    // A descriptor of its own: reading moves its position.
    let directory = openat(
        directory,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); ENTRIES_BYTES];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            visit(entry.file_name())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, fs, string::String, vec::Vec};

    fn directory() -> (tempfile::TempDir, OwnedFd) {
        let temporary = tempfile::tempdir().unwrap();
        let descriptor = open_directory_path(temporary.path().to_str().unwrap()).unwrap();
        (temporary, descriptor)
    }

    #[test]
    fn reads_say_where_a_file_ends() {
        let (_temporary, parent) = directory();
        let file = open_own(&parent, "file").unwrap();
        write_all(&file, 0, b"abcdef").unwrap();
        let mut buffer = [0xa5; 4];
        assert_eq!(read_exact(&file, 2, &mut buffer), Ok(()));
        assert_eq!(&buffer, b"cdef");
        assert_eq!(read_exact(&file, 3, &mut buffer), Err(StorageFault::Short));
        read_or_zeros(&file, 4, &mut buffer).unwrap();
        assert_eq!(&buffer, b"ef\0\0");
        read_or_zeros(&file, 1 << 40, &mut buffer).unwrap();
        assert_eq!(buffer, [0; 4]);
    }

    #[test]
    fn a_directory_behind_a_symbolic_link_is_refused() {
        let (temporary, parent) = directory();
        fs::create_dir(temporary.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", temporary.path().join("link")).unwrap();
        assert!(open_directory(&parent, "real").is_ok());
        assert!(open_directory(&parent, "link").is_err());
        assert!(ensure_directory(&parent, "link").is_err());
        assert!(ensure_directory(&parent, "new").is_ok());
        assert!(temporary.path().join("new").is_dir());
    }

    #[test]
    fn a_file_of_our_own_is_shared_with_nobody() {
        let (temporary, parent) = directory();
        let victim = temporary.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink("victim", temporary.path().join("soft")).unwrap();
        fs::hard_link(&victim, temporary.path().join("hard")).unwrap();
        rustix::fs::mknodat(&parent, "fifo", FileType::Fifo, FILE_MODE, 0).unwrap();
        for name in ["soft", "hard", "fifo"] {
            let file = open_own(&parent, name).unwrap();
            assert_eq!(regular_length(&file), Ok(0), "{name}");
            write_all(&file, 0, b"overwritten").unwrap();
            assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
        }
        let again = open_own(&parent, "soft").unwrap();
        assert_eq!(regular_length(&again), Ok(11), "what is ours is kept");
    }

    #[test]
    fn every_entry_is_visited_and_may_be_removed() {
        let (temporary, parent) = directory();
        let names: Vec<String> = (0..500)
            .map(|number| format!("entry-{number}-{}", "x".repeat(number % 200)))
            .collect();
        names
            .iter()
            .for_each(|name| fs::write(temporary.path().join(name), "").unwrap());
        let mut visited = Vec::new();
        for_each_entry(&parent, |name| {
            let name = name.to_str().unwrap();
            visited.push(String::from(name));
            remove(&parent, name).map(|_| ())
        })
        .unwrap();
        visited.sort();
        let mut expected = names;
        expected.sort();
        assert_eq!(visited, expected);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_made_file_is_told_from_a_found_one() {
        let (temporary, _parent) = directory();
        let path = temporary.path().join("state");
        let path = path.to_str().unwrap();
        assert!(open_or_make(path).unwrap().1);
        assert!(!open_or_make(path).unwrap().1);
        assert_eq!(
            open_or_make(&format!("{path}/below")).unwrap_err(),
            Errno::NOTDIR
        );
    }
}
