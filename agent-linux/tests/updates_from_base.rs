//! An update follows the route from a base release only where the front matter of the running set or of the target set proves that it
//! holds the base, and the boot record says that the base was committed there.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use support::Board;
use support::bundle::{Release, key, verity};

/// Release `number`, with a route from release `base`.
fn after(number: u64, base: u64) -> Release {
    Release {
        base: Some(Box::new(Release::sealed(base))),
        ..Release::sealed(number)
    }
}

fn bundle(release: &Release) -> Vec<u8> {
    release.bundle(&[&key(1)])
}

/// The plan of an install into the target set.
fn plan(board: &Board, release: &Release) -> Value {
    let file = board.bundle(&bundle(release));
    let run = board.run(&["--json", "plan", &file]);
    assert_eq!(run.code, 0, "{}", run.err);
    let mut events = run.events().into_iter();
    events.find(|event| event["event"] == "plan").unwrap()
}

/// A device whose two sets hold release 1; set a runs.
fn twice_provisioned() -> Board {
    let board = Board::sealed();
    fs::write(board.path("first.tseal"), bundle(&Release::sealed(1))).unwrap();
    board.ok(&["device", "init", "--both", &board.text("first.tseal")]);
    assert_eq!(board.select(), "a default");
    board
}

/// The objects in a set, by their digests, but for composefs images.
fn assert_holds(board: &Board, set: &str, release: &Release) {
    let folder = format!("root-{set}/composefs/objects/");
    let files = board.set_files(set);
    let found: BTreeSet<String> = files
        .keys()
        .filter_map(|path| path.to_str()?.split_once(&folder))
        .map(|(_, name)| name.replace('/', ""))
        .collect();
    let expected = release
        .objects
        .iter()
        .map(|object| verity(object).to_string());
    let expected: BTreeSet<String> = expected.collect();
    assert!(found.is_superset(&expected), "an object is missing");
    assert_eq!(found.len(), expected.len() + 1, "and the composefs image");
}

#[test]
fn what_both_sets_were_provisioned_with_is_a_base() {
    let board = twice_provisioned();
    let release = after(2, 1);
    let seen = plan(&board, &release);
    assert!(seen["base"].is_string(), "{seen}");
    assert_eq!(
        (&seen["index_bytes"], &seen["removed_blobs"]),
        (&Value::from(4096), &Value::from(4))
    );
    let text = board.ok(&["plan", &board.text("bundle.tseal")]);
    assert!(text.contains("4 of its objects go"), "{text}");
    let installed = board.install(&bundle(&release));
    let kept: usize = release.objects.iter().take(4).map(Vec::len).sum();
    assert_eq!(installed["present_bytes"], kept, "what both releases have");
    assert_holds(&board, "b", &release);
    assert_eq!(board.status()["sets"][1]["bootable"], true);
}

/// Where the plan says that the route starts.
fn start(board: &Board, release: &Release) -> String {
    plan(board, release)["start"].as_str().unwrap().to_owned()
}

#[test]
fn the_release_before_last_is_a_base_when_it_was_committed() {
    let board = Board::sealed().booted(&bundle(&Release::sealed(1)));
    board.install(&bundle(&Release::sealed(2)));
    let uncommitted = start(&board, &after(3, 2));
    assert_eq!(uncommitted, "no-route-from", "its trial is still to come");
    assert!(board.select().starts_with("b "));
    board.ok(&["mark-good"]);
    let release = after(3, 1);
    let held = start(&board, &release);
    assert_eq!(held, "target", "set a holds release 1");
    board.install(&bundle(&release));
    assert_holds(&board, "a", &release);
}

#[test]
fn what_runs_is_a_base_whatever_the_other_set_holds() {
    let board = Board::sealed().booted(&bundle(&Release::sealed(1)));
    let release = after(2, 1);
    let seen = plan(&board, &release);
    assert_eq!(seen["start"], "running", "set b is empty");
    assert!(
        seen["base"].is_string() && seen["index_bytes"] == 4096,
        "{seen}"
    );
    let text = board.ok(&["plan", &board.text("bundle.tseal")]);
    assert!(text.contains("from the running set's release"), "{text}");
    let installed = board.install(&bundle(&release));
    let kept: usize = release.objects.iter().take(4).map(Vec::len).sum();
    assert_eq!(installed["copied_bytes"], kept, "what both releases have");
    assert_holds(&board, "b", &release);
    assert!(board.select().starts_with("b "));
    board.ok(&["mark-good"]);
    let next = Release {
        base: Some(Box::new(release)),
        ..Release::sealed(3)
    };
    assert_eq!(start(&board, &next), "running", "set a holds release 1");
    board.install(&bundle(&next));
    assert_holds(&board, "a", &next);
}

#[test]
fn a_running_set_with_one_object_too_many_is_no_base() {
    let board = Board::sealed().booted(&bundle(&Release::sealed(1)));
    let stranger = verity(b"a stranger").to_string();
    let folder = board.path(&format!("root-a/composefs/objects/{}", &stranger[..2]));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&stranger[2..]), "a stranger").unwrap();
    let release = after(2, 1);
    assert_eq!(start(&board, &release), "set-differs");
    let text = board.ok(&["plan", &board.text("bundle.tseal")]);
    assert!(text.contains("not what its release says"), "{text}");
    board.install(&bundle(&release));
    assert_holds(&board, "b", &release);
}

#[test]
fn a_base_that_is_not_proved_in_the_target_set_is_copied() {
    let unsigned = |board: &Board| {
        let other = Release::sealed(1).bundle(&[&key(2)]);
        let front = fs::read(board.path("root-b/twinseal/manifest.tar")).unwrap();
        fs::write(
            board.path("root-b/twinseal/manifest.tar"),
            &other[..front.len()],
        )
        .unwrap();
    };
    let nothing_kept = |board: &Board| {
        fs::remove_file(board.path("root-b/twinseal/manifest.tar")).unwrap();
    };
    let slot_emptied = |board: &Board| {
        fs::remove_dir_all(board.path("root-b/composefs")).unwrap();
    };
    let no_uki = |board: &Board| {
        fs::remove_dir_all(board.path("boot-b/EFI")).unwrap();
    };
    let spoils: [fn(&Board); 4] = [unsigned, nothing_kept, slot_emptied, no_uki];
    for spoil in spoils {
        let board = twice_provisioned();
        spoil(&board);
        let release = after(2, 1);
        assert_eq!(start(&board, &release), "running", "which holds it too");
        board.install(&bundle(&release));
        assert_holds(&board, "b", &release);
    }
}
