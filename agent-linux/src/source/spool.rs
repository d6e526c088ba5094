//! What has come of a range that takes several requests, kept on the device until the range is whole: core authenticates ranges as a
//! whole, so without it a kill or a power cut would lose as much as a range has.
//!
//! ```text
//! head:  SHA-256 of what follows (32) | SHA-256 of the manifest (32) | offset in the bundle (u64) | length of the range (u64)
//! piece: SHA-256 of digest of the head, place in the range (u64), bytes (32) | length (u32) | bytes        (integers little-endian)
//! ```
//!
//! # Invariants
//! - The spool gives only what it was given for the same bytes of the same manifest. It proves nothing more: what comes from here is
//!   authenticated like what comes from the network, and a bundle that is refused takes the spool with it.
//! - It holds one range, so it never has more than [`SPOOL_MAX_BYTES`].
//! - Without room for it an install goes on and loses only its second chance.
//!
//! # Power loss
//! Each piece is synced. A torn one has another digest: it and those behind it do not count. The file is written from its start for
//! each range; pieces of the one before do not fit the new head.

use crate::report::warn;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use twinseal_core::wire::RANGE_MAX_BYTES;

/// Most bytes of the file: a range whose pieces are never shorter than 256 bytes on average. Bounds what it takes of the state folder.
pub const SPOOL_MAX_BYTES: u64 = RANGE_MAX_BYTES as u64 * 9 / 8;

const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = 2 * DIGEST_BYTES + 16;
const PIECE_HEAD_BYTES: usize = DIGEST_BYTES + 4;

/// The spool of a device.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    /// SHA-256 of the manifest, once it is known.
    manifest: Option<[u8; DIGEST_BYTES]>,
    /// What the file holds.
    kept: Option<Kept>,
    /// It could not be written, which was said.
    is_given_up: bool,
}

/// A range in the file.
#[derive(Debug)]
struct Kept {
    file: File,
    head: Head,
    /// Bytes of the range that are there.
    done: usize,
    /// Where the next piece goes.
    end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head([u8; HEAD_BYTES]);

impl Head {
    fn new(manifest: &[u8; DIGEST_BYTES], offset: u64, bytes: u64) -> Self {
        let rest = [&manifest[..], &offset.to_le_bytes(), &bytes.to_le_bytes()].concat();
        let mut head = [0; HEAD_BYTES];
        let (digest, place) = head.split_at_mut(DIGEST_BYTES);
        digest.copy_from_slice(&Sha256::digest(&rest));
        place.copy_from_slice(&rest);
        Self(head)
    }

    /// The head of a piece.
    fn piece(&self, place: usize, bytes: &[u8]) -> [u8; PIECE_HEAD_BYTES] {
        let digest = self.0.get(..DIGEST_BYTES).unwrap_or(&[]);
        let hash = Sha256::new()
            .chain_update(digest)
            .chain_update((place as u64).to_le_bytes())
            .chain_update(bytes)
            .finalize();
        let mut head = [0; PIECE_HEAD_BYTES];
        let (digest, length) = head.split_at_mut(DIGEST_BYTES);
        digest.copy_from_slice(&hash);
        length.copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        head
    }
}

impl Spool {
    /// A spool in this file, which need not be there.
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            manifest: None,
            kept: None,
            is_given_up: false,
        }
    }

    /// From here on bytes are of the bundle with this manifest.
    pub const fn enter(&mut self, manifest: &[u8; DIGEST_BYTES]) {
        self.manifest = Some(*manifest);
    }

    /// Puts what there is of a range at the start of `buffer`, which is as long as the range; gives its length.
    pub fn take(&mut self, offset: u64, buffer: &mut [u8]) -> usize {
        let Some(head) = self.head(offset, buffer) else {
            return 0;
        };
        if self.kept.is_none() {
            self.kept = open(&self.path);
        }
        let Some(kept) = self.kept.as_mut().filter(|kept| kept.head == head) else {
            return 0;
        };
        (kept.done, kept.end) = read(&kept.file, &head, buffer);
        kept.done
    }

    /// Keeps the first `done` bytes of `buffer`, of which the spool may have some. A range that came in one piece is not worth it.
    pub fn keep(&mut self, offset: u64, buffer: &[u8], done: usize) {
        let Some(head) = self.head(offset, buffer).filter(|_| !self.is_given_up) else {
            return;
        };
        let before = match &self.kept {
            Some(kept) if kept.head == head => kept.done,
            _ => 0,
        };
        let is_whole = before == 0 && done == buffer.len();
        let Some(bytes) = buffer.get(before..done).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        if is_whole {
            return;
        }
        if let Err(error) = self.write(head, before, bytes) {
            self.is_given_up = true;
            warn(&format!(
                "{} could not be written: {error}. If this install is interrupted, a range is fetched twice.",
                self.path.display()
            ));
        }
    }

    /// Drops what is kept.
    pub fn forget(&mut self) {
        self.kept = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => warn(&format!(
                "{} could not be removed: {error}.",
                self.path.display()
            )),
            _ => {}
        }
    }

    fn head(&self, offset: u64, buffer: &[u8]) -> Option<Head> {
        Some(Head::new(
            self.manifest.as_ref()?,
            offset,
            buffer.len() as u64,
        ))
    }

    /// Writes a piece; without one before it, the head too.
    fn write(&mut self, head: Head, before: usize, bytes: &[u8]) -> io::Result<()> {
        let mut kept = match self.kept.take() {
            Some(kept) => kept,
            None => Kept {
                file: File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&self.path)?,
                head,
                done: 0,
                end: 0,
            },
        };
        let start = if before == 0 { &head.0[..] } else { &[] };
        let place = if before == 0 { 0 } else { kept.end };
        let text = [start, &head.piece(before, bytes), bytes].concat();
        let end = place + text.len() as u64;
        if end > SPOOL_MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        kept.file.write_all_at(&text, place)?;
        kept.file.sync_data()?;
        (kept.head, kept.done, kept.end) = (head, before + bytes.len(), end);
        self.kept = Some(kept);
        Ok(())
    }
}

/// Opens the file of an earlier run; what it holds of its range is read when that is asked for.
fn open(path: &Path) -> Option<Kept> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    let mut head = Head([0; HEAD_BYTES]);
    file.read_exact_at(&mut head.0, 0).ok()?;
    Some(Kept {
        file,
        head,
        done: 0,
        end: 0,
    })
}

/// Reads the pieces as far as they are right: bytes of the range, and where the last piece ends.
fn read(file: &File, head: &Head, buffer: &mut [u8]) -> (usize, u64) {
    let (mut done, mut end) = (0, HEAD_BYTES as u64);
    loop {
        let mut piece_head = [0; PIECE_HEAD_BYTES];
        if file.read_exact_at(&mut piece_head, end).is_err() {
            return (done, end);
        }
        let (_, length) = piece_head.split_at(DIGEST_BYTES);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let bytes = buffer
            .get_mut(done..)
            .and_then(|rest| rest.get_mut(..length))
            .filter(|bytes| !bytes.is_empty());
        let Some(bytes) = bytes else {
            return (done, end);
        };
        let is_read = file
            .read_exact_at(bytes, end + PIECE_HEAD_BYTES as u64)
            .is_ok();
        if !is_read || head.piece(done, bytes) != piece_head {
            return (done, end);
        }
        done += length;
        end += (PIECE_HEAD_BYTES + length) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 200_000;

    fn range() -> Vec<u8> {
        (0..BYTES as u32)
            .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
            .take(BYTES)
            .collect()
    }

    fn spool(folder: &tempfile::TempDir) -> Spool {
        let mut spool = Spool::new(folder.path().join("spool"));
        spool.enter(&[1; 32]);
        spool
    }

    /// What a later run is given.
    fn taken(folder: &tempfile::TempDir, manifest: u8, offset: u64, bytes: usize) -> Vec<u8> {
        let mut spool = Spool::new(folder.path().join("spool"));
        spool.enter(&[manifest; 32]);
        let mut buffer = vec![0; bytes];
        let done = spool.take(offset, &mut buffer);
        buffer.truncate(done);
        buffer
    }

    #[test]
    fn what_came_of_a_range_is_given_to_the_next_run_and_to_nothing_else() {
        let (folder, range) = (tempfile::tempdir().unwrap(), range());
        let mut first = spool(&folder);
        assert_eq!(first.take(70, &mut vec![0; BYTES]), 0);
        for done in [0, 50_000, 50_000, 98_000] {
            first.keep(70, &range, done);
        }
        assert_eq!(taken(&folder, 1, 70, BYTES), range[..98_000]);
        assert!(taken(&folder, 2, 70, BYTES).is_empty(), "another bundle");
        assert!(taken(&folder, 1, 71, BYTES).is_empty(), "another place");
        assert!(taken(&folder, 1, 70, BYTES - 1).is_empty());
        // The next run goes on, and to the end.
        let (mut second, mut buffer) = (spool(&folder), vec![0; BYTES]);
        assert_eq!(second.take(70, &mut buffer), 98_000);
        second.keep(70, &range, 150_000);
        second.keep(70, &range, BYTES);
        assert_eq!(taken(&folder, 1, 70, BYTES), range);
        second.forget();
        assert!(taken(&folder, 1, 70, BYTES).is_empty());
    }

    #[test]
    fn a_range_that_came_in_one_piece_is_not_kept() {
        let (folder, range) = (tempfile::tempdir().unwrap(), range());
        let mut spool = spool(&folder);
        spool.keep(0, &range, BYTES);
        assert!(!folder.path().join("spool").exists());
        // Nor is anything before the manifest is known.
        Spool::new(folder.path().join("spool")).keep(0, &range, 5);
        assert!(!folder.path().join("spool").exists());
    }

    #[test]
    fn a_shorter_range_after_a_longer_one_has_no_pieces_of_it() {
        let (folder, range) = (tempfile::tempdir().unwrap(), range());
        let mut spool = spool(&folder);
        for done in [60_000, 120_000, 180_000] {
            spool.keep(0, &range, done);
        }
        spool.keep(BYTES as u64, &range[..100_000], 60_000);
        assert_eq!(taken(&folder, 1, BYTES as u64, 100_000), range[..60_000]);
        assert!(taken(&folder, 1, 0, BYTES).is_empty());
    }

    #[test]
    fn a_cut_at_any_byte_or_a_changed_one_gives_whole_pieces_before_it() {
        let (folder, range) = (tempfile::tempdir().unwrap(), range());
        let path = folder.path().join("spool");
        let (mut spool, mut sizes) = (spool(&folder), Vec::new());
        let pieces = [300, 900, 1_000];
        for done in pieces {
            spool.keep(0, &range, done);
            sizes.push(fs::metadata(&path).unwrap().len() as usize);
        }
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            let pieces_left = sizes.iter().filter(|size| **size <= cut).count();
            let most = pieces_left.checked_sub(1).map_or(0, |last| pieces[last]);
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(taken(&folder, 1, 0, BYTES), range[..most], "cut at {cut}");
            let mut changed = whole.clone();
            changed[cut] ^= 1;
            fs::write(&path, changed).unwrap();
            assert_eq!(taken(&folder, 1, 0, BYTES), range[..most], "{cut} changed");
        }
        println!("{} cuts, as many changes", whole.len());
    }

    #[test]
    fn it_has_room_for_one_range_and_no_more() {
        let (folder, range) = (tempfile::tempdir().unwrap(), range());
        let mut spool = spool(&folder);
        spool.keep(0, &range, 1_000);
        spool.kept.as_mut().unwrap().end = SPOOL_MAX_BYTES - 1_000;
        spool.keep(0, &range, 2_000);
        assert!(spool.is_given_up);
        let bytes = fs::metadata(folder.path().join("spool")).unwrap().len();
        assert!(bytes < 2_000, "{bytes}");
    }
}
