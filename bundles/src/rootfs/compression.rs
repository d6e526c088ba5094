//! Opens a tar archive for random access, decompressing it to an unnamed temporary file if it must.
//!
//! The form is told by the first bytes, never by the name. The temporary file has no name and is gone when the image that came from it is dropped, however the program ends.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::RootError;

const COPY_BUFFER_BYTES: usize = 256 * 1024;

// RFC 8878 section 3.1.1, RFC 1952 section 2.3.1, the .xz format 1.2 section 2.1.1.1, and bzip2's own documentation.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2_MAGIC: &[u8] = b"BZh";

/// Opens the archive at `path` as a plain tar file that can be read at any position. `temporary_directory` takes what has
/// to be decompressed.
pub(super) fn open_archive(path: &Path, temporary_directory: &Path) -> Result<File, RootError> {
    let read_error = |source| RootError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read_error)?;
    let mut head = Vec::with_capacity(XZ_MAGIC.len());
    Read::by_ref(&mut file)
        .take(XZ_MAGIC.len() as u64)
        .read_to_end(&mut head)
        .map_err(read_error)?;
    file.rewind().map_err(read_error)?;
    let not_read = |format| {
        Err(RootError::CompressionNotRead {
            path: path.to_owned(),
            format,
        })
    };
    if head.starts_with(ZSTD_MAGIC) {
        let decoder = zstd::stream::read::Decoder::new(file).map_err(read_error)?;
        decompress(path, temporary_directory, decoder)
    } else if head.starts_with(GZIP_MAGIC) {
        decompress(
            path,
            temporary_directory,
            MultiGzDecoder::new(io::BufReader::with_capacity(COPY_BUFFER_BYTES, file)),
        )
    } else if head.starts_with(XZ_MAGIC) {
        not_read("xz")
    } else if head.starts_with(BZIP2_MAGIC) {
        not_read("bzip2")
    } else {
        Ok(file)
    }
}

fn decompress(
    path: &Path,
    temporary_directory: &Path,
    mut decoder: impl Read,
) -> Result<File, RootError> {
    let temporary_error = |source| RootError::Temporary { source };
    let mut file = tempfile::tempfile_in(temporary_directory).map_err(temporary_error)?;
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => file
                .write_all(buffer.get(..count).unwrap_or_default())
                .map_err(temporary_error)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(RootError::Decompress {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
    file.rewind().map_err(temporary_error)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::test_archive::store;
    use super::*;

    fn open(bytes: &[u8]) -> Result<Vec<u8>, RootError> {
        let (directory, path) = store(bytes);
        let mut content = Vec::new();
        open_archive(&path, directory.path())?
            .read_to_end(&mut content)
            .unwrap();
        Ok(content)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_form_is_told_by_the_first_bytes() {
        let content = vec![7; 3 * COPY_BUFFER_BYTES + 5];
        assert_eq!(open(&content).unwrap(), content);
        assert_eq!(open(&gzip(&content)).unwrap(), content);
        assert_eq!(
            open(&zstd::encode_all(content.as_slice(), 1).unwrap()).unwrap(),
            content
        );
        // Several parts one after the other are one archive, as their own tools read them.
        assert_eq!(
            open(&[gzip(b"one"), gzip(b"two")].concat()).unwrap(),
            b"onetwo"
        );
        assert_eq!(open(b"").unwrap(), b"");
    }

    #[test]
    fn forms_that_are_not_read_are_named() {
        for (bytes, name) in [(XZ_MAGIC, "xz"), (b"BZh91AY".as_slice(), "bzip2")] {
            let error = open(bytes).unwrap_err();
            assert!(
                matches!(error, RootError::CompressionNotRead { format, .. } if format == name),
                "{error}"
            );
        }
    }

    #[test]
    fn a_damaged_compressed_archive_is_refused() {
        let whole = zstd::encode_all([1; 1000].as_slice(), 1).unwrap();
        let cut = &whole[..whole.len() - 3];
        assert!(matches!(open(cut), Err(RootError::Decompress { .. })));
        let whole = gzip(&[1; 1000]);
        assert!(matches!(
            open(&whole[..whole.len() - 3]),
            Err(RootError::Decompress { .. })
        ));
    }

    #[test]
    fn a_missing_temporary_directory_is_told() {
        let (directory, path) = store(&gzip(b"content"));
        let error = open_archive(&path, &directory.path().join("missing")).unwrap_err();
        assert!(matches!(error, RootError::Temporary { .. }), "{error}");
    }
}
