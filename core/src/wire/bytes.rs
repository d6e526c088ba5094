//! How digests are read with serde: as an array of bytes is, one after the other without a length, and by a loop. serde's own array reads each
//! byte with code of its own, a thousand bytes for a SHA-256.
//!
//! For `#[serde(deserialize_with = …)]`; they are written as serde writes arrays.

use super::digest::{SHA256_BYTES, Sha256Digest};
use core::fmt;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A SHA-256.
pub fn digest<'de, D: Deserializer<'de>>(from: D) -> Result<Sha256Digest, D::Error> {
    from.deserialize_tuple(SHA256_BYTES, Bytes)
}

/// A SHA-256, or none.
pub fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Sha256Digest>, D::Error> {
    Ok(Option::<Plain>::deserialize(from)?.map(|plain| plain.0))
}

/// The same for each of two sets.
pub fn of_sets<'de, D: Deserializer<'de>>(from: D) -> Result<[Option<Sha256Digest>; 2], D::Error> {
    let both = <[Option<Plain>; 2]>::deserialize(from)?;
    Ok(both.map(|one| one.map(|plain| plain.0)))
}

struct Plain(Sha256Digest);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        digest(from).map(Self)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Sha256Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("32 bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Sha256Digest, A::Error> {
        let mut digest = Sha256Digest::default();
        for (number, byte) in digest.iter_mut().enumerate() {
            let next = bytes.next_element()?;
            *byte = next.ok_or_else(|| A::Error::invalid_length(number, &self))?;
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Plain {
        one: [u8; 32],
        may_be: Option<[u8; 32]>,
        of_sets: [Option<[u8; 32]>; 2],
    }

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Ours {
        #[serde(deserialize_with = "super::digest")]
        one: [u8; 32],
        #[serde(deserialize_with = "super::optional")]
        may_be: Option<[u8; 32]>,
        #[serde(deserialize_with = "super::of_sets")]
        of_sets: [Option<[u8; 32]>; 2],
    }

    #[test]
    fn what_serde_writes_is_read_the_same() {
        for (may_be, of_sets) in [
            (None, [None, Some([3; 32])]),
            (Some([2; 32]), [Some([4; 32]), None]),
        ] {
            let one = core::array::from_fn(|number| number as u8);
            let plain = Plain {
                one,
                may_be,
                of_sets,
            };
            let mut buffer = [0; 160];
            let wire = postcard::to_slice(&plain, &mut buffer).unwrap();
            let read: Ours = postcard::from_bytes(wire).unwrap();
            let expected = Ours {
                one,
                may_be,
                of_sets,
            };
            assert_eq!(read, expected);
            let again: Plain = postcard::from_bytes(wire).unwrap();
            assert_eq!(again, plain);
            for end in 0..wire.len() {
                assert!(postcard::from_bytes::<Ours>(&wire[..end]).is_err());
            }
        }
    }
}
