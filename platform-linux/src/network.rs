//! Network interfaces, and whole Ethernet frames to and from one of them, for a program with an IP stack of its own.
//!
//! # Invariants
//! - An interface is only ever brought up; nothing else of it is changed.
//! - No frame is given that was cut: one that does not fit into the buffer is dropped.
//!
//! Sources: netdevice(7) and packet(7) of Linux.

use crate::sys;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netdevice::{InlinedName, index_to_name_inlined};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// `ETH_P_ALL` of `linux/if_ether.h`.
const ALL_PROTOCOLS: u16 = 3;

/// `ARPHRD_ETHER` of `linux/if_arp.h`.
const ETHERNET: u16 = 1;

/// `IFF_UP`, `IFF_LOOPBACK` and `IFF_RUNNING` of `linux/if.h`.
const UP: u16 = 0x1;
const LOOPBACK: u16 = 0x8;
const RUNNING: u16 = 0x40;

/// Highest index that is looked at. A machine that just started has given out few; a name space that lives long, more.
const INDEX_MAX: u32 = 256;

/// An Ethernet interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number.
    pub index: u32,
    /// The kernel's name, `eth0` say.
    pub name: InlinedName,
    /// Its hardware address.
    pub address: [u8; 6],
    /// Whether somebody is at the other end of the cable.
    pub has_carrier: bool,
    is_up: bool,
}

/// The network interfaces of this machine.
#[derive(Debug)]
pub struct Interfaces {
    /// No packet goes through it; it is what questions about interfaces are asked through.
    socket: OwnedFd,
}

impl Interfaces {
    /// Those that this process sees.
    ///
    /// # Errors
    /// What the kernel says, when this process may have no packet socket.
    pub fn open() -> Result<Self, Errno> {
        // Without a protocol the kernel puts no packet into it.
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket })
    }

    /// All Ethernet interfaces, in the order of their numbers.
    pub fn ethernet(&self) -> impl Iterator<Item = Interface> + '_ {
        (1..=INDEX_MAX).filter_map(|index| self.interface(index))
    }

    fn interface(&self, index: u32) -> Option<Interface> {
        let name = index_to_name_inlined(&self.socket, index).ok()?;
        let padded = padded(&name);
        let flags = sys::interface_flags(&self.socket, padded).ok()?;
        let (kind, address) = sys::interface_address(&self.socket, padded).ok()?;
        // A group's address, or none, is nobody's: such an interface cannot be spoken to.
        let is_somebodys = address != [0; 6] && address[0] & 1 == 0;
        (kind == ETHERNET && flags & LOOPBACK == 0 && is_somebodys).then_some(Interface {
            index,
            name,
            address,
            has_carrier: flags & (UP | RUNNING) == UP | RUNNING,
            is_up: flags & UP != 0,
        })
    }

    /// Brings an interface up, when it is not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bring_up(&self, interface: &Interface) -> Result<(), Errno> {
        if interface.is_up {
            return Ok(());
        }
        let name = padded(&interface.name);
        let flags = sys::interface_flags(&self.socket, name)?;
        sys::set_interface_flags(&self.socket, name, flags | UP)
    }
}

/// A name as `struct ifreq` has it.
fn padded(name: &InlinedName) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(name.as_bytes()) {
        *to = *from;
    }
    padded
}

/// Whole Ethernet frames to and from one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// All frames of an interface from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(interface: &Interface) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Nothing comes in before it is bound, so nothing of another interface does.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        bind(
            &socket,
            &sys::PacketAddress::new(ALL_PROTOCOLS, interface.index),
        )?;
        Ok(Self { socket })
    }

    /// Takes the next frame; gives its length, or `None` when there is none now.
    ///
    /// # Errors
    /// What the kernel says; `NETDOWN` once when the interface went down.
    pub fn receive(&self, frame: &mut [u8]) -> Result<Option<usize>, Errno> {
        loop {
            let room = frame.len();
            match recv(&self.socket, &mut *frame, RecvFlags::TRUNC) {
                Ok((taken, whole)) if taken == whole && whole <= room => return Ok(Some(taken)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sends a frame; `false` when the interface takes none now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, frame: &[u8]) -> Result<bool, Errno> {
        match send(&self.socket, frame, SendFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Waits until there is a frame, or the time is over.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, time: Duration) -> Result<(), Errno> {
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut sockets, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
