//! Signature databases of the firmware: a sequence of `EFI_SIGNATURE_LIST` (UEFI specification 2.10, section 32.4.1).
//!
//! ```text
//! list:  type GUID (16) | size of the list u32 | size of its header u32 | size of an entry u32 | header | entries
//! entry: owner GUID (16) | certificate or hash
//! ```
//!
//! # Invariants
//! - A database is read whole or not at all. Lists of types that are not in [`Lists`] are passed over, as a firmware passes over
//!   what it does not know.

/// Before a list's own header.
const HEADER_BYTES: usize = 28;
/// Owner of an entry.
const OWNER_BYTES: usize = 16;
/// A SHA-256.
const HASH_BYTES: usize = 32;
/// Behind the hash of a certificate: `EFI_TIME`, since when it is revoked.
const TIME_BYTES: usize = 16;

/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072, as it is stored: the first three groups little-endian.
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// `EFI_CERT_SHA256_GUID`, c1c41626-504c-4092-aca9-41f936934328.
const SHA256: [u8; 16] = [
    0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28,
];
/// `EFI_CERT_X509_SHA256_GUID`, 3bd2a492-96c0-4079-b420-fcf98ef103ed.
const X509_SHA256: [u8; 16] = [
    0x92, 0xa4, 0xd2, 0x3b, 0xc0, 0x96, 0x79, 0x40, 0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03, 0xed,
];

/// What is wrong with a signature database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListFault {
    /// A list's sizes contradict each other or the variable's.
    #[error("the signature list at its byte {offset} has sizes that do not fit")]
    Sizes {
        /// Where the list starts, without the variable's attributes.
        offset: usize,
    },
}

/// What a signature database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// X.509 certificates in DER, as they are stored.
    pub certificates: Vec<Vec<u8>>,
    /// SHA-256 of images, as Authenticode takes it.
    pub images: Vec<[u8; HASH_BYTES]>,
    /// SHA-256 of the signed part of certificates. Since when one is revoked is left out: no signature here proves its time.
    pub certificate_hashes: Vec<[u8; HASH_BYTES]>,
}

impl Lists {
    /// Reads the content of a variable, without its attributes.
    pub fn parse(content: &[u8]) -> Result<Self, ListFault> {
        let mut lists = Self::default();
        let mut rest = content;
        while !rest.is_empty() {
            let offset = content.len() - rest.len();
            rest = lists.take_list(rest).ok_or(ListFault::Sizes { offset })?;
        }
        Ok(lists)
    }

    /// Takes the first list; gives what follows it.
    fn take_list<'c>(&mut self, bytes: &'c [u8]) -> Option<&'c [u8]> {
        let (kind, sizes) = bytes.split_first_chunk::<16>()?;
        let list_bytes = size(sizes, 0)?;
        let own_header_bytes = size(sizes, 4)?;
        let entry_bytes = size(sizes, 8)?;
        let (list, rest) = bytes.split_at_checked(list_bytes)?;
        let entries = list.get(HEADER_BYTES.checked_add(own_header_bytes)?..)?;
        if entry_bytes <= OWNER_BYTES || entries.len() % entry_bytes != 0 {
            return None;
        }
        for entry in entries.chunks_exact(entry_bytes) {
            self.take_entry(kind, entry.get(OWNER_BYTES..)?)?;
        }
        Some(rest)
    }

    fn take_entry(&mut self, kind: &[u8; 16], data: &[u8]) -> Option<()> {
        match *kind {
            X509 => self.certificates.push(data.to_vec()),
            SHA256 => self.images.push(data.try_into().ok()?),
            X509_SHA256 => {
                let (hash, time) = data.split_first_chunk::<HASH_BYTES>()?;
                if time.len() != TIME_BYTES {
                    return None;
                }
                self.certificate_hashes.push(*hash);
            }
            _ => {}
        }
        Some(())
    }
}

fn size(bytes: &[u8], offset: usize) -> Option<usize> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: [u8; 16], own_header: &[u8], entries: &[&[u8]]) -> Vec<u8> {
        let entry_bytes = OWNER_BYTES + entries.first().map_or(1, |entry| entry.len());
        let bytes = HEADER_BYTES + own_header.len() + entries.len() * entry_bytes;
        let mut made = kind.to_vec();
        for size in [bytes, own_header.len(), entry_bytes] {
            made.extend_from_slice(&(size as u32).to_le_bytes());
        }
        made.extend_from_slice(own_header);
        for entry in entries {
            made.extend_from_slice(&[0x77; OWNER_BYTES]);
            made.extend_from_slice(entry);
        }
        made
    }

    fn three() -> Vec<u8> {
        [
            list(X509, &[], &[b"certificate"]),
            list([9; 16], b"odd", &[b"unknown", b"unknowm"]),
            list(SHA256, &[], &[&[1; 32], &[2; 32]]),
            list(
                X509_SHA256,
                &[],
                &[&[[3; 32].as_slice(), &[0; 16]].concat()],
            ),
        ]
        .concat()
    }

    #[test]
    fn every_known_type_is_taken_and_others_are_passed_over() {
        let lists = Lists::parse(&three()).unwrap();
        assert_eq!(lists.certificates, [b"certificate".to_vec()]);
        assert_eq!(lists.images, [[1; 32], [2; 32]]);
        assert_eq!(lists.certificate_hashes, [[3; 32]]);
        assert_eq!(Lists::parse(&[]), Ok(Lists::default()));
    }

    #[test]
    fn a_database_that_was_cut_is_refused_and_named_by_the_list() {
        let whole = three();
        let starts: Vec<usize> = (0..=whole.len())
            .filter(|end| Lists::parse(&whole[..*end]).is_ok())
            .collect();
        assert_eq!(starts.len(), 5, "whole only between lists");
        let last = starts[3];
        assert_eq!(
            Lists::parse(&whole[..whole.len() - 1]),
            Err(ListFault::Sizes { offset: last })
        );
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let one = list(SHA256, &[], &[&[1; 32]]);
        for (offset, value) in [
            (16, 0),
            (16, 27),
            (16, u32::MAX),
            (20, 1),
            (20, u32::MAX),
            (24, 0),
            (24, 16),
            (24, 24),
            (24, u32::MAX),
        ] {
            let mut bad = one.clone();
            bad[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
            assert!(Lists::parse(&bad).is_err(), "{value} at {offset}");
        }
        assert!(Lists::parse(&list(SHA256, &[], &[&[1; 31]])).is_err());
        assert!(Lists::parse(&list(X509_SHA256, &[], &[&[1; 47]])).is_err());
    }
}
