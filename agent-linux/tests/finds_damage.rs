//! `check` names what is damaged; `repair` replaces it by the same bytes and nothing else.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use support::Board;
use support::bundle::{Release, content, key, verity};

/// Release 1 runs in set a, release 2 is in set b; they share objects.
fn updated() -> Board {
    let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
    board.install(&Release::sealed(2).bundle(&[&key(1)]));
    board
}

/// Where an object that both releases have lies in a set.
fn shared(board: &Board, set: &str) -> (String, PathBuf) {
    let object = verity(&content(0, 20_000)).to_string();
    let folder = board.path(&format!("root-{set}/composefs/objects"));
    let file = folder.join(&object[..2]).join(&object[2..]);
    (object, file)
}

fn damaged(board: &Board, arguments: &[&str]) -> (i32, Vec<Value>) {
    let run = board.run(&[&["--json", "check"], arguments].concat());
    let events = run.events();
    let sets = events
        .iter()
        .filter(|event| event["event"] == "checked-set");
    let parts = sets.flat_map(|set| set["damaged"].as_array().unwrap().clone());
    (run.code, parts.collect())
}

#[test]
fn a_sound_device_is_well_and_stays_as_it_is() {
    let board = updated();
    let before = board.slots();
    let out = board.ok(&["check"]);
    assert!(
        out.contains("Set a is well") && out.contains("Set b is well"),
        "{out}"
    );
    assert!(
        board
            .ok(&["repair", "--from-other-set"])
            .contains("0 objects replaced")
    );
    assert_eq!(board.slots(), before);
    board.empty_set_b();
    assert!(
        board
            .ok(&["check", "--set", "b"])
            .contains("Set b holds nothing")
    );
}

/// The slots without the damaged objects that a repair keeps until the next install.
fn but_kept(board: &Board) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut slots = board.slots();
    slots.retain(|file, _| !file.to_string_lossy().contains("/composefs/tmp/damaged-"));
    slots
}

#[test]
fn a_changed_object_is_named_and_replaced_from_the_other_set() {
    for set in ["a", "b"] {
        let board = updated();
        let before = board.slots();
        let (object, file) = shared(&board, set);
        let mut bytes = fs::read(&file).unwrap();
        bytes[7] ^= 0x40;
        fs::write(&file, bytes).unwrap();
        let (code, parts) = damaged(&board, &[]);
        assert_eq!((code, parts.len()), (81, 1), "{parts:?}");
        assert_eq!(parts[0]["digest"], object.as_str());
        assert_eq!(parts[0]["problem"], "other-digest");
        let other = if set == "a" { "b" } else { "a" };
        assert_eq!(damaged(&board, &["--set", other]).0, 0);
        let starts = board.path(&format!("state/starts-{set}"));
        fs::write(&starts, "...").unwrap();
        let out = board.ok(&["repair", "--from-other-set", "--set", set]);
        assert!(
            out.contains("1 object replaced, 0 objects still damaged"),
            "{out}"
        );
        assert!(!starts.exists(), "what was damaged may be why they failed");
        assert_eq!(damaged(&board, &[]).0, 0);
        assert_eq!(but_kept(&board), before, "the same bytes, and nothing else");
        let entry = board.history().pop().unwrap();
        assert_eq!(entry["kind"], "object-repaired");
        assert_eq!(entry["object"], object.as_str());
        board.ok(&["history", "--verify"]);
    }
}

#[test]
fn what_is_damaged_in_both_sets_stays_damaged() {
    let board = updated();
    let (object, _) = shared(&board, "a");
    for set in ["a", "b"] {
        fs::write(shared(&board, set).1, "short").unwrap();
    }
    assert_eq!(damaged(&board, &[]).1.len(), 2);
    let run = board.run(&["repair", "--from-other-set"]);
    assert_eq!(run.code, 81, "{}", run.err);
    assert!(
        run.err.contains(&object) && run.err.contains("either"),
        "{}",
        run.err
    );
    assert_eq!(fs::read(shared(&board, "a").1).unwrap(), b"short");
    assert_ne!(board.kinds().last().unwrap(), "object-repaired");
}

#[test]
fn a_damaged_uki_and_a_missing_image_are_named() {
    let board = updated();
    let uki = board.path("boot-b/EFI/BOOT/BOOTX64.EFI");
    let mut bytes = fs::read(&uki).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&uki, bytes).unwrap();
    let images = board.path("root-b/composefs/images");
    let image = fs::read_dir(&images)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let digest = image.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(images.join(fs::read_link(&image).unwrap())).unwrap();
    fs::remove_file(&image).unwrap();
    let (code, parts) = damaged(&board, &["--set", "b"]);
    assert_eq!((code, parts.len()), (81, 3), "{parts:?}");
    assert_eq!(
        (&parts[0]["problem"], &parts[0]["digest"]),
        (&"missing".into(), &digest.into())
    );
    assert_eq!(
        (&parts[2]["part"], &parts[2]["problem"]),
        (&"uki".into(), &"other-digest".into())
    );
    let run = board.run(&["repair", "--from-other-set", "--set", "b"]);
    assert_eq!(run.code, 81);
    assert!(run.err.contains("UKI"), "{}", run.err);
}

#[test]
fn a_release_that_cannot_be_proved_is_a_finding() {
    let board = updated();
    let front = board.path("root-b/twinseal/manifest.tar");
    let whole = fs::read(&front).unwrap();
    let find = |what: &str| {
        let (code, parts) = damaged(&board, &[]);
        assert_eq!((code, parts.len()), (81, 1), "{what}: {parts:?}");
        assert_eq!(
            (&parts[0]["part"], &parts[0]["problem"], &parts[0]["digest"]),
            (&"release".into(), &"not-proved".into(), &Value::Null)
        );
        let text = parts[0]["text"].as_str().unwrap();
        assert!(text.starts_with("What set b holds cannot be"), "{text}");
        let run = board.run(&["repair", "--from-other-set", "--set", "b"]);
        assert_eq!(run.code, 81, "{what}: {}", run.err);
        assert!(run.err.contains("cannot be proved"), "{}", run.err);
    };
    let mut changed = whole.clone();
    changed[600] ^= 1;
    fs::write(&front, changed).unwrap();
    find("a changed manifest");
    fs::write(&front, &whole[..700]).unwrap();
    find("a short one");
    fs::remove_file(&front).unwrap();
    find("none, and a UKI that boots");
    fs::remove_dir_all(board.path("root-b")).unwrap();
    fs::create_dir(board.path("root-b")).unwrap();
    find("an empty root slot");
    board.empty_set_b();
    assert_eq!(board.run(&["check"]).code, 0, "nothing boots there");
}

#[test]
fn what_is_damaged_in_both_sets_comes_from_a_bundle_and_nothing_else_does() {
    let board = updated();
    let before = board.slots();
    for set in ["a", "b"] {
        fs::write(shared(&board, set).1, "short").unwrap();
    }
    let bundle = board.bundle(&Release::sealed(1).bundle(&[&key(1)]));
    for set in ["a", "b"] {
        let run = board.run(&["--json", "repair", "--set", set, &bundle]);
        assert_eq!(run.code, 0, "set {set}: {}", run.err);
        let events = run.events();
        assert_eq!(events.last().unwrap()["repaired"], 1);
        let plan = events
            .iter()
            .find(|event| event["event"] == "plan")
            .unwrap();
        println!("set {set}: {plan}");
        assert_eq!(damaged(&board, &["--set", set]).0, 0);
        let entry = board.history().pop().unwrap();
        assert_eq!(entry["kind"], "object-repaired");
        assert_eq!(entry["from"], "bundle");
    }
    assert_eq!(but_kept(&board), before, "the same bytes, and nothing else");
    assert_eq!(
        board.status()["trial"]["set"],
        "b",
        "the trial waits as before"
    );
}

#[test]
fn a_bundle_of_a_stranger_repairs_nothing() {
    let board = updated();
    fs::write(shared(&board, "a").1, "short").unwrap();
    let bundle = board.bundle(&Release::sealed(1).bundle(&[&key(2)]));
    assert_eq!(board.run(&["repair", &bundle]).code, 30);
    assert_eq!(fs::read(shared(&board, "a").1).unwrap(), b"short");
    assert_eq!(board.run(&["repair"]).code, 2, "from where?");
}
