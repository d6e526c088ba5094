//! The system calls that have no safe form in `rustix`: a few `ioctl`s.
//!
//! # Invariants
//! - Every number and layout here is the kernel's, with its header named, and a test compares it with the published value.

use rustix::fd::AsFd;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::ioctl::{
    Getter, IntegerSetter, Ioctl, IoctlOutput, Opcode, Setter, Updater, ioctl, opcode,
};

/// Longest digest that the kernel gives (SHA-512).
pub(crate) const VERITY_DIGEST_MAX_BYTES: usize = 64;

/// Block size of the Merkle tree, the only one that composefs knows.
const VERITY_BLOCK_BYTES: u32 = 4096;

/// `BLKGETSIZE64` of `linux/fs.h`: declared with a `size_t`, answers with a `u64`.
const BLOCK_DEVICE_BYTES: Opcode = opcode::read::<usize>(0x12, 114);

/// `BLKRRPART` of `linux/fs.h`.
const REREAD_PARTITIONS: Opcode = opcode::none(0x12, 95);

/// `FS_IOC_ENABLE_VERITY` of `linux/fsverity.h`.
const ENABLE_VERITY: Opcode = opcode::write::<EnableArgument>(b'f', 133);

/// `FS_IOC_MEASURE_VERITY` of `linux/fsverity.h`: declared with the header of the structure alone.
const MEASURE_VERITY: Opcode = opcode::read_write::<[u16; 2]>(b'f', 134);

/// `WDIOC_GETSUPPORT` of `linux/watchdog.h`: answers with a `struct watchdog_info`.
const WATCHDOG_SUPPORT: Opcode = opcode::read::<WatchdogSupport>(b'W', 0);

/// `WDIOC_KEEPALIVE` of `linux/watchdog.h`: declared with an `int`, which the kernel neither reads nor writes.
const KEEP_WATCHDOG_ALIVE: Opcode = opcode::read::<i32>(b'W', 5);

/// `WDIOC_SETTIMEOUT` of `linux/watchdog.h`: takes seconds and answers with those that it took.
const SET_WATCHDOG_SECONDS: Opcode = opcode::read_write::<i32>(b'W', 6);

/// `LOOP_CTL_GET_FREE` of `linux/loop.h`: the answer is what the call returns.
const FREE_LOOP: Opcode = 0x4C82;

/// `LOOP_SET_FD` of `linux/loop.h`: the argument is a file descriptor.
const SET_LOOP_FILE: Opcode = 0x4C00;

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct EnableArgument {
    version: u32,
    hash_algorithm: u32,
    block_bytes: u32,
    salt_bytes: u32,
    salt_pointer: u64,
    signature_bytes: u32,
    reserved1: u32,
    signature_pointer: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest` with room for the longest digest.
#[repr(C)]
pub(crate) struct MeasuredDigest {
    /// `FS_VERITY_HASH_ALG_*`.
    pub algorithm: u16,
    /// Room before the call, length of the digest after it.
    pub bytes: u16,
    /// The digest, then what was there before the call.
    pub digest: [u8; VERITY_DIGEST_MAX_BYTES],
}

/// `struct watchdog_info`.
#[repr(C)]
struct WatchdogSupport {
    /// `WDIOF_*`.
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// Size of a block device in bytes.
pub(crate) fn block_device_bytes<Fd: AsFd>(device: Fd) -> Result<u64, Errno> {
    // SAFETY: the opcode is valid, and for it the kernel writes one `u64` (`put_u64` in block/ioctl.c) on every architecture.
    let call = unsafe { Getter::<BLOCK_DEVICE_BYTES, u64>::new() };
    // SAFETY: the call only writes into the `u64` that the getter owns; other kinds of files refuse it with ENOTTY.
    unsafe { ioctl(device, call) }
}

/// Has the kernel look for the partitions of a disk again; `EBUSY` when one is in use.
pub(crate) fn reread_partitions<Fd: AsFd>(disk: Fd) -> Result<(), Errno> {
    // SAFETY: the opcode is valid; the kernel looks at no argument of it.
    let call = unsafe { IntegerSetter::<REREAD_PARTITIONS>::new_usize(0) };
    // SAFETY: the call touches no memory; other kinds of files refuse it with ENOTTY.
    unsafe { ioctl(disk, call) }
}

/// Seals a file with fs-verity: 4 KiB blocks, no salt. `file` must be open for reading only, and by nobody for writing.
pub(crate) fn enable_verity<Fd: AsFd>(file: Fd, hash_algorithm: u32) -> Result<(), Errno> {
    let argument = EnableArgument {
        version: 1,
        hash_algorithm,
        block_bytes: VERITY_BLOCK_BYTES,
        salt_bytes: 0,
        salt_pointer: 0,
        signature_bytes: 0,
        reserved1: 0,
        signature_pointer: 0,
        reserved2: [0; 11],
    };
    // SAFETY: the opcode is valid, and `EnableArgument` has the layout that the kernel expects for it.
    let call = unsafe { Setter::<ENABLE_VERITY, EnableArgument>::new(argument) };
    // SAFETY: the kernel only reads the argument; its two pointers are null and their lengths 0.
    unsafe { ioctl(file, call) }
}

/// Asks the kernel for the fs-verity digest of a file; `ENODATA` when the file is not sealed.
pub(crate) fn measure_verity<Fd: AsFd>(file: Fd) -> Result<MeasuredDigest, Errno> {
    let mut digest = MeasuredDigest {
        algorithm: 0,
        bytes: VERITY_DIGEST_MAX_BYTES as u16,
        digest: [0; VERITY_DIGEST_MAX_BYTES],
    };
    // SAFETY: the opcode is valid, and `MeasuredDigest` is the kernel's header followed by as much room as its length field says.
    let call = unsafe { Updater::<MEASURE_VERITY, MeasuredDigest>::new(&mut digest) };
    // SAFETY: the kernel reads the header, and writes the header and at most `bytes` bytes after it; all are plain integers.
    unsafe { ioctl(file, call) }?;
    Ok(digest)
}

/// What the driver of an open watchdog can do, as `WDIOF_*`.
pub(crate) fn watchdog_options<Fd: AsFd>(watchdog: Fd) -> Result<u32, Errno> {
    // SAFETY: the opcode is valid, and for it the kernel writes one `struct watchdog_info`.
    let call = unsafe { Getter::<WATCHDOG_SUPPORT, WatchdogSupport>::new() };
    // SAFETY: the call only writes into the structure that the getter owns, plain integers of the kernel's layout; other kinds of
    // files refuse it with ENOTTY.
    unsafe { ioctl(watchdog, call) }.map(|support| support.options)
}

/// Sets the time of an open watchdog in seconds; gives the time that it took.
pub(crate) fn set_watchdog_seconds<Fd: AsFd>(watchdog: Fd, seconds: i32) -> Result<i32, Errno> {
    let mut taken = seconds;
    // SAFETY: the opcode is valid, and for it the kernel reads and writes one `int`.
    let call = unsafe { Updater::<SET_WATCHDOG_SECONDS, i32>::new(&mut taken) };
    // SAFETY: the call only touches the `int` that the updater borrows; other kinds of files refuse it with ENOTTY.
    unsafe { ioctl(watchdog, call) }?;
    Ok(taken)
}

/// Starts the time of an open watchdog anew.
pub(crate) fn keep_watchdog_alive<Fd: AsFd>(watchdog: Fd) -> Result<(), Errno> {
    // SAFETY: the opcode is valid; the kernel looks at no argument of it.
    let call = unsafe { IntegerSetter::<KEEP_WATCHDOG_ALIVE>::new_usize(0) };
    // SAFETY: the call touches no memory; other kinds of files refuse it with ENOTTY.
    unsafe { ioctl(watchdog, call) }
}

/// Shows a file as a read-only block device; gives the number of the loop device.
pub(crate) fn attach_loop<Fd: AsFd>(file: Fd) -> Result<u32, Errno> {
    let control = open_device("/dev/loop-control", OFlags::RDWR)?;
    // SAFETY: the call touches no memory, and its answer is a number.
    let number = unsafe { ioctl(&control, FreeLoop) }?;
    let mut path = heapless::String::<32>::new();
    // A number of ten digits at most: it fits.
    let _ = core::fmt::Write::write_fmt(&mut path, format_args!("/dev/loop{number}"));
    // Opened for reading only, so the kernel makes it read-only.
    let device = open_device(&path, OFlags::RDONLY)?;
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: the opcode is valid, and its argument is the number of a descriptor that is open during the call.
    let call = unsafe { IntegerSetter::<SET_LOOP_FILE>::new_usize(descriptor as usize) };
    // SAFETY: the call touches no memory of ours; the kernel takes a reference of its own to the file.
    unsafe { ioctl(&device, call) }?;
    Ok(number)
}

fn open_device(path: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    openat(CWD, path, access | OFlags::CLOEXEC, Mode::empty())
}

/// Asks for the number of a loop device that is free.
struct FreeLoop;

// SAFETY: the opcode takes no argument, and the kernel answers with the value that the call returns.
unsafe impl Ioctl for FreeLoop {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        FREE_LOOP
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _: *mut core::ffi::c_void,
    ) -> Result<Self::Output, Errno> {
        u32::try_from(output).map_err(|_| Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_and_numbers_are_the_kernels() {
        assert_eq!(size_of::<EnableArgument>(), 128);
        assert_eq!(core::mem::offset_of!(EnableArgument, signature_pointer), 32);
        assert_eq!(core::mem::offset_of!(MeasuredDigest, digest), 4);
        assert_eq!([ENABLE_VERITY, MEASURE_VERITY], [0x4080_6685, 0xc004_6686]);
        assert_eq!(
            [WATCHDOG_SUPPORT, KEEP_WATCHDOG_ALIVE, SET_WATCHDOG_SECONDS],
            [0x8028_5700, 0x8004_5705, 0xc004_5706]
        );
        assert_eq!(REREAD_PARTITIONS, 0x125f);
        #[cfg(target_pointer_width = "64")]
        assert_eq!(BLOCK_DEVICE_BYTES, 0x8008_1272);
    }

    #[test]
    fn other_files_refuse_the_calls() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(block_device_bytes(&file), Err(Errno::NOTTY));
        assert_eq!(reread_partitions(&file), Err(Errno::NOTTY));
        assert!(measure_verity(&file).is_err());
        assert_eq!(watchdog_options(&file), Err(Errno::NOTTY));
        assert_eq!(set_watchdog_seconds(&file, 60), Err(Errno::NOTTY));
        assert_eq!(keep_watchdog_alive(&file), Err(Errno::NOTTY));
    }
}
