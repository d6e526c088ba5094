//! How fast bytes go: nothing waits longer than the rate of the link means, and every wait ends with the link.

use std::num::NonZeroU64;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes are let through in pieces that take this long, so that a slow link is slow evenly.
const PIECE: Duration = Duration::from_millis(20);

/// The largest piece.
const PIECE_MAX_BYTES: u64 = 64 << 10;

/// One direction of a link: it carries one piece at a time, whichever connection that is of.
#[derive(Debug)]
pub(super) struct Pace {
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// When the last of so many bytes is through; `now` without a rate.
    pub(super) fn through(&self, bytes: usize, rate: Option<NonZeroU64>, now: Instant) -> Instant {
        let Some(rate) = rate else {
            return now;
        };
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = now.max(*free_at) + duration(bytes, rate);
        *free_at
    }
}

/// Bytes of one piece.
pub(super) fn piece_bytes(rate: Option<NonZeroU64>) -> usize {
    let bytes = rate.map_or(PIECE_MAX_BYTES, |rate| {
        let pieces = Duration::from_secs(1).as_millis() / PIECE.as_millis();
        rate.get() / 8 / u64::try_from(pieces).unwrap_or(1)
    });
    usize::try_from(bytes.clamp(1, PIECE_MAX_BYTES)).unwrap_or(1)
}

/// How long so many bytes take.
fn duration(bytes: usize, rate: NonZeroU64) -> Duration {
    let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Whether the link has ended, for everybody who waits.
#[derive(Debug, Default)]
pub(super) struct End {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl End {
    /// Ends all waits.
    pub(super) fn set(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it has come.
    pub(super) fn has_come(&self) -> bool {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a moment; whether it came before the end did.
    pub(super) fn wait_until(&self, moment: Instant) -> bool {
        let limit = moment.saturating_duration_since(Instant::now());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _) = self
            .changed
            .wait_timeout_while(ended, limit, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        !*ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_what_the_rate_says_however_they_are_given() {
        let rate = NonZeroU64::new(64_000);
        let (pace, now) = (Pace::new(), Instant::now() + Duration::from_secs(9));
        assert_eq!(
            pace.through(4_000, rate, now),
            now + Duration::from_millis(500)
        );
        assert_eq!(pace.through(8, rate, now), now + Duration::from_millis(501));
        let later = now + Duration::from_secs(5);
        assert_eq!(
            pace.through(8, rate, later),
            later + Duration::from_millis(1),
            "a link that was idle owes nothing"
        );
        assert_eq!(pace.through(1 << 30, None, now), now);
    }

    #[test]
    fn pieces_are_small_on_a_slow_link() {
        assert_eq!(piece_bytes(NonZeroU64::new(64_000)), 160);
        assert_eq!(piece_bytes(NonZeroU64::new(1)), 1);
        assert_eq!(piece_bytes(None), 64 << 10);
    }

    #[test]
    fn a_wait_ends_with_the_link() {
        let end = End::default();
        assert!(end.wait_until(Instant::now()));
        end.set();
        assert!(!end.wait_until(Instant::now() + Duration::from_secs(3_600)));
        assert!(end.has_come());
    }
}
