//! A bundle on a web server, by ranges of HTTP/1.1, as a source for core's installer.
//!
//! # Invariants
//! - What an answer says is compared with what was asked: status, range, length. Nothing else of it is believed.
//! - A bundle that changed at its address is told from one that is damaged: length and entity tag stay those of the first answer.

use crate::network::{Network, NetworkError};
use core::fmt::Write;
use heapless::{String, Vec};
use smoltcp::wire::Ipv4Address;
use twinseal_core::source::{Source, SourceError};

/// Longest head of an answer. Stops a server from sending header lines for ever.
const HEAD_MAX_BYTES: usize = 2048;

/// Most header lines. Real servers send about ten.
const HEADER_LINES_MAX: usize = 32;

/// Longest entity tag that is remembered; a longer one is as none.
const TAG_MAX_BYTES: usize = 96;

/// How often a request is made before the server counts as out of reach.
const TRIES: u32 = 6;

/// Time before a request is made again, in ms, for each time that it failed.
const PAUSE_MS: u64 = 500;

/// Longest request.
const REQUEST_MAX_BYTES: usize = 256;

/// Why the bundle could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum FetchError {
    /// The network failed.
    Network(NetworkError),
    /// The server answers with another status than "partial content".
    Status(u16),
    /// The server sends the whole file for a range.
    NoRanges,
    /// The answer cannot be read, or is for another range.
    Answer,
    /// Another file is at the address now.
    Changed,
}

impl FetchError {
    /// Whether asking again may help.
    fn may_pass(self) -> bool {
        match self {
            Self::Network(NetworkError::NoController | NetworkError::NoAddress) => false,
            Self::Network(_) | Self::Answer => true,
            Self::Status(status) => status >= 500,
            Self::NoRanges | Self::Changed => false,
        }
    }
}

impl From<NetworkError> for FetchError {
    fn from(error: NetworkError) -> Self {
        Self::Network(error)
    }
}

/// What the first answer said of the file.
#[derive(Clone, PartialEq, Eq)]
struct File {
    bytes: u64,
    tag: String<TAG_MAX_BYTES>,
}

/// A bundle at an address.
pub struct Bundle<'n> {
    network: &'n mut Network,
    server: Ipv4Address,
    path: &'static str,
    file: Option<File>,
}

impl<'n> Bundle<'n> {
    /// The bundle at `http://SERVER/PATH`. Nothing is asked for yet.
    pub const fn new(network: &'n mut Network, server: Ipv4Address, path: &'static str) -> Self {
        Self {
            network,
            server,
            path,
            file: None,
        }
    }

    fn fetch(&mut self, offset: u64, into: &mut [u8]) -> Result<(), SourceError<FetchError>> {
        let mut failed = 0;
        loop {
            let error = match self.fetch_once(offset, into) {
                Ok(()) => return Ok(()),
                Err(SourceError::Source(error)) => error,
                Err(SourceError::Ended) => return Err(SourceError::Ended),
            };
            self.network.close();
            failed += 1;
            if failed == TRIES || !error.may_pass() {
                return Err(SourceError::Source(error));
            }
            defmt::debug!("source: {}, asked again", error);
            self.network.pause(PAUSE_MS * u64::from(failed));
        }
    }

    fn fetch_once(&mut self, offset: u64, into: &mut [u8]) -> Result<(), SourceError<FetchError>> {
        let end = offset + into.len() as u64;
        if self.file.as_ref().is_some_and(|file| file.bytes < end) {
            return Err(SourceError::Ended);
        }
        let failed = |error: NetworkError| SourceError::Source(error.into());
        if !self.network.is_connected() {
            self.network.connect(self.server, 80).map_err(failed)?;
        }
        let mut request = String::<REQUEST_MAX_BYTES>::new();
        let (path, server, last) = (self.path, self.server, end - 1);
        write!(
            request,
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nRange: bytes={offset}-{last}\r\n\r\n"
        )
        .map_err(|_| SourceError::Source(FetchError::Answer))?;
        self.network.send(request.as_bytes()).map_err(failed)?;
        let head = self.head().map_err(SourceError::Source)?;
        let answer = Answer::parse(&head).map_err(SourceError::Source)?;
        let file = answer.file(offset, end)?;
        if *self.file.get_or_insert_with(|| file.clone()) != file {
            return Err(SourceError::Source(FetchError::Changed));
        }
        self.body(into).map_err(failed)?;
        if answer.closes {
            self.network.close();
        }
        Ok(())
    }

    /// The head of the answer, up to its empty line and no byte more.
    fn head(&mut self) -> Result<Vec<u8, HEAD_MAX_BYTES>, FetchError> {
        let mut head = Vec::<u8, HEAD_MAX_BYTES>::new();
        loop {
            let done = self.network.receive(|bytes| {
                for (taken, byte) in (1..).zip(bytes) {
                    if head.push(*byte).is_err() {
                        return (taken, Some(Err(FetchError::Answer)));
                    }
                    if head.ends_with(b"\r\n\r\n") {
                        return (taken, Some(Ok(())));
                    }
                }
                (bytes.len(), None)
            })?;
            if let Some(done) = done {
                return done.map(|()| head);
            }
        }
    }

    fn body(&mut self, into: &mut [u8]) -> Result<(), NetworkError> {
        let mut filled = 0;
        while filled < into.len() {
            let room = into.get_mut(filled..).unwrap_or_default();
            filled += self.network.receive(|bytes| {
                let taken = bytes.len().min(room.len());
                room.iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to = *from);
                (taken, taken)
            })?;
        }
        Ok(())
    }
}

/// The head of an answer.
struct Answer<'h> {
    status: u16,
    /// `Content-Range`: first byte, last byte, bytes of the file.
    range: Option<(u64, u64, u64)>,
    bytes: Option<u64>,
    tag: &'h [u8],
    closes: bool,
}

impl<'h> Answer<'h> {
    fn parse(head: &'h [u8]) -> Result<Self, FetchError> {
        let mut lines = [httparse::EMPTY_HEADER; HEADER_LINES_MAX];
        let mut response = httparse::Response::new(&mut lines);
        response.parse(head).map_err(|_| FetchError::Answer)?;
        let status = response.code.ok_or(FetchError::Answer)?;
        let mut answer = Self {
            status,
            range: None,
            bytes: None,
            tag: b"",
            closes: response.version == Some(0),
        };
        for line in response.headers.iter() {
            let is = |name: &str| line.name.eq_ignore_ascii_case(name);
            if is("Content-Range") {
                answer.range = content_range(line.value);
            } else if is("Content-Length") {
                answer.bytes = number(line.value);
            } else if is("ETag") {
                answer.tag = line.value;
            } else if is("Connection") {
                answer.closes |= line.value.eq_ignore_ascii_case(b"close");
            }
        }
        Ok(answer)
    }

    /// What the answer says of the file, when it is one to this request.
    fn file(&self, offset: u64, end: u64) -> Result<File, SourceError<FetchError>> {
        match self.status {
            206 => {}
            200 => return Err(SourceError::Source(FetchError::NoRanges)),
            416 => return Err(SourceError::Ended),
            status => return Err(SourceError::Source(FetchError::Status(status))),
        }
        let wrong = SourceError::Source(FetchError::Answer);
        let (first, last, bytes) = self.range.ok_or(wrong)?;
        if bytes < end {
            return Err(SourceError::Ended);
        }
        if first != offset || last.checked_add(1) != Some(end) || self.bytes != Some(end - offset) {
            return Err(wrong);
        }
        let tag = core::str::from_utf8(self.tag).unwrap_or_default();
        Ok(File {
            bytes,
            tag: String::try_from(tag).unwrap_or_default(),
        })
    }
}

/// `bytes FIRST-LAST/ALL`.
fn content_range(value: &[u8]) -> Option<(u64, u64, u64)> {
    let value = core::str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
    let (range, all) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, all.parse().ok()?))
}

fn number(value: &[u8]) -> Option<u64> {
    core::str::from_utf8(value).ok()?.trim().parse().ok()
}

impl Source for Bundle<'_> {
    type Error = FetchError;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<FetchError>> {
        self.fetch(offset, buffer)
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<FetchError>> {
        if self.file.is_none() {
            self.fetch(0, &mut [0])?;
        }
        Ok(self.file.as_ref().is_some_and(|file| file.bytes == offset))
    }
}
