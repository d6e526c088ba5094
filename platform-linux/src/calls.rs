//! System calls that take a path, each once in a program, whatever kind of text and descriptor it is called with.
//!
//! rustix makes a function of its own for each pair of both, with a copy of the path in it: in a small program that is one byte in thirty. Names and arguments
//! here are those of rustix.
//!
//! # Invariants
//! - A path has at most 255 bytes ([`Errno::NAMETOOLONG`] otherwise) and no NUL ([`Errno::INVAL`]).

use core::ffi::CStr;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MountFlags, MoveMountFlags, UnmountFlags};

/// Room for the longest path and its NUL.
type Buffer = [u8; 256];

/// A path, as text or as the kernel takes it.
pub trait Path: Copy {
    /// The path with a NUL behind it, in the buffer where it has none yet.
    ///
    /// # Errors
    /// `NAMETOOLONG`, `INVAL`.
    fn with_nul<'b>(self, buffer: &'b mut Buffer) -> Result<&'b CStr, Errno>
    where
        Self: 'b;
}

impl Path for &str {
    fn with_nul<'b>(self, buffer: &'b mut Buffer) -> Result<&'b CStr, Errno>
    where
        Self: 'b,
    {
        with_nul(self.as_bytes(), buffer)
    }
}

impl Path for &CStr {
    fn with_nul<'b>(self, _: &'b mut Buffer) -> Result<&'b CStr, Errno>
    where
        Self: 'b,
    {
        Ok(self)
    }
}

fn with_nul<'b>(path: &[u8], buffer: &'b mut Buffer) -> Result<&'b CStr, Errno> {
    let room = buffer.get_mut(..path.len()).ok_or(Errno::NAMETOOLONG)?;
    room.copy_from_slice(path);
    *buffer.get_mut(path.len()).ok_or(Errno::NAMETOOLONG)? = 0;
    let whole = buffer.get(..=path.len()).unwrap_or_default();
    CStr::from_bytes_with_nul(whole).map_err(|_| Errno::INVAL)
}

/// Each call: the function that is called, which is gone after inlining, and the one that is there once.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident at $inner:ident ($($path:ident),+ $(; $($argument:ident: $type:ty),+)?) -> $result:ty = $call:path;)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// What the kernel says, and what is wrong with a path.
        #[inline(always)]
        pub fn $name<D: AsFd>(directory: D, $($path: impl Path,)+ $($($argument: $type),+)?) -> Result<$result, Errno> {
            $inner(directory.as_fd(), $($path,)+ $($($argument),+)?)
        }

        #[inline(never)]
        fn $inner(directory: BorrowedFd<'_>, $($path: impl Path,)+ $($($argument: $type),+)?) -> Result<$result, Errno> {
            $(let mut buffer = [0; 256]; let $path = $path.with_nul(&mut buffer)?;)+
            $call(directory, $($path,)+ $($($argument),+)?)
        }
    )+};
    ($($(#[$doc:meta])* $name:ident ($($path:ident),+ $(; $($argument:ident: $type:ty),+)?) -> $result:ty = $call:path;)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// What the kernel says, and what is wrong with a path.
        #[inline(never)]
        pub fn $name($($path: impl Path,)+ $($($argument: $type),+)?) -> Result<$result, Errno> {
            $(let mut buffer = [0; 256]; let $path = $path.with_nul(&mut buffer)?;)+
            $call($($path,)+ $($($argument),+)?)
        }
    )+};
}

calls! {
    /// openat(2).
    openat at openat_in (path; flags: OFlags, mode: Mode) -> OwnedFd = rustix::fs::openat;
    /// openat2(2).
    openat2 at openat2_in (path; flags: OFlags, mode: Mode, resolve: ResolveFlags) -> OwnedFd = rustix::fs::openat2;
    /// fstatat(2).
    statat at statat_in (path; flags: AtFlags) -> Stat = rustix::fs::statat;
    /// unlinkat(2).
    unlinkat at unlinkat_in (path; flags: AtFlags) -> () = rustix::fs::unlinkat;
    /// mkdirat(2).
    mkdirat at mkdirat_in (path; mode: Mode) -> () = rustix::fs::mkdirat;
    /// fsconfig(2), with a text for a key.
    fsconfig_set_string at set_string_of (key, value) -> () = rustix::mount::fsconfig_set_string;
    /// fsconfig(2), with a key alone.
    fsconfig_set_flag at set_flag_of (key) -> () = rustix::mount::fsconfig_set_flag;
}

calls! {
    /// stat(2).
    stat (path) -> Stat = rustix::fs::stat;
    /// lstat(2).
    lstat (path) -> Stat = rustix::fs::lstat;
    /// unlink(2).
    unlink (path) -> () = rustix::fs::unlink;
    /// rename(2).
    rename (from, to) -> () = rustix::fs::rename;
    /// fsopen(2).
    fsopen (name; flags: FsOpenFlags) -> OwnedFd = rustix::mount::fsopen;
    /// mount(2), of a file system.
    mount (source, target, kind; flags: MountFlags, data: Option<&CStr>) -> () = rustix::mount::mount;
    /// mount(2), of what is mounted elsewhere.
    mount_bind (source, target) -> () = rustix::mount::mount_bind;
    /// mount(2), to another place.
    mount_move (source, target) -> () = rustix::mount::mount_move;
    /// umount2(2).
    unmount (target; flags: UnmountFlags) -> () = rustix::mount::unmount;
}

/// renameat(2).
///
/// # Errors
/// What the kernel says, and what is wrong with a path.
#[inline(always)]
pub fn renameat<D: AsFd, E: AsFd>(
    old_directory: D,
    old: impl Path,
    new_directory: E,
    new: impl Path,
) -> Result<(), Errno> {
    renameat_in(old_directory.as_fd(), old, new_directory.as_fd(), new)
}

#[inline(never)]
fn renameat_in(
    old_directory: BorrowedFd<'_>,
    old: impl Path,
    new_directory: BorrowedFd<'_>,
    new: impl Path,
) -> Result<(), Errno> {
    let mut buffers = [[0; 256]; 2];
    let [first, second] = &mut buffers;
    let (old, new) = (old.with_nul(first)?, new.with_nul(second)?);
    rustix::fs::renameat(old_directory, old, new_directory, new)
}

/// symlinkat(2).
///
/// # Errors
/// What the kernel says, and what is wrong with a path.
#[inline(always)]
pub fn symlinkat<D: AsFd>(target: impl Path, directory: D, path: impl Path) -> Result<(), Errno> {
    symlinkat_in(target, directory.as_fd(), path)
}

#[inline(never)]
fn symlinkat_in(
    target: impl Path,
    directory: BorrowedFd<'_>,
    path: impl Path,
) -> Result<(), Errno> {
    let mut buffers = [[0; 256]; 2];
    let [first, second] = &mut buffers;
    let (target, path) = (target.with_nul(first)?, path.with_nul(second)?);
    rustix::fs::symlinkat(target, directory, path)
}

/// readlinkat(2), into a buffer; gives what it has, and the rest of the buffer.
///
/// # Errors
/// What the kernel says, and what is wrong with a path.
pub fn readlinkat_raw<D: AsFd>(
    directory: D,
    path: impl Path,
    into: &mut [MaybeUninit<u8>],
) -> Result<(&mut [u8], &mut [MaybeUninit<u8>]), Errno> {
    let mut buffer = [0; 256];
    let path = path.with_nul(&mut buffer)?;
    rustix::fs::readlinkat_raw(directory, path, into)
}

/// move_mount(2).
///
/// # Errors
/// What the kernel says, and what is wrong with a path.
#[inline(always)]
pub fn move_mount<D: AsFd, E: AsFd>(
    from_directory: D,
    from: &str,
    to_directory: E,
    to: &str,
    flags: MoveMountFlags,
) -> Result<(), Errno> {
    move_mount_in(
        from_directory.as_fd(),
        from,
        to_directory.as_fd(),
        to,
        flags,
    )
}

#[inline(never)]
fn move_mount_in(
    from_directory: BorrowedFd<'_>,
    from: &str,
    to_directory: BorrowedFd<'_>,
    to: &str,
    flags: MoveMountFlags,
) -> Result<(), Errno> {
    let mut buffers = [[0; 256]; 2];
    let [first, second] = &mut buffers;
    let (from, to) = (from.with_nul(first)?, to.with_nul(second)?);
    rustix::mount::move_mount(from_directory, from, to_directory, to, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn a_path_is_taken_whole_or_refused() {
        let mut buffer = [0xa5; 256];
        assert_eq!("/a/b".with_nul(&mut buffer), Ok(c"/a/b"));
        assert_eq!("".with_nul(&mut buffer), Ok(c""));
        assert_eq!("a\0b".with_nul(&mut buffer), Err(Errno::INVAL));
        let longest = "x".repeat(255);
        let taken: String = longest
            .with_nul(&mut buffer)
            .unwrap()
            .to_str()
            .unwrap()
            .into();
        assert_eq!(taken, longest);
        for more in [256, 257, 5000] {
            assert_eq!(
                "x".repeat(more).as_str().with_nul(&mut buffer),
                Err(Errno::NAMETOOLONG)
            );
        }
        assert_eq!(c"as it is".with_nul(&mut buffer), Ok(c"as it is"));
    }
}
