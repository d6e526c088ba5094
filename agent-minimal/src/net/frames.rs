//! Ethernet frames between the kernel and the IP stack.
//!
//! A frame that another program of the same machine or a virtual machine's host sent comes without a finished checksum, and may be far
//! longer than the cable allows: it never was on one. The kernel also joins frames of one connection before anybody sees them. So the
//! buffer has room for the longest IP packet, and checksums are looked at here.
//!
//! # Invariants
//! - A TCP or UDP packet whose checksum is wrong is dropped, as on any host.

use core::ops::Range;
use core::time::Duration;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, checksum};
use twinseal_platform_linux::network::PacketSocket;

/// A frame on the cable: the Ethernet header and 1,500 bytes. What is sent is no longer.
pub const SEND_MAX_BYTES: usize = 14 + 1500;

/// The same with the 576 bytes that every host must take (RFC 791). The DHCP client then asks for answers of 508 bytes, which is less
/// than it may (RFC 2132, section 9.10); servers send theirs all the same.
pub const SEND_SHORT_BYTES: usize = 14 + 576;

/// Longest frame that comes in: the Ethernet header, a VLAN tag, and the longest IP packet.
pub const RECEIVE_MAX_BYTES: usize = 14 + 4 + 65_535;

/// Damaged frames that are dropped in a row before somebody else has a turn. Stops a flood of them.
const DROPPED_MAX: usize = 64;

/// The frames of one interface.
#[derive(Debug)]
pub struct Wire<'m> {
    socket: PacketSocket,
    receive: &'m mut [u8; RECEIVE_MAX_BYTES],
    send: &'m mut [u8; SEND_MAX_BYTES],
    failed: Option<i32>,
    /// Longest frame, by which the other end of a connection is told how much to put into one.
    frame_bytes: usize,
    router: Option<Router>,
}

/// A router outside the network of the interface's address, as beside an address without a network (`/32`). The IP stack takes no
/// word of one, so it knows it by an address inside.
#[derive(Clone, Copy, Debug)]
pub struct Router {
    /// What the IP stack calls it.
    pub inside: [u8; 4],
    /// What it is called.
    pub real: [u8; 4],
}

/// Where ARP over Ethernet has the sender's and the target's address of IPv4.
const ARP_SENDER: Range<usize> = 28..32;
const ARP_TARGET: Range<usize> = 38..42;

/// Renames one end of an ARP packet; leaves any other frame alone.
fn rename(frame: &mut [u8], place: Range<usize>, from: [u8; 4], to: [u8; 4]) {
    let is_arp = frame.get(12..22) == Some(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..])
        || frame.get(12..22) == Some(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2][..]);
    if let Some(name) = frame.get_mut(place).filter(|name| is_arp && **name == from) {
        name.copy_from_slice(&to);
    }
}

impl<'m> Wire<'m> {
    /// Frames through a socket.
    pub const fn new(
        socket: PacketSocket,
        receive: &'m mut [u8; RECEIVE_MAX_BYTES],
        send: &'m mut [u8; SEND_MAX_BYTES],
    ) -> Self {
        Self {
            socket,
            receive,
            send,
            failed: None,
            frame_bytes: SEND_MAX_BYTES,
            router: None,
        }
    }

    /// Names a router for the IP stack.
    pub const fn name_router(&mut self, router: Option<Router>) {
        self.router = router;
    }

    /// Short frames only, for a way on which longer ones are lost or cut into fragments.
    pub const fn shorten(&mut self) {
        self.frame_bytes = SEND_SHORT_BYTES;
    }

    /// Waits until a frame is there, or the time is over.
    pub fn wait(&mut self, time: Duration) {
        if let Err(errno) = self.socket.wait(time) {
            self.failed = Some(errno.raw_os_error());
        }
    }

    /// The error number of the last call that failed, once.
    pub const fn take_failure(&mut self) -> Option<i32> {
        self.failed.take()
    }

    fn next_length(&mut self) -> Option<usize> {
        for _ in 0..DROPPED_MAX {
            match self.socket.receive(self.receive.as_mut_slice()) {
                Ok(Some(length)) if is_whole(self.receive.get(..length)?) => return Some(length),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(errno) => {
                    self.failed = Some(errno.raw_os_error());
                    return None;
                }
            }
        }
        None
    }
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let length = self.next_length()?;
        if let Some(Router { inside, real }) = self.router {
            rename(self.receive.get_mut(..length)?, ARP_SENDER, real, inside);
        }
        let received = Received(self.receive.get(..length)?);
        let sending = Sending {
            socket: &self.socket,
            frame: self.send,
            router: self.router,
            failed: &mut self.failed,
        };
        Some((received, sending))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending {
            socket: &self.socket,
            frame: self.send,
            router: self.router,
            failed: &mut self.failed,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame_bytes;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }
}

/// A frame that came in.
#[derive(Debug)]
pub struct Received<'t>(&'t [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame that goes out.
#[derive(Debug)]
pub struct Sending<'t> {
    socket: &'t PacketSocket,
    frame: &'t mut [u8; SEND_MAX_BYTES],
    router: Option<Router>,
    failed: &'t mut Option<i32>,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        // The stack asks for no more than the capabilities say; a longer frame would be cut, and dropped by whoever gets it.
        let length = length.min(SEND_MAX_BYTES);
        let (frame, _) = self.frame.split_at_mut(length);
        let result = f(frame);
        if let Some(Router { inside, real }) = self.router {
            rename(frame, ARP_TARGET, inside, real);
        }
        // A frame that the interface does not take now is lost like one on the way: it is sent again.
        if let Err(errno) = self.socket.send(frame) {
            *self.failed = Some(errno.raw_os_error());
        }
        result
    }
}

/// Whether a frame's TCP or UDP checksum is right, or was never finished since the frame did not leave a machine.
fn is_whole(frame: &[u8]) -> bool {
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
        return false;
    };
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return true;
    }
    let Ok(packet) = Ipv4Packet::new_checked(ethernet.payload()) else {
        return false;
    };
    // Nobody has that address, and the IP stack would answer to it.
    if packet.src_addr().is_unspecified() {
        return false;
    }
    let place = match packet.next_header() {
        IpProtocol::Tcp => 16,
        IpProtocol::Udp => 6,
        _ => return true,
    };
    let payload = packet.payload();
    let Some(&[high, low]) = payload.get(place..place + 2) else {
        return false;
    };
    let found = u16::from_be_bytes([high, low]);
    let source = packet.src_addr().into();
    let destination = packet.dst_addr().into();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let header = checksum::pseudo_header(&source, &destination, packet.next_header(), length);
    let has_none = found == 0 && packet.next_header() == IpProtocol::Udp;
    // The kernel leaves the sum of the pseudo header alone for the hardware to go on with.
    let is_unfinished = found == header;
    has_none || is_unfinished || checksum::combine(&[header, checksum::data(payload)]) == !0
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{EthernetAddress, EthernetRepr, Ipv4Repr, UdpPacket, UdpRepr};
    use std::vec::Vec;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const UDP_AT: usize = 14 + 20;

    /// A UDP packet with a right checksum.
    fn frame() -> Vec<u8> {
        let content = b"odd";
        let mut frame = std::vec![0; UDP_AT + 8 + content.len()];
        let ethernet = EthernetRepr {
            src_addr: EthernetAddress([2, 0, 0, 0, 0, 1]),
            dst_addr: EthernetAddress([2, 0, 0, 0, 0, 2]),
            ethertype: EthernetProtocol::Ipv4,
        };
        ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame));
        let packet = Ipv4Repr {
            src_addr: SOURCE,
            dst_addr: DESTINATION,
            next_header: IpProtocol::Udp,
            payload_len: 8 + content.len(),
            hop_limit: 64,
        };
        let capabilities = ChecksumCapabilities::default();
        packet.emit(
            &mut Ipv4Packet::new_unchecked(&mut frame[14..]),
            &capabilities,
        );
        let datagram = UdpRepr {
            src_port: 1,
            dst_port: 2,
        };
        datagram.emit(
            &mut UdpPacket::new_unchecked(&mut frame[UDP_AT..]),
            &SOURCE.into(),
            &DESTINATION.into(),
            content.len(),
            |room| room.copy_from_slice(content),
            &capabilities,
        );
        frame
    }

    fn with_checksum(checksum: u16) -> Vec<u8> {
        let mut frame = frame();
        frame[UDP_AT + 6..UDP_AT + 8].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    #[test]
    fn a_flipped_bit_is_dropped() {
        assert!(is_whole(&frame()));
        let mut flips = 0;
        for place in UDP_AT + 8..frame().len() {
            for bit in 0..8 {
                let mut damaged = frame();
                damaged[place] ^= 1 << bit;
                assert!(!is_whole(&damaged), "byte {place}, bit {bit}");
                flips += 1;
            }
        }
        assert_eq!(flips, 24);
    }

    #[test]
    fn an_unfinished_checksum_and_none_are_taken() {
        let header =
            checksum::pseudo_header(&SOURCE.into(), &DESTINATION.into(), IpProtocol::Udp, 11);
        assert!(is_whole(&with_checksum(header)));
        assert!(is_whole(&with_checksum(0)));
        assert!(!is_whole(&with_checksum(header ^ 1)));
    }

    #[test]
    fn every_cut_of_a_frame_is_dropped() {
        let whole = frame();
        for end in 0..whole.len() {
            assert!(!is_whole(&whole[..end]), "{end} bytes");
        }
    }
}
