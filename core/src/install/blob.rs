//! One blob on its way to its place: ranges checked, decoded, written; the whole checked against its name.

use super::Session;
use super::patched::{Outcome, PatchedRange};
use super::stored::Stored;
use super::ways::{self, Way};
use crate::decode::{DecodeFailed, History, RangeDecoder};
use crate::error::{
    BundleInvalid, Error, Misuse, PolicyRefused, StorageError, StorageFault, StorageObject,
    StorageOperation,
};
use crate::storage::Storage;
use crate::verify::digest::VerityDigest;
use crate::verify::hashed::Trees;
use crate::verify::seal::sealed_digest;
use crate::wire::index::{Alternative, Blob, Encoding, Range, Role};
use crate::wire::manifest::Manifest;
use sha2::{Digest, Sha256};

/// A blob that is being written from the source.
pub(super) struct Writing {
    blob: Blob,
    way: Way,
    /// The alternative whose ranges follow, if it is the way.
    patch: Option<Alternative>,
    /// Bytes that an earlier attempt may have left.
    left: u64,
    /// The running digest. An image of many ranges that will be read back needs none: its digest is taken from the medium.
    digest: Option<VerityDigest>,
    /// All of it was written, and the medium gave back something else: every range must be there.
    is_doubted: bool,
}

impl Writing {
    pub fn new(blob: Blob, way: Way, left: u64, read_back: bool) -> Self {
        // One range has no digest but that of its blob.
        let has_ranges = way == Way::Whole && blob.ranges > 1;
        let from_medium = blob.role == Role::Image && read_back && has_ranges;
        Self {
            blob,
            way,
            patch: None,
            left,
            digest: (!from_medium).then(VerityDigest::new),
            is_doubted: false,
        }
    }

    /// A blob that is written, whose ranges are compared one by one.
    pub fn doubted(blob: Blob) -> Self {
        Self {
            blob,
            way: Way::Whole,
            patch: None,
            left: blob.size,
            digest: Some(VerityDigest::new()),
            is_doubted: true,
        }
    }

    /// Whether a range that is not there is the medium's fault.
    pub const fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// Whether nothing of it was left, so that every range will be asked for.
    pub const fn is_new(&self) -> bool {
        self.left == 0
    }

    /// Whether its digest is taken on the way.
    pub const fn takes_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// The blob.
    pub const fn blob(&self) -> &Blob {
        &self.blob
    }

    /// How it is fetched.
    pub const fn way(&self) -> Way {
        self.way
    }

    /// The patch that is being followed.
    pub const fn patch(&self) -> Option<&Alternative> {
        self.patch.as_ref()
    }

    /// The alternative with this number begins.
    pub fn pass_alternative(&mut self, number: u16, other: Alternative) {
        let is_the_way =
            matches!(self.way, Way::Patch(alternative) if u16::from(alternative) == number);
        self.patch = is_the_way.then_some(other);
    }

    /// Whether an earlier attempt left the bytes of this range; every byte is read and its digest compared.
    pub fn has_range<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        range: &Range,
        storage: &mut S,
    ) -> Result<bool, Error> {
        let end = range.raw_offset + u64::from(range.raw_bytes);
        if end > self.left {
            return Ok(false);
        }
        let mut sha256 = Sha256::new();
        let mut digest = self.digest.clone();
        let mut offset = range.raw_offset;
        while offset < end {
            let piece = piece(session.workspace.output, end - offset);
            if storage.read(offset, piece).is_err() {
                return Ok(false);
            }
            sha256.update(&*piece);
            digest.iter_mut().for_each(|digest| digest.update(piece));
            offset += piece.len() as u64;
        }
        let there = if range.has_raw_sha256() {
            sha256.finalize().as_slice() == range.raw_sha256
        } else {
            digest.as_ref().map(|digest| digest.clone().finish()) == Some(self.blob.digest)
        };
        if there {
            self.digest = digest;
            if !self.is_doubted {
                session.count_present(u64::from(range.raw_bytes));
            }
        }
        Ok(there)
    }

    /// Writes a range whose stored bytes have been authenticated. Only a patch can find its base damaged.
    pub fn take_range<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        range: &Range,
        stored: &mut Stored<'_>,
        storage: &mut S,
    ) -> Result<Outcome, Error> {
        session.tally.written_bytes += u64::from(range.raw_bytes);
        let manifest = session
            .manifest
            .as_ref()
            .ok_or(Misuse::InstallerFailed)?
            .value();
        let workspace = &mut session.workspace;
        let mut decoder: Option<&mut dyn RangeDecoder> = match range.encoding {
            Encoding::Stored => None,
            Encoding::Deflate => Some(workspace.inflate),
            Encoding::Zstd => match workspace.zstd.as_deref_mut() {
                Some(decoder) => Some(decoder),
                None => return Err(PolicyRefused::NoDecoder.into()),
            },
        };
        if let Some(decoder) = &mut decoder {
            decoder.start(manifest.needs.zstd_window_log);
        }
        if let Some(other) = &self.patch {
            let base = ways::base_of(other, &self.blob, manifest);
            let (digest, name) = (self.digest.as_mut(), self.blob.digest);
            let patched = PatchedRange::new(range, base, digest, name, manifest.index_bytes());
            return patched.make(stored, decoder, workspace.output, storage);
        }
        match decoder {
            None => self.store(range, stored, storage)?,
            Some(decoder) => self.decode(range, stored, decoder, workspace.output, storage)?,
        }
        Ok(Outcome::Written)
    }

    /// Writes a range that is stored as it is.
    fn store<S: Storage>(
        &mut self,
        range: &Range,
        stored: &mut Stored<'_>,
        storage: &mut S,
    ) -> Result<(), Error> {
        let hashed = stored.hashed();
        let mut offset = range.raw_offset;
        loop {
            let piece = stored.next(range)?;
            let bytes = piece.len();
            if bytes == 0 {
                return Ok(());
            }
            if hashed.is_some() {
                storage.write_hashed(offset, piece)?;
            } else {
                storage.write(offset, piece)?;
            }
            if let Some(digest) = &mut self.digest {
                let trees = hashed.map(|hashed| hashed.trees());
                let taken = trees.filter(|trees| digest.update_trees(trees));
                let taken_bytes = taken.map_or(0, Trees::bytes) as usize;
                digest.update(piece.get(taken_bytes..).unwrap_or(&[]));
            }
            offset += bytes as u64;
            stored.pass(bytes);
        }
    }

    fn decode<S: Storage>(
        &mut self,
        range: &Range,
        stored: &mut Stored<'_>,
        decoder: &mut dyn RangeDecoder,
        output: &mut [u8],
        storage: &mut S,
    ) -> Result<(), Error> {
        let wrong = BundleInvalid::RangeDecodes {
            stored_offset: range.stored_offset,
        };
        let mut sha256 = Sha256::new();
        let mut done = 0;
        while !decoder.has_ended() {
            let left = range.raw_bytes - done;
            // When all is made, only the end of the stream may follow.
            let room = piece(output, left.max(1).into());
            let mut history = Written {
                storage,
                start: range.raw_offset,
                failed: None,
            };
            let (taken, made) = decoder
                .decode(stored.next(range)?, room, &mut history)
                .map_err(|DecodeFailed| history.failed.map_or(wrong.into(), Error::from))?;
            stored.pass(taken).ok_or(wrong)?;
            let made_bytes = room.get(..made).ok_or(wrong)?;
            if made as u64 > left.into() || (made == 0 && taken == 0 && !decoder.has_ended()) {
                return Err(wrong.into());
            }
            if made > 0 {
                sha256.update(made_bytes);
                self.digest
                    .iter_mut()
                    .for_each(|digest| digest.update(made_bytes));
                storage.write(range.raw_offset + u64::from(done), made_bytes)?;
                done += made as u32;
            }
        }
        if done < range.raw_bytes || !stored.next(range)?.is_empty() {
            return Err(wrong.into());
        }
        // Without a digest of its own the range gives its whole blob, whose digest is compared next.
        if !range.has_raw_sha256() || sha256.finalize().as_slice() == range.raw_sha256 {
            Ok(())
        } else {
            Err(wrong.into())
        }
    }

    /// All ranges are written: the blob must be what its name says.
    pub fn finish<S: Storage>(self, storage: &mut S) -> Result<Blob, Error> {
        let blob = self.blob;
        if self
            .digest
            .is_some_and(|digest| digest.finish() != blob.digest)
        {
            storage.discard()?;
            return Err(BundleInvalid::BlobDigest {
                digest: blob.digest,
            }
            .into());
        }
        Ok(blob)
    }
}

/// What a range has made so far, read from the open blob.
struct Written<'h, S> {
    storage: &'h mut S,
    /// Where the range begins in the blob.
    start: u64,
    failed: Option<StorageError>,
}

impl<S: Storage> History for Written<'_, S> {
    fn keep(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), DecodeFailed> {
        Ok(())
    }

    fn recall(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DecodeFailed> {
        let read = self.storage.read(self.start + offset, buffer);
        read.map_err(|error| {
            self.failed = Some(error);
            DecodeFailed
        })
    }
}

/// Before the UKI is published: its command line must seal the composefs image of this bundle.
pub(super) fn check_seal<S: Storage>(
    manifest: &Manifest,
    blob: &Blob,
    storage: &mut S,
) -> Result<(), Error> {
    if blob.role != Role::Uki {
        return Ok(());
    }
    let sealed = sealed_digest(blob.size, |offset, buffer| storage.read(offset, buffer));
    let fault = match sealed {
        Ok(sealed) if Some(sealed) == manifest.seal => return Ok(()),
        Ok(sealed) => BundleInvalid::SealUki { sealed }.into(),
        Err(error) => error,
    };
    storage.discard()?;
    Err(fault)
}

/// The start of `buffer`, at most `bytes` long.
pub(super) fn piece(buffer: &mut [u8], bytes: u64) -> &mut [u8] {
    let length = usize::try_from(bytes).map_or(buffer.len(), |bytes| bytes.min(buffer.len()));
    buffer.get_mut(..length).unwrap_or(&mut [])
}

/// The error of a blob that the medium did not give back as it was written.
pub(super) const fn read_back_failed(blob: &Blob) -> StorageError {
    let object = match blob.role {
        Role::Uki => StorageObject::Uki,
        Role::Image => StorageObject::ImageSlot,
        Role::Object => StorageObject::Object,
        Role::Composefs => StorageObject::ComposefsImage,
    };
    StorageError {
        operation: StorageOperation::Read,
        object,
        fault: StorageFault::ReadBack,
    }
}
