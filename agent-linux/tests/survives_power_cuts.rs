//! An install that is killed at any moment leaves a device that boots what ran; run again it completes and does not read again
//! what is there.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use support::Board;
use support::bundle::{Release, content, key};
use twinseal_core::wire::index::Encoding;

/// A seed from the clock, printed, or the one in the environment variable `SEED`.
fn seed() -> u64 {
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    let seed = std::env::var("SEED").map_or(u64::from(clock), |text| text.parse().unwrap());
    println!("SEED={seed}");
    seed
}

/// Xorshift: enough to spread moments.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Starts an install, kills it after so many lines of its output, and gives them.
fn cut(board: &Board, arguments: &[&str], lines: usize) -> Vec<Value> {
    let mut child = board.start(arguments);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = Vec::new();
    while seen.len() < lines {
        let mut line = String::new();
        if output.read_line(&mut line).unwrap() == 0 {
            break;
        }
        seen.push(serde_json::from_str(&line).unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    seen
}

/// What must hold after any cut: set a is as it was and boots, and a trial is armed only for a set that is complete.
fn check(board: &Board, running: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>) {
    assert_eq!(
        board.set_files("a"),
        *running,
        "the running set was written"
    );
    let status = board.status();
    assert_eq!(
        (status["boot_record"].as_str(), status["default"].as_str()),
        (Some("record"), Some("a"))
    );
    assert_eq!(status["sets"][0]["bootable"], true);
    if status["trial"] != Value::Null {
        assert_eq!(status["sets"][1]["bootable"], true);
    }
    board.ok(&["history", "--verify"]);
}

/// Set b is lost, and so is a trial that was armed for it: the next boot drops it.
fn lose_set_b(board: &Board) {
    board.empty_set_b();
    let chosen = board.select();
    assert!(chosen.starts_with("a "), "{chosen}");
}

#[test]
fn a_sealed_install_killed_at_many_moments_goes_on() {
    let mut state = seed() | 1;
    let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
    let running = board.set_files("a");
    let file = board.bundle(&Release::sealed(2).bundle(&[&key(1)]));
    let whole = board.run(&["--json", "install", &file]).events();
    lose_set_b(&board);
    let moments = whole.len();
    assert!(moments > 20, "too few events to cut at: {moments}");
    let (mut cuts, mut spared, mut half_way) = (0, 0, 0);
    for number in 0..24 {
        let lines = if number < 4 {
            moments - number
        } else {
            1 + next(&mut state) as usize % moments
        };
        cut(&board, &["--json", "install", "--no-audit", &file], lines);
        cuts += 1;
        check(&board, &running);
        half_way += u64::from(board.status()["sets"][1]["bootable"] == false);
        if number % 3 == 0 {
            let again = board.run(&["--json", "install", "--no-audit", &file]);
            let installed = again.events().pop().unwrap();
            assert_eq!(
                (again.code, &installed["event"]),
                (0, &Value::from("installed")),
                "after {lines} events: {}",
                again.err
            );
            spared += installed["present_bytes"].as_u64().unwrap();
            assert_eq!(board.status()["sets"][1]["bootable"], true);
            lose_set_b(&board);
        }
    }
    println!(
        "{cuts} cuts, {half_way} of them half-way; {spared} bytes were there and not read again"
    );
    assert!(cuts == 24 && half_way > 0 && spared > 0);
    board.ok(&["install", &file]);
    assert_eq!(board.select(), "b trial, 2 attempts left");
    board.ok(&["mark-good"]);
}

#[test]
fn an_image_that_was_cut_is_read_from_the_bundle_only_where_it_is_missing() {
    const BYTES: u64 = 3_000_000;
    let mut state = seed() | 1;
    let release = |number| Release {
        range_bytes: 64 * 1024,
        encoding: Encoding::Stored,
        ..Release::image(number, BYTES as usize)
    };
    let board = Board::image_only().booted(&release(1).bundle(&[&key(1)]));
    let running = board.set_files("a");
    let mut cuts = 0;
    for number in 2..12u64 {
        let file = board.bundle(&release(number).bundle(&[&key(1)]));
        let seen = cut(
            &board,
            &["--json", "install", "--no-audit", &file],
            4 + next(&mut state) as usize % 40,
        );
        cuts += 1;
        check(&board, &running);
        // What was told as written before the cut is there: a killed process loses nothing that the kernel has.
        let told = seen
            .last()
            .and_then(|event| event["written_bytes"].as_u64())
            .unwrap_or(0);
        let run = board.run(&["--json", "install", "--no-audit", &file]);
        let installed = run.events().pop().unwrap();
        let (present, read) = (
            installed["present_bytes"].as_u64().unwrap(),
            installed["data_bytes"].as_u64().unwrap(),
        );
        assert_eq!(present + read, BYTES, "{installed}");
        assert!(
            present >= told,
            "{told} bytes had been written, {present} were found"
        );
        assert_eq!(
            std::fs::read(board.path("app-b")).unwrap(),
            content(number, BYTES as usize)
        );
    }
    println!("{cuts} cuts");
    assert_eq!(cuts, 10);
}

#[test]
fn a_first_provisioning_that_was_cut_goes_on() {
    let mut state = seed() | 1;
    let board = Board::sealed();
    let file = board.bundle(&Release::sealed(1).bundle(&[&key(1)]));
    let mut cuts = 0;
    for _ in 0..8 {
        cut(
            &board,
            &["--json", "device", "init", &file],
            2 + next(&mut state) as usize % 20,
        );
        cuts += 1;
        if board.status()["boot_record"] == "record" {
            break;
        }
        assert_eq!(board.run(&["mark-good"]).code, 54, "not provisioned yet");
    }
    println!("{cuts} cuts");
    assert!(cuts > 0);
    let again = board.run(&["device", "init", &file]);
    assert!(
        again.code == 0 || again.err.contains("provisioned"),
        "{}",
        again.err
    );
    assert_eq!(board.select(), "a default");
    board.ok(&["history", "--verify"]);
}
