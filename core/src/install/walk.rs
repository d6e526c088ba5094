//! Walks a route of the index: block by block along the chain of digests, record by record through the grammar.
//!
//! The same walk serves the check of the whole index, the plan and the transfer: each reads the route again from the scratch
//! area, and each proves every block again, so what is in the scratch area need not be trusted.
//!
//! # Invariants
//! - [`Step`]s come in the order of the data; ranges tile their blob and the data without a gap; a walk that ends has seen
//!   every payload of the manifest exactly once and as many objects as it states.

use crate::error::{BundleInvalid, RecordFault};
use crate::wire::digest::Sha256Digest;
use crate::wire::index::{BLOCK_BYTES, Blob, Block, Encoding, Range, Record, Role};
use crate::wire::manifest::{Manifest, PayloadKind};
use sha2::{Digest, Sha256};

/// One thing that a walk comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next record is in a block that has not been read.
    Block,
    /// A blob begins.
    Blob(Blob),
    /// A range that stores the blob whole.
    Range(Range),
    /// A range of an alternative that this version does not use.
    OtherRange(Range),
    /// All ranges of the blob, alternatives included, have been passed.
    BlobEnd,
    /// The route has ended.
    End,
}

/// A place in a route.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    block: u32,
    blocks: u32,
    expected: Sha256Digest,
    record: usize,
    records: usize,
    /// Whether the current block has been taken.
    loaded: bool,
    grammar: Grammar,
}

/// What the records before say about the next one.
#[derive(Clone, Debug, Default)]
struct Grammar {
    blob: Option<Blob>,
    whole: bool,
    ranges_left: u32,
    alternatives_left: u16,
    stored_left: u64,
    raw_next: u64,
    data_next: u64,
    payloads_seen: u32,
    objects: u32,
    object_bytes: u64,
    last_object: Option<Blob>,
}

impl Walk {
    /// Starts the full route of a manifest.
    pub fn new(manifest: &Manifest) -> Self {
        let route = manifest.routes.first();
        Self {
            block: 0,
            blocks: route.map_or(0, |route| route.blocks),
            expected: route.map_or(Sha256Digest::default(), |route| route.first_block),
            record: 0,
            records: 0,
            loaded: false,
            grammar: Grammar::default(),
        }
    }

    /// Place of the block that is needed next, in bytes from the start of the index.
    pub fn block_offset(&self) -> u64 {
        u64::from(self.block) * BLOCK_BYTES as u64
    }

    /// Blocks of the route that have not been taken.
    pub fn blocks_left(&self) -> u32 {
        self.blocks
            .saturating_sub(self.block)
            .saturating_sub(u32::from(self.loaded))
    }

    /// Stored bytes of the ranges that follow in the current run: those that store the blob whole, or those of an alternative.
    pub const fn stored_left(&self) -> u64 {
        self.grammar.stored_left
    }

    /// Takes the block that is needed next.
    ///
    /// # Errors
    /// [`BundleInvalid::IndexBlock`] when its digest is not the one in the chain; [`BundleInvalid::IndexRecord`] when its framing
    /// is wrong.
    pub fn take_block(&mut self, block: &[u8; BLOCK_BYTES]) -> Result<(), BundleInvalid> {
        if Sha256::digest(block).as_slice() != self.expected {
            return Err(BundleInvalid::IndexBlock { block: self.block });
        }
        self.records = Block::new(block)
            .records()
            .map_err(|fault| self.fault(fault))?;
        self.record = 0;
        self.loaded = true;
        Ok(())
    }

    /// The next step; `block` is the block that was taken last.
    ///
    /// # Errors
    /// When a record is wrong or breaks the grammar.
    pub fn step(
        &mut self,
        block: &[u8; BLOCK_BYTES],
        manifest: &Manifest,
    ) -> Result<Step, BundleInvalid> {
        if self.grammar.blob_is_over() {
            self.grammar.close_blob();
            return Ok(Step::BlobEnd);
        }
        if self.loaded && self.record == self.records {
            self.expected = Block::new(block).next();
            self.loaded = false;
            self.block += 1;
        }
        if self.block == self.blocks {
            let chain_ends = self.expected == Sha256Digest::default();
            let fault = if chain_ends {
                self.grammar.fault_at_end(manifest)
            } else {
                Some(RecordFault::Order)
            };
            return fault.map_or(Ok(Step::End), |fault| Err(self.fault(fault)));
        }
        if !self.loaded {
            return Ok(Step::Block);
        }
        let record = Block::new(block).record(self.record);
        self.record += 1;
        record
            .and_then(|record| self.grammar.take(record, manifest))
            .map_err(|fault| self.fault(fault))?
            .map_or_else(|| self.step(block, manifest), Ok)
    }

    fn fault(&self, fault: RecordFault) -> BundleInvalid {
        BundleInvalid::IndexRecord {
            block: self.block.min(self.blocks.saturating_sub(1)),
            fault,
        }
    }
}

impl Grammar {
    /// Takes a record; an alternative's head is nothing to act on and gives `None`.
    fn take(&mut self, record: Record, manifest: &Manifest) -> Result<Option<Step>, RecordFault> {
        match record {
            Record::Blob(blob) => self.take_blob(blob, manifest).map(Some),
            Record::Range(range) => self.take_range(range, manifest).map(Some),
            Record::Alternative(other) => {
                if self.blob.is_none()
                    || self.ranges_left > 0
                    || self.alternatives_left == 0
                    || other.ranges == 0
                {
                    return Err(RecordFault::Order);
                }
                self.alternatives_left -= 1;
                self.whole = false;
                self.ranges_left = other.ranges;
                self.stored_left = other.stored_bytes;
                Ok(None)
            }
        }
    }

    fn take_blob(&mut self, blob: Blob, manifest: &Manifest) -> Result<Step, RecordFault> {
        if self.blob.is_some() {
            return Err(RecordFault::Order);
        }
        self.check_payload(&blob, manifest)?;
        self.blob = Some(blob);
        self.whole = true;
        self.ranges_left = blob.ranges;
        self.alternatives_left = blob.alternatives;
        self.stored_left = blob.stored_bytes;
        self.raw_next = 0;
        Ok(Step::Blob(blob))
    }

    /// A blob belongs to its payload; the UKI is first, the composefs image last, and objects ascend.
    fn check_payload(&mut self, blob: &Blob, manifest: &Manifest) -> Result<(), RecordFault> {
        let payload = manifest
            .payloads
            .get(usize::from(blob.payload))
            .ok_or(RecordFault::Payload)?;
        let composefs_is_over = manifest
            .payloads
            .iter()
            .enumerate()
            .any(|(number, payload)| {
                matches!(payload.kind, PayloadKind::Composefs { .. })
                    && self.payloads_seen & 1 << number != 0
            });
        let first = self.payloads_seen == 0 && self.objects == 0;
        if composefs_is_over || (first && manifest.uki().is_some() && blob.role != Role::Uki) {
            return Err(RecordFault::Order);
        }
        if blob.role == Role::Object {
            return self.check_object(blob, &payload.kind);
        }
        let role = match payload.kind {
            PayloadKind::Uki => Role::Uki,
            PayloadKind::Composefs { .. } => Role::Composefs,
            PayloadKind::Image { .. } => Role::Image,
        };
        let seen = self.payloads_seen & 1 << blob.payload != 0;
        if seen || role != blob.role || payload.digest != blob.digest || payload.size != blob.size {
            return Err(RecordFault::Payload);
        }
        self.payloads_seen |= 1 << blob.payload;
        Ok(())
    }

    fn check_object(&mut self, blob: &Blob, kind: &PayloadKind) -> Result<(), RecordFault> {
        if !matches!(kind, PayloadKind::Composefs { .. }) {
            return Err(RecordFault::Payload);
        }
        let ascends = self
            .last_object
            .is_none_or(|last| last.digest.as_bytes() < blob.digest.as_bytes());
        if !ascends {
            return Err(RecordFault::Order);
        }
        self.last_object = Some(*blob);
        self.objects += 1;
        self.object_bytes = self
            .object_bytes
            .checked_add(blob.size)
            .ok_or(RecordFault::Size)?;
        Ok(())
    }

    fn take_range(&mut self, range: Range, manifest: &Manifest) -> Result<Step, RecordFault> {
        let blob = self.blob.ok_or(RecordFault::Order)?;
        self.ranges_left = self.ranges_left.checked_sub(1).ok_or(RecordFault::Order)?;
        let stored = u64::from(range.stored_bytes);
        self.stored_left = self
            .stored_left
            .checked_sub(stored)
            .ok_or(RecordFault::Tiling)?;
        let needs = manifest.needs;
        if range.stored_bytes > needs.range_bytes
            || (self.whole && range.encoding == Encoding::Zstd && needs.zstd_window_log == 0)
        {
            return Err(RecordFault::Size);
        }
        if range.stored_offset != self.data_next || (self.ranges_left == 0 && self.stored_left != 0)
        {
            return Err(RecordFault::Tiling);
        }
        self.data_next += stored;
        if !self.whole {
            return Ok(Step::OtherRange(range));
        }
        let end = range.raw_offset + u64::from(range.raw_bytes);
        if range.raw_offset != self.raw_next
            || end > blob.size
            || (self.ranges_left == 0 && end != blob.size)
        {
            return Err(RecordFault::Tiling);
        }
        self.raw_next = end;
        Ok(Step::Range(range))
    }

    fn blob_is_over(&self) -> bool {
        self.blob.is_some() && self.ranges_left == 0 && self.alternatives_left == 0
    }

    fn close_blob(&mut self) {
        self.blob = None;
    }

    fn fault_at_end(&self, manifest: &Manifest) -> Option<RecordFault> {
        let all_seen = self.payloads_seen.count_ones() as usize == manifest.payloads.len();
        let objects_fit = manifest.payloads.iter().all(|payload| match payload.kind {
            PayloadKind::Composefs {
                objects,
                object_bytes,
            } => objects == self.objects && object_bytes == self.object_bytes,
            _ => true,
        });
        if self.blob.is_some() {
            Some(RecordFault::Order)
        } else if !all_seen || !objects_fit {
            Some(RecordFault::Payload)
        } else if self.data_next != manifest.data_bytes() {
            Some(RecordFault::Tiling)
        } else {
            None
        }
    }
}
