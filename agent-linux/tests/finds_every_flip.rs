//! One device gets many damaged copies of a bundle, one after the other: each is refused by the name of the part, however much of the
//! bundle is at its place by then, and nothing else changes. Then the good one installs.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::Stdio;
use support::Board;
use support::bundle::{Release, content, key};

/// Flips in each region of the bundle, beside its first and its last byte.
const FLIPS: usize = 2;

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

/// Xorshift: enough to spread places.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// An entry of a bundle: where its header starts, its content, and its padding ends.
struct Entry {
    name: String,
    header: usize,
    content: Range<usize>,
    end: usize,
}

fn entries(bundle: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut header = 0;
    while bundle[header] != 0 {
        let text = |field: Range<usize>| {
            let field = &bundle[header..][field];
            let end = field.iter().position(|byte| *byte == 0).unwrap();
            std::str::from_utf8(&field[..end]).unwrap().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        let start = header + 512;
        let end = start + size.next_multiple_of(512);
        entries.push(Entry {
            name: text(0..100),
            header,
            content: start..start + size,
            end,
        });
        header = end;
    }
    entries
}

/// Regions of a bundle, each with what the error about a flip in it must say.
fn regions(bundle: &[u8]) -> Vec<(String, Range<usize>)> {
    let mut regions = Vec::new();
    let mut end = 0;
    for entry in entries(bundle) {
        let name = match entry.name.split_once('/') {
            Some((folder, _)) => format!("`{folder}/`"),
            None => format!("`{}`", entry.name),
        };
        regions.push((name.clone(), entry.header..entry.header + 512));
        // A long content is cut, so that every part of it is hit.
        let length = entry.content.len();
        let piece = length.div_ceil(if length > 50_000 { 12 } else { 1 });
        for start in entry.content.clone().step_by(piece) {
            let end = (start + piece).min(entry.content.end);
            regions.push((name.clone(), start..end));
        }
        if entry.content.end < entry.end {
            regions.push(("padding".to_owned(), entry.content.end..entry.end));
        }
        end = entry.end;
    }
    regions.push(("the end of the archive".to_owned(), end..bundle.len()));
    regions
}

/// What no refused bundle changes: set a, and the boot record.
type Unchanged = (BTreeMap<PathBuf, Vec<u8>>, Vec<u8>);

fn unchanged(board: &Board) -> Unchanged {
    let record = std::fs::read(board.path("state/boot-record")).unwrap();
    (board.set_files("a"), record)
}

/// Installs a bad bundle from a file or from standard input; it must be refused with these words.
fn refuse(board: &Board, bad: &[u8], piped: bool, words: &str, before: &Unchanged) {
    let run = if piped {
        board.run_with_input(&["install", "-"], bad)
    } else {
        board.run(&["install", &board.bundle(bad)])
    };
    assert_ne!(run.code, 0, "a damaged bundle was installed: {}", run.out);
    assert!(run.err.starts_with("error: "), "{}", run.err);
    assert!(run.err.contains(words), "{words}: {}", run.err);
    assert!(
        unchanged(board) == *before,
        "{words}: set a or the boot record was written"
    );
}

fn check_nothing_boots(board: &Board) {
    let status = board.status();
    assert_eq!(status["sets"][1]["bootable"], false);
    assert_eq!(status["trial"], serde_json::Value::Null);
}

/// A device that holds release 1 in both sets, and release 2 with a route from there.
fn board_and_bundle() -> (Board, Vec<u8>) {
    let first = Release::sealed(1);
    let board = Board::sealed();
    std::fs::write(board.path("fpga-b"), [0; 70_000]).unwrap();
    std::fs::write(board.path("first.tseal"), first.bundle(&[&key(1)])).unwrap();
    board.ok(&["device", "init", "--both", &board.text("first.tseal")]);
    assert_eq!(board.select(), "a default");
    let second = Release {
        base: Some(Box::new(first)),
        images: vec![("fpga", content(7, 60_000))],
        ..Release::sealed(2)
    };
    (board, second.bundle(&[&key(1)]))
}

#[test]
fn flips_everywhere_are_found_one_after_the_other() {
    let mut state = seed() | 1;
    let (board, bundle) = board_and_bundle();
    let before = unchanged(&board);
    let mut flips = 0;
    // The last regions first: then nearly all of the bundle is there, and would not be needed any more.
    for (words, region) in regions(&bundle).into_iter().rev() {
        let random = |_| region.start + next(&mut state) as usize % region.len();
        let mut places: Vec<usize> = (0..FLIPS).map(random).collect();
        places.extend([region.start, region.end - 1]);
        for place in places {
            let mut bad = bundle.clone();
            bad[place] ^= 1 << (next(&mut state) % 8);
            refuse(&board, &bad, flips % 3 == 0, &words, &before);
            flips += 1;
        }
        check_nothing_boots(&board);
    }
    println!("{flips} flips refused");
    assert!(flips > 80);
    board.install(&bundle);
    assert_eq!(board.select(), "b trial, 2 attempts left");
    board.ok(&["history", "--verify"]);
}

#[test]
fn other_changes_are_found_one_after_the_other() {
    let mut state = seed() | 1;
    let (board, bundle) = board_and_bundle();
    let before = unchanged(&board);
    // All of the bundle is there but for its end.
    let mut bad = bundle.clone();
    *bad.last_mut().unwrap() ^= 1;
    refuse(&board, &bad, false, "the end of the archive", &before);
    let mut changes = 1;
    for piped in [false, true] {
        for _ in 0..6 {
            let length = next(&mut state) as usize % bundle.len();
            let words = if piped { "ends inside" } else { "" };
            refuse(&board, &bundle[..length], piped, words, &before);
        }
        for more in [1, 512, 10_240] {
            let long = [bundle.as_slice(), &vec![0; more]].concat();
            let words = if piped {
                "after the end"
            } else {
                "bytes and must have"
            };
            refuse(&board, &long, piped, words, &before);
        }
        let parts: Vec<&[u8]> = entries(&bundle)
            .iter()
            .map(|entry| &bundle[entry.header..entry.end])
            .collect();
        let end = &bundle[bundle.len() - 1024..];
        for first in 0..parts.len() {
            let mut doubled = parts.clone();
            doubled.insert(first, parts[first]);
            doubled.push(end);
            refuse(&board, &doubled.concat(), piped, "", &before);
            for second in first + 1..parts.len() {
                let mut swapped = parts.clone();
                swapped.swap(first, second);
                swapped.push(end);
                refuse(&board, &swapped.concat(), piped, "", &before);
                changes += 1;
            }
        }
        changes += 9 + parts.len();
        check_nothing_boots(&board);
    }
    println!("{changes} changes refused");
    assert!(changes > 40);
    board.install(&bundle);
    assert_eq!(board.select(), "b trial, 2 attempts left");
}

#[test]
fn a_killed_install_of_the_same_release_does_not_read_again_what_is_there() {
    let (board, bundle) = board_and_bundle();
    let mut command = board.command(&["--json", "install", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // It cannot end: the rest never comes.
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&bundle[..bundle.len() / 4 * 3]).unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let written = |line: std::io::Result<String>| {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        event["written_bytes"].as_u64().unwrap_or(0)
    };
    assert!(events.any(|line| written(line) > 50_000));
    child.kill().unwrap();
    child.wait().unwrap();
    let again = board.install(&bundle);
    assert_eq!(again["present_audited_bytes"], 0);
    assert!(again["present_bytes"].as_u64().unwrap() > 0);
    // Complete: whoever installs it once more has all of it checked.
    let checked = board.install(&bundle);
    // What the route from the running set asks for is read once more with the rest.
    assert!(checked["source_bytes"].as_u64().unwrap() >= bundle.len() as u64);
    assert_eq!(checked["present_audited_bytes"], checked["present_bytes"]);
}
