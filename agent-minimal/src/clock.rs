//! Time since the machine started, the time of day, and waiting.
//!
//! Clocks are read by a timer that is set to a moment far away and asked how long that is: system calls, and nothing else. Others read a
//! clock in a page that the kernel shares (vDSO), for which rustix reads an ELF file in that page; that is 4,000 bytes of code.

use core::time::Duration;
use rustix::io::Errno;
use rustix::system::sysinfo;
use rustix::thread::{NanosleepRelativeResult, nanosleep};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_gettime, timerfd_settime,
};

/// When the timer would go off, in seconds: a little before the last moment that the kernel can tell (`KTIME_SEC_MAX`).
const FAR_SECONDS: i64 = 9_000_000_000;

/// A moment, as time since the machine started, which nobody sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        // A kernel without such timers still counts seconds.
        let seconds = || Duration::from_secs(u64::try_from(sysinfo().uptime).unwrap_or(0));
        Self(time_of(TimerfdClockId::Monotonic).unwrap_or_else(|_| seconds()))
    }

    /// Time since this moment.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.until(Self::now())
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

    /// Time since the machine started.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

/// The time of day, since 1970-01-01 UTC.
///
/// # Errors
/// What the kernel says.
pub fn time_of_day() -> Result<Duration, Errno> {
    time_of(TimerfdClockId::Realtime)
}

fn time_of(clock: TimerfdClockId) -> Result<Duration, Errno> {
    let timer = timerfd_create(clock, TimerfdFlags::CLOEXEC)?;
    let never = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let far = Itimerspec {
        it_interval: never,
        it_value: Timespec {
            tv_sec: FAR_SECONDS,
            tv_nsec: 0,
        },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &far)?;
    let left = timerfd_gettime(&timer)?.it_value;
    // Neither part is negative, and the timer has not gone off.
    let seconds = u64::try_from(left.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(left.tv_nsec).unwrap_or(0);
    Ok(Duration::from_secs(FAR_SECONDS as u64).saturating_sub(Duration::new(seconds, nanoseconds)))
}

/// Waits.
pub fn sleep(time: Duration) {
    let mut left = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    while let NanosleepRelativeResult::Interrupted(rest) = nanosleep(&left) {
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_while_one_waits() {
        let start = Moment::now();
        sleep(Duration::from_millis(2));
        assert!(start.elapsed() >= Duration::from_millis(2));
        assert!(start.elapsed() < Duration::from_secs(600));
    }

    #[test]
    fn clocks_are_those_of_the_standard_library() {
        let before = std::time::SystemTime::now();
        let now = std::time::UNIX_EPOCH + time_of_day().unwrap();
        let after = std::time::SystemTime::now();
        assert!(before <= now && now <= after);
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Moment::now().since_start().as_secs_f64();
        assert!((boot.tv_sec as f64..boot.tv_sec as f64 + 600.0).contains(&now),);
    }
}
