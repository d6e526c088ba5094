//! One TCP connection at a time, with an end to every wait.

use super::clock::Moment;
use super::{Attendant, NetProblem, Pace, Patience, Stack, Transport};
use core::net::Ipv4Addr;
use core::time::Duration;
use smoltcp::socket::tcp::{RecvError, Socket, State};

/// For a word to the other end that the connection is over.
const FAREWELL: Duration = Duration::from_millis(100);

impl<'m> Stack<'m> {
    fn connection(&mut self) -> &mut Socket<'m> {
        self.sockets.get_mut(self.tcp)
    }

    /// Drops the connection, and tells the other end.
    ///
    /// # Errors
    /// [`NetProblem::Link`].
    pub fn disconnect(&mut self) -> Result<(), NetProblem> {
        self.connection().abort();
        let end = Moment::now().after(FAREWELL);
        // The word to the other end goes out with the next turn, and then the socket has forgotten it. It cannot go out when nobody
        // knows the way; then there is nobody to tell.
        while self.connection().remote_endpoint().is_some() {
            match self.turn(end, NetProblem::Cut) {
                Err(NetProblem::Cut) => break,
                other => other?,
            }
        }
        Ok(())
    }
}

impl Transport for Stack<'_> {
    fn patience(&self) -> &Patience {
        &self.patience
    }

    fn attendant(&self) -> &dyn Attendant {
        self.attendant
    }

    fn pause(&mut self, end: Moment) -> Result<(), NetProblem> {
        self.turn_in_vain(end, NetProblem::Silent)
    }

    fn address_of(&mut self, host: &str, avoid: &[Ipv4Addr]) -> Result<Ipv4Addr, NetProblem> {
        self.resolve(host, avoid)
    }

    fn connect(&mut self, address: Ipv4Addr, port: u16) -> Result<(), NetProblem> {
        let end = Moment::now().after(self.patience.connect);
        self.disconnect()?;
        if self.interface.ip_addrs().is_empty() {
            return Err(NetProblem::NoAddress);
        }
        let own = self.port();
        let connection = self.sockets.get_mut::<Socket<'_>>(self.tcp);
        // With its clock the other end sees what it sent twice in vain. A server without one would have switched it off for all others.
        connection.set_tsval_generator(Some(|| Moment::now().since_start().as_millis() as u32));
        connection
            .connect(self.interface.context(), (address, port), own)
            .map_err(|_| NetProblem::NotReached)?;
        while !self.connection().may_send() {
            if self.connection().state() == State::Closed {
                return Err(NetProblem::NotReached);
            }
            self.turn_in_vain(end, NetProblem::NotReached)?;
        }
        Ok(())
    }

    fn is_connected(&mut self) -> bool {
        self.exchange();
        let connection = self.connection();
        // What came without being asked for, as an answer that the other end is tired of waiting, is nothing to read now.
        connection.may_send() && connection.may_recv() && !connection.can_recv()
    }

    fn send_all(&mut self, mut bytes: &[u8]) -> Result<(), NetProblem> {
        let end = Moment::now().after(self.patience.idle);
        loop {
            let connection = self.connection();
            let sent = connection.send_slice(bytes).map_err(|_| NetProblem::Cut)?;
            bytes = bytes.get(sent..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.turn(end, NetProblem::Silent)?;
        }
    }

    fn receive_until(
        &mut self,
        end: Moment,
        late: NetProblem,
        take: &mut dyn FnMut(&[u8]) -> (usize, bool),
    ) -> Result<(), NetProblem> {
        loop {
            let connection = self.connection();
            let is_all = connection
                .recv(|bytes| take(bytes))
                .map_err(|_| NetProblem::Cut)?;
            if is_all {
                return Ok(());
            }
            if !self.connection().can_recv() {
                self.turn(end, late)?;
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8], pace: &mut Pace) -> Result<usize, NetProblem> {
        let start = Moment::now();
        let end = start.after(self.patience.idle);
        loop {
            let taken = match self.connection().recv_slice(buffer) {
                Ok(taken) => taken,
                Err(RecvError::Finished) => return Ok(0),
                Err(RecvError::InvalidState) => return Err(NetProblem::Cut),
            };
            if taken > 0 {
                let waited = start.until(Moment::now());
                let (period, least) = (self.patience.pace, self.patience.pace_bytes);
                self.receives();
                return match pace.holds(waited, taken, period, least) {
                    true => Ok(taken),
                    false => Err(NetProblem::TooSlow),
                };
            }
            self.turn(end, NetProblem::Silent)?;
        }
    }
}
