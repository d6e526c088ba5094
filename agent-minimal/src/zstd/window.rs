//! What was decoded: the last [`RING_BYTES`] of a range in a ring, and what is older in the history that the caller keeps.
//!
//! # Invariants
//! - What was made is given out before the next block, which is no longer than the ring: what a match of that block reaches beyond the
//!   ring is in the history.
//! - A byte is in the history before another takes its place in the ring.

use super::BLOCK_MAX_BYTES;
use twinseal_core::decode::{DecodeFailed, History};

/// The ring: a block.
pub(super) const RING_BYTES: usize = BLOCK_MAX_BYTES;

/// Bytes that the history is given at once, if it can be.
const KEEP_BYTES: usize = 16 * 1024;

/// The ring. Bytes are counted from the start of the range.
pub(super) struct Window {
    ring: [u8; RING_BYTES],
    /// Bytes that were made; of these, those that were given out, and those that the history has.
    made: u64,
    given: u64,
    kept: u64,
}

impl Window {
    pub const fn new() -> Self {
        Self {
            ring: [0; _],
            made: 0,
            given: 0,
            kept: 0,
        }
    }

    /// A new range begins; what was not given out is lost.
    pub const fn begin(&mut self) {
        (self.made, self.given, self.kept) = (0, 0, 0);
    }

    /// Bytes that were made.
    pub const fn made(&self) -> u64 {
        self.made
    }

    /// Whether all of them were given out.
    pub const fn is_given(&self) -> bool {
        self.given == self.made
    }

    /// Appends bytes: `fill` is given room for them, in pieces and in order, and fills each.
    ///
    /// # Errors
    /// When the history cannot keep what was there before, or `fill` fails.
    pub fn append(
        &mut self,
        mut count: usize,
        history: &mut dyn History,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), DecodeFailed>,
    ) -> Result<(), DecodeFailed> {
        while count > 0 {
            let room = self.room(count, history)?;
            let bytes = room.len();
            fill(room)?;
            self.made += bytes as u64;
            count -= bytes;
        }
        Ok(())
    }

    /// Appends bytes that stand `distance` before, which may reach into themselves.
    ///
    /// # Errors
    /// When so much is not there, or the history does not give it.
    pub fn append_earlier(
        &mut self,
        distance: u64,
        mut count: usize,
        history: &mut dyn History,
    ) -> Result<(), DecodeFailed> {
        if distance == 0 || distance > self.made {
            return Err(DecodeFailed);
        }
        // What was appended repeats what stood before it, so twice as much can be taken each time.
        let mut reach = distance;
        while count > 0 {
            let (from, start) = (self.made - reach, place(self.made));
            let room = self.room(count, history)?;
            let mut bytes = room.len();
            if reach > RING_BYTES as u64 {
                history.recall(from, room)?;
            } else {
                let from = place(from);
                bytes = bytes.min(reach as usize).min(RING_BYTES - from);
                self.ring.copy_within(from..from + bytes, start);
            }
            self.made += bytes as u64;
            count -= bytes;
            if bytes as u64 == reach && 2 * reach <= RING_BYTES as u64 {
                reach *= 2;
            }
        }
        Ok(())
    }

    /// Gives out what was made and not given yet, as much as fits; gives its length.
    pub fn give(&mut self, output: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(room) = output.get_mut(done..).filter(|room| !room.is_empty()) {
            let waiting = usize::try_from(self.made - self.given).unwrap_or(RING_BYTES);
            let from = self.ring.get(place(self.given)..).unwrap_or(&[]);
            let now = waiting.min(from.len()).min(room.len());
            if now == 0 {
                break;
            }
            if let (Some(room), Some(from)) = (room.get_mut(..now), from.get(..now)) {
                room.copy_from_slice(from);
            }
            self.given += now as u64;
            done += now;
        }
        done
    }

    /// Room for the next bytes, `count` of them or up to the end of the ring; the history has what stood there.
    fn room(&mut self, count: usize, history: &mut dyn History) -> Result<&mut [u8], DecodeFailed> {
        let start = place(self.made);
        let end = RING_BYTES.min(start + count);
        while self.kept + (RING_BYTES as u64) < self.made + (end - start) as u64 {
            let from = self.ring.get(place(self.kept)..).unwrap_or(&[]);
            let bytes = from
                .len()
                .min(KEEP_BYTES)
                .min((self.made - self.kept) as usize);
            history.keep(self.kept, from.get(..bytes).unwrap_or(&[]))?;
            self.kept += bytes as u64;
        }
        self.ring.get_mut(start..end).ok_or(DecodeFailed)
    }
}

/// Where a byte stands in the ring.
const fn place(byte: u64) -> usize {
    (byte % RING_BYTES as u64) as usize
}
