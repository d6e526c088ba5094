//! From a server's name to its address on a running system: `/etc/hosts`, then the name servers of `/etc/resolv.conf` (RFC 1035).
//!
//! Addresses are IPv4, and a name is asked for as it stands: neither search lists nor other options are followed.

use super::clock::Moment;
use super::dns::{ASK_AGAIN, Answer, MESSAGE_MAX_BYTES, PORT, Query, SERVERS_MAX, TURN, name_of};
use super::dotted::dotted;
use super::kernel::{socket, wait};
use super::{Attendant, NetProblem};
use crate::clock::sleep;
use crate::files;
use core::net::{Ipv4Addr, SocketAddrV4};
use heapless::Vec;
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags, SocketType, connect, recv, send};
use rustix::rand::{GetRandomFlags, getrandom};

const HOSTS: &str = "/etc/hosts";
const SERVERS: &str = "/etc/resolv.conf";

/// Most of either file that is read.
const FILE_MAX_BYTES: usize = 8 * 1024;

/// The address of a server; what is an address already is not asked for. Of a name with several addresses, the first that
/// is not to be avoided.
///
/// # Errors
/// [`NetProblem`] when nobody knows the name, or nobody answers by `end`.
pub fn address_of(
    host: &str,
    avoid: &[Ipv4Addr],
    end: Moment,
    attendant: &dyn Attendant,
) -> Result<Ipv4Addr, NetProblem> {
    if let Some(address) = dotted(host) {
        return Ok(address);
    }
    let mut buffer = [0; FILE_MAX_BYTES];
    if let Some(address) = in_hosts(text(HOSTS, &mut buffer), host) {
        return Ok(address);
    }
    let servers = servers_in(text(SERVERS, &mut buffer));
    let name = name_of(host).ok_or(NetProblem::NameUnknown)?;
    if servers.is_empty() {
        return Err(NetProblem::NoNameServer);
    }
    // One number and one socket for all that a server is asked: an answer that comes late is there at the next turn.
    let number = number();
    let mut sockets = Vec::<OwnedFd, SERVERS_MAX>::new();
    for server in &servers {
        let socket = socket(SocketType::DGRAM)?;
        // Without a way there nothing can be sent either.
        let _ = connect(&socket, &SocketAddrV4::new(*server, PORT));
        // There is room for all.
        let _ = sockets.push(socket);
    }
    let mut problem = NetProblem::NameSilent;
    for (asked, socket) in sockets.iter().cycle().enumerate() {
        let query = Query {
            number,
            name: &name,
            avoid,
            is_plain: asked / sockets.len() % 2 == 1,
        };
        let late = Moment::now().after(TURN).min(end);
        match ask(socket, &query, late, attendant) {
            Ok(Answer::Address(address)) => return Ok(address),
            Ok(Answer::NoSuchName) => return Err(NetProblem::NameUnknown),
            Ok(Answer::Nothing) => problem = NetProblem::NameFailed,
            Err(_) => {}
        }
        if Moment::now() >= end {
            break;
        }
        attendant.alive();
        sleep(ASK_AGAIN);
    }
    Err(problem)
}

/// A file of text, as far as it is one; a file that is not there is empty.
fn text<'b>(path: &str, buffer: &'b mut [u8; FILE_MAX_BYTES]) -> &'b str {
    let bytes = files::read(path, buffer).unwrap_or_default();
    let valid = match core::str::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.valid_up_to(),
    };
    let valid = bytes.get(..valid).unwrap_or_default();
    core::str::from_utf8(valid).unwrap_or_default()
}

/// The words of each line, up to a comment.
fn lines(text: &str) -> impl Iterator<Item = core::str::SplitAsciiWhitespace<'_>> {
    text.lines().map(|line| {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        line.split_ascii_whitespace()
    })
}

/// The first address of a name in `/etc/hosts`.
fn in_hosts(hosts: &str, host: &str) -> Option<Ipv4Addr> {
    lines(hosts).find_map(|mut words| {
        let address = dotted(words.next()?)?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    })
}

/// The name servers of `/etc/resolv.conf` that have an address of IPv4.
fn servers_in(text: &str) -> Vec<Ipv4Addr, SERVERS_MAX> {
    let mut servers = Vec::new();
    for mut words in lines(text) {
        if words.next() == Some("nameserver")
            && let Some(server) = words.next().and_then(dotted)
        {
            // As many fit as are asked.
            let _ = servers.push(server);
        }
    }
    servers
}

/// Asks one server once.
fn ask(
    socket: &OwnedFd,
    query: &Query<'_>,
    end: Moment,
    attendant: &dyn Attendant,
) -> Result<Answer, NetProblem> {
    let mut message = [0; MESSAGE_MAX_BYTES];
    let question = query.message(&mut message).ok_or(NetProblem::NameUnknown)?;
    send(socket, question, SendFlags::NOSIGNAL).map_err(|_| NetProblem::NameSilent)?;
    loop {
        let late = NetProblem::NameSilent;
        wait(socket, PollFlags::IN, end, late, attendant)?;
        let came = recv(socket, &mut message[..], RecvFlags::empty());
        let (bytes, _) = came.map_err(|_| NetProblem::NameSilent)?;
        if let Some(answer) = query.answer(message.get(..bytes).unwrap_or_default()) {
            return Ok(answer);
        }
    }
}

fn number() -> u16 {
    let mut number = [0; 2];
    // A kernel older than 5.6 does not know the flag; a wrong answer costs no more than a bundle that is refused.
    let _ = getrandom(&mut number, GetRandomFlags::INSECURE);
    u16::from_ne_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_servers_are_read_as_far_as_they_can_be() {
        let hosts = "# a comment\n127.0.0.1 localhost\n::1 updates.example\n\
                     10.0.0.7\tUpdates.Example alias # 10.0.0.8 other\nnonsense\n";
        assert_eq!(
            in_hosts(hosts, "updates.example"),
            Some([10, 0, 0, 7].into())
        );
        assert_eq!(in_hosts(hosts, "ALIAS"), Some([10, 0, 0, 7].into()));
        assert_eq!(in_hosts(hosts, "other"), None);
        let servers = servers_in(
            "search example\nnameserver ::1\nnameserver 10.0.0.1\noptions ndots:1\n\
             ; nameserver 10.0.0.9\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n",
        );
        let all = [1, 2, 3].map(|last| Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(servers, all);
    }
}
