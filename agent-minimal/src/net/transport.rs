//! What the client of HTTP needs: an IP stack of our own, or the kernel's.

use super::clock::Moment;
use super::{Attendant, NetProblem, Pace, Patience};
use core::net::Ipv4Addr;

/// One TCP connection at a time, with an end to every wait, and names.
pub trait Transport {
    /// How long to wait for what.
    fn patience(&self) -> &Patience;

    /// Who is told.
    fn attendant(&self) -> &dyn Attendant;

    /// Waits a while, and no longer than to `end`.
    ///
    /// # Errors
    /// [`NetProblem::Silent`] when `end` has passed; [`NetProblem::CalledAway`]; another one when the network fails meanwhile.
    fn pause(&mut self, end: Moment) -> Result<(), NetProblem>;

    /// The address of a server; what is an address already is not asked for. Of a name with several addresses, the first
    /// that is not to be avoided.
    ///
    /// # Errors
    /// [`NetProblem`] when nobody knows the name, or nobody answers.
    fn address_of(&mut self, host: &str, avoid: &[Ipv4Addr]) -> Result<Ipv4Addr, NetProblem>;

    /// Connects to a server; the connection before is dropped.
    ///
    /// # Errors
    /// [`NetProblem::NotReached`] when it does not answer in time, or says no.
    fn connect(&mut self, address: Ipv4Addr, port: u16) -> Result<(), NetProblem>;

    /// Whether both ends still talk, as far as is known.
    fn is_connected(&mut self) -> bool;

    /// Sends all bytes.
    ///
    /// # Errors
    /// [`NetProblem::Cut`] when the connection ends; [`NetProblem::Silent`] when the other end takes none.
    fn send_all(&mut self, bytes: &[u8]) -> Result<(), NetProblem>;

    /// Gives what came to `take`, which says how much of it it took and whether that is all; waits for more otherwise.
    ///
    /// # Errors
    /// `late` when `end` passes; [`NetProblem::Cut`] when the connection ends before.
    fn receive_until(
        &mut self,
        end: Moment,
        late: NetProblem,
        take: &mut dyn FnMut(&[u8]) -> (usize, bool),
    ) -> Result<(), NetProblem>;

    /// Receives at least one byte; 0 when the other end has sent all that it wanted.
    ///
    /// # Errors
    /// [`NetProblem::Silent`] and [`NetProblem::TooSlow`] by the patience, [`NetProblem::Cut`] when the connection breaks.
    fn receive(&mut self, buffer: &mut [u8], pace: &mut Pace) -> Result<usize, NetProblem>;
}
