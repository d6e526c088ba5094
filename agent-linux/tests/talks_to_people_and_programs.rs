//! The command line, its output for people and for programs, and what it says when it is used wrongly.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use support::Board;
use support::bundle::{Release, content, key};

fn bundle(number: u64) -> Vec<u8> {
    Release::sealed(number).bundle(&[&key(1)])
}

#[test]
fn every_event_of_an_install_is_a_json_object_with_a_name() {
    let board = Board::sealed().booted(&bundle(1));
    let file = board.bundle(&bundle(2));
    let events = board.run(&["--json", "install", &file]).events();
    assert_eq!(events.first().unwrap()["event"], "plan");
    assert_eq!(events.last().unwrap()["event"], "installed");
    let progress: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "progress")
        .collect();
    assert_eq!(progress.len(), events.len() - 2);
    let done: Vec<u64> = progress
        .iter()
        .map(|event| event["done_bytes"].as_u64().unwrap())
        .collect();
    assert!(
        done.is_sorted() && done.last() == progress[0]["total_bytes"].as_u64().as_ref(),
        "{done:?}"
    );
    for phase in ["preparing", "writing", "syncing", "activating"] {
        assert!(
            progress.iter().any(|event| event["phase"] == phase),
            "{phase}"
        );
    }
    let installed = events.last().unwrap();
    let sum = ["framing_bytes", "index_bytes", "data_bytes", "audit_bytes"]
        .map(|name| installed[name].as_u64().unwrap());
    assert_eq!(
        Some(sum.iter().sum::<u64>()),
        installed["source_bytes"].as_u64()
    );
    assert_eq!(
        installed["source_bytes"], events[0]["source_bytes"],
        "the plan said what it would cost, to the byte"
    );
    assert_eq!(installed["read_back_bytes"], installed["written_bytes"]);
    assert!(installed["peak_memory_bytes"].as_u64() > Some(0));
}

#[test]
fn a_failure_is_an_event_too() {
    let board = Board::sealed().booted(&bundle(1));
    let run = board.run(&[
        "--json",
        "install",
        &board.bundle(&Release::sealed(2).bundle(&[&key(9)])),
    ]);
    let failed = run.events().pop().unwrap();
    assert_eq!(
        (
            failed["event"].as_str(),
            failed["exit_code"].as_i64(),
            failed["name"].as_str()
        ),
        (Some("failed"), Some(30), Some("unknown-signer"))
    );
    assert!(
        run.err.starts_with("error: ") && run.err.contains("help: "),
        "{}",
        run.err
    );
}

#[test]
fn a_pipe_is_a_source() {
    let board = Board::sealed().booted(&bundle(1));
    let run = board.run_with_input(&["--json", "install", "-"], &bundle(2));
    assert_eq!(run.code, 0, "{}", run.err);
    let installed = run.events().pop().unwrap();
    assert_eq!(
        installed["source_bytes"].as_u64(),
        Some(bundle(2).len() as u64)
    );
    assert_eq!(board.select(), "b trial, 2 attempts left");
    board.ok(&["mark-bad"]);
    board.select();
    let cut = board.run_with_input(&["install", "-"], &bundle(3)[..100_000]);
    assert_eq!(cut.code, 20, "{}", cut.err);
    assert!(
        cut.err.contains("The bundle ends inside `data`"),
        "{}",
        cut.err
    );
    let more = board.run_with_input(&["install", "-"], &[bundle(3), vec![0]].concat());
    assert_eq!(more.code, 20, "{}", more.err);
    assert!(
        more.err.contains("after the end of the bundle"),
        "{}",
        more.err
    );
    assert_eq!(board.run_with_input(&["plan", "-"], &bundle(3)).code, 0);
}

#[test]
fn without_a_terminal_the_output_is_plain_lines() {
    let board = Board::image_only().booted(&Release::image(1, 3_000_000).bundle(&[&key(1)]));
    let release = Release {
        range_bytes: 50_000,
        ..Release::image(2, 3_000_000)
    };
    let run = board.run(&["install", &board.bundle(&release.bundle(&[&key(1)]))]);
    let percents: Vec<&str> = run
        .out
        .lines()
        .filter(|line| line.contains(" %  "))
        .collect();
    assert_eq!(percents.len(), 10, "{}", run.out);
    assert!(
        run.out
            .starts_with("Plan: version 2.0 (anti-rollback 2, signed by "),
        "{}",
        run.out
    );
    for part in [
        "Installed version 2.0 into set b",
        "read from the bundle ",
        "only checked",
        "from the running set",
        "not read from the bundle again: 0 bytes",
        "written ",
        "read back ",
        " s, of these syncing blobs",
        "peak memory",
        "Set b is on trial from the next restart on: 3 attempts.",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    assert_eq!(run.err, "");
    assert!(!run.out.contains('\x1b'));
    assert_eq!(
        fs::read(board.path("app-b")).unwrap(),
        content(2, 3_000_000)
    );
}

#[test]
fn status_says_what_is_known_and_what_cannot_be_proved() {
    let board = Board::sealed();
    let text = board.ok(&["status"]);
    for part in [
        "running set    not known",
        "boot record    blank",
        "verity         not sealed",
        "reboot needed  cannot be told",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!board.path("state").exists(), "looking makes nothing");
    let board = board.booted(&bundle(1));
    let text = board.ok(&["status"]);
    assert!(
        text.contains("set a          bootable; version 1.0, anti-rollback 1, signed by "),
        "{text}"
    );
    assert!(
        text.contains("set b          not bootable; nothing is recorded"),
        "{text}"
    );
    assert!(text.contains("chain and anchor hold"), "{text}");
    // The key is not trusted any more.
    fs::write(
        board.path("release.pub"),
        fs::read_to_string(Board::sealed().path("release.pub")).unwrap(),
    )
    .unwrap();
    board.ok(&["status"]);
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    fs::write(board.path("release.pub"), pem).unwrap();
    let text = board.ok(&["status"]);
    assert!(
        text.contains("set a          bootable; signature cannot be proved: No signature"),
        "{text}"
    );
    // What is kept was changed.
    let front = board.path("root-a/twinseal/manifest.tar");
    let mut bytes = fs::read(&front).unwrap();
    bytes[600] ^= 1;
    fs::write(&front, bytes).unwrap();
    assert!(board.ok(&["status"]).contains("signature cannot be proved"));
}

#[test]
fn the_device_is_used_by_one_process_at_a_time() {
    let board = Board::image_only().booted(&Release::image(1, 100_000).bundle(&[&key(1)]));
    // An install that waits for its bundle holds the lock.
    let mut waiting = board
        .command(&["install", "--json", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = waiting.stdin.take().unwrap();
    let bundle = Release::image(2, 100_000).bundle(&[&key(1)]);
    std::io::Write::write_all(&mut pipe, &bundle[..bundle.len() - 2000]).unwrap();
    let mut lines = BufReader::new(waiting.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"plan\""));
    for command in [
        &["install", "x"][..],
        &["plan", "x"],
        &["mark-good"],
        &["mark-bad"],
        &["rollback"],
        &["select"],
        &["device", "init", "x"],
    ] {
        let run = board.run(command);
        assert_eq!(run.code, 51, "{command:?}: {}", run.err);
        assert!(
            run.err.contains("another process is using this device"),
            "{}",
            run.err
        );
    }
    assert_eq!(board.status()["busy"], true);
    std::io::Write::write_all(&mut pipe, &bundle[bundle.len() - 2000..]).unwrap();
    drop(pipe);
    assert!(lines.last().unwrap().unwrap().contains("\"installed\""));
    assert!(waiting.wait().unwrap().success());
    assert_eq!(board.status()["busy"], false);
}

#[test]
fn a_wrong_description_is_named_with_key_and_line() {
    let board = Board::sealed();
    board.describe("colour = \"red\"");
    let run = board.run(&["status"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("device.toml")
            && run.err.contains("line 1")
            && run.err.contains("unknown field `colour`"),
        "{}",
        run.err
    );
    let run = board.run(&["--device", "/nonexistent/device.toml", "status"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("/nonexistent/device.toml") && run.err.contains("--device FILE"),
        "{}",
        run.err
    );
}

#[test]
fn wrong_words_on_the_command_line_are_exit_code_2() {
    let board = Board::sealed();
    for arguments in [
        &["instal"][..],
        &["install"],
        &["install", "x", "--attempts", "0"],
        &["install", "x", "--no-trial", "--attempts", "2"],
        &["device", "init", "x", "--set", "c"],
        &[],
    ] {
        assert_eq!(board.run(arguments).code, 2, "{arguments:?}");
    }
    assert!(board.ok(&["--version"]).starts_with("twinseal "));
    assert!(board.ok(&["--help"]).contains("Examples:"));
}

#[test]
fn the_manual_has_every_command_and_every_exit_code() {
    let board = Board::sealed();
    let page = board.ok(&["man"]);
    for row in twinseal::exit::TABLE {
        assert!(
            page.contains(&format!("\\fB{}\\fR", row.code))
                && page.contains(row.name.split('-').next().unwrap()),
            "{}",
            row.name
        );
    }
    board.ok(&["man", "--dir", &board.text("man")]);
    let mut pages: Vec<String> = fs::read_dir(board.path("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert_eq!(pages.len(), 17, "{pages:?}");
    for name in [
        "twinseal.8",
        "twinseal-install.8",
        "twinseal-device-init.8",
        "twinseal-select.8",
    ] {
        assert!(pages.iter().any(|page| page == name), "{name} in {pages:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            board.ok(&["completions", shell]).contains("reboot-needed"),
            "{shell}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_ends_nothing() {
    let board = Board::image_only().booted(&Release::image(1, 100_000).bundle(&[&key(1)]));
    let file = board.bundle(&Release::image(2, 100_000).bundle(&[&key(1)]));
    let mut install = board
        .command(&["--json", "install", &file])
        .spawn()
        .unwrap();
    drop(install.stdout.take());
    assert!(install.wait().unwrap().success());
    assert_eq!(board.select(), "b trial, 2 attempts left");
}

#[test]
fn a_firmware_that_cannot_be_asked_is_said_and_nothing_is_written() {
    let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
    let file = board.path("device.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::create_dir(board.path("efivars")).unwrap();
    let loader = "[boot]\nloader = \"uefi\"\nvariables = \"efivars\"\n";
    fs::write(&file, format!("{text}\n{loader}")).unwrap();
    // Its boot slots are folders, not partitions that a firmware could start.
    let status = board.status();
    assert!(status["loader"]["problem"].is_string(), "{status}");
    let slots = board.slots();
    let run = board.run(&[
        "install",
        &board.bundle(&Release::sealed(2).bundle(&[&key(1)])),
    ]);
    assert_eq!(run.code, 55, "{}", run.err);
    assert!(run.err.contains("boot loader"), "{}", run.err);
    assert_eq!(board.slots(), slots);
    // What runs is what must run, so the device is well all the same.
    let run = board.run(&["select"]);
    assert_eq!((run.code, run.out.trim_end()), (0, "a default"));
    assert!(run.err.contains("warning: "), "{}", run.err);
    assert!(run.err.contains("boot loader"), "{}", run.err);
    assert_eq!(board.slots(), slots);
}
