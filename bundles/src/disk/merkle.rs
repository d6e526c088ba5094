//! A file as ext4 keeps a sealed one: data, and behind it the Merkle tree and the descriptor of fs-verity.
//!
//! ```text
//! data | hole up to the next 64 KiB | tree, the root's level first | descriptor | zeros | size of the descriptor u32
//! ```
//!
//! The last four bytes end the descriptor's last 4 KiB block. Sources: the kernel's
//! `Documentation/filesystems/fsverity.rst` (descriptor, tree) and `Documentation/filesystems/ext4/verity.rst` (where both lie).
//! `docs/disk.md` says how this becomes a sealed file.
//!
//! # Invariants
//! - Memory grows with 1/128 of the file's size, never with the size itself.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};
use twinseal_core::wire::digest::{SHA256_BYTES, Sha256Digest};

/// Blocks of data and of the tree, and of the file system that they lie in.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// Where the tree may begin.
const TREE_ALIGNMENT_BYTES: u64 = 65_536;

/// Size of the descriptor.
const DESCRIPTOR_BYTES: usize = 256;

/// Size of the number that ends the last block.
const SIZE_BYTES: usize = 4;

const BLOCK: usize = BLOCK_BYTES as usize;

/// Bytes that a sealed file of `size` bytes takes in blocks.
pub(super) fn sealed_bytes(size: u64) -> u64 {
    let (mut blocks, mut tree) = (size.div_ceil(BLOCK_BYTES), 0);
    let data = blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(BLOCK_BYTES / SHA256_BYTES as u64);
        tree += blocks;
    }
    // One more for the descriptor.
    (data + tree + 1).saturating_mul(BLOCK_BYTES)
}

/// A file that is being written as it will lie under its seal.
pub(super) struct SealedFile {
    file: File,
    size: u64,
    /// The block that is being filled.
    block: Sha256,
    leaves: Vec<u8>,
}

impl SealedFile {
    /// Begins with an empty file.
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            size: 0,
            block: Sha256::new(),
            leaves: Vec::new(),
        }
    }

    /// Writes tree and descriptor; gives the size of the data and the digest that the kernel will measure.
    pub(super) fn finish(mut self) -> io::Result<(u64, Sha256Digest)> {
        let open = (self.size % BLOCK_BYTES) as usize;
        if open > 0 {
            self.block.update(&[0; BLOCK][open..]);
            self.close_block();
        }
        let (root, tree) = tree_over(std::mem::take(&mut self.leaves));
        let descriptor = descriptor(self.size, &root);
        let start = self.size.next_multiple_of(TREE_ALIGNMENT_BYTES);
        let tail = start + tree.len() as u64;
        let end = (tail + (DESCRIPTOR_BYTES + SIZE_BYTES) as u64).next_multiple_of(BLOCK_BYTES);
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&tree)?;
        self.file.write_all(&descriptor)?;
        self.file.seek(SeekFrom::Start(end - SIZE_BYTES as u64))?;
        self.file
            .write_all(&(DESCRIPTOR_BYTES as u32).to_le_bytes())?;
        Ok((self.size, Sha256::digest(descriptor).into()))
    }

    fn close_block(&mut self) {
        let hash = self.block.finalize_reset();
        self.leaves.extend_from_slice(&hash);
    }
}

impl Write for SealedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let mut rest = bytes.get(..written).unwrap_or(bytes);
        while !rest.is_empty() {
            let room = BLOCK - (self.size % BLOCK_BYTES) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.block.update(now);
            self.size += now.len() as u64;
            if self.size.is_multiple_of(BLOCK_BYTES) {
                self.close_block();
            }
            rest = later;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The root hash over the hashes of all blocks of data, and the tree as it is stored.
fn tree_over(mut hashes: Vec<u8>) -> (Sha256Digest, Vec<u8>) {
    let mut levels = Vec::new();
    while hashes.len() > SHA256_BYTES {
        hashes.resize(hashes.len().next_multiple_of(BLOCK), 0);
        let above = hashes.chunks(BLOCK).flat_map(Sha256::digest).collect();
        levels.push(std::mem::replace(&mut hashes, above));
    }
    let mut root = Sha256Digest::default();
    // The root of an empty file is zeros.
    root.iter_mut()
        .zip(&hashes)
        .for_each(|(to, from)| *to = *from);
    levels.reverse();
    (root, levels.concat())
}

fn descriptor(size: u64, root: &Sha256Digest) -> [u8; DESCRIPTOR_BYTES] {
    let mut bytes = [0; DESCRIPTOR_BYTES];
    // Version 1, SHA-256 (1), blocks of 2^12 bytes, no salt; no signature; then the size and the root hash.
    let fields = [1, 1, 12, 0, 0, 0, 0, 0]
        .into_iter()
        .chain(size.to_le_bytes())
        .chain(root.iter().copied());
    bytes
        .iter_mut()
        .zip(fields)
        .for_each(|(to, from)| *to = from);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use twinseal_core::verify::digest::VerityDigest;

    #[test]
    fn digest_and_room_are_right_at_every_kind_of_edge() {
        const TREE: usize = 128 * BLOCK;
        for size in [
            0,
            1,
            4095,
            4096,
            4097,
            65_536,
            TREE,
            TREE + 1,
            128 * TREE + 5,
        ] {
            let data: Vec<u8> = (0..size).map(|byte| (byte * 7 % 251) as u8 + 1).collect();
            let mut file = tempfile::tempfile().unwrap();
            let mut sealed = SealedFile::new(file.try_clone().unwrap());
            for piece in data.chunks(10_007) {
                sealed.write_all(piece).unwrap();
            }
            let mut expected = VerityDigest::new();
            expected.update(&data);
            let (length, digest) = sealed.finish().unwrap();
            assert_eq!(length, size as u64);
            assert_eq!(digest, expected.finish().as_bytes(), "{size} bytes");
            let about = file.metadata().unwrap();
            assert!(about.len().is_multiple_of(BLOCK_BYTES));
            assert!(about.blocks() * 512 <= sealed_bytes(length), "{size} bytes");
            let (mut stored, mut end) = (vec![0; size], [0; 4]);
            file.rewind().unwrap();
            file.read_exact(&mut stored).unwrap();
            file.seek(SeekFrom::End(-4)).unwrap();
            file.read_exact(&mut end).unwrap();
            assert!(stored == data && end == 256u32.to_le_bytes());
        }
    }
}
