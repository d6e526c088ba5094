//! Trying again: what may pass, after a pause that a busy server may lengthen.

use super::answer::retry_after;
use super::problem::{HttpProblem, may_pass, problem_of};
use super::{Http, WINDOW_BYTES};
use crate::report::warn;
use std::io;
use std::time::Duration;
use ureq::http::{HeaderMap, StatusCode};

/// The longest that a busy server is waited for, with the device locked meanwhile; who wants more is asked by another run.
const WAIT_MAX: Duration = Duration::from_secs(600);

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

impl Http {
    /// What an answer without bytes means.
    pub(super) fn refusal(&mut self, status: StatusCode, headers: &HeaderMap) -> HttpProblem {
        let is_busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        let wanted = retry_after(headers).filter(|_| is_busy);
        if let Some(wanted) = wanted.filter(|wanted| *wanted > WAIT_MAX) {
            return HttpProblem::Busy {
                seconds: wanted.as_secs(),
            };
        }
        self.retry_after = wanted;
        HttpProblem::Status(status.as_u16())
    }

    /// Does `work`, and does it again after a pause as long as that may help. `work` is given how far it was, at first `done`, and
    /// says so.
    pub(super) fn persist(
        &mut self,
        offset: u64,
        mut done: usize,
        mut work: impl FnMut(&mut Self, &mut usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut tried = 0;
        loop {
            let before = done;
            let Err(error) = work(self, &mut done) else {
                return Ok(());
            };
            self.break_off(&error);
            if done > before {
                tried = 0;
            }
            let wanted = self.retry_after.take();
            if self.ended || !may_pass(&error) || tried >= self.patience.tries {
                return Err(error);
            }
            if self.about.as_ref().is_some_and(|about| !about.ranges) {
                return Err(HttpProblem::NoRanges.into());
            }
            // A cut in the middle says nothing against going on at once.
            let pause = match (done > before, tried) {
                (true, _) => Duration::ZERO,
                (false, tried) => self.patience.pause * 2u32.saturating_pow(tried),
            };
            let pause = pause.max(wanted.unwrap_or_default());
            warn(&format!(
                "The connection to {} failed at byte {}: {error}. It is tried again in {:.0} s.",
                self.given.host().unwrap_or_default(),
                offset + done as u64,
                pause.as_secs_f64()
            ));
            std::thread::sleep(pause);
            tried += 1;
            self.tries += 1;
        }
    }

    /// The running answer has failed. What the other side sent before it closed the connection has been read; in any other case the
    /// rest of the answer may have been on its way.
    fn break_off(&mut self, error: &io::Error) {
        self.running = None;
        self.window_bytes = WINDOW_BYTES;
        self.window_max_bytes = WINDOW_BYTES;
        let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
        if !is_cut && problem_of(error).is_none() {
            self.account.lose();
        }
    }
}
