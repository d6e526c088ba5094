//! Every reason to refuse a bundle has its own exit code and sentence, and leaves slots and boot record as they were.

mod support;

use support::Board;
use support::bundle::{Release, key, verity};
use twinseal_core::boot::Set;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::manifest::ValidityWindow;

/// A board that runs release 5, with floor 5.
fn board() -> Board {
    Board::sealed().booted(&Release::sealed(5).bundle(&[&key(1)]))
}

/// Installs what must be refused; nothing but the journal may change.
fn refused(board: &Board, bundle: &[u8], options: &[&str], code: i32, sentence: &str) {
    let file = board.bundle(bundle);
    let (before, entries) = (board.slots(), board.history().len());
    let run = board.run(&[&["install", file.as_str()], options].concat());
    assert_eq!(run.code, code, "{sentence}: {}", run.err);
    assert!(run.err.contains(sentence), "{}", run.err);
    assert!(run.err.starts_with("error: "), "{}", run.err);
    assert_eq!(board.slots(), before, "{sentence}: something was written");
    let history = board.history();
    assert_eq!(
        history.len(),
        entries + 1,
        "{sentence}: one entry in the journal"
    );
    let last = history.last().unwrap();
    assert_eq!(
        (last["kind"].as_str(), last["exit_code"].as_i64()),
        (Some("install-failed"), Some(i64::from(code)))
    );
    assert_eq!(last["target_touched"].as_bool(), Some(false));
}

#[test]
fn a_signer_or_a_device_type_that_is_not_ours_is_refused() {
    let board = board();
    refused(
        &board,
        &Release::sealed(6).bundle(&[&key(2)]),
        &[],
        30,
        "No signature of the bundle is by a key that this device trusts.",
    );
    let other = Release {
        compatible: "acme-toaster",
        ..Release::sealed(6)
    };
    refused(
        &board,
        &other.bundle(&[&key(1)]),
        &[],
        31,
        "The bundle is for another device type",
    );
}

#[test]
fn a_downgrade_is_refused() {
    refused(
        &board(),
        &Release::sealed(4).bundle(&[&key(1)]),
        &[],
        32,
        "below this device's floor 5",
    );
}

#[test]
fn a_window_that_has_not_begun_or_has_ended_is_refused_with_its_date() {
    let board = board();
    let with = |not_before, not_after| Release {
        window: ValidityWindow {
            not_before,
            not_after,
        },
        ..Release::sealed(6)
    };
    refused(
        &board,
        &with(4_102_444_800, None).bundle(&[&key(1)]),
        &[],
        33,
        "help: That is 2100-01-01T00:00:00Z.",
    );
    refused(
        &board,
        &with(0, Some(1_700_000_000)).bundle(&[&key(1)]),
        &[],
        34,
        "help: That is 2023-11-14T22:13:20Z.",
    );
}

#[test]
fn a_bundle_that_does_not_fit_the_slots_is_refused() {
    let board = board();
    let unknown = Release {
        images: vec![("dsp", vec![1; 100])],
        ..Release::sealed(6)
    };
    refused(
        &board,
        &unknown.bundle(&[&key(1)]),
        &[],
        35,
        "a slot that the device description does not name",
    );
    std::fs::write(board.path("fpga-b"), [0; 99]).unwrap();
    let large = Release {
        images: vec![("fpga", vec![1; 100])],
        ..Release::sealed(6)
    };
    refused(
        &board,
        &large.bundle(&[&key(1)]),
        &[],
        35,
        "A slot has 99 bytes and the payload needs 100.",
    );
    let alone = Release {
        images: vec![("fpga", vec![1; 99])],
        ..Release::image(6, 1)
    };
    refused(
        &board,
        &alone.bundle(&[&key(1)]),
        &[],
        35,
        "The bundle carries no UKI",
    );
}

#[test]
fn a_bundle_over_the_budget_is_refused_to_the_byte() {
    let board = board();
    let bundle = Release::sealed(6).bundle(&[&key(1)]);
    let file = board.bundle(&bundle);
    board.ok(&["plan", &file]);
    // The index is kept: from the second plan on it costs nothing.
    let plan = board.run(&["--json", "plan", &file]).events().remove(0);
    let needed = plan["source_bytes"].as_u64().unwrap();
    refused(
        &board,
        &bundle,
        &["--budget", &(needed - 1).to_string()],
        37,
        "and the budget allows",
    );
    assert_eq!(
        board
            .run(&["plan", "--budget", &(needed - 1).to_string(), &file])
            .code,
        37
    );
    board.ok(&["install", &file, "--budget", &needed.to_string()]);
}

#[test]
fn a_seal_that_does_not_fit_is_refused() {
    let board = board();
    let statement = Release::sealed(6).bundle_with(&[&key(1)], |manifest| {
        manifest.seal = Some(verity(b"other"))
    });
    refused(
        &board,
        &statement,
        &[],
        21,
        "`manifest` seals another composefs image than the bundle carries",
    );
}

#[test]
fn a_uki_that_seals_something_else_ends_the_install_before_any_object_is_written() {
    let board = board();
    let wrong = Release {
        uki_seals: Some(BlobDigest::sha256([7; 32])),
        ..Release::sealed(6)
    };
    let file = board.bundle(&wrong.bundle(&[&key(1)]));
    let (running, record) = (board.set_files("a"), board.slots());
    let run = board.run(&["install", &file]);
    assert_eq!(run.code, 22, "{}", run.err);
    assert!(
        run.err.contains("seals another composefs image"),
        "{}",
        run.err
    );
    let last = board.history().pop().unwrap();
    assert_eq!(
        last["target_touched"].as_bool(),
        Some(true),
        "the UKI itself had been written under a name that nothing boots"
    );
    assert_eq!(board.set_files("a"), running);
    let name = board.path("state/boot-record");
    assert_eq!(
        board.slots()[&name],
        record[&name],
        "the boot record is the same, byte for byte"
    );
    assert!(!board.path("boot-b/EFI/BOOT/BOOTX64.EFI").exists());
    let objects = board
        .slots()
        .into_keys()
        .filter(|path| path.starts_with(board.path("root-b/composefs/objects")))
        .count();
    assert_eq!(objects, 0);
    assert_eq!(board.select(), "a default");
}

#[test]
fn any_damage_is_refused_and_the_device_boots_what_ran() {
    let board = board();
    let good = Release::sealed(6).bundle(&[&key(1)]);
    let mut codes = Vec::new();
    // Headers, manifest, signatures, index, data, the end.
    for position in (0..good.len()).step_by(good.len() / 60) {
        let mut bad = good.clone();
        bad[position] ^= 1;
        let run = board.run(&["install", &board.bundle(&bad)]);
        assert!(
            (20..=23).contains(&run.code),
            "byte {position}: {} {}",
            run.code,
            run.err
        );
        codes.push(run.code);
        // What was right before the damage stays; without it the next damage is met too.
        board.empty_set_b();
        assert_eq!(
            board.status()["trial"],
            serde_json::Value::Null,
            "byte {position}"
        );
    }
    assert!(codes.len() >= 60 && codes.contains(&20), "{codes:?}");
    let mut forged = good.clone();
    forged[600] ^= 1;
    refused(&board, &forged, &[], 23, "is damaged or forged");
    for end in [0, 511, 700, good.len() / 2, good.len() - 1] {
        let run = board.run(&["install", &board.bundle(&good[..end])]);
        assert_eq!(run.code, 20, "cut at {end}: {}", run.err);
    }
    let longer = [good.as_slice(), &[0; 512]].concat();
    refused(&board, &longer, &[], 20, "The bundle has");
    assert_eq!(board.select(), "a default");
    assert_eq!(
        board.install(&good)["event"],
        "installed",
        "and the whole bundle is taken after all that"
    );
}

#[test]
fn a_source_that_is_not_there_is_told_from_a_bad_bundle() {
    let board = board();
    let run = board.run(&["install", &board.text("missing.tseal")]);
    assert_eq!(run.code, 70, "{}", run.err);
    assert!(
        run.err.contains("missing.tseal") && run.err.contains("No such file"),
        "{}",
        run.err
    );
    assert_eq!(
        board.run(&["install", &board.text("state")]).code,
        70,
        "a folder is no bundle"
    );
    assert_eq!(board.kinds().last().unwrap(), "install-failed");
}

#[test]
fn a_set_that_must_not_be_written_is_not() {
    let board = board();
    board.install(&Release::sealed(6).bundle(&[&key(1)]));
    assert_eq!(board.select(), "b trial, 2 attempts left");
    let next = Release::sealed(7).bundle(&[&key(1)]);
    refused(
        &board,
        &next,
        &[],
        39,
        "The running set is on trial, and the other set is the way back.",
    );
    board.ok(&["mark-bad"]);
    refused(
        &board,
        &next,
        &[],
        39,
        "Set a boots next, so it must not be written now.",
    );
    assert_eq!(board.select(), "a default");
    board.install(&next);
}

#[test]
#[ignore = "needs root: mounts a small file system"]
fn a_full_slot_is_refused_before_anything_is_written() {
    let board = board();
    let bundle = Release::sealed(6).bundle(&[&key(1)]);
    let file = board.bundle(&bundle);
    // A file system of 64 KiB in a mount namespace of its own.
    let script = "mount -t tmpfs -o size=64k none \"$1\" && exec \"$2\" install \"$3\"";
    let mut command = std::process::Command::new("unshare");
    let program = env!("CARGO_BIN_EXE_twinseal");
    command.args([
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        &board.text("root-b"),
        program,
        &file,
    ]);
    let output = command
        .env("TWINSEAL_DEVICE", board.path("device.toml"))
        .output();
    let run = support::Run::from(output.unwrap());
    assert_eq!(run.code, 36, "{}", run.err);
    assert!(
        run.err.contains("bytes free and the update needs"),
        "{}",
        run.err
    );
}

#[test]
fn a_file_system_without_verity_is_refused_where_it_is_required() {
    // tmpfs has no fs-verity.
    let folder = tempfile::tempdir_in("/dev/shm").expect("a tmpfs at /dev/shm");
    let slots = "[sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n";
    let board = Board::at(folder, "required", slots);
    board.empty_set_b();
    // Slots below /dev are nobody's to make.
    for name in ["boot-a", "root-a"] {
        std::fs::create_dir(board.path(name)).unwrap();
    }
    let file = board.bundle(&Release::sealed(1).bundle(&[&key(1)]));
    let run = board.run(&["device", "init", &file]);
    assert_eq!(run.code, 52, "{}", run.err);
    assert!(run.err.contains("verity = \"absent\""), "{}", run.err);
    assert_eq!(board.set_files(&Set::A.to_string()).len(), 0);
}
