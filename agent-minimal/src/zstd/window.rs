//! What was decoded: the last [`WINDOW_BYTES`] of a frame, in a ring.
//!
//! # Invariants
//! - A frame begins at the start of the ring, so one that is shorter than the ring touches no more memory than its length.
//! - What was made is given out before the next block, which is shorter than the ring.

use twinseal_core::storage::DecodeFailed;
use twinseal_core::wire::ZSTD_WINDOW_LOG_MAX;

/// Largest window of a frame: the format's own limit.
pub const WINDOW_BYTES: usize = 1 << ZSTD_WINDOW_LOG_MAX;

/// The ring.
pub(super) struct Window {
    ring: [u8; WINDOW_BYTES],
    /// Bytes of the frame that were made, and of these, that were given out.
    made: u64,
    given: u64,
}

impl Window {
    pub const fn new() -> Self {
        Self {
            ring: [0; _],
            made: 0,
            given: 0,
        }
    }

    /// A new frame begins; what was not given out is lost.
    pub const fn begin(&mut self) {
        (self.made, self.given) = (0, 0);
    }

    /// Bytes of the frame that were made.
    pub const fn made(&self) -> u64 {
        self.made
    }

    /// Appends bytes.
    pub fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            if let Some(room) = room.get_mut(..now.len()) {
                room.copy_from_slice(now);
            }
            self.made += now.len() as u64;
            bytes = later;
        }
    }

    /// Appends a byte many times.
    pub fn append_repeated(&mut self, byte: u8, mut count: usize) {
        while count > 0 {
            let room = self.room();
            let now = count.min(room.len());
            room.iter_mut().take(now).for_each(|to| *to = byte);
            self.made += now as u64;
            count -= now;
        }
    }

    /// Appends bytes that stand `distance` before, which may reach into themselves.
    ///
    /// # Errors
    /// When so much of the frame is not there, or is not kept.
    pub fn append_earlier(&mut self, distance: u64, mut count: usize) -> Result<(), DecodeFailed> {
        if distance == 0 || distance > self.made || distance > WINDOW_BYTES as u64 {
            return Err(DecodeFailed);
        }
        // What was appended repeats what stood before it, so twice as much can be taken each time.
        let mut reach = distance;
        while count > 0 {
            let (from, to) = (place(self.made - reach), place(self.made));
            let bytes = (reach as usize)
                .min(count)
                .min(WINDOW_BYTES - from)
                .min(WINDOW_BYTES - to);
            self.ring.copy_within(from..from + bytes, to);
            self.made += bytes as u64;
            count -= bytes;
            if bytes as u64 == reach && 2 * reach <= WINDOW_BYTES as u64 {
                reach *= 2;
            }
        }
        Ok(())
    }

    /// Gives out what was made and not given yet, as much as fits; gives its length.
    pub fn give(&mut self, output: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(room) = output.get_mut(done..).filter(|room| !room.is_empty()) {
            let waiting = usize::try_from(self.made - self.given).unwrap_or(WINDOW_BYTES);
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

    /// From the place of the next byte to the end of the ring.
    fn room(&mut self) -> &mut [u8] {
        let at = place(self.made);
        self.ring.get_mut(at..).unwrap_or(&mut [])
    }
}

/// Where a byte of the frame stands in the ring.
const fn place(byte: u64) -> usize {
    (byte % WINDOW_BYTES as u64) as usize
}
