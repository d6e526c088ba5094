//! Where a bundle comes from, and the loop that feeds an installer from it.
//!
//! Any `embedded_io` reader is a source: with [`Seek`] through [`Seekable`], without it through [`Stream`].

use crate::error::{Error, Misuse};
use crate::install::{Again, GaveNone, Installer, Need, Plan, Request, TWICE_BUFFER_BYTES};
use crate::storage::Storage;
use crate::verify::hashed::HashedBytes;
use embedded_io::{Read, ReadExactError, Seek, SeekFrom};

/// A blocking source of a bundle's bytes.
pub trait Source {
    /// What can go wrong with the source itself.
    type Error;

    /// Reads exactly `buffer.len()` bytes at `offset` of the bundle. Offsets ascend.
    ///
    /// # Errors
    /// [`SourceError::Ended`] when the source ends before; whatever else goes wrong as [`SourceError::Source`].
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<Self::Error>>;

    /// The bytes of a request with their hashes, from a source that reads and hashes ahead; `None` when
    /// [`read_at`](Self::read_at) shall read them.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    fn read_hashed(
        &mut self,
        request: &Request,
    ) -> Result<Option<HashedBytes<'_>>, SourceError<Self::Error>> {
        let _ = request;
        Ok(None)
    }

    /// Whether reading the same bytes once more costs next to nothing. Then a request that is longer than [`TWICE_BUFFER_BYTES`] is
    /// read twice, through so much of the buffer, and the rest of the buffer is not touched.
    fn gives_twice(&self) -> bool {
        false
    }

    /// Whether the source ends at `offset`.
    ///
    /// # Errors
    /// Whatever goes wrong with the source.
    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<Self::Error>>;
}

/// Why a source gave no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceError<E> {
    /// It ended.
    Ended,
    /// It failed.
    Source(E),
}

/// Why [`run`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunError<E> {
    /// Core refused or the device failed.
    Core(Error),
    /// The source failed; what was written stays, and the next run goes on from there.
    Source(E),
    /// The caller said no to the plan.
    Declined,
}

impl<E> From<Error> for RunError<E> {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

/// Feeds `installer` from `source` through `buffer` until it has finished. `decide` sees the plan, before anything is written.
///
/// # Errors
/// [`RunError`] says whose fault it was.
pub fn run<R, S, D>(
    installer: &mut Installer<'_>,
    source: &mut R,
    storage: &mut S,
    buffer: &mut [u8],
    mut decide: D,
) -> Result<(), RunError<R::Error>>
where
    R: Source,
    S: Storage,
    D: FnMut(&Installer<'_>, &Plan) -> bool,
{
    loop {
        match installer.need()? {
            Need::Bytes(request) => supply(installer, source, storage, buffer, &request)?,
            Need::End { offset } => match source.ends_at(offset) {
                Ok(at_end) => installer.feed_end(at_end)?,
                Err(SourceError::Ended) => return Err(installer.feed_truncated().into()),
                Err(SourceError::Source(error)) => return Err(RunError::Source(error)),
            },
            Need::Decision(plan) if decide(installer, &plan) => installer.accept(storage)?,
            Need::Decision(_) => return Err(RunError::Declined),
            Need::Work => installer.work(storage)?,
            Need::Finished => return Ok(()),
        }
    }
}

/// Gets the bytes of a request, hashed ahead or read now, and feeds them.
fn supply<R: Source, S: Storage>(
    installer: &mut Installer<'_>,
    source: &mut R,
    storage: &mut S,
    buffer: &mut [u8],
    request: &Request,
) -> Result<(), RunError<R::Error>> {
    let twice = request.bytes as usize > TWICE_BUFFER_BYTES && source.gives_twice();
    let missing = match source.read_hashed(request) {
        Ok(Some(hashed)) => return Ok(installer.feed_hashed(hashed, storage)?),
        Ok(None) if twice => {
            let mut requested = Requested {
                source,
                offset: request.offset,
                missing: None,
            };
            let piece = buffer.get_mut(..TWICE_BUFFER_BYTES).unwrap_or(&mut []);
            let fed = installer.feed_twice(&mut requested, piece, storage);
            match requested.missing {
                None => return Ok(fed?),
                Some(missing) => missing,
            }
        }
        Ok(None) => {
            let bytes = buffer
                .get_mut(..request.bytes as usize)
                .ok_or(Error::Misuse(Misuse::WorkspaceTooSmall))?;
            match source.read_at(request.offset, bytes) {
                Ok(()) => return Ok(installer.feed(bytes, storage)?),
                Err(missing) => missing,
            }
        }
        Err(missing) => missing,
    };
    Err(match missing {
        SourceError::Ended => installer.feed_truncated().into(),
        SourceError::Source(error) => RunError::Source(error),
    })
}

/// The bytes of one request, read as often as they are asked for.
struct Requested<'r, R: Source> {
    source: &'r mut R,
    offset: u64,
    missing: Option<SourceError<R::Error>>,
}

impl<R: Source> Again for Requested<'_, R> {
    fn read(&mut self, offset: usize, buffer: &mut [u8]) -> Result<(), GaveNone> {
        let read = self.source.read_at(self.offset + offset as u64, buffer);
        read.map_err(|missing| {
            self.missing = Some(missing);
            GaveNone
        })
    }
}

/// A source that can seek: what is not needed is not read.
pub struct Seekable<R>(pub R);

impl<R: Read + Seek> Source for Seekable<R> {
    type Error = R::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<R::Error>> {
        self.0
            .seek(SeekFrom::Start(offset))
            .map_err(SourceError::Source)?;
        read_exact(&mut self.0, buffer)
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<R::Error>> {
        let end = self.0.seek(SeekFrom::End(0)).map_err(SourceError::Source)?;
        Ok(end == offset)
    }
}

/// A source that only goes forward, a pipe for example: what is not needed is read and dropped.
pub struct Stream<R> {
    reader: R,
    position: u64,
}

impl<R: Read> Stream<R> {
    /// A stream that stands at the first byte of the bundle.
    pub const fn new(reader: R) -> Self {
        Self {
            reader,
            position: 0,
        }
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), SourceError<R::Error>> {
        let mut dropped = [0; 4096];
        while self.position < offset {
            let left = usize::try_from(offset - self.position)
                .unwrap_or(dropped.len())
                .min(dropped.len());
            let room = dropped.get_mut(..left).unwrap_or(&mut []);
            let taken = self.reader.read(room).map_err(SourceError::Source)?;
            if taken == 0 {
                return Err(SourceError::Ended);
            }
            self.position += taken as u64;
        }
        Ok(())
    }
}

impl<R: Read> Source for Stream<R> {
    type Error = R::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<R::Error>> {
        self.skip_to(offset)?;
        read_exact(&mut self.reader, buffer)?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<R::Error>> {
        self.skip_to(offset)?;
        let taken = self.reader.read(&mut [0]).map_err(SourceError::Source)?;
        Ok(taken == 0)
    }
}

fn read_exact<R: Read>(reader: &mut R, buffer: &mut [u8]) -> Result<(), SourceError<R::Error>> {
    reader.read_exact(buffer).map_err(|error| match error {
        ReadExactError::UnexpectedEof => SourceError::Ended,
        ReadExactError::Other(error) => SourceError::Source(error),
    })
}
