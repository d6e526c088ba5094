//! Patches: instructions that make a slice of a blob from a base blob ([`METHOD_PATCH`](crate::wire::index::METHOD_PATCH)).
//!
//! A range of such an alternative decodes, by its encoding, to a stream of steps (`docs/format.md`, section 8):
//!
//! ```text
//! step: seek (zigzag varint) | bytes to add (varint) | those bytes | bytes to copy (varint) | those bytes
//! ```
//!
//! A step moves the position in the base, which is 0 at the start of every range; adds its bytes, one by one and modulo 256, to
//! as many bytes of the base, over which the position moves on; and appends the bytes to copy as they are. So every range can be
//! decoded without the others, and an install goes on inside of a blob.
//!
//! # Invariants
//! - The state is [`STATE_BYTES`] long, whatever the patch is; nothing is buffered.
//! - What a stream is refused for depends on the stream and the size of the base alone, never on the bytes of the base.
//! - Every step makes at least one byte, so a stream costs at most [`STEP_MAX_BYTES`] bytes beyond those that it makes, for each.

/// Most bytes of a varint: 64 bits, seven in each byte.
const VARINT_MAX_BYTES: u32 = 10;

/// Most bytes of a step beside those that it adds and copies.
pub const STEP_MAX_BYTES: usize = 3 * VARINT_MAX_BYTES as usize;

/// Size of the decoder's state.
pub const STATE_BYTES: usize = size_of::<PatchDecoder>();

const _: () = assert!(STATE_BYTES <= 64, "the state of a decoder is small");

/// What is wrong with a stream of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PatchFault {
    /// A number is longer than it must be, or does not fit 64 bits.
    Number,
    /// A step makes nothing.
    EmptyStep,
    /// The position leaves the base.
    Seek,
    /// Bytes are added to what lies beyond the end of the base.
    BeyondBase,
    /// The stream makes more than the slice, or goes on after it.
    TooLong,
    /// The stream ends before the slice is whole.
    TooShort,
}

/// Why [`PatchDecoder::decode`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchError<E> {
    /// The instructions are wrong: the builder's fault.
    Instructions(PatchFault),
    /// The base could not be read.
    Base(E),
}

/// What one call of [`PatchDecoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that were taken.
    pub taken: usize,
    /// Bytes that were made at the start of the output.
    pub made: usize,
}

/// Decodes the instructions of one range; fed with pieces of any length.
#[derive(Clone, Debug)]
pub struct PatchDecoder {
    /// Where the next added byte stands in the base; never beyond its end.
    position: u64,
    base_bytes: u64,
    /// Bytes of the slice that no step has claimed.
    unclaimed: u32,
    /// Bytes that the current run still adds or copies.
    run: u32,
    /// Bits of a number that has begun, and how many of its bytes were taken.
    number: u64,
    number_bytes: u32,
    expects: Expects,
    /// Whether the current step adds nothing, so that it must copy.
    adds_nothing: bool,
}

/// What stands next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Seek,
    AddLength,
    Added,
    CopyLength,
    Copied,
}

impl PatchDecoder {
    /// A decoder for a range that makes `slice_bytes` from a base of `base_bytes`.
    pub const fn new(base_bytes: u64, slice_bytes: u32) -> Self {
        Self {
            position: 0,
            base_bytes,
            unclaimed: slice_bytes,
            run: 0,
            number: 0,
            number_bytes: 0,
            expects: Expects::Seek,
            adds_nothing: false,
        }
    }

    /// Whether the slice is whole. What follows in the stream is too much then.
    pub const fn is_over(&self) -> bool {
        matches!(self.expects, Expects::Seek) && self.number_bytes == 0 && self.unclaimed == 0
    }

    /// Takes instructions from `input` and makes bytes into `output`, until the one is used up, the other full, or the slice whole.
    /// `read_base` reads exactly its buffer from the base, at an offset such that it ends in the base.
    ///
    /// # Errors
    /// [`PatchError::Instructions`] says what is wrong with the stream; [`PatchError::Base`] passes on why the base could not be
    /// read. The decoder is of no more use then.
    pub fn decode<E>(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        mut read_base: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Progress, PatchError<E>> {
        let mut progress = Progress { taken: 0, made: 0 };
        while !self.is_over() {
            let left = input.get(progress.taken..).unwrap_or(&[]);
            if let Expects::Added | Expects::Copied = self.expects {
                let room = output.get_mut(progress.made..).unwrap_or(&mut []);
                let bytes = self.take_run(left, room, &mut read_base)?;
                if bytes == 0 {
                    break;
                }
                progress.taken += bytes;
                progress.made += bytes;
            } else {
                let Some(byte) = left.first() else { break };
                progress.taken += 1;
                self.take_number_byte(*byte)
                    .map_err(PatchError::Instructions)?;
            }
        }
        Ok(progress)
    }

    /// As much of the current run as there is input and room for; gives its bytes.
    fn take_run<E>(
        &mut self,
        input: &[u8],
        room: &mut [u8],
        read_base: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<usize, PatchError<E>> {
        let bytes = (self.run as usize).min(input.len()).min(room.len());
        let (Some(from), Some(to)) = (input.get(..bytes), room.get_mut(..bytes)) else {
            return Ok(0);
        };
        if self.expects == Expects::Added && bytes > 0 {
            read_base(self.position, to).map_err(PatchError::Base)?;
            to.iter_mut()
                .zip(from)
                .for_each(|(to, added)| *to = to.wrapping_add(*added));
            self.position += bytes as u64;
        } else {
            to.copy_from_slice(from);
        }
        self.run -= bytes as u32;
        if self.run == 0 {
            self.expects = match self.expects {
                Expects::Added => Expects::CopyLength,
                _ => Expects::Seek,
            };
        }
        Ok(bytes)
    }

    /// One byte of a number; the number takes effect with its last one.
    fn take_number_byte(&mut self, byte: u8) -> Result<(), PatchFault> {
        let last_possible = self.number_bytes + 1 == VARINT_MAX_BYTES;
        let longer_than_needed = byte == 0 && self.number_bytes > 0;
        if longer_than_needed || (last_possible && byte > 1) {
            return Err(PatchFault::Number);
        }
        self.number |= u64::from(byte & 0x7f) << (7 * self.number_bytes);
        self.number_bytes += 1;
        if byte & 0x80 != 0 {
            return Ok(());
        }
        self.number_bytes = 0;
        let number = core::mem::take(&mut self.number);
        match self.expects {
            Expects::Seek => self.seek(number),
            Expects::AddLength => self.begin_adding(number),
            _ => self.begin_copying(number),
        }
    }

    fn seek(&mut self, zigzag: u64) -> Result<(), PatchFault> {
        let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        self.position = self
            .position
            .checked_add_signed(distance)
            .filter(|position| *position <= self.base_bytes)
            .ok_or(PatchFault::Seek)?;
        self.expects = Expects::AddLength;
        Ok(())
    }

    fn begin_adding(&mut self, bytes: u64) -> Result<(), PatchFault> {
        self.claim(bytes)?;
        if bytes > self.base_bytes - self.position {
            return Err(PatchFault::BeyondBase);
        }
        self.adds_nothing = bytes == 0;
        self.expects = if self.adds_nothing {
            Expects::CopyLength
        } else {
            Expects::Added
        };
        Ok(())
    }

    fn begin_copying(&mut self, bytes: u64) -> Result<(), PatchFault> {
        self.claim(bytes)?;
        if bytes == 0 && self.adds_nothing {
            return Err(PatchFault::EmptyStep);
        }
        self.expects = if bytes == 0 {
            Expects::Seek
        } else {
            Expects::Copied
        };
        Ok(())
    }

    /// The next run makes so many bytes of the slice.
    fn claim(&mut self, bytes: u64) -> Result<(), PatchFault> {
        self.run = u32::try_from(bytes).map_err(|_| PatchFault::TooLong)?;
        self.unclaimed = self
            .unclaimed
            .checked_sub(self.run)
            .ok_or(PatchFault::TooLong)?;
        Ok(())
    }
}

/// Makes a slice whose base and instructions are at hand whole: what a builder proves its patches with.
///
/// # Errors
/// [`PatchFault`] says what is wrong with the instructions. That the slice is the right one is for the caller to see.
pub fn apply(base: &[u8], instructions: &[u8], slice: &mut [u8]) -> Result<(), PatchFault> {
    let slice_bytes = u32::try_from(slice.len()).map_err(|_| PatchFault::TooShort)?;
    let mut decoder = PatchDecoder::new(base.len() as u64, slice_bytes);
    let read_base = |offset: u64, buffer: &mut [u8]| {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| base.get(offset..)?.get(..buffer.len()))
            .ok_or(PatchFault::BeyondBase)?;
        buffer.copy_from_slice(from);
        Ok(())
    };
    let progress = match decoder.decode(instructions, slice, read_base) {
        Ok(progress) => progress,
        Err(PatchError::Instructions(fault) | PatchError::Base(fault)) => return Err(fault),
    };
    if !decoder.is_over() {
        Err(PatchFault::TooShort)
    } else if progress.taken < instructions.len() {
        Err(PatchFault::TooLong)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
