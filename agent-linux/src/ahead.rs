//! Reading ahead: while core writes a piece of the bundle, the next ones are read and hashed by the crew.
//!
//! # Invariants
//! - Only what core says it will ask for is read ahead, and only of a regular file: an install reads no more than its plan.
//! - What core gets is what stands at the place that it asked for, with the hashes of those very bytes; what was read for
//!   another place is dropped.
//!
//! # Memory
//! `PIECES` buffers of the longest range, made when they are first needed.

use crate::crew::{Crew, PageBuffer};
use crate::source::Bundle;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use twinseal_core::install::Request;
use twinseal_core::source::{Source, SourceError};
use twinseal_core::verify::hashed::{Hashed, HashedBytes};
use twinseal_core::wire::RANGE_MAX_BYTES;

/// Pieces on their way: one for each of two threads, one that is written, and some so that nobody waits.
const PIECES: usize = 5;

/// Shorter ranges are not worth handing over.
const PIECE_MIN_BYTES: u32 = 128 * 1024;

type Read = (PageBuffer, io::Result<()>);

/// A piece that the crew is reading.
struct Waiting {
    offset: u64,
    bytes: u32,
    hashed: Receiver<Result<Hashed<PageBuffer>, Read>>,
}

/// A bundle that is read ahead where that is possible.
pub struct AheadSource<'b, 'j> {
    bundle: &'b mut Bundle,
    /// The bundle once more, when it is a regular file.
    file: Option<Arc<File>>,
    crew: &'b Crew<'j>,
    waiting: VecDeque<Waiting>,
    /// What core is looking at.
    current: Option<Hashed<PageBuffer>>,
    spare: Vec<PageBuffer>,
    /// Buffers that were made.
    buffers: usize,
    /// End and length of the last request: reading ahead begins when the next one looks the same.
    last: Option<(u64, u32)>,
}

impl<'b, 'j> AheadSource<'b, 'j> {
    /// Around a bundle.
    pub fn new(bundle: &'b mut Bundle, crew: &'b Crew<'j>) -> Self {
        let file = if crew.is_empty() {
            None
        } else {
            bundle.second_reader().map(Arc::new)
        };
        Self {
            bundle,
            file,
            crew,
            waiting: VecDeque::new(),
            current: None,
            spare: Vec::new(),
            buffers: 0,
            last: None,
        }
    }

    /// Has the crew read what comes after `request`, as far as there are buffers.
    fn read_on(&mut self, file: &Arc<File>, request: &Request) {
        let end = request.offset + u64::from(request.bytes);
        let last = self.waiting.back();
        let mut offset = last.map_or(end, |last| last.offset + u64::from(last.bytes));
        let ahead_end = end + request.ahead.bytes;
        while offset < ahead_end {
            let Some(mut buffer) = self.buffer() else {
                return;
            };
            let bytes = u64::from(request.bytes).min(ahead_end - offset) as u32;
            let (file, trees) = (Arc::clone(file), request.ahead.trees);
            let hashed = self.crew.start(move || {
                match file.read_exact_at(buffer.resize(bytes as usize), offset) {
                    Ok(()) => Ok(Hashed::new(buffer, trees)),
                    Err(error) => Err((buffer, Err(error))),
                }
            });
            self.waiting.push_back(Waiting {
                offset,
                bytes,
                hashed,
            });
            offset += u64::from(bytes);
        }
    }

    fn buffer(&mut self) -> Option<PageBuffer> {
        self.spare.pop().or_else(|| {
            (self.buffers < PIECES).then(|| {
                self.buffers += 1;
                PageBuffer::new(RANGE_MAX_BYTES as usize)
            })
        })
    }

    /// The next piece when it is the one that is asked for; what was read for another place is dropped.
    fn next(&mut self, request: &Request) -> Result<bool, SourceError<io::Error>> {
        let current = self.current.take().map(Hashed::into_bytes);
        self.spare.extend(current);
        while let Some(piece) = self.waiting.pop_front() {
            let wanted = (piece.offset, piece.bytes) == (request.offset, request.bytes);
            match piece.hashed.recv() {
                Ok(Ok(hashed)) if wanted => {
                    self.current = Some(hashed);
                    return Ok(true);
                }
                Ok(Ok(hashed)) => self.spare.push(hashed.into_bytes()),
                Ok(Err((buffer, read))) => {
                    self.spare.push(buffer);
                    if let (true, Err(error)) = (wanted, read) {
                        return Err(source_error(error));
                    }
                }
                // Nobody there to do it, and the buffer is gone.
                Err(_) => self.buffers = self.buffers.saturating_sub(1),
            }
        }
        Ok(false)
    }
}

fn source_error(error: io::Error) -> SourceError<io::Error> {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => SourceError::Ended,
        _ => SourceError::Source(error),
    }
}

impl Source for AheadSource<'_, '_> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<io::Error>> {
        self.bundle.read_at(offset, buffer)
    }

    fn read_hashed(
        &mut self,
        request: &Request,
    ) -> Result<Option<HashedBytes<'_>>, SourceError<io::Error>> {
        if let Some(web) = self.bundle.web() {
            web.borrow_mut().expect(request);
        }
        let there = self.next(request)?;
        let goes_on = self.last == Some((request.offset, request.bytes));
        self.last = Some((request.offset + u64::from(request.bytes), request.bytes));
        if let Some(file) = self.file.clone()
            && request.bytes >= PIECE_MIN_BYTES
            && (there || goes_on)
        {
            self.read_on(&file, request);
        }
        Ok(self.current.as_ref().map(Hashed::view))
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<io::Error>> {
        self.bundle.ends_at(offset)
    }
}
