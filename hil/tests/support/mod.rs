//! A tiny appliance: three releases whose only program is busybox, with a synthetic stub and kernel.
//!
//! What the machine lacks for it is a failure here, not a skip: without it nothing is proved.

#![allow(
    dead_code,
    reason = "not every test that shares this file uses all of it"
)]

#[path = "../../../bundles/src/pe/synthetic.rs"]
mod synthetic;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use synthetic::Synthetic;

/// The health check: it looks at the release and needs the program `tool`.
const CHECK: &str = "#!/bin/sh
. /usr/lib/os-release
[ \"$IMAGE_VERSION\" = \"$(cat /usr/lib/twinseal/release)\" ] || { echo 'FAILED: release'; exit 1; }
echo \"ok: release $IMAGE_VERSION\"
/usr/bin/tool || { echo 'FAILED: tool'; exit 1; }
echo 'ok: tool'
";

/// What one release is.
#[derive(Clone, Copy)]
pub struct Release {
    /// Its version.
    pub version: &'static str,
    /// The script `tool`; the release is broken without one.
    pub tool: Option<&'static str>,
}

/// A tool that works.
pub const WORKS: Option<&str> = Some("#!/bin/sh\necho working\n");

/// A good release, an update of it, and a broken one.
pub const USUAL: [Release; 3] = [
    Release {
        version: "1.0.0",
        tool: WORKS,
    },
    Release {
        version: "2.0.0",
        tool: WORKS,
    },
    Release {
        version: "3.0.0",
        tool: None,
    },
];

/// The folder of the programs under test, built anew from the sources as they are.
pub fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_twinseal-hil"))
            .parent()
            .unwrap();
        // As tests of the whole workspace have them: for the programs alone, what they are made of would be built again with fewer
        // features. Tests of a package that are built bring its programs, so one of each is enough.
        let mut cargo = from_a_shell(env!("CARGO"));
        cargo.args(["test", "--quiet", "--workspace", "--no-run"]);
        cargo.args(["--test", "reads_from_web", "--test", "build"]);
        cargo
            .arg("--target-dir")
            .arg(folder.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().unwrap().success(),
            "the programs under test do not build"
        );
        build_minimal(folder);
        folder.to_owned()
    })
}

/// A program that builds, as if a shell had started it. Some build scripts ask for what cargo tells the tests that it runs, so all that
/// depends on them would be built again, and put in the place of programs that other tests are running.
fn from_a_shell(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let of_cargo = name.as_encoded_bytes();
        if of_cargo.starts_with(b"CARGO_PKG_") || of_cargo.starts_with(b"CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the `/init` as devices have it, and puts it beside the others.
fn build_minimal(folder: &Path) {
    std::fs::copy(
        device_program("twinseal-minimal"),
        folder.join("twinseal-minimal"),
    )
    .unwrap();
}

/// The small agent with the commands of a running system.
pub fn minimal_with_commands() -> PathBuf {
    device_program("twinseal-minimal-commands")
}

/// Builds a program by the script that does it for devices: it stands without the standard library.
pub fn device_program(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut script = from_a_shell(workspace.join("scripts/device-programs.sh"));
    let built = script.arg(name).status().unwrap().success();
    assert!(built, "{name} does not build");
    workspace.join("target/device/bin").join(name)
}

/// Says what a machine needs for a test that mounts.
pub fn require_root_and_busybox() -> PathBuf {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts a sealed root: run it as root"
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let busybox = std::env::split_paths(&path)
        .map(|folder| folder.join("busybox"))
        .find(|file| file.is_file());
    let busybox = busybox
        .expect("busybox is missing: apt-get install --no-install-recommends busybox-static");
    let linked = Command::new("ldd").arg(&busybox).output().unwrap();
    assert!(
        !linked.status.success(),
        "{} is linked dynamically: apt-get install --no-install-recommends busybox-static",
        busybox.display()
    );
    busybox
}

/// Makes inputs of the shape that the demo takes.
pub fn inputs(folder: &Path, releases: [Release; 3]) {
    let code = code();
    fs::write(folder.join("linuxx64.efi.stub"), &code).unwrap();
    fs::write(folder.join("vmlinuz"), &code).unwrap();
    fs::create_dir_all(folder.join("modules")).unwrap();
    fs::write(folder.join("modules/order"), "").unwrap();
    fs::write(folder.join("kernel-version"), "6.12.0-small\n").unwrap();
    for (name, release) in ["v1", "v2", "v3"].into_iter().zip(releases) {
        let folder = folder.join(name);
        let tree = folder.join("root");
        root(&tree, release);
        let tar = Command::new("tar")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@1780272000",
                "-cf",
            ])
            .arg(folder.join("rootfs.tar"))
            .arg("-C")
            .args([&tree, Path::new(".")])
            .status();
        assert!(tar.unwrap().success());
        fs::copy(tree.join("usr/lib/os-release"), folder.join("os-release")).unwrap();
        fs::write(folder.join("packages.txt"), "busybox 1\n").unwrap();
    }
}

/// A UEFI executable with nothing in it: a stub or a kernel that is never started.
pub fn code() -> Vec<u8> {
    Synthetic::default().build()
}

/// A UKI with nothing in it but its command line.
pub fn uki(command_line: &str) -> Vec<u8> {
    let mut uki = Synthetic::default();
    uki.sections
        .push((".cmdline", command_line.as_bytes().to_vec()));
    uki.build()
}

/// The folders of a root, busybox, and a place for health checks.
pub fn small_root(tree: &Path) {
    let busybox = require_root_and_busybox();
    for folder in [
        "dev",
        "etc",
        "proc",
        "run",
        "sys",
        "tmp",
        "var",
        "usr/bin",
        "usr/share",
        "usr/lib/twinseal/health.d",
    ] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    symlink("usr/bin", tree.join("bin")).unwrap();
    fs::copy(busybox, tree.join("usr/bin/busybox")).unwrap();
    ["sh", "cat", "sleep", "touch"]
        .iter()
        .for_each(|name| symlink("busybox", tree.join("usr/bin").join(name)).unwrap());
}

fn root(tree: &Path, release: Release) {
    small_root(tree);
    let version = release.version;
    fs::write(
        tree.join("usr/lib/os-release"),
        format!("ID=small\nIMAGE_VERSION={version}\n"),
    )
    .unwrap();
    fs::write(
        tree.join("usr/lib/twinseal/release"),
        format!("{version}\n"),
    )
    .unwrap();
    // Objects that differ between releases, one that is the same in all, and files too small to be objects.
    fs::write(
        tree.join("usr/share/changes"),
        format!("release {version}\n").repeat(9000),
    )
    .unwrap();
    fs::write(
        tree.join("usr/share/stays"),
        "the same in every release\n".repeat(9000),
    )
    .unwrap();
    fs::write(tree.join("usr/share/empty"), "").unwrap();
    program(&tree.join("usr/lib/twinseal/health.d/10-small"), CHECK);
    if let Some(tool) = release.tool {
        program(&tree.join("usr/bin/tool"), tool);
    }
}

fn program(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}
