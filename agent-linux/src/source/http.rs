//! A bundle on a web server, read by ranges (RFC 9110, sections 13 and 14).
//!
//! Reads in a row go on with the running response. It is asked for in windows that double as long as reads follow each other, so
//! that jumping ahead wastes no more than was read before; a gap that is smaller than a request is read and dropped.
//! With a byte budget a window is as large as the read: nothing is fetched that was not asked for.
//!
//! # Invariants
//! - All bytes are of one bundle: every later request says which one is meant (`If-Range`), and another length or another
//!   validator ends the read. This saves bytes only: what is installed is authenticated anyway.
//! - What was read is never asked for again, except by a server without ranges, which gives no second chance.
//! - Every wait has an end: connecting, the first byte, and each read after it.

use super::socket::{Counter, Counting};
use crate::report::warn;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use twinseal_core::source::SourceError;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, Body, BodyReader};

/// First window of a row of reads: what a link of 64 kbit/s carries in eight seconds.
const WINDOW_MIN_BYTES: u64 = 64 * 1024;

/// Largest window.
const WINDOW_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Up to here a gap is read and dropped: about what a request and its answer take in headers.
const GAP_MAX_BYTES: u64 = 1024;

/// What may be waited for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a name and for a connection.
    pub connect: Duration,
    /// For the first byte of an answer, and for each read after it.
    pub idle: Duration,
    /// Before the first new try; doubled for each one after it.
    pub pause: Duration,
    /// New tries without a byte in between.
    pub tries: u32,
}

impl Default for Patience {
    /// For a cellular link that drops every few minutes.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            pause: Duration::from_secs(2),
            tries: 5,
        }
    }
}

/// Why a bundle on a web server cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpProblem {
    /// The address is `https:`, and this build has no TLS.
    NoTls,
    /// The server answered with a status that gives no bytes.
    Status(u16),
    /// Another bundle is at the address than when the read began.
    Changed,
    /// The connection was cut, and the server cannot go on in the middle.
    NoRanges,
    /// An answer does not fit the request.
    Answer,
}

impl fmt::Display for HttpProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTls => f.write_str(
                "this agent has no TLS, so it reads http: addresses only; the bundle's signatures protect it on any way",
            ),
            Self::Status(code) => write!(f, "the server answered with status {code}"),
            Self::Changed => f.write_str(
                "the bundle at this address was replaced while it was read; run the command again for the new one",
            ),
            Self::NoRanges => f.write_str(
                "the connection was cut, and the server has no ranges to go on with; run the command again, or use another server",
            ),
            Self::Answer => f.write_str("the server's answer does not fit the range that was asked for"),
        }
    }
}

impl std::error::Error for HttpProblem {}

impl From<HttpProblem> for io::Error {
    fn from(problem: HttpProblem) -> Self {
        Self::other(problem)
    }
}

/// What went over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that came in, headers included, above TCP.
    pub received_bytes: u64,
    /// Bytes that went out, headers included, above TCP.
    pub sent_bytes: u64,
    /// Requests.
    pub requests: u32,
    /// Of these, new tries after a cut.
    pub tries: u32,
}

/// A bundle on a web server.
pub struct Http {
    agent: Agent,
    url: String,
    patience: Patience,
    /// Ask for exactly what is read.
    exact: bool,
    counter: Arc<Counter>,
    requests: u32,
    tries: u32,
    about: Option<About>,
    /// The running answer.
    running: Option<Running>,
    window_bytes: u64,
    /// The read ended early: what was asked for lies past the end.
    ended: bool,
}

/// What the first answer said about the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
struct About {
    bytes: Option<u64>,
    /// A strong entity tag or a date, for `If-Range`.
    validator: Option<String>,
    ranges: bool,
}

struct Running {
    body: BodyReader<'static>,
    position: u64,
    /// Where the answer ends; unknown for a server that gives no length.
    end: Option<u64>,
}

impl Http {
    /// Opens a bundle: asks for its start.
    ///
    /// # Errors
    /// When the server cannot be reached within the patience, or gives no bytes.
    pub fn open(url: &str, exact: bool, patience: Patience) -> io::Result<Self> {
        let scheme = "http://";
        if !url
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        {
            return Err(HttpProblem::NoTls.into());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.idle))
            .timeout_per_read(Some(patience.idle))
            .user_agent(concat!("twinseal/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build();
        let counter = Arc::new(Counter::default());
        let connector = ().chain(TcpConnector::default()).chain(Counting(counter.clone()));
        let mut http = Self {
            agent: Agent::with_parts(config, connector, DefaultResolver::default()),
            url: url.to_owned(),
            patience,
            exact,
            counter,
            requests: 0,
            tries: 0,
            about: None,
            running: None,
            window_bytes: WINDOW_MIN_BYTES,
            ended: false,
        };
        let first_bytes = if exact { 512 } else { WINDOW_MIN_BYTES };
        http.persist(0, |http, _| http.request(0, first_bytes))?;
        Ok(http)
    }

    /// Length of the bundle, when the server says it.
    pub fn bytes(&self) -> Option<u64> {
        self.about.as_ref().and_then(|about| about.bytes)
    }

    /// Whether what is not asked for is not sent.
    pub fn has_ranges(&self) -> bool {
        self.about.as_ref().is_some_and(|about| about.ranges)
    }

    /// What went over the network.
    pub fn traffic(&self) -> Traffic {
        let (received_bytes, sent_bytes) = self.counter.bytes();
        Traffic {
            received_bytes,
            sent_bytes,
            requests: self.requests,
            tries: self.tries,
        }
    }

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// When the bundle ends before, or cannot be read.
    pub fn read_at(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), SourceError<io::Error>> {
        self.ended = false;
        let read = self.persist(offset, |http, done| http.read_on(offset, buffer, done));
        match read {
            Err(_) if self.ended => Err(SourceError::Ended),
            other => other.map_err(SourceError::Source),
        }
    }

    /// Whether the bundle ends at `offset`.
    ///
    /// # Errors
    /// When the server did not say its length and the read fails.
    pub fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<io::Error>> {
        if let Some(bytes) = self.bytes() {
            return Ok(bytes == offset);
        }
        match self.read_at(offset, &mut [0]) {
            Ok(()) => Ok(false),
            Err(SourceError::Ended) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Does `work`, and does it again after a pause as long as that may help. `work` is given how far it was and says so.
    fn persist(
        &mut self,
        offset: u64,
        mut work: impl FnMut(&mut Self, &mut usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut done, mut tried, mut pause) = (0, 0, self.patience.pause);
        loop {
            let before = done;
            let Err(error) = work(self, &mut done) else {
                return Ok(());
            };
            self.running = None;
            if done > before {
                (tried, pause) = (0, self.patience.pause);
            }
            if self.ended || !may_pass(&error) || tried >= self.patience.tries {
                return Err(error);
            }
            if self.about.as_ref().is_some_and(|about| !about.ranges) {
                return Err(HttpProblem::NoRanges.into());
            }
            warn(&format!(
                "The connection to {} failed at byte {}: {error}. It is tried again in {:.0} s.",
                self.url,
                offset + done as u64,
                pause.as_secs_f64()
            ));
            std::thread::sleep(pause);
            (tried, pause) = (tried + 1, pause * 2);
            self.tries += 1;
        }
    }

    /// Reads what is missing of `buffer`.
    fn read_on(&mut self, offset: u64, buffer: &mut [u8], done: &mut usize) -> io::Result<()> {
        while let Some(rest) = buffer.get_mut(*done..).filter(|rest| !rest.is_empty()) {
            let position = offset + *done as u64;
            self.go_to(position, rest.len() as u64)?;
            let Some(running) = &mut self.running else {
                return Err(HttpProblem::Answer.into());
            };
            let taken = running.body.read(rest)?;
            running.position += taken as u64;
            *done += taken;
            if taken == 0 {
                self.end_of_answer()?;
            }
        }
        Ok(())
    }

    /// An answer without further bytes: the end of a window, of the bundle, or of the connection.
    fn end_of_answer(&mut self) -> io::Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        match running.end {
            Some(end) if running.position < end => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(end) if self.bytes().is_none_or(|bytes| end < bytes) && self.has_ranges() => {
                Ok(())
            }
            _ => self.past_the_end(),
        }
    }

    fn past_the_end(&mut self) -> io::Result<()> {
        self.ended = true;
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Makes the running answer stand at `position`, with a new request when it must.
    fn go_to(&mut self, position: u64, wanted_bytes: u64) -> io::Result<()> {
        if self.bytes().is_some_and(|bytes| position >= bytes) {
            return self.past_the_end();
        }
        let ranges = self.has_ranges();
        let follows = self
            .running
            .as_ref()
            .and_then(|running| Some((position.checked_sub(running.position)?, running.end)));
        let reachable = follows.filter(|(gap, end)| {
            let inside = end.is_none_or(|end| position < end);
            !ranges || (inside && *gap <= GAP_MAX_BYTES)
        });
        match reachable {
            Some((0, _)) => Ok(()),
            Some((gap, _)) => self.drop_bytes(gap),
            None => {
                let in_a_row = follows.is_some_and(|(gap, _)| gap <= GAP_MAX_BYTES);
                self.window_bytes = match (self.exact, in_a_row) {
                    (true, _) => wanted_bytes,
                    (false, true) => (self.window_bytes * 2).min(WINDOW_MAX_BYTES),
                    (false, false) => WINDOW_MIN_BYTES,
                };
                self.request(position, self.window_bytes.max(wanted_bytes))
            }
        }
    }

    fn drop_bytes(&mut self, gap: u64) -> io::Result<()> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let dropped = io::copy(&mut running.body.by_ref().take(gap), &mut io::sink())?;
        running.position += dropped;
        if dropped < gap {
            return match running.end {
                Some(end) if running.position < end => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => self.past_the_end(),
            };
        }
        Ok(())
    }

    /// Asks for a range; the answer becomes the running one.
    fn request(&mut self, position: u64, window_bytes: u64) -> io::Result<()> {
        self.leave_answer();
        self.requests += 1;
        let last = position.saturating_add(window_bytes).saturating_sub(1);
        let mut request = self
            .agent
            .get(&self.url)
            .header(header::RANGE, format!("bytes={position}-{last}"));
        if let Some(validator) = self
            .about
            .as_ref()
            .and_then(|about| about.validator.as_ref())
        {
            request = request.header(header::IF_RANGE, validator);
        }
        let answer = request.call().map_err(ureq::Error::into_io)?;
        self.take(position, last, answer)
    }

    /// A connection whose answer is read to its end serves the next request; one that still carries much is closed with it.
    fn leave_answer(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let left = running.end.map(|end| end.saturating_sub(running.position));
        if left.is_some_and(|left| left <= GAP_MAX_BYTES) {
            // What goes wrong here goes wrong with an answer that nobody needs.
            let _ = io::copy(&mut running.body, &mut io::sink());
        }
    }

    fn take(&mut self, position: u64, last: u64, answer: Response<Body>) -> io::Result<()> {
        let status = answer.status();
        let headers = answer.headers();
        let (start, end, bytes, ranges) = match status {
            StatusCode::PARTIAL_CONTENT => {
                let range = content_range(headers)
                    .filter(|range| !self.exact || range.end <= last.saturating_add(1))
                    .ok_or(HttpProblem::Answer)?;
                (range.start, Some(range.end), range.bytes, true)
            }
            StatusCode::OK => {
                let bytes = number(headers, header::CONTENT_LENGTH);
                (0, bytes, bytes, false)
            }
            // Nothing is there: the bundle ends before, or is empty.
            StatusCode::RANGE_NOT_SATISFIABLE if self.about.is_some() || position == 0 => {
                return self.past_the_end();
            }
            other => return Err(HttpProblem::Status(other.as_u16()).into()),
        };
        let about = About {
            bytes,
            validator: validator(headers),
            ranges,
        };
        match &self.about {
            None => self.about = Some(about),
            Some(before) if before.ranges && !ranges => return Err(HttpProblem::Changed.into()),
            Some(before) if before.differs(&about) => return Err(HttpProblem::Changed.into()),
            Some(_) => {}
        }
        if start != position {
            return Err(HttpProblem::Answer.into());
        }
        let body = answer.into_body().into_reader();
        self.running = Some(Running {
            body,
            position,
            end,
        });
        Ok(())
    }
}

impl About {
    /// Whether it is another bundle; what only one of them says does not count.
    fn differs(&self, other: &Self) -> bool {
        let bytes = self
            .bytes
            .zip(other.bytes)
            .is_some_and(|(one, two)| one != two);
        let validator = self.validator.as_ref().zip(other.validator.as_ref());
        bytes || validator.is_some_and(|(one, two)| one != two)
    }
}

struct ContentRange {
    start: u64,
    end: u64,
    bytes: Option<u64>,
}

/// `bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4); the length may be `*`. One without a byte would be asked for without end.
fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, bytes) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let start = first.trim().parse().ok()?;
    let last = last
        .trim()
        .parse::<u64>()
        .ok()
        .filter(|last| *last >= start)?;
    Some(ContentRange {
        start,
        end: last.checked_add(1)?,
        bytes: bytes.trim().parse().ok(),
    })
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// A weak entity tag may not be used for ranges (RFC 9110, section 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(header::ETAG)
        .filter(|tag: &String| tag.starts_with('"'))
        .or_else(|| text(header::LAST_MODIFIED))
}

/// Whether the same request may succeed later: everything but an answer that says no.
fn may_pass(error: &io::Error) -> bool {
    match problem_of(error) {
        Some(HttpProblem::Status(code)) => *code == 429 || *code >= 500,
        Some(_) => false,
        None => !matches!(
            error.get_ref().and_then(|inner| inner.downcast_ref()),
            Some(
                ureq::Error::BadUri(_)
                    | ureq::Error::TooManyRedirects
                    | ureq::Error::RedirectFailed
            )
        ),
    }
}

/// The problem that an error stands for.
pub fn problem_of(error: &io::Error) -> Option<&HttpProblem> {
    error.get_ref()?.downcast_ref()
}
