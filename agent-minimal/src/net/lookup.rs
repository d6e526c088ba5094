//! From a server's name to its address on a running system: `/etc/hosts`, then the name servers of `/etc/resolv.conf` (RFC 1035).
//!
//! Addresses are IPv4, and a name is asked for as it stands: neither search lists nor other options are followed.

use super::clock::Moment;
use super::dotted::dotted;
use super::kernel::{socket, wait};
use super::{Attendant, NetProblem};
use crate::files;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use heapless::Vec;
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags, SocketType, connect, recv, send};
use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::config::DNS_MAX_RESULT_COUNT;
use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData,
    DnsRepr,
};

const HOSTS: &str = "/etc/hosts";
const SERVERS: &str = "/etc/resolv.conf";

/// Most of either file that is read.
const FILE_MAX_BYTES: usize = 8 * 1024;

/// Name servers that are asked (`MAXNS` of resolv.h).
const SERVERS_MAX: usize = 3;

/// Addresses of a name that are tried, as many as the other IP stack does.
const ADDRESSES_MAX: usize = DNS_MAX_RESULT_COUNT;

const PORT: u16 = 53;

/// One server is waited for so long, then the next one is asked.
const TURN: Duration = Duration::from_secs(3);

/// Longest message without extensions (RFC 1035, section 2.3.4).
const MESSAGE_MAX_BYTES: usize = 512;

/// Longest name in a message, and longest label.
const NAME_MAX_BYTES: usize = 255;
const LABEL_MAX_BYTES: usize = 63;

/// What a server says.
enum Answer {
    Address(Ipv4Addr),
    NoSuchName,
    /// It cannot tell, or this is no answer to the question.
    Nothing,
}

/// The address of a server; what is an address already is not asked for. Of a name with several addresses, the one whose `turn` it is.
///
/// # Errors
/// [`NetProblem`] when nobody knows the name, or nobody answers by `end`.
pub fn address_of(
    host: &str,
    turn: u32,
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
    for server in servers.iter().cycle() {
        let late = Moment::now().after(TURN).min(end);
        match ask(*server, &name, turn, late, attendant) {
            Ok(Answer::Address(address)) => return Ok(address),
            Ok(Answer::NoSuchName) => return Err(NetProblem::NameUnknown),
            // One that refuses at once is not asked again at once.
            Ok(Answer::Nothing) | Err(_) if Moment::now() < end => {
                attendant.alive();
                crate::clock::sleep(Duration::from_millis(100));
            }
            Ok(Answer::Nothing) | Err(_) => break,
        }
    }
    Err(NetProblem::NameSilent)
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

/// A name as it stands in a message: labels behind their lengths. `None` when it can be none.
fn name_of(host: &str) -> Option<Vec<u8, NAME_MAX_BYTES>> {
    let mut name = Vec::new();
    for label in host.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > LABEL_MAX_BYTES {
            return None;
        }
        name.push(label.len() as u8).ok()?;
        name.extend_from_slice(label.as_bytes()).ok()?;
    }
    name.push(0).ok()?;
    Some(name)
}

/// Asks one server once.
fn ask(
    server: Ipv4Addr,
    name: &[u8],
    turn: u32,
    end: Moment,
    attendant: &dyn Attendant,
) -> Result<Answer, NetProblem> {
    let socket = socket(SocketType::DGRAM)?;
    let mut number = [0; 2];
    // A kernel older than 5.6 does not know the flag; a wrong answer costs no more than a bundle that is refused.
    let _ = getrandom(&mut number, GetRandomFlags::INSECURE);
    let number = u16::from_ne_bytes(number);
    let mut message = [0; MESSAGE_MAX_BYTES];
    let question = question(number, name, &mut message).ok_or(NetProblem::NameUnknown)?;
    connect(&socket, &SocketAddrV4::new(server, PORT)).map_err(|_| NetProblem::NameSilent)?;
    send(&socket, question, SendFlags::NOSIGNAL).map_err(|_| NetProblem::NameSilent)?;
    loop {
        let late = NetProblem::NameSilent;
        wait(&socket, PollFlags::IN, end, late, attendant)?;
        let came = recv(&socket, &mut message[..], RecvFlags::empty());
        let (bytes, _) = came.map_err(|_| NetProblem::NameSilent)?;
        if let Some(answer) = answer(message.get(..bytes).unwrap_or_default(), number, name, turn) {
            return Ok(answer);
        }
    }
}

fn question<'m>(
    number: u16,
    name: &[u8],
    message: &'m mut [u8; MESSAGE_MAX_BYTES],
) -> Option<&'m [u8]> {
    let query = DnsRepr {
        transaction_id: number,
        opcode: DnsOpcode::Query,
        flags: DnsFlags::RECURSION_DESIRED,
        question: DnsQuestion {
            name,
            type_: DnsQueryType::A,
        },
    };
    let message = message.get_mut(..query.buffer_len())?;
    query.emit(&mut DnsPacket::new_checked(&mut *message).ok()?);
    Some(message)
}

/// What a message answers; `None` when it is no answer to the question.
fn answer(message: &[u8], number: u16, name: &[u8], turn: u32) -> Option<Answer> {
    let packet = DnsPacket::new_checked(message).ok()?;
    let is_answer = packet.transaction_id() == number
        && packet.flags().contains(DnsFlags::RESPONSE)
        && packet.question_count() == 1;
    if !is_answer {
        return None;
    }
    let (mut rest, asked) = DnsQuestion::parse(packet.payload()).ok()?;
    if !asked.name.eq_ignore_ascii_case(name) || asked.type_ != DnsQueryType::A {
        return None;
    }
    if packet.rcode() != DnsRcode::NoError {
        let is_unknown = packet.rcode() == DnsRcode::NXDomain;
        return Some(if is_unknown {
            Answer::NoSuchName
        } else {
            Answer::Nothing
        });
    }
    let mut addresses = Vec::<Ipv4Addr, ADDRESSES_MAX>::new();
    let mut nothing = Answer::NoSuchName;
    for _ in 0..packet.answer_record_count() {
        let Ok((behind, record)) = DnsRecord::parse(rest) else {
            nothing = Answer::Nothing;
            break;
        };
        if let DnsRecordData::A(address) = record.data {
            // As many fit as are tried.
            let _ = addresses.push(address);
        }
        rest = behind;
    }
    let which = turn.checked_rem(addresses.len() as u32);
    let address = which.and_then(|which| addresses.get(which as usize));
    Some(address.map_or(nothing, |one| Answer::Address(*one)))
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

    #[test]
    fn names_are_coded_and_what_is_none_is_refused() {
        assert_eq!(name_of("a.example").unwrap(), b"\x01a\x07example\x00");
        assert_eq!(name_of("a.example.").unwrap(), b"\x01a\x07example\x00");
        let long = "x".repeat(64);
        for wrong in ["", ".", "a..b", &long, &"a.".repeat(128)] {
            assert_eq!(name_of(wrong), None, "{wrong}");
        }
    }

    /// An answer of so many records of a type.
    fn message(rcode: u8, records: &[(u16, &[u8])]) -> std::vec::Vec<u8> {
        let name = name_of("a.example").unwrap();
        let mut bytes = std::vec![0x12, 0x34, 0x81, 0x80 | rcode, 0, 1, 0, records.len() as u8];
        bytes.extend([0; 4]);
        bytes.extend_from_slice(&name);
        bytes.extend([0, 1, 0, 1]);
        for (kind, data) in records {
            bytes.extend([0xc0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            bytes.extend_from_slice(data);
        }
        bytes
    }

    fn address(message: &[u8]) -> Option<Ipv4Addr> {
        address_in_turn(message, 0)
    }

    fn address_in_turn(message: &[u8], turn: u32) -> Option<Ipv4Addr> {
        let name = name_of("A.example").unwrap();
        match answer(message, 0x1234, &name, turn)? {
            Answer::Address(address) => Some(address),
            Answer::NoSuchName => Some([0, 0, 0, 0].into()),
            Answer::Nothing => Some([255; 4].into()),
        }
    }

    #[test]
    fn answers_are_read_and_what_is_none_is_passed_over() {
        let found = message(0, &[(5, b"\x01b\xc0\x0e"), (1, &[10, 0, 0, 7])]);
        assert_eq!(address(&found), Some([10, 0, 0, 7].into()));
        let several = message(0, &[(1, &[10, 0, 0, 7]), (1, &[10, 0, 0, 8])]);
        for (turn, last) in [(0, 7), (1, 8), (2, 7)] {
            let found = address_in_turn(&several, turn);
            assert_eq!(found, Some([10, 0, 0, last].into()));
        }
        assert_eq!(address(&message(0, &[])), Some([0; 4].into()));
        assert_eq!(address(&message(3, &[])), Some([0; 4].into()));
        assert_eq!(address(&message(2, &[])), Some([255; 4].into()));
        for end in 0..found.len() {
            let cut = address(&found[..end]);
            assert!(
                cut.is_none() || cut == Some([255; 4].into()),
                "{end}: {cut:?}"
            );
        }
        let mut other = found.clone();
        other[0] ^= 1;
        assert_eq!(address(&other), None, "of another question");
        let mut asks = found;
        asks[2] &= 0x7f;
        assert_eq!(address(&asks), None, "no answer");
    }
}
