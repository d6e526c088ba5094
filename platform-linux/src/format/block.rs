//! A block that is filled field by field.

/// Size of a block of ext4 here, and the unit in which everything is written.
pub(super) const BLOCK_BYTES: usize = 4096;

/// The bytes of one block, zeros at first.
#[derive(Clone)]
pub(super) struct Block(pub [u8; BLOCK_BYTES]);

impl Block {
    pub(super) const fn new() -> Self {
        Self([0; BLOCK_BYTES])
    }

    /// Puts bytes at an offset. Every offset and length here is a constant of a format that fits a block.
    pub(super) fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0
            .iter_mut()
            .skip(offset)
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    }

    pub(super) fn put_u16(&mut self, offset: usize, value: u16) {
        self.put(offset, &value.to_le_bytes());
    }

    pub(super) fn put_u32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    /// Puts a text, cut off at `room` bytes, and whatever its letters have to be made into.
    pub(super) fn put_text(&mut self, offset: usize, text: &str, room: usize) {
        let bytes = text.as_bytes();
        self.put(offset, bytes.get(..room).unwrap_or(bytes));
    }

    /// The bytes from `start`, as many as there are up to `length`.
    pub(super) fn part(&self, start: usize, length: usize) -> &[u8] {
        self.0.get(start..start + length).unwrap_or(&[])
    }
}
