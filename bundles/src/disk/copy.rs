//! Copies into the disk image without turning holes into zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Copied at once; a piece of zeros alone stays a hole.
const PIECE_BYTES: usize = 64 * 1024;

/// Copies all of `from` to `offset` in `to`, which is a hole there.
pub(super) fn copy_sparse(from: &File, to: &File, offset: u64) -> io::Result<()> {
    let length = from.metadata()?.len();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut position = 0;
    while position < length {
        position = match seek(from, SeekFrom::Data(position)) {
            Ok(data) => data,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(from, SeekFrom::Hole(position))?.min(length);
        while position < hole {
            let left = usize::try_from(hole - position).unwrap_or(usize::MAX);
            let piece = buffer.get_mut(..left.min(PIECE_BYTES)).unwrap_or_default();
            from.read_exact_at(piece, position)?;
            write_sparse(piece, to, offset + position)?;
            position += piece.len() as u64;
        }
    }
    Ok(())
}

/// Writes bytes to `offset` in `to`, which is a hole there.
pub(super) fn write_sparse(bytes: &[u8], to: &File, mut offset: u64) -> io::Result<()> {
    for piece in bytes.chunks(PIECE_BYTES) {
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, offset)?;
        }
        offset += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn data_arrives_and_holes_stay() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&[7; 5000]).unwrap();
        from.seek(io::SeekFrom::Start(8 << 20)).unwrap();
        from.write_all(&[0; 200_000]).unwrap();
        from.write_all(&[9; 100_001]).unwrap();
        from.set_len(20 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        to.set_len(32 << 20).unwrap();
        copy_sparse(&from, &to, 1 << 20).unwrap();
        let (mut expected, mut found) = (vec![0; 20 << 20], vec![0; 20 << 20]);
        from.read_exact_at(&mut expected, 0).unwrap();
        to.read_exact_at(&mut found, 1 << 20).unwrap();
        assert!(expected == found);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
