//! Where everything stands in a bundle, computed from the manifest and the size of `signatures`.
//!
//! Once the manifest is verified nothing in the archive is left to guess: every header, every padding byte and the length of
//! the file follow from it. The reader compares instead of parsing.
//!
//! # Invariants
//! - Entries never overlap; between two of them stands one *seam*: the padding of the first and the header of the second.

use crate::error::Part;
use crate::wire::manifest::Manifest;
use crate::wire::tar::{BLOCK_BYTES, END_BYTES, emit_header, padding_bytes};
use core::fmt::Write;

/// Longest seam: padding of up to a block, and the header of the next entry or the two end blocks.
pub const SEAM_MAX_BYTES: usize = BLOCK_BYTES + END_BYTES;

/// Sizes that fix the place of everything.
#[derive(Clone, Debug)]
pub struct Layout<'m> {
    manifest: &'m Manifest,
    manifest_bytes: u64,
    signatures_bytes: u64,
}

/// The place of an entry's content in the bundle, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// The bytes between two entries: what must stand there, and where.
#[derive(Clone, Debug)]
pub struct Seam {
    /// First byte of the seam in the bundle.
    pub offset: u64,
    /// Which part of the bundle it is, for an error.
    pub part: Part,
    padding: usize,
    bytes: [u8; SEAM_MAX_BYTES],
    length: usize,
}

impl Seam {
    /// The bytes that must stand there.
    pub fn expected(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }

    /// Whether the first byte in which `found` differs is in the padding (true) or in the header (false).
    pub fn differs_in_padding(&self, found: &[u8]) -> bool {
        let position = self
            .expected()
            .iter()
            .zip(found)
            .position(|(expected, found)| expected != found);
        position.is_some_and(|position| position < self.padding)
    }
}

impl<'m> Layout<'m> {
    /// The layout of the bundle with this manifest, whose encoding has `manifest_bytes` bytes.
    pub const fn new(manifest: &'m Manifest, manifest_bytes: u64, signatures_bytes: u64) -> Self {
        Self {
            manifest,
            manifest_bytes,
            signatures_bytes,
        }
    }

    /// Number of entries: manifest, signatures, info, index, data.
    pub fn entries(&self) -> usize {
        3 + self.manifest.info.len() + self.manifest.data_parts.len()
    }

    /// Number of the `index` entry.
    pub fn index_entry(&self) -> usize {
        2 + self.manifest.info.len()
    }

    /// Number of the first `data` entry.
    pub fn data_entry(&self) -> usize {
        self.index_entry() + 1
    }

    /// Content of entry `number`; an empty extent at the end for a number past the last.
    pub fn content(&self, number: usize) -> Extent {
        let mut offset = 0;
        for entry in 0..number {
            offset += BLOCK_BYTES as u64 + self.size(entry) + padding_bytes(self.size(entry));
        }
        Extent {
            offset: offset + BLOCK_BYTES as u64,
            size: self.size(number),
        }
    }

    /// Length of the whole bundle.
    pub fn bundle_bytes(&self) -> u64 {
        // The end blocks stand where one more header would, and are one block longer.
        self.content(self.entries()).offset + (END_BYTES - BLOCK_BYTES) as u64
    }

    /// Place in the bundle of a run of `size` bytes that starts at `offset` of the data (all parts taken together), and the
    /// number of its entry; `None` when the run does not lie within one part.
    pub fn data(&self, offset: u64, size: u64) -> Option<(usize, Extent)> {
        let mut start = 0u64;
        for (part, bytes) in self.manifest.data_parts.iter().enumerate() {
            let end = start + bytes;
            if offset >= start && offset < end {
                let entry = self.data_entry() + part;
                let fits = offset.checked_add(size).is_some_and(|last| last <= end);
                return fits.then(|| {
                    (
                        entry,
                        Extent {
                            offset: self.content(entry).offset + (offset - start),
                            size,
                        },
                    )
                });
            }
            start = end;
        }
        None
    }

    /// The seam before entry `number`; `number` = [`entries`](Self::entries) gives the end of the archive.
    pub fn seam(&self, number: usize) -> Seam {
        let previous = number.checked_sub(1).map(|previous| self.content(previous));
        let end = previous.map_or(0, |extent| extent.offset + extent.size);
        let padding = previous.map_or(0, |extent| padding_bytes(extent.size) as usize);
        let mut bytes = [0; SEAM_MAX_BYTES];
        let last = number >= self.entries();
        if !last {
            let name = self.name(number);
            let header = emit_header(&name, self.size(number));
            bytes
                .iter_mut()
                .skip(padding)
                .zip(header)
                .for_each(|(to, from)| *to = from);
        }
        let length = padding + if last { END_BYTES } else { BLOCK_BYTES };
        Seam {
            offset: end,
            part: self.part(number),
            padding,
            bytes,
            length,
        }
    }

    /// Name of entry `number`.
    pub fn name(&self, number: usize) -> heapless::String<100> {
        let mut name = heapless::String::new();
        let (index, data) = (self.index_entry(), self.data_entry());
        // Every name fits: the longest is `info/` and a 64-byte name.
        let _ = match number {
            0 => name.write_str("manifest"),
            1 => name.write_str("signatures"),
            _ if number < index => match self.manifest.info.get(number - 2) {
                Some(info) => write!(name, "info/{}", info.name),
                None => Ok(()),
            },
            _ if number == index => name.write_str("index"),
            _ if number == data => name.write_str("data"),
            _ => write!(name, "data.{}", number - data),
        };
        name
    }

    fn size(&self, number: usize) -> u64 {
        let (index, data) = (self.index_entry(), self.data_entry());
        match number {
            0 => self.manifest_bytes,
            1 => self.signatures_bytes,
            _ if number < index => self
                .manifest
                .info
                .get(number - 2)
                .map_or(0, |info| info.size),
            _ if number == index => self.manifest.index_bytes(),
            _ => self
                .manifest
                .data_parts
                .get(number - data)
                .copied()
                .unwrap_or(0),
        }
    }

    fn part(&self, number: usize) -> Part {
        match number {
            0 => Part::ManifestHeader,
            1 => Part::SignaturesHeader,
            _ if number < self.index_entry() => Part::InfoHeader,
            _ if number == self.index_entry() => Part::IndexHeader,
            _ if number < self.entries() => Part::DataHeader,
            _ => Part::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::manifest::tests::example;
    use crate::wire::manifest::{Info, InfoKind};
    use crate::wire::text::Name;

    #[test]
    fn entries_stand_back_to_back() {
        let mut manifest = example();
        let name = Name::new("sbom.json").unwrap();
        manifest
            .info
            .push(Info {
                name,
                kind: InfoKind::Sbom,
                size: 700,
                sha256: [0; 32],
            })
            .unwrap();
        manifest.data_parts.push(5).unwrap();
        let layout = Layout::new(&manifest, 300, 200);
        let names: [_; 6] = core::array::from_fn(|entry| layout.name(entry));
        assert_eq!(
            names.each_ref().map(|name| name.as_str()),
            [
                "manifest",
                "signatures",
                "info/sbom.json",
                "index",
                "data",
                "data.1"
            ]
        );
        assert_eq!(
            layout.content(0),
            Extent {
                offset: 512,
                size: 300
            }
        );
        assert_eq!(
            layout.content(1),
            Extent {
                offset: 1536,
                size: 200
            }
        );
        assert_eq!(
            layout.content(3),
            Extent {
                offset: 2048 + 512 + 1024 + 512,
                size: 4096
            }
        );
        for entry in 1..layout.entries() {
            let seam = layout.seam(entry);
            let before = layout.content(entry - 1);
            assert_eq!(seam.offset, before.offset + before.size);
            assert_eq!(
                seam.offset + seam.expected().len() as u64,
                layout.content(entry).offset
            );
        }
        let end = layout.seam(layout.entries());
        assert_eq!(end.part, Part::End);
        assert_eq!(
            end.offset + end.expected().len() as u64,
            layout.bundle_bytes()
        );
        assert_eq!(layout.bundle_bytes() % 512, 0);
    }

    #[test]
    fn data_runs_lie_in_one_part() {
        let mut manifest = example();
        manifest.data_parts.clear();
        manifest.data_parts.extend_from_slice(&[1000, 24]).unwrap();
        let layout = Layout::new(&manifest, 300, 200);
        let first = layout.content(layout.data_entry()).offset;
        assert_eq!(
            layout.data(0, 1000).unwrap().1,
            Extent {
                offset: first,
                size: 1000
            }
        );
        assert_eq!(layout.data(999, 2), None, "crosses into the next part");
        assert_eq!(layout.data(1000, 24).unwrap().1.offset, first + 1024 + 512);
        assert_eq!(layout.data(1000, 25), None);
        assert_eq!(layout.data(1024, 1), None);
        assert_eq!(layout.data(1000, u64::MAX), None);
    }
}
