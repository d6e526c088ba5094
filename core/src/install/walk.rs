//! Walks a route of the index: block by block along the chain of digests, record by record through the grammar.
//!
//! The same walk serves the check of the whole route, the plan, the removal and the transfer: each reads the route again from the
//! scratch area, and each proves every block again, so what is in the scratch area need not be trusted.
//!
//! # Invariants
//! - Whole ranges come in the order of the data, and so do those of alternatives; ranges tile their blob without a gap; a walk that ends has seen every payload of the
//!   manifest exactly once. The ranges of a patch tile its blob too. A range has a digest of what it gives, unless that is its whole
//!   blob.
//! - Full route: the whole ranges tile the data from its start on, and there are as many objects as the manifest states. The only
//!   route of a bundle tiles the data to its end.
//! - The ranges of all alternatives of a route ascend in the data, after the whole ranges.
//! - Route from a base: the base's objects without the removed ones, and those of the route, are as many and have as many bytes as
//!   the manifest states.

use super::route::{Base, Followed};
use super::staying::Staying;
use crate::error::{BundleInvalid, RecordFault};
use crate::storage::RunningObject;
use crate::wire::digest::{BlobDigest, Sha256Digest};
use crate::wire::index::{
    Alternative, BLOCK_BYTES, Blob, Block, Cursor, Encoding, METHOD_PATCH, Range, Record, Removed,
    Role,
};
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
    /// Another way to get the blob begins; its ranges follow. Its method may be one that this version does not know.
    Alternative(Alternative),
    /// A range of the alternative.
    OtherRange(Range),
    /// An object of the base that this release has not.
    Removed(Removed),
    /// An object of the running set stays; only [`Walk::merged_step`] comes to it.
    Stays(RunningObject),
    /// All ranges of the blob, alternatives included, have been passed.
    BlobEnd,
    /// The route has ended.
    End,
}

/// A place in a route. It is plain data, so that a copy of it is one move of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    block: u32,
    blocks: u32,
    expected: Sha256Digest,
    /// The next record of the current block, and how many are left.
    cursor: Cursor,
    records_left: usize,
    /// Records of the current block.
    records: usize,
    /// Where to go on in the block that is needed next, and the records before: only after [`Walk::again`] it is not the start.
    first: (Cursor, usize),
    /// Whether the current block has been taken.
    loaded: bool,
    grammar: Grammar,
    /// What stays and is not in the route.
    pub(super) staying: Option<Staying>,
    /// A step that waits until the objects before it have come.
    pub(super) held_back: Option<Step>,
}

/// What the records before say about the next one.
#[derive(Clone, Copy, Debug, Default)]
struct Grammar {
    blob: Option<Blob>,
    run: Run,
    ranges_left: u32,
    alternatives_left: u16,
    stored_left: u64,
    raw_next: u64,
    /// Where the whole ranges have come to in the data.
    whole_next: u64,
    /// Where the ranges of alternatives have come to: one run for the whole route.
    other: Option<OtherRun>,
    /// Whether data may be left out before the next range: where a blob or an alternative begins, in the route from a base.
    may_skip: bool,
    payloads_seen: u32,
    objects: Count,
    /// The last object or removed object: both together ascend, so no digest can be both.
    last_object: Option<BlobDigest>,
    base: Option<Base>,
    removed: Count,
}

/// What the ranges that follow are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Run {
    /// The blob, stored whole.
    #[default]
    Whole,
    /// A patch.
    Patch,
    /// An alternative of a method that is not known: how its ranges relate to the blob is not, either.
    Unknown,
}

/// The data of all alternatives of a route.
#[derive(Clone, Copy, Debug)]
struct OtherRun {
    first: u64,
    next: u64,
}

/// Objects, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub objects: u32,
    pub bytes: u64,
}

impl Count {
    pub fn checked_add(self, objects: u32, bytes: u64) -> Option<Self> {
        Some(Self {
            objects: self.objects.checked_add(objects)?,
            bytes: self.bytes.checked_add(bytes)?,
        })
    }

    fn checked_sub(self, other: Self) -> Option<Self> {
        Some(Self {
            objects: self.objects.checked_sub(other.objects)?,
            bytes: self.bytes.checked_sub(other.bytes)?,
        })
    }
}

impl Walk {
    /// Starts the route of a manifest that is followed.
    pub fn new(manifest: &Manifest, followed: &Followed) -> Self {
        let route = manifest.routes.get(followed.number);
        Self {
            block: 0,
            blocks: route.map_or(0, |route| route.blocks),
            expected: route.map_or(Sha256Digest::default(), |route| route.first_block),
            cursor: Cursor::new(),
            records_left: 0,
            records: 0,
            first: (Cursor::new(), 0),
            loaded: false,
            grammar: Grammar {
                base: followed.base,
                ..Grammar::default()
            },
            staying: Staying::new(followed),
            held_back: None,
        }
    }

    /// Objects of the base that stay, when the walk has ended.
    pub fn kept(&self) -> Count {
        self.grammar.kept().unwrap_or_default()
    }

    /// Where the ranges that store blobs whole have come to in the data.
    pub const fn whole_bytes(&self) -> u64 {
        self.grammar.whole_next
    }

    /// Removed objects that were passed.
    pub const fn removed(&self) -> Count {
        self.grammar.removed
    }

    /// Place of the block that is needed next, in bytes from the start of the route.
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
        let records = Block::new(block)
            .records()
            .map_err(|fault| self.fault(fault))?;
        let (cursor, passed) = core::mem::take(&mut self.first);
        self.cursor = cursor;
        self.records_left = records.saturating_sub(passed);
        self.records = records;
        self.loaded = true;
        Ok(())
    }

    /// A walk that goes on from this place; it needs the current block once more.
    pub fn again(&self) -> Self {
        let mut again = *self;
        if again.loaded {
            let passed = again.records.saturating_sub(again.records_left);
            (again.first, again.loaded) = ((again.cursor, passed), false);
        }
        again
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
        if self.loaded && self.records_left == 0 {
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
        self.records_left -= 1;
        Block::new(block)
            .record(&mut self.cursor)
            .and_then(|record| self.grammar.take(record, manifest))
            .map_err(|fault| self.fault(fault))
    }

    fn fault(&self, fault: RecordFault) -> BundleInvalid {
        BundleInvalid::IndexRecord {
            block: self.block.min(self.blocks.saturating_sub(1)),
            fault,
        }
    }
}

impl Grammar {
    fn take(&mut self, record: Record, manifest: &Manifest) -> Result<Step, RecordFault> {
        match record {
            Record::Blob(blob) => self.take_blob(blob, manifest),
            Record::Range(range) => self.take_range(range, manifest),
            Record::Removed(removed) => self.take_removed(removed, manifest),
            Record::Alternative(other) => self.take_alternative(other),
        }
    }

    fn take_alternative(&mut self, other: Alternative) -> Result<Step, RecordFault> {
        let blob = self.blob.ok_or(RecordFault::Order)?;
        if self.ranges_left > 0 || self.alternatives_left == 0 || other.ranges == 0 {
            return Err(RecordFault::Order);
        }
        let patches = other.method == METHOD_PATCH;
        // Which slot a base is in is said by the payload of the blob, so only an image has one.
        if patches && other.base_role == Role::Image && blob.role != Role::Image {
            return Err(RecordFault::Payload);
        }
        self.alternatives_left -= 1;
        self.run = if patches { Run::Patch } else { Run::Unknown };
        self.ranges_left = other.ranges;
        self.stored_left = other.stored_bytes;
        self.raw_next = 0;
        self.may_skip = self.base.is_some();
        Ok(Step::Alternative(other))
    }

    fn take_blob(&mut self, blob: Blob, manifest: &Manifest) -> Result<Step, RecordFault> {
        if self.blob.is_some() {
            return Err(RecordFault::Order);
        }
        self.check_payload(&blob, manifest)?;
        self.blob = Some(blob);
        self.run = Run::Whole;
        self.ranges_left = blob.ranges;
        self.alternatives_left = blob.alternatives;
        self.stored_left = blob.stored_bytes;
        self.raw_next = 0;
        self.may_skip = self.base.is_some();
        Ok(Step::Blob(blob))
    }

    /// Only a route from a base removes, and only where its objects stand.
    fn take_removed(&mut self, removed: Removed, manifest: &Manifest) -> Result<Step, RecordFault> {
        let uki_is_due = self.payloads_seen == 0 && manifest.uki().is_some();
        if self.base.is_none()
            || self.blob.is_some()
            || uki_is_due
            || self.composefs_is_over(manifest)
        {
            return Err(RecordFault::Order);
        }
        self.ascend(removed.digest)?;
        self.removed = self
            .removed
            .checked_add(1, removed.size)
            .ok_or(RecordFault::Size)?;
        Ok(Step::Removed(removed))
    }

    fn composefs_is_over(&self, manifest: &Manifest) -> bool {
        manifest
            .payloads
            .iter()
            .enumerate()
            .any(|(number, payload)| {
                matches!(payload.kind, PayloadKind::Composefs { .. })
                    && self.payloads_seen & 1 << number != 0
            })
    }

    /// A blob belongs to its payload; the UKI is first, the composefs image last, and objects ascend.
    fn check_payload(&mut self, blob: &Blob, manifest: &Manifest) -> Result<(), RecordFault> {
        let payload = manifest
            .payloads
            .get(usize::from(blob.payload))
            .ok_or(RecordFault::Payload)?;
        let first = self.payloads_seen == 0 && self.objects.objects == 0;
        if self.composefs_is_over(manifest)
            || (first && manifest.uki().is_some() && blob.role != Role::Uki)
        {
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
        self.ascend(blob.digest)?;
        self.objects = self
            .objects
            .checked_add(1, blob.size)
            .ok_or(RecordFault::Size)?;
        Ok(())
    }

    fn ascend(&mut self, digest: BlobDigest) -> Result<(), RecordFault> {
        let ascends = self
            .last_object
            .is_none_or(|last| last.as_bytes() < digest.as_bytes());
        if !ascends {
            return Err(RecordFault::Order);
        }
        self.last_object = Some(digest);
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
            || (self.run != Run::Unknown
                && range.encoding == Encoding::Zstd
                && needs.zstd_window_log == 0)
        {
            return Err(RecordFault::Size);
        }
        let end = range.stored_offset + stored;
        if !self.takes_data(range.stored_offset, end)
            || (self.ranges_left == 0 && self.stored_left != 0)
        {
            return Err(RecordFault::Tiling);
        }
        if self.run == Run::Unknown {
            return Ok(Step::OtherRange(range));
        }
        if self.run == Run::Whole && !range.can_store_whole() {
            return Err(RecordFault::Size);
        }
        let end = range.raw_offset + u64::from(range.raw_bytes);
        if range.raw_offset != self.raw_next
            || end > blob.size
            || (self.ranges_left == 0 && end != blob.size)
        {
            return Err(RecordFault::Tiling);
        }
        // The blob's own digest is the digest of a range that gives all of it.
        if range.gives_all(blob.size) == range.has_raw_sha256() {
            return Err(RecordFault::Digest);
        }
        self.raw_next = end;
        Ok(match self.run {
            Run::Whole => Step::Range(range),
            Run::Patch | Run::Unknown => Step::OtherRange(range),
        })
    }

    /// Goes on along the data of the whole ranges, or of the alternatives; false where a range stands at a wrong place.
    fn takes_data(&mut self, start: u64, end: u64) -> bool {
        let may_skip = core::mem::take(&mut self.may_skip);
        if self.run != Run::Whole {
            let run = self.other.get_or_insert(OtherRun {
                first: start,
                next: start,
            });
            let expected = core::mem::replace(&mut run.next, end);
            return start == expected || (may_skip && start > expected);
        }
        let expected = core::mem::replace(&mut self.whole_next, end);
        start == expected || (may_skip && start > expected)
    }

    /// Whether the data is used as the route may: its whole ranges before its alternatives, and none of the data left over by the
    /// only route.
    fn data_is_tiled(&self, manifest: &Manifest) -> bool {
        let (first, end) = self
            .other
            .map_or((self.whole_next, self.whole_next), |run| {
                (run.first, run.next)
            });
        let is_only = manifest.routes.len() == 1;
        let (gap, rest) = (
            first.checked_sub(self.whole_next),
            manifest.data_bytes().checked_sub(end),
        );
        gap.is_some_and(|gap| gap == 0 || !is_only)
            && rest.is_some_and(|rest| rest == 0 || !is_only)
    }

    fn blob_is_over(&self) -> bool {
        self.blob.is_some() && self.ranges_left == 0 && self.alternatives_left == 0
    }

    /// Objects of the base that stay; `None` when more are removed than it has.
    fn kept(&self) -> Option<Count> {
        let base = self.base.map_or(Count::default(), |base| base.objects);
        base.checked_sub(self.removed)
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
            } => {
                let stated = Count {
                    objects,
                    bytes: object_bytes,
                };
                let found = self
                    .kept()
                    .and_then(|kept| kept.checked_add(self.objects.objects, self.objects.bytes));
                found == Some(stated)
            }
            _ => true,
        });
        if self.blob.is_some() {
            Some(RecordFault::Order)
        } else if !all_seen || !objects_fit {
            Some(RecordFault::Payload)
        } else if !self.data_is_tiled(manifest) {
            Some(RecordFault::Tiling)
        } else {
            None
        }
    }
}
