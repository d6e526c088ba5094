//! What a server's answer says about the bundle and about the bytes that follow.

use std::time::Duration;
use ureq::http::{HeaderMap, StatusCode, header};

/// What the answers so far said about the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub bytes: Option<u64>,
    /// A strong entity tag or a date, for `If-Range`.
    pub validator: Option<String>,
    /// Whether what is not asked for is not sent.
    pub ranges: bool,
}

impl About {
    /// Whether it is another bundle: one of another length. What only one of them says does not count.
    pub fn differs(&self, other: &Self) -> bool {
        let bytes = self.bytes.zip(other.bytes);
        bytes.is_some_and(|(one, two)| one != two)
    }

    /// Whether a server gives everything only since it knows the bundle by another name, as it seems. Names count no more then.
    pub fn forgets_name(&mut self, status: StatusCode, headers: &HeaderMap) -> bool {
        let is_as_long = self.bytes.is_some() && self.bytes == length(headers);
        let is_other = self.ranges && is_as_long && self.validator != validator(headers);
        status == StatusCode::OK && is_other && self.validator.take().is_some()
    }
}

pub(super) struct ContentRange {
    pub start: u64,
    pub end: u64,
    pub bytes: Option<u64>,
}

/// `bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4); the length may be `*`. One without a byte would be asked for without end.
pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, bytes) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let start = first.trim().parse().ok()?;
    let last = last
        .trim()
        .parse::<u64>()
        .ok()
        .filter(|last| *last >= start)?;
    Some(ContentRange {
        start,
        end: last.checked_add(1)?,
        bytes: bytes.trim().parse().ok(),
    })
}

pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Whether the server says that it has ranges.
pub(super) fn accepts_ranges(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_RANGES)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes"))
}

/// A weak entity tag may not be used for ranges (RFC 9110, section 13.1.5).
pub(super) fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(header::ETAG)
        .filter(|tag: &String| tag.starts_with('"'))
        .or_else(|| text(header::LAST_MODIFIED))
}

/// What the headers take on the wire, the first line included.
pub(super) fn head_bytes(headers: &HeaderMap) -> u64 {
    // `HTTP/1.1 206 Partial Content`, and the empty line; `: ` and the end of the line for each field.
    let first_and_last = 32;
    let fields = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    first_and_last + fields.sum::<usize>() as u64
}

/// After how long a busy server wants to be asked again: seconds, or a date (RFC 9110, section 10.2.3), which counts from the date
/// of the answer, so that this device's clock has no part in it.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let wanted = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    let wanted = date(wanted)?.duration_since(date(text(header::DATE)?)?);
    wanted.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_names_seconds_or_a_date() {
        let wanted = |text: &'static str| {
            let mut headers = HeaderMap::new();
            let now = "Sun, 29 Nov 2026 03:00:00 GMT".parse().unwrap();
            headers.insert(header::DATE, now);
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wanted("120"), Some(Duration::from_secs(120)));
        let date = "Sun, 29 Nov 2026 03:01:05 GMT";
        assert_eq!(wanted(date), Some(Duration::from_secs(65)));
        for text in [
            "-1",
            "soon",
            "Sun, 29 Nov 2026 02:00:00 GMT",
            "99999999999999999999",
        ] {
            assert_eq!(wanted(text), None, "{text}");
        }
    }
}
