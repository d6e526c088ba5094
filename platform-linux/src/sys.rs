//! The system calls that have no safe form in `rustix`: a few `ioctl`s, and the address of a packet socket.
//!
//! # Invariants
//! - Every number and layout here is the kernel's, with its header named, and a test compares it with the published value.

use crate::calls::openat;
use rustix::fd::AsFd;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{
    Getter, IntegerSetter, Ioctl, IoctlOutput, Opcode, Setter, Updater, ioctl, opcode,
};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

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

/// `SIOCGIFFLAGS` of `linux/sockios.h`, which has no direction and no size in its numbers.
const INTERFACE_FLAGS: Opcode = 0x8913;

/// `SIOCSIFFLAGS` of `linux/sockios.h`.
const SET_INTERFACE_FLAGS: Opcode = 0x8914;

/// `SIOCGIFHWADDR` of `linux/sockios.h`.
const INTERFACE_ADDRESS: Opcode = 0x8927;

/// `AF_PACKET` of `linux/socket.h`.
const PACKET_FAMILY: u16 = 17;

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

/// The descriptors that a program is started with: 0, 1 and 2.
pub(crate) const fn standard(number: i32) -> BorrowedFd<'static> {
    // SAFETY: nothing in the workspace closes them. A process may be started without; then the number is that of another file
    // or of none, and a call with it does something wrong and nothing unsound.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// `struct ifreq` with the flags of an interface (`ifr_flags`).
#[repr(C)]
struct FlagsRequest {
    name: [u8; 16],
    flags: u16,
    /// The rest of the union, which has the size of its largest member, `struct ifmap`.
    rest: [u8; REQUEST_UNION_BYTES - 2],
}

/// `struct ifreq` with the hardware address of an interface (`ifr_hwaddr`, a `struct sockaddr`).
#[repr(C)]
struct AddressRequest {
    name: [u8; 16],
    /// `ARPHRD_*` of `linux/if_arp.h`.
    kind: u16,
    address: [u8; 6],
    rest: [u8; REQUEST_UNION_BYTES - 8],
}

/// The union of `struct ifreq`: `struct ifmap` has two `unsigned long`, a `short` and four `char`, and is as aligned as the first.
const REQUEST_UNION_BYTES: usize = if size_of::<usize>() == 8 { 24 } else { 16 };

// What differs by the width of a `long`, compared with the kernel's for whatever machine this is built for.
const _: () = {
    let is_wide = size_of::<usize>() == 8;
    let request_bytes = if is_wide { 40 } else { 32 };
    assert!(BLOCK_DEVICE_BYTES == if is_wide { 0x8008_1272 } else { 0x8004_1272 });
    assert!(size_of::<FlagsRequest>() == request_bytes);
    assert!(size_of::<AddressRequest>() == request_bytes);
};

/// `struct sockaddr_ll` of `linux/if_packet.h`: all packets of one interface.
#[repr(C)]
pub(crate) struct PacketAddress {
    family: u16,
    /// In network byte order.
    protocol: u16,
    interface: i32,
    hardware_type: u16,
    packet_type: u8,
    address_bytes: u8,
    address: [u8; 8],
}

impl PacketAddress {
    /// Packets of a protocol (`ETH_P_*`) on the interface with an index.
    pub(crate) const fn new(protocol: u16, interface: u32) -> Self {
        Self {
            family: PACKET_FAMILY,
            protocol: protocol.to_be(),
            interface: interface.cast_signed(),
            hardware_type: 0,
            packet_type: 0,
            address_bytes: 0,
            address: [0; 8],
        }
    }
}

// SAFETY: the closure is given a pointer to a whole `struct sockaddr_ll` that lives during the call, and its size.
unsafe impl SocketAddrArg for PacketAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f(
            core::ptr::from_ref(self).cast(),
            size_of::<Self>() as SocketAddrLen,
        )
    }
}

/// Flags of a network interface (`IFF_*`), asked through any socket.
pub(crate) fn interface_flags<Fd: AsFd>(socket: Fd, name: [u8; 16]) -> Result<u16, Errno> {
    let mut request = FlagsRequest {
        name,
        flags: 0,
        rest: [0; _],
    };
    // SAFETY: the opcode is valid, and for it the kernel reads and writes one `struct ifreq`.
    let call = unsafe { Updater::<INTERFACE_FLAGS, FlagsRequest>::new(&mut request) };
    // SAFETY: the structure has the kernel's size, and all of it are plain integers; other kinds of files refuse the call.
    unsafe { ioctl(socket, call) }?;
    Ok(request.flags)
}

/// Sets the flags of a network interface.
pub(crate) fn set_interface_flags<Fd: AsFd>(
    socket: Fd,
    name: [u8; 16],
    flags: u16,
) -> Result<(), Errno> {
    let request = FlagsRequest {
        name,
        flags,
        rest: [0; _],
    };
    // SAFETY: the opcode is valid, and for it the kernel reads one `struct ifreq`.
    let call = unsafe { Setter::<SET_INTERFACE_FLAGS, FlagsRequest>::new(request) };
    // SAFETY: the kernel only reads the structure, which has the size that it expects.
    unsafe { ioctl(socket, call) }
}

/// Kind (`ARPHRD_*`) and hardware address of a network interface.
pub(crate) fn interface_address<Fd: AsFd>(
    socket: Fd,
    name: [u8; 16],
) -> Result<(u16, [u8; 6]), Errno> {
    let mut request = AddressRequest {
        name,
        kind: 0,
        address: [0; 6],
        rest: [0; _],
    };
    // SAFETY: the opcode is valid, and for it the kernel reads and writes one `struct ifreq`.
    let call = unsafe { Updater::<INTERFACE_ADDRESS, AddressRequest>::new(&mut request) };
    // SAFETY: the structure has the kernel's size, and all of it are plain integers; other kinds of files refuse the call.
    unsafe { ioctl(socket, call) }?;
    Ok((request.kind, request.address))
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
        assert_eq!(size_of::<PacketAddress>(), 20);
        assert_eq!(core::mem::offset_of!(PacketAddress, address), 12);
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
        assert_eq!(interface_flags(&file, [0; 16]), Err(Errno::NOTTY));
        assert_eq!(set_interface_flags(&file, [0; 16], 0), Err(Errno::NOTTY));
        assert_eq!(interface_address(&file, [0; 16]), Err(Errno::NOTTY));
    }
}
