//! A bundle on a web server, read by ranges (RFC 9110, sections 13 and 14).
//!
//! Reads in a row go on with the running answer. It is asked for in windows that double as long as reads follow each other, so that
//! jumping ahead wastes no more than was read before; a small gap is read and dropped, and so is any gap of a server without ranges.
//!
//! # Invariants
//! - All bytes are of one bundle: every later request says which one is meant (`If-Range`), and another length ends the read. This
//!   saves bytes only: what is installed is authenticated anyway.
//! - Several servers behind one address may name the same file differently. Where another name comes with the same length, names
//!   count no more, and the bundle's digests alone decide.
//! - A read that failed goes on where it stood, in the middle of a range too.

use super::clock::Moment;
use super::dns::ADDRESSES_MAX;
use super::head::{Head, HeadBytes, Validator, take_head};
use super::{NetProblem, Pace, Transport, Url};
use crate::clock::sleep;
use core::fmt::Write;
use core::net::Ipv4Addr;
use core::time::Duration;
use heapless::{String, Vec};
use twinseal_core::source::{Source, SourceError};

/// Longest request: the longest address and the longest validator fit in.
pub const REQUEST_MAX_BYTES: usize = 2304;

/// First window of a row of reads. What an answer still carries when a read goes elsewhere is paid for, and its connection is lost.
const WINDOW_MIN_BYTES: u64 = 512;

/// What is asked for at first: the front matter of most bundles.
const FIRST_BYTES: u64 = 4096;

/// Largest window.
const WINDOW_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Up to here a gap is read and dropped: about what a new connection costs.
const GAP_MAX_BYTES: u64 = 4096;

/// Addresses that a server may send to in a row. Stops a loop.
pub const REDIRECTS_MAX: u32 = 5;

/// Answers that are none yet (100 to 199) before the one that counts. Stops a server that sends nothing else.
const INTERIM_MAX: u32 = 4;

/// A bundle on a web server.
pub struct Web<'t> {
    transport: &'t mut dyn Transport,
    url: Url,
    /// Where the server sent to.
    target: Url,
    about: Option<About>,
    running: Option<Running>,
    is_connected: bool,
    /// The server's address that gave bytes last.
    reached: Option<Ipv4Addr>,
    /// Addresses of it that were tried and gave none; the last one may be on the way to.
    tried: Vec<Ipv4Addr, ADDRESSES_MAX>,
    /// Behind the last byte that was read.
    at: u64,
    window_bytes: u64,
    pace: Pace,
    retry: Retry,
    /// The read ended early: what was asked for lies past the end.
    ended: bool,
}

/// What the first answer said about the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
struct About {
    bytes: Option<u64>,
    validator: Option<Validator>,
    ranges: bool,
}

/// The answer whose body is being read.
#[derive(Clone, Copy, Debug)]
struct Running {
    position: u64,
    /// Behind its last byte; unknown for a server that gives no length.
    end: Option<u64>,
    stays_open: bool,
}

/// What is left of the patience with failed reads.
#[derive(Clone, Copy, Debug)]
struct Retry {
    tried: u32,
    pause: Duration,
    bytes_since: u64,
}

impl<'t> Web<'t> {
    /// Opens a bundle: asks for its start.
    ///
    /// # Errors
    /// [`NetProblem`] when the server cannot be reached within the patience, or gives no bytes.
    pub fn open(transport: &'t mut dyn Transport, url: &Url) -> Result<Self, NetProblem> {
        let mut web = Self {
            retry: Retry::new(transport.patience().pause),
            transport,
            url: url.clone(),
            target: url.clone(),
            about: None,
            running: None,
            is_connected: false,
            reached: None,
            tried: Vec::new(),
            at: 0,
            window_bytes: WINDOW_MIN_BYTES,
            pace: Pace::default(),
            ended: false,
        };
        web.persist(0, |web, _| web.request(0, FIRST_BYTES))?;
        Ok(web)
    }

    /// Length of the bundle, when the server says it.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.about.as_ref().and_then(|about| about.bytes)
    }

    /// Whether the server gives ranges; without them everything comes, whatever is read.
    #[must_use]
    pub fn has_ranges(&self) -> bool {
        self.about.as_ref().is_some_and(|about| about.ranges)
    }

    /// Does `work`, and does it again after a pause as long as that may help. `work` is given how far it was and says so.
    fn persist<F>(&mut self, offset: u64, mut work: F) -> Result<(), NetProblem>
    where
        F: FnMut(&mut Self, &mut usize) -> Result<(), NetProblem>,
    {
        let mut done = 0;
        loop {
            let Err(problem) = work(self, &mut done) else {
                return Ok(());
            };
            self.running = None;
            self.is_connected = false;
            let patience = self.transport.patience();
            // An address that the server sent to, and that gave bytes, may have expired.
            let gave = self.about.is_some() && self.target != self.url;
            let has_moved = gave && matches!(problem, NetProblem::Status(_));
            let may_pass = problem.may_pass() || has_moved;
            if self.ended || !may_pass || !self.retry.is_left(patience) {
                return Err(problem);
            }
            let (time, at) = (self.retry.pause, offset.saturating_add(done as u64));
            let (number, of) = (self.retry.tried, patience.tries);
            let seconds = time.as_secs();
            self.transport.attendant().say(format_args!(
                "{problem}, at byte {at} of {}; try {number} of {of} follows in {seconds} s",
                self.url
            ));
            self.wait(time);
            self.retry.pause = (time * 2).min(self.transport.patience().pause_max);
            // An address that a server sent to need not be good for ever.
            if self.target != self.url {
                self.target.clone_from(&self.url);
                self.forget_addresses();
            }
        }
    }

    /// Waits, and lets the network go on meanwhile; no longer than until the attendant is called away.
    fn wait(&mut self, time: Duration) {
        let end = Moment::now().after(time);
        loop {
            match self.transport.pause(end) {
                Ok(()) => {}
                Err(NetProblem::Silent | NetProblem::CalledAway) => return,
                // The interface is down, and fails again at once: nothing is there to wait for.
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Reads what is missing of `buffer`.
    fn read_on(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
        done: &mut usize,
    ) -> Result<(), NetProblem> {
        while let Some(rest) = buffer.get_mut(*done..).filter(|rest| !rest.is_empty()) {
            let position = offset.saturating_add(*done as u64);
            self.go_to(position, rest.len() as u64)?;
            let taken = self.take_body(rest)?;
            // What is only dropped is no progress: a server without ranges would be asked for the same bytes for ever.
            self.retry.progress(taken as u64, self.transport.patience());
            *done += taken;
        }
        Ok(())
    }

    /// Takes bytes of the running answer; 0 at its end.
    fn take_body(&mut self, room: &mut [u8]) -> Result<usize, NetProblem> {
        let running = self.running.as_mut().ok_or(NetProblem::Answer)?;
        // What follows the answer on the same connection is another answer.
        let left = running.end.map(|end| end.saturating_sub(running.position));
        let most = usize::try_from(left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let length = room.len().min(most);
        let room = room.get_mut(..length).unwrap_or_default();
        let taken = match room.is_empty() {
            true => 0,
            false => self.transport.receive(room, &mut self.pace)?,
        };
        running.position = running.position.saturating_add(taken as u64);
        self.at = running.position;
        if taken == 0 {
            self.end_of_answer()?;
        }
        Ok(taken)
    }

    /// An answer without further bytes: the end of a window, of the bundle, or of the connection.
    fn end_of_answer(&mut self) -> Result<(), NetProblem> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        self.is_connected &= running.stays_open;
        match running.end {
            Some(end) if running.position < end => Err(NetProblem::Cut),
            Some(end) if self.bytes().is_none_or(|bytes| end < bytes) && self.has_ranges() => {
                Ok(())
            }
            _ => self.past_the_end(),
        }
    }

    const fn past_the_end(&mut self) -> Result<(), NetProblem> {
        self.ended = true;
        Err(NetProblem::Answer)
    }

    /// Makes the running answer stand at `position`, with a new request when it must.
    fn go_to(&mut self, position: u64, wanted_bytes: u64) -> Result<(), NetProblem> {
        if self.bytes().is_some_and(|bytes| position >= bytes) {
            return self.past_the_end();
        }
        let gap = position.checked_sub(self.at);
        let in_a_row = gap.is_some_and(|gap| gap <= GAP_MAX_BYTES);
        let reaches = self.running.is_some_and(|running| {
            running.position <= position && running.end.is_none_or(|end| position < end)
        });
        match reaches && (in_a_row || !self.has_ranges()) {
            true => self.drop_bytes(position),
            false => {
                // Also after a read that failed.
                self.window_bytes = match in_a_row {
                    true => (self.window_bytes * 2).min(WINDOW_MAX_BYTES),
                    false => WINDOW_MIN_BYTES,
                };
                self.request(position, self.window_bytes.max(wanted_bytes))?;
                self.drop_bytes(position)
            }
        }
    }

    fn drop_bytes(&mut self, position: u64) -> Result<(), NetProblem> {
        let mut dropped = [0; 2048];
        while let Some(running) = self.running
            && running.position < position
        {
            let gap = usize::try_from(position - running.position).unwrap_or(usize::MAX);
            let length = gap.min(dropped.len());
            self.take_body(dropped.get_mut(..length).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Asks for a range; the answer becomes the running one.
    fn request(&mut self, position: u64, window_bytes: u64) -> Result<(), NetProblem> {
        let is_read_whole = self
            .running
            .take()
            .is_none_or(|running| running.stays_open && running.end == Some(running.position));
        self.is_connected &= is_read_whole && self.transport.is_connected();
        let end = position.saturating_add(window_bytes);
        // Not every server takes an end that lies behind the bundle's.
        let last = end.min(self.bytes().unwrap_or(end)).saturating_sub(1);
        let mut leads = 0;
        loop {
            let head = self.ask(position, last)?;
            match head.status {
                301 | 302 | 303 | 307 | 308 => {
                    leads += 1;
                    self.follow(&head, leads)?;
                }
                200 if self.is_other_name(&head) => self.is_connected = false,
                _ => return self.take(position, last, head),
            }
        }
    }

    fn forget_addresses(&mut self) {
        self.reached = None;
        self.tried.clear();
    }

    /// Whether the server gives everything only since it knows the bundle by another name, as it seems. Names count no more then.
    fn is_other_name(&mut self, head: &Head) -> bool {
        let about = self.about.as_mut();
        about.is_some_and(|about| {
            let is_as_long = about.bytes.is_some() && about.bytes == head.length;
            let is_other = about.ranges && is_as_long && about.validator != head.validator;
            is_other && about.validator.take().is_some()
        })
    }

    /// Goes where the server sends to.
    fn follow(&mut self, head: &Head, leads: u32) -> Result<(), NetProblem> {
        if leads > REDIRECTS_MAX {
            return Err(NetProblem::Redirects);
        }
        let location = head.location.as_deref();
        let target = self
            .target
            .follow(location.ok_or(NetProblem::RedirectUnusable)?)?;
        // The body of this answer is not read, so the connection serves no other one.
        self.is_connected =
            head.stays_open && head.length == Some(0) && target.is_beside(&self.target);
        if self.target.host() != target.host() {
            self.forget_addresses();
        }
        self.target = target;
        Ok(())
    }

    /// Sends one request and reads the head of its answer.
    fn ask(&mut self, first: u64, last: u64) -> Result<Head, NetProblem> {
        let request = self.text(first, last)?;
        if !self.is_connected {
            // Where a name has several addresses, one of them may be dead: the next try asks another one.
            let address = match self.reached.take() {
                Some(address) => address,
                None => self.transport.address_of(self.target.host(), &self.tried)?,
            };
            if self.tried.contains(&address) || self.tried.is_full() {
                self.tried.clear();
            }
            // There is room.
            let _ = self.tried.push(address);
            self.transport.connect(address, self.target.port())?;
            self.is_connected = true;
        }
        self.transport.send_all(request.as_bytes())?;
        let end = Moment::now().after(self.transport.patience().head);
        let mut bytes = HeadBytes::new();
        for _ in 0..=INTERIM_MAX {
            bytes.clear();
            let mut take = |came: &[u8]| take_head(&mut bytes, came);
            self.transport
                .receive_until(end, NetProblem::HeadSilent, &mut take)?;
            let head = Head::parse(&bytes)?;
            if head.status >= 200 {
                return Ok(head);
            }
        }
        Err(NetProblem::HeadUnreadable)
    }

    fn text(&self, first: u64, last: u64) -> Result<String<REQUEST_MAX_BYTES>, NetProblem> {
        let mut text = String::new();
        let (server, path) = (self.target.authority(), self.target.path());
        let written = write!(
            text,
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: twinseal/{}\r\n\
             Accept-Encoding: identity\r\nRange: bytes={first}-{last}\r\n",
            env!("CARGO_PKG_VERSION")
        );
        let about = self.about.as_ref();
        let validator = about.and_then(|about| about.validator.as_ref());
        written
            .and_then(|()| match validator {
                Some(validator) => write!(text, "If-Range: {validator}\r\n\r\n"),
                None => text.write_str("\r\n"),
            })
            .map_err(|_| NetProblem::Answer)?;
        Ok(text)
    }

    fn take(&mut self, position: u64, last: u64, head: Head) -> Result<(), NetProblem> {
        let (start, end, bytes, ranges) = match head.status {
            206 => {
                let range = head.range.ok_or(NetProblem::Answer)?;
                let bytes = range.end - range.start;
                let fits = range.start == position
                    && range.end <= last.saturating_add(1)
                    && head.length.is_none_or(|length| length == bytes);
                fits.then_some((range.start, Some(range.end), range.bytes, true))
                    .ok_or(NetProblem::Answer)?
            }
            200 => (0, head.length, head.length, false),
            // Nothing is there: the bundle ends before, or is empty.
            416 if self.about.is_some() || position == 0 => return self.past_the_end(),
            other => return Err(NetProblem::Status(other)),
        };
        if let Some(problem) = head.coded {
            return Err(problem);
        }
        self.know(About {
            bytes,
            validator: head.validator,
            ranges,
        })?;
        // One byte for each request would last for ever.
        let is_short = end.is_some_and(|end| end <= last && Some(end) != bytes);
        if ranges && is_short && !self.retry.spend(self.transport.patience()) {
            return Err(NetProblem::Answer);
        }
        if self.reached.is_none() {
            self.reached = self.tried.pop();
        }
        self.running = Some(Running {
            position: start,
            end,
            stays_open: head.stays_open,
        });
        Ok(())
    }

    /// Compares what an answer says about the bundle with what is known.
    fn know(&mut self, about: About) -> Result<(), NetProblem> {
        let Some(before) = &mut self.about else {
            self.about = Some(about);
            return Ok(());
        };
        let bytes = before.bytes.zip(about.bytes);
        let is_longer_or_shorter = bytes.is_some_and(|(one, two)| one != two);
        if is_longer_or_shorter || (before.ranges && !about.ranges) {
            return Err(NetProblem::Changed);
        }
        if before.validator != about.validator {
            before.validator = None;
        }
        Ok(())
    }
}

impl Source for Web<'_> {
    type Error = NetProblem;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<NetProblem>> {
        self.ended = false;
        let read = self.persist(offset, |web, done| web.read_on(offset, buffer, done));
        match read {
            Err(_) if self.ended => Err(SourceError::Ended),
            other => other.map_err(SourceError::Source),
        }
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<NetProblem>> {
        if let Some(bytes) = self.bytes() {
            return Ok(bytes == offset);
        }
        match self.read_at(offset, &mut [0]) {
            Ok(()) => Ok(false),
            Err(SourceError::Ended) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl Retry {
    const fn new(pause: Duration) -> Self {
        Self {
            tried: 0,
            pause,
            bytes_since: 0,
        }
    }

    /// Counts what came; enough of it gives all tries back.
    const fn progress(&mut self, bytes: u64, patience: &super::Patience) {
        self.bytes_since = self.bytes_since.saturating_add(bytes);
        if self.bytes_since >= patience.progress_bytes {
            (self.tried, self.pause, self.bytes_since) = (0, patience.pause, 0);
        }
    }

    /// Spends a try for a read that failed; `false` when none is left.
    const fn is_left(&mut self, patience: &super::Patience) -> bool {
        self.bytes_since = 0;
        self.spend(patience)
    }

    /// Spends a try, and what came counts on; `false` when none is left.
    const fn spend(&mut self, patience: &super::Patience) -> bool {
        self.tried += 1;
        self.tried <= patience.tries
    }
}
