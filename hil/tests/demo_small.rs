//! The whole demo on a tiny appliance: the story comes out, and what must not come out ends it with the step's name.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use support::{Release, USUAL, WORKS};

/// Runs the demo with inputs of these releases.
fn demo(folder: &Path, releases: [Release; 3]) -> Output {
    let inputs = folder.join("inputs");
    fs::create_dir_all(&inputs).unwrap();
    support::inputs(&inputs, releases);
    run(folder)
}

fn run(folder: &Path) -> Output {
    run_as(folder, &[])
}

/// Runs the demo, started by another program.
fn run_as(folder: &Path, starter: &[&str]) -> Output {
    let words = [starter, &[env!("CARGO_BIN_EXE_twinseal-hil")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
        .arg("demo")
        .arg("--inputs")
        .arg(folder.join("inputs"))
        .arg("--out")
        .arg(folder.join("out"));
    command
        .arg("--programs")
        .arg(support::programs())
        .arg("--device-programs")
        .arg(support::programs())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn v2_is_committed_and_the_broken_v3_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    for round in ["first", "on top of an earlier one"] {
        let output = if round == "first" {
            demo(folder.path(), USUAL)
        } else {
            run(folder.path())
        };
        let (story, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{round}:\n{story}\n{error}");
        for line in ["v2 committed", "v3 rolled back"] {
            assert_eq!(
                story.lines().filter(|found| *found == line).count(),
                1,
                "{round}: {line}\n{story}"
            );
        }
        assert_eq!(
            story.matches("FAILED: tool").count(),
            3,
            "each trial boot of v3 fails\n{story}"
        );
        assert!(
            story.contains("exit code 32") && story.contains("exit code 23"),
            "{story}"
        );
    }
    let out = folder.path().join("out");
    for file in [
        "transcript.txt",
        "device/device.toml",
        "keys/release.pub",
        "recipes/v1.toml",
        "bundles/v3.tseal",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn a_v3_that_works_fails_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let [v1, v2, v3] = USUAL;
    let output = demo(folder.path(), [v1, v2, Release { tool: WORKS, ..v3 }]);
    let (story, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{story}\n{error}");
    assert!(
        error.contains("\"health checks\", failed") && error.contains("must fail"),
        "{error}"
    );
    assert!(!story.contains("v3 rolled back"), "{story}");
}

#[test]
fn a_v2_that_does_not_work_fails_the_demo_with_what_its_check_printed() {
    let folder = tempfile::tempdir().unwrap();
    let [v1, v2, v3] = USUAL;
    let tool = Some("#!/bin/sh\necho the disk is on fire >&2\nexit 9\n");
    let output = demo(folder.path(), [v1, Release { tool, ..v2 }, v3]);
    let (story, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{story}\n{error}");
    for part in [
        "\"health checks\", failed",
        "10-small",
        "exit code 1",
        "the disk is on fire",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!story.contains("v2 committed"), "{story}");
}

#[test]
fn a_strange_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/precious"), "mine").unwrap();
    let output = demo(folder.path(), USUAL);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("was not made by the demo"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("out/precious")).unwrap(),
        "mine"
    );
}

#[test]
fn without_the_right_to_mount_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody, in a user namespace: files are reached as before.
    let output = run_as(folder.path(), &["unshare", "--user", "--"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("Run twinseal-hil as root"),
        "{}",
        text(&output.stderr)
    );
    assert!(!folder.path().join("out").exists(), "nothing was begun");

    // Root of a user namespace, as in a container: it may not mount this.
    fs::create_dir(folder.path().join("inputs")).unwrap();
    support::inputs(&folder.path().join("inputs"), USUAL);
    let output = run_as(
        folder.path(),
        &["unshare", "--user", "--map-root-user", "--"],
    );
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in [
        "\"first boot\", failed",
        "could not be mounted",
        "privileged",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn keys_and_bundles_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    assert!(demo(folder.path(), USUAL).status.success());
    let key = fs::read(folder.path().join("out/keys/release.pub")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinseal-hil"));
    command
        .arg("demo")
        .arg("--keep")
        .arg("--programs")
        .arg(support::programs())
        .arg("--device-programs")
        .arg(support::programs());
    command
        .arg("--inputs")
        .arg(folder.path().join("inputs"))
        .arg("--out")
        .arg(folder.path().join("out"));
    let output = command.output().unwrap();
    let (story, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{story}\n{error}");
    assert!(
        story.contains("kept from an earlier run") && story.contains("v3 rolled back"),
        "{story}"
    );
    assert_eq!(
        fs::read(folder.path().join("out/keys/release.pub")).unwrap(),
        key
    );
}
