//! The literals of a block (RFC 8878, section 3.1.1.3.1), decoded where they go.

use super::bits::Backward;
use super::frame::number;
use super::huffman::Huffman;
use super::window::Window;
use twinseal_core::decode::{DecodeFailed, History};

/// Streams that coded literals may stand in.
const STREAMS: usize = 4;

/// The literals of a block that are left.
pub(super) struct Literals<'b> {
    left: usize,
    form: Form<'b>,
}

/// How they are stored.
enum Form<'b> {
    Raw(&'b [u8]),
    Repeated(u8),
    Coded(Coded<'b>),
}

/// Literals in streams of a code.
struct Coded<'b> {
    code: &'b Huffman,
    /// The stream that is read, and how many literals are left in it.
    bits: Backward<'b>,
    left: usize,
    /// Those behind it, with how many literals each has.
    next: [Option<(&'b [u8], usize)>; STREAMS - 1],
}

/// What stands before literals.
struct Head {
    kind: u8,
    bytes: usize,
    /// Decoded, and stored.
    size: usize,
    stored: usize,
    streams: usize,
}

impl<'b> Literals<'b> {
    /// The literals of a block, at most `most_bytes`, and what follows them. `code` is the code that a block may use again.
    pub fn read(
        block: &'b [u8],
        code: &'b mut Huffman,
        most_bytes: usize,
    ) -> Result<(Self, &'b [u8]), DecodeFailed> {
        let head = Head::read(block)?;
        let rest = block.get(head.bytes..).unwrap_or(&[]);
        let (stored, rest) = rest.split_at_checked(head.stored).ok_or(DecodeFailed)?;
        if head.size > most_bytes {
            return Err(DecodeFailed);
        }
        let form = match head.kind {
            0 => Form::Raw(stored),
            1 => Form::Repeated(*stored.first().ok_or(DecodeFailed)?),
            kind => {
                let mut streams = stored;
                if kind == 2 {
                    let bytes = code.read(stored)?;
                    streams = stored.get(bytes..).ok_or(DecodeFailed)?;
                }
                if !code.is_there() {
                    return Err(DecodeFailed);
                }
                Form::Coded(Coded::new(code, streams, &head)?)
            }
        };
        let left = head.size;
        Ok((Self { left, form }, rest))
    }

    /// Literals that are left.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Appends the next literals.
    ///
    /// # Errors
    /// When there are not so many, or they cannot be decoded.
    pub fn append(
        &mut self,
        count: usize,
        window: &mut Window,
        history: &mut dyn History,
    ) -> Result<(), DecodeFailed> {
        self.left = self.left.checked_sub(count).ok_or(DecodeFailed)?;
        let form = &mut self.form;
        window.append(count, history, &mut |room| match form {
            Form::Raw(bytes) => copy(bytes, room),
            Form::Repeated(byte) => {
                room.fill(*byte);
                Ok(())
            }
            Form::Coded(coded) => coded.fill(room),
        })
    }

    /// Appends all that are left; every stream must be at its end then.
    pub fn append_rest(
        &mut self,
        window: &mut Window,
        history: &mut dyn History,
    ) -> Result<(), DecodeFailed> {
        self.append(self.left, window, history)?;
        match &mut self.form {
            Form::Coded(coded) => coded.end(),
            Form::Raw(_) | Form::Repeated(_) => Ok(()),
        }
    }
}

/// Copies the next of `bytes`.
pub(super) fn copy(bytes: &mut &[u8], room: &mut [u8]) -> Result<(), DecodeFailed> {
    let (now, later) = bytes.split_at_checked(room.len()).ok_or(DecodeFailed)?;
    room.copy_from_slice(now);
    *bytes = later;
    Ok(())
}

impl<'b> Coded<'b> {
    /// One stream, or four behind the lengths of the first three; each but the last of these makes a quarter, rounded up.
    fn new(code: &'b Huffman, streams: &'b [u8], head: &Head) -> Result<Self, DecodeFailed> {
        const LENGTHS_BYTES: usize = 2 * (STREAMS - 1);
        // Of the format: fewer have one stream.
        const LITERALS_OF_STREAMS_MIN: usize = 6;
        let mut next = [None; _];
        let (mut first, mut left) = (streams, head.size);
        if head.streams > 1 {
            if head.size < LITERALS_OF_STREAMS_MIN {
                return Err(DecodeFailed);
            }
            let mut rest = streams.get(LENGTHS_BYTES..).ok_or(DecodeFailed)?;
            let quarter = head.size.div_ceil(STREAMS);
            let last = head.size.checked_sub((STREAMS - 1) * quarter);
            let mut parts = [None; STREAMS];
            for (stream, part) in parts.iter_mut().enumerate() {
                let bytes = match stream {
                    3 => rest.len(),
                    stream => number(streams, 2 * stream, 2)? as usize,
                };
                let (now, later) = rest.split_at_checked(bytes).ok_or(DecodeFailed)?;
                *part = Some((now, quarter));
                rest = later;
            }
            let [one, two, three, four] = parts;
            let four = four.zip(last).ok_or(DecodeFailed)?;
            next = [two, three, Some((four.0.0, four.1))];
            (first, left) = one.ok_or(DecodeFailed)?;
        }
        let bits = Backward::new(first)?;
        Ok(Self {
            code,
            bits,
            left,
            next,
        })
    }

    fn fill(&mut self, mut room: &mut [u8]) -> Result<(), DecodeFailed> {
        while !room.is_empty() {
            if self.left == 0 && !self.next_stream()? {
                return Err(DecodeFailed);
            }
            let (now, later) = room.split_at_mut(self.left.min(room.len()));
            self.code.decode(&mut self.bits, now)?;
            self.left -= now.len();
            room = later;
        }
        Ok(())
    }

    /// Goes to the next stream, if there is one; the one before must be at its end.
    fn next_stream(&mut self) -> Result<bool, DecodeFailed> {
        if self.left > 0 || !self.bits.is_at_end() {
            return Err(DecodeFailed);
        }
        let [next, second, third] = self.next;
        let Some((stream, left)) = next else {
            return Ok(false);
        };
        self.next = [second, third, None];
        self.bits = Backward::new(stream)?;
        self.left = left;
        Ok(true)
    }

    fn end(&mut self) -> Result<(), DecodeFailed> {
        while self.next_stream()? {}
        Ok(())
    }
}

impl Head {
    fn read(block: &[u8]) -> Result<Self, DecodeFailed> {
        let first = *block.first().ok_or(DecodeFailed)?;
        let (kind, form) = (first & 3, first >> 2 & 3);
        if kind < 2 {
            let (bytes, shift) = match form {
                1 => (2, 4),
                3 => (3, 4),
                _ => (1, 3),
            };
            let size = (number(block, 0, bytes)? >> shift) as usize;
            let stored = if kind == 0 { size } else { 1 };
            return Ok(Self {
                kind,
                bytes,
                size,
                stored,
                streams: 0,
            });
        }
        let (bytes, bits, streams) = match form {
            0 => (3, 10, 1),
            1 => (3, 10, 4),
            2 => (4, 14, 4),
            _ => (5, 18, 4),
        };
        let head = number(block, 0, bytes)? >> 4;
        let mask = (1 << bits) - 1;
        Ok(Self {
            kind,
            bytes,
            size: (head & mask) as usize,
            stored: (head >> bits & mask) as usize,
            streams,
        })
    }
}
