//! Addresses of bundles: `http://SERVER[:PORT][/PATH]`.
//!
//! # Invariants
//! - What does not fit the grammar is no address. A [`Url`] can be put into a request as it is: it has no space, no line end and no
//!   fragment.

use super::NetProblem;
use core::fmt;
use heapless::String;

/// Longest path that is asked for, with what follows its `?`. Stops a redirect that fills memory.
pub const PATH_MAX_BYTES: usize = 1536;

/// Longest name of a server (RFC 1035, section 2.3.4).
pub const HOST_MAX_BYTES: usize = 253;

const SCHEME: &str = "http://";

/// Where a bundle is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    host: String<HOST_MAX_BYTES>,
    port: u16,
    path: String<PATH_MAX_BYTES>,
}

impl Url {
    /// Reads an address; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let scheme = text.get(..SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        Self::of_server(text.get(SCHEME.len()..)?)
    }

    /// The same without its beginning.
    fn of_server(rest: &str) -> Option<Self> {
        let start_of_path = rest.find(['/', '?']).unwrap_or(rest.len());
        let (server, path) = rest.split_at_checked(start_of_path)?;
        let (host, port) = server.split_once(':').unwrap_or((server, ""));
        let port = match port {
            "" => 80,
            port => port_of(port)?,
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!host.is_empty() && host.bytes().all(is_host)).then_some(())?;
        Some(Self {
            host: String::try_from(host).ok()?,
            port,
            path: path_of(path)?,
        })
    }

    /// The server's name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The server's port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The server as `Host` names it: without the port that everybody knows (RFC 9110, section 4.2.3).
    pub const fn authority(&self) -> Authority<'_> {
        Authority(self)
    }

    /// What the server is asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether both are served by the same server.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// Where a `Location` of this address's answer leads (RFC 9110, section 10.2.2).
    ///
    /// # Errors
    /// [`NetProblem::RedirectUnusable`] when that is no address of ours.
    pub fn follow(&self, location: &str) -> Result<Self, NetProblem> {
        let location = location.split('#').next().unwrap_or_default();
        // A name with a colon in it is a whole address, if no path or query has begun before.
        let ends = |byte: &u8| matches!(byte, b':' | b'/' | b'?');
        let before = location.bytes().find(ends);
        let path = if let Some(server) = location.strip_prefix("//") {
            return Self::of_server(server).ok_or(NetProblem::RedirectUnusable);
        } else if before == Some(b':') {
            return Self::parse(location).ok_or(NetProblem::RedirectUnusable);
        } else if location.starts_with('/') {
            path_of(location)
        } else if location.starts_with('?') {
            let path = self.path.split('?').next().unwrap_or_default();
            joined(path, "", location)
        } else {
            self.sibling(location)
        };
        Ok(Self {
            path: path.ok_or(NetProblem::RedirectUnusable)?,
            host: self.host.clone(),
            port: self.port,
        })
    }

    /// The path of a name in the same folder.
    fn sibling(&self, name: &str) -> Option<String<PATH_MAX_BYTES>> {
        let path = self.path.split('?').next()?;
        let (folder, _) = path.rsplit_once('/')?;
        joined(folder, "/", name)
    }
}

/// The server of an address, and its port where that is not 80.
#[derive(Debug)]
pub struct Authority<'u>(&'u Url);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.host)?;
        match self.0.port {
            80 => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.authority(), self.path)
    }
}

fn joined(one: &str, two: &str, three: &str) -> Option<String<PATH_MAX_BYTES>> {
    let mut path = String::<PATH_MAX_BYTES>::new();
    for part in [one, two, three] {
        path.push_str(part).ok()?;
    }
    path_of(&path)
}

fn port_of(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

/// A path that stands in a request as it is; an empty one is `/`.
fn path_of(text: &str) -> Option<String<PATH_MAX_BYTES>> {
    let is_path = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    text.bytes().all(is_path).then_some(())?;
    let mut path = String::new();
    if !text.starts_with('/') {
        path.push('/').ok()?;
    }
    path.push_str(text).ok()?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_read() {
        let full = url("http://updates.example:8080/a/b.tseal?x=1");
        assert_eq!((full.host(), full.port()), ("updates.example", 8080));
        assert_eq!(full.path(), "/a/b.tseal?x=1");
        assert_eq!(
            full.to_string(),
            "http://updates.example:8080/a/b.tseal?x=1"
        );
        let short = url("HTTP://10.0.2.2");
        assert_eq!(
            (short.host(), short.port(), short.path()),
            ("10.0.2.2", 80, "/")
        );
        assert_eq!(url("http://a?b").path(), "/?b");
        assert_eq!(url("http://a:/b").port(), 80);
        assert_eq!(full.authority().to_string(), "updates.example:8080");
        let usual = url("http://my_host:80/x");
        assert_eq!(usual.authority().to_string(), "my_host");
        assert_eq!(usual.to_string(), "http://my_host/x");
    }

    #[test]
    fn what_is_no_address_of_ours_is_refused() {
        let long = ["http://a/", &"b".repeat(PATH_MAX_BYTES)].concat();
        for wrong in [
            "",
            "http://",
            "http:///x",
            "https://a/b",
            "ftp://a/b",
            "http://a:0/",
            "http://a:65536/",
            "http://a:+80/",
            "http://user@a/",
            "http://[::1]/",
            "http://a/b c",
            "http://a/b\r\nX: y",
            "http://a/b#c",
            "http://a/\u{e9}",
            &long,
        ] {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn redirects_lead_to_absolute_and_relative_addresses() {
        let from = url("http://a:81/folder/b.tseal?x=/y");
        let leads = |location| from.follow(location).map(|to| to.to_string());
        let to = |text: &str| Ok(text.to_string());
        assert_eq!(leads("http://b/c"), to("http://b/c"));
        assert_eq!(leads("/c?d"), to("http://a:81/c?d"));
        assert_eq!(leads("c"), to("http://a:81/folder/c"));
        assert_eq!(leads("/c#part"), to("http://a:81/c"));
        assert_eq!(leads("//b:82/c"), to("http://b:82/c"));
        assert_eq!(leads("?y"), to("http://a:81/folder/b.tseal?y"));
        assert_eq!(leads("c?at=1:2"), to("http://a:81/folder/c?at=1:2"));
        for wrong in ["https://a/b", "///c", "mailto:x", "/a b", "http://"] {
            assert_eq!(
                from.follow(wrong),
                Err(NetProblem::RedirectUnusable),
                "{wrong}"
            );
        }
    }
}
