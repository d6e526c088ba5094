//! A maker with three releases on a real web server, and a device of folders that runs the real agent.

#![allow(
    dead_code,
    reason = "not every test that shares this file uses all of it"
)]

use super::support::{self, programs};
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use twinseal_hil::link::{Link, Report, Shape};
use twinseal_hil::power::Moments;
use twinseal_hil::web::WebServer;

/// What the releases of a maker hold.
#[derive(Clone, Copy)]
pub struct Content {
    /// Objects of a release, and how many of them each next one changes.
    pub objects: u64,
    pub changed: u64,
    pub object_bytes: usize,
    /// Most bytes of a stored range.
    pub range_bytes: u64,
    /// Bits of each byte that nothing makes smaller.
    pub mask: u8,
    /// Whether a changed object is another one only here and there, and the bundles have patches from the first release.
    pub patched: bool,
}

impl Content {
    /// An object of a release.
    pub fn object(&self, release: u64, object: u64) -> Vec<u8> {
        let changes = if object < self.changed { release } else { 0 };
        let own = 1_000 * changes + object;
        let seed = if self.patched { object } else { own };
        let mut bytes = noise(seed, self.object_bytes);
        if self.patched {
            bytes.splice(20_000..20_500, noise(own, 500));
        }
        bytes.iter_mut().for_each(|byte| *byte &= self.mask);
        bytes
    }
}

/// Objects that are stored as they are, in ranges that a window nearly carries.
pub const SHORT_RANGES: Content = Content {
    objects: 24,
    changed: 10,
    object_bytes: 120_000,
    range_bytes: 65_536,
    mask: 0xff,
    patched: false,
};

/// Objects that zstd makes a little smaller, in the longest ranges that there are.
pub const LONG_RANGES: Content = Content {
    objects: 5,
    changed: 3,
    object_bytes: 2_500_000,
    range_bytes: 1024 * 1024,
    mask: 0x7f,
    patched: false,
};

/// Objects of which the changed ones come as patches.
pub const PATCHED: Content = Content {
    objects: 200,
    changed: 10,
    object_bytes: 40_000,
    range_bytes: 65_536,
    mask: 0xff,
    patched: true,
};

/// Bytes of the raw image that a bundle with patches carries.
const IMAGE_BYTES: usize = 100_000;

/// What a cut or a kill may cost.
pub const PIECE_BYTES: u64 = 65_536;

/// What comes after it in a device description was said later, and is said anew.
const SAID_LATER: &str = "# Said later.\n";

/// Seed of the links.
pub const SEED: u64 = 7;

/// A maker with three releases on a web server.
pub struct Maker {
    pub folder: tempfile::TempDir,
    pub server: WebServer,
    content: Content,
}

impl Maker {
    pub fn new() -> Self {
        Self::of(SHORT_RANGES)
    }

    pub fn of(content: Content) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("served")).unwrap();
        let code = support::code();
        for name in ["vmlinuz", "stub"] {
            fs::write(path.join(name), &code).unwrap();
        }
        fs::write(path.join("initramfs"), noise(0, 30_000)).unwrap();
        fs::write(
            path.join("os-release"),
            "ID=link\nNAME=\"An appliance behind a bad link\"\n",
        )
        .unwrap();
        bundler(path, &["keygen", "--name", "release", "--out", "."]);
        for release in 1..=3 {
            build(path, release, &content);
        }
        let nginx = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/appliance/tools/nginx");
        let server =
            WebServer::start(&path.join("served"), &path.join("web"), Some(&nginx)).unwrap();
        Self {
            folder,
            server,
            content,
        }
    }

    pub fn bundle(&self, release: u64) -> PathBuf {
        self.folder.path().join(format!("served/v{release}.tseal"))
    }

    /// Where the data begins in a bundle.
    pub fn data_offset(&self, release: u64) -> u64 {
        let bundle = fs::read(self.bundle(release)).unwrap();
        let (mut place, mut name) = (0, &bundle[..0]);
        while name != b"data" {
            let header = &bundle[place..place + 512];
            name = header.split(|byte| *byte == 0).next().unwrap();
            let size = std::str::from_utf8(&header[124..135]).unwrap();
            let bytes = usize::from_str_radix(size, 8).unwrap();
            place += 512
                + if name == b"data" {
                    0
                } else {
                    bytes.next_multiple_of(512)
                };
        }
        place as u64
    }

    pub fn bundle_bytes(&self, release: u64) -> u64 {
        fs::metadata(self.bundle(release)).unwrap().len()
    }

    pub fn link(&self, shape: &str) -> Link {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, self.server.port));
        Link::start(read(shape), SEED, server, None).unwrap()
    }

    /// A device that runs the first release, and has it in both sets.
    pub fn device(&self) -> Device {
        self.device_made(&["--both"])
    }

    /// A device that runs the first release, made with options of `device init`.
    pub fn device_made(&self, options: &[&str]) -> Device {
        let device = Device::new(&self.folder.path().join("release.pub"));
        if self.content.patched {
            for set in ["a", "b"] {
                let slot = device.folder.path().join(format!("{set}-image"));
                fs::write(slot, vec![0; 2 * IMAGE_BYTES]).unwrap();
            }
            device.describe("[slots.fpga]\na = \"a-image\"\nb = \"b-image\"\n");
        }
        let first = self.bundle(1);
        let words = [&["device", "init"], options, &[first.to_str().unwrap()]].concat();
        let ran = device.run(&words);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(device.select(), "a default");
        device
    }

    /// What the update takes over a link with nothing wrong, and what it leaves.
    pub fn undisturbed(&self, release: u64) -> (Report, Tree) {
        let (device, link) = (self.device(), self.link(""));
        let ran = device.install(&link, release, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let content = &self.content;
        let changed = content.changed * content.object_bytes as u64 * 3 / 4;
        let report = link.report();
        assert!(
            content.patched || report.body_bytes > changed,
            "{report:?}: nothing to disturb"
        );
        (report, device.set("b"))
    }
}

pub fn read(shape: &str) -> Shape {
    toml::from_str(shape).unwrap()
}

/// Bytes that nothing makes smaller, the same for the same seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut numbers = Moments::new(seed, "noise");
    let mut all: Vec<u8> = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        all.extend(numbers.up_to(u64::MAX).to_le_bytes());
    }
    all.truncate(bytes);
    all
}

pub fn bundler(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(programs().join("twinseal-bundle"));
    let output = command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
}

pub fn build(folder: &Path, release: u64, content: &Content) {
    let Content {
        objects,
        range_bytes,
        patched,
        ..
    } = *content;
    let root = folder.join(format!("root-{release}"));
    fs::create_dir(&root).unwrap();
    // One more in the last release: a server whose files have no tag but a time and a size tells it from the one before.
    for object in 0..objects + u64::from(release == 3) {
        let content = content.object(release, object);
        fs::write(root.join(format!("object-{object}")), content).unwrap();
    }
    let mut recipe = format!(
        "compatible = \"link\"\nversion = \"{release}.0\"\nanti-rollback = 1\nsource = \"test\"\nbuilder = \"test\"\n\
         kernel = \"vmlinuz\"\nstub = \"stub\"\ninitramfs = \"initramfs\"\ncmdline = \"quiet\"\nos-release = \"os-release\"\n\
         uname = \"6.12\"\ncompression = \"zstd\"\nlevel = 1\nrange-bytes = {range_bytes}\nsign = [\"release.key\"]\n\
         [root]\ndirectory = \"root-{release}\"\nepoch = 0\n"
    );
    if patched {
        let mut image = noise(0, IMAGE_BYTES);
        image.splice(500..600, noise(release, 100));
        fs::write(folder.join(format!("image-{release}")), image).unwrap();
        let image = format!("[[image]]\nslot = \"fpga\"\nfile = \"image-{release}\"\n");
        recipe.push_str(&image);
    }
    fs::write(folder.join(format!("v{release}.toml")), recipe).unwrap();
    let (recipe, out) = (
        format!("v{release}.toml"),
        format!("served/v{release}.tseal"),
    );
    let mut words = vec!["build", &recipe, "--out", &out];
    if patched && release > 1 {
        words.extend(["--base", "served/v1.tseal"]);
    }
    bundler(folder, &words);
}

/// A device of folders.
pub struct Device {
    pub folder: tempfile::TempDir,
}

/// What a run of the agent gave.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The first event of this kind.
    pub fn event(&self, kind: &str) -> serde_json::Value {
        let read = |line| -> serde_json::Value { serde_json::from_str(line).unwrap() };
        let mut events = self.out.lines().map(read);
        events.find(|event| event["event"] == kind).unwrap()
    }
}

/// Files by their path.
pub type Tree = BTreeMap<PathBuf, Vec<u8>>;

impl Device {
    pub fn new(key: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["state", "a-boot", "a-root", "b-boot", "b-root"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::copy(key, path.join("release.pub")).unwrap();
        fs::write(
            path.join("device.toml"),
            "compatible = \"link\"\ntrusted-keys = [\"release.pub\"]\nstate = \"state\"\nrunning = \"running\"\nverity = \"absent\"\n\
             [boot]\nloader = \"record\"\nrecord = \"state/record\"\n\
             [sets.a]\nboot = \"a-boot\"\nroot = \"a-root\"\n[sets.b]\nboot = \"b-boot\"\nroot = \"b-root\"\n",
        )
        .unwrap();
        Self { folder }
    }

    /// Says more about the device, instead of what was said before.
    pub fn describe(&self, table: &str) {
        let file = self.folder.path().join("device.toml");
        let text = fs::read_to_string(&file).unwrap();
        let before = text.split(SAID_LATER).next().unwrap();
        fs::write(&file, format!("{before}{SAID_LATER}{table}")).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("twinseal"));
        command
            .arg("--device")
            .arg(self.folder.path().join("device.toml"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn select(&self) -> String {
        let ran = self.run(&["select"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out.trim().to_owned()
    }

    pub fn install(&self, link: &Link, release: u64, options: &[&str]) -> Ran {
        let url = address(link, release);
        let words = [&["--json", "install"], options, &[&url]].concat();
        self.run(&words)
    }

    /// What the plan says that an install will cost on the network.
    pub fn plan(&self, link: &Link, release: u64) -> u64 {
        let ran = self.run(&["--json", "plan", &address(link, release)]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.event("plan")["network"]["install_bytes"]
            .as_u64()
            .unwrap()
    }

    /// Bytes that the journal has for the last attempt of this kind.
    pub fn told(&self, kind: &str) -> u64 {
        let ran = self.run(&["--json", "history"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let read = |line| -> serde_json::Value { serde_json::from_str(line).unwrap() };
        let mut entries = ran.out.lines().map(read);
        let last = entries.rfind(|entry| entry["kind"] == kind);
        last.unwrap()["source_bytes"].as_u64().unwrap()
    }

    /// The files of a set.
    pub fn set(&self, set: &str) -> Tree {
        let mut tree = Tree::new();
        for slot in ["boot", "root"] {
            let folder = self.folder.path().join(format!("{set}-{slot}"));
            gather(&folder, &folder, &mut tree);
        }
        tree
    }

    /// Changes a byte of every copy of an object; gives how many there were.
    pub fn damage(&self, content: &[u8]) -> usize {
        let mut copies = 0;
        for set in ["a", "b"] {
            let root = self.folder.path().join(format!("{set}-root"));
            for (path, found) in self.set(set) {
                if found == content {
                    let mut changed = found;
                    changed[100] ^= 1;
                    fs::write(root.join(path), changed).unwrap();
                    copies += 1;
                }
            }
        }
        copies
    }

    /// It has not become the device that it would be after an update.
    pub fn runs_on(&self) {
        assert_eq!(self.select(), "a default");
    }

    /// It has become exactly the device that an undisturbed update makes.
    pub fn is_updated(&self, set: &Tree) {
        let found = self.set("b");
        assert!(
            found.keys().eq(set.keys()),
            "{:?} and {:?}",
            found.keys(),
            set.keys()
        );
        assert!(&found == set, "a file is another one");
        assert!(self.select().starts_with("b trial"));
    }
}

pub fn address(link: &Link, release: u64) -> String {
    format!("http://127.0.0.1:{}/v{release}.tseal", link.port)
}

pub fn gather(root: &Path, folder: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            tree.insert(
                path.strip_prefix(root).unwrap().into(),
                to.into_os_string().into_encoded_bytes(),
            );
        } else if path.is_dir() {
            gather(root, &path, tree);
        } else {
            tree.insert(
                path.strip_prefix(root).unwrap().into(),
                fs::read(&path).unwrap(),
            );
        }
    }
}
