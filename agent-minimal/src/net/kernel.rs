//! The kernel's network, on a running system: a TCP socket that never blocks, with an end to every wait.

use super::clock::Moment;
use super::lookup;
use super::{Attendant, NetProblem, Pace, Patience, Transport};
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

/// What is received at once of the head of an answer.
const BUFFER_BYTES: usize = 4096;

/// Longest wait, so that the attendant has a word each second.
const TURN_MAX: Duration = Duration::from_secs(1);

/// The kernel's network.
pub struct KernelNet<'a> {
    patience: Patience,
    attendant: &'a dyn Attendant,
    connection: Option<OwnedFd>,
    /// Bytes that came with the head of an answer, from `start` to `end`.
    buffer: [u8; BUFFER_BYTES],
    start: usize,
    end: usize,
}

impl<'a> KernelNet<'a> {
    /// The network, with nothing connected.
    #[must_use]
    pub const fn new(patience: Patience, attendant: &'a dyn Attendant) -> Self {
        Self {
            patience,
            attendant,
            connection: None,
            buffer: [0; _],
            start: 0,
            end: 0,
        }
    }

    fn connection(&self) -> Result<&OwnedFd, NetProblem> {
        self.connection.as_ref().ok_or(NetProblem::Cut)
    }

    /// Waits until something can be done with the connection.
    fn until(&self, what: PollFlags, end: Moment, late: NetProblem) -> Result<(), NetProblem> {
        wait(self.connection()?, what, end, late, self.attendant)
    }

    /// Receives what is there; `None` when nothing is.
    fn take(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Option<usize>, NetProblem> {
        match recv(self.connection()?, buffer, flags) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(_) => Err(NetProblem::Cut),
        }
    }
}

impl Transport for KernelNet<'_> {
    fn patience(&self) -> &Patience {
        &self.patience
    }

    fn attendant(&self) -> &dyn Attendant {
        self.attendant
    }

    fn pause(&mut self, end: Moment) -> Result<(), NetProblem> {
        self.attendant.alive();
        let left = Moment::now().until(end);
        if left.is_zero() {
            return Err(NetProblem::Silent);
        }
        crate::clock::sleep(left.min(TURN_MAX));
        Ok(())
    }

    fn address_of(&mut self, host: &str, avoid: &[Ipv4Addr]) -> Result<Ipv4Addr, NetProblem> {
        let end = Moment::now().after(self.patience.name);
        lookup::address_of(host, avoid, end, self.attendant)
    }

    fn connect(&mut self, address: Ipv4Addr, port: u16) -> Result<(), NetProblem> {
        let end = Moment::now().after(self.patience.connect);
        (self.start, self.end) = (0, 0);
        self.connection = None;
        let connection = socket(SocketType::STREAM)?;
        match connect(&connection, &SocketAddrV4::new(address, port)) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(_) => return Err(NetProblem::NotReached),
        }
        let (what, late) = (PollFlags::OUT, NetProblem::NotReached);
        wait(&connection, what, end, late, self.attendant)?;
        match socket_error(&connection) {
            Ok(Ok(())) => {}
            _ => return Err(NetProblem::NotReached),
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn is_connected(&mut self) -> bool {
        // What came without being asked for, as an answer that the other end is tired of waiting, is nothing to read now.
        matches!(self.take(&mut [0], RecvFlags::PEEK), Ok(None))
    }

    fn send_all(&mut self, mut bytes: &[u8]) -> Result<(), NetProblem> {
        let end = Moment::now().after(self.patience.idle);
        while !bytes.is_empty() {
            match send(self.connection()?, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => {
                    self.until(PollFlags::OUT, end, NetProblem::Silent)?;
                }
                Err(_) => return Err(NetProblem::Cut),
            }
        }
        Ok(())
    }

    fn receive_until(
        &mut self,
        end: Moment,
        late: NetProblem,
        take: &mut dyn FnMut(&[u8]) -> (usize, bool),
    ) -> Result<(), NetProblem> {
        loop {
            let (taken, is_all) = take(self.buffer.get(self.start..self.end).unwrap_or_default());
            self.start += taken;
            if is_all {
                return Ok(());
            }
            if self.start < self.end {
                continue;
            }
            self.until(PollFlags::IN, end, late)?;
            let mut buffer = [0; BUFFER_BYTES];
            let came = self.take(&mut buffer, RecvFlags::empty())?;
            if came == Some(0) {
                return Err(NetProblem::Cut);
            }
            self.buffer = buffer;
            (self.start, self.end) = (0, came.unwrap_or(0));
        }
    }

    fn receive(&mut self, buffer: &mut [u8], pace: &mut Pace) -> Result<usize, NetProblem> {
        let waiting = self.buffer.get(self.start..self.end).unwrap_or_default();
        let bytes = waiting.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..bytes), waiting.get(..bytes))
            && bytes > 0
        {
            to.copy_from_slice(from);
            self.start += bytes;
            return Ok(bytes);
        }
        let start = Moment::now();
        let end = start.after(self.patience.idle);
        loop {
            let Some(taken) = self.take(buffer, RecvFlags::empty())? else {
                self.until(PollFlags::IN, end, NetProblem::Silent)?;
                continue;
            };
            let waited = start.until(Moment::now());
            let (period, least) = (self.patience.pace, self.patience.pace_bytes);
            return match taken == 0 || pace.holds(waited, taken, period, least) {
                true => Ok(taken),
                false => Err(NetProblem::TooSlow),
            };
        }
    }
}

/// A socket of IPv4 that never blocks.
pub(super) fn socket(kind: SocketType) -> Result<OwnedFd, NetProblem> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, None);
    socket.map_err(|errno| NetProblem::Link(errno.raw_os_error()))
}

/// Waits until something can be done with a socket, or it has failed, which the next call tells.
pub(super) fn wait(
    socket: &OwnedFd,
    what: PollFlags,
    end: Moment,
    late: NetProblem,
    attendant: &dyn Attendant,
) -> Result<(), NetProblem> {
    loop {
        attendant.alive();
        let left = Moment::now().until(end);
        if left.is_zero() {
            return Err(late);
        }
        let time = left.min(TURN_MAX);
        let time = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(socket, what)], Some(&time)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(NetProblem::Link(errno.raw_os_error())),
        }
    }
}
