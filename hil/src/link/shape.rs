//! What is wrong with a link, as scenarios and the command line write it in TOML.
//!
//! # Invariants
//! - A key that is not known, and a value that would do nothing, is an error: a typing mistake never makes a good link.

use serde::Deserialize;
use std::num::{NonZeroU32, NonZeroU64};

/// What is wrong with a link. Without anything it passes on what comes.
///
/// Bytes are those towards the client, heads and bodies, counted over all connections of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Shape {
    /// Bits per second, each way.
    pub bits_per_second: Option<NonZeroU64>,
    /// Milliseconds from the end of a request to the beginning of its answer, besides what the server takes.
    #[serde(default)]
    pub delay_ms: u64,
    /// Ends the connection again and again.
    pub cut: Option<Cut>,
    /// Changes bytes.
    pub corrupt: Option<Corrupt>,
    /// Says nothing more, with the connection open.
    pub stall: Option<Stall>,
    /// Answers in place of the server, without a body.
    pub refuse: Option<Refuse>,
    /// Asks the server without ranges, so that the answer to every request is the whole file.
    #[serde(default)]
    pub no_ranges: bool,
    /// Asks the server for another file, as if the one at this address had been replaced.
    pub replace: Option<Replace>,
    /// Resets new connections before they carry anything.
    pub drop: Option<Drop>,
    /// Answers in place of the server as one would that means harm: one lie for each of the first requests.
    #[serde(default)]
    pub lies: Vec<Lie>,
}

impl Shape {
    /// Whether the server is asked for the bundle of this name in place of another file.
    pub fn takes(&self, bundle: &str) -> bool {
        let by = self.replace.as_ref().map(|replace| replace.by.as_str());
        by.and_then(|file| file.strip_suffix(".tseal")) == Some(bundle)
    }
}

/// An answer that means harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// A head without an end.
    EndlessHead,
    /// What was asked for is somewhere else: at the same address.
    Redirect,
    /// Ten gigabytes that are no bundle, whatever range was asked for.
    TenGigabytes,
    /// What was asked for, of which one byte comes in a second.
    Drip,
}

/// A connection that ends after so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cut {
    /// Each time that so many bytes have gone to the client.
    pub every_bytes: NonZeroU64,
    /// Not more often than this.
    pub times: Option<NonZeroU32>,
    /// How the client hears of it.
    #[serde(default)]
    pub by: Ending,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// In order: what was sent arrives.
    #[default]
    Close,
    /// By a reset: what was sent and not yet taken may be lost.
    Reset,
}

/// Bytes that are changed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Corrupt {
    /// Bytes from one changed byte to the next, on average.
    pub mean_bytes: NonZeroU64,
    /// Not more than so many.
    pub times: Option<NonZeroU32>,
    /// Where.
    #[serde(default, rename = "in")]
    pub place: Place,
}

/// Where bytes are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In bodies alone, so that what arrives is an answer that HTTP has nothing against.
    #[default]
    Bodies,
    /// Also in the heads of answers.
    Anywhere,
}

/// A silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stall {
    /// Once so many bytes have gone to the client.
    pub after_bytes: NonZeroU64,
    /// How long; without a number until the client gives up.
    pub for_ms: Option<NonZeroU64>,
}

/// A status in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Refuse {
    /// The status.
    pub status: Status,
    /// For so many requests; after them the server answers.
    pub times: NonZeroU32,
    /// So many requests are answered before.
    #[serde(default)]
    pub after_requests: u32,
}

/// A status that says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub enum Status {
    /// The file is not there.
    NotFound,
    /// The range is not in the file.
    RangeNotSatisfiable,
    /// Not now.
    ServiceUnavailable,
}

impl Status {
    /// Its number and words (RFC 9110, section 15).
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "404 Not Found",
            Self::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Self::ServiceUnavailable => "503 Service Unavailable",
        }
    }
}

impl TryFrom<u16> for Status {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        match number {
            404 => Ok(Self::NotFound),
            416 => Ok(Self::RangeNotSatisfiable),
            503 => Ok(Self::ServiceUnavailable),
            _ => Err(format!(
                "a link refuses with 404, 416 or 503, and not with {number}"
            )),
        }
    }
}

/// A file in place of the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Replace {
    /// For requests after so many bytes have gone to the client. An answer that has begun goes on.
    pub after_bytes: u64,
    /// The file's path on the server, without the first slash.
    pub by: String,
    /// For so many requests; without a number for all.
    pub requests: Option<NonZeroU32>,
}

/// Connections that come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Drop {
    /// One in so many, by chance; 1 is each of them.
    pub one_in: NonZeroU32,
    /// Not more than so many.
    pub times: Option<NonZeroU32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let shape: Shape = toml::from_str(
            "bits-per-second = 64000\ndelay-ms = 300\nno-ranges = true\ncut = { every-bytes = 200000, times = 9, by = \"reset\" }\n\
             corrupt = { mean-bytes = 5000, times = 2, in = \"anywhere\" }\nstall = { after-bytes = 7, for-ms = 20 }\n\
             refuse = { status = 503, times = 2, after-requests = 1 }\nreplace = { after-bytes = 0, by = \"v3.tseal\", requests = 2 }\n\
             drop = { one-in = 3, times = 1 }\nlies = [\"endless-head\", \"redirect\", \"ten-gigabytes\", \"drip\"]",
        )
        .unwrap();
        assert_eq!(shape.cut.map(|cut| cut.by), Some(Ending::Reset));
        assert_eq!(
            shape.corrupt.map(|corrupt| corrupt.place),
            Some(Place::Anywhere)
        );
        assert_eq!(
            shape.refuse.map(|refuse| refuse.status),
            Some(Status::ServiceUnavailable)
        );
        assert_eq!(shape.lies.len(), 4);
        assert!(shape.no_ranges && shape.replace.is_some() && shape.drop.is_some());
        assert_eq!(toml::from_str::<Shape>("").unwrap(), Shape::default());
    }

    #[test]
    fn what_would_do_nothing_is_an_error() {
        for text in [
            "bits-per-second = 0",
            "cut = { every-bytes = 0 }",
            "cut = { every-bytes = 5, times = 0 }",
            "cut = { every = 5 }",
            "corrupt = { mean-bytes = 5, in = \"heads\" }",
            "refuse = { status = 500, times = 1 }",
            "refuse = { status = 404 }",
            "drop = { times = 1 }",
            "lies = [\"white\"]",
            "stal = { after-bytes = 7 }",
        ] {
            assert!(toml::from_str::<Shape>(text).is_err(), "{text}");
        }
    }
}
