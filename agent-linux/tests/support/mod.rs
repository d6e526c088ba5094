//! A device in a folder: slots are folders and files, the program is the real one.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod bundle;

use bundle::key;
use ed25519::pkcs8::{EncodePublicKey, PublicKeyBytes};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;
use twinseal::cli::{BundleArguments, InstallArguments};

/// What `install` is told when nobody says more than the bundle.
pub fn install_of(source: impl Into<PathBuf>) -> InstallArguments {
    InstallArguments {
        bundle: BundleArguments {
            source: source.into(),
            budget: None,
            no_audit: false,
            max_rate: None,
            window: None,
        },
        no_read_back: false,
        attempts: None,
        no_trial: false,
        no_firmware_check: false,
    }
}

/// A device in a folder that is removed at the end.
pub struct Board {
    folder: TempDir,
}

/// What a run of the program gave.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Board {
    /// A device with boot and root slots and the image slot `fpga`; nothing is installed.
    pub fn sealed() -> Self {
        Self::with(
            "[sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n\
             [slots.fpga]\na = \"fpga-a\"\nb = \"fpga-b\"\n",
        )
    }

    /// A device that has only the image slot `app`.
    pub fn image_only() -> Self {
        Self::with("image-only = true\n[slots.app]\na = \"app-a\"\nb = \"app-b\"\n")
    }

    fn with(slots: &str) -> Self {
        Self::at(tempfile::tempdir().unwrap(), "absent", slots)
    }

    /// A device in a folder of the caller's choice.
    pub fn at(folder: TempDir, verity: &str, slots: &str) -> Self {
        let board = Self { folder };
        let public = PublicKeyBytes(*key(1).pk)
            .to_public_key_pem(Default::default())
            .unwrap();
        fs::write(board.path("release.pub"), public).unwrap();
        let text = format!(
            "compatible = \"acme-gateway\"\nstate = \"state\"\ntrusted-keys = [\"release.pub\"]\nverity = \"{verity}\"\n\
             running = \"running-set\"\n{slots}"
        );
        fs::write(board.path("device.toml"), text).unwrap();
        board
    }

    /// Provisioned with release 1 in set a, and booted.
    pub fn booted(self, release: &[u8]) -> Self {
        fs::write(self.path("first.tseal"), release).unwrap();
        self.ok(&["device", "init", &self.text("first.tseal")]);
        assert_eq!(self.select(), "a default");
        self
    }

    /// A path in the board's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path in the board's folder, as an argument.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a bundle and gives its path.
    pub fn bundle(&self, bytes: &[u8]) -> String {
        fs::write(self.path("bundle.tseal"), bytes).unwrap();
        self.text("bundle.tseal")
    }

    /// Adds a line to the top of the device description.
    pub fn describe(&self, line: &str) {
        let file = self.path("device.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{line}\n{text}")).unwrap();
    }

    /// The program with arguments, ready to run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinseal"));
        command
            .args(arguments)
            .env("TWINSEAL_DEVICE", self.path("device.toml"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs the program with bytes on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            // The program may stop reading: that is what some tests are about.
            let _ = pipe.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output.into()
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs the program, which must succeed, and gives its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}{}", run.out, run.err);
        run.out
    }

    /// Installs a bundle and gives the last event.
    pub fn install(&self, bundle: &[u8]) -> Value {
        let file = self.bundle(bundle);
        let run = self.run(&["--json", "install", &file]);
        assert_eq!(run.code, 0, "{}{}", run.out, run.err);
        run.events().pop().unwrap()
    }

    /// A restart: chooses a set and gives what was printed.
    pub fn select(&self) -> String {
        self.ok(&["select"]).trim_end().to_owned()
    }

    /// `status` as a value.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["--json", "status"])).unwrap()
    }

    /// The journal as values.
    pub fn history(&self) -> Vec<Value> {
        self.run(&["--json", "history"]).events()
    }

    /// The kinds of the journal's entries.
    pub fn kinds(&self) -> Vec<String> {
        self.history()
            .iter()
            .map(|entry| entry["kind"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Every file of the slots and the boot record, with its bytes.
    pub fn slots(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for name in [
            "boot-a", "root-a", "boot-b", "root-b", "fpga-a", "fpga-b", "app-a", "app-b",
        ] {
            collect(&self.path(name), &mut found);
        }
        collect(&self.path("state/boot-record"), &mut found);
        found
    }

    /// Makes set b's boot and root slot anew, empty.
    pub fn empty_set_b(&self) {
        for name in ["boot-b", "root-b"] {
            let _ = fs::remove_dir_all(self.path(name));
            fs::create_dir(self.path(name)).unwrap();
        }
    }

    /// Every file of one set.
    pub fn set_files(&self, set: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for name in ["boot", "root", "fpga", "app"] {
            collect(&self.path(&format!("{name}-{set}")), &mut found);
        }
        found
    }
}

impl Run {
    /// Standard output, one JSON object a line.
    pub fn events(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

fn collect(path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(about) = fs::symlink_metadata(path) else {
        return;
    };
    if about.is_dir() {
        fs::read_dir(path)
            .unwrap()
            .for_each(|entry| collect(&entry.unwrap().path(), found));
    } else if about.is_symlink() {
        let target = fs::read_link(path).unwrap();
        found.insert(
            path.to_path_buf(),
            target.to_str().unwrap().as_bytes().to_vec(),
        );
    } else {
        found.insert(path.to_path_buf(), fs::read(path).unwrap());
    }
}
