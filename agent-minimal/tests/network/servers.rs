//! Servers that do what they should not, and what a client of HTTP makes of it, whichever network it has.

use crate::hostile::{self, Hostile, answer_well, drip, partial};
use crate::lab::{self, Listener, SERVER, patience};
use crate::{fixed, with_stack};
use std::io::{Read, Write};
use std::iter;
use std::net::{TcpStream, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use twinseal_core::source::{Source, SourceError};
use twinseal_minimal::net::{KernelNet, NetProblem, Patience, Transport, Url, Web};

pub const PORT: u16 = 8080;

/// Whose network the client has.
#[derive(Clone, Copy)]
pub enum Client {
    /// The stack of a recovery.
    Own,
    /// That of a running system.
    Kernel,
}

impl Client {
    /// Opens the network and gives it to `work`.
    pub fn with<T>(
        self,
        patience: Patience,
        listener: &Listener,
        work: impl FnOnce(&mut dyn Transport) -> T,
    ) -> Result<T, NetProblem> {
        match self {
            Self::Own => with_stack(fixed(), patience, listener, |stack| work(stack)),
            Self::Kernel => {
                lab::give_address();
                Ok(work(&mut KernelNet::new(patience, listener)))
            }
        }
    }
}

/// Bytes that say where they stand.
pub fn content(bytes: usize) -> Vec<u8> {
    (0..bytes / 4)
        .flat_map(|word| (word as u32).to_le_bytes())
        .collect()
}

pub fn url(path: &str) -> Url {
    Url::parse(&format!("http://{SERVER}:{PORT}{path}")).unwrap()
}

/// Reads all from `offset` to the end in steps; gives the bytes, or what went wrong.
pub fn read_all(
    network: &mut dyn Transport,
    url: &Url,
    bytes: usize,
    step: usize,
) -> Result<Vec<u8>, SourceError<NetProblem>> {
    let mut web = Web::open(network, url).map_err(SourceError::Source)?;
    let mut all = vec![0; bytes];
    let mut offset = 0;
    for part in all.chunks_mut(step) {
        web.read_at(offset, part)?;
        offset += part.len() as u64;
    }
    assert_eq!(web.ends_at(offset), Ok(true));
    Ok(all)
}

/// Starts a name server that gives each name one address, so much later.
pub fn answer_names_after(time: Duration) {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        lab::move_to_server();
        let socket = Arc::new(UdpSocket::bind((SERVER, 53)).unwrap());
        ready.send(()).unwrap();
        loop {
            let mut message = vec![0; 512];
            let (bytes, from) = socket.recv_from(&mut message).unwrap();
            // One answer, and nothing behind it but the question and that.
            message.truncate(bytes);
            let question = 12 + message[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            message.truncate(question);
            message[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 7]);
            let socket = Arc::clone(&socket);
            thread::spawn(move || {
                thread::sleep(time);
                socket.send_to(&message, from).unwrap();
            });
        }
    });
    is_ready.recv().unwrap();
}

pub fn a_link_that_is_cut_every_100_kb_is_followed_to_the_end(client: Client) {
    let bundle = content(3_000_000);
    let served = bundle.clone();
    let server = Hostile::start(PORT, move |request, stream| {
        let (head, body) = partial(request, &served, "one");
        let answer = [head.as_bytes(), body].concat();
        stream.write_all(&answer[..answer.len().min(100_000)])?;
        Ok(answer.len() <= 100_000)
    });
    let listener = Listener::default();
    client
        .with(patience(), &listener, |network| {
            let read = read_all(network, &url("/b.tseal"), bundle.len(), 700_000);
            assert!(read == Ok(bundle));
        })
        .unwrap();
    let cuts = listener.heard("the connection was cut, at byte");
    println!("cuts: {cuts}, connections: {}", server.connections());
    assert!(cuts >= 25 && server.connections() > cuts);
}

pub fn a_server_without_ranges_serves_as_long_as_it_is_not_cut(client: Client) {
    let bundle = content(1_000_000);
    let served = bundle.clone();
    Hostile::start(PORT, move |request, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            served.len()
        );
        stream.write_all(head.as_bytes())?;
        let end = if request.path == "/cut" {
            500_000
        } else {
            served.len()
        };
        stream.write_all(&served[..end])?;
        Ok(end == served.len())
    });
    let listener = Listener::default();
    client
        .with(patience(), &listener, |network| {
            let read = read_all(network, &url("/"), bundle.len(), 300_000);
            assert!(read == Ok(bundle.clone()));
            let cut = read_all(network, &url("/cut"), bundle.len(), 300_000);
            assert_eq!(cut.err(), Some(SourceError::Source(NetProblem::Cut)));
        })
        .unwrap();
    assert_eq!(
        listener.heard("the connection was cut"),
        3,
        "the same bytes again are no progress"
    );
}

pub fn what_changes_between_requests_is_asked_for_anew(client: Client) {
    let bundle = content(1_000_000);
    let served = bundle.clone();
    let server = Hostile::start(PORT, move |request, stream| {
        let (head, body) = partial(request, &served, "one");
        let answer = [head.as_bytes(), body].concat();
        match request.path.as_str() {
            // Where it sends to is good for two requests.
            "/moves" => {
                let location = format!("/signed?{}", request.number);
                let head = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation:";
                write!(stream, "{head} {location}\r\n\r\n")?;
                Ok(true)
            }
            // Two servers in turns, which know the bundle by two names; to the other's name all of it belongs.
            "/two-names" => {
                let name = ["one", "two"][request.number % 2];
                let (head, body) = partial(request, &served, name);
                match request.has_if_range && request.number % 2 == 1 {
                    true => {
                        let length = served.len();
                        write!(
                            stream,
                            "HTTP/1.1 200 OK\r\nETag: \"two\"\r\nContent-Length: {length}\r\n\r\n"
                        )?;
                        stream.write_all(&served)?;
                    }
                    false => stream.write_all(&[head.as_bytes(), body].concat())?,
                }
                Ok(true)
            }
            // Less than was asked for, each time.
            "/small" => {
                let last = request.last.min(request.first + 24_000 - 1);
                let small = hostile::Request {
                    path: String::new(),
                    last,
                    ..*request
                };
                let (head, body) = partial(&small, &served, "one");
                stream.write_all(&[head.as_bytes(), body].concat())?;
                Ok(true)
            }
            "/tires" => {
                let tired = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(&[&answer[..], tired].concat())?;
                Ok(false)
            }
            signed => {
                let since: usize = signed.split_once('?').unwrap().1.parse().unwrap();
                let expired = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
                let is_good = request.number - since <= 2;
                stream.write_all(if is_good { &answer } else { expired })?;
                Ok(true)
            }
        }
    });
    for path in ["/moves", "/tires", "/small", "/two-names"] {
        let listener = Listener::default();
        let read = client.with(patience(), &listener, |network| {
            read_all(network, &url(path), bundle.len(), 50_000)
        });
        assert!(read == Ok(Ok(bundle.clone())), "{path}: {read:?}");
        let told = listener.heard("status 403");
        println!("{path}: {told} tries, {} requests", server.requests());
        assert_eq!(told > 0, path == "/moves");
        assert_eq!(listener.heard("status 408"), 0);
    }
}

pub fn what_a_server_does_wrong_is_said_and_ends(client: Client) {
    let bundle = content(300_000);
    let served = bundle.clone();
    let server = Hostile::start(PORT, move |request, stream| {
        misbehave(request, stream, &served)
    });
    use NetProblem as P;
    let rows = [
        // What is no answer, or says no, is not asked for again.
        ("/endless-headers", P::HeadTooLong, 1),
        ("/one-long-header", P::HeadTooLong, 1),
        ("/other-protocol", P::HeadUnreadable, 1),
        ("/interim-for-ever", P::HeadUnreadable, 1),
        ("/404", P::Status(404), 1),
        ("/302-without-location", P::RedirectUnusable, 1),
        ("/redirect-to-https", P::RedirectUnusable, 1),
        ("/redirect-loop", P::Redirects, 6),
        ("/other-start", P::Answer, 1),
        ("/more-than-asked", P::Answer, 1),
        ("/other-length", P::Answer, 1),
        ("/no-range", P::Answer, 1),
        // Each byte of these is a try.
        ("/one-byte-ranges", P::Answer, 4),
        ("/chunked", P::Chunked, 1),
        ("/grows", P::Changed, 2),
        ("/ranges-end", P::Changed, 3),
        // What may pass is, and each try is told.
        ("/503", P::Status(503), 4),
        ("/429", P::Status(429), 4),
        ("/closes-at-once", P::Cut, 4),
        ("/never-answers", P::HeadSilent, 4),
        ("/headers-drip", P::HeadSilent, 4),
        ("/body-stops", P::Silent, 4),
        ("/body-drips", P::TooSlow, 4),
    ];
    for (path, problem, requests) in rows {
        let (before, start) = (server.requests(), Instant::now());
        let listener = Listener::default();
        let read = client.with(patience(), &listener, |network| {
            read_all(network, &url(path), bundle.len(), 50_000)
        });
        assert_eq!(read, Ok(Err(SourceError::Source(problem))), "{path}");
        assert_eq!(server.requests() - before, requests, "{path}");
        let told = listener.heard(&problem.to_string());
        assert_eq!(told, if problem.may_pass() { 3 } else { 0 }, "{path}");
        println!("{path}: {problem}, after {:?}", start.elapsed());
    }
}

/// Does what the path says.
fn misbehave(
    request: &hostile::Request,
    stream: &mut TcpStream,
    bundle: &[u8],
) -> std::io::Result<bool> {
    let (head, body) = partial(request, bundle, "one");
    let ok = |stream: &mut TcpStream, text: &str| -> std::io::Result<bool> {
        stream.write_all(text.as_bytes())?;
        Ok(true)
    };
    let changed = |from: &str, to: &str| {
        assert!(head.contains(from));
        [head.replace(from, to).as_bytes(), body].concat()
    };
    let is_later = request.first > 0;
    match request.path.as_str() {
        "/endless-headers" => loop {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            for number in 0.. {
                stream.write_all(format!("X-{number}: y\r\n").as_bytes())?;
            }
        },
        "/one-long-header" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
            loop {
                stream.write_all(&[b'y'; 1000])?;
            }
        }
        "/other-protocol" => ok(stream, "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        "/interim-for-ever" => loop {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        },
        "/404" => ok(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        ),
        "/429" => ok(
            stream,
            "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
        ),
        "/503" => ok(
            stream,
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        ),
        "/302-without-location" => ok(stream, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
        "/redirect-to-https" => ok(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: https://updates.example/\r\nContent-Length: 0\r\n\r\n",
        ),
        "/redirect-loop" => ok(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: redirect-loop\r\nContent-Length: 0\r\n\r\n",
        ),
        "/other-start" => {
            stream.write_all(&changed("bytes 0-", "bytes 4-"))?;
            Ok(false)
        }
        "/more-than-asked" => ok(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-299999/300000\r\nContent-Length: 300000\r\n\r\n",
        ),
        "/other-length" => {
            stream.write_all(&changed("Content-Length: ", "Content-Length: 1"))?;
            Ok(false)
        }
        "/no-range" => {
            stream.write_all(&changed("Content-Range", "X-Range"))?;
            Ok(false)
        }
        "/one-byte-ranges" => {
            let first = request.first;
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{first}/300000\r\nContent-Length: 1\r\n\r\n"
            );
            stream.write_all(&[head.as_bytes(), &bundle[first..=first]].concat())?;
            Ok(true)
        }
        "/chunked" => ok(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        "/grows" if is_later => {
            stream.write_all(&changed("/300000", "/300001"))?;
            Ok(true)
        }
        "/ranges-end" if is_later => ok(
            stream,
            "HTTP/1.1 200 OK\r\nETag: \"two\"\r\nContent-Length: 300000\r\n\r\n",
        ),
        "/closes-at-once" => Ok(false),
        "/never-answers" => wait_for_the_end(stream),
        "/headers-drip" => drip(
            stream,
            iter::repeat(*b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyy").flatten(),
        ),
        "/body-stops" => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body[..body.len() / 2])?;
            wait_for_the_end(stream)
        }
        "/body-drips" => {
            stream.write_all(head.as_bytes())?;
            drip(stream, body.iter().copied())
        }
        _ => answer_well(request, stream, bundle, "one"),
    }
}

/// Waits until the other end has enough of it.
fn wait_for_the_end(stream: &mut TcpStream) -> std::io::Result<bool> {
    let _ = stream.read(&mut [0]);
    Ok(false)
}

pub fn what_passes_is_waited_for_and_what_is_too_large_is_left(client: Client) {
    let bundle = content(200_000);
    let served = bundle.clone();
    let server = Hostile::start(PORT, move |request, stream| match request.path.as_str() {
        "/busy-twice" if request.number < 2 => {
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
            Ok(true)
        }
        "/moved-5-times" => redirect(stream, "/4"),
        "/4" => redirect(stream, "3"),
        "/3" => redirect(stream, &format!("http://{SERVER}:{PORT}/2")),
        "/2" => redirect(stream, "/1"),
        "/1" => redirect(stream, "b.tseal#now"),
        "/10-gb" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")?;
            loop {
                stream.write_all(&served)?;
            }
        }
        _ => answer_well(request, stream, &served, "one"),
    });
    let listener = Listener::default();
    client
        .with(patience(), &listener, |network| {
            let read = read_all(network, &url("/busy-twice"), bundle.len(), 60_000);
            assert!(read == Ok(bundle.clone()));
            assert_eq!(listener.heard("status 503"), 2);
            let before = server.requests();
            let moved = read_all(network, &url("/moved-5-times"), bundle.len(), 200_000);
            assert!(moved == Ok(bundle.clone()));
            assert!(server.requests() > before + 5);
            let mut large = Web::open(network, &url("/10-gb")).unwrap();
            let mut part = vec![0; 100_000];
            large.read_at(0, &mut part).unwrap();
            assert!(part == bundle[..100_000]);
            assert_eq!(large.ends_at(100_000), Ok(false));
            let read = read_all(network, &url("/b.tseal"), bundle.len(), 60_000);
            assert!(
                read == Ok(bundle),
                "the next one is read as if nothing had been"
            );
        })
        .unwrap();
}

fn redirect(stream: &mut TcpStream, to: &str) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(true)
}
