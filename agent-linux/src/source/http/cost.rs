//! What a server costs: asked before anything is read of it, learned from its first answer, and forecast for an install.

use super::answer::{About, accepts_ranges, head_bytes, length, validator};
use super::{Http, HttpProblem, SLACK_BYTES, WINDOW_BYTES};
use std::io;
use ureq::http::{HeaderMap, StatusCode};

/// What went over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that came in, headers included, above TCP.
    pub received_bytes: u64,
    /// Bytes that went out, headers included, above TCP.
    pub sent_bytes: u64,
    /// Requests.
    pub requests: u32,
    /// Of these, new tries after a cut.
    pub tries: u32,
}

impl Http {
    /// What it will take at most to read `data_bytes` in so many `runs`, and a few bytes of framing: requests, and bytes of the
    /// network, as long as nothing goes wrong.
    pub fn forecast(&self, data_bytes: u64, runs: u64) -> (u64, u64) {
        if !self.has_ranges() {
            let spent = self.account.line().total_bytes();
            return (0, self.whole_bytes().unwrap_or(0).saturating_sub(spent));
        }
        // Each run is cut into windows, and the look ahead ends after a MiB; the seams before and behind the data are their own.
        let requests = runs + data_bytes / WINDOW_BYTES + data_bytes / (1 << 20) + 2;
        (requests, data_bytes + requests * self.heads_bytes)
    }

    /// Asks what is there. A server that does not answer that is asked for the start at once.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let sent_before = self.account.line().sent_bytes();
        self.reserve(0)?;
        self.requests += 1;
        let answer = self
            .agent
            .head(&self.url)
            .call()
            .map_err(ureq::Error::into_io)?;
        let headers = answer.headers();
        match answer.status() {
            StatusCode::OK => {
                let about = About {
                    bytes: length(headers),
                    validator: validator(headers),
                    ranges: accepts_ranges(headers),
                };
                self.learn_heads(sent_before, headers, about.validator.as_ref());
                self.about = Some(about);
                Ok(())
            }
            StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Ok(()),
            other => Err(HttpProblem::Status(other.as_u16()).into()),
        }
    }

    /// What later requests will take: what this one took, and the fields for ranges.
    pub(super) fn learn_heads(
        &mut self,
        sent_before: u64,
        headers: &HeaderMap,
        validator: Option<&String>,
    ) {
        let range = "Range: bytes=-\r\nIf-Range: \r\nContent-Range: bytes -/\r\n".len() + 5 * 12;
        let sent = self.account.line().sent_bytes() - sent_before;
        let validator = validator.map_or(0, String::len);
        self.heads_bytes = sent + head_bytes(headers) + (range + validator) as u64;
    }

    /// What all of it costs: it is asked what is there, and then for the whole.
    fn whole_bytes(&self) -> Option<u64> {
        self.bytes().map(|bytes| bytes + 2 * self.heads_bytes)
    }

    /// Without ranges all of it comes, whatever is read: what is dropped on the way costs as much as what is used.
    pub(super) fn check_ranges(&self) -> io::Result<()> {
        let (Some(about), Some(limit)) = (&self.about, self.account.limit()) else {
            return Ok(());
        };
        let whole = self.whole_bytes();
        if about.ranges || whole.is_some_and(|whole| whole <= limit) {
            return Ok(());
        }
        Err(HttpProblem::BudgetNeedsRanges { budget: limit }.into())
    }

    /// The cost of a request must fit the budget.
    pub(super) fn reserve(&mut self, body_bytes: u64) -> io::Result<()> {
        self.account
            .reserve(self.heads_bytes.saturating_add(body_bytes), SLACK_BYTES)
    }
}
