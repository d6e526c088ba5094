//! One TCP connection at a time, with an end to every wait.

use super::clock::Moment;
use super::{NetProblem, Stack};
use core::net::Ipv4Addr;
use core::time::Duration;
use smoltcp::socket::tcp::{RecvError, Socket, State};

/// For a word to the other end that the connection is over.
const FAREWELL: Duration = Duration::from_millis(100);

/// How fast the body of an answer comes, over the time that was waited for it: what core and the disk take is not the server's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts what came in a wait; `false` when that is too little over too long a time.
    fn holds(&mut self, waited: Duration, bytes: usize, period: Duration, least: u64) -> bool {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.waited < period {
            return true;
        }
        let holds = self.bytes >= least;
        *self = Self::default();
        holds
    }
}

impl<'m> Stack<'m> {
    fn connection(&mut self) -> &mut Socket<'m> {
        self.sockets.get_mut(self.tcp)
    }

    /// Connects to a server; the connection before is dropped.
    ///
    /// # Errors
    /// [`NetProblem::NotReached`] when it does not answer in time, or says no.
    pub fn connect(&mut self, address: Ipv4Addr, port: u16) -> Result<(), NetProblem> {
        let end = Moment::now().after(self.patience.connect);
        self.disconnect()?;
        let own = self.port();
        let connection = self.sockets.get_mut::<Socket<'_>>(self.tcp);
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

    /// Whether both ends still talk, as far as is known.
    pub fn is_connected(&mut self) -> bool {
        self.exchange();
        let connection = self.connection();
        connection.may_send() && connection.may_recv()
    }

    /// Sends all bytes.
    ///
    /// # Errors
    /// [`NetProblem::Cut`] when the connection ends; [`NetProblem::Silent`] when the other end takes none.
    pub fn send_all(&mut self, mut bytes: &[u8]) -> Result<(), NetProblem> {
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

    /// Gives what came to `take`, which says how much of it it took and whether that is all; waits for more otherwise.
    ///
    /// # Errors
    /// `late` when `end` passes; [`NetProblem::Cut`] when the connection ends before.
    pub fn receive_until<F>(
        &mut self,
        end: Moment,
        late: NetProblem,
        mut take: F,
    ) -> Result<(), NetProblem>
    where
        F: FnMut(&[u8]) -> (usize, bool),
    {
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

    /// Receives at least one byte; 0 when the other end has sent all that it wanted.
    ///
    /// # Errors
    /// [`NetProblem::Silent`] and [`NetProblem::TooSlow`] by the patience, [`NetProblem::Cut`] when the connection breaks.
    pub fn receive(&mut self, buffer: &mut [u8], pace: &mut Pace) -> Result<usize, NetProblem> {
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
                return match pace.holds(waited, taken, period, least) {
                    true => Ok(taken),
                    false => Err(NetProblem::TooSlow),
                };
            }
            self.turn(end, NetProblem::Silent)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_counts_the_time_that_was_waited() {
        let (period, least) = (Duration::from_secs(10), 1000);
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(
                pace.holds(Duration::ZERO, 1, period, least),
                "nothing was waited"
            );
        }
        assert!(pace.holds(Duration::from_secs(9), 1, period, least));
        assert!(
            !pace.holds(Duration::from_secs(1), 1, period, least),
            "102 bytes in 10 s"
        );
        assert!(
            pace.holds(Duration::from_secs(20), 1000, period, least),
            "it starts anew"
        );
    }
}
