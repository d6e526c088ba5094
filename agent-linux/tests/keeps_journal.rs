//! The journal shows what was changed or cut off in it; what needs it refuses to go on, what keeps a device alive does not.

mod support;

use std::fs;
use support::Board;
use support::bundle::{Release, key};

fn bundle(number: u64) -> Vec<u8> {
    Release::sealed(number).bundle(&[&key(1)])
}

/// A board with eight entries; the boot record vouches for seven.
fn board() -> Board {
    let board = Board::sealed().booted(&bundle(1));
    board.install(&bundle(2));
    board.select();
    assert_eq!(board.kinds().len(), 8);
    board
}

fn journal(board: &Board) -> Vec<u8> {
    fs::read(board.path("state/journal")).unwrap()
}

fn write(board: &Board, bytes: &[u8]) {
    fs::write(board.path("state/journal"), bytes).unwrap();
}

/// Offsets of the frames: each starts with its length, and ends with a digest of 32 bytes.
fn frames(journal: &[u8]) -> Vec<usize> {
    let (mut offset, mut found) = (0, Vec::new());
    while offset < journal.len() {
        found.push(offset);
        offset += 2 + usize::from(u16::from_le_bytes([journal[offset], journal[offset + 1]])) + 32;
    }
    found
}

#[test]
fn a_changed_entry_shows_and_is_named() {
    let board = board();
    let good = journal(&board);
    let frames = frames(&good);
    for entry in 0..7 {
        let mut bad = good.clone();
        bad[frames[entry] + 10] ^= 1;
        write(&board, &bad);
        let run = board.run(&["history", "--verify"]);
        assert_eq!(run.code, 53, "{}", run.err);
        assert!(
            run.out.contains(&format!("broken at entry {entry}:")),
            "{}",
            run.out
        );
        let verified = board.run(&["--json", "history", "--verify"]).events();
        let last = verified
            .iter()
            .find(|event| event["event"] == "journal")
            .unwrap();
        assert_eq!(
            (
                last["chain_holds"].as_bool(),
                last["first_bad_entry"].as_u64()
            ),
            (Some(false), Some(entry as u64))
        );
        assert_eq!(
            board.run(&["history"]).out.lines().count(),
            entry,
            "what holds is shown"
        );
    }
    write(&board, &good);
    board.ok(&["history", "--verify"]);
}

#[test]
fn an_end_that_was_cut_off_shows_by_the_boot_record() {
    let board = board();
    let good = journal(&board);
    let frames = frames(&good);
    write(&board, &good[..frames[7]]);
    board.ok(&["history", "--verify"]);
    for entries in 0..7 {
        write(&board, &good[..frames[entries]]);
        let run = board.run(&["history", "--verify"]);
        assert_eq!(run.code, 53, "cut to {entries} entries: {}", run.err);
        assert!(
            run.err.contains(&format!(
                "it has {entries} entries, and the boot record vouches for 7"
            )),
            "{}",
            run.err
        );
    }
    fs::remove_file(board.path("state/journal")).unwrap();
    assert_eq!(board.run(&["history", "--verify"]).code, 53);
    // A sound chain of the right length, but another one.
    let other = Board::sealed().booted(
        &Release {
            version: "other".into(),
            ..Release::sealed(1)
        }
        .bundle(&[&key(1)]),
    );
    other.install(&bundle(2));
    write(&board, &journal(&other));
    let run = board.run(&["history", "--verify"]);
    assert_eq!(run.code, 53);
    assert!(
        run.err
            .contains("not those that the boot record vouches for"),
        "{}",
        run.err
    );
}

#[test]
fn a_torn_tail_is_reported_cut_off_and_no_damage() {
    let board = board();
    let good = journal(&board);
    let torn = [good.as_slice(), &good[..50]].concat();
    for (tail, bytes) in [(torn, 50), ([good.as_slice(), &[0; 300]].concat(), 300)] {
        write(&board, &tail);
        let run = board.run(&["history", "--verify"]);
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(
            run.out.contains(&format!(
                "{bytes} bytes of an entry that was not written whole"
            )),
            "{}",
            run.out
        );
    }
    board.ok(&["mark-good"]);
    assert_eq!(board.kinds()[8..], ["tail-cut", "committed"]);
    assert!(
        board
            .ok(&["history", "--verify"])
            .contains("300 bytes of it were cut off")
    );
}

#[test]
fn install_needs_the_journal_and_mark_good_and_select_do_not() {
    let board = board();
    let good = journal(&board);
    let mut bad = good.clone();
    bad[20] ^= 1;
    write(&board, &bad);
    let run = board.run(&["mark-good"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.err.contains("warning: The journal does not hold"),
        "{}",
        run.err
    );
    assert_eq!(board.select(), "b default");
    let (slots, file) = (board.slots(), board.bundle(&bundle(3)));
    let run = board.run(&["install", &file]);
    assert_eq!(run.code, 53, "{}", run.err);
    assert_eq!(
        (board.slots(), journal(&board)),
        (slots, bad),
        "nothing was written, not even to the journal"
    );
    // The anchor was not lowered: even the journal put back shows what is missing only if something is.
    write(&board, &good);
    board.ok(&["history", "--verify"]);
}

#[test]
fn a_journal_that_cannot_be_written_stops_an_install_and_no_commit() {
    let board = board();
    let good = journal(&board);
    // A folder where the journal must be: nothing can be appended, whoever asks.
    fs::remove_file(board.path("state/journal")).unwrap();
    fs::create_dir(board.path("state/journal")).unwrap();
    let run = board.run(&["mark-good"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.contains("warning: "), "{}", run.err);
    assert_eq!(board.select(), "b default");
    assert_eq!(board.run(&["install", &board.bundle(&bundle(3))]).code, 50);
    fs::remove_dir(board.path("state/journal")).unwrap();
    write(&board, &good);
    board.install(&bundle(3));
}

#[test]
fn a_broken_journal_can_be_set_aside_and_is_kept() {
    let board = board();
    assert!(
        board
            .ok(&["history", "--set-aside"])
            .contains("nothing was moved")
    );
    let mut bad = journal(&board);
    bad[20] ^= 1;
    write(&board, &bad);
    board.ok(&["mark-good"]);
    let said = board.ok(&["history", "--set-aside"]);
    assert!(said.contains("journal.broken-1"), "{said}");
    assert_eq!(fs::read(board.path("state/journal.broken-1")).unwrap(), bad);
    let verified = board.ok(&["history", "--verify"]);
    assert!(
        verified.contains("The chain holds: 0 entries") && verified.contains("was set aside"),
        "{verified}"
    );
    board.install(&bundle(3));
    board.ok(&["history", "--verify"]);
}

#[test]
fn times_are_shown_only_by_a_device_that_has_a_clock() {
    let board = board();
    let lines = board.ok(&["history"]);
    assert!(
        lines
            .lines()
            .all(|line| line.contains("  20") && line.contains("Z  ")),
        "{lines}"
    );
    let blind = Board::sealed();
    blind.describe("clock = \"none\"");
    let blind = blind.booted(&bundle(1));
    assert!(blind.history().iter().all(|entry| entry["time"].is_null()));
    // Without a clock a window that has not begun cannot be told, and one that has ended neither, until a time was seen.
    let window = twinseal_core::wire::manifest::ValidityWindow {
        not_before: 4_000_000_000,
        not_after: None,
    };
    blind.install(
        &Release {
            window,
            ..Release::sealed(2)
        }
        .bundle(&[&key(1)]),
    );
}
