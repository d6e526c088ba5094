//! Both agents, as programs, on the whole conformance kit: the same exit code, and byte for byte the same device afterwards.
//! What the small agent needs for it does not grow with the bundle.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tempfile::TempDir;

/// Bad bundles that the kit must have, so that agreeing says something.
const BAD_MIN: usize = 60;

/// Devices that are installed on side by side: an install waits for its medium more than it computes.
const WORKERS: usize = 4;

const DEVICE: &str = "compatible = \"twinseal-vector\"\nstate = \"state\"\ntrusted-keys = [\"first.pub\", \"second.pub\"]\n\
                      verity = \"absent\"\nrunning = \"running-set\"\nclock = \"none\"\n\
                      [sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n\
                      [slots.firmware]\na = \"firmware-a\"\nb = \"firmware-b\"\n";

/// A folder whose agents are taken, instead of those built for this machine: scripts/aarch64.sh makes one.
const AGENTS: &str = "TWINSEAL_AGENTS";

/// Of those, one bundle in so many is tried, by its place in the kit: an emulator takes ten times as long.
const OTHERS_SHARE: usize = 5;

/// The programs, and the kit.
struct Bench {
    folder: TempDir,
    agents: [PathBuf; 2],
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let agents = match std::env::var_os(AGENTS).map(PathBuf::from) {
            Some(folder) => ["twinseal", "twinseal-minimal-commands"].map(|name| folder.join(name)),
            None => [
                support::programs().join("twinseal"),
                support::minimal_with_commands(),
            ],
        };
        let kit = folder.path().join("kit");
        let bundles = support::programs().join("twinseal-bundle");
        let written = Command::new(bundles)
            .args(["vectors", "--out"])
            .arg(&kit)
            .output();
        assert!(written.unwrap().status.success());
        let bench = Self { folder, agents };
        bench.provision();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A device that runs the kit's good bundle from set a.
    fn provision(&self) {
        let base = self.at("base");
        for slot in ["boot-a", "root-a", "boot-b", "root-b"] {
            fs::create_dir_all(base.join(slot)).unwrap();
        }
        for slot in ["firmware-a", "firmware-b"] {
            fs::write(base.join(slot), [0; 65_536]).unwrap();
        }
        for key in ["first.pub", "second.pub"] {
            fs::copy(self.at("kit").join(key), base.join(key)).unwrap();
        }
        fs::write(base.join("device.toml"), DEVICE).unwrap();
        let good = self.at("kit/good.tseal");
        let good = good.to_str().unwrap();
        assert_eq!(self.run(0, &base, &["device", "init", good], None), 0);
        assert_eq!(self.run(0, &base, &["select"], None), 0);
    }

    /// Runs an agent on a device; gives its exit code.
    fn run(&self, agent: usize, device: &Path, words: &[&str], input: Option<&Path>) -> i32 {
        let mut command = Command::new(&self.agents[agent]);
        command
            .arg("--device")
            .arg(device.join("device.toml"))
            .args(words);
        command.stdin(input.map_or(Stdio::null(), |file| File::open(file).unwrap().into()));
        command.output().unwrap().status.code().unwrap()
    }

    /// What an agent makes of a bundle, on a device of this name: its exit code, and the device afterwards.
    fn install(
        &self,
        device: &str,
        agent: usize,
        bundle: &Path,
        as_pipe: bool,
    ) -> (i32, BTreeMap<PathBuf, Vec<u8>>) {
        let device = self.at(device);
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.at("base"))
            .arg(&device)
            .status();
        assert!(copied.unwrap().success());
        let code = if as_pipe {
            self.run(agent, &device, &["install", "-"], Some(bundle))
        } else {
            self.run(agent, &device, &["install", bundle.to_str().unwrap()], None)
        };
        let content = content(&device);
        fs::remove_dir_all(&device).unwrap();
        (code, content)
    }

    /// Whether both agents take a bundle of the kit, as a file and as a pipe. They make the same of it.
    fn both_take(&self, device: &str, name: &str) -> bool {
        let bundle = self.at("kit").join(name);
        let codes = [false, true].map(|as_pipe| {
            let [full, minimal] = [0, 1].map(|agent| self.install(device, agent, &bundle, as_pipe));
            assert_eq!(
                full.0, minimal.0,
                "{name}, exit codes; as a pipe: {as_pipe}"
            );
            let names =
                |device: &BTreeMap<PathBuf, Vec<u8>>| device.keys().cloned().collect::<Vec<_>>();
            assert_eq!(
                names(&full.1),
                names(&minimal.1),
                "{name}, files; as a pipe: {as_pipe}"
            );
            for (file, bytes) in &full.1 {
                assert!(
                    minimal.1[file] == *bytes,
                    "{name}, {}; as a pipe: {as_pipe}",
                    file.display()
                );
            }
            full.0
        });
        codes == [0, 0]
    }
}

/// Every file below a folder, and every folder as a file without bytes.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            if path.is_dir() {
                found.insert(name, Vec::new());
                folders.push(path);
            } else {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn both_agents_make_the_same_of_every_bundle_of_the_kit() {
    let bench = Bench::new();
    let text = fs::read_to_string(bench.at("kit/vectors.toml")).unwrap();
    let kit: toml::Table = text.parse().unwrap();
    let share = std::env::var_os(AGENTS).map_or(1, |_| OTHERS_SHARE);
    let kit = kit["vector"].as_array().unwrap();
    let vectors: Vec<_> = kit.iter().step_by(share).collect();
    let (next, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // A thread that panics fails the test when the scope ends.
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (bench, vectors, next, good) = (&bench, &vectors, &next, &good);
            scope.spawn(move || {
                let device = format!("device-{worker}");
                while let Some(vector) = vectors.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let taken = bench.both_take(&device, vector["file"].as_str().unwrap());
                    good.fetch_add(usize::from(taken), Ordering::Relaxed);
                }
            });
        }
    });
    let good = good.into_inner();
    let bad = vectors.len() - good;
    println!("{good} good bundles, {bad} bad ones, each as a file and as a pipe");
    let enough = good >= 10 / share && bad >= BAD_MIN / share;
    assert!(enough, "{good} good, {bad} bad");
}
