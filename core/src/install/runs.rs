//! Runs of the data: what is asked for without a gap between, so that a source that pays for every request asks once.
//!
//! # Invariants
//! - A run is a forecast. Nothing is checked or written by it, and a source that does not trust it loses only requests.

use super::Session;
use super::planning::read_block;
use super::walk::{Step, Walk};
use super::ways::Way;
use crate::error::{Error, Misuse};
use crate::storage::Storage;
use crate::wire::index::{Range, Role};

/// Up to here a gap belongs to a run: about what a request over HTTP and its answer take in headers.
pub const RUN_GAP_BYTES: u64 = 512;

/// So far a run is looked for: bounds the work that is done for one request.
const RUN_MAX_BYTES: u64 = 1024 * 1024;

/// Counts the runs of what a plan fetches, as places in the data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Runs {
    end: Option<u64>,
    /// Number of runs.
    pub count: u32,
    /// Bytes of the gaps within them.
    pub gap_bytes: u64,
}

impl Runs {
    /// The next blob begins a run, since the look ahead stops at it.
    pub fn end(&mut self) {
        self.end = None;
    }

    /// Adds what is fetched of the next blob.
    pub fn add(&mut self, extent: Extent) {
        let gap = self.end.and_then(|end| gap(end, extent.start));
        match gap {
            Some(gap) => self.gap_bytes = self.gap_bytes.saturating_add(gap),
            None => self.count = self.count.saturating_add(1),
        }
        self.end = Some(extent.end);
    }
}

/// Where ranges that follow each other lie in the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    start: u64,
    end: u64,
}

impl Extent {
    /// That of `so_far` and the range after it.
    pub fn with(so_far: Option<Self>, range: &Range) -> Self {
        let end = end_of(range);
        let start = so_far.map_or(range.stored_offset, |extent| extent.start);
        Self { start, end }
    }
}

/// The gap before something that still belongs to the run.
fn gap(end: u64, start: u64) -> Option<u64> {
    start
        .checked_sub(end)
        .filter(|bytes| *bytes <= RUN_GAP_BYTES)
}

const fn end_of(range: &Range) -> u64 {
    range
        .stored_offset
        .saturating_add(range.stored_bytes as u64)
}

/// A look along the index from a range that is asked for.
pub(super) struct LookAhead {
    /// A walk of its own, that stands behind the range.
    pub walk: Walk,
    /// Blobs that it has passed.
    pub blobs: u32,
    /// Alternatives of the blob that it has passed.
    pub alternatives: u16,
    /// How the blob is fetched, if it is.
    pub way: Option<Way>,
    /// Whether the ranges that follow are of that way.
    pub is_wanted: bool,
}

impl LookAhead {
    /// Where the run ends that `range` stands in, as a place in the data. The block of the session is another one afterwards when
    /// the second value says so.
    pub fn end_of_run<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        range: &Range,
    ) -> Result<(u64, bool), Error> {
        let mut end = end_of(range);
        let limit = end.saturating_add(RUN_MAX_BYTES);
        let mut is_other_block = false;
        while end < limit {
            let manifest = session
                .manifest
                .as_ref()
                .ok_or(Misuse::InstallerFailed)?
                .value();
            match self.walk.step(&session.block, manifest)? {
                Step::Block => {
                    read_block(&mut self.walk, &mut session.block, storage)?;
                    is_other_block = true;
                }
                // Of these nobody knows what is there before they are opened.
                Step::Blob(blob) if matches!(blob.role, Role::Uki | Role::Image) => break,
                Step::Blob(_) => {
                    let is_absent = session.absent.contains(self.blobs);
                    self.way = is_absent.then(|| session.ways.of(self.blobs));
                    self.is_wanted = self.way == Some(Way::Whole);
                    self.blobs = self.blobs.saturating_add(1);
                    self.alternatives = 0;
                }
                Step::Alternative(_) => {
                    self.is_wanted = matches!(self.way,
                        Some(Way::Patch(number)) if u16::from(number) == self.alternatives);
                    self.alternatives = self.alternatives.saturating_add(1);
                }
                Step::Range(next) | Step::OtherRange(next) if self.is_wanted => {
                    if gap(end, next.stored_offset).is_none() {
                        break;
                    }
                    end = end_of(&next);
                }
                Step::Range(_) | Step::OtherRange(_) | Step::BlobEnd => {}
                Step::Removed(_) | Step::Stays(_) => {}
                Step::End => break,
            }
        }
        Ok((end, is_other_block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_close_together_is_one_run() {
        let mut runs = Runs::default();
        for (start, end) in [
            (100, 200),
            (200, 300),
            (300 + RUN_GAP_BYTES, 2_000),
            (2_001 + RUN_GAP_BYTES, 3_000),
            (50, 60),
        ] {
            runs.add(Extent { start, end });
        }
        assert_eq!((runs.count, runs.gap_bytes), (3, RUN_GAP_BYTES));
    }
}
