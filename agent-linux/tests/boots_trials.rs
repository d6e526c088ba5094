//! The life of an update: provision, install, trial, commit or rollback; and what `reboot-needed` says on the way.

mod support;

use serde_json::Value;
use std::fs;
use support::Board;
use support::bundle::{Release, content, key};

fn bundle(number: u64) -> Vec<u8> {
    Release::sealed(number).bundle(&[&key(1)])
}

#[test]
fn an_update_is_tried_and_committed_and_raises_the_floor_only_then() {
    let board = Board::sealed().booted(&bundle(1));
    assert_eq!(board.run(&["reboot-needed"]).code, 1);
    let installed = board.install(&bundle(2));
    assert_eq!(
        (
            installed["event"].as_str(),
            installed["trial_attempts"].as_i64()
        ),
        (Some("installed"), Some(3))
    );
    let run = board.run(&["reboot-needed"]);
    assert_eq!((run.code, run.out.lines().count()), (0, 1), "{}", run.out);
    assert!(run.out.contains("set b boots next"), "{}", run.out);

    assert_eq!(board.select(), "b trial, 2 attempts left");
    let run = board.run(&["reboot-needed"]);
    assert_eq!(
        run.code, 1,
        "a trial that runs waits for its verdict: {}",
        run.out
    );
    let status = board.status();
    assert_eq!(
        (
            status["running"].as_str(),
            status["default"].as_str(),
            status["floor"].as_u64()
        ),
        (Some("b"), Some("a"), Some(1))
    );

    assert!(board.ok(&["mark-good"]).contains("the floor is 2"));
    let status = board.status();
    assert_eq!(
        (
            status["default"].as_str(),
            &status["trial"],
            status["floor"].as_u64()
        ),
        (Some("b"), &Value::Null, Some(2))
    );
    let record = board.slots();
    assert!(board.ok(&["mark-good"]).contains("nothing changed"));
    assert_eq!(board.slots(), record, "saying it again writes nothing");
    assert_eq!(board.select(), "b default");
    assert_eq!(
        board.run(&["install", &board.bundle(&bundle(1))]).code,
        32,
        "the way to release 1 is closed"
    );
    assert_eq!(
        board.kinds(),
        [
            "install-started",
            "install-completed",
            "provisioned",
            "booted",
            "install-started",
            "install-completed",
            "trial-armed",
            "booted",
            "committed",
            "booted",
            "install-failed"
        ]
    );
    board.ok(&["history", "--verify"]);
}

#[test]
fn a_trial_that_fails_three_times_is_rolled_back() {
    let board = Board::sealed().booted(&bundle(1));
    board.install(&bundle(2));
    for left in ["2 attempts left", "1 attempt left", "0 attempts left"] {
        assert_eq!(board.select(), format!("b trial, {left}"));
    }
    assert_eq!(board.select(), "a rolled-back");
    assert_eq!(board.select(), "a default");
    let status = board.status();
    assert_eq!(
        (&status["sets"][1]["marked_bad"], &status["trial"]),
        (&Value::Bool(true), &Value::Null)
    );
    assert_eq!(board.run(&["reboot-needed"]).code, 1);
    assert_eq!(
        status["floor"].as_u64(),
        Some(1),
        "the floor rises at commit only"
    );
    board.install(&bundle(2));
    assert_eq!(
        board.select(),
        "b trial, 2 attempts left",
        "another install is another chance"
    );
}

#[test]
fn the_number_of_attempts_is_the_devices_or_the_commands() {
    let board = Board::sealed();
    board.describe("trial-attempts = 2");
    let board = board.booted(&bundle(1));
    board.install(&bundle(2));
    assert_eq!(board.select(), "b trial, 1 attempt left");
    board.ok(&["mark-bad"]);
    assert_eq!(board.select(), "a default");
    board.ok(&["install", "--attempts", "1", &board.bundle(&bundle(2))]);
    assert_eq!(board.select(), "b trial, 0 attempts left");
    assert_eq!(board.select(), "a rolled-back");
}

#[test]
fn mark_bad_and_rollback_go_back_and_say_so_once() {
    let board = Board::sealed().booted(&bundle(1));
    assert_eq!(board.run(&["rollback"]).code, 40, "set b is empty");
    assert_eq!(board.run(&["mark-bad"]).code, 40);
    // The same anti-rollback version: going back is allowed after the commit.
    let release = Release {
        anti_rollback: 1,
        ..Release::sealed(2)
    };
    board.install(&release.bundle(&[&key(1)]));
    board.select();
    board.ok(&["mark-good"]);
    for (command, kind) in [("rollback", "went-back"), ("mark-bad", "marked-bad")] {
        let entries = board.kinds().len();
        // Set a was started in vain before; whoever sends the device there wants it to be started again.
        fs::write(board.path("state/starts-a"), ".....").unwrap();
        assert!(
            board
                .ok(&[command])
                .contains("set a boots next. Restart to boot it.")
        );
        assert_eq!(board.run(&["reboot-needed"]).code, 0);
        assert!(
            board
                .ok(&[command])
                .contains("set a boots next. Nothing changed")
        );
        assert_eq!(board.kinds()[entries..], [kind]);
        assert!(!board.path("state/starts-a").exists(), "{command}");
    }
    assert_eq!(board.select(), "a default");
    assert_eq!(board.run(&["rollback"]).code, 40, "set b was marked bad");
}

#[test]
fn a_set_below_the_floor_is_no_way_back() {
    let board = Board::sealed().booted(&bundle(1));
    board.install(&bundle(2));
    board.select();
    board.ok(&["mark-good"]);
    let run = board.run(&["rollback"]);
    assert_eq!(run.code, 40, "{}", run.err);
    assert!(
        run.err.contains("below this device's floor 2"),
        "{}",
        run.err
    );
    assert_eq!(board.select(), "b default");
}

#[test]
fn a_pending_trial_is_called_off_by_the_next_install() {
    let board = Board::sealed().booted(&bundle(1));
    board.install(&bundle(2));
    board.install(&bundle(3));
    assert_eq!(board.status()["trial"]["anti_rollback"].as_u64(), Some(3));
    let refused = board.run(&[
        "install",
        &board.bundle(&Release::sealed(4).bundle(&[&key(2)])),
    ]);
    assert_eq!(refused.code, 30);
    assert_eq!(
        board.status()["trial"]["anti_rollback"].as_u64(),
        Some(3),
        "a refused bundle calls nothing off"
    );
    assert_eq!(board.select(), "b trial, 2 attempts left");
}

#[test]
fn an_install_without_a_trial_changes_nothing_at_the_next_boot() {
    let board = Board::sealed().booted(&bundle(1));
    let record = std::fs::read(board.path("state/boot-record")).unwrap();
    let file = board.bundle(&bundle(2));
    board.ok(&["install", "--no-trial", &file]);
    assert_eq!(
        std::fs::read(board.path("state/boot-record")).unwrap(),
        record
    );
    assert_eq!(board.run(&["reboot-needed"]).code, 1);
    assert_eq!(board.select(), "a default");
    let again = board.install(&bundle(2));
    assert_eq!(
        (
            again["data_bytes"].as_u64(),
            again["written_bytes"].as_u64()
        ),
        (Some(0), Some(0)),
        "all of it is there: {again}"
    );
    assert_eq!(board.select(), "b trial, 2 attempts left");
}

#[test]
fn what_the_running_set_has_is_copied_and_what_is_there_is_kept() {
    let board = Board::sealed().booted(&bundle(1));
    let shared: usize = (0..4)
        .map(|seed| content(seed, 20_000 + 3_000 * seed as usize).len())
        .sum();
    let installed = board.install(&bundle(2));
    assert_eq!(installed["copied_bytes"].as_u64(), Some(shared as u64));
    assert_eq!(
        installed["source_bytes"].as_u64(),
        Some(bundle(2).len() as u64),
        "a local bundle is checked whole"
    );
    let board = Board::sealed().booted(&bundle(1));
    let plan = board
        .run(&["--json", "plan", &board.bundle(&bundle(2))])
        .events()
        .remove(0);
    assert_eq!(plan["copy_bytes"].as_u64(), Some(shared as u64));
    let without = board
        .run(&["--json", "install", "--no-audit", &board.bundle(&bundle(2))])
        .events()
        .pop()
        .unwrap();
    assert!(without["source_bytes"].as_u64() < installed["source_bytes"].as_u64());
    assert_eq!(without["audit_bytes"].as_u64(), Some(0));
}

#[test]
fn both_sets_can_be_filled_at_the_first_provisioning() {
    let board = Board::sealed();
    let file = board.bundle(&bundle(1));
    let run = board.run(&["--json", "device", "init", "--set", "b", "--both", &file]);
    assert_eq!(run.code, 0, "{}", run.err);
    let second = run
        .events()
        .into_iter()
        .filter(|event| event["event"] == "installed")
        .nth(1)
        .unwrap();
    assert!(
        second["copied_bytes"].as_u64() > Some(0),
        "the second set is copied from the first: {second}"
    );
    assert_eq!(board.select(), "b default");
    assert!(
        board.ok(&["rollback"]).contains("set a boots next"),
        "the other set is a way back from the first day on"
    );
    assert_eq!(board.select(), "a default");
    let run = board.run(&["device", "init", &file]);
    assert_eq!(run.code, 60, "{}", run.err);
    assert!(run.err.contains("provisioned"), "{}", run.err);
    let pipe = Board::sealed().run_with_input(&["device", "init", "--both", "-"], &bundle(1));
    assert_eq!(pipe.code, 2, "{}", pipe.err);
}

#[test]
fn a_device_without_root_slots_lives_the_same_life() {
    let board = Board::image_only().booted(&Release::image(1, 300_000).bundle(&[&key(1)]));
    board.install(&Release::image(2, 300_000).bundle(&[&key(1)]));
    assert_eq!(board.status()["verity"], "no root slots");
    assert_eq!(board.select(), "b trial, 2 attempts left");
    board.ok(&["mark-good"]);
    assert_eq!(
        std::fs::read(board.path("app-b")).unwrap(),
        content(2, 300_000)
    );
    assert_eq!(
        std::fs::read(board.path("app-a")).unwrap(),
        content(1, 300_000)
    );
    assert_eq!(board.status()["floor"].as_u64(), Some(2));
}

#[test]
fn deflate_and_stored_bundles_install_as_zstd_ones_do() {
    use twinseal_core::wire::index::Encoding;
    for encoding in [Encoding::Deflate, Encoding::Stored] {
        let release = Release {
            encoding,
            images: vec![("fpga", content(77, 70_000))],
            ..Release::sealed(1)
        };
        let board = Board::sealed().booted(&release.bundle(&[&key(1), &key(2)]));
        assert_eq!(
            std::fs::read(board.path("fpga-a")).unwrap(),
            content(77, 70_000)
        );
        assert_eq!(
            board.status()["sets"][0]["release"]["signers"]
                .as_array()
                .unwrap()
                .len(),
            1,
            "only trusted keys count"
        );
    }
}
