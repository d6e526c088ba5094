//! The device's clock, and times as people write them.
//!
//! # Invariants
//! - A device description that says `clock = "none"` gives no time at all: a clock that cannot be trusted must not raise the
//!   highest time ever seen.

use crate::config::Clock;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A day, without leap seconds.
pub const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Seconds since 1970-01-01 UTC; `None` when the device has no clock that it trusts.
pub fn now(clock: Clock) -> Option<u64> {
    match clock {
        Clock::None => None,
        Clock::Trusted => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|since| since.as_secs()),
    }
}

/// A time as RFC 3339 writes it, in UTC, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc(
    /// Seconds since 1970-01-01 UTC.
    pub u64,
);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY_SECONDS);
        let second = self.0 % DAY_SECONDS;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// The number of the day that a time lies in, from 1970-01-01 on.
pub const fn day(time: u64) -> u64 {
    time / DAY_SECONDS
}

/// The number of the month that a time lies in, from January 1970 on.
pub fn month(time: u64) -> u64 {
    let (year, month, _) = date(day(time));
    (year - 1970) * 12 + month - 1
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days in 400 years, after which the calendar repeats.
    const CYCLE_DAYS: u64 = 400 * 365 + 97;
    let mut year = 1970 + days / CYCLE_DAYS * 400;
    let mut day = days % CYCLE_DAYS;
    while day >= year_days(year) {
        day -= year_days(year);
        year += 1;
    }
    let february = if year_days(year) == 366 { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

const fn year_days(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_date_prints() {
        // From `date -u -d @N +%FT%TZ`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_256_000, "1972-03-01T00:00:00Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_563_200, "2400-02-29T00:00:00Z"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
    }

    #[test]
    fn the_last_second_that_fits_is_no_panic() {
        assert!(Utc(u64::MAX).to_string().ends_with('Z'));
    }

    #[test]
    fn a_device_without_a_clock_has_no_time() {
        assert_eq!(now(Clock::None), None);
        assert!(now(Clock::Trusted) > Some(1_700_000_000));
    }
}
