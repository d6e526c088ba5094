//! The network of a recovery against real servers, and against one that does all that a server should not.
#![forbid(unsafe_code)]

mod hostile;
mod lab;

use hostile::{Hostile, answer_well, drip, partial};
use lab::{Listener, SERVER, in_network, patience, start_dnsmasq, start_nginx};
use std::fs;
use std::io::{Read, Write};
use std::iter;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twinseal_core::source::{Source, SourceError};
use twinseal_minimal::net::{Buffers, NetProblem, Patience, Setting, Stack, Storage, Url, Web};

const PORT: u16 = 8080;

/// Bytes that say where they stand.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes / 4)
        .flat_map(|word| (word as u32).to_le_bytes())
        .collect()
}

/// Opens a stack and gives it to `work`.
fn with_stack<T>(
    setting: Setting,
    patience: Patience,
    listener: &Listener,
    work: impl FnOnce(&mut Stack<'_>) -> T,
) -> Result<T, NetProblem> {
    let mut buffers = Box::new(Buffers::new());
    let mut storage = Storage::default();
    let mut stack = Stack::open(&mut buffers, &mut storage, setting, 0, patience, listener)?;
    Ok(work(&mut stack))
}

/// A known address, so that a test is about its server alone.
fn fixed() -> Setting {
    Setting::parse("10.77.0.9/24").unwrap()
}

fn url(path: &str) -> Url {
    Url::parse(&format!("http://{SERVER}:{PORT}{path}")).unwrap()
}

/// Reads all from `offset` to the end in steps; gives the bytes, or what went wrong.
fn read_all(
    stack: &mut Stack<'_>,
    url: &Url,
    bytes: usize,
    step: usize,
) -> Result<Vec<u8>, SourceError<NetProblem>> {
    let mut web = Web::open(stack, url).map_err(SourceError::Source)?;
    let mut all = vec![0; bytes];
    let mut offset = 0;
    for part in all.chunks_mut(step) {
        web.read_at(offset, part)?;
        offset += part.len() as u64;
    }
    assert_eq!(web.ends_at(offset), Ok(true));
    Ok(all)
}

#[test]
fn dhcp_names_and_ranges_of_the_servers_of_others() {
    in_network("dhcp_names_and_ranges_of_the_servers_of_others", || {
        let folder = tempfile::tempdir().unwrap();
        let bundle = content(3_000_000);
        fs::create_dir(folder.path().join("www")).unwrap();
        fs::write(folder.path().join("www/b.tseal"), &bundle).unwrap();
        let (_names, _web) = (start_dnsmasq(folder.path()), start_nginx(folder.path()));
        let listener = Listener::default();
        let start = Instant::now();
        with_stack(Setting::Dynamic, patience(), &listener, |stack| {
            let url = Url::parse("http://updates.example/b.tseal").unwrap();
            assert_eq!(
                read_all(stack, &url, bundle.len(), 100_000),
                Ok(bundle.clone())
            );
            println!("3,000,000 bytes after {:?}", start.elapsed());
            reads_with_gaps(stack, &url, &bundle);
            let unknown = Url::parse("http://nobody.example/b.tseal").unwrap();
            assert_eq!(
                Web::open(stack, &unknown).err(),
                Some(NetProblem::NameUnknown)
            );
            let missing = Url::parse("http://updates.example/c.tseal").unwrap();
            assert_eq!(
                Web::open(stack, &missing).err(),
                Some(NetProblem::Status(404))
            );
        })
        .unwrap();
        assert_eq!(listener.heard("the address on client is 10.77.0."), 1);
        assert_eq!(listener.heard("try"), 0, "nothing had to be tried again");
        let requests = fs::read_to_string(folder.path().join("requests")).unwrap();
        println!("{requests}");
        let row: Vec<&str> = requests.lines().take(5).collect();
        let connection = row[0].split(' ').next().unwrap();
        assert!(
            row.iter().all(|line| line.starts_with(connection)),
            "one connection for a row of windows"
        );
        let says_which = |line: &&str| !line.ends_with(" -");
        assert_eq!(
            row.iter().filter(|line| says_which(line)).count(),
            4,
            "all but the first say which bundle is meant"
        );
    });
}

/// Small gaps, large ones, and bytes at the very end.
fn reads_with_gaps(stack: &mut Stack<'_>, url: &Url, bundle: &[u8]) {
    let mut web = Web::open(stack, url).unwrap();
    for offset in [0, 10_000, 12_000, 900_000, 900_004, 2_999_000] {
        let mut part = vec![0; 1_000];
        web.read_at(offset as u64, &mut part).unwrap();
        assert_eq!(part, bundle[offset..offset + 1_000], "at {offset}");
    }
    assert_eq!(web.ends_at(3_000_000), Ok(true));
    assert_eq!(web.ends_at(2_999_999), Ok(false));
    assert_eq!(
        web.read_at(2_999_500, &mut [0; 501]),
        Err(SourceError::Ended)
    );
}

#[test]
fn no_cable_no_address_and_no_server_are_told_apart() {
    in_network("no_cable_no_address_and_no_server_are_told_apart", || {
        let listener = Listener::default();
        let short = Patience {
            address: patience().idle,
            ..patience()
        };
        let dynamic = with_stack(Setting::Dynamic, short, &listener, |_| ());
        assert_eq!(dynamic, Err(NetProblem::NoAddress));
        with_stack(fixed(), patience(), &listener, |stack| {
            let name = Url::parse("http://updates.example/").unwrap();
            assert_eq!(
                Web::open(stack, &name).err(),
                Some(NetProblem::NoNameServer)
            );
            assert_eq!(
                Web::open(stack, &url("/")).err(),
                Some(NetProblem::NotReached)
            );
            let nobody = Url::parse("http://10.77.0.77/").unwrap();
            let hasty = Patience {
                tries: 0,
                ..patience()
            };
            stack.patience = hasty;
            assert_eq!(
                Web::open(stack, &nobody).err(),
                Some(NetProblem::NotReached)
            );
            // One that has nobody on the way to it.
            let elsewhere = Url::parse("http://192.0.2.1/").unwrap();
            assert_eq!(
                Web::open(stack, &elsewhere).err(),
                Some(NetProblem::NotReached)
            );
        })
        .unwrap();
        assert_eq!(listener.heard("the server cannot be reached, at byte 0"), 3);
        let hasty = Patience {
            carrier: patience().idle,
            ..patience()
        };
        lab::ip(&["link", "set", "server", "down"]);
        // The kernel may take a second until it shows that nobody is there any more.
        let cut = iter::repeat_with(|| with_stack(fixed(), hasty, &listener, |_| ()))
            .take(5_000)
            .find(Result::is_err);
        assert_eq!(cut, Some(Err(NetProblem::NoCarrier)));
        lab::ip(&["link", "delete", "server"]);
        let none = with_stack(fixed(), hasty, &listener, |_| ());
        assert_eq!(none, Err(NetProblem::NoInterface));
    });
}

#[test]
fn whoever_is_called_away_waits_for_nobody() {
    in_network("whoever_is_called_away_waits_for_nobody", || {
        let hour = Duration::from_secs(3_600);
        let patience = Patience {
            carrier: hour,
            address: hour,
            connect: hour,
            pause: hour,
            ..patience()
        };
        // Nobody gives an address.
        let listener = Listener::called_away_by("asking for an address");
        let waits = with_stack(Setting::Dynamic, patience, &listener, |_| ());
        assert_eq!(waits, Err(NetProblem::CalledAway));
        // Nobody answers; and the pause after a refusal.
        for (nobody, words) in [
            ("http://10.77.0.77/", "the address on"),
            ("http://10.77.0.1:9/", "try 1 of"),
        ] {
            let listener = Listener::called_away_by(words);
            let url = Url::parse(nobody).unwrap();
            let ended = with_stack(fixed(), patience, &listener, |stack| {
                Web::open(stack, &url).err()
            });
            assert_eq!(ended, Ok(Some(NetProblem::CalledAway)), "{nobody}");
        }
        // Whoever has been asked is heard to the end: it is called away after the request has come, and before it is answered.
        let bundle = content(300_000);
        let served = bundle.clone();
        let listener = Arc::new(Listener::default());
        let asked = Arc::clone(&listener);
        let _server = Hostile::start(PORT, move |request, stream| {
            let (head, body) = partial(request, &served, "one");
            asked.call_away_in_a_wait();
            stream.write_all(&[head.as_bytes(), body].concat())?;
            Ok(true)
        });
        let patient = Patience {
            idle: hour,
            pace: hour,
            ..patience
        };
        with_stack(fixed(), patient, &listener, |stack| {
            let mut web = Web::open(stack, &url("/a")).unwrap();
            let mut read = [0; 4_000];
            web.read_at(0, &mut read).unwrap();
            assert_eq!(read, bundle[..4_000]);
        })
        .unwrap();
        // Nobody is at the other end; the kernel may take a second until it shows that.
        lab::ip(&["link", "set", "server", "down"]);
        let cut = iter::repeat_with(|| with_stack(fixed(), patience, &listener, |_| ()))
            .take(5_000)
            .find(Result::is_err);
        assert_eq!(cut, Some(Err(NetProblem::CalledAway)));
    });
}

#[test]
fn a_link_that_is_cut_every_100_kb_is_followed_to_the_end() {
    in_network(
        "a_link_that_is_cut_every_100_kb_is_followed_to_the_end",
        || {
            let bundle = content(3_000_000);
            let served = bundle.clone();
            let server = Hostile::start(PORT, move |request, stream| {
                let (head, body) = partial(request, &served, "one");
                let answer = [head.as_bytes(), body].concat();
                stream.write_all(&answer[..answer.len().min(100_000)])?;
                Ok(answer.len() <= 100_000)
            });
            let listener = Listener::default();
            with_stack(fixed(), patience(), &listener, |stack| {
                let read = read_all(stack, &url("/b.tseal"), bundle.len(), 700_000);
                assert!(read == Ok(bundle));
            })
            .unwrap();
            let cuts = listener.heard("the connection was cut, at byte");
            println!("cuts: {cuts}, connections: {}", server.connections());
            assert!(cuts >= 25 && server.connections() > cuts);
        },
    );
}

#[test]
fn a_server_without_ranges_serves_as_long_as_it_is_not_cut() {
    in_network(
        "a_server_without_ranges_serves_as_long_as_it_is_not_cut",
        || {
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
            with_stack(fixed(), patience(), &listener, |stack| {
                let read = read_all(stack, &url("/"), bundle.len(), 300_000);
                assert!(read == Ok(bundle.clone()));
                let cut = read_all(stack, &url("/cut"), bundle.len(), 300_000);
                assert_eq!(cut.err(), Some(SourceError::Source(NetProblem::Cut)));
            })
            .unwrap();
            assert_eq!(
                listener.heard("the connection was cut"),
                3,
                "the same bytes again are no progress"
            );
        },
    );
}

#[test]
fn what_a_server_does_wrong_is_said_and_ends() {
    in_network("what_a_server_does_wrong_is_said_and_ends", || {
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
            ("/chunked", P::Chunked, 1),
            ("/grows", P::Changed, 2),
            ("/replaced", P::Changed, 2),
            ("/ranges-end", P::Changed, 2),
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
            let read = with_stack(fixed(), patience(), &listener, |stack| {
                read_all(stack, &url(path), bundle.len(), 50_000)
            });
            assert_eq!(read, Ok(Err(SourceError::Source(problem))), "{path}");
            assert_eq!(server.requests() - before, requests, "{path}");
            let told = listener.heard(&problem.to_string());
            assert_eq!(told, if problem.may_pass() { 3 } else { 0 }, "{path}");
            println!("{path}: {problem}, after {:?}", start.elapsed());
        }
    });
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
        "/chunked" => ok(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        "/grows" if is_later => {
            stream.write_all(&changed("/300000", "/300001"))?;
            Ok(true)
        }
        "/replaced" if is_later => {
            assert!(request.has_if_range);
            stream.write_all(&changed("\"one\"", "\"two\""))?;
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
            stream.write_all(&body[..10_000])?;
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

#[test]
fn what_passes_is_waited_for_and_what_is_too_large_is_left() {
    in_network(
        "what_passes_is_waited_for_and_what_is_too_large_is_left",
        || {
            let bundle = content(200_000);
            let served = bundle.clone();
            let server = Hostile::start(PORT, move |request, stream| match request.path.as_str() {
                "/busy-twice" if request.number < 2 => {
                    stream.write_all(
                        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                    )?;
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
            with_stack(fixed(), patience(), &listener, |stack| {
                let read = read_all(stack, &url("/busy-twice"), bundle.len(), 60_000);
                assert!(read == Ok(bundle.clone()));
                assert_eq!(listener.heard("status 503"), 2);
                let before = server.requests();
                let moved = read_all(stack, &url("/moved-5-times"), bundle.len(), 200_000);
                assert!(moved == Ok(bundle.clone()));
                assert!(server.requests() > before + 5);
                let mut large = Web::open(stack, &url("/10-gb")).unwrap();
                let mut part = vec![0; 100_000];
                large.read_at(0, &mut part).unwrap();
                assert!(part == bundle[..100_000]);
                assert_eq!(large.ends_at(100_000), Ok(false));
                let read = read_all(stack, &url("/b.tseal"), bundle.len(), 60_000);
                assert!(
                    read == Ok(bundle),
                    "the next one is read as if nothing had been"
                );
            })
            .unwrap();
        },
    );
}

fn redirect(stream: &mut TcpStream, to: &str) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(true)
}
