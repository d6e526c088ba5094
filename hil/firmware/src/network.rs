//! The network: an address by DHCP, and one TCP connection at a time.
//!
//! # Invariants
//! - Every wait has a limit, and feeds the watchdog only until then.

use crate::clock::Clock;
use crate::lan9118::{Lan9118, NoController};
use crate::{sleep, watchdog};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address};

/// Longest time for an address, in ms. DHCP asks again after 10 s.
const ADDRESS_LIMIT_MS: u64 = 45_000;

/// Longest time for a connection, and longest silence on one, in ms.
const SILENCE_LIMIT_MS: u64 = 20_000;

/// Buffer for what comes: two frames and a half keep the sender going.
const RECEIVE_BYTES: usize = 4096;

/// Buffer for what goes: a request.
const SEND_BYTES: usize = 512;

/// The ports that connections of ours begin at; each has the next one.
const FIRST_LOCAL_PORT: u16 = 49_152;
const LOCAL_PORTS: u16 = 16_384;

/// Sockets: DHCP and TCP.
const SOCKETS: usize = 2;

/// What the network failed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum NetworkError {
    /// There is no network controller.
    NoController,
    /// Nobody gave an address.
    NoAddress,
    /// The server did not take the connection.
    NotConnected,
    /// The server said nothing for too long.
    Silence,
    /// The connection ended.
    Closed,
}

impl From<NoController> for NetworkError {
    fn from(_: NoController) -> Self {
        Self::NoController
    }
}

/// Memory that the network takes.
pub struct Memory {
    sockets: [SocketStorage<'static>; SOCKETS],
    receive: [u8; RECEIVE_BYTES],
    send: [u8; SEND_BYTES],
}

impl Memory {
    /// Memory that nothing uses yet.
    pub const fn new() -> Self {
        Self {
            sockets: [SocketStorage::EMPTY; SOCKETS],
            receive: [0; RECEIVE_BYTES],
            send: [0; SEND_BYTES],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// The network.
pub struct Network {
    device: Lan9118,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    tcp: SocketHandle,
    clock: Clock,
    local_port: u16,
}

impl Network {
    /// Switches the controller on. `seed` makes ports and sequence numbers of one start differ from those of the last.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(memory: &'static mut Memory, seed: u32) -> Result<Self, NetworkError> {
        let mut device = Lan9118::start()?;
        sleep::start();
        let address = HardwareAddress::Ethernet(EthernetAddress(device.address()?));
        let mut clock = Clock::start();
        let mut config = Config::new(address);
        config.random_seed = u64::from(seed);
        let interface = Interface::new(config, &mut device, at(&mut clock));
        let mut sockets = SocketSet::new(&mut memory.sockets[..]);
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let receive = tcp::SocketBuffer::new(&mut memory.receive[..]);
        let send = tcp::SocketBuffer::new(&mut memory.send[..]);
        let tcp = sockets.add(tcp::Socket::new(receive, send));
        let local_port = (seed % u32::from(LOCAL_PORTS)) as u16;
        Ok(Self {
            device,
            interface,
            sockets,
            dhcp,
            tcp,
            clock,
            local_port,
        })
    }

    /// Waits for an address.
    ///
    /// # Errors
    /// [`NetworkError::NoAddress`].
    pub fn configure(&mut self) -> Result<Ipv4Address, NetworkError> {
        self.wait(ADDRESS_LIMIT_MS, NetworkError::NoAddress, |network| {
            let event = network
                .sockets
                .get_mut::<dhcpv4::Socket<'_>>(network.dhcp)
                .poll();
            let Some(dhcpv4::Event::Configured(given)) = event else {
                return None;
            };
            network.interface.update_ip_addrs(|addresses| {
                addresses.clear();
                // One place is enough for one address.
                let _ = addresses.push(IpCidr::Ipv4(given.address));
            });
            if let Some(router) = given.router {
                let _ = network
                    .interface
                    .routes_mut()
                    .add_default_ipv4_route(router);
            }
            Some(Ok(given.address.address()))
        })
    }

    /// Connects anew.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`].
    pub fn connect(&mut self, server: Ipv4Address, port: u16) -> Result<(), NetworkError> {
        self.close();
        self.local_port = (self.local_port + 1) % LOCAL_PORTS;
        let local = FIRST_LOCAL_PORT + self.local_port;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        socket
            .connect(self.interface.context(), (server, port), local)
            .map_err(|_| NetworkError::NotConnected)?;
        self.wait(
            SILENCE_LIMIT_MS,
            NetworkError::NotConnected,
            |network| match network.socket().state() {
                tcp::State::Established => Some(Ok(())),
                tcp::State::Closed => Some(Err(NetworkError::NotConnected)),
                _ => None,
            },
        )
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), NetworkError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.wait(
                SILENCE_LIMIT_MS,
                NetworkError::Silence,
                |network| match network.socket().send_slice(rest) {
                    Ok(0) => None,
                    Ok(sent) => Some(Ok(sent)),
                    Err(_) => Some(Err(NetworkError::Closed)),
                },
            )?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Gives what has come to `take`, which says how many of the bytes it took, one at least.
    ///
    /// # Errors
    /// When nothing comes any more.
    pub fn receive<R>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> (usize, R),
    ) -> Result<R, NetworkError> {
        self.wait(SILENCE_LIMIT_MS, NetworkError::Silence, |network| {
            let socket = network.socket();
            if socket.can_recv() {
                let taken = socket.recv(|bytes| take(bytes));
                return Some(taken.map_err(|_| NetworkError::Closed));
            }
            (!socket.may_recv()).then_some(Err(NetworkError::Closed))
        })
    }

    /// Whether a connection is open.
    pub fn is_connected(&mut self) -> bool {
        self.socket().state() == tcp::State::Established
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        self.socket().abort();
        self.poll();
    }

    /// Lets time pass.
    pub fn pause(&mut self, limit_ms: u64) {
        let _ = self.wait(limit_ms, NetworkError::Silence, |_| None::<Result<(), _>>);
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    fn poll(&mut self) -> Instant {
        let now = at(&mut self.clock);
        self.interface
            .poll(now, &mut self.device, &mut self.sockets);
        now
    }

    /// Lets the network work until `done` says something.
    fn wait<R>(
        &mut self,
        limit_ms: u64,
        over: NetworkError,
        mut done: impl FnMut(&mut Self) -> Option<Result<R, NetworkError>>,
    ) -> Result<R, NetworkError> {
        let end = self.clock.now_ms() + limit_ms;
        loop {
            watchdog::feed();
            let now = self.poll();
            if let Some(result) = done(self) {
                return result;
            }
            if now.total_millis() as u64 > end {
                return Err(over);
            }
            sleep::sleep(|| self.device.note_frames());
        }
    }
}

fn at(clock: &mut Clock) -> Instant {
    Instant::from_millis(clock.now_ms() as i64)
}
