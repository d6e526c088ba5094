//! The conformance kit, and two agents that install it on devices of the same start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tempfile::TempDir;

/// Devices that are installed on side by side: an install waits for its medium more than it computes.
const WORKERS: usize = 4;

const DEVICE: &str = "compatible = \"twinseal-vector\"\nstate = \"state\"\ntrusted-keys = [\"first.pub\", \"second.pub\"]\n\
                      verity = \"absent\"\nrunning = \"running-set\"\nclock = \"none\"\n\
                      [sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n\
                      [slots.firmware]\na = \"firmware-a\"\nb = \"firmware-b\"\n";

/// The exit code of a bundle that is not made by the rules.
const INVALID: i32 = 20;

/// Bundles that this device has another word for than one that the kit describes: it has no clock, and boots a UKI from each set.
const HERE: [(&str, i32); 3] = [
    ("expired.tseal", 0),
    ("not-yet-valid.tseal", 0),
    ("good-image-only.tseal", 35),
];

/// The programs, and the kit.
pub struct Bench {
    folder: TempDir,
    agents: [PathBuf; 2],
}

/// How a bundle comes to an agent.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    File,
    Pipe,
    /// From a web server on this port, which serves the kit.
    Address(u16),
}

/// What became of the bundles of the kit.
pub struct Verdicts {
    pub good: usize,
    pub bad: usize,
}

impl Bench {
    /// Writes the kit, and provisions a device that runs its good bundle.
    pub fn new(agents: [PathBuf; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kit = folder.path().join("kit");
        let bundles = crate::support::programs().join("twinseal-bundle");
        let written = Command::new(bundles)
            .args(["vectors", "--out"])
            .arg(&kit)
            .output();
        assert!(written.unwrap().status.success());
        let bench = Self { folder, agents };
        bench.provision();
        bench
    }

    /// A place in the folder of this test.
    pub fn at(&self, name: &str) -> PathBuf {
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

    /// A device of this name, as the bench provisioned it.
    pub fn device(&self, name: &str) -> PathBuf {
        let device = self.at(name);
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.at("base"))
            .arg(&device)
            .status();
        assert!(copied.unwrap().success());
        device
    }

    /// Runs an agent on a device; gives its exit code.
    pub fn run(&self, agent: usize, device: &Path, words: &[&str], input: Option<&Path>) -> i32 {
        let mut command = Command::new(&self.agents[agent]);
        command
            .arg("--device")
            .arg(device.join("device.toml"))
            .args(words);
        command.stdin(input.map_or(Stdio::null(), |file| File::open(file).unwrap().into()));
        command.output().unwrap().status.code().unwrap()
    }

    /// What an agent makes of a bundle, on a device of this name: its exit code, and the device afterwards. A bundle that is not made
    /// by the rules is tried again: what it left behind must not help it.
    fn install(
        &self,
        device: &str,
        agent: usize,
        name: &str,
        way: Way,
    ) -> (i32, BTreeMap<PathBuf, Vec<u8>>) {
        let device = self.device(device);
        let bundle = self.at("kit").join(name);
        let source = match way {
            Way::File => bundle.display().to_string(),
            Way::Pipe => "-".to_owned(),
            Way::Address(port) => format!("http://127.0.0.1:{port}/{name}"),
        };
        let input = matches!(way, Way::Pipe).then_some(bundle.as_path());
        let try_it = || self.run(agent, &device, &["install", &source], input);
        let code = try_it();
        if code == INVALID {
            assert_eq!(try_it(), INVALID, "{name}, tried again; {way:?}");
        }
        let content = content(&device);
        fs::remove_dir_all(&device).unwrap();
        (code, content)
    }

    /// What both agents say to a bundle of the kit. They make the same of it: of what they wrote, of all that `counts`.
    fn both_say(&self, device: &str, name: &str, way: Way, counts: fn(&Path) -> bool) -> i32 {
        let [full, minimal] = [0, 1].map(|agent| {
            let (code, mut content) = self.install(device, agent, name, way);
            content.retain(|file, _| counts(file));
            (code, content)
        });
        assert_eq!(full.0, minimal.0, "{name}, exit codes; {way:?}");
        let names =
            |device: &BTreeMap<PathBuf, Vec<u8>>| device.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&full.1), names(&minimal.1), "{name}, files; {way:?}");
        for (file, bytes) in &full.1 {
            let same = minimal.1[file] == *bytes;
            assert!(same, "{name}, {}; {way:?}", file.display());
        }
        full.0
    }

    /// Has both agents install every bundle of the kit, or one in `share` of them.
    pub fn both_take_all(&self, ways: &[Way], share: usize, counts: fn(&Path) -> bool) -> Verdicts {
        let text = fs::read_to_string(self.at("kit/vectors.toml")).unwrap();
        let kit: toml::Table = text.parse().unwrap();
        let vectors = kit["vector"].as_array().unwrap().iter().step_by(share);
        let vectors: Vec<_> = vectors.collect();
        let (next, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // A thread that panics fails the test when the scope ends.
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (vectors, next, good) = (&vectors, &next, &good);
                scope.spawn(move || {
                    let device = format!("device-{worker}");
                    while let Some(vector) = vectors.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let name = vector["file"].as_str().unwrap();
                        let of_kit = vector.get("exit-code").map_or(0, code);
                        let here = HERE.iter().find(|(file, _)| *file == name);
                        let expected = here.map_or(of_kit, |(_, code)| *code);
                        let mut is_taken = true;
                        for way in ways {
                            let said = self.both_say(&device, name, *way, counts);
                            is_taken &= said == 0;
                            // From a server only what is needed comes, so that less of what is wrong is seen.
                            let is_seen = !matches!(way, Way::Address(_));
                            assert!(said == expected || !is_seen, "{name}: {said}; {way:?}");
                        }
                        good.fetch_add(usize::from(is_taken), Ordering::Relaxed);
                    }
                });
            }
        });
        let good = good.into_inner();
        Verdicts {
            good,
            bad: vectors.len() - good,
        }
    }
}

fn code(value: &toml::Value) -> i32 {
    value.as_integer().unwrap().try_into().unwrap()
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
