//! A bundle on a web server, read by ranges (RFC 9110, sections 13 and 14).
//!
//! First it is asked what is there (`HEAD`): its length, its validator, and whether the server has ranges. Then a range is asked for
//! that is as long as what is surely needed ([`Http::expect`]), in windows; reads in a row go on with the running answer, and a gap
//! that is smaller than a request is read and dropped.
//!
//! # Invariants
//! - All bytes are of one bundle: every later request says which one is meant (`If-Range`), and another length
//!   ends the read. This saves bytes only: what is installed is authenticated anyway.
//! - Several servers behind one address may name the same file differently. Where another name comes with the same length, names
//!   count no more, and the bundle's digests alone decide.
//! - Nothing is asked for that was not said to be needed, apart from the first `FIRST_BYTES`.
//! - What was read is never asked for again, except of a server without ranges, which gives no second chance. Of a range that takes
//!   several requests each answer is kept in the spool, so this holds for later runs, too.
//! - Every request fits the budget before it is sent; what its answer may have brought unread is spent.
//! - Every wait has an end: connecting, the first byte, and each read after it.

mod answer;
mod cost;
mod forward;
mod names;
mod problem;
mod proxy;
mod redirect;
mod retry;
mod route;
mod setup;
mod window;

pub use cost::Traffic;
pub use problem::{HttpProblem, budget_problem_of, closed_of, problem_of};
pub use retry::Patience;
pub use route::Ways;
pub use setup::SetupProblem;

use super::account::Account;
use super::spool::Spool;
use answer::{About, content_range, length, validator};
use route::Route;
use std::io::{self, Read};
use std::ops::Range;
use std::time::{Duration, Instant};
use twinseal_core::install::{Purpose, RUN_GAP_BYTES, Request};
use twinseal_core::source::SourceError;
use twinseal_core::wire::digest::Sha256Digest;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::{Body, BodyReader};
use window::Window;

/// The first range: front matter is mostly shorter.
const FIRST_BYTES: u64 = 4096;

/// An answer of which no more is left is read to its end, so that its connection serves the next request.
const REST_MAX_BYTES: u64 = 8 * 1024;

/// What a request and its answer take in headers, before one was seen.
const HEADS_BYTES: u64 = 2048;

/// So much longer than expected headers may be.
const SLACK_BYTES: u64 = 512;

/// A bundle on a web server.
pub struct Http {
    /// The address that somebody gave.
    given: Uri,
    ways: Ways,
    /// Where it is asked for.
    route: Route,
    patience: Patience,
    /// Whether a connection serves more than one request.
    reuses: bool,
    account: Account,
    spool: Option<Spool>,
    requests: u32,
    tries: u32,
    about: Option<About>,
    /// Whether there was an answer with bytes.
    has_answered: bool,
    /// The running answer.
    running: Option<Running>,
    /// What will be needed, as far as it is known.
    run: Range<u64>,
    is_index: bool,
    /// What the index cost, headers included.
    index_bytes: u64,
    /// What had been spent before the running request for the index.
    index_from: Option<u64>,
    window: Window,
    /// When the last answer began: how far away a server is says nothing about the link.
    answered: Instant,
    /// What a request and its answer take in headers, at most.
    heads_bytes: u64,
    /// What making a connection takes, at most.
    handshake_bytes: u64,
    /// After how long a busy server wants to be asked again.
    retry_after: Option<Duration>,
    /// The read ended early: what was asked for lies past the end.
    ended: bool,
}

struct Running {
    body: BodyReader<'static>,
    position: u64,
    /// Where the answer ends; unknown for a server that gives no length.
    end: Option<u64>,
}

impl Http {
    /// Opens a bundle: asks what is there, then for its start. `is_metered` says that bytes count, or that something went wrong before.
    ///
    /// # Errors
    /// When the server cannot be reached within the patience, gives no bytes, or would give more than the account allows.
    pub fn open(
        url: &str,
        ways: Ways,
        is_metered: bool,
        patience: Patience,
        account: Account,
    ) -> io::Result<Self> {
        let given: Uri = url.parse().map_err(|_| HttpProblem::Address)?;
        let route = Route::new(
            given.clone(),
            &given,
            &ways,
            &patience,
            true,
            account.line(),
        )?;
        let is_metered = is_metered || account.limit().is_some() || account.line().is_paced();
        let mut http = Self {
            handshake_bytes: route.handshake_bytes(),
            given,
            ways,
            route,
            patience,
            reuses: true,
            account,
            spool: None,
            requests: 0,
            tries: 0,
            about: None,
            has_answered: false,
            running: None,
            run: 0..FIRST_BYTES,
            is_index: false,
            index_bytes: 0,
            index_from: None,
            window: Window::new(is_metered),
            answered: Instant::now(),
            heads_bytes: HEADS_BYTES,
            retry_after: None,
            ended: false,
        };
        if let Err(error) = http.begin() {
            http.settle()?;
            return Err(error);
        }
        Ok(http)
    }

    /// Asks what is there, then for the start.
    fn begin(&mut self) -> io::Result<()> {
        self.persist(0, 0, |http, _| http.look())?;
        self.check_ranges()?;
        let looked = self.about.clone();
        self.persist(0, 0, |http, _| http.request(0, FIRST_BYTES))?;
        if self.about != looked {
            self.check_ranges()?;
        }
        Ok(())
    }

    /// Says what will be needed.
    pub fn expect(&mut self, request: &Request) {
        let bytes = request.ahead.run_bytes.max(u64::from(request.bytes));
        self.run = request.offset..request.offset.saturating_add(bytes);
        self.is_index = request.purpose == Purpose::Index;
    }

    /// Keeps in `spool` what comes of ranges that take several requests.
    pub fn keep_in(&mut self, spool: Spool) {
        self.spool = Some(spool);
    }

    /// The manifest is known: account and spool are those of its bundle.
    pub fn enter_manifest(&mut self, sha256: &Sha256Digest) {
        self.account.enter_manifest(sha256);
        if let Some(spool) = &mut self.spool {
            spool.enter(sha256);
        }
    }

    /// What is in the spool is of no more use: the install is complete, or what came was not right.
    pub fn forget(&mut self) {
        if let Some(spool) = &mut self.spool {
            spool.forget();
        }
    }

    /// What the index cost, which the next install finds where this run left it.
    pub const fn index_bytes(&self) -> u64 {
        self.index_bytes
    }

    /// The account that it spends from.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// The same, to spend.
    pub const fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// What was spent, with what is left of the running answer; without ranges that one goes on.
    pub fn spent_bytes(&mut self) -> u64 {
        if self.has_ranges() {
            self.leave_answer();
        }
        self.account.line().total_bytes()
    }

    /// Ends the running answer, and writes down what was spent.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn settle(&mut self) -> io::Result<()> {
        self.leave_answer();
        self.account.settle()
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
        let line = self.account.line();
        Traffic {
            received_bytes: line.received_bytes(),
            sent_bytes: line.sent_bytes(),
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
        let spool = self.spool.as_mut();
        let kept = spool.map_or(0, |spool| spool.take(offset, buffer));
        let read = self.persist(offset, kept, |http, done| {
            let read = http.read_on(offset, buffer, done);
            http.keep(offset, buffer, *done);
            read
        });
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

    /// Keeps the first `done` bytes of a range.
    fn keep(&mut self, offset: u64, buffer: &[u8], done: usize) {
        if let Some(spool) = &mut self.spool {
            spool.keep(offset, buffer, done);
        }
    }

    /// Reads what is missing of `buffer`.
    fn read_on(&mut self, offset: u64, buffer: &mut [u8], done: &mut usize) -> io::Result<()> {
        while *done < buffer.len() {
            if !self.has_ranges() {
                // Its one answer goes on for as long as the bundle does.
                let open = self.account.line().check_open();
                open.map_err(io::Error::other)?;
            }
            let position = offset + *done as u64;
            let running = self.running.as_ref();
            if running.is_none_or(|running| running.end == Some(position)) {
                self.keep(offset, buffer, *done);
            }
            self.go_to(position, (buffer.len() - *done) as u64)?;
            let (Some(running), Some(rest)) = (&mut self.running, buffer.get_mut(*done..)) else {
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
            !ranges || (inside && *gap <= RUN_GAP_BYTES)
        });
        match reachable {
            Some((0, _)) => Ok(()),
            Some((gap, _)) => self.drop_bytes(gap),
            None => {
                let known = if self.run.contains(&position) {
                    self.run.end - position
                } else {
                    0
                };
                let wanted = known.max(wanted_bytes);
                let window_bytes = self.window.of(wanted, self.answered.elapsed());
                self.request(position, window_bytes)
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
        if self.is_index {
            self.index_from = Some(self.account.line().total_bytes());
        }
        let mut last = position.saturating_add(window_bytes).saturating_sub(1);
        let mut body_bytes = window_bytes;
        if let Some(about) = &self.about {
            last = about
                .bytes
                .map_or(last, |bytes| last.min(bytes.saturating_sub(1)));
            if !about.ranges {
                body_bytes = about.bytes.unwrap_or(0);
            }
        }
        let (mut answer, mut sent) = self.ask_range(position, last, body_bytes)?;
        let about = self.about.as_mut();
        if about.is_some_and(|about| about.forgets_name(answer.status(), answer.headers())) {
            drop(answer);
            self.account.lose();
            (answer, sent) = self.ask_range(position, last, body_bytes)?;
        }
        self.answered = Instant::now();
        if self.about.is_none() {
            let validator = validator(answer.headers());
            self.learn_heads(sent, answer.headers(), validator.as_ref());
        }
        self.take(position, last, answer)
    }

    /// A connection whose answer is read to its end serves the next request; one that still carries much is closed with it, and
    /// what it carries is lost.
    fn leave_answer(&mut self) {
        if let Some(running) = self.running.take() {
            self.read_rest(running);
        }
        if let Some(from) = self.index_from.take() {
            self.index_bytes += self.account.line().total_bytes() - from;
        }
    }

    fn read_rest(&mut self, mut running: Running) {
        let left = running.end.map(|end| end.saturating_sub(running.position));
        let is_short = left.is_some_and(|left| left <= REST_MAX_BYTES);
        let is_read = is_short && io::copy(&mut running.body, &mut io::sink()).is_ok();
        if !is_read {
            self.account.lose();
        }
    }

    fn take(&mut self, position: u64, last: u64, answer: Response<Body>) -> io::Result<()> {
        let status = answer.status();
        let headers = answer.headers();
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(HttpProblem::Compressed.into());
        }
        let (start, end, bytes, ranges) = match status {
            StatusCode::PARTIAL_CONTENT => {
                let range = content_range(headers)
                    .filter(|range| range.end <= last.saturating_add(1))
                    .ok_or(HttpProblem::Answer)?;
                (range.start, Some(range.end), range.bytes, true)
            }
            StatusCode::OK => {
                let bytes = length(headers);
                (0, bytes, bytes, false)
            }
            // Nothing is there: the bundle ends before, or is empty.
            StatusCode::RANGE_NOT_SATISFIABLE if self.about.is_some() || position == 0 => {
                return self.past_the_end();
            }
            _ => return Err(self.refusal(status, headers).into()),
        };
        let about = About {
            bytes,
            validator: validator(headers),
            ranges,
        };
        match &mut self.about {
            Some(before) if before.differs(&about) => return Err(HttpProblem::Changed.into()),
            // What the first range shows counts for more than what the server said.
            Some(before) if before.ranges && !ranges && self.has_answered => {
                return Err(HttpProblem::Changed.into());
            }
            Some(before) if before.ranges == ranges => {
                if before.validator != about.validator {
                    before.validator = None;
                }
            }
            Some(_) | None => self.about = Some(about),
        }
        if start != position {
            return Err(HttpProblem::Answer.into());
        }
        self.has_answered = true;
        let body = answer.into_body().into_reader();
        self.running = Some(Running {
            body,
            position,
            end,
        });
        Ok(())
    }
}
