//! The manifest: everything that the maker signs about a bundle, in postcard.
//!
//! # Invariants
//! - A [`Manifest`] from [`Manifest::parse`] has passed [`Manifest::check`]: one meaning, sums that fit, limits kept.
//! - `emit` of a parsed manifest gives the same bytes: they are compared, so a second encoding of the same value is refused.

use crate::error::{BundleInvalid, Field, Part};
use crate::wire::digest::{BlobDigest, Sha256Digest};
use crate::wire::text::{Line, Name};
use crate::wire::{
    BLOB_MAX_BYTES, DATA_PART_MAX_BYTES, DATA_PARTS_MAX_COUNT, FORMAT_VERSION, INFO_MAX_COUNT,
    MANIFEST_MAX_BYTES, PAYLOADS_MAX_COUNT, RANGE_MAX_BYTES, ROUTES_MAX_COUNT, ZSTD_WINDOW_LOG_MAX,
    index,
};
use heapless::Vec;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

/// The signed description of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Manifest {
    /// Version of the format, [`FORMAT_VERSION`].
    pub format: u16,
    /// Device type that the bundle is for; must match the device exactly.
    pub compatible: Name,
    /// Version for people; never compared for security.
    pub version: Line,
    /// Anti-rollback version: may not be below the device's floor, and becomes the floor at commit.
    pub anti_rollback: u64,
    /// When the bundle may be installed.
    pub window: ValidityWindow,
    /// Grows with every release of the maker. Recorded and shown; this version enforces `anti_rollback` only.
    pub sequence: u64,
    /// Where the bundle comes from.
    pub build: BuildIdentity,
    /// The `info/…` entries, in their order in the bundle.
    pub info: Vec<Info, INFO_MAX_COUNT>,
    /// What the bundle installs.
    pub payloads: Vec<Payload, PAYLOADS_MAX_COUNT>,
    /// Digest of the composefs image that the UKI's command line seals. Present when there is a UKI.
    pub seal: Option<BlobDigest>,
    /// Routes through the index; the first one is the full list, the others are for known base releases.
    pub routes: Vec<Route, ROUTES_MAX_COUNT>,
    /// Sizes of the `data` entries.
    pub data_parts: Vec<u64, DATA_PARTS_MAX_COUNT>,
    /// What a device needs to read this bundle.
    pub needs: Needs,
}

/// When a bundle may be installed, in seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ValidityWindow {
    /// Not before this time; 0 for always.
    pub not_before: u64,
    /// Not after this time; `None` for ever.
    pub not_after: Option<u64>,
}

/// Where a bundle comes from: what an auditor asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BuildIdentity {
    /// Source revision.
    pub source: Line,
    /// Who or what built it.
    pub builder: Line,
}

/// One `info/NAME` entry: for people and auditors, never needed to install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Info {
    /// The name after `info/`.
    pub name: Name,
    /// What it is.
    pub kind: InfoKind,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its content.
    #[serde(deserialize_with = "crate::wire::bytes::digest")]
    pub sha256: Sha256Digest,
}

/// What an `info/…` entry is. Never renumber: postcard stores the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum InfoKind {
    /// A software bill of materials.
    Sbom,
    /// A provenance statement.
    Provenance,
    /// Release notes.
    Notes,
    /// Anything else.
    Other,
}

/// One thing that the bundle installs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Payload {
    /// What it is and where it goes.
    pub kind: PayloadKind,
    /// Name of its blob.
    pub digest: BlobDigest,
    /// Bytes of its blob.
    pub size: u64,
}

/// What a payload is. Never renumber: postcard stores the position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PayloadKind {
    /// The UKI of the set's boot slot.
    Uki,
    /// The composefs image (EROFS) of the set's root slot, with its objects.
    Composefs {
        /// Number of objects.
        objects: u32,
        /// Bytes of all objects.
        object_bytes: u64,
    },
    /// Raw bytes for a named slot.
    Image {
        /// Name of the slot pair.
        slot: Name,
    },
}

/// One contiguous, separately authenticated run of index blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Route {
    /// SHA-256 of the manifest of the base release that this route starts from; `None` for the full list.
    #[serde(deserialize_with = "crate::wire::bytes::optional")]
    pub base: Option<Sha256Digest>,
    /// Number of blocks of [`index::BLOCK_BYTES`] bytes. The routes stand back to back in `index`.
    pub blocks: u32,
    /// SHA-256 of the first block; each block carries that of the next.
    #[serde(deserialize_with = "crate::wire::bytes::digest")]
    pub first_block: Sha256Digest,
}

/// What a device needs to read a bundle, stated so that it can refuse before it fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Needs {
    /// Largest stored range: the buffer that a device needs.
    pub range_bytes: u32,
    /// Largest zstd window as a power of two; 0 when no range that stores a blob whole is zstd.
    pub zstd_window_log: u8,
}

/// Takes what postcard writes and compares it with what was read, so that no second copy is kept. Gives whether that was all of it.
struct Compared<'b> {
    rest: &'b [u8],
}

impl Flavor for Compared<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.rest.is_empty())
    }
}

impl Manifest {
    /// Reads a manifest from the content of its entry. The bytes must have been authenticated before.
    ///
    /// # Errors
    /// [`BundleInvalid`] when the bytes are not exactly one manifest of this format, or its parts contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleInvalid> {
        let unreadable = BundleInvalid::Unreadable {
            part: Part::Manifest,
        };
        if bytes.len() > MANIFEST_MAX_BYTES {
            return Err(BundleInvalid::TooLarge {
                part: Part::Manifest,
            });
        }
        let (format, _) = postcard::take_from_bytes::<u16>(bytes).map_err(|_| unreadable)?;
        if format != FORMAT_VERSION {
            return Err(BundleInvalid::FormatUnsupported { found: format });
        }
        let manifest: Self = postcard::from_bytes(bytes).map_err(|_| unreadable)?;
        match postcard::serialize_with_flavor(&manifest, Compared { rest: bytes }) {
            Ok(true) => {}
            _ => return Err(unreadable),
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Writes the manifest into `buffer` and gives the bytes used.
    ///
    /// # Errors
    /// [`BundleInvalid::TooLarge`] when `buffer` is too small.
    pub fn emit<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], BundleInvalid> {
        postcard::to_slice(self, buffer)
            .map(|bytes| &*bytes)
            .map_err(|_| BundleInvalid::TooLarge {
                part: Part::Manifest,
            })
    }

    /// Checks every rule that one field has with another.
    ///
    /// # Errors
    /// [`BundleInvalid::Field`] names the field; [`BundleInvalid::SealStatement`] when the manifest seals another composefs
    /// image than it carries.
    pub fn check(&self) -> Result<(), BundleInvalid> {
        let field = |field| BundleInvalid::Field { field };
        if self
            .window
            .not_after
            .is_some_and(|not_after| not_after < self.window.not_before)
        {
            return Err(field(Field::Window));
        }
        self.check_payloads()?;
        self.check_info()?;
        self.check_routes()?;
        if self.needs.range_bytes > RANGE_MAX_BYTES
            || self.needs.zstd_window_log > ZSTD_WINDOW_LOG_MAX
        {
            return Err(field(Field::Needs));
        }
        let parts_fit = self
            .data_parts
            .iter()
            .all(|part| (1..=DATA_PART_MAX_BYTES).contains(part));
        // A payload is never empty, so there is data.
        if !parts_fit || self.data_parts.is_empty() {
            return Err(field(Field::DataParts));
        }
        Ok(())
    }

    /// The UKI payload.
    pub fn uki(&self) -> Option<&Payload> {
        self.payloads
            .iter()
            .find(|payload| payload.kind == PayloadKind::Uki)
    }

    /// The composefs payload.
    pub fn composefs(&self) -> Option<&Payload> {
        self.payloads
            .iter()
            .find(|payload| matches!(payload.kind, PayloadKind::Composefs { .. }))
    }

    /// Bytes of the `index` entry.
    pub fn index_bytes(&self) -> u64 {
        self.routes
            .iter()
            .map(|route| u64::from(route.blocks) * index::BLOCK_BYTES as u64)
            .sum()
    }

    /// Bytes of all `data` entries.
    pub fn data_bytes(&self) -> u64 {
        self.data_parts.iter().sum()
    }

    fn check_payloads(&self) -> Result<(), BundleInvalid> {
        let wrong = BundleInvalid::Field {
            field: Field::Payloads,
        };
        for (position, payload) in self.payloads.iter().enumerate() {
            let earlier = self.payloads.iter().take(position);
            let mut twins = earlier.filter(|other| match (&payload.kind, &other.kind) {
                (PayloadKind::Uki, PayloadKind::Uki) => true,
                (PayloadKind::Composefs { .. }, PayloadKind::Composefs { .. }) => true,
                (PayloadKind::Image { slot }, PayloadKind::Image { slot: other }) => slot == other,
                _ => false,
            });
            if twins.next().is_some() || payload.size == 0 || payload.size > BLOB_MAX_BYTES {
                return Err(wrong);
            }
            if matches!(payload.kind, PayloadKind::Composefs { object_bytes, .. } if object_bytes > BLOB_MAX_BYTES)
            {
                return Err(wrong);
            }
        }
        if self.payloads.is_empty() || self.uki().is_some() != self.composefs().is_some() {
            return Err(wrong);
        }
        if self.seal != self.composefs().map(|payload| payload.digest) {
            return Err(BundleInvalid::SealStatement);
        }
        Ok(())
    }

    fn check_info(&self) -> Result<(), BundleInvalid> {
        for (position, info) in self.info.iter().enumerate() {
            let twin = self
                .info
                .iter()
                .take(position)
                .any(|other| other.name == info.name);
            if twin || info.size > DATA_PART_MAX_BYTES {
                return Err(BundleInvalid::Field { field: Field::Info });
            }
        }
        Ok(())
    }

    fn check_routes(&self) -> Result<(), BundleInvalid> {
        let full_first = self
            .routes
            .first()
            .is_some_and(|route| route.base.is_none());
        let others_have_a_base = self.routes.iter().skip(1).all(|route| route.base.is_some());
        let bases_differ = self.routes.iter().enumerate().all(|(position, route)| {
            let mut earlier = self.routes.iter().take(position);
            earlier.all(|other| other.base != route.base)
        });
        let none_empty = self.routes.iter().all(|route| route.blocks > 0);
        if full_first
            && others_have_a_base
            && bases_differ
            && none_empty
            && self.index_bytes() <= DATA_PART_MAX_BYTES
        {
            Ok(())
        } else {
            Err(BundleInvalid::Field {
                field: Field::Routes,
            })
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Manifest {
        let image = BlobDigest::sha256([2; 32]);
        let composefs = PayloadKind::Composefs {
            objects: 3,
            object_bytes: 9000,
        };
        Manifest {
            format: FORMAT_VERSION,
            compatible: Name::new("acme-gateway").unwrap(),
            version: Line::new("1.2.3").unwrap(),
            anti_rollback: 7,
            window: ValidityWindow {
                not_before: 10,
                not_after: Some(20),
            },
            sequence: 5,
            build: BuildIdentity {
                source: Line::new("abc").unwrap(),
                builder: Line::new("ci").unwrap(),
            },
            info: Vec::new(),
            payloads: Vec::from_slice(&[
                Payload {
                    kind: PayloadKind::Uki,
                    digest: BlobDigest::sha256([1; 32]),
                    size: 100,
                },
                Payload {
                    kind: composefs,
                    digest: image,
                    size: 4096,
                },
            ])
            .unwrap(),
            seal: Some(image),
            routes: Vec::from_slice(&[Route {
                base: None,
                blocks: 1,
                first_block: [9; 32],
            }])
            .unwrap(),
            data_parts: Vec::from_slice(&[13_196]).unwrap(),
            needs: Needs {
                range_bytes: 65_536,
                zstd_window_log: 0,
            },
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let mut buffer = [0xa5; MANIFEST_MAX_BYTES];
        let manifest = example();
        let bytes = manifest.emit(&mut buffer).unwrap();
        assert_eq!(Manifest::parse(bytes), Ok(manifest));
    }

    #[test]
    fn every_truncation_and_any_extra_byte_is_refused() {
        let mut buffer = [0xa5; MANIFEST_MAX_BYTES];
        let length = example().emit(&mut buffer).unwrap().len();
        for end in (0..length).chain([length + 1]) {
            assert!(
                Manifest::parse(&buffer[..end]).is_err(),
                "{end} of {length} bytes"
            );
        }
    }

    #[test]
    fn another_format_is_named() {
        let mut buffer = [0; MANIFEST_MAX_BYTES];
        let mut manifest = example();
        manifest.format = FORMAT_VERSION + 1;
        let bytes = manifest.emit(&mut buffer).unwrap();
        assert_eq!(
            Manifest::parse(bytes),
            Err(BundleInvalid::FormatUnsupported {
                found: FORMAT_VERSION + 1
            })
        );
    }

    #[test]
    fn contradictions_are_refused_by_field() {
        let broken = |change: fn(&mut Manifest)| {
            let mut manifest = example();
            change(&mut manifest);
            manifest.check().unwrap_err()
        };
        let field = |field| BundleInvalid::Field { field };
        assert_eq!(
            broken(|m| m.window.not_after = Some(9)),
            field(Field::Window)
        );
        assert_eq!(broken(|m| m.payloads.clear()), field(Field::Payloads));
        assert_eq!(broken(|m| m.payloads[0].size = 0), field(Field::Payloads));
        assert_eq!(
            broken(|m| m.payloads[0].size = BLOB_MAX_BYTES + 1),
            field(Field::Payloads)
        );
        assert_eq!(
            broken(|m| m.payloads[1].kind = PayloadKind::Uki),
            field(Field::Payloads)
        );
        assert_eq!(
            broken(|m| m.seal = Some(BlobDigest::sha256([3; 32]))),
            BundleInvalid::SealStatement
        );
        assert_eq!(broken(|m| m.seal = None), BundleInvalid::SealStatement);
        assert_eq!(broken(|m| m.routes.clear()), field(Field::Routes));
        assert_eq!(broken(|m| m.routes[0].blocks = 0), field(Field::Routes));
        assert_eq!(
            broken(|m| m.routes[0].base = Some([1; 32])),
            field(Field::Routes)
        );
        let based = |m: &mut Manifest, base| {
            let route = Route {
                base,
                ..m.routes[0].clone()
            };
            m.routes.push(route).unwrap();
        };
        let mut two = example();
        based(&mut two, Some([1; 32]));
        based(&mut two, Some([2; 32]));
        assert_eq!(two.check(), Ok(()));
        based(&mut two, Some([1; 32]));
        assert_eq!(two.check(), Err(field(Field::Routes)), "one base twice");
        two.routes[3].base = None;
        assert_eq!(two.check(), Err(field(Field::Routes)), "a second full list");
        assert_eq!(broken(|m| m.data_parts.clear()), field(Field::DataParts));
        assert_eq!(broken(|m| m.data_parts[0] = 0), field(Field::DataParts));
        assert_eq!(
            broken(|m| m.data_parts[0] = DATA_PART_MAX_BYTES + 1),
            field(Field::DataParts)
        );
        assert_eq!(
            broken(|m| m.needs.range_bytes = RANGE_MAX_BYTES + 1),
            field(Field::Needs)
        );
        let info = || Info {
            name: Name::new("sbom").unwrap(),
            kind: InfoKind::Sbom,
            size: 1,
            sha256: [0; 32],
        };
        let mut twice = example();
        twice.info.push(info()).unwrap();
        assert_eq!(twice.check(), Ok(()));
        twice.info.push(info()).unwrap();
        assert_eq!(twice.check(), Err(field(Field::Info)));
    }

    #[test]
    fn wire_numbers_stay() {
        let mut buffer = [0; 16];
        for (kind, number) in [
            (InfoKind::Sbom, 0),
            (InfoKind::Provenance, 1),
            (InfoKind::Notes, 2),
            (InfoKind::Other, 3),
        ] {
            assert_eq!(postcard::to_slice(&kind, &mut buffer).unwrap(), &[number]);
        }
        assert_eq!(
            postcard::to_slice(&PayloadKind::Uki, &mut buffer).unwrap(),
            &[0]
        );
    }
}
