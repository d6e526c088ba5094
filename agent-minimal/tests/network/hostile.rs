//! A web server that does what a test tells it.

use crate::lab::{SERVER, move_to_server};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// What was asked for.
pub struct Request {
    pub path: String,
    pub first: usize,
    pub last: usize,
    pub has_if_range: bool,
    /// Requests before this one, over all connections.
    pub number: usize,
}

/// A running server.
pub struct Hostile {
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Hostile {
    /// Starts it on a port; `answer` writes the answer, and says whether the connection stays.
    pub fn start<F>(port: u16, answer: F) -> Self
    where
        F: Fn(&Request, &mut TcpStream) -> std::io::Result<bool> + Send + Sync + 'static,
    {
        let hostile = Self {
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, requests) = (hostile.connections.clone(), hostile.requests.clone());
        let (ready, is_ready) = mpsc::channel();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            move_to_server();
            let listener = TcpListener::bind((SERVER, port)).unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, answer) = (requests.clone(), answer.clone());
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    while let Some(mut request) = read_request(&mut stream) {
                        request.number = requests.fetch_add(1, Ordering::SeqCst);
                        if !matches!(answer(&request, &mut stream), Ok(true)) {
                            break;
                        }
                    }
                });
            }
        });
        is_ready.recv().unwrap();
        hostile
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).unwrap();
    let path = text.split(' ').nth(1).unwrap().to_owned();
    let range = text
        .lines()
        .find_map(|line| line.strip_prefix("Range: bytes="));
    let (first, last) = range.unwrap().split_once('-').unwrap();
    Some(Request {
        path,
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        has_if_range: text.contains("\r\nIf-Range: "),
        number: 0,
    })
}

/// The head of a right answer, and which bytes of the content follow.
pub fn partial<'c>(request: &Request, content: &'c [u8], tag: &str) -> (String, &'c [u8]) {
    if request.first >= content.len() {
        let whole = content.len();
        let head = format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{whole}\r\nContent-Length: 0\r\n\r\n"
        );
        return (head, &[]);
    }
    let end = (request.last + 1).min(content.len());
    let body = &content[request.first..end];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"{tag}\"\r\nContent-Range: bytes {}-{}/{}\r\nContent-Length: {}\r\n\r\n",
        request.first,
        end - 1,
        content.len(),
        body.len()
    );
    (head, body)
}

/// A right answer.
pub fn answer_well(
    request: &Request,
    stream: &mut TcpStream,
    content: &[u8],
    tag: &str,
) -> std::io::Result<bool> {
    let (head, body) = partial(request, content, tag);
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(true)
}

/// Writes the bytes one by one, each a while after the other, until the other end has enough of it.
pub fn drip(stream: &mut TcpStream, bytes: impl Iterator<Item = u8>) -> std::io::Result<bool> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    for byte in bytes {
        stream.write_all(&[byte])?;
        // Nothing comes: this is the wait, and it ends with the connection.
        if matches!(stream.read(&mut [0]), Ok(0)) {
            return Ok(false);
        }
    }
    Ok(false)
}
