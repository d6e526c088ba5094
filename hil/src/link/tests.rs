//! The link with real sockets, in front of a server of bytes that every test can foresee.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

const FILE_BYTES: usize = 100_000;

/// The content of a file, told from others by its name.
fn content(name: &str) -> Vec<u8> {
    let first = name.bytes().last().unwrap_or_default();
    (0..FILE_BYTES)
        .map(|place| first.wrapping_add((place % 251) as u8))
        .collect()
}

/// A server of files with ranges and lasting connections; it ends with the process.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer_all(stream.unwrap()).ok());
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut name, mut range) = (String::new(), None);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(rest) = line.strip_prefix("GET /") {
                name = rest.split(' ').next().unwrap().to_owned();
            }
            if let Some(rest) = line.strip_prefix("Range: bytes=") {
                let (first, last) = rest.trim().split_once('-').unwrap();
                range = Some((first.parse().unwrap(), last.parse::<usize>().unwrap()));
            }
            if line == "\r\n" {
                break;
            }
        }
        let whole = content(&name);
        let (status, body) = match range {
            Some((first, last)) => ("206 Partial Content", &whole[first..=last]),
            None => ("200 OK", &whole[..]),
        };
        let length = if name == "endless" {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {}", body.len())
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\n{length}\r\n\r\n"
        )?;
        stream.write_all(body)?;
    }
}

fn link(shape: &str) -> Link {
    Link::start(toml::from_str(shape).unwrap(), 7, server(), None).unwrap()
}

/// A client that counts what it says and hears.
struct Client {
    stream: TcpStream,
    sent: u64,
    received: u64,
}

/// An answer: its head, and as much of its body as came.
struct Answer {
    head: String,
    body: Vec<u8>,
    whole: bool,
}

impl Client {
    fn new(link: &Link) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port)).unwrap();
        Self {
            stream,
            sent: 0,
            received: 0,
        }
    }

    fn ask(&mut self, name: &str, more: &str) {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
        self.sent += request.len() as u64;
    }

    fn get(&mut self, name: &str, more: &str) -> Answer {
        self.ask(name, more);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Some(byte) = self.read(1) else {
                return Answer {
                    head: String::from_utf8_lossy(&head).into_owned(),
                    body: Vec::new(),
                    whole: false,
                };
            };
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.split("Content-Length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = Vec::new();
        while body.len() < length {
            match self.read(length - body.len()) {
                Some(bytes) => body.extend(bytes),
                None => break,
            }
        }
        let whole = body.len() == length;
        Answer { head, body, whole }
    }

    /// Some bytes; nothing when no more come.
    fn read(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; most];
        let taken = self.stream.read(&mut buffer).unwrap_or(0);
        self.received += taken as u64;
        buffer.truncate(taken);
        (taken > 0).then_some(buffer)
    }
}

#[test]
fn a_good_link_passes_on_every_byte_and_counts_it() {
    let link = link("");
    let mut client = Client::new(&link);
    let answer = client.get("a", "");
    assert!(answer.whole && answer.body == content("a"));
    assert!(answer.head.contains("Accept-Ranges"), "{}", answer.head);
    let answer = client.get("b", "Range: bytes=10-19\r\n");
    assert!(answer.head.starts_with("HTTP/1.1 206"), "{}", answer.head);
    assert_eq!(answer.body, content("b")[10..20]);
    let report = link.report();
    assert_eq!(
        (report.up_bytes, report.down_bytes),
        (client.sent, client.received)
    );
    assert_eq!(report.body_bytes, FILE_BYTES as u64 + 10);
    assert_eq!((report.connections, report.requests), (1, 2));
    assert_eq!((report.cuts, report.corrupted_bytes), (0, 0));
}

#[test]
fn connections_are_cut_every_so_many_bytes_exactly() {
    for ending in ["close", "reset"] {
        let link = link(&format!(
            "cut = {{ every-bytes = 30000, by = \"{ending}\" }}"
        ));
        let (mut received, mut body) = (0, Vec::new());
        while body.len() < FILE_BYTES {
            let mut client = Client::new(&link);
            let range = format!("Range: bytes={}-{}\r\n", body.len(), FILE_BYTES - 1);
            body.extend(client.get("a", &range).body);
            received += client.received;
            assert!(received % 30_000 == 0 || body.len() == FILE_BYTES);
        }
        assert_eq!(body, content("a"));
        let report = link.report();
        assert_eq!((report.cuts, report.connections), (3, 4), "{ending}");
        assert_eq!(report.down_bytes, received);
    }
}

#[test]
fn bodies_are_corrupted_alike_for_the_same_seed() {
    let shape = "corrupt = { mean-bytes = 5000 }";
    let [one, two] = [link(shape), link(shape)].map(|link| {
        let answer = Client::new(&link).get("a", "");
        assert!(answer.whole);
        let differ = answer.body.iter().zip(content("a"));
        let differ = differ.filter(|(one, two)| **one != *two).count();
        assert_eq!(link.report().corrupted_bytes, differ as u64);
        assert!((5..60).contains(&differ), "{differ} of about 20");
        answer.body
    });
    assert_eq!(one, two);
}

#[test]
fn refusals_pass_and_do_not_end_the_connection() {
    for (status, words) in [(404, "Not Found"), (416, "Range Not"), (503, "Service")] {
        let link = link(&format!("refuse = {{ status = {status}, times = 2 }}"));
        let mut client = Client::new(&link);
        for _ in 0..2 {
            let answer = client.get("a", "Range: bytes=0-9\r\n");
            assert!(answer.head.contains(words), "{}", answer.head);
            assert!(answer.body.is_empty());
        }
        assert_eq!(client.get("a", "").body, content("a"));
        let report = link.report();
        assert_eq!((report.refused, report.connections), (2, 1));
    }
}

#[test]
fn a_server_can_be_made_one_without_ranges() {
    let link = link("no-ranges = true");
    let answer = Client::new(&link).get("a", "Range: bytes=10-19\r\nIf-Range: \"t\"\r\n");
    assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
    assert!(!answer.head.contains("Accept-Ranges"), "{}", answer.head);
    assert_eq!(answer.body, content("a"));
}

#[test]
fn a_file_is_replaced_between_requests() {
    let link = link("replace = { after-bytes = 1, by = \"c\" }");
    let mut client = Client::new(&link);
    assert_eq!(client.get("a", "").body, content("a"));
    assert_eq!(client.get("a", "").body, content("c"));
    assert_eq!(link.report().replaced, 1);
}

#[test]
fn a_file_is_replaced_for_so_many_requests() {
    let link = link("replace = { after-bytes = 0, by = \"c\", requests = 1 }");
    let mut client = Client::new(&link);
    assert_eq!(client.get("a", "").body, content("c"));
    assert_eq!(client.get("a", "").body, content("a"));
    assert_eq!(link.report().replaced, 1);
}

#[test]
fn a_lie_answers_what_was_asked_for_and_no_more_often_than_once() {
    for (lie, head, first) in [
        ("redirect", "302 Found\r\nLocation: /a\r\n", None),
        (
            "ten-gigabytes",
            "200 OK\r\nContent-Length: 10000000000\r\n",
            Some(7),
        ),
        (
            "drip",
            "206 Partial Content\r\nContent-Range: bytes 5-9/10000000000\r\n",
            Some(b'm'),
        ),
    ] {
        let link = link(&format!("lies = [\"{lie}\"]"));
        let mut client = Client::new(&link);
        client.ask("a", "Range: bytes=5-9\r\n");
        let mut told = Vec::new();
        while !told.ends_with(b"\r\n\r\n") {
            told.extend(client.read(1).unwrap());
        }
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains(head), "{told}");
        assert_eq!(client.read(1), first.map(|byte| vec![byte]));
        assert_eq!(Client::new(&link).get("a", "").body, content("a"));
        assert_eq!(link.report().lies, 1);
    }
}

#[test]
fn dropped_connections_carry_nothing_and_the_next_one_does() {
    let link = link("drop = { one-in = 1, times = 2 }");
    for served in [false, false, true] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port)).unwrap();
        // The reset may come before the request is out.
        let _ = stream.write_all(b"GET /a HTTP/1.1\r\n\r\n");
        let came = stream.read(&mut [0; 10]).unwrap_or(0);
        assert_eq!(came > 0, served);
    }
    assert_eq!(link.report().dropped, 2);
}

#[test]
fn a_short_stall_is_waited_out_and_a_long_one_ends_with_the_client() {
    let short = link("stall = { after-bytes = 5000, for-ms = 30 }");
    let begin = Instant::now();
    assert!(Client::new(&short).get("a", "").whole);
    assert!(begin.elapsed() >= Duration::from_millis(30));
    assert_eq!(short.report().stalls, 1);

    let long = link("stall = { after-bytes = 5000 }");
    let mut client = Client::new(&long);
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(!client.get("a", "").whole);
    assert_eq!(client.received, 5_000);
    drop(client);
    assert!(Client::new(&long).get("a", "").whole);
    assert_eq!(long.report().stalls, 1);
}

#[test]
fn bytes_and_answers_take_their_time() {
    // 100 kB at 4 Mbit/s are 200 ms, and the delay comes before each of two answers.
    let link = link("bits-per-second = 4000000\ndelay-ms = 40");
    let begin = Instant::now();
    let mut client = Client::new(&link);
    assert!(client.get("a", "").whole);
    client.get("a", "Range: bytes=0-0\r\n");
    assert!(begin.elapsed() >= Duration::from_millis(280));
}

#[test]
fn a_link_is_changed_while_it_is_open_and_goes_on_counting() {
    let link = link("no-ranges = true");
    let mut client = Client::new(&link);
    let before = client.get("a", "Range: bytes=0-9\r\n");
    assert_eq!(before.body.len(), FILE_BYTES);
    let report = link.report();
    link.change(Shape::default(), 7);
    assert_eq!(client.get("a", "Range: bytes=0-9\r\n").body.len(), 10);
    let since = link.report().since(&report);
    assert_eq!(
        (since.requests, since.body_bytes, since.connections),
        (1, 10, 0)
    );
}

#[test]
fn what_a_link_does_not_understand_is_refused_by_itself() {
    let link = link("");
    let mut client = Client::new(&link);
    assert!(client.get("endless", "").head.contains("502"));
    assert!(client.read(1).is_none(), "nothing can follow");
    let answer = Client::new(&link).get("a", "Content-Length: 3\r\n");
    assert!(answer.head.contains("501"), "{}", answer.head);
}

#[test]
fn dropping_a_link_ends_what_hangs_on_it() {
    let link = link("stall = { after-bytes = 100 }");
    let mut client = Client::new(&link);
    client.ask("a", "");
    while client.received < 100 {
        client.read(100).unwrap();
    }
    let idle = Client::new(&link);
    drop(link);
    assert!(client.read(1).is_none());
    let mut idle = idle;
    assert!(idle.read(1).is_none());
}

#[test]
fn a_server_that_is_not_there_ends_the_connection() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let link = Link::start(Shape::default(), 1, address, None).unwrap();
    let mut client = Client::new(&link);
    client.ask("a", "");
    assert!(client.read(1).is_none());
}
