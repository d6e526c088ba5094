//! The board of files: what it boots, and what it refuses to boot. Its sets are made here with other people's tools, so that
//! neither agent nor builder can make up for a mistake of the board: the image is a plain EROFS, and the agent only names set a.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use twinseal_hil::board::{Board, BoardError, Verdict};
use twinseal_hil::boards::files::{Files, Parts};
use twinseal_hil::command::{CommandError, Runner};

const SELECTS_A: &str = "#!/bin/sh\necho '{\"event\":\"selected\",\"set\":\"a\",\"reason\":\"default\",\"attempts_left\":0}'\n";

const IMAGE: &str = "image.erofs";

/// A board whose set a holds a root with one health check.
struct Bench {
    folder: TempDir,
    board: Files,
}

impl Bench {
    fn new(check: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        program(&at("agent"), SELECTS_A);
        tool(
            folder.path(),
            "openssl req -new -x509 -newkey rsa:2048 -nodes -subj /CN=owner -keyout owner.key -out owner.crt",
        );
        let parts = Parts {
            folder: at("device"),
            agent: at("agent"),
            compatible: "small".to_owned(),
            release_key: at("owner.crt"),
            certificate: at("owner.crt"),
            trial_attempts: 3,
            check_limit: Duration::from_secs(1),
        };
        let board = Files::new(parts, Arc::new(Runner::default())).unwrap();
        let bench = Self { folder, board };
        bench.root(check);
        bench.seal(None);
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the image of a root.
    fn root(&self, check: &str) {
        let tree = self.at("tree");
        support::small_root(&tree);
        let checks = tree.join("usr/lib/twinseal/health.d");
        if !check.is_empty() {
            program(&checks.join("10-check"), check);
        }
        tool(
            self.folder.path(),
            &format!("mkfs.erofs --quiet {IMAGE} tree"),
        );
    }

    /// Puts the image into set a, and a signed UKI with this command line; without one, with the image's seal.
    fn seal(&self, command_line: Option<&str>) {
        let digest = tool(
            self.folder.path(),
            &format!("fsverity digest --compact {IMAGE}"),
        );
        let (boot, images) = (
            self.at("device/set-a/boot/EFI/BOOT"),
            self.at("device/set-a/root/composefs/images"),
        );
        for folder in [
            &boot,
            &images,
            &self.at("device/set-a/root/composefs/objects"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::copy(self.at(IMAGE), images.join(digest.trim())).unwrap();
        let sealed = format!("quiet composefs={} panic=10", digest.trim());
        fs::write(
            self.at("uki"),
            support::uki(command_line.unwrap_or(&sealed)),
        )
        .unwrap();
        let signed = boot.join("BOOTX64.EFI");
        tool(
            self.folder.path(),
            &format!(
                "sbsign --key owner.key --cert owner.crt --output {} uki",
                signed.display()
            ),
        );
    }

    fn image(&self) -> PathBuf {
        let mut images = fs::read_dir(self.at("device/set-a/root/composefs/images")).unwrap();
        images.next().unwrap().unwrap().path()
    }
}

/// Runs a command line that must succeed, and gives what it printed.
fn tool(folder: &Path, line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(folder)
        .output();
    let output =
        output.unwrap_or_else(|error| panic!("{line}: {error}; scripts/deps.sh test installs it"));
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn program(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_sealed_root_runs_and_leaves_nothing_behind() {
    let check = "#!/bin/sh\nset -eu\necho 1 >>/var/boots\necho x >/dev/null\ntest -d /proc/1\n\
                 ! touch /usr/new 2>/dev/null\necho tmp >/tmp/new\necho \"root is well\"\n";
    let mut bench = Bench::new(check);
    for boots in 1..=2 {
        let boot = bench.board.power_on().unwrap();
        assert_eq!((boot.set.as_str(), boot.reason.as_str()), ("a", "default"));
        assert!(bench.image().ends_with(&boot.seal));
        let health = bench.board.health().unwrap();
        assert!(health.is_good(), "{health:?}");
        assert_eq!(health.checks[0].text, "root is well\n");
        assert!(
            !fs::read_to_string("/proc/self/mounts")
                .unwrap()
                .contains(bench.folder.path().to_str().unwrap())
        );
        bench.board.agent(&["status"]).unwrap();
        fs::write(bench.at("device/running-set"), "a\n").unwrap();
        bench.board.power_off().unwrap();
        assert!(
            !bench.at("device/running-set").exists(),
            "a board that is off runs nothing"
        );
        assert_eq!(
            fs::read_to_string(bench.at("device/var/boots"))
                .unwrap()
                .lines()
                .count(),
            boots,
            "/var survives"
        );
        assert_eq!(fs::read_dir(bench.at("device/mounts")).unwrap().count(), 0);
    }
}

#[test]
fn a_check_that_fails_is_told_with_its_words() {
    let mut bench = Bench::new("#!/bin/sh\necho out\necho err >&2\nexit 3\n");
    bench.board.power_on().unwrap();
    let health = bench.board.health().unwrap();
    assert!(!health.is_good());
    let check = health.first_failure().unwrap();
    assert_eq!(
        (check.name.as_str(), check.text.as_str()),
        ("10-check", "out\nerr\n")
    );
    assert_eq!(
        check.verdict,
        Verdict::Failed {
            ending: "exit code 3".to_owned()
        }
    );
}

#[test]
fn a_check_that_hangs_is_cut_off_and_dies_with_the_power() {
    let mut bench = Bench::new("#!/bin/sh\nexec sleep 1000 >/var/alive\n");
    let alive = bench.at("device/var/alive");
    tool(bench.folder.path(), &format!("mkfifo {}", alive.display()));
    // Ends when the last process that holds the other end has ended.
    let watch = thread::spawn(move || fs::File::open(alive).unwrap().read_to_end(&mut Vec::new()));
    bench.board.power_on().unwrap();
    let health = bench.board.health().unwrap();
    assert_eq!(
        health.first_failure().unwrap().verdict,
        Verdict::TimedOut {
            limit: Duration::from_secs(1)
        }
    );
    assert!(
        !watch.is_finished(),
        "it still hangs, as it would on a real board"
    );
    bench.board.power_off().unwrap();
    assert_eq!(watch.join().unwrap().unwrap(), 0);
}

#[test]
fn a_root_without_checks_is_refused() {
    let mut bench = Bench::new("");
    bench.board.power_on().unwrap();
    assert!(matches!(
        bench.board.health(),
        Err(BoardError::NoChecks { .. })
    ));
}

#[test]
fn an_image_that_was_changed_is_not_mounted() {
    let mut bench = Bench::new("#!/bin/sh\n");
    let image = bench.image();
    let mut bytes = fs::read(&image).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&image, bytes).unwrap();
    let error = bench.board.power_on().unwrap_err();
    assert!(matches!(error, BoardError::SealBroken { .. }), "{error}");
    assert!(matches!(bench.board.health(), Err(BoardError::Off)));
}

#[test]
fn a_uki_that_was_changed_or_signed_by_a_stranger_is_refused() {
    let bench = &mut Bench::new("#!/bin/sh\n");
    let uki = bench.at("device/set-a/boot/EFI/BOOT/BOOTX64.EFI");
    let good = fs::read(&uki).unwrap();
    let position = good
        .windows(10)
        .position(|window| window == b"composefs=")
        .unwrap()
        + 10;
    let mut bad = good.clone();
    bad[position] ^= 1;
    fs::write(&uki, &bad).unwrap();
    let refused = |bench: &mut Bench| {
        let error = bench.board.power_on().unwrap_err();
        let BoardError::Command(CommandError::Status { output, .. }) = &error else {
            panic!("{error}")
        };
        assert!(output.command.starts_with("sbverify "), "{error}");
    };
    refused(bench);
    fs::write(&uki, &good).unwrap();
    tool(
        bench.folder.path(),
        "openssl req -new -x509 -newkey rsa:2048 -nodes -subj /CN=stranger -keyout owner.key -out other.crt",
    );
    fs::rename(bench.at("other.crt"), bench.at("owner.crt")).unwrap();
    refused(bench);
}

#[test]
fn a_uki_without_a_seal_is_refused() {
    let mut bench = Bench::new("#!/bin/sh\n");
    bench.seal(Some("quiet panic=10"));
    let error = bench.board.power_on().unwrap_err();
    assert!(
        matches!(error, BoardError::SealNotStated { found: 0, .. }),
        "{error}"
    );
}

#[test]
fn what_cannot_be_mounted_is_told_with_the_reason() {
    let mut bench = Bench::new("#!/bin/sh\n");
    fs::remove_file(bench.image()).unwrap();
    fs::write(bench.at(IMAGE), vec![7; 8192]).unwrap();
    bench.seal(None);
    let error = bench.board.power_on().unwrap_err();
    assert!(
        matches!(&error, BoardError::Mount { message } if message.contains("mount")),
        "{error}"
    );
    assert!(matches!(bench.board.power_off(), Err(BoardError::Off)));
}

#[test]
fn a_board_is_on_or_off() {
    let mut bench = Bench::new("#!/bin/sh\n");
    assert!(matches!(bench.board.power_off(), Err(BoardError::Off)));
    bench.board.power_on().unwrap();
    assert!(matches!(bench.board.power_on(), Err(BoardError::On)));
}
