//! Trying again: what may pass, after a pause that a busy server may lengthen.

use super::answer::retry_after;
use super::problem::{HttpProblem, is_unsent, may_pass, problem_of};
use super::window::Window;
use super::{HEADS_BYTES, Http};
use crate::report::warn;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;
use ureq::http::{HeaderMap, StatusCode};

/// The longest that a busy server is waited for, with the device locked meanwhile; who wants more is asked by another run.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A pause grows by up to one part in so many, by chance: devices whose server was away do not all come back at once.
const CHANCE_PART: u32 = 2;

/// What may be waited for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a name and for a connection.
    pub connect: Duration,
    /// For the first byte of an answer, and for each read after it.
    pub idle: Duration,
    /// Before the first new try; doubled for each one after it, and lengthened by chance.
    pub pause: Duration,
    /// New tries that bring less than what one costs in heads.
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
            // A server that gives a byte and hangs up is not asked for each of them.
            let is_worth_it = (done - before) as u64 >= HEADS_BYTES;
            if is_worth_it {
                tried = 0;
            }
            let wanted = self.retry_after.take();
            if self.ended || !may_pass(&error) || tried >= self.patience.tries {
                return Err(error);
            }
            if self.about.as_ref().is_some_and(|about| !about.ranges) {
                return Err(HttpProblem::NoRanges.into());
            }
            // A cut in the middle says nothing against going on at once; a refusal does.
            let pause = if is_worth_it && !is_refusal(&error) {
                Duration::ZERO
            } else {
                self.patience.pause * 2u32.saturating_pow(tried)
            };
            let pause = with_chance(pause.max(wanted.unwrap_or_default()), chance());
            let open = self.account.line().check_open_after(pause);
            open.map_err(io::Error::other)?;
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
        self.route.forget_addresses();
        // A server that counts requests is not helped by more of them.
        if !is_refusal(error) {
            self.window = Window::new(true);
        }
        let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
        if !is_cut && problem_of(error).is_none() && !is_unsent(error) {
            self.account.lose();
        }
    }
}

/// Whether the server answered, and said no.
fn is_refusal(error: &io::Error) -> bool {
    matches!(problem_of(error), Some(HttpProblem::Status(_)))
}

/// A number that no other device has, nor this one at its next try: keys of hash maps are from the kernel's random numbers.
fn chance() -> u32 {
    RandomState::new().hash_one(()) as u32
}

/// A pause, and the part of it that `chance` says.
fn with_chance(pause: Duration, chance: u32) -> Duration {
    let share = f64::from(chance) / f64::from(u32::MAX);
    pause + (pause / CHANCE_PART).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_pause_grows_by_chance_and_by_half_at_most() {
        let pause = Duration::from_secs(8);
        assert_eq!(with_chance(pause, 0), pause);
        assert_eq!(with_chance(pause, u32::MAX), Duration::from_secs(12));
        let middle = with_chance(pause, u32::MAX / 2);
        assert_eq!(middle.as_secs_f64().round(), 10.0);
        assert_eq!(with_chance(Duration::ZERO, u32::MAX), Duration::ZERO);
    }

    #[test]
    fn a_thousand_devices_do_not_come_back_at_once() {
        let pause = Duration::from_secs(2);
        let milliseconds = || with_chance(pause, chance()).as_millis();
        let moments: HashSet<u128> = (0..1_000).map(|_| milliseconds()).collect();
        assert!(
            moments
                .iter()
                .all(|moment| (2_000..=3_000).contains(moment))
        );
        // By chance some 630 of the thousand milliseconds have a device.
        assert!(moments.len() > 500, "{}", moments.len());
    }
}
