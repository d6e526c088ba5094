//! From a server's name to its address.

use super::clock::Moment;
use super::dns::{ASK_AGAIN, Answer, PORT, QUESTION_MAX_BYTES, Query, TURN, name_of};
use super::dotted::dotted;
use super::stack::random;
use super::{NetProblem, Stack};
use core::net::Ipv4Addr;
use smoltcp::socket::udp::Socket;
use smoltcp::wire::IpAddress;

impl Stack<'_> {
    /// The address of a server; what is an address already is not asked for. Of a name with several addresses, the first
    /// that is not to be avoided.
    ///
    /// # Errors
    /// [`NetProblem`] when nobody knows the name, or nobody answers.
    pub fn resolve(&mut self, host: &str, avoid: &[Ipv4Addr]) -> Result<Ipv4Addr, NetProblem> {
        if let Some(address) = dotted(host) {
            return Ok(address);
        }
        let name = name_of(host).ok_or(NetProblem::NameUnknown)?;
        let end = Moment::now().after(self.patience.name);
        let mut problem = NetProblem::NameSilent;
        let mut asked = 0;
        // One number and one port for all that is asked: an answer that comes late counts as well.
        let (number, port) = (random() as u16, self.port());
        loop {
            // A lease that is renewed meanwhile may name other servers, or none.
            let servers = self.name_servers.len();
            let server = self.name_servers.first().copied();
            let server = server.ok_or(NetProblem::NoNameServer)?;
            let query = Query {
                number,
                name: &name,
                avoid,
                is_plain: asked / servers % 2 == 1,
            };
            asked += 1;
            match self.ask(server, port, &query, Moment::now().after(TURN).min(end))? {
                Some(Answer::Address(address)) => return Ok(address),
                Some(Answer::NoSuchName) => return Err(NetProblem::NameUnknown),
                Some(Answer::Nothing) => {
                    problem = NetProblem::NameFailed;
                    let again = Moment::now().after(ASK_AGAIN);
                    while self.waits(again)? {}
                }
                None => {}
            }
            if Moment::now() >= end {
                return Err(problem);
            }
            self.ask_another_server();
        }
    }

    /// Asks one server once; `None` when it does not answer by `end`.
    fn ask(
        &mut self,
        server: IpAddress,
        port: u16,
        query: &Query<'_>,
        end: Moment,
    ) -> Result<Option<Answer>, NetProblem> {
        let mut message = [0; QUESTION_MAX_BYTES];
        let question = query.message(&mut message).ok_or(NetProblem::NameUnknown)?;
        let socket = self.sockets.get_mut::<Socket<'_>>(self.names);
        // A question to a server that nobody knows the way to still waits, and is dropped.
        socket.close();
        let _ = socket.bind(port);
        let _ = socket.send_slice(question, (server, PORT));
        while self.waits(end)? {
            let socket = self.sockets.get_mut::<Socket<'_>>(self.names);
            while let Ok((bytes, from)) = socket.recv() {
                let is_server = self.name_servers.contains(&from.endpoint.addr);
                let is_asked = is_server && from.endpoint.port == PORT;
                if let Some(answer) = query.answer(bytes).filter(|_| is_asked) {
                    return Ok(Some(answer));
                }
            }
        }
        Ok(None)
    }

    /// Waits for the next thing to happen; `false` when `end` has passed.
    fn waits(&mut self, end: Moment) -> Result<bool, NetProblem> {
        match self.turn_in_vain(end, NetProblem::NameSilent) {
            Ok(()) => Ok(true),
            Err(NetProblem::NameSilent) => Ok(false),
            Err(problem) => Err(problem),
        }
    }
}
