//! What an answer says before its body (RFC 9110 and 9112).
//!
//! # Invariants
//! - A head is bounded in bytes and in headers; what is longer is refused, and what is not needed is passed over.

use super::NetProblem;
use super::url::PATH_MAX_BYTES;
use heapless::{String, Vec};
use httparse::{EMPTY_HEADER, Header, ParserConfig, Response, Status};

/// Longest head. Stops a server that sends headers for ever; real ones have less than one KiB.
pub const HEAD_MAX_BYTES: usize = 8 * 1024;

/// Most headers of a head.
const HEADERS_MAX: usize = 64;

/// Longest entity tag or date that is kept. A longer one is none: then the bundle's length alone tells it from another.
const VALIDATOR_MAX_BYTES: usize = 128;

/// Longest `Location`: a whole address.
pub const LOCATION_MAX_BYTES: usize = PATH_MAX_BYTES + 300;

/// The bytes of a head, as they come in.
pub type HeadBytes = Vec<u8, HEAD_MAX_BYTES>;

/// What says which bundle it is: a strong entity tag or a date, for `If-Range`.
pub type Validator = String<VALIDATOR_MAX_BYTES>;

/// `Content-Range` of a 206 answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Length of the whole bundle, when the server says it.
    pub bytes: Option<u64>,
}

/// A head, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Which bytes come.
    pub range: Option<ContentRange>,
    /// Length of the body.
    pub length: Option<u64>,
    /// Which bundle it is.
    pub validator: Option<Validator>,
    /// Where else to look.
    pub location: Option<String<LOCATION_MAX_BYTES>>,
    /// Whether the connection serves another request.
    pub stays_open: bool,
    /// In which way the body is coded, if it is.
    pub coded: Option<NetProblem>,
}

/// Takes bytes of a head up to its end; gives how many were taken, and whether no more are needed. A full `head` that has no end
/// takes no more either: [`Head::parse`] refuses it.
pub fn take_head(head: &mut HeadBytes, bytes: &[u8]) -> (usize, bool) {
    for (taken, byte) in bytes.iter().enumerate() {
        if head.push(*byte).is_err() {
            return (taken, true);
        }
        if head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n") {
            return (taken + 1, true);
        }
    }
    (bytes.len(), false)
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// [`NetProblem::HeadTooLong`] without an end or with too many headers, [`NetProblem::HeadUnreadable`] when it is not HTTP/1.x.
    pub fn parse(bytes: &[u8]) -> Result<Self, NetProblem> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut headers);
        // Old servers fold lines, and one bad line is no reason to do without the bundle.
        let mut config = ParserConfig::default();
        config
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true);
        match config.parse_response(&mut response, bytes) {
            Ok(Status::Complete(_)) => {}
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(NetProblem::HeadTooLong);
            }
            Err(_) => return Err(NetProblem::HeadUnreadable),
        }
        let headers = &*response.headers;
        // A list of words, in one header or several (RFC 9110, section 7.6.1).
        let closes = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("connection"))
            .flat_map(|header| header.value.split(|byte| *byte == b','))
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"));
        Ok(Self {
            status: response.code.ok_or(NetProblem::HeadUnreadable)?,
            range: value(headers, "content-range").and_then(content_range),
            length: value(headers, "content-length").and_then(number),
            validator: validator(headers),
            location: value(headers, "location").and_then(|text| String::try_from(text).ok()),
            stays_open: response.version == Some(1) && !closes,
            coded: if value(headers, "transfer-encoding").is_some() {
                Some(NetProblem::Chunked)
            } else {
                value(headers, "content-encoding")
                    .filter(|text| !text.eq_ignore_ascii_case("identity"))
                    .map(|_| NetProblem::Compressed)
            },
        })
    }
}

fn value<'h>(headers: &[Header<'h>], name: &str) -> Option<&'h str> {
    let found = headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))?;
    core::str::from_utf8(found.value).ok().map(str::trim_ascii)
}

/// A weak entity tag may not be used for ranges (RFC 9110, section 13.1.5).
fn validator(headers: &[Header<'_>]) -> Option<Validator> {
    let tag = value(headers, "etag").filter(|tag| tag.starts_with('"'));
    let text = tag.or_else(|| value(headers, "last-modified"))?;
    // It goes into requests.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    Validator::try_from(text).ok().filter(|_| is_plain)
}

/// `bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4); the length may be `*`. One without a byte would be asked for without end.
fn content_range(text: &str) -> Option<ContentRange> {
    let (range, bytes) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim_ascii().split_once('-')?;
    let start = number(first)?;
    let last = number(last).filter(|last| *last >= start)?;
    let bytes = match bytes.trim_ascii() {
        "*" => None,
        bytes => Some(number(bytes).filter(|bytes| *bytes > last)?),
    };
    Some(ContentRange {
        start,
        end: last.checked_add(1)?,
        bytes,
    })
}

fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    const PARTIAL: &str = "HTTP/1.1 206 Partial Content\r\nServer: x\r\nETag: \"a-1\"\r\n\
        Last-Modified: Tue, 03 Nov 2026 10:00:00 GMT\r\ncontent-range: bytes 5-9/100\r\nContent-Length: 5\r\n\r\n";

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_is_cut() {
        let answer = format!("{PARTIAL}body");
        for cut in 0..answer.len() {
            let mut head = HeadBytes::new();
            let (first, is_all) = take_head(&mut head, &answer.as_bytes()[..cut]);
            let mut taken = first;
            if !is_all {
                let (more, is_all) = take_head(&mut head, &answer.as_bytes()[first..]);
                assert!(is_all, "cut at {cut}");
                taken += more;
            }
            assert_eq!(
                (taken, &head[..]),
                (PARTIAL.len(), PARTIAL.as_bytes()),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_head_says_what_comes() {
        let head = Head::parse(PARTIAL.as_bytes()).unwrap();
        let range = ContentRange {
            start: 5,
            end: 10,
            bytes: Some(100),
        };
        assert_eq!(
            (head.status, head.range, head.length),
            (206, Some(range), Some(5))
        );
        assert_eq!(head.validator.as_deref(), Some("\"a-1\""));
        assert!(head.stays_open && head.coded.is_none() && head.location.is_none());
        let head = Head::parse(b"HTTP/1.0 302 Found\nLocation: /x\nETag: W/\"1\"\n\n").unwrap();
        assert_eq!(head.location.as_deref(), Some("/x"));
        assert_eq!((head.validator, head.stays_open), (None, false));
        let coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: Close\r\n\r\n";
        let head = Head::parse(coded).unwrap();
        assert_eq!(
            (head.coded, head.stays_open),
            (Some(NetProblem::Chunked), false)
        );
        let of = |headers: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n");
            let head = Head::parse(text.as_bytes()).unwrap();
            (head.coded, head.stays_open)
        };
        let compressed = Some(NetProblem::Compressed);
        assert_eq!(of("Content-Encoding: gzip"), (compressed, true));
        assert_eq!(of("Content-Encoding: identity"), (None, true));
        assert_eq!(of("Connection: Upgrade, close"), (None, false));
        assert_eq!(
            of("Connection: Upgrade\r\nconnection: CLOSE"),
            (None, false)
        );
        assert_eq!(of("Connection: close-by"), (None, true));
    }

    #[test]
    fn what_old_servers_send_is_taken() {
        let odd = b"HTTP/1.1 206 OK\r\nX-Folded: a,\r\n  b\r\nContent-Range : bytes 5-9/100\r\nno header\r\nContent-Length: 5\r\n\r\n";
        let head = Head::parse(odd).unwrap();
        assert_eq!((head.status, head.length), (206, Some(5)));
        assert_eq!(head.range.map(|range| range.start), Some(5));
    }

    #[test]
    fn ranges_that_lie_are_none() {
        for wrong in [
            "bytes 9-5/100",
            "bytes 5-9/9",
            "bytes 5-9",
            "bytes */100",
            "bytes 0-18446744073709551615/*",
            "bytes +1-2/3",
            "lines 1-2/3",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
        let open = content_range("bytes 5-9/*").unwrap();
        assert_eq!(open.bytes, None);
    }

    #[test]
    fn heads_without_an_end_and_other_protocols_are_refused() {
        let mut head = HeadBytes::new();
        let (taken, is_all) = take_head(&mut head, &[b'x'; HEAD_MAX_BYTES + 1]);
        assert!(taken == HEAD_MAX_BYTES && is_all);
        let headers = "X: y\r\n".repeat(HEADERS_MAX + 1);
        let many = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
        assert_eq!(Head::parse(many.as_bytes()), Err(NetProblem::HeadTooLong));
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(8000));
        assert_eq!(Head::parse(long.as_bytes()), Err(NetProblem::HeadTooLong));
        for wrong in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
        ] {
            assert_eq!(
                Head::parse(wrong.as_bytes()),
                Err(NetProblem::HeadUnreadable),
                "{wrong}"
            );
        }
    }
}
