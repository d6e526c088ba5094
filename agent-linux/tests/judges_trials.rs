//! `health`: a trial is kept only when its checks pass and all that it holds can be read.

mod support;

use serde_json::Value;
use std::fs;
use std::process::Command;
use support::Board;
use support::bundle::{Release, content, key, verity};

/// A device whose set b is on trial and runs.
fn on_trial() -> Board {
    let board = Board::sealed();
    board.describe("health = \"health.d\"");
    let board = board.booted(&Release::sealed(1).bundle(&[&key(1)]));
    board.install(&Release::sealed(2).bundle(&[&key(1)]));
    assert_eq!(board.select(), "b trial, 2 attempts left");
    fs::create_dir(board.path("health.d")).unwrap();
    board
}

/// Writes a check through a process of its own: a process that another test starts could inherit a file that this one has open for writing, and
/// such a file cannot be executed (ETXTBSY).
fn check(board: &Board, name: &str, text: &str) {
    let written = Command::new("sh")
        .args(["-c", r#"printf '%s\n' "$2" >"$1" && chmod 755 "$1""#, "sh"])
        .arg(board.path("health.d").join(name))
        .arg(format!("#!/bin/sh\n{text}"))
        .status();
    assert!(written.unwrap().success());
}

fn last(board: &Board) -> Value {
    board.history().pop().unwrap()
}

#[test]
fn a_healthy_trial_is_committed() {
    let board = on_trial();
    check(&board, "10-network", "echo link is up");
    check(&board, "20-service", "true");
    let out = board.ok(&["health"]);
    assert!(out.contains("check 10-network passed"), "{out}");
    assert!(out.contains("  | link is up"), "{out}");
    assert!(out.contains("Set b is healthy: 2 checks passed"), "{out}");
    assert_eq!(last(&board)["kind"], "health-passed");
    assert_eq!(board.status()["default"], "a", "nothing was asked for");
    let run = board.run(&["--json", "health", "--commit"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let events = run.events();
    let verdict = events
        .iter()
        .find(|event| event["event"] == "health")
        .unwrap();
    assert!(verdict["objects"].as_u64() > Some(3), "{verdict}");
    assert!(verdict["bytes"].as_u64() > Some(80_000), "{verdict}");
    assert_eq!(events.last().unwrap()["event"], "committed");
    assert!(events.iter().any(|event| event["phase"] == "checking"));
    assert_eq!(board.status()["default"], "b");
    board.ok(&["history", "--verify"]);
}

#[test]
fn outside_a_trial_nothing_is_checked() {
    let board = on_trial();
    check(&board, "10", "touch $(dirname $0)/../was-run; false");
    board.ok(&["mark-good"]);
    let entries = board.history().len();
    assert!(board.ok(&["health", "--commit"]).contains("not on trial"));
    assert!(!board.path("was-run").exists());
    assert_eq!(board.history().len(), entries);
}

/// A device whose committed set b was started three times, as the initramfs counts.
fn counted() -> Board {
    let board = on_trial();
    board.ok(&["mark-good"]);
    fs::write(board.path("state/starts-b"), "...").unwrap();
    fs::write(board.path("state/starts-a"), ".").unwrap();
    board
}

#[test]
fn a_counted_start_that_went_well_is_forgotten() {
    let board = counted();
    check(&board, "10-network", "true");
    assert!(
        board
            .ok(&["status"])
            .contains("started 3 times without a word")
    );
    assert_eq!(board.status()["sets"][1]["counted_starts"], 3);
    let entries = board.history().len();
    assert!(board.ok(&["health"]).contains("Set b is well: 1 check"));
    assert!(
        board.path("state/starts-b").exists(),
        "nothing was asked for"
    );
    let run = board.run(&["--json", "health", "--commit"]);
    let verdict = run.events().pop().unwrap();
    assert_eq!((run.code, &verdict["passed"]), (0, &true.into()));
    assert_eq!(verdict["on_trial"], false);
    assert!(!board.path("state/starts-b").exists());
    assert!(board.path("state/starts-a").exists(), "not of this set");
    assert_eq!(board.history().len(), entries, "no write at each start");
}

#[test]
fn a_counted_start_that_did_not_go_well_stays_counted() {
    let board = counted();
    check(&board, "10-network", "exit 7");
    let run = board.run(&["health", "--commit"]);
    assert_eq!(run.code, 80, "{}", run.err);
    assert!(
        run.out.contains("10-network ended with exit code 7"),
        "{}",
        run.out
    );
    assert_eq!(board.status()["sets"][1]["counted_starts"], 3);
    assert_eq!(board.status()["sets"][1]["marked_bad"], false);
    assert_eq!(last(&board)["kind"], "health-failed");
}

#[test]
fn mark_good_forgets_counted_starts() {
    let board = counted();
    board.ok(&["mark-good"]);
    assert!(!board.path("state/starts-b").exists());
    assert!(board.path("state/starts-a").exists());
}

#[test]
fn a_trial_that_checks_nothing_proves_nothing() {
    let board = on_trial();
    let run = board.run(&["health", "--commit", "--no-restart"]);
    assert_eq!(run.code, 80, "{}", run.err);
    assert!(run.out.contains("there is no health check"), "{}", run.out);
    assert_eq!(board.status()["sets"][1]["marked_bad"], true);
    assert_eq!(board.select(), "a default");
}

#[test]
fn the_first_check_that_fails_ends_it() {
    let board = on_trial();
    check(&board, "10-bad", "echo no link; exit 7");
    check(&board, "20-later", "touch $(dirname $0)/../was-run");
    let run = board.run(&["health"]);
    assert_eq!(run.code, 80);
    assert!(run.out.contains("  | no link"), "{}", run.out);
    assert!(
        run.out.contains("10-bad ended with exit code 7"),
        "{}",
        run.out
    );
    assert!(!board.path("was-run").exists());
    let entry = last(&board);
    assert_eq!(entry["failure"]["reason"], "check-failed");
    assert_eq!(entry["failure"]["exit_code"], 7);
    assert_eq!(board.status()["trial"]["set"], "b", "nothing was asked for");
}

#[test]
fn a_check_that_hangs_is_a_failure() {
    let board = on_trial();
    check(&board, "10-hangs", "sleep 600");
    let run = board.run(&["health", "--commit", "--no-restart", "--time-limit", "1"]);
    assert_eq!(run.code, 80);
    assert!(run.out.contains("did not end within 1 s"), "{}", run.out);
    assert_eq!(board.status()["sets"][1]["marked_bad"], true);
}

#[test]
fn a_damaged_object_is_named_and_fails_the_trial() {
    let board = on_trial();
    check(&board, "10", "true");
    let object = verity(&content(0, 20_000)).to_string();
    let file = board
        .path("root-b/composefs/objects")
        .join(&object[..2])
        .join(&object[2..]);
    let mut bytes = fs::read(&file).unwrap();
    bytes[12_345] ^= 1;
    fs::write(&file, bytes).unwrap();
    let run = board.run(&["health", "--commit", "--no-restart"]);
    assert_eq!(run.code, 80, "{}", run.err);
    assert!(run.err.contains(&object), "{}", run.err);
    let failed = board
        .history()
        .into_iter()
        .find(|entry| entry["kind"] == "health-failed")
        .unwrap();
    assert_eq!(failed["failure"]["object"], object.as_str());
    assert_eq!(board.status()["sets"][1]["marked_bad"], true);
}

#[test]
fn the_root_slot_that_the_initramfs_left_is_read() {
    let board = on_trial();
    check(&board, "10", "true");
    fs::create_dir_all(board.path("root-slot/composefs/objects")).unwrap();
    fs::create_dir_all(board.path("root-slot/composefs/images")).unwrap();
    let run = board.run(&["health"]);
    assert_eq!(run.code, 80, "the image of the manifest is not there");
    assert!(run.err.contains("is missing"), "{}", run.err);
}

#[test]
fn a_trial_whose_release_cannot_be_proved_is_not_kept() {
    let board = on_trial();
    check(&board, "10", "true");
    let front = board.path("root-b/twinseal/manifest.tar");
    let whole = fs::read(&front).unwrap();
    let mut changed = whole.clone();
    changed[600] ^= 1;
    fs::write(&front, changed).unwrap();
    let run = board.run(&["health"]);
    assert_eq!(run.code, 80, "{}", run.err);
    assert!(run.err.contains("cannot be proved"), "{}", run.err);
    assert_eq!(last(&board)["failure"]["reason"], "slot-unreadable");
    fs::remove_file(&front).unwrap();
    assert_eq!(board.run(&["health"]).code, 80);
    fs::write(&front, whole).unwrap();
    assert_eq!(board.run(&["health", "--commit"]).code, 0);
}
