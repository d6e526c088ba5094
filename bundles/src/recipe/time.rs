//! Points in time: RFC 3339 or seconds since 1970, in a recipe or as a flag.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use toml::value::{Datetime, Offset};

/// Seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// Why text is not a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// Neither form.
    #[error(
        "a point in time is RFC 3339 with a time zone (2026-12-31T23:59:59Z) or seconds since 1970"
    )]
    Form,
    /// Before 1970.
    #[error("a point in time cannot be before 1970")]
    TooEarly,
}

impl Moment {
    /// A moment from its seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970-01-01 UTC.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    fn from_datetime(datetime: &Datetime) -> Result<Self, MomentError> {
        let (Some(date), Some(time), Some(offset)) =
            (datetime.date, datetime.time, datetime.offset)
        else {
            return Err(MomentError::Form);
        };
        let days = days_since_1970(
            i64::from(date.year),
            i64::from(date.month),
            i64::from(date.day),
        );
        let of_day = i64::from(time.hour) * 3600
            + i64::from(time.minute) * 60
            + i64::from(time.second.unwrap_or(0));
        let offset_minutes = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes),
        };
        let seconds = days * 86_400 + of_day - offset_minutes * 60;
        u64::try_from(seconds)
            .map(Self)
            .map_err(|_| MomentError::TooEarly)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: whole 400-year cycles of 146,097 days, and years that begin in
/// March, so that the leap day is the last of its year.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let cycle = year.div_euclid(400);
    let year_of_cycle = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    cycle * 146_097 + day_of_cycle - 719_468
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Ok(seconds) = text.parse() {
            return Ok(Self(seconds));
        }
        let datetime: Datetime = text.parse().map_err(|_| MomentError::Form)?;
        Self::from_datetime(&datetime)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let moment = match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(seconds) => u64::try_from(seconds)
                .map(Self)
                .map_err(|_| MomentError::TooEarly),
            toml::Value::String(text) => text.parse(),
            toml::Value::Datetime(datetime) => Self::from_datetime(&datetime),
            _ => Err(MomentError::Form),
        };
        moment.map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Moment {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = (self.0 / 86_400) as i64;
        // The mean year has 146,097 / 400 days, so the guess is right or one beside it.
        let guess = 1970 + days * 400 / 146_097;
        let mut years = (guess - 1..=guess + 1).rev();
        let year = years
            .find(|year| days_since_1970(*year, 1, 1) <= days)
            .unwrap_or(guess);
        let month = (1..=12)
            .rev()
            .find(|month| days_since_1970(year, *month, 1) <= days)
            .unwrap_or(1);
        let day = days - days_since_1970(year, month, 1) + 1;
        let of_day = self.0 % 86_400;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            of_day / 3600,
            of_day / 60 % 60,
            of_day % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_dates() {
        // Each checked with `date -u -d`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1972-02-29T12:00:00Z", 68_212_800),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2026-11-23T16:00:01Z", 1_795_449_601),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(text.parse(), Ok(Moment(seconds)), "{text}");
            assert_eq!(Moment(seconds).to_string(), text);
        }
        assert_eq!(
            "2026-11-23T17:00:01.75+01:00".parse(),
            Ok(Moment(1_795_449_601))
        );
        assert_eq!("17".parse(), Ok(Moment(17)));
        // Every day of the first four centuries, and the end of all time, which some makers take for "for ever".
        for day in 0..146_097 {
            let moment = Moment(day * 86_400 + 86_399);
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
        assert_eq!(Moment(u64::MAX).to_string(), "584554051223-11-09T07:00:15Z");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "soon",
            "2026-11-23",
            "2026-11-23T16:00:01",
            "16:00:01",
            "2026-13-01T00:00:00Z",
            "-5",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError::Form), "{text}");
        }
        assert_eq!(
            "1969-12-31T23:59:59Z".parse::<Moment>(),
            Err(MomentError::TooEarly)
        );
        assert_eq!(
            "1970-01-01T00:30:00+01:00".parse::<Moment>(),
            Err(MomentError::TooEarly)
        );
    }
}
