//! `select` on a board without a boot loader: what boots when the record is lost, when sets are missing, when nothing is left.

mod support;

use std::fs;
use support::Board;
use support::bundle::{Release, key};

fn bundle(number: u64) -> Vec<u8> {
    Release::sealed(number).bundle(&[&key(1)])
}

fn updated() -> Board {
    let board = Board::sealed().booted(&bundle(1));
    board.install(&bundle(2));
    board.select();
    board.ok(&["mark-good"]);
    board
}

#[test]
fn a_corrupt_record_stops_everything_but_select_which_makes_it_anew() {
    let board = updated();
    fs::write(board.path("state/boot-record"), [0x5a; 8192]).unwrap();
    for command in [
        &["mark-good"][..],
        &["rollback"],
        &["reboot-needed"],
        &["plan", "x"],
    ] {
        let run = board.run(command);
        assert_eq!(run.code, 54, "{command:?}: {}", run.err);
        assert!(run.err.contains("`twinseal select`"), "{}", run.err);
    }
    assert_eq!(board.status()["boot_record"], "corrupt");
    assert_eq!(
        board
            .run(&["device", "init", &board.bundle(&bundle(3))])
            .code,
        54
    );
    assert_eq!(
        board.select(),
        "b record-rebuilt",
        "set a is below the floor that the journal knows"
    );
    let status = board.status();
    assert_eq!(
        (status["default"].as_str(), status["floor"].as_u64()),
        (Some("b"), Some(2))
    );
    assert_eq!(board.select(), "b default");
    assert_eq!(
        board.run(&["install", &board.bundle(&bundle(1))]).code,
        32,
        "the floor survived"
    );
    board.ok(&["history", "--verify"]);
}

#[test]
fn a_blank_record_is_told_from_a_corrupt_one() {
    let board = Board::sealed();
    let run = board.run(&["install", &board.bundle(&bundle(1))]);
    assert_eq!(run.code, 2, "nobody knows what runs: {}", run.err);
    fs::write(board.path("running-set"), "a\n").unwrap();
    let run = board.run(&["install", &board.bundle(&bundle(1))]);
    assert_eq!(run.code, 54, "{}", run.err);
    assert!(
        run.err.contains("`twinseal device init BUNDLE`"),
        "{}",
        run.err
    );
    assert_eq!(board.run(&["select"]).code, 54);
}

#[test]
fn a_default_set_that_is_gone_falls_back_and_asks_for_no_restart() {
    // The same anti-rollback version, so that release 1 stays a way back.
    let board = Board::sealed().booted(&bundle(1));
    board.install(
        &Release {
            anti_rollback: 1,
            ..Release::sealed(2)
        }
        .bundle(&[&key(1)]),
    );
    board.select();
    board.ok(&["mark-good"]);
    board.empty_set_b();
    assert_eq!(board.select(), "a fallback");
    assert_eq!(
        board.run(&["reboot-needed"]).code,
        1,
        "a restart would end here again"
    );
    board.install(&bundle(3));
    assert_eq!(
        board.select(),
        "b trial, 2 attempts left",
        "and the lost set can be repaired"
    );
}

#[test]
fn nothing_to_boot_is_said() {
    let board = updated();
    for file in ["boot-a", "boot-b"] {
        fs::remove_dir_all(board.path(file)).unwrap();
    }
    let run = board.run(&["select"]);
    assert_eq!((run.code, run.out.as_str()), (54, ""), "{}", run.err);
    assert_eq!(
        board.history().last().unwrap()["set"],
        serde_json::Value::Null
    );
}

#[test]
#[ignore = "needs root, and a file system with chattr +i for temporary files"]
fn an_attempt_that_cannot_be_stored_is_not_made() {
    let board = Board::sealed().booted(&bundle(1));
    board.install(&bundle(2));
    // A record whose medium refuses writes: a symbolic link to a file that even root cannot write.
    let record = fs::read(board.path("state/boot-record")).unwrap();
    let sealed = board.path("state/boot-record");
    let chattr = |flag: &str| {
        let mut command = std::process::Command::new("chattr");
        let ended = command.arg(flag).arg(&sealed).status().unwrap();
        assert!(ended.success(), "chattr {flag}: needs root");
    };
    chattr("+i");
    let run = board.run(&["select"]);
    chattr("-i");
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.out.trim_end(), "a default", "{}", run.err);
    assert!(run.err.contains("warning: "), "{}", run.err);
    assert_eq!(fs::read(&sealed).unwrap(), record);
    assert_eq!(board.select(), "b trial, 2 attempts left", "later it can");
}

#[test]
fn a_missing_key_does_not_keep_a_device_from_booting() {
    let board = updated();
    fs::remove_file(board.path("release.pub")).unwrap();
    let run = board.run(&["select"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.starts_with("b "), "{}", run.out);
    assert!(run.err.contains("release.pub"), "{}", run.err);
    assert_eq!(
        board.run(&["status"]).code,
        2,
        "but nothing else goes on without it"
    );
}
