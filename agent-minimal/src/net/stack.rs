//! The interface, its address, and the sockets on it.
//!
//! # Invariants
//! - One turn does a bounded amount of work, however much comes in.
//! - An address that is lost is used no more; whoever waits for something then waits in vain, and is told.

use super::clock::Moment;
use super::dns::{MESSAGE_MAX_BYTES, QUESTION_MAX_BYTES, SERVERS_MAX};
use super::dotted::is_somebodys;
use super::frames::{RECEIVE_MAX_BYTES, Router, SEND_MAX_BYTES, Wire};
use super::{Attendant, NetProblem, Patience, Setting};
use crate::clock::sleep;
use core::net::Ipv4Addr;
use core::slice;
use core::time::Duration;
use heapless::Vec;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet, SocketStorage,
};
use smoltcp::socket::{dhcpv4, tcp, udp};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Cidr};
use twinseal_platform_linux::network::{self, Interfaces, PacketSocket};

/// What a server may send before it must wait for us: what the fastest of slow links carries in one way and back.
/// One byte more would be announced twofold in the first packet, which cannot say so large a number, and the server may fill that.
const WINDOW_BYTES: usize = 64 * 1024 - 1;

/// Room for two requests.
const OUT_BYTES: usize = 2 * super::http::REQUEST_MAX_BYTES;

/// Sockets: TCP, DNS and DHCP.
const SOCKETS: usize = 3;

/// Frames of one turn. Stops a flood from keeping the rest waiting.
const FRAMES_MAX: usize = 64;

/// Longest turn, so that the attendant has a word each second.
const TURN_MAX: Duration = Duration::from_secs(1);

/// Pause between two looks at a cable. The kernel would tell by a socket of another kind; this is only waited for once.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// First DHCP request to the next, in every second round. Servers answer within milliseconds; a frame is lost while a switch learns.
/// In the other rounds: a server that first looks whether an address is in use answers later, and an answer to an older request counts
/// no more.
const ASK_AGAIN_SECONDS: [u64; 2] = [3, 10];

/// After an address was taken back, before another one is asked for.
const LEASE_PAUSE: Duration = Duration::from_secs(1);

/// Longest answer of a DHCP server that is kept, for what the library does not read of it: a frame.
const LEASE_MAX_BYTES: usize = 1472;

/// Option 3 of DHCP (RFC 2132, section 3.5): routers, in the order in which they are to be used.
const ROUTERS_OPTION: u8 = 3;

/// Ports that are given to nobody (RFC 6335, section 6): connections start there.
const PORTS_FROM: u16 = 49_152;

/// The large buffers of a [`Stack`]: about 137 KiB.
#[derive(Debug)]
pub struct Buffers {
    receive: [u8; RECEIVE_MAX_BYTES],
    send: [u8; SEND_MAX_BYTES],
    window: [u8; WINDOW_BYTES],
    out: [u8; OUT_BYTES],
    lease: [u8; LEASE_MAX_BYTES],
    names_in: [u8; MESSAGE_MAX_BYTES],
    names_out: [u8; QUESTION_MAX_BYTES],
    names_marks: [udp::PacketMetadata; 2],
}

impl Buffers {
    /// Empty ones.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            receive: [0; _],
            send: [0; _],
            window: [0; _],
            out: [0; _],
            lease: [0; _],
            names_in: [0; _],
            names_out: [0; _],
            names_marks: [udp::PacketMetadata::EMPTY; _],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Room for the state of the sockets of a [`Stack`].
#[derive(Debug, Default)]
pub struct Storage<'m>([SocketStorage<'m>; SOCKETS]);

/// An IP stack on one interface.
pub struct Stack<'m> {
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'m>,
    pub(super) tcp: SocketHandle,
    pub(super) names: SocketHandle,
    dhcp: Option<SocketHandle>,
    wire: Wire<'m>,
    pub(super) name_servers: Vec<IpAddress, SERVERS_MAX>,
    has_router: bool,
    has_received: bool,
    next_port: u16,
    /// How long to wait for what.
    pub patience: Patience,
    /// Who is told.
    pub attendant: &'m dyn Attendant,
}

impl<'m> Stack<'m> {
    /// Waits for an interface with a carrier and gives it an address. `round` counts such calls: of several interfaces with a
    /// carrier each one has its turn, and each of them all ways to ask.
    ///
    /// # Errors
    /// [`NetProblem`] when there is no interface, no carrier or no address within the patience.
    pub fn open(
        buffers: &'m mut Buffers,
        storage: &'m mut Storage<'m>,
        setting: Setting,
        round: usize,
        patience: Patience,
        attendant: &'m dyn Attendant,
    ) -> Result<Self, NetProblem> {
        let (found, round) = with_carrier(round, patience, attendant)?;
        let name = found.name.as_str();
        let socket = PacketSocket::open(&found).map_err(link)?;
        let mut wire = Wire::new(socket, &mut buffers.receive, &mut buffers.send);
        // The way there may lose long frames, or cut them into pieces, of which this IP stack makes nothing.
        if round % 4 >= 2 {
            wire.shorten();
        }
        let mut config = Config::new(EthernetAddress(found.address).into());
        config.random_seed = random();
        let interface = Interface::new(config, &mut wire, Moment::now().into());
        let mut sockets = SocketSet::new(&mut storage.0[..]);
        let connection = tcp::Socket::new(
            tcp::SocketBuffer::new(&mut buffers.window[..]),
            tcp::SocketBuffer::new(&mut buffers.out[..]),
        );
        let [mark_in, mark_out] = &mut buffers.names_marks;
        let names = udp::Socket::new(
            udp::PacketBuffer::new(slice::from_mut(mark_in), &mut buffers.names_in[..]),
            udp::PacketBuffer::new(slice::from_mut(mark_out), &mut buffers.names_out[..]),
        );
        let mut stack = Self {
            interface,
            tcp: sockets.add(connection),
            names: sockets.add(names),
            dhcp: None,
            sockets,
            wire,
            name_servers: Vec::new(),
            has_router: false,
            has_received: false,
            next_port: PORTS_FROM | (random() & 0x3fff) as u16,
            patience,
            attendant,
        };
        match setting {
            Setting::Dynamic => stack.ask_for_address(name, round, &mut buffers.lease)?,
            Setting::Fixed {
                address,
                gateway,
                name_server,
            } => stack.take(address, gateway, name_server.as_slice()),
        }
        if let Some(IpCidr::Ipv4(address)) = stack.interface.ip_addrs().first() {
            let address = address.address();
            attendant.say(format_args!("the address on {name} is {address}"));
        }
        if !stack.has_router {
            attendant.say(format_args!(
                "nobody names a router: only servers of this network can be reached"
            ));
        }
        Ok(stack)
    }

    fn ask_for_address(
        &mut self,
        name: &str,
        round: usize,
        lease: &'m mut [u8],
    ) -> Result<(), NetProblem> {
        self.attendant
            .say(format_args!("asking for an address on {name}"));
        let mut client = dhcpv4::Socket::new();
        let mut retry = client.get_retry_config();
        let [soon, later] = ASK_AGAIN_SECONDS;
        let seconds = if round.is_multiple_of(2) { soon } else { later };
        retry.discover_timeout = smoltcp::time::Duration::from_secs(seconds);
        retry.initial_request_timeout = smoltcp::time::Duration::from_secs(seconds);
        client.set_retry_config(retry);
        client.set_receive_packet_buffer(lease);
        self.dhcp = Some(self.sockets.add(client));
        let end = Moment::now().after(self.patience.address);
        while self.interface.ip_addrs().is_empty() {
            self.turn_in_vain(end, NetProblem::NoAddress)?;
        }
        Ok(())
    }

    fn take(&mut self, address: Ipv4Cidr, gateway: Option<Ipv4Addr>, name_servers: &[Ipv4Addr]) {
        let (address, gateway, router) = reach(address, gateway);
        self.wire.name_router(router);
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            // There is room for two.
            let _ = addresses.push(IpCidr::Ipv4(address));
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        // The IP stack takes no packet for one that is nobody's.
        let gateway = gateway.filter(|gateway| is_somebodys(*gateway));
        if let Some(gateway) = gateway {
            // There is room for two.
            let _ = routes.add_default_ipv4_route(gateway);
        }
        self.has_router = gateway.is_some();
        self.name_servers = name_servers
            .iter()
            .filter(|server| is_somebodys(**server))
            .take(SERVERS_MAX)
            .map(|server| IpAddress::Ipv4(*server))
            .collect();
    }

    /// The name server that was asked first is asked last from now on.
    pub(super) fn ask_another_server(&mut self) {
        // A lease that was renewed while the name was asked for may name no server any more.
        let asked = usize::from(!self.name_servers.is_empty());
        self.name_servers.rotate_left(asked);
    }

    /// Says that bytes of the bundle came: from now on it is not left for another disk.
    pub(super) const fn receives(&mut self) {
        self.has_received = true;
    }

    /// Waits for the next thing to happen, and no longer than to `end`; lets all sockets do what they have to.
    ///
    /// # Errors
    /// `late` when `end` has passed; [`NetProblem::Link`] when the interface fails.
    pub fn turn(&mut self, end: Moment, late: NetProblem) -> Result<(), NetProblem> {
        self.attendant.alive();
        let now = Moment::now();
        let left = now.until(end);
        if left.is_zero() {
            return Err(late);
        }
        let quiet = self.interface.poll_delay(now.into(), &self.sockets);
        let quiet = quiet.map_or(TURN_MAX, Duration::from);
        self.wire.wait(quiet.min(left).min(TURN_MAX));
        self.exchange();
        self.follow_lease();
        match self.wire.take_failure() {
            Some(code) => Err(NetProblem::Link(code)),
            None => Ok(()),
        }
    }

    /// The same while no byte of the bundle has come.
    ///
    /// # Errors
    /// Those of [`turn`](Self::turn), and [`NetProblem::CalledAway`].
    pub(super) fn turn_in_vain(&mut self, end: Moment, late: NetProblem) -> Result<(), NetProblem> {
        if !self.has_received && self.attendant.is_called_away() {
            return Err(NetProblem::CalledAway);
        }
        self.turn(end, late)
    }

    /// Lets what came in come in and what is to go out go out.
    pub(super) fn exchange(&mut self) {
        let now = Moment::now().into();
        let (wire, sockets) = (&mut self.wire, &mut self.sockets);
        for _ in 0..FRAMES_MAX {
            let result = self.interface.poll_ingress_single(now, wire, sockets);
            if matches!(result, PollIngressSingleResult::None) {
                break;
            }
        }
        self.interface.poll_egress(now, wire, sockets);
        self.interface.poll_maintenance(now);
    }

    /// Takes over what DHCP says.
    fn follow_lease(&mut self) {
        let Some(handle) = self.dhcp else {
            return;
        };
        match self.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            None => {}
            Some(dhcpv4::Event::Configured(lease)) => {
                // Where there are several, the library gives none of them.
                let listed = lease.packet.as_ref().and_then(|packet| {
                    let mut options = packet.options();
                    let routers = options.find(|option| option.kind == ROUTERS_OPTION)?;
                    routers
                        .data
                        .first_chunk()
                        .map(|first| Ipv4Addr::from(*first))
                });
                let gateway = lease.router.or(listed);
                let (address, servers) = (lease.address, lease.dns_servers);
                self.take(address, gateway, &servers);
            }
            Some(dhcpv4::Event::Deconfigured) => {
                // A server may take each address back at once.
                if !self.interface.ip_addrs().is_empty() {
                    sleep(LEASE_PAUSE);
                }
                self.interface.update_ip_addrs(Vec::clear);
                self.interface.routes_mut().remove_default_ipv4_route();
            }
        }
    }

    /// A port for the next connection: not the one of the last, whose packets may still be on their way.
    pub(super) const fn port(&mut self) -> u16 {
        self.next_port = PORTS_FROM | self.next_port.wrapping_add(1) & 0x3fff;
        self.next_port
    }
}

/// How the IP stack reaches a router. Beside an address without a network (`/32`) the router is outside of it: the other address of the
/// same pair stands for it then.
const fn reach(
    address: Ipv4Cidr,
    gateway: Option<Ipv4Addr>,
) -> (Ipv4Cidr, Option<Ipv4Addr>, Option<Router>) {
    let own = address.address();
    match gateway {
        Some(real) if address.prefix_len() == 32 && real.to_bits() != own.to_bits() => {
            let inside = Ipv4Addr::from_bits(own.to_bits() ^ 1);
            let router = Router {
                inside: inside.octets(),
                real: real.octets(),
            };
            (Ipv4Cidr::new(own, 31), Some(inside), Some(router))
        }
        _ => (address, gateway, None),
    }
}

/// Brings all Ethernet interfaces up and waits until one has a carrier; gives how often it had its turn before, too.
fn with_carrier(
    round: usize,
    patience: Patience,
    attendant: &dyn Attendant,
) -> Result<(network::Interface, usize), NetProblem> {
    let interfaces = Interfaces::open().map_err(link)?;
    let end = Moment::now().after(patience.carrier);
    loop {
        let mut late = NetProblem::NoInterface;
        for interface in interfaces.ethernet() {
            // One that cannot be used keeps no other from being used.
            late = match interfaces.bring_up(&interface) {
                Err(errno) if late == NetProblem::NoInterface => link(errno),
                Err(_) => late,
                Ok(()) => NetProblem::NoCarrier,
            };
        }
        let ready = || interfaces.ethernet().filter(|one| one.has_carrier);
        let count = ready().count();
        if let Some(turn) = round.checked_rem(count)
            && let Some(interface) = ready().nth(turn)
        {
            return Ok((interface, round / count));
        }
        if Moment::now() >= end {
            return Err(late);
        }
        if attendant.is_called_away() {
            return Err(NetProblem::CalledAway);
        }
        attendant.alive();
        sleep(LOOK_AGAIN);
    }
}

/// A number that nobody can guess; early in a boot, one that is hard to. It only starts sequence numbers and ports.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // A kernel older than 5.6 does not know the flag; then all start at the same number.
    let _ = getrandom(&mut bytes, GetRandomFlags::INSECURE);
    u64::from_ne_bytes(bytes)
}

const fn link(errno: Errno) -> NetProblem {
    NetProblem::Link(errno.raw_os_error())
}
