//! Elements of ASN.1 one after the other, as certificates and messages are walked: `der` finds where each begins and ends.
//!
//! # Invariants
//! - An element is whole and inside the one around it; lengths have their shortest form (ITU-T X.690, section 10.1).

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader};

// Identifier octets (ITU-T X.690, section 8.1.2).
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed; the numbers above follow.
pub(super) const CONTEXT_0: u8 = 0xa0;

/// Another element than must be there, or one that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<der::Error> for Malformed {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'e> {
    /// With identifier and length.
    pub whole: &'e [u8],
    /// What is in it.
    pub value: &'e [u8],
}

/// A walk over the elements of some bytes.
pub(super) struct Walk<'e>(SliceReader<'e>);

impl<'e> Walk<'e> {
    /// Over bytes from outside.
    pub fn over(bytes: &'e [u8]) -> Result<Self, Malformed> {
        Ok(Self(SliceReader::new(bytes)?))
    }

    /// Over what is in an element.
    pub fn into(element: Element<'e>) -> Result<Self, Malformed> {
        Self::over(element.value)
    }

    /// Whether there is nothing more.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// The next element, whatever it is.
    pub fn any(&mut self) -> Result<Element<'e>, Malformed> {
        let whole = self.0.tlv_bytes()?;
        let value = AnyRef::from_der(whole)?.value();
        Ok(Element { whole, value })
    }

    /// The next element if it has this identifier.
    pub fn optional(&mut self, identifier: u8) -> Result<Option<Element<'e>>, Malformed> {
        if self.0.peek_byte() == Some(identifier) {
            self.any().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The next element, which must have this identifier.
    pub fn take(&mut self, identifier: u8) -> Result<Element<'e>, Malformed> {
        self.optional(identifier)?.ok_or(Malformed)
    }

    /// Into the next element, which must have this identifier.
    pub fn enter(&mut self, identifier: u8) -> Result<Self, Malformed> {
        Self::into(self.take(identifier)?)
    }

    /// The next element, which must be an object identifier.
    pub fn oid(&mut self) -> Result<ObjectIdentifier, Malformed> {
        ObjectIdentifier::from_bytes(self.take(OID)?.value).map_err(|_| Malformed)
    }

    /// The next element, which must name an algorithm with the parameters of RSA and SHA-2: none, said by NULL or by nothing.
    pub fn algorithm(&mut self) -> Result<ObjectIdentifier, Malformed> {
        let mut fields = self.enter(SEQUENCE)?;
        let name = fields.oid()?;
        let nothing = fields
            .optional(NULL)?
            .is_none_or(|null| null.value.is_empty());
        if nothing && fields.is_over() {
            Ok(name)
        } else {
            Err(Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_where_the_bytes_do() {
        let bytes = [SEQUENCE, 5, INTEGER, 1, 7, NULL, 0, OID, 1, 0x2a];
        let mut walk = Walk::over(&bytes).unwrap();
        let mut inside = walk.enter(SEQUENCE).unwrap();
        assert_eq!(inside.take(OID).unwrap_err(), Malformed);
        assert_eq!(inside.take(INTEGER).unwrap().value, [7]);
        assert!(inside.optional(NULL).unwrap().is_some() && inside.is_over());
        assert_eq!(inside.any().unwrap_err(), Malformed);
        assert_eq!(walk.oid().unwrap().to_string(), "1.2");
        for end in 1..7 {
            let mut cut = Walk::over(&bytes[..end]).unwrap();
            assert!(cut.any().is_err(), "{end}");
        }
    }

    #[test]
    fn lengths_that_are_not_the_shortest_or_too_long_are_refused() {
        for bytes in [
            &[INTEGER, 0x81, 1, 7][..],
            &[INTEGER, 0x80, 0, 0],
            &[INTEGER, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
        ] {
            assert!(Walk::over(bytes).unwrap().any().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_algorithm_has_no_parameters_here() {
        let algorithm = |bytes: &[u8]| Walk::over(bytes).unwrap().algorithm();
        assert!(algorithm(&[SEQUENCE, 3, OID, 1, 0x2a]).is_ok());
        assert!(algorithm(&[SEQUENCE, 5, OID, 1, 0x2a, NULL, 0]).is_ok());
        assert!(algorithm(&[SEQUENCE, 6, OID, 1, 0x2a, NULL, 1, 0]).is_err());
        assert!(algorithm(&[SEQUENCE, 6, OID, 1, 0x2a, INTEGER, 1, 0]).is_err());
    }
}
