//! One connection of a link: requests go up, answers come down, and what the script says is done to them on the way.

use super::head::{self, HEAD_MAX_BYTES, Head};
use super::pace::piece_bytes;
use super::script::{Fate, Part, Passage, Trouble};
use super::shape::{Ending, Lie};
use super::{Shared, lock};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 64 << 10;

/// How a connection, or a part of it, ended.
enum Ended {
    /// It can go on.
    Open,
    /// It is over.
    Over(Ending),
}

/// Serves a connection to its end.
pub(super) fn serve(shared: &Shared, number: u64, client: TcpStream) {
    let second = client.try_clone();
    if let Ok(second) = second {
        lock(&shared.open).insert(number, second);
    }
    // Between the look at the end and this, the end may have come, and nobody would shut this connection down.
    let ended = if shared.end.has_come() {
        Ending::Close
    } else {
        // A connection that fails is one that has ended: the other side sees it.
        Connection::new(shared, &client)
            .run()
            .unwrap_or(Ending::Close)
    };
    // A reset is sent by the last descriptor.
    lock(&shared.open).remove(&number);
    match ended {
        Ending::Reset => {
            let _ = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
        }
        Ending::Close => {
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

struct Connection<'c> {
    shared: &'c Shared,
    client: &'c TcpStream,
    /// What was read of the client and is not yet used.
    requests: Vec<u8>,
    server: Option<TcpStream>,
    /// What was read of the server and is not yet used.
    answers: Vec<u8>,
}

impl<'c> Connection<'c> {
    fn new(shared: &'c Shared, client: &'c TcpStream) -> Self {
        Self {
            shared,
            client,
            requests: Vec::new(),
            server: None,
            answers: Vec::new(),
        }
    }

    fn run(&mut self) -> io::Result<Ending> {
        let served = lock(&self.shared.plan).script.connection();
        self.shared.count(|report| {
            report.connections += 1;
            report.dropped += u64::from(!served);
        });
        if !served {
            return Ok(Ending::Reset);
        }
        self.client.set_nodelay(true)?;
        while let Some(request) = self.request()? {
            if let Ended::Over(ending) = self.answer(request)? {
                return Ok(ending);
            }
        }
        Ok(Ending::Close)
    }

    /// The next request; nothing when the client has no more.
    fn request(&mut self) -> io::Result<Option<Head>> {
        let shared = self.shared;
        let end = read_head(self.client, &mut self.requests, |bytes| {
            shared.count(|report| report.up_bytes += bytes as u64);
        })?;
        let Some(end) = end else {
            return Ok(None);
        };
        shared.count(|report| report.requests += 1);
        let bytes: Vec<u8> = self.requests.drain(..end).collect();
        self.wait_through(&shared.up, bytes.len())?;
        let head = Head::parse(&bytes)?;
        lock(&shared.asked).push(head.field("range").unwrap_or_default().to_owned());
        Ok(Some(head))
    }

    fn answer(&mut self, mut request: Head) -> io::Result<Ended> {
        let (fate, delay) = {
            let mut plan = lock(&self.shared.plan);
            (plan.script.request(), plan.shape.delay_ms)
        };
        self.wait(Instant::now() + Duration::from_millis(delay))?;
        let method = request.word(0).to_owned();
        let has_body = request
            .field("content-length")
            .is_some_and(|bytes| bytes != "0");
        if !matches!(method.as_str(), "GET" | "HEAD") || has_body {
            return self.own_answer("501 Not Implemented", true);
        }
        let (ranges, instead) = match fate {
            Fate::Refused(status) => {
                self.shared.count(|report| report.refused += 1);
                return self.own_answer(status.text(), request.is_last());
            }
            Fate::Lied(lie) => {
                self.shared.count(|report| report.lies += 1);
                return self.lie(lie, &request);
            }
            Fate::Asked { ranges, instead } => (ranges, instead),
        };
        if let Some(file) = instead {
            self.shared.count(|report| report.replaced += 1);
            request.ask_for(&file);
        }
        if !ranges {
            request.remove("range");
            request.remove("if-range");
        }
        self.ask(&request)?;
        self.pass_answer(&method, ranges, request.is_last())
    }

    /// An answer of the link itself, without a body.
    fn own_answer(&mut self, status: &str, last: bool) -> io::Result<Ended> {
        let close = if last { "Connection: close\r\n" } else { "" };
        let mut text =
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{close}\r\n").into_bytes();
        let ended = self.down(&mut text, Part::Head)?;
        Ok(or_last(ended, last))
    }

    /// Answers as a server that means harm, until the client has had enough.
    fn lie(&mut self, lie: Lie, request: &Head) -> io::Result<Ended> {
        let (head, more, pause) = match lie {
            Lie::EndlessHead => (
                "HTTP/1.1 200 OK\r\n".to_owned(),
                &b"X-More: and more\r\n"[..],
                1,
            ),
            Lie::Redirect => {
                let path = request.word(1);
                let head = format!(
                    "HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                self.write(head.as_bytes(), Part::Head)?;
                return Ok(Ended::Over(Ending::Close));
            }
            Lie::TenGigabytes => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
                (head.to_owned(), &[7; 1024][..], 1)
            }
            Lie::Drip => {
                let range = request
                    .field("range")
                    .and_then(|range| range.strip_prefix("bytes="));
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {}/10000000000\r\n\r\n",
                    range.unwrap_or("0-9999999999")
                );
                (head, &b"m"[..], 1000)
            }
        };
        self.write(head.as_bytes(), Part::Head)?;
        // Ends by the client, which closes the connection, or with the link.
        loop {
            self.write(more, Part::Body)?;
            self.wait(Instant::now() + Duration::from_millis(pause))?;
        }
    }

    /// Sends a request to the server.
    fn ask(&mut self, request: &Head) -> io::Result<()> {
        let mut server = match self.server.take() {
            Some(server) => server,
            None => TcpStream::connect(self.shared.server)?,
        };
        server.set_nodelay(true)?;
        server.write_all(&request.bytes())?;
        self.server = Some(server);
        Ok(())
    }

    /// Passes on what the server says.
    fn pass_answer(&mut self, method: &str, ranges: bool, last: bool) -> io::Result<Ended> {
        let Some(mut server) = self.server.take() else {
            return Ok(Ended::Over(Ending::Close));
        };
        let Some(end) = read_head(&server, &mut self.answers, |_| {})? else {
            return Ok(Ended::Over(Ending::Close));
        };
        let bytes: Vec<u8> = self.answers.drain(..end).collect();
        let mut head = Head::parse(&bytes)?;
        let Some(body_bytes) = head.body_bytes(method) else {
            return self.own_answer("502 Bad Gateway", true);
        };
        if !ranges {
            head.remove("accept-ranges");
        }
        let last = last || head.is_last();
        let mut ended = self.down(&mut head.bytes(), Part::Head)?;
        let mut left = body_bytes;
        let mut buffer = vec![0; BUFFER_BYTES];
        while left > 0 && matches!(ended, Ended::Open) {
            let most = usize::try_from(left)
                .unwrap_or(BUFFER_BYTES)
                .min(BUFFER_BYTES);
            let piece = buffer.get_mut(..most).unwrap_or_default();
            let taken = self.take(&mut server, piece)?;
            if taken == 0 {
                return Ok(Ended::Over(Ending::Close));
            }
            left -= taken as u64;
            ended = self.down(piece.get_mut(..taken).unwrap_or_default(), Part::Body)?;
        }
        self.server = Some(server);
        Ok(or_last(ended, last))
    }

    /// Reads of the server, what is left of its last read first.
    fn take(&mut self, server: &mut TcpStream, piece: &mut [u8]) -> io::Result<usize> {
        if self.answers.is_empty() {
            return server.read(piece);
        }
        let length = self.answers.len().min(piece.len());
        for (to, from) in piece.iter_mut().zip(self.answers.drain(..length)) {
            *to = from;
        }
        Ok(length)
    }

    /// Sends bytes to the client, with what the script does to them.
    fn down(&mut self, bytes: &mut [u8], part: Part) -> io::Result<Ended> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Passage {
                bytes,
                corrupted,
                then,
            } = lock(&self.shared.plan).script.pass(rest, part);
            let (now, later) = rest.split_at_mut(bytes);
            self.shared
                .count(|report| report.corrupted_bytes += corrupted);
            self.write(now, part)?;
            rest = later;
            match then {
                None => {}
                Some(Trouble::Cut(ending)) => {
                    self.shared.count(|report| report.cuts += 1);
                    return Ok(Ended::Over(ending));
                }
                Some(Trouble::Stall(limit)) => {
                    self.shared.stall();
                    match limit {
                        Some(limit) => self.wait(Instant::now() + limit)?,
                        None => return self.wait_for_client(),
                    }
                }
            }
        }
        Ok(Ended::Open)
    }

    /// Writes at the pace of the link. Bytes are counted before the client can have them, and uncounted if they do not go out.
    fn write(&self, bytes: &[u8], part: Part) -> io::Result<()> {
        let rate = lock(&self.shared.plan).shape.bits_per_second;
        let count = |change: fn(u64, u64) -> u64, bytes: usize| {
            self.shared.count(|report| {
                report.down_bytes = change(report.down_bytes, bytes as u64);
                if part == Part::Body {
                    report.body_bytes = change(report.body_bytes, bytes as u64);
                }
            });
        };
        for piece in bytes.chunks(piece_bytes(rate)) {
            self.wait_through(&self.shared.down, piece.len())?;
            count(u64::wrapping_add, piece.len());
            if let Err((error, left)) = write_all(self.client, piece) {
                count(u64::wrapping_sub, left);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Silence, until the client goes away.
    fn wait_for_client(&mut self) -> io::Result<Ended> {
        let mut buffer = [0; 1024];
        loop {
            let taken = self.client.read(&mut buffer)?;
            self.shared.count(|report| report.up_bytes += taken as u64);
            if taken == 0 {
                return Ok(Ended::Over(Ending::Close));
            }
        }
    }

    fn wait_through(&self, pace: &super::Pace, bytes: usize) -> io::Result<()> {
        let rate = lock(&self.shared.plan).shape.bits_per_second;
        let now = Instant::now();
        let through = pace.through(bytes, rate, now);
        if through > now {
            self.wait(through)
        } else {
            Ok(())
        }
    }

    fn wait(&self, moment: Instant) -> io::Result<()> {
        if self.shared.end.wait_until(moment) {
            Ok(())
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }
}

fn or_last(ended: Ended, last: bool) -> Ended {
    match ended {
        Ended::Open if last => Ended::Over(Ending::Close),
        other => other,
    }
}

/// Writes all; on an error also how many bytes did not go out.
fn write_all(mut stream: &TcpStream, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut left = bytes;
    while !left.is_empty() {
        let taken = stream.write(left).map_err(|error| (error, left.len()))?;
        if taken == 0 {
            return Err((io::ErrorKind::WriteZero.into(), left.len()));
        }
        left = left.get(taken..).unwrap_or_default();
    }
    Ok(())
}

/// Reads until a whole head is in the buffer; its length, or nothing at the end of the connection.
fn read_head(
    mut stream: &TcpStream,
    buffer: &mut Vec<u8>,
    count: impl Fn(usize),
) -> io::Result<Option<usize>> {
    let mut piece = vec![0; BUFFER_BYTES];
    loop {
        if let Some(end) = head::length(buffer) {
            return Ok(Some(end));
        }
        if buffer.len() > HEAD_MAX_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let taken = stream.read(&mut piece)?;
        if taken == 0 {
            return Ok(None);
        }
        count(taken);
        buffer.extend_from_slice(piece.get(..taken).unwrap_or_default());
    }
}
