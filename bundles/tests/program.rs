//! Promise: the program says what it did, ends with the right code, and its JSON can be read by programs.

mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::Workshop;
use twinseal_bundle::vectors;

fn program<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinseal-bundle"))
        .args(words)
        .output()
        .unwrap()
}

fn success<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> String {
    let output = program(words);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn failure<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> (i32, String) {
    let output = program(words);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Arguments with paths in the workshop where a word begins with `@`.
fn arguments(workshop: &Workshop, line: &str) -> Vec<std::path::PathBuf> {
    let path = |word: &str| {
        word.strip_prefix('@')
            .map_or_else(|| word.into(), |name| workshop.at(name))
    };
    line.split(' ').map(path).collect()
}

#[test]
fn a_release_from_key_to_difference() {
    let workshop = Workshop::new();
    let run = |line: &str| success(arguments(&workshop, line));
    workshop.put("recipe.toml", Workshop::system_recipe().as_bytes());
    let made = run("keygen --out @more --name test");
    assert!(
        made.contains("test.key") && made.contains("test.pub"),
        "{made}"
    );
    let built = run("build @recipe.toml --out @1.tseal");
    assert!(built.contains("seal "), "{built}");
    run("build @recipe.toml --out @2.tseal --version 2.0 --cmdline loud --sign @more/test.key");
    assert!(
        run("verify @1.tseal --key @keys/release.pub")
            .contains("every object that it names is there")
    );
    assert!(
        run("verify @2.tseal --key @more/test.pub --compatible test-device --floor 3")
            .contains("2.0")
    );
    assert!(run("inspect @1.tseal --objects --files").contains("/usr/bin/tool"));
    assert!(run("diff @1.tseal @2.tseal").contains("uki     .cmdline"));
    run("sign @1.tseal --key @more/test.key");
    assert_eq!(run("inspect @1.tseal").matches("(not checked)").count(), 2);
    assert!(
        run("extract @1.tseal --blob composefs --out @image.erofs").contains("composefs image")
    );
    run("extract @1.tseal --all @out");
    assert!(
        fs::read(workshop.at("image.erofs")).unwrap()
            == fs::read(workshop.at("out/image.erofs")).unwrap()
    );
}

#[test]
fn json_can_be_read() {
    let workshop = Workshop::new();
    let bundle = workshop
        .build(Workshop::system_recipe(), "b.tseal")
        .unwrap();
    let json = |line: &str| -> serde_json::Value {
        serde_json::from_str(&success(arguments(&workshop, line))).unwrap()
    };
    let report = json("inspect @b.tseal --json --files");
    assert_eq!(report["compatible"], "test-device");
    assert_eq!(report["bundle_bytes"], fs::metadata(&bundle).unwrap().len());
    assert_eq!(
        report["blobs"].as_array().unwrap().len() as u64,
        report["index"]["blobs"].as_u64().unwrap()
    );
    assert_eq!(report["seal"], report["payloads"][1]["digest"]);
    assert!(
        report["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|file| file["path"] == "/usr/lib/os-release")
    );
    let verified = json("verify @b.tseal --json --key @keys/release.pub");
    assert_eq!(verified["manifest_sha256"], report["manifest_sha256"]);
    assert_eq!(
        json("diff @b.tseal @b.tseal --json")["objects_kept"]["count"],
        3
    );
}

#[test]
fn failures_have_their_codes_and_say_what_to_do() {
    let workshop = Workshop::new();
    workshop
        .build(Workshop::system_recipe(), "b.tseal")
        .unwrap();
    let run = |line: &str| failure(arguments(&workshop, line));
    let key = "--key @keys/release.pub";
    for (line, code, text) in [
        ("verify", 2, "Usage"),
        ("build --out @x.tseal", 1, "nothing to install"),
        (
            "build @missing.toml --out @x.tseal",
            1,
            "help: Check the path",
        ),
        ("inspect @missing.tseal", 1, "Opening"),
        (
            &format!("verify @keys {key}"),
            70,
            "Reading the bundle failed",
        ),
        ("inspect @vmlinuz", 20, "header of `manifest`"),
        (
            &format!("verify @b.tseal {key} --compatible other"),
            31,
            "another device type",
        ),
        (&format!("verify @b.tseal {key} --floor 4"), 32, "downgrade"),
        (
            "extract @b.tseal --blob image:fpga --out @x",
            1,
            "no image for slot",
        ),
        (
            "keygen --out @keys --name release",
            1,
            "help: Choose another name",
        ),
    ] {
        let (found, errors) = run(line);
        assert_eq!(found, code, "{line}: {errors}");
        assert!(errors.contains(text), "{line}: {errors}");
    }
    let windowed = format!(
        "{}[window]\nnot-before = 2026-01-01T00:00:00Z\nnot-after = 2027-01-01T00:00:00Z\n",
        Workshop::system_recipe()
    );
    workshop.build(&windowed, "w.tseal").unwrap();
    for (time, code) in [("2025-12-31T23:59:59Z", 33), ("2027-01-01T00:00:01Z", 34)] {
        assert_eq!(run(&format!("verify @w.tseal {key} --time {time}")).0, code);
    }
    for time in ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "none"] {
        success(arguments(
            &workshop,
            &format!("verify @w.tseal {key} --time {time}"),
        ));
    }
}

#[test]
fn the_kit_and_the_program_agree() {
    let workshop = Workshop::new();
    let kit = workshop.at("kit");
    success(
        ["vectors", "--out"]
            .iter()
            .map(Path::new)
            .chain([kit.as_path()]),
    );
    let list: toml::Table = fs::read_to_string(kit.join("vectors.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let device = list["device"].as_table().unwrap();
    let entries = list["vector"].as_array().unwrap();
    // A program start each: a sample is enough, as `vectors.rs` tries all.
    for entry in entries.iter().step_by(7) {
        let mut words = vec![
            "verify".to_owned(),
            kit.join(entry["file"].as_str().unwrap())
                .display()
                .to_string(),
        ];
        for key in device["keys"].as_array().unwrap() {
            words.extend([
                "--key".to_owned(),
                kit.join(key.as_str().unwrap()).display().to_string(),
            ]);
        }
        for slot in device["slots"].as_array().unwrap() {
            words.extend([
                "--slot".to_owned(),
                format!("{}={}", slot["name"].as_str().unwrap(), slot["bytes"]),
            ]);
        }
        words.extend([
            "--compatible".to_owned(),
            device["compatible"].as_str().unwrap().to_owned(),
        ]);
        words.extend([
            "--floor".to_owned(),
            device["floor"].to_string(),
            "--time".to_owned(),
            device["time"].to_string(),
        ]);
        let output = program(&words);
        let expected = entry
            .get("exit-code")
            .and_then(toml::Value::as_integer)
            .unwrap_or(0);
        assert_eq!(
            i64::from(output.status.code().unwrap()),
            expected,
            "{}: {output:?}",
            entry["file"]
        );
    }
}

#[test]
fn a_bundle_comes_through_a_pipe() {
    use std::io::Write;
    let workshop = Workshop::new();
    let bundle = fs::read(
        workshop
            .build(Workshop::system_recipe(), "b.tseal")
            .unwrap(),
    )
    .unwrap();
    let verify = |bytes: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_twinseal-bundle"))
            .args(arguments(&workshop, "verify - --key @keys/release.pub"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that has seen enough closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        child.wait_with_output().unwrap().status.code()
    };
    assert_eq!(verify(&bundle), Some(0));
    assert_eq!(verify(&bundle[..bundle.len() - 1]), Some(20));
}

#[test]
fn signing_elsewhere_takes_two_steps() {
    let workshop = Workshop::new();
    let bundle = workshop.at("b.tseal");
    workshop
        .build(
            &Workshop::system_recipe().replace("sign = ['keys/release.key']\n", ""),
            "b.tseal",
        )
        .unwrap();
    let bytes = program([
        "sign".as_ref(),
        bundle.as_os_str(),
        "--print-signed-bytes".as_ref(),
    ])
    .stdout;
    assert!(bytes.starts_with(b"twinseal bundle manifest v1\n"));
    workshop.put("b.tbs", &bytes);
    let openssl = arguments(
        &workshop,
        "pkeyutl -sign -rawin -inkey @keys/release.key -in @b.tbs -out @b.sig",
    );
    support::tool(
        "openssl",
        &openssl
            .iter()
            .map(|word| word.as_path())
            .collect::<Vec<_>>(),
    );
    success(arguments(
        &workshop,
        "sign @b.tseal --attach @b.sig --public-key @keys/release.pub",
    ));
    success(arguments(
        &workshop,
        "verify @b.tseal --key @keys/release.pub",
    ));
}

#[test]
fn completions_and_manual_pages_are_made() {
    assert!(success(["completions", "bash"]).contains("twinseal-bundle"));
    let page = success(["man"]);
    assert!(
        page.contains(".SH \"EXIT STATUS\"") || page.contains(".SH EXIT"),
        "{page}"
    );
    let workshop = Workshop::new();
    success(arguments(&workshop, "man --dir @man"));
    assert!(workshop.at("man/twinseal-bundle-build.1").exists());
}

#[test]
fn vectors_are_for_tests_of_other_programs_too() {
    let good = vectors::good_bundle().unwrap();
    assert!(
        good.len() < 64 * 1024,
        "small enough for a microcontroller's flash: {} bytes",
        good.len()
    );
}

#[test]
fn a_disk_with_a_loader_needs_the_loader() {
    let disk = ["disk", "v1.tseal", "--out", "disk.img"];
    let (code, said) = failure(disk.into_iter().chain(["--loader", "systemd-boot"]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--systemd-boot <FILE>"), "{said}");
    let (code, said) = failure(disk.into_iter().chain(["--systemd-boot", "x.efi"]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("--loader systemd-boot"), "{said}");
    let (code, said) = failure(disk.into_iter().chain(["--loader", "grub"]));
    assert_eq!(code, 2, "{said}");
}
