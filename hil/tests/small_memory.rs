//! What an install of the small agent takes of the machine's memory: the program itself, as devices have it, is watched from outside.
//!
//! It is the same whatever is installed: an image of 256 MiB, or 10, 1,000 and 20,000 objects.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use twinseal_minimal::memory::{PEAK_BYTES, STACK_BYTES};

/// Peaks count as the same up to this: the order in which pages are first touched is not always the same.
const PAGES_BYTES: usize = 32 * 1024;

/// Enough to fill every buffer, so that it is not the few bytes of a small bundle that make a small peak.
const FULL_BYTES: u64 = 1 << 20;

/// Bytes of the image.
const IMAGE_BYTES: u64 = 256 << 20;

const DEVICE: &str = "compatible = \"memory\"\nstate = \"state\"\ntrusted-keys = [\"release.pub\"]\n\
                      verity = \"absent\"\nrunning = \"running-set\"\nclock = \"none\"\n\
                      [sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n\
                      [slots.data]\na = \"data-a\"\nb = \"data-b\"\n";

/// Most memory that a process had.
#[derive(Debug)]
struct Peak {
    all: usize,
    stack: usize,
}

struct Bench {
    folder: TempDir,
    minimal: PathBuf,
}

impl Bench {
    /// A device that runs a release of one object from set a.
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            minimal: support::minimal_with_commands(),
        };
        let device = bench.at("device");
        for slot in ["boot-a", "root-a", "boot-b", "root-b"] {
            fs::create_dir_all(device.join(slot)).unwrap();
        }
        for slot in ["data-a", "data-b"] {
            let slot = File::create(device.join(slot)).unwrap();
            slot.set_len(IMAGE_BYTES).unwrap();
        }
        fs::write(bench.at("code.efi"), support::code()).unwrap();
        bench.run(
            "twinseal-bundle",
            &["keygen", "--name", "release", "--out"],
            bench.folder.path(),
        );
        fs::copy(bench.at("release.pub"), device.join("release.pub")).unwrap();
        fs::write(device.join("device.toml"), DEVICE).unwrap();
        let bundle = bench.bundle("running", 1, 4096);
        let description = device.join("device.toml");
        let description = description.to_str().unwrap();
        bench.run(
            "twinseal",
            &["--device", description, "device", "init"],
            &bundle,
        );
        bench.run("twinseal", &["--device", description], Path::new("select"));
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, program: &str, words: &[&str], last: &Path) {
        let program = support::programs().join(program);
        let output = Command::new(program).args(words).arg(last).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
    }

    /// A bundle with so many objects and an image of so many bytes.
    fn bundle(&self, name: &str, objects: usize, image_bytes: u64) -> PathBuf {
        let root = self.at(name);
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/lib/os-release"), "ID=memory\n").unwrap();
        for number in 0..objects {
            let line = format!("object {number} of {name}\n");
            fs::write(root.join(format!("usr/lib/{number}")), line.repeat(20)).unwrap();
        }
        let image = self.at(&format!("{name}.img"));
        fs::write(&image, pattern(image_bytes)).unwrap();
        let (recipe, bundle) = (
            self.at(&format!("{name}.toml")),
            self.at(&format!("{name}.tseal")),
        );
        let text = format!(
            "compatible='memory'\nversion='{name}'\nanti-rollback=1\nkernel='code.efi'\nstub='code.efi'\ncmdline='quiet'\n\
             level=1\nsign=['release.key']\n[root]\ndirectory='{name}'\n\
             [[image]]\nslot='data'\nfile='{name}.img'\n"
        );
        fs::write(&recipe, text).unwrap();
        let out = bundle.to_str().unwrap();
        self.run("twinseal-bundle", &["build", "--out", out], &recipe);
        bundle
    }

    /// Installs a bundle on a fresh copy of the device, and watches.
    fn install(&self, bundle: &Path) -> Peak {
        let device = self.at("updated");
        let copied = Command::new("cp")
            .arg("-a")
            .args([&self.at("device"), &device])
            .status();
        assert!(copied.unwrap().success());
        let mut command = Command::new(&self.minimal);
        command.arg("--device").arg(device.join("device.toml"));
        command.arg("install").arg(bundle);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let peak = watch(quiet.spawn().unwrap());
        fs::remove_dir_all(&device).unwrap();
        peak
    }
}

/// The peak of a process until it ends well. Peaks never fall, so the last look before its end sees what there was.
fn watch(mut process: Child) -> Peak {
    let file = format!("/proc/{}/status", process.id());
    let mut peak = Peak { all: 0, stack: 0 };
    loop {
        let status = fs::read_to_string(&file).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<usize>().ok()
        };
        if let (Some(all), Some(stack)) = (field("VmHWM:"), field("VmStk:")) {
            peak = Peak {
                all: all * 1024,
                stack: stack * 1024,
            };
        }
        if let Some(status) = process.try_wait().unwrap() {
            assert!(status.success(), "the install failed: {status}");
            return peak;
        }
        std::thread::yield_now();
    }
}

/// Bytes that do not compress well, and none of them zeros in a row.
fn pattern(bytes: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x3f
    };
    (0..bytes).map(next).collect()
}

#[test]
fn an_install_takes_one_mebibyte_whatever_it_installs() {
    let bench = Bench::new();
    let mut peaks = Vec::new();
    for (name, objects, image_bytes) in [
        ("ten", 10, FULL_BYTES),
        ("thousand", 1000, FULL_BYTES),
        ("many", 20_000, FULL_BYTES),
        ("image", 10, IMAGE_BYTES),
    ] {
        let peak = bench.install(&bench.bundle(name, objects, image_bytes));
        println!(
            "{name}: {} KiB at once, {} KiB of stack",
            peak.all >> 10,
            peak.stack >> 10
        );
        assert!(peak.all > 0 && peak.all <= PEAK_BYTES, "{name}: {peak:?}");
        assert!(peak.stack <= STACK_BYTES, "{name}: {peak:?}");
        peaks.push(peak.all);
    }
    let (least, most) = (peaks[0], peaks[2]);
    assert!(
        most.abs_diff(least) <= PAGES_BYTES,
        "the peak grows with the objects: {peaks:?}"
    );
}
