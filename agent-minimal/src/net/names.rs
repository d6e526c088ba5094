//! From a server's name to its address.

use super::clock::Moment;
use super::dotted::dotted;
use super::{NetProblem, Stack};
use core::net::Ipv4Addr;
use smoltcp::socket::dns::{GetQueryResultError, Socket};
use smoltcp::wire::{DnsQueryType, IpAddress};

impl Stack<'_> {
    /// The address of a server; what is an address already is not asked for. Of a name with several addresses, the one whose `turn` it
    /// is.
    ///
    /// # Errors
    /// [`NetProblem`] when nobody knows the name, or nobody answers.
    pub fn resolve(&mut self, host: &str, turn: u32) -> Result<Ipv4Addr, NetProblem> {
        if let Some(address) = dotted(host) {
            return Ok(address);
        }
        if !self.has_name_server() {
            return Err(NetProblem::NoNameServer);
        }
        let end = Moment::now().after(self.patience.name);
        let resolver = self.sockets.get_mut::<Socket<'_>>(self.dns);
        let query = resolver
            .start_query(self.interface.context(), host, DnsQueryType::A)
            .map_err(|_| NetProblem::NameUnknown)?;
        loop {
            let turned = self.turn_in_vain(end, NetProblem::NameSilent);
            let resolver = self.sockets.get_mut::<Socket<'_>>(self.dns);
            if let Err(problem) = turned {
                resolver.cancel_query(query);
                return Err(problem);
            }
            match resolver.get_query_result(query) {
                Err(GetQueryResultError::Pending) => {}
                Err(GetQueryResultError::Failed) => {
                    // Silence, too, and a server that cannot say now.
                    self.ask_another_server();
                    return Err(NetProblem::NameFailed);
                }
                Ok(addresses) => {
                    let which = turn.checked_rem(addresses.len() as u32);
                    let address = which.and_then(|which| addresses.get(which as usize));
                    return address
                        .map(|IpAddress::Ipv4(one)| *one)
                        .ok_or(NetProblem::NameUnknown);
                }
            }
        }
    }
}
