//! Time since the machine started, which nobody sets.

use core::time::Duration;
use rustix::time::{ClockId, clock_gettime};

/// A moment, as time since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        Self(Duration::new(seconds, nanoseconds))
    }

    /// The one that follows after a time; so far away that it never comes when there is none.
    #[must_use]
    pub const fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// Time from here to a later moment; none when it is not later.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

impl From<Moment> for smoltcp::time::Instant {
    fn from(moment: Moment) -> Self {
        Self::from_micros(i64::try_from(moment.0.as_micros()).unwrap_or(i64::MAX))
    }
}
