//! A bundle on a web server: ranges, cuts, servers without ranges, bundles that are replaced meanwhile, and what it costs.

mod others;
mod server;
#[path = "../support/mod.rs"]
mod support;

use server::{QUICK, Server, expect, open, read};
use std::time::{Duration, Instant};
use support::Board;
use support::bundle::{Release, content, key};
use twinseal::source::account::Account;
use twinseal::source::http::{Http, HttpProblem, Ways, closed_of, problem_of};
use twinseal::source::line::{Closing, Line};
use twinseal_core::source::SourceError;

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

/// As over a satellite: the link is fast, and each request waits.
#[test]
fn a_server_that_is_far_away_is_asked_for_more_at_once() {
    let bytes = content(6, 6_000_000);
    let server = Server::new(bytes.clone());
    server.set(|plan| plan.delay = Duration::from_millis(600));
    let mut http = server.open();
    expect(&mut http, 0, 6_000_000);
    for (number, piece) in bytes.chunks(100_000).enumerate() {
        let read = read(&mut http, number as u64 * 100_000, piece.len());
        assert!(read.unwrap() == piece);
    }
    let requests = server.requests();
    // With windows that stayed as they were it would be 120, and a slow machine may keep one or another small.
    assert!(requests.len() < 30, "windows double: {requests:?}");
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

/// As some proxies do: each request after the first would meet the end of its connection.
#[test]
fn a_connection_that_was_closed_unseen_is_no_failure() {
    let bytes = content(3, 700_000);
    let server = Server::new(bytes.clone());
    server.set(|plan| plan.closes = true);
    let mut http = server.open();
    expect(&mut http, 0, 700_000);
    let mut whole = Vec::new();
    for offset in (0..700_000).step_by(70_000) {
        whole.extend(read(&mut http, offset as u64, 70_000).unwrap());
    }
    assert!(whole == bytes);
    let (traffic, requests) = (http.traffic(), server.requests());
    assert_eq!(traffic.tries, 0);
    // One was sent twice; after it each has a connection of its own.
    assert_eq!(traffic.requests as usize, requests.len() + 1);
    assert!(requests.len() <= 7, "windows double: {requests:?}");
    let connections = requests.iter().map(|(connection, _)| *connection);
    assert!(connections.eq(0..requests.len()), "{requests:?}");
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
    server.set(|plan| (plan.tag, plan.bytes) = ("\"two\"", content(5, 299_999)));
    let mut buffer = [0; 10];
    let Err(SourceError::Source(error)) = http.read_at(200_000, &mut buffer) else {
        panic!("it was not noticed");
    };
    assert_eq!(problem_of(&error), Some(&HttpProblem::Changed));
    assert_eq!(http.traffic().tries, 0, "trying again does not help");
}

/// As behind a proxy: each second request comes to another server, where the file has another date.
#[test]
fn two_servers_may_name_a_bundle_differently() {
    let bytes = content(7, 2_000_000);
    let server = Server::new(bytes.clone());
    server.set(|plan| plan.second_tag = "\"two\"");
    let mut http = server.open();
    expect(&mut http, 0, 2_000_000);
    for (number, piece) in bytes.chunks(50_000).enumerate() {
        let read = read(&mut http, number as u64 * 50_000, piece.len());
        assert!(read.unwrap() == piece);
    }
    assert_eq!(http.traffic().tries, 0, "nothing failed");
    let connections = server.requests().iter().map(|(number, _)| *number).max();
    assert_eq!(connections, Some(1), "one answer was left");
}

#[test]
fn an_answer_that_is_compressed_on_the_way_is_refused() {
    let server = Server::new(content(5, 300_000));
    server.set(|plan| plan.tag = "\"one\"\r\nContent-Encoding: gzip");
    let error = open(&server.url).err().expect("an answer of other bytes");
    assert_eq!(problem_of(&error), Some(&HttpProblem::Compressed));
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
    assert_eq!(server.requests().len(), 2, "with its head and with bytes");
    server.set(|plan| plan.status = 503);
    assert_eq!(problem_of(&open(&server)), Some(&HttpProblem::Status(503)));
    assert_eq!(server.requests().len(), 6, "it may pass");
}

#[test]
fn a_server_that_tells_nothing_without_bytes_is_asked_for_bytes() {
    for status in [400, 403, 404, 405, 410, 501] {
        let bytes = content(11, 100_000);
        let server = Server::new(bytes.clone());
        server.set(|plan| plan.head_status = status);
        let read = read(&mut server.open(), 0, bytes.len());
        assert_eq!(read, Ok(bytes), "{status}");
    }
}

/// The link is as good as before: what such a server counts is requests, so they do not become more and smaller.
#[test]
fn a_server_that_counts_requests_is_asked_in_as_large_pieces_as_before() {
    let bytes = content(12, 3_000_000);
    let server = Server::new(bytes.clone());
    server.set(|plan| plan.refuses_each = 4);
    assert_eq!(read(&mut server.open(), 0, bytes.len()), Ok(bytes.clone()));
    let requests = server.requests().len();
    // In pieces of 48 KiB they would be more than 80.
    assert!(requests < 40, "{requests}");
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
