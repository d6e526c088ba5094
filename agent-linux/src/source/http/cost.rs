//! What a server costs: asked before anything is read of it, learned from its first answer, and forecast for an install.

use super::answer::{About, accepts_ranges, head_bytes, length, validator};
use super::route::Route;
use super::window::WINDOW_BYTES;
use super::{Http, HttpProblem, SLACK_BYTES};
use std::io;
use ureq::http::{HeaderMap, StatusCode};

/// What a record of TLS takes beside its content, at most: TLS 1.2 with AES-GCM (RFC 5288, section 3); TLS 1.3 takes 22.
const RECORD_HEAD_BYTES: u64 = 29;

/// The shortest records that are reckoned with: what a segment of TCP carries, for servers that want each to be read at once.
const RECORD_BYTES: u64 = 1300;

/// After so many requests servers may end a connection (Apache's `MaxKeepAliveRequests`; others give more).
const CONNECTION_REQUESTS: u64 = 100;

/// What tickets for the next connection may take; with a client certificate they carry its chain.
const TICKETS_BYTES: u64 = 2048;

/// Handshakes are reckoned in steps of this.
const HANDSHAKE_STEP_BYTES: u64 = 1024;

/// Heads of a request and its answer are reckoned in steps of this: what caches tell in them (`Age`, numbers of requests) has not always
/// the same length, and two runs shall forecast the same.
const HEADS_STEP_BYTES: u64 = 256;

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
        let heads = requests * self.heads_bytes;
        let rest = self.wire_bytes(data_bytes) + heads + self.reconnects(requests);
        (requests, rest + self.handshake_padding())
    }

    /// What `bytes` of a body take: with TLS in records.
    fn wire_bytes(&self, bytes: u64) -> u64 {
        if self.route.is_tls() {
            bytes.saturating_add(bytes.div_ceil(RECORD_BYTES) * RECORD_HEAD_BYTES)
        } else {
            bytes
        }
    }

    /// What it takes to connect anew where a server ends connections.
    fn reconnects(&self, requests: u64) -> u64 {
        requests.div_ceil(CONNECTION_REQUESTS) * self.handshake_bytes
    }

    /// Signatures of one key differ by some bytes: what is still missing of a round number, so that two runs forecast the same.
    fn handshake_padding(&self) -> u64 {
        let bytes = self.account.line().handshake_bytes();
        bytes.next_multiple_of(HANDSHAKE_STEP_BYTES) - bytes
    }

    /// Asks what is there. A server that does not answer that is asked for the start at once.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let (answer, sent) = self.ask(0, Route::head)?;
        self.learn_handshake();
        let headers = answer.headers();
        match answer.status() {
            StatusCode::OK => {
                let about = About {
                    bytes: length(headers),
                    validator: validator(headers),
                    ranges: accepts_ranges(headers),
                };
                self.learn_heads(sent, headers, about.validator.as_ref());
                self.about = Some(about);
                Ok(())
            }
            // What is served need not be told about: then the answer that has bytes says what there is.
            StatusCode::NOT_IMPLEMENTED => Ok(()),
            other if other.is_client_error() && other != StatusCode::TOO_MANY_REQUESTS => Ok(()),
            other => Err(self.refusal(other, headers).into()),
        }
    }

    /// What later connections will take: what this one took, and the tickets that came with its first answer.
    fn learn_handshake(&mut self) {
        if self.route.has_handshake() {
            let bytes = self.account.line().last_handshake_bytes() + TICKETS_BYTES;
            self.handshake_bytes = bytes.next_multiple_of(HANDSHAKE_STEP_BYTES);
        }
    }

    /// What later requests will take: what this one took, and the fields for ranges.
    pub(super) fn learn_heads(
        &mut self,
        sent: u64,
        headers: &HeaderMap,
        validator: Option<&String>,
    ) {
        let range = "Range: bytes=-\r\nIf-Range: \r\nContent-Range: bytes -/\r\n".len() + 5 * 12;
        let validator = validator.map_or(0, String::len);
        let records = if self.route.is_tls() {
            RECORD_HEAD_BYTES
        } else {
            0
        };
        let heads = sent + head_bytes(headers) + (range + validator) as u64 + records;
        self.heads_bytes = heads.next_multiple_of(HEADS_STEP_BYTES);
    }

    /// What all of it costs: it is asked what is there, and then for the whole.
    fn whole_bytes(&self) -> Option<u64> {
        let heads = 2 * self.heads_bytes + self.handshake_bytes;
        self.bytes().map(|bytes| self.wire_bytes(bytes) + heads)
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

    /// The cost of a request must fit the budget, and that of a connection where there is none yet.
    pub(super) fn reserve(&mut self, body_bytes: u64) -> io::Result<()> {
        let bytes = self.heads_bytes.saturating_add(self.wire_bytes(body_bytes));
        let slack = SLACK_BYTES + self.handshake_bytes;
        self.account.reserve(bytes, slack)
    }
}
