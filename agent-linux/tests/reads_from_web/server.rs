//! The test's own web server, which can do wrong, and how it is asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use twinseal::source::account::Account;
use twinseal::source::http::{Http, Patience, Ways};
use twinseal::source::line::Line;
use twinseal_core::install::{Ahead, Purpose, Request};
use twinseal_core::source::SourceError;

pub const QUICK: Patience = Patience {
    connect: Duration::from_secs(10),
    idle: Duration::from_secs(2),
    pause: Duration::from_millis(10),
    tries: 3,
};

/// What the test's own server does.
pub struct Plan {
    pub bytes: Vec<u8>,
    pub tag: &'static str,
    /// The tag of each second answer, where two servers are behind the address; what names the other's is given everything.
    pub second_tag: &'static str,
    pub ranges: bool,
    /// Answers for ranges carry nothing, and say so.
    pub empty: bool,
    /// Answers for ranges carry more than was asked for.
    pub generous: bool,
    pub length: bool,
    /// For each connection, bytes of content after which it is cut; none left: never.
    pub cuts: Vec<usize>,
    /// How far away it is: every answer comes so much later.
    pub delay: Duration,
    /// Closes each connection after one answer, and does not say so.
    pub closes: bool,
    /// Never answers a connection any more.
    pub silent: bool,
    pub status: u16,
    /// The status of an answer to `HEAD`, where it is another.
    pub head_status: u16,
    /// One request in so many is one too many, and refused; 0: none is.
    pub refuses_each: usize,
    /// A field of each answer that has no bytes.
    pub field: &'static str,
    /// Connection and `Range` of each request; `HEAD` has none.
    requests: Vec<(usize, String)>,
}

#[derive(Clone)]
pub struct Server {
    plan: Arc<Mutex<Plan>>,
    pub url: String,
}

impl Server {
    pub fn new(bytes: Vec<u8>) -> Self {
        let plan = Plan {
            bytes,
            tag: "\"one\"",
            second_tag: "",
            ranges: true,
            empty: false,
            generous: false,
            length: true,
            cuts: Vec::new(),
            delay: Duration::ZERO,
            closes: false,
            silent: false,
            status: 206,
            field: "",
            head_status: 0,
            refuses_each: 0,
            requests: Vec::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            plan: Arc::new(Mutex::new(plan)),
            url: format!("http://{}/b.tseal", listener.local_addr().unwrap()),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let serving = serving.clone();
                // A client that goes away ends its connection, not the server.
                std::thread::spawn(move || serving.serve(number, stream.unwrap()).ok());
            }
        });
        server
    }

    pub fn set(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn requests(&self) -> Vec<(usize, String)> {
        self.plan.lock().unwrap().requests.clone()
    }

    pub fn open(&self) -> Http {
        open(&self.url).unwrap()
    }

    fn serve(&self, number: usize, stream: TcpStream) -> std::io::Result<()> {
        let mut cut = {
            let mut plan = self.plan.lock().unwrap();
            (!plan.cuts.is_empty()).then(|| plan.cuts.remove(0))
        };
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        for answers in 0.. {
            let (mut range, mut meant, mut is_head) = (None, None, false);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                is_head |= line.starts_with("HEAD ");
                if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
                    range = Some(value.trim().to_owned());
                }
                if let Some(tag) = line.strip_prefix("if-range: ") {
                    meant = Some(tag.trim().to_owned());
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            // As if the word of it had come after the next request was sent.
            if answers > 0 && self.plan.lock().unwrap().closes {
                break;
            }
            let delay = self.plan.lock().unwrap().delay;
            std::thread::sleep(delay);
            let (head, mut body) = self.answer(number, range, meant, is_head);
            if is_head {
                body.clear();
            }
            if head.is_empty() {
                // Silence: until the client gives up.
                let _ = reader.read(&mut [0]);
                return Ok(());
            }
            let sent = cut.unwrap_or(usize::MAX).min(body.len());
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body[..sent])?;
            if cut.is_some() && sent < body.len() {
                return Ok(());
            }
            cut = cut.map(|cut| cut - sent);
            if !head.contains("Content-Length") {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        number: usize,
        range: Option<String>,
        meant: Option<String>,
        is_head: bool,
    ) -> (String, Vec<u8>) {
        let mut plan = self.plan.lock().unwrap();
        plan.requests
            .push((number, range.clone().unwrap_or_default()));
        let accepts = if is_head && plan.ranges {
            "Accept-Ranges: bytes\r\n"
        } else {
            ""
        };
        if plan.silent {
            return (String::new(), Vec::new());
        }
        let counts = plan.refuses_each > 0;
        let status = match plan.requests.len() {
            number if counts && number.is_multiple_of(plan.refuses_each) => 503,
            _ if is_head => plan.status.max(plan.head_status),
            _ => plan.status,
        };
        if status >= 400 {
            let head = format!(
                "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n{}\r\n",
                plan.field
            );
            return (head, Vec::new());
        }
        let size = plan.bytes.len();
        let is_second = plan.requests.len().is_multiple_of(2);
        let (tag, is_known) = match plan.second_tag {
            "" => (plan.tag, true),
            second => {
                let tag = if is_second { second } else { plan.tag };
                (tag, meant.is_none_or(|meant| meant == tag))
            }
        };
        let range = range.filter(|_| plan.ranges && is_known).map(|range| {
            let (first, last) = range.split_once('-').unwrap();
            let more = if plan.generous { 1 } else { 0 };
            let last = last.parse::<usize>().unwrap() + more;
            (first.parse::<usize>().unwrap(), last.min(size - 1))
        });
        let (line, body) = match range {
            Some((first, _)) if plan.empty => (
                format!(
                    "206 Partial Content\r\nContent-Range: bytes {first}-{}/{size}",
                    first - 1
                ),
                Vec::new(),
            ),
            Some((first, last)) => (
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}"),
                plan.bytes[first..=last].to_vec(),
            ),
            None => ("200 OK".to_owned(), plan.bytes.clone()),
        };
        let length = if plan.length {
            format!("Content-Length: {}\r\n", body.len())
        } else {
            "Connection: close\r\n".to_owned()
        };
        let head = format!("HTTP/1.1 {line}\r\nETag: {tag}\r\n{accepts}{length}\r\n");
        (head, body)
    }
}

pub fn open(url: &str) -> std::io::Result<Http> {
    Http::open(
        url,
        Ways::default(),
        false,
        QUICK,
        Account::unlimited(Line::unlimited()),
    )
}

/// Says that so many bytes will be needed.
pub fn expect(http: &mut Http, offset: u64, bytes: u64) {
    http.expect(&Request {
        offset,
        bytes: 1,
        purpose: Purpose::Data,
        ahead: Ahead {
            run_bytes: bytes,
            ..Ahead::default()
        },
    });
}

pub fn read(http: &mut Http, offset: u64, bytes: usize) -> Result<Vec<u8>, SourceError<String>> {
    let mut buffer = vec![0; bytes];
    match http.read_at(offset, &mut buffer) {
        Ok(()) => Ok(buffer),
        Err(SourceError::Ended) => Err(SourceError::Ended),
        Err(SourceError::Source(error)) => Err(SourceError::Source(error.to_string())),
    }
}
