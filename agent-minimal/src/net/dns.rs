//! Questions for the address of a name, and their answers (RFC 1035), for both networks.
//!
//! # Invariants
//! - An answer counts when it is one to the question: number and name, in letters of any case (RFC 4343), are those that were asked for.

use core::net::Ipv4Addr;
use core::time::Duration;
use heapless::Vec;
use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData,
    DnsRepr,
};

/// Where name servers listen.
pub const PORT: u16 = 53;

/// One server is waited for so long, then the next one is asked.
pub const TURN: Duration = Duration::from_secs(3);

/// A server that cannot say at once is not asked again at once.
pub const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Name servers that are asked (`MAXNS` of resolv.h).
pub const SERVERS_MAX: usize = 3;

/// Longest message that is asked for (RFC 6891, section 6.2.5): no cable cuts it.
pub const MESSAGE_MAX_BYTES: usize = 1232;

/// Says so: an OPT record of the root, with that length as its class.
const EXTENSION: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// Longest name in a message, and longest label.
const NAME_MAX_BYTES: usize = 255;
const LABEL_MAX_BYTES: usize = 63;

/// Longest question: a head, a name, its kind, and the record after it.
pub const QUESTION_MAX_BYTES: usize = 12 + NAME_MAX_BYTES + 4 + EXTENSION.len();

/// Addresses of a name that are tried.
pub const ADDRESSES_MAX: usize = 4;

/// A name as it stands in a message.
pub type Name = Vec<u8, NAME_MAX_BYTES>;

/// What a server says.
pub enum Answer {
    /// This address.
    Address(Ipv4Addr),
    /// There is no such name, or it has no address of IPv4.
    NoSuchName,
    /// It cannot tell, or this is no answer to the question.
    Nothing,
}

/// A name as it stands in a message: labels behind their lengths. `None` when it can be none.
pub fn name_of(host: &str) -> Option<Name> {
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

/// What one server is asked once.
pub struct Query<'n> {
    /// A number that nobody guesses.
    pub number: u16,
    /// Of which server an address is wanted.
    pub name: &'n Name,
    /// Addresses that were tried: another one is wanted, where there is one.
    pub avoid: &'n [Ipv4Addr],
    /// Without the record that asks for a long answer, for a server that does not know it (RFC 6891, section 7).
    pub is_plain: bool,
}

impl Query<'_> {
    /// The message, in `room`; `None` when it does not fit.
    pub fn message<'m>(&self, room: &'m mut [u8]) -> Option<&'m [u8]> {
        let query = DnsRepr {
            transaction_id: self.number,
            opcode: DnsOpcode::Query,
            flags: DnsFlags::RECURSION_DESIRED,
            question: DnsQuestion {
                name: self.name,
                type_: DnsQueryType::A,
            },
        };
        let extension: &[u8] = if self.is_plain { &[] } else { &EXTENSION };
        let plain = query.buffer_len();
        let message = room.get_mut(..plain + extension.len())?;
        let (head, behind) = message.split_at_mut(plain);
        query.emit(&mut DnsPacket::new_checked(&mut *head).ok()?);
        behind.copy_from_slice(extension);
        // So many additional records.
        *message.get_mut(11)? = u8::from(!self.is_plain);
        Some(message)
    }

    /// What a message answers; `None` when it is no answer to the question.
    pub fn answer(&self, message: &[u8]) -> Option<Answer> {
        let packet = DnsPacket::new_checked(message).ok()?;
        let flags = packet.flags();
        let is_answer = packet.transaction_id() == self.number
            && flags.contains(DnsFlags::RESPONSE)
            && packet.question_count() == 1;
        if !is_answer {
            return None;
        }
        let (mut rest, asked) = DnsQuestion::parse(packet.payload()).ok()?;
        if !asked.name.eq_ignore_ascii_case(self.name) || asked.type_ != DnsQueryType::A {
            return None;
        }
        let mut nothing = match packet.rcode() {
            DnsRcode::NXDomain => return Some(Answer::NoSuchName),
            DnsRcode::NoError if !flags.contains(DnsFlags::TRUNCATED) => Answer::NoSuchName,
            _ => Answer::Nothing,
        };
        let mut addresses = Vec::<Ipv4Addr, ADDRESSES_MAX>::new();
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
        let untried = addresses.iter().find(|one| !self.avoid.contains(one));
        let address = untried.or(addresses.first());
        Some(address.map_or(nothing, |one| Answer::Address(*one)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_coded_and_what_is_none_is_refused() {
        assert_eq!(name_of("a.example").unwrap(), b"\x01a\x07example\x00");
        assert_eq!(name_of("a.example.").unwrap(), b"\x01a\x07example\x00");
        let long = "x".repeat(64);
        for wrong in ["", ".", "a..b", &long, &"a.".repeat(128)] {
            assert_eq!(name_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_long_answer_is_asked_for_unless_the_server_does_not_know_how() {
        let name = name_of("a.example").unwrap();
        let of = |is_plain, room: usize| {
            let query = Query {
                number: 0x1234,
                name: &name,
                avoid: &[],
                is_plain,
            };
            let mut buffer = std::vec![0; room];
            query.message(&mut buffer).map(<[u8]>::to_vec)
        };
        let plain = of(true, QUESTION_MAX_BYTES).unwrap();
        assert_eq!(plain.len(), 12 + name.len() + 4);
        assert_eq!(plain[..12], [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let long = of(false, QUESTION_MAX_BYTES).unwrap();
        assert_eq!(long[..11], plain[..11]);
        assert_eq!(long[11], 1);
        assert_eq!(long[12..plain.len()], plain[12..]);
        assert_eq!(long[plain.len()..], EXTENSION);
        assert_eq!(of(false, long.len() - 1), None);
        assert_eq!(
            usize::from(u16::from_be_bytes([EXTENSION[3], EXTENSION[4]])),
            MESSAGE_MAX_BYTES
        );
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
        address_but(message, &[])
    }

    fn address_but(message: &[u8], avoid: &[Ipv4Addr]) -> Option<Ipv4Addr> {
        let name = name_of("A.example").unwrap();
        let query = Query {
            number: 0x1234,
            name: &name,
            avoid,
            is_plain: false,
        };
        match query.answer(message)? {
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
        let of = |last| Ipv4Addr::new(10, 0, 0, last);
        for (avoid, last) in [
            (&[][..], 7),
            (&[of(7)], 8),
            (&[of(8)], 7),
            (&[of(8), of(7)], 7),
        ] {
            assert_eq!(address_but(&several, avoid), Some(of(last)));
        }
        assert_eq!(address(&message(0, &[])), Some([0; 4].into()));
        assert_eq!(address(&message(3, &[])), Some([0; 4].into()));
        assert_eq!(address(&message(2, &[])), Some([255; 4].into()));
        // Too long for a message, and nothing of it is in this one.
        let mut truncated = message(0, &[]);
        truncated[2] |= 2;
        assert_eq!(address(&truncated), Some([255; 4].into()));
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
