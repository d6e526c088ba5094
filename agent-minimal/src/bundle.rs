//! Where a bundle comes from: a file, which can seek, a pipe, which cannot, or a web server.

use crate::console::words_of;
use crate::files;
#[cfg(feature = "web")]
use crate::net::{NetProblem, Web};
use core::fmt;
use embedded_io::{ErrorKind, ErrorType, Read, Seek, SeekFrom};
use rustix::fd::OwnedFd;
use rustix::fs::{self as kernel, CWD, Mode, OFlags, fstat, openat};
use rustix::io::{self, Errno};
use twinseal_core::source::{Seekable, Source, SourceError, Stream};
use twinseal_platform_linux::standard;

/// A source of a bundle, and what may be asked of it. The installer takes it as `dyn Bundle`: its code stands in the program once,
/// whatever sources there are.
pub trait Bundle {
    /// As [`Source::read_at`].
    ///
    /// # Errors
    /// As there.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8])
    -> Result<(), SourceError<SourceProblem>>;

    /// As [`Source::ends_at`].
    ///
    /// # Errors
    /// As there.
    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<SourceProblem>>;

    /// Length of the bundle, when that is known before it is read.
    fn bytes(&self) -> Option<u64>;

    /// Whether reading what is not needed costs nothing.
    fn is_free_to_read(&self) -> bool;

    /// As [`Source::gives_twice`].
    fn gives_twice(&self) -> bool {
        false
    }

    /// Whether it can give again what it has passed, without sending everything before once more.
    fn can_go_back(&self) -> bool;
}

/// Why a source gives no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceProblem {
    /// The kernel says no.
    Kernel(Errno),
    /// The network does.
    #[cfg(feature = "web")]
    Net(NetProblem),
}

/// Whether a source is an address, and no path.
#[must_use]
pub fn is_address(source: &str) -> bool {
    let behind = source.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric());
    behind.starts_with("://")
}

/// A bundle in a file or a pipe.
pub struct LocalBundle(Reader);

enum Reader {
    File {
        bytes: u64,
        file: Seekable<Descriptor>,
    },
    Pipe(Stream<Descriptor>),
}

/// An open file, as core's readers take it.
struct Descriptor(OwnedFd);

/// What the kernel says, as core's readers take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSays(Errno);

impl LocalBundle {
    /// Opens a bundle by its path; `-` is standard input. Anything but a regular file is read as a pipe: forwards only.
    ///
    /// # Errors
    /// When it cannot be opened, or is a directory.
    pub fn open(path: &str) -> Result<Self, SourceProblem> {
        if path == "-" {
            let input = io::fcntl_dupfd_cloexec(standard::input(), 0);
            let input = input.map_err(SourceProblem::Kernel)?;
            return Ok(Self(Reader::Pipe(Stream::new(Descriptor(input)))));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty());
        Self::of(file.map_err(SourceProblem::Kernel)?)
    }

    /// A bundle in a file that is open.
    ///
    /// # Errors
    /// When it is a directory, or nothing can be said about it.
    pub fn of(file: OwnedFd) -> Result<Self, SourceProblem> {
        let about = fstat(&file).map_err(SourceProblem::Kernel)?;
        let kind = files::kind(&about);
        if kind.is_dir() {
            return Err(SourceProblem::Kernel(Errno::ISDIR));
        }
        let file = Descriptor(file);
        Ok(Self(match u64::try_from(about.st_size) {
            Ok(bytes) if kind.is_file() => Reader::File {
                bytes,
                file: Seekable(file),
            },
            _ => Reader::Pipe(Stream::new(file)),
        }))
    }
}

impl Bundle for LocalBundle {
    fn read_at(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), SourceError<SourceProblem>> {
        match &mut self.0 {
            Reader::File { file, .. } => file.read_at(offset, buffer),
            Reader::Pipe(pipe) => pipe.read_at(offset, buffer),
        }
        .map_err(problem)
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<SourceProblem>> {
        match &mut self.0 {
            Reader::File { file, .. } => file.ends_at(offset),
            Reader::Pipe(pipe) => pipe.ends_at(offset),
        }
        .map_err(problem)
    }

    fn bytes(&self) -> Option<u64> {
        match self.0 {
            Reader::File { bytes, .. } => Some(bytes),
            Reader::Pipe(_) => None,
        }
    }

    fn is_free_to_read(&self) -> bool {
        true
    }

    fn gives_twice(&self) -> bool {
        self.can_go_back()
    }

    fn can_go_back(&self) -> bool {
        matches!(self.0, Reader::File { .. })
    }
}

#[cfg(feature = "web")]
impl Bundle for Web<'_> {
    fn read_at(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), SourceError<SourceProblem>> {
        Source::read_at(self, offset, buffer).map_err(problem)
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<SourceProblem>> {
        Source::ends_at(self, offset).map_err(problem)
    }

    fn bytes(&self) -> Option<u64> {
        Web::bytes(self)
    }

    fn is_free_to_read(&self) -> bool {
        !self.has_ranges()
    }

    fn can_go_back(&self) -> bool {
        self.has_ranges()
    }
}

fn problem<E: Into<SourceProblem>>(error: SourceError<E>) -> SourceError<SourceProblem> {
    match error {
        SourceError::Ended => SourceError::Ended,
        SourceError::Source(error) => SourceError::Source(error.into()),
    }
}

impl ErrorType for Descriptor {
    type Error = KernelSays;
}

impl Read for Descriptor {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, KernelSays> {
        loop {
            match io::read(&self.0, &mut *buffer) {
                Err(Errno::INTR) => {}
                other => return other.map_err(KernelSays),
            }
        }
    }
}

impl Seek for Descriptor {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, KernelSays> {
        let to = match to {
            SeekFrom::Start(offset) => kernel::SeekFrom::Start(offset),
            SeekFrom::End(offset) => kernel::SeekFrom::End(offset),
            SeekFrom::Current(offset) => kernel::SeekFrom::Current(offset),
        };
        kernel::seek(&self.0, to).map_err(KernelSays)
    }
}

impl embedded_io::Error for KernelSays {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl core::error::Error for KernelSays {}

impl fmt::Display for KernelSays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        words_of(self.0).fmt(f)
    }
}

impl From<KernelSays> for SourceProblem {
    fn from(KernelSays(errno): KernelSays) -> Self {
        Self::Kernel(errno)
    }
}

#[cfg(feature = "web")]
impl From<NetProblem> for SourceProblem {
    fn from(problem: NetProblem) -> Self {
        Self::Net(problem)
    }
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(errno) => words_of(*errno).fmt(f),
            #[cfg(feature = "web")]
            Self::Net(problem) => problem.fmt(f),
        }
    }
}
