//! A data partition that cannot be mounted: the device goes on with what runs, and nothing is chosen, told, installed or decided until
//! it is there again.

mod support;

use std::fs;
use support::Board;
use support::bundle::{Release, key};

/// Set a runs and set b waits for its trial; then the device restarts without its data partition. Its firmware chooses, and cannot
/// be asked here: every word to it would be an error.
fn without_data() -> Board {
    let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
    board.install(&Release::sealed(2).bundle(&[&key(1)]));
    let description = fs::read_to_string(board.path("device.toml")).unwrap();
    let description =
        format!("{description}[boot]\nloader = \"uefi\"\nvariables = \"no-variables\"\n");
    fs::write(board.path("device.toml"), description).unwrap();
    fs::rename(board.path("state"), board.path("data-partition")).unwrap();
    fs::write(board.path("data-volatile"), "").unwrap();
    board
}

fn state(board: &Board) -> Vec<String> {
    let Ok(entries) = fs::read_dir(board.path("state")) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn the_running_set_goes_on_and_nobody_is_told_anything() {
    let board = without_data();
    let run = board.run(&["select", "--restart"]);
    assert_eq!((run.code, run.out.trim_end()), (0, "a data-volatile"));
    assert!(
        run.err.starts_with("warning: The data partition"),
        "{}",
        run.err
    );
    assert_eq!(state(&board), [""; 0], "no record, no mark, no journal");
    assert!(!board.path("on-trial").exists());
    // The initramfs had its reasons to make it.
    fs::write(board.path("on-trial"), "").unwrap();
    board.ok(&["select", "--restart"]);
    assert!(board.path("on-trial").exists());
    fs::remove_file(board.path("data-volatile")).unwrap();
    assert_eq!(
        board.run(&["select"]).code,
        55,
        "otherwise the firmware is asked"
    );
}

#[test]
fn nothing_is_installed_and_nothing_is_decided() {
    let board = without_data();
    let slots = board.slots();
    let bundle = board.bundle(&Release::sealed(3).bundle(&[&key(1)]));
    for command in [
        &["install", &bundle][..],
        &["plan", &bundle],
        &["device", "init", &bundle],
        &["repair", "--from-other-set"],
        &["mark-good"],
        &["mark-bad"],
        &["rollback"],
        &["reboot-needed"],
        &["history", "--set-aside"],
    ] {
        let run = board.run(command);
        assert_eq!(run.code, 50, "{command:?}: {}", run.err);
        assert!(
            run.err
                .starts_with("error: The data partition could not be mounted"),
            "{command:?}: {}",
            run.err
        );
    }
    let out = board.ok(&["health", "--commit"]);
    assert!(out.contains("nothing is decided"), "{out}");
    assert_eq!(board.status()["data_volatile"], true);
    assert!(board.ok(&["status"]).contains("NOT MOUNTED"));
    assert_eq!(board.run(&["check"]).code, 0, "what is sealed can be read");
    assert_eq!(board.slots(), slots);
}

#[test]
fn with_the_partition_back_the_device_is_as_before() {
    let board = without_data();
    board.run(&["select", "--restart"]);
    fs::remove_dir_all(board.path("state")).ok();
    fs::rename(board.path("data-partition"), board.path("state")).unwrap();
    fs::remove_file(board.path("data-volatile")).unwrap();
    let status = board.status();
    assert_eq!(status["data_volatile"], false);
    assert_eq!(status["trial"]["set"], "b");
    assert_eq!(status["trial"]["attempts_left"], 3);
}
