//! Where the bytes of a file lie until a bundle is written, and how to read them again.
//!
//! # Invariants
//! - Reading gives exactly the bytes that were measured, or an error: a file whose size changed is refused when it is
//!   opened, one that ends early when it is read.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::RootError;

/// Where the bytes of an object lie in the input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A regular file, as a path relative to the input directory.
    File {
        /// The path.
        path: PathBuf,
    },
    /// A range of the tar archive after decompression.
    Archive {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// Content of one of several inputs that lie over each other.
    Layer {
        /// Which, from 0 for the lowest.
        layer: usize,
        /// Where it lies there.
        content: Box<Content>,
    },
}

/// The input that [`Content`] points into. It keeps a decompressed archive alive.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The input directory.
    Directory(PathBuf),
    /// The tar archive: the input itself, or its decompressed form in an unnamed temporary file.
    Archive {
        /// The open archive.
        file: File,
        /// The name that it was given by.
        path: PathBuf,
    },
    /// Several inputs, the lowest first.
    Layers(Vec<Origin>),
}

impl Origin {
    /// The name of `content` for messages.
    pub(crate) fn name<'a>(&'a self, content: &'a Content) -> &'a Path {
        match (content, self) {
            (Content::File { path }, _) => path,
            (Content::Archive { .. }, Self::Archive { path, .. } | Self::Directory(path)) => path,
            (Content::Layer { layer, content }, Self::Layers(origins)) => origins
                .get(*layer)
                .map_or(Path::new("overlay"), |origin| origin.name(content)),
            // No reader makes such a pair; `open` refuses it.
            (Content::Archive { .. }, Self::Layers(_)) | (Content::Layer { .. }, _) => {
                Path::new("overlay")
            }
        }
    }

    /// Opens `content`, which has `size` bytes.
    ///
    /// # Errors
    /// [`RootError::Changed`] if the file has another size now or does not belong to this input, [`RootError::Read`] if
    /// it cannot be opened.
    pub(crate) fn open<'a>(
        &'a self,
        content: &Content,
        size: u64,
    ) -> Result<ContentReader<'a>, RootError> {
        match (content, self) {
            (Content::File { path }, Self::Directory(root)) => {
                let file = open_file(&root.join(path)).map_err(|source| RootError::Read {
                    path: path.clone(),
                    source,
                })?;
                let length = file
                    .metadata()
                    .map_err(|source| RootError::Read {
                        path: path.clone(),
                        source,
                    })?
                    .len();
                if length != size {
                    return Err(RootError::Changed { path: path.clone() });
                }
                Ok(ContentReader {
                    handle: Handle::Owned(file),
                    position: 0,
                    remaining: size,
                })
            }
            (Content::Archive { offset, length }, Self::Archive { file, .. })
                if *length == size =>
            {
                Ok(ContentReader {
                    handle: Handle::Shared(file),
                    position: *offset,
                    remaining: size,
                })
            }
            (Content::Layer { layer, content }, Self::Layers(origins)) => origins
                .get(*layer)
                .ok_or_else(|| RootError::Changed {
                    path: self.name(content).to_owned(),
                })?
                .open(content, size),
            _ => Err(RootError::Changed {
                path: self.name(content).to_owned(),
            }),
        }
    }

    /// The whole of `content`, for files that are small by rule.
    ///
    /// # Errors
    /// As [`Origin::open`].
    pub(crate) fn read(&self, content: &Content, size: u64) -> Result<Vec<u8>, RootError> {
        let mut bytes = Vec::new();
        let read = self.open(content, size)?.read_to_end(&mut bytes);
        read.map_err(|source| self.read_error(content, source))?;
        Ok(bytes)
    }

    /// What a failed read of `content` means.
    pub(crate) fn read_error(&self, content: &Content, source: io::Error) -> RootError {
        let path = self.name(content).to_owned();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => RootError::Changed { path },
            _ => RootError::Read { path, source },
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // NONBLOCK: a file that was replaced by a pipe must not make a build wait for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

#[derive(Debug)]
enum Handle<'a> {
    Owned(File),
    Shared(&'a File),
}

/// Reads one range by position, so that several threads can share one archive.
#[derive(Debug)]
pub(crate) struct ContentReader<'a> {
    handle: Handle<'a>,
    position: u64,
    remaining: u64,
}

impl ContentReader<'_> {
    /// Bytes that are still to come.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let file = match &self.handle {
            Handle::Owned(file) => file,
            Handle::Shared(file) => file,
        };
        let count = file.read_at(buffer, self.position)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.remaining -= count as u64;
        Ok(count)
    }
}
