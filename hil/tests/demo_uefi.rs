//! The whole demo on the virtual board, with the real appliance.
//!
//! Needs QEMU, the inputs of scripts/appliance.sh and the programs of scripts/device-programs.sh, so a plain `cargo test` leaves
//! the long one out.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn demo(out: &Path, qemu: &str) -> Output {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let named = |variable: &str, default: &str| {
        std::env::var_os(variable).map_or_else(|| workspace.join(default), PathBuf::from)
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinseal-hil"));
    command.args(["demo", "--qemu", qemu]);
    command.arg("--out").arg(out);
    command.arg("--programs").arg(support::programs());
    let inputs = named("TWINSEAL_HIL_INPUTS", ".cache/appliance");
    command.arg("--inputs").arg(inputs);
    let programs = named("TWINSEAL_HIL_DEVICE_PROGRAMS", "target/device/bin");
    command.arg("--device-programs").arg(programs);
    command.output().unwrap()
}

#[test]
fn without_qemu_the_other_board_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let output = demo(&out, "/no/such/qemu");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in ["/no/such/qemu", "scripts/deps.sh board", "BOARD=files"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!out.exists(), "nothing was begun");
}

#[test]
#[ignore = "takes minutes; needs QEMU 10, scripts/appliance.sh and scripts/device-programs.sh"]
fn the_sealed_appliance_commits_v2_is_repaired_and_throws_v3_out() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let output = demo(&out, "qemu-system-x86_64");
    let (story, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{story}\n{error}");
    for line in ["v2 committed", "v3 rolled back"] {
        let times = story.lines().filter(|found| *found == line).count();
        assert_eq!(times, 1, "{line}\n{story}");
    }
    for part in ["Input/output error", "1 object replaced", "exit code 32"] {
        assert!(story.contains(part), "{part}\n{story}");
    }
    for file in [
        "console.txt",
        "control-line.txt",
        "transcript.txt",
        "device/disk.img",
        "device/firmware-variables.fd",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
}
