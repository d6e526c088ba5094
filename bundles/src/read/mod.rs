//! Reads a bundle on the build host: its front matter, its index, the content of its blobs.
//!
//! Nothing here says that a bundle may be trusted: [`crate::verify`] does.
//!
//! # Invariants
//! - A bundle may be hostile: sizes are checked against core's limits and the length of the file before memory is taken.
//! - Content that is handed out has the digest of its name.

mod blob;
mod decode;
mod name;

pub use decode::{ZstdDecoder, decode_stream};
pub use name::{BlobName, find, image_slot};

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use twinseal_core::error::{BundleInvalid, Field, Part, RecordFault};
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::index::{
    Alternative, BLOCK_BYTES, Blob, Block, Cursor, Range, Record, Removed,
};
use twinseal_core::wire::layout::Layout;
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::tar::{
    BLOCK_BYTES as TAR_BLOCK_BYTES, END_BYTES, check_header, padding_bytes,
};
use twinseal_core::wire::{MANIFEST_MAX_BYTES, SIGNATURES_MAX_BYTES, signatures};

use crate::error::{Error, FileOperation};
use crate::sign::OwnedSignature;

/// Bytes that a range is decoded to at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A bundle whose framing has been checked, and nothing else.
#[derive(Debug)]
pub struct Bundle {
    file: File,
    path: PathBuf,
    bytes: u64,
    manifest: Manifest,
    manifest_entry: Vec<u8>,
    signatures: Vec<OwnedSignature>,
    signatures_bytes: u64,
}

/// A blob in the index, with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedBlob {
    /// The blob.
    pub blob: Blob,
    /// The ranges that store it whole.
    pub ranges: Vec<Range>,
    /// The other ways to get it.
    pub alternatives: Vec<(Alternative, Vec<Range>)>,
}

impl Bundle {
    /// Opens a bundle and checks its framing: headers, padding, manifest, the form of `signatures`, the length.
    ///
    /// # Errors
    /// [`Error::Bundle`] names the part that is wrong.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(FileOperation::Open.on(path))?;
        let bytes = file.metadata().map_err(FileOperation::Read.on(path))?.len();
        let source = Source { file: &file, path };
        let (manifest_entry, next) = source.entry(
            0,
            "manifest",
            [Part::ManifestHeader, Part::Manifest],
            MANIFEST_MAX_BYTES,
        )?;
        let parts = [Part::SignaturesHeader, Part::Signatures];
        let (signatures_entry, _) =
            source.entry(next, "signatures", parts, SIGNATURES_MAX_BYTES)?;
        let manifest = Manifest::parse(&manifest_entry).map_err(twinseal_core::Error::from)?;
        let list = signatures::parse(&signatures_entry).map_err(twinseal_core::Error::from)?;
        let signatures = list.iter().map(|signature| OwnedSignature {
            key: signature.key,
            algorithm: signature.algorithm,
            bytes: signature.bytes.to_vec(),
        });
        let signatures = signatures.collect();
        let signatures_bytes = signatures_entry.len() as u64;
        let bundle = Self {
            path: path.to_owned(),
            bytes,
            manifest,
            manifest_entry,
            signatures,
            signatures_bytes,
            file,
        };
        bundle.check_framing()?;
        Ok(bundle)
    }

    /// The manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's bytes, which are what is signed.
    pub fn manifest_entry(&self) -> &[u8] {
        &self.manifest_entry
    }

    /// The signatures, unchecked.
    pub fn signatures(&self) -> &[OwnedSignature] {
        &self.signatures
    }

    /// The front matter as devices keep it: a tar archive of `manifest` and `signatures`, with its end.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read again.
    pub fn front_matter(&self) -> Result<Vec<u8>, Error> {
        let signatures = self.layout().content(1);
        let end = signatures.offset + signatures.size;
        // Framing was checked: both entries keep to their limits, and what fills the last one up is zeros.
        let mut front = vec![0; (end + padding_bytes(signatures.size)) as usize + END_BYTES];
        let content = front.get_mut(..end as usize).unwrap_or_default();
        self.read_at(0, content, Part::Signatures)?;
        Ok(front)
    }

    /// Length of the bundle in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where everything stands.
    pub fn layout(&self) -> Layout<'_> {
        Layout::new(
            &self.manifest,
            self.manifest_entry.len() as u64,
            self.signatures_bytes,
        )
    }

    /// Everything in the full route of the index.
    ///
    /// # Errors
    /// [`Error::Bundle`] when a block has a wrong digest or records stand in the wrong order.
    pub fn index(&self) -> Result<Vec<IndexedBlob>, Error> {
        Ok(self.route(0)?.0)
    }

    /// Everything in one route of the index, by its position in the manifest: its blobs, and what it removes from its base.
    ///
    /// # Errors
    /// As [`Self::index`].
    pub fn route(&self, number: usize) -> Result<(Vec<IndexedBlob>, Vec<Removed>), Error> {
        let mut blobs: Vec<IndexedBlob> = Vec::new();
        let mut removals = Vec::new();
        self.walk_route(number, |record| {
            let last = blobs.last_mut();
            match (record, last) {
                (Record::Blob(blob), _) => {
                    blobs.push(IndexedBlob {
                        blob,
                        ranges: Vec::new(),
                        alternatives: Vec::new(),
                    });
                }
                (Record::Alternative(other), Some(last)) => {
                    last.alternatives.push((other, Vec::new()))
                }
                (Record::Range(range), Some(last)) => match last.alternatives.last_mut() {
                    Some((_, ranges)) => ranges.push(range),
                    None if range.can_store_whole() => last.ranges.push(range),
                    None => return Err(RecordFault::Size),
                },
                (Record::Removed(removed), _) if number > 0 => removals.push(removed),
                (Record::Alternative(_) | Record::Range(_) | Record::Removed(_), _) => {
                    return Err(RecordFault::Order);
                }
            }
            Ok(())
        })?;
        Ok((blobs, removals))
    }

    /// The content of a small blob, the UKI or the composefs image. `limit_bytes` stops a bundle from filling the memory.
    ///
    /// # Errors
    /// As [`Self::read_blob`]; [`RecordFault::Size`] when the blob is larger than the limit.
    pub fn blob_bytes(&self, blob: &IndexedBlob, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        if blob.blob.size > limit_bytes {
            return Err(core(BundleInvalid::IndexRecord {
                block: 0,
                fault: RecordFault::Size,
            }));
        }
        let mut bytes = Vec::new();
        self.read_blob(blob, &mut bytes, Path::new("memory"))?;
        Ok(bytes)
    }

    /// Writes the content of an `info/` entry, by its position, to `out`.
    ///
    /// # Errors
    /// [`Error::Bundle`] when it is damaged; `target` names `out` when it cannot be written.
    pub fn read_info(
        &self,
        number: usize,
        out: &mut dyn Write,
        target: &Path,
    ) -> Result<(), Error> {
        let info = self
            .manifest
            .info
            .get(number)
            .ok_or_else(|| core(BundleInvalid::Field { field: Field::Info }))?;
        let content = self.layout().content(2 + number);
        let (mut sha256, mut done) = (Sha256::new(), 0);
        let mut buffer = vec![0; PIECE_BYTES];
        while done < content.size {
            let length = usize::try_from(content.size - done)
                .map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let piece = buffer.get_mut(..length).unwrap_or(&mut []);
            self.read_at(content.offset + done, piece, Part::Info)?;
            sha256.update(&*piece);
            out.write_all(piece)
                .map_err(FileOperation::Write.on(target))?;
            done += length as u64;
        }
        let right = sha256.finalize().as_slice() == info.sha256;
        if right {
            Ok(())
        } else {
            Err(core(BundleInvalid::Damaged { part: Part::Info }))
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8], part: Part) -> Result<(), Error> {
        Source {
            file: &self.file,
            path: &self.path,
        }
        .read_at(offset, buffer, part)
    }

    /// Checks the length and every seam between entries.
    fn check_framing(&self) -> Result<(), Error> {
        let layout = self.layout();
        let expected = layout.bundle_bytes();
        if expected != self.bytes {
            return Err(core(BundleInvalid::Length {
                expected,
                found: self.bytes,
            }));
        }
        for number in 0..=layout.entries() {
            let seam = layout.seam(number);
            let mut found = vec![0; seam.expected().len()];
            self.read_at(seam.offset, &mut found, seam.part)?;
            if found != seam.expected() {
                let part = seam.part;
                let in_padding = seam.differs_in_padding(&found);
                return Err(core(if in_padding {
                    BundleInvalid::Padding { part }
                } else {
                    BundleInvalid::HeaderMalformed { part }
                }));
            }
        }
        Ok(())
    }

    /// Gives every record of a route to `take`, each block checked against the chain.
    fn walk_route<T>(&self, number: usize, mut take: T) -> Result<(), Error>
    where
        T: FnMut(Record) -> Result<(), RecordFault>,
    {
        let Some(route) = self.manifest.routes.get(number) else {
            return Ok(());
        };
        let layout = self.layout();
        let before = self.manifest.routes.iter().take(number);
        let before: u64 = before.map(|route| u64::from(route.blocks)).sum();
        let start = layout.content(layout.index_entry()).offset + before * BLOCK_BYTES as u64;
        let mut expected = route.first_block;
        for block in 0..route.blocks {
            let mut bytes = [0; BLOCK_BYTES];
            self.read_at(
                start + u64::from(block) * BLOCK_BYTES as u64,
                &mut bytes,
                Part::Index,
            )?;
            if Sha256::digest(bytes).as_slice() != expected {
                return Err(core(BundleInvalid::IndexBlock { block }));
            }
            let view = Block::new(&bytes);
            let fault = |fault| core(BundleInvalid::IndexRecord { block, fault });
            let mut cursor = Cursor::new();
            for _ in 0..view.records().map_err(fault)? {
                view.record(&mut cursor)
                    .and_then(&mut take)
                    .map_err(fault)?;
            }
            expected = view.next();
        }
        if expected == Sha256Digest::default() {
            return Ok(());
        }
        let block = route.blocks.saturating_sub(1);
        Err(core(BundleInvalid::IndexRecord {
            block,
            fault: RecordFault::Order,
        }))
    }
}

/// A file that is being read as a bundle.
struct Source<'f> {
    file: &'f File,
    path: &'f Path,
}

impl Source<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8], part: Part) -> Result<(), Error> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => core(BundleInvalid::Truncated { part }),
                _ => FileOperation::Read.on(self.path)(error),
            })
    }

    /// The content of a small entry whose header is at `offset`, and where the next header is.
    fn entry(
        &self,
        offset: u64,
        name: &str,
        parts: [Part; 2],
        limit: usize,
    ) -> Result<(Vec<u8>, u64), Error> {
        let [header_part, part] = parts;
        let mut header = [0; TAR_BLOCK_BYTES];
        self.read_at(offset, &mut header, header_part)?;
        let size = check_header(&header, name, header_part).map_err(core)?;
        if size == 0 {
            return Err(core(BundleInvalid::Unreadable { part }));
        }
        if size > limit as u64 {
            return Err(core(BundleInvalid::TooLarge { part }));
        }
        let mut content = vec![0; size as usize];
        self.read_at(offset + TAR_BLOCK_BYTES as u64, &mut content, part)?;
        Ok((
            content,
            offset + TAR_BLOCK_BYTES as u64 + size + padding_bytes(size),
        ))
    }
}

fn core(error: BundleInvalid) -> Error {
    Error::Bundle(error.into())
}
