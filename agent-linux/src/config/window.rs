//! Hours of the day, in UTC, in which bundles are fetched over the network: `22:00-05:00`, with seconds if need be.

use crate::clock::DAY_SECONDS;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// Hours of every day, over midnight too. The end is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Window {
    /// Second of the day.
    from: u64,
    /// Second of the day, another one.
    to: u64,
}

/// A text is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a window is written HH:MM-HH:MM or HH:MM:SS-HH:MM:SS, in UTC, with two different times of the day"
)]
pub struct NotAWindow;

impl Window {
    /// Seconds until it closes; `None` when it is closed at a time.
    pub const fn closes_in(&self, time: u64) -> Option<u64> {
        let passed = after(self.from, time % DAY_SECONDS);
        let length = after(self.from, self.to);
        match length.checked_sub(passed) {
            Some(0) | None => None,
            left => left,
        }
    }

    /// When it opens next after a time at which it is closed.
    pub const fn opens_at(&self, time: u64) -> u64 {
        time.saturating_add(after(time % DAY_SECONDS, self.from))
    }
}

/// Seconds from one second of the day to the next time that it is another one.
const fn after(one: u64, other: u64) -> u64 {
    (other + DAY_SECONDS - one) % DAY_SECONDS
}

impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let (from, to) = text.split_once('-').ok_or(NotAWindow)?;
        let window = Self {
            from: second(from).ok_or(NotAWindow)?,
            to: second(to).ok_or(NotAWindow)?,
        };
        if window.from == window.to {
            return Err(NotAWindow);
        }
        Ok(window)
    }
}

impl TryFrom<String> for Window {
    type Error = NotAWindow;

    fn try_from(text: String) -> Result<Self, NotAWindow> {
        text.parse()
    }
}

/// Hours, minutes and perhaps seconds, of two digits each, with colons between.
fn second(text: &str) -> Option<u64> {
    let (hour, rest) = text.split_once(':')?;
    let (minute, second) = rest.split_once(':').unwrap_or((rest, "00"));
    let number = |text: &str, below: u64| {
        let is_right = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = text.parse().ok()?;
        (is_right && number < below).then_some(number)
    };
    Some(number(hour, 24)? * 3600 + number(minute, 60)? * 60 + number(second, 60)?)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |second: u64| {
            let (hour, minute) = (second / 3600, second / 60 % 60);
            match second % 60 {
                0 => format!("{hour:02}:{minute:02}"),
                second => format!("{hour:02}:{minute:02}:{second:02}"),
            }
        };
        write!(f, "{}-{}", time(self.from), time(self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    #[test]
    fn a_window_may_go_over_midnight() {
        let window: Window = "22:00-05:30".parse().unwrap();
        assert_eq!(window.to_string(), "22:00-05:30");
        let day = 20_000 * DAY_SECONDS;
        assert_eq!(window.closes_in(day + 22 * HOUR), Some(7 * HOUR + 1800));
        assert_eq!(window.closes_in(day), Some(5 * HOUR + 1800));
        assert_eq!(window.closes_in(day + 5 * HOUR + 1799), Some(1));
        assert_eq!(window.closes_in(day + 5 * HOUR + 1800), None);
        assert_eq!(window.closes_in(day + 22 * HOUR - 1), None);
        assert_eq!(window.opens_at(day + 6 * HOUR), day + 22 * HOUR);
        let window: Window = "09:00-17:00".parse().unwrap();
        assert_eq!(window.closes_in(day + 9 * HOUR), Some(8 * HOUR));
        assert_eq!(window.closes_in(day + 8 * HOUR), None);
        assert_eq!(window.opens_at(day + 18 * HOUR), day + 33 * HOUR);
        let window: Window = "09:00:30-09:01".parse().unwrap();
        assert_eq!(window.to_string(), "09:00:30-09:01");
        assert_eq!(window.closes_in(day + 9 * HOUR + 29), None);
        assert_eq!(window.closes_in(day + 9 * HOUR + 31), Some(29));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "22:00",
            "22-05",
            "22:00-24:00",
            "22:60-23:00",
            "9:00-17:00",
            "05:00-05:00",
            "05:00-05:00:00",
            "05:00:60-06:00",
            "05:00:1-06:00",
            "05:00:00:00-06:00",
            "+1:00-02:00",
            "22:00-05:00 ",
        ] {
            assert_eq!(text.parse::<Window>(), Err(NotAWindow), "{text}");
        }
    }
}
