//! Patches: instructions that make a slice of a blob from a base blob ([`METHOD_PATCH`](crate::wire::index::METHOD_PATCH)).
//!
//! A range of such an alternative decodes, by its encoding, to a stream of batches of steps (`docs/format.md`, section 8):
//!
//! ```text
//! batch: steps (varint) | a head for each | the bytes to add of each | the bytes to copy of each
//! head:  seek (zigzag varint) | bytes to add (varint) | bytes to copy (varint)
//! ```
//!
//! A step moves the position in the base, which is 0 at the start of every range; adds its bytes, one by one and modulo 256, to
//! as many bytes of the base, over which the position moves on; and appends the bytes to copy as they are. So every range can be
//! decoded without the others, and an install goes on inside of a blob. Bytes of one kind stand together because they compress
//! better so (`docs/decisions/0027-bytes-of-one-kind-stand-together.md`).
//!
//! # Invariants
//! - The state is [`STATE_BYTES`] long, whatever the patch is; what a batch of several steps makes is kept until it is whole.
//! - What a stream is refused for depends on the stream and the size of the base alone, never on the bytes of the base.
//! - Every step makes at least one byte, so a stream costs at most [`STEP_MAX_BYTES`] bytes beyond those that it makes, for each.

/// Most bytes of a varint: 64 bits, seven in each byte.
const VARINT_MAX_BYTES: u32 = 10;

/// Most bytes of a step beside those that it adds and copies; the number of steps is one byte before the first.
pub const STEP_MAX_BYTES: usize = 3 * VARINT_MAX_BYTES as usize + 1;

/// Most steps of a batch: bounds what is kept of their heads.
pub const BATCH_MAX_STEPS: usize = 64;

/// Most bytes that a batch of several steps makes, because they are kept: a page. One step alone may make any number.
pub const BATCH_MAX_BYTES: usize = 4096;

/// Size of the decoder's state.
pub const STATE_BYTES: usize = size_of::<PatchDecoder>();

const _: () = assert!(
    STATE_BYTES <= 5 * 1024 + 128,
    "it fits the stack of a device"
);

/// What is wrong with a stream of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PatchFault {
    /// A number is longer than it must be, or does not fit 64 bits.
    Number,
    /// A step makes nothing.
    EmptyStep,
    /// A batch has no step or too many, or several that make more than is kept.
    Batch,
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
    /// Bits of a number that has begun, and how many of its bytes were taken.
    number: u64,
    number_bytes: u32,
    expects: Expects,
    /// Steps of the current batch, and how many of their heads have come.
    steps: usize,
    heads_taken: usize,
    heads: [Head; BATCH_MAX_STEPS],
    /// The step whose bytes are due, and how many of them have come.
    step: usize,
    run_done: usize,
    /// Where what that step makes starts in the batch.
    place: usize,
    /// What a batch of several steps makes, and how much of it was handed out.
    kept: [u8; BATCH_MAX_BYTES],
    handed_out: usize,
}

/// The head of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    base_offset: u64,
    adds: u32,
    copies: u32,
}

impl Head {
    const fn bytes(self) -> usize {
        self.adds as usize + self.copies as usize
    }
}

/// What stands next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Steps,
    Seek,
    AddLength,
    CopyLength,
    Added,
    Copied,
    /// Nothing: the batch is whole, and handed out.
    Nothing,
}

impl PatchDecoder {
    /// A decoder for a range that makes `slice_bytes` from a base of `base_bytes`.
    pub const fn new(base_bytes: u64, slice_bytes: u32) -> Self {
        Self {
            position: 0,
            base_bytes,
            unclaimed: slice_bytes,
            number: 0,
            number_bytes: 0,
            expects: Expects::Steps,
            steps: 0,
            heads_taken: 0,
            heads: [Head {
                base_offset: 0,
                adds: 0,
                copies: 0,
            }; BATCH_MAX_STEPS],
            step: 0,
            run_done: 0,
            place: 0,
            kept: [0; BATCH_MAX_BYTES],
            handed_out: 0,
        }
    }

    /// Whether the slice is whole. What follows in the stream is too much then.
    pub const fn is_over(&self) -> bool {
        matches!(self.expects, Expects::Steps) && self.number_bytes == 0 && self.unclaimed == 0
    }

    /// Takes instructions from `input` and makes bytes into `output`, until the one is used up, the other full, or the slice whole.
    /// Where the output is full, more may be ready when all of the input was taken.
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
            let room = output.get_mut(progress.made..).unwrap_or(&mut []);
            match self.expects {
                Expects::Added | Expects::Copied => {
                    let bytes = self.take_run(left, room, &mut read_base)?;
                    if bytes == 0 {
                        break;
                    }
                    progress.taken += bytes;
                    progress.made += if self.steps == 1 { bytes } else { 0 };
                    self.pass_runs();
                }
                Expects::Nothing => {
                    let bytes = self.hand_out(room);
                    if bytes == 0 {
                        break;
                    }
                    progress.made += bytes;
                }
                _ => {
                    let Some(byte) = left.first() else { break };
                    progress.taken += 1;
                    self.take_number_byte(*byte)
                        .map_err(PatchError::Instructions)?;
                }
            }
        }
        Ok(progress)
    }

    /// The head of the step whose bytes are due, and how many of them there are of the kind that is due.
    fn run(&self) -> (Head, usize) {
        let head = self.heads.get(self.step).copied().unwrap_or_default();
        let bytes = match self.expects {
            Expects::Added => head.adds,
            _ => head.copies,
        };
        (head, bytes as usize)
    }

    /// As much of the current run as there is input and room for, into `room` or what is kept; gives its bytes.
    fn take_run<E>(
        &mut self,
        input: &[u8],
        room: &mut [u8],
        read_base: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<usize, PatchError<E>> {
        let (head, run) = self.run();
        let is_added = self.expects == Expects::Added;
        let room = if self.steps == 1 {
            room
        } else {
            let before = if is_added { 0 } else { head.adds as usize };
            let start = self.place + before + self.run_done;
            self.kept.get_mut(start..).unwrap_or(&mut [])
        };
        let bytes = (run - self.run_done).min(input.len()).min(room.len());
        let (Some(from), Some(to)) = (input.get(..bytes), room.get_mut(..bytes)) else {
            return Ok(0);
        };
        if is_added && bytes > 0 {
            let offset = head.base_offset + self.run_done as u64;
            read_base(offset, to).map_err(PatchError::Base)?;
            to.iter_mut()
                .zip(from)
                .for_each(|(to, added)| *to = to.wrapping_add(*added));
        } else {
            to.copy_from_slice(from);
        }
        self.run_done += bytes;
        Ok(bytes)
    }

    /// Goes on to the next run that still lacks bytes.
    fn pass_runs(&mut self) {
        while let Expects::Added | Expects::Copied = self.expects {
            let (head, run) = self.run();
            if self.run_done < run {
                return;
            }
            self.run_done = 0;
            self.place += head.bytes();
            self.step += 1;
            if self.step == self.steps {
                (self.step, self.place) = (0, 0);
                self.expects = match self.expects {
                    Expects::Added => Expects::Copied,
                    _ if self.steps == 1 => Expects::Steps,
                    _ => Expects::Nothing,
                };
            }
        }
    }

    /// Hands out what a batch has made; gives its bytes.
    fn hand_out(&mut self, room: &mut [u8]) -> usize {
        let end = self.batch_bytes();
        let ready = self.kept.get(self.handed_out..end).unwrap_or(&[]);
        let bytes = ready.len().min(room.len());
        for (to, from) in room.iter_mut().zip(ready) {
            *to = *from;
        }
        self.handed_out += bytes;
        if self.handed_out == end {
            (self.handed_out, self.expects) = (0, Expects::Steps);
        }
        bytes
    }

    /// What the steps make whose heads have come.
    fn batch_bytes(&self) -> usize {
        let heads = self.heads.iter().take(self.heads_taken);
        heads.map(|head| head.bytes()).sum()
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
            Expects::Steps => self.begin_batch(number),
            Expects::Seek => self.seek(number),
            Expects::AddLength => self.add_length(number),
            _ => self.copy_length(number),
        }
    }

    fn begin_batch(&mut self, steps: u64) -> Result<(), PatchFault> {
        let fits = 1..=BATCH_MAX_STEPS as u64;
        if !fits.contains(&steps) {
            return Err(PatchFault::Batch);
        }
        (self.steps, self.heads_taken) = (steps as usize, 0);
        self.expects = Expects::Seek;
        Ok(())
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

    fn add_length(&mut self, bytes: u64) -> Result<(), PatchFault> {
        let adds = self.claim(bytes)?;
        if bytes > self.base_bytes - self.position {
            return Err(PatchFault::BeyondBase);
        }
        if let Some(head) = self.heads.get_mut(self.heads_taken) {
            (head.base_offset, head.adds) = (self.position, adds);
        }
        self.position += bytes;
        self.expects = Expects::CopyLength;
        Ok(())
    }

    fn copy_length(&mut self, bytes: u64) -> Result<(), PatchFault> {
        let copies = self.claim(bytes)?;
        let head = self.heads.get_mut(self.heads_taken);
        let head = head.ok_or(PatchFault::Batch)?;
        head.copies = copies;
        if head.bytes() == 0 {
            return Err(PatchFault::EmptyStep);
        }
        self.heads_taken += 1;
        if self.steps > 1 && self.batch_bytes() > BATCH_MAX_BYTES {
            return Err(PatchFault::Batch);
        }
        if self.heads_taken < self.steps {
            self.expects = Expects::Seek;
        } else {
            self.expects = Expects::Added;
            self.pass_runs();
        }
        Ok(())
    }

    /// The next run makes so many bytes of the slice.
    fn claim(&mut self, bytes: u64) -> Result<u32, PatchFault> {
        let run = u32::try_from(bytes).map_err(|_| PatchFault::TooLong)?;
        self.unclaimed = self.unclaimed.checked_sub(run).ok_or(PatchFault::TooLong)?;
        Ok(run)
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
