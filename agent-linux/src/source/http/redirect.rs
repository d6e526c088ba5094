//! Asking, and going where a server sends us.
//!
//! # Invariants
//! - Never from `https:` to `http:`, and never more than [`REDIRECTS_MAX`] times for a request.
//! - Name and password of an address go to its own server alone.
//! - Every request on the way is paid for before it is sent.

use super::problem::{HttpProblem, named};
use super::route::{Route, is_same_server};
use super::{Http, REST_MAX_BYTES};
use std::io::{self, Read};
use ureq::http::uri::{Authority, PathAndQuery, Scheme};
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::typestate::WithoutBody;
use ureq::{Body, RequestBuilder};

/// Redirects in a row. Servers send from one name to another and then to where files are; a circle has no end.
const REDIRECTS_MAX: u32 = 5;

/// Whether the other side closed the connection.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

impl Http {
    /// Asks for a range of the bundle that is known.
    pub(super) fn ask_range(
        &mut self,
        position: u64,
        last: u64,
        body_bytes: u64,
    ) -> io::Result<(Response<Body>, u64)> {
        let about = self.about.as_ref();
        let meant = about.and_then(|about| about.validator.clone());
        self.ask(body_bytes, |route| {
            let range = format!("bytes={position}-{last}");
            let request = route.get().header(header::RANGE, range);
            match &meant {
                Some(validator) => request.header(header::IF_RANGE, validator),
                None => request,
            }
        })
    }

    /// Sends what `make` makes, and goes where the answers send it; gives the answer and what the last request took. Where it was
    /// sent is asked at once the next time; when that place does not serve any more, the address that was given is asked again.
    pub(super) fn ask(
        &mut self,
        body_bytes: u64,
        make: impl Fn(&Route) -> RequestBuilder<WithoutBody>,
    ) -> io::Result<(Response<Body>, u64)> {
        let mut was_sent = self.route.uri != self.given;
        for _ in 0..=REDIRECTS_MAX {
            let sent_before = self.account.line().request_bytes();
            let answer = self.send(body_bytes, &make)?;
            let sent_bytes = self.account.line().request_bytes() - sent_before;
            let next = match answer.status() {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => target(&self.route.uri, &answer)?,
                // Such an address is often good for minutes.
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::GONE
                    if was_sent =>
                {
                    was_sent = false;
                    self.given.clone()
                }
                _ => return Ok((answer, sent_bytes)),
            };
            self.drop_answer(answer);
            self.go_by(next)?;
        }
        Err(HttpProblem::TooManyRedirects.into())
    }

    /// Sends one request. One that met the end of a connection that had served others is sent again at once, on a new one (RFC 9112,
    /// section 9.3.1): the other side had closed it, and the word of that was still on its way.
    fn send(
        &mut self,
        body_bytes: u64,
        make: impl Fn(&Route) -> RequestBuilder<WithoutBody>,
    ) -> io::Result<Response<Body>> {
        for is_again in [false, true] {
            self.reserve(body_bytes)?;
            self.requests += 1;
            let line = self.account.line();
            let before = (line.connections(), line.received_bytes());
            let error = match make(&self.route).call() {
                Ok(answer) => return Ok(answer),
                Err(error) => named(error.into_io()),
            };
            let line = self.account.line();
            let was_open = before == (line.connections(), line.received_bytes());
            if is_again || !was_open || !is_closed(&error) {
                return Err(error);
            }
            // A proxy that does so without saying it does it each time. With TLS every new connection costs a handshake.
            if !self.route.is_tls() {
                self.reuses = false;
                self.go_by(self.route.uri.clone())?;
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// The next request goes to `uri`.
    fn go_by(&mut self, uri: Uri) -> io::Result<()> {
        let line = self.account.line();
        let (ways, patience) = (&self.ways, &self.patience);
        self.route = Route::new(uri, &self.given, ways, patience, self.reuses, line)?;
        self.handshake_bytes = self.route.handshake_bytes();
        Ok(())
    }

    /// The text for people that comes with a redirect.
    fn drop_answer(&mut self, answer: Response<Body>) {
        let mut body = answer.into_body().into_reader().take(REST_MAX_BYTES);
        let dropped = io::copy(&mut body, &mut io::sink());
        if dropped.is_err() || body.limit() == 0 {
            self.account.lose();
        }
    }
}

/// Where an answer sends us (RFC 9110, section 10.2.2).
fn target(base: &Uri, answer: &Response<Body>) -> Result<Uri, HttpProblem> {
    let location = answer.headers().get(header::LOCATION);
    let text = location.and_then(|location| location.to_str().ok());
    let uri = text.and_then(|text| resolve(base, text));
    let uri = uri.ok_or(HttpProblem::Redirect)?;
    match (base.scheme_str(), uri.scheme_str()) {
        (Some("https"), Some("http")) => Err(HttpProblem::RedirectToPlain),
        (_, Some("http" | "https")) => Ok(uri),
        _ => Err(HttpProblem::Redirect),
    }
}

/// An address that may be relative to another one (RFC 3986, section 5.2).
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme: &Scheme = base.scheme()?;
    if location.starts_with("//") {
        return format!("{scheme}:{location}").parse().ok();
    }
    let absolute: Option<Uri> = location.parse().ok();
    if let Some(uri) = absolute.filter(|uri: &Uri| uri.scheme().is_some()) {
        return if is_same_server(base, &uri) {
            at(base, base.authority()?, uri.path_and_query()?.as_str())
        } else {
            Some(uri)
        };
    }
    // The first part of a relative path has no colon (section 4.2): this is an absolute address that cannot be read.
    if location.split(['/', '?']).next()?.contains(':') {
        return None;
    }
    let path = match location.chars().next() {
        Some('/') => location.to_owned(),
        Some('?') => format!("{}{location}", base.path()),
        Some(_) => format!("{}/{location}", base.path().rsplit_once('/')?.0),
        None => return None,
    };
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (path.as_str(), String::new()),
    };
    at(
        base,
        base.authority()?,
        &format!("{}{query}", without_dots(path)),
    )
}

/// A path on the server of `base`.
fn at(base: &Uri, authority: &Authority, path: &str) -> Option<Uri> {
    let path: PathAndQuery = path.parse().ok()?;
    let builder = Uri::builder().scheme(base.scheme()?.clone());
    let builder = builder.authority(authority.clone()).path_and_query(path);
    builder.build().ok()
}

/// A path without `.` and `..`.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.trim_start_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        parts.push("");
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_relative() {
        let base: Uri = "https://me:word@h:81/a/b/c.tseal?x=1".parse().unwrap();
        for (location, expected) in [
            ("https://cdn.example/x?y=2#z", "https://cdn.example/x?y=2"),
            ("http://h:81/x", "http://h:81/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x/../y", "https://me:word@h:81/y"),
            ("d", "https://me:word@h:81/a/b/d"),
            ("../d?q=a/../b", "https://me:word@h:81/a/d?q=a/../b"),
            ("../../../..", "https://me:word@h:81/"),
            ("?q", "https://me:word@h:81/a/b/c.tseal?q"),
            ("https://H:81/x", "https://me:word@h:81/x"),
        ] {
            let uri = resolve(&base, location).unwrap();
            assert_eq!(uri.to_string(), expected, "{location}");
        }
        for location in ["", "#here", "http://", "/a b"] {
            assert_eq!(resolve(&base, location), None, "{location}");
        }
    }
}
