//! The heads of HTTP/1.1 messages, as far as a link must understand them (RFC 9112): where a body ends, and what it takes out.

use std::io;

/// The largest head; more is no head but an attack or a mistake.
pub(super) const HEAD_MAX_BYTES: usize = 64 << 10;

/// A head: its first line and its fields, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    first: String,
    fields: Vec<String>,
}

/// The number of bytes of the first whole head in a buffer, with the empty line that ends it.
pub(super) fn length(buffer: &[u8]) -> Option<usize> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

impl Head {
    /// Reads a whole head.
    ///
    /// # Errors
    /// When it is not text.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(str::to_owned).collect();
        Ok(Self { first, fields })
    }

    /// A word of the first line.
    pub(super) fn word(&self, index: usize) -> &str {
        self.first.split(' ').nth(index).unwrap_or_default()
    }

    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    /// Takes a field out.
    pub(super) fn remove(&mut self, name: &str) {
        self.fields.retain(|line| {
            line.split_once(':')
                .is_none_or(|(found, _)| !found.eq_ignore_ascii_case(name))
        });
    }

    /// Makes a request one for another file.
    pub(super) fn ask_for(&mut self, file: &str) {
        let (method, version) = (self.word(0).to_owned(), self.word(2).to_owned());
        self.first = format!("{method} /{file} {version}");
    }

    /// Whether the connection ends with the message.
    pub(super) fn is_last(&self) -> bool {
        self.field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Length of an answer's body; nothing when only the end of the connection would tell it.
    pub(super) fn body_bytes(&self, method: &str) -> Option<u64> {
        let empty = method == "HEAD" || matches!(self.word(1), "204" | "304");
        if empty {
            return Some(0);
        }
        self.field("content-length")?.parse().ok()
    }

    /// As it goes over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for field in &self.fields {
            text.push_str(field);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] =
        b"GET /a HTTP/1.1\r\nHost: x:1\r\nrange: bytes=0-9\r\nIf-Range: \"t\"\r\n\r\nrest";

    #[test]
    fn a_head_is_written_as_it_came() {
        let end = length(REQUEST).unwrap();
        assert_eq!(&REQUEST[end..], b"rest");
        let head = Head::parse(&REQUEST[..end]).unwrap();
        assert_eq!(head.bytes(), &REQUEST[..end]);
        assert_eq!(
            (head.word(0), head.field("Range")),
            ("GET", Some("bytes=0-9"))
        );
        assert_eq!(length(&REQUEST[..end - 1]), None);
    }

    #[test]
    fn a_request_loses_its_range_and_asks_for_another_file() {
        let mut head = Head::parse(&REQUEST[..length(REQUEST).unwrap()]).unwrap();
        head.remove("Range");
        head.remove("If-Range");
        head.ask_for("b/c");
        assert_eq!(
            head.bytes(),
            b"GET /b/c HTTP/1.1\r\nHost: x:1\r\n\r\n".to_vec()
        );
    }

    #[test]
    fn the_end_of_a_body_is_known_or_said_to_be_unknown() {
        let head = |text: &str| Head::parse(text.as_bytes()).unwrap();
        let known = head("HTTP/1.1 206 Partial Content\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(
            (known.body_bytes("GET"), known.body_bytes("HEAD")),
            (Some(7), Some(0))
        );
        let unchanged = head("HTTP/1.1 304 Not Modified\r\n\r\n");
        assert_eq!(unchanged.body_bytes("GET"), Some(0));
        let chunked = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.body_bytes("GET"), None);
        assert!(head("HTTP/1.1 200 OK\r\nconnection: Close\r\n\r\n").is_last());
    }
}
