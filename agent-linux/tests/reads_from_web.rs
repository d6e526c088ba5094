//! A bundle on a web server: ranges, cuts, servers without ranges, bundles that are replaced meanwhile, and what it costs.

mod support;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::Board;
use support::bundle::{Release, content, key};
use twinseal::source::account::Account;
use twinseal::source::http::{Http, HttpProblem, Patience, Ways, closed_of, problem_of};
use twinseal::source::line::{Closing, Line};
use twinseal_core::install::{Ahead, Purpose, Request};
use twinseal_core::source::SourceError;

const QUICK: Patience = Patience {
    connect: Duration::from_secs(10),
    idle: Duration::from_secs(2),
    pause: Duration::from_millis(10),
    tries: 3,
};

/// What the test's own server does.
struct Plan {
    bytes: Vec<u8>,
    tag: &'static str,
    ranges: bool,
    /// Answers for ranges carry nothing, and say so.
    empty: bool,
    /// Answers for ranges carry more than was asked for.
    generous: bool,
    length: bool,
    /// For each connection, bytes of content after which it is cut; none left: never.
    cuts: Vec<usize>,
    /// Never answers a connection any more.
    silent: bool,
    status: u16,
    /// A field of each answer that has no bytes.
    field: &'static str,
    /// Connection and `Range` of each request; `HEAD` has none.
    requests: Vec<(usize, String)>,
}

#[derive(Clone)]
struct Server {
    plan: Arc<Mutex<Plan>>,
    url: String,
}

impl Server {
    fn new(bytes: Vec<u8>) -> Self {
        let plan = Plan {
            bytes,
            tag: "\"one\"",
            ranges: true,
            empty: false,
            generous: false,
            length: true,
            cuts: Vec::new(),
            silent: false,
            status: 206,
            field: "",
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

    fn set(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn requests(&self) -> Vec<(usize, String)> {
        self.plan.lock().unwrap().requests.clone()
    }

    fn open(&self) -> Http {
        open(&self.url).unwrap()
    }

    fn serve(&self, number: usize, stream: TcpStream) -> std::io::Result<()> {
        let mut cut = {
            let mut plan = self.plan.lock().unwrap();
            (!plan.cuts.is_empty()).then(|| plan.cuts.remove(0))
        };
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        loop {
            let (mut range, mut is_head) = (None, false);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                is_head |= line.starts_with("HEAD ");
                if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
                    range = Some(value.trim().to_owned());
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let (head, mut body) = self.answer(number, range, is_head);
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
    }

    fn answer(&self, number: usize, range: Option<String>, is_head: bool) -> (String, Vec<u8>) {
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
        if plan.status >= 400 {
            let head = format!(
                "HTTP/1.1 {} No\r\nContent-Length: 0\r\n{}\r\n",
                plan.status, plan.field
            );
            return (head, Vec::new());
        }
        let size = plan.bytes.len();
        let range = range.filter(|_| plan.ranges).map(|range| {
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
        let head = format!(
            "HTTP/1.1 {line}\r\nETag: {}\r\n{accepts}{length}\r\n",
            plan.tag
        );
        (head, body)
    }
}

fn open(url: &str) -> std::io::Result<Http> {
    Http::open(
        url,
        Ways::default(),
        false,
        QUICK,
        Account::unlimited(Line::unlimited()),
    )
}

/// Says that so many bytes will be needed.
fn expect(http: &mut Http, offset: u64, bytes: u64) {
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

fn read(http: &mut Http, offset: u64, bytes: usize) -> Result<Vec<u8>, SourceError<String>> {
    let mut buffer = vec![0; bytes];
    match http.read_at(offset, &mut buffer) {
        Ok(()) => Ok(buffer),
        Err(SourceError::Ended) => Err(SourceError::Ended),
        Err(SourceError::Source(error)) => Err(SourceError::Source(error.to_string())),
    }
}

#[test]
fn what_is_needed_is_asked_for_at_once() {
    let bytes = content(1, 700_000);
    let server = Server::new(bytes.clone());
    let mut http = server.open();
    assert_eq!(http.bytes(), Some(700_000));
    expect(&mut http, 0, 700_000);
    for offset in (0..700_000).step_by(7_000) {
        assert_eq!(
            read(&mut http, offset as u64, 7_000).unwrap(),
            bytes[offset..offset + 7_000]
        );
    }
    let requests = server.requests();
    assert!(requests.len() <= 7, "windows double: {requests:?}");
    assert!(
        requests.iter().all(|(connection, _)| *connection == 0),
        "one connection: {requests:?}"
    );
    let traffic = http.traffic();
    assert_eq!(traffic.requests as usize, requests.len());
    assert!(
        (700_000..702_000).contains(&traffic.received_bytes),
        "{traffic:?}"
    );
    assert!((100..1_800).contains(&traffic.sent_bytes), "{traffic:?}");
    assert_eq!(read(&mut http, 700_000, 1), Err(SourceError::Ended));
    assert_eq!(read(&mut http, 699_999, 2), Err(SourceError::Ended));
    assert!(http.ends_at(700_000).unwrap() && !http.ends_at(1).unwrap());
}

#[test]
fn a_small_gap_is_read_and_a_large_one_is_jumped() {
    let bytes = content(2, 20_000_000);
    let server = Server::new(bytes.clone());
    let mut http = server.open();
    let mut at = |offset: usize| {
        assert_eq!(
            read(&mut http, offset as u64, 100).unwrap(),
            bytes[offset..offset + 100]
        );
    };
    [0, 600, 1_200].into_iter().for_each(&mut at);
    assert_eq!(server.requests().len(), 2);
    [5_000_000, 15_000_000].into_iter().for_each(&mut at);
    assert_eq!(server.requests().len(), 4);
    let traffic = http.traffic();
    assert!(
        traffic.received_bytes < 4_096 + 200 + 4 * 200,
        "{traffic:?}"
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|(connection, _)| *connection == 0),
        "one connection"
    );
}

#[test]
fn a_cut_connection_goes_on_where_it_stopped() {
    let bytes = content(3, 300_000);
    let server = Server::new(bytes.clone());
    server.set(|plan| plan.cuts = vec![40_000, 1, 100_000, 0, 0, 70_000]);
    let mut http = server.open();
    expect(&mut http, 0, 300_000);
    let mut whole = Vec::new();
    for offset in (0..300_000).step_by(30_000) {
        whole.extend(read(&mut http, offset as u64, 30_000).unwrap());
    }
    assert!(whole == bytes);
    let traffic = http.traffic();
    assert!(traffic.tries >= 5, "{traffic:?}");
    assert!(
        traffic.received_bytes < 303_500,
        "nothing twice: {traffic:?}"
    );
}

#[test]
fn a_server_that_stays_away_ends_the_read() {
    let server = Server::new(content(4, 300_000));
    server.set(|plan| plan.cuts = vec![10_000, 0, 0, 0, 0, 0, 0]);
    let mut http = server.open();
    assert!(matches!(
        read(&mut http, 0, 30_000),
        Err(SourceError::Source(_))
    ));
    assert_eq!(http.traffic().tries, 3);
    // It goes on later: the same value can be asked again.
    server.set(|plan| plan.cuts.clear());
    assert_eq!(read(&mut http, 10_000, 3).unwrap().len(), 3);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    let server = Server::new(content(4, 300_000));
    let mut http = server.open();
    read(&mut http, 0, 10).unwrap();
    server.set(|plan| plan.silent = true);
    let patience = Instant::now();
    assert!(matches!(
        read(&mut http, 200_000, 10),
        Err(SourceError::Source(_))
    ));
    assert!(patience.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_server_that_gives_a_byte_and_hangs_up_is_not_asked_for_each() {
    let server = Server::new(content(4, 300_000));
    server.set(|plan| {
        plan.cuts = vec![1; 1_000];
        plan.cuts[0] = 10_000;
    });
    let mut http = server.open();
    assert!(matches!(
        read(&mut http, 0, 30_000),
        Err(SourceError::Source(_))
    ));
    assert_eq!(http.traffic().tries, QUICK.tries);
}

#[test]
fn a_bundle_that_is_replaced_meanwhile_is_noticed() {
    let server = Server::new(content(5, 300_000));
    let mut http = server.open();
    read(&mut http, 0, 10).unwrap();
    server.set(|plan| plan.tag = "\"two\"");
    let mut buffer = [0; 10];
    let Err(SourceError::Source(error)) = http.read_at(200_000, &mut buffer) else {
        panic!("it was not noticed");
    };
    assert_eq!(problem_of(&error), Some(&HttpProblem::Changed));
    assert_eq!(http.traffic().tries, 0, "trying again does not help");
}

#[test]
fn an_answer_that_is_compressed_on_the_way_is_refused() {
    let server = Server::new(content(5, 300_000));
    server.set(|plan| plan.tag = "\"one\"\r\nContent-Encoding: gzip");
    let error = open(&server.url).err().expect("an answer of other bytes");
    assert_eq!(problem_of(&error), Some(&HttpProblem::Answer));
}

#[test]
fn an_answer_without_a_byte_is_not_asked_for_again() {
    let server = Server::new(content(5, 300_000));
    let mut http = server.open();
    read(&mut http, 0, 10).unwrap();
    server.set(|plan| plan.empty = true);
    let Err(SourceError::Source(error)) = http.read_at(200_000, &mut [0; 10]) else {
        panic!("nothing was there to read");
    };
    assert_eq!(problem_of(&error), Some(&HttpProblem::Answer));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_server_without_ranges_is_read_forwards() {
    for length in [true, false] {
        let bytes = content(6, 300_000);
        let server = Server::new(bytes.clone());
        server.set(|plan| (plan.ranges, plan.length) = (false, length));
        let mut http = server.open();
        assert!(!http.has_ranges());
        assert_eq!(http.bytes(), length.then_some(300_000));
        assert_eq!(read(&mut http, 5, 10).unwrap(), bytes[5..15]);
        assert_eq!(read(&mut http, 250_000, 50_000).unwrap(), bytes[250_000..]);
        assert!(http.ends_at(300_000).unwrap());
        assert_eq!(server.requests().len(), 2);
        server.set(|plan| plan.cuts = if length { vec![1_000] } else { vec![0, 1_000] });
        let mut http = server.open();
        let end = http.read_at(0, &mut [0; 2_000]);
        if length {
            let Err(SourceError::Source(error)) = end else {
                panic!("it was cut");
            };
            assert_eq!(problem_of(&error), Some(&HttpProblem::NoRanges));
        } else {
            assert!(
                matches!(end, Err(SourceError::Ended)),
                "nobody can tell that it was cut"
            );
        }
    }
}

#[test]
fn a_status_that_gives_no_bytes_is_said() {
    let server = Server::new(vec![0; 10]);
    let open = |server: &Server| open(&server.url).map(|_| ()).unwrap_err();
    server.set(|plan| plan.status = 404);
    assert_eq!(problem_of(&open(&server)), Some(&HttpProblem::Status(404)));
    assert_eq!(server.requests().len(), 1);
    server.set(|plan| plan.status = 503);
    assert_eq!(problem_of(&open(&server)), Some(&HttpProblem::Status(503)));
    assert_eq!(server.requests().len(), 5, "it may pass");
}

#[test]
fn when_its_hours_end_nothing_more_is_asked_for() {
    let server = Server::new(content(7, 300_000));
    let closing = Closing {
        at: Instant::now() + Duration::from_millis(500),
        opens: 1_700_000_000,
    };
    let line = Line::new(None, Some(closing));
    let account = Account::unlimited(line.clone());
    let mut http = Http::open(&server.url, Ways::default(), false, QUICK, account).unwrap();
    let mut asked = 0;
    let error = loop {
        // Each far from the last, so that it takes a request.
        let offset = asked % 20 * 15_000;
        asked += 1;
        match http.read_at(offset, &mut [0; 10]) {
            Ok(()) => assert!(asked < 1_000_000),
            Err(SourceError::Source(error)) => break error,
            Err(SourceError::Ended) => panic!("it is longer"),
        }
    };
    assert_eq!(
        closed_of(&error).map(|closed| closed.opens),
        Some(1_700_000_000)
    );
    assert!(Instant::now() >= closing.at);
    assert_eq!(http.traffic().tries, 0, "trying again does not help");
    let requests = server.requests().len();
    assert!(http.read_at(0, &mut [0; 10]).is_err());
    assert_eq!(server.requests().len(), requests);
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_wants_or_until_another_run() {
    let server = Server::new(vec![0; 10]);
    server.set(|plan| (plan.status, plan.field) = (503, "Retry-After: 1\r\n"));
    let begin = Instant::now();
    assert!(open(&server.url).is_err());
    let pauses = server.requests().len() as u32 - 1;
    assert!(pauses > 0 && begin.elapsed() >= pauses * Duration::from_secs(1));
    server.set(|plan| (plan.status, plan.field) = (429, "Retry-After: 601\r\n"));
    let error = open(&server.url).map(|_| ()).unwrap_err();
    let problem = problem_of(&error);
    assert_eq!(problem, Some(&HttpProblem::Busy { seconds: 601 }));
    assert_eq!(server.requests().len() as u32, pauses + 2, "asked once");
}

#[test]
fn an_update_from_the_web_costs_what_the_plan_says() {
    let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
    let bundle = Release::sealed(2).bundle(&[&key(1)]);
    let server = Server::new(bundle.clone());
    let run = board.run(&["--json", "plan", &server.url]);
    assert_eq!(run.code, 0, "{}", run.err);
    let plan = &run.events()[0];
    assert_eq!(plan["audit_bytes"], 0, "what is not needed is not fetched");
    let cost = plan["network"]["install_bytes"].as_u64().unwrap();
    assert!(cost < bundle.len() as u64 * 3 / 4, "{plan}");
    let slots = board.slots();
    let requests = server.requests().len();
    let run = board.run(&["install", "--budget", &(cost - 1).to_string(), &server.url]);
    assert_eq!(run.code, 37, "{}", run.err);
    assert_eq!(board.slots(), slots);
    let asked = server.requests().len() - requests;
    assert!(asked <= 3, "{asked} requests, none for data");
    assert!(told(&board, "install-failed") > 500);
    let run = board.run(&[
        "--json",
        "install",
        "--budget",
        &cost.to_string(),
        &server.url,
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let events = run.events();
    let traffic = events
        .iter()
        .find(|event| event["event"] == "traffic")
        .unwrap();
    let both =
        traffic["received_bytes"].as_u64().unwrap() + traffic["sent_bytes"].as_u64().unwrap();
    assert!(
        (cost * 9 / 10..=cost).contains(&both),
        "{traffic}, {cost} planned"
    );
    assert_eq!(told(&board, "install-completed"), both);
    assert_eq!(board.select(), "b trial, 2 attempts left");
}

/// Bytes in the last entry of a kind.
fn told(board: &Board, kind: &str) -> u64 {
    let entries = board.history();
    let entry = entries.iter().rfind(|entry| entry["kind"] == kind).unwrap();
    entry["source_bytes"].as_u64().unwrap()
}

#[test]
fn a_budget_is_kept_by_a_server_without_ranges_or_refused() {
    let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
    let bundle = Release::sealed(2).bundle(&[&key(1)]);
    let server = Server::new(bundle.clone());
    let run = board.run(&["--json", "plan", &server.url]);
    let cost = run.events()[0]["source_bytes"].as_u64().unwrap();
    assert!(cost < bundle.len() as u64 - 1);
    let slots = board.slots();
    // The plan's cost would do with ranges; without them the whole bundle comes.
    for (length, budget) in [
        (true, cost),
        (true, bundle.len() as u64 - 1),
        (false, 10 * bundle.len() as u64),
    ] {
        server.set(|plan| (plan.ranges, plan.length) = (false, length));
        for command in ["plan", "install"] {
            let run = board.run(&[command, "--budget", &budget.to_string(), &server.url]);
            assert_eq!(run.code, 37, "{command} {budget}: {}", run.err);
            assert!(run.err.contains("no ranges"), "{}", run.err);
        }
        assert_eq!(board.slots(), slots);
    }
    server.set(|plan| plan.length = true);
    let budget = (bundle.len() + 2_000).to_string();
    let run = board.run(&["--json", "install", "--budget", &budget, &server.url]);
    assert_eq!(run.code, 0, "{}", run.err);
    let events = run.events();
    let installed = events.last().unwrap();
    assert!(installed["source_bytes"].as_u64() <= Some(bundle.len() as u64));
    assert_eq!(board.select(), "b trial, 2 attempts left");
}

#[test]
fn an_answer_larger_than_the_request_is_refused() {
    let server = Server::new(content(2, 100_000));
    server.set(|plan| plan.generous = true);
    let error = open(&server.url).map(|_| ()).unwrap_err();
    assert_eq!(problem_of(&error), Some(&HttpProblem::Answer));
}

#[test]
fn what_cannot_be_read_has_its_exit_code() {
    let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
    let run = board.run(&["install", "http://"]);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("https://HOST/PATH"), "{}", run.err);
    let server = Server::new(Vec::new());
    server.set(|plan| plan.status = 404);
    let run = board.run(&["plan", &server.url]);
    assert_eq!(run.code, 70, "{}", run.err);
    assert!(run.err.contains("status 404"), "{}", run.err);
}

/// A web server that somebody else wrote, ended when dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx, which listens when it says how it waits for events.
fn nginx(folder: &Path, listener: TcpListener) -> io::Result<Option<Other>> {
    let (at, port) = (folder.display(), listener.local_addr().unwrap().port());
    drop(listener);
    let text = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr notice; events {{}}\n\
         http {{ access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
         uwsgi_temp_path {at}/4; scgi_temp_path {at}/5; server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
    );
    fs::write(folder.join("conf"), text).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-c")
        .arg(folder.join("conf"))
        .arg("-p")
        .arg(folder)
        .args(["-e", "stderr"])
        .stderr(Stdio::piped());
    let mut server = Other(command.spawn()?);
    let mut says = BufReader::new(server.0.stderr.as_mut().unwrap()).lines();
    let listens = says.any(|line| line.unwrap().contains("event method"));
    assert!(listens, "nginx ended");
    Ok(Some(server))
}

/// busybox, of which each process serves one connection on its standard input and output, and ends with it.
fn busybox(folder: &Path, listener: TcpListener) -> io::Result<Option<Other>> {
    let folder = folder.to_owned();
    let start = move |stream: TcpStream| {
        let mut command = Command::new("busybox");
        command.args(["httpd", "-i", "-h"]).arg(&folder);
        command.stdin(OwnedFd::from(stream.try_clone()?));
        command.stdout(OwnedFd::from(stream)).spawn()
    };
    Command::new("busybox").stdout(Stdio::null()).status()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            start(stream.unwrap()).unwrap().wait().unwrap();
        }
    });
    Ok(None)
}

#[test]
fn servers_of_others_are_understood() {
    type Start = fn(&Path, TcpListener) -> io::Result<Option<Other>>;
    let servers: [(&str, Start); 2] = [("nginx", nginx), ("busybox httpd", busybox)];
    let mut understood = 0;
    for (name, start) in servers {
        let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
        board.bundle(&Release::sealed(2).bundle(&[&key(1)]));
        let web = tempfile::tempdir().unwrap();
        fs::copy(board.path("bundle.tseal"), web.path().join("b.tseal")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Ok(_server) = start(web.path(), listener) else {
            eprintln!("not asked: there is no {name} here");
            continue;
        };
        let url = format!("http://127.0.0.1:{port}/b.tseal");
        let run = board.run(&["--json", "install", &url]);
        assert_eq!(run.code, 0, "{name}: {}", run.err);
        let events = run.events();
        let traffic = events
            .iter()
            .find(|event| event["event"] == "traffic")
            .unwrap();
        println!("{name}: {traffic}");
        assert!(traffic["received_bytes"].as_u64() > Some(1_000));
        assert_eq!(
            board
                .run(&["plan", &format!("http://127.0.0.1:{port}/none")])
                .code,
            70
        );
        assert_eq!(board.select(), "b trial, 2 attempts left");
        understood += 1;
    }
    assert!(
        understood > 0,
        "no web server of others starts here: install nginx-light, or busybox-static"
    );
}
