//! Updates over bad links: the real agent, a device of folders, nginx (busybox where there is none), and a link in between that
//! counts every byte.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::programs;
use twinseal_hil::link::{Link, Report, Shape};
use twinseal_hil::power::Moments;
use twinseal_hil::web::WebServer;

/// Objects of a release, and how many of them each next one changes.
const OBJECTS: u64 = 24;
const CHANGED: u64 = 10;
const OBJECT_BYTES: usize = 120_000;

/// What one range of the bundles carries, and with it what a cut may cost.
const RANGE_BYTES: u64 = 65_536;

/// Seed of the links.
const SEED: u64 = 7;

/// Limit of one run of the agent: with its pauses after cuts, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// A maker with three releases on a web server.
struct Maker {
    folder: tempfile::TempDir,
    server: WebServer,
}

impl Maker {
    fn new() -> Self {
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
            build(path, release);
        }
        let nginx = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/appliance/tools/nginx");
        let server =
            WebServer::start(&path.join("served"), &path.join("web"), Some(&nginx)).unwrap();
        Self { folder, server }
    }

    fn bundle(&self, release: u64) -> PathBuf {
        self.folder.path().join(format!("served/v{release}.tseal"))
    }

    fn bundle_bytes(&self, release: u64) -> u64 {
        fs::metadata(self.bundle(release)).unwrap().len()
    }

    fn link(&self, shape: &str) -> Link {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, self.server.port));
        Link::start(read(shape), SEED, server, None).unwrap()
    }

    /// A device that runs the first release, and has it in both sets.
    fn device(&self) -> Device {
        let device = Device::new(&self.folder.path().join("release.pub"));
        let first = self.bundle(1);
        let ran = device.run(&["device", "init", "--both", first.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(device.select(), "a default");
        device
    }

    /// What the update takes over a link with nothing wrong, and what it leaves.
    fn undisturbed(&self, release: u64) -> (Report, Tree) {
        let (device, link) = (self.device(), self.link(""));
        let ran = device.install(&link, release, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let changed = CHANGED * OBJECT_BYTES as u64;
        let report = link.report();
        assert!(
            report.body_bytes > changed,
            "{report:?}: nothing to disturb"
        );
        (report, device.set("b"))
    }
}

fn read(shape: &str) -> Shape {
    toml::from_str(shape).unwrap()
}

/// Bytes that nothing makes smaller, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut numbers = Moments::new(seed, "noise");
    let mut all: Vec<u8> = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        all.extend(numbers.up_to(u64::MAX).to_le_bytes());
    }
    all.truncate(bytes);
    all
}

fn bundler(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(programs().join("twinseal-bundle"));
    let output = command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
}

fn build(folder: &Path, release: u64) {
    let root = folder.join(format!("root-{release}"));
    fs::create_dir(&root).unwrap();
    // One more in the last release: a server whose files have no tag but a time and a size tells it from the one before.
    for object in 0..OBJECTS + u64::from(release == 3) {
        let changes = if object < CHANGED { release } else { 0 };
        let content = noise(1_000 * changes + object, OBJECT_BYTES);
        fs::write(root.join(format!("object-{object}")), content).unwrap();
    }
    let recipe = format!(
        "compatible = \"link\"\nversion = \"{release}.0\"\nanti-rollback = 1\nsource = \"test\"\nbuilder = \"test\"\n\
         kernel = \"vmlinuz\"\nstub = \"stub\"\ninitramfs = \"initramfs\"\ncmdline = \"quiet\"\nos-release = \"os-release\"\n\
         uname = \"6.12\"\ncompression = \"zstd\"\nlevel = 1\nrange-bytes = {RANGE_BYTES}\nsign = [\"release.key\"]\n\
         [root]\ndirectory = \"root-{release}\"\nepoch = 0\n"
    );
    fs::write(folder.join(format!("v{release}.toml")), recipe).unwrap();
    let (recipe, out) = (
        format!("v{release}.toml"),
        format!("served/v{release}.tseal"),
    );
    bundler(folder, &["build", &recipe, "--out", &out]);
}

/// A device of folders.
struct Device {
    folder: tempfile::TempDir,
}

/// What a run of the agent gave.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Files by their path.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

impl Device {
    fn new(key: &Path) -> Self {
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

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("twinseal"));
        command
            .arg("--device")
            .arg(self.folder.path().join("device.toml"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn select(&self) -> String {
        let ran = self.run(&["select"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out.trim().to_owned()
    }

    fn install(&self, link: &Link, release: u64, options: &[&str]) -> Ran {
        let url = address(link, release);
        let words = [&["--json", "install"], options, &[&url]].concat();
        self.run(&words)
    }

    /// What the plan says that an update reads when nothing may be read in vain.
    fn plan(&self, link: &Link, release: u64) -> u64 {
        let large = u64::MAX.to_string();
        let ran = self.run(&[
            "--json",
            "plan",
            "--budget",
            &large,
            &address(link, release),
        ]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let read = |line| -> serde_json::Value { serde_json::from_str(line).unwrap() };
        let mut events = ran.out.lines().map(read);
        let plan = events.find(|event| event["event"] == "plan").unwrap();
        plan["source_bytes"].as_u64().unwrap()
    }

    /// The files of a set.
    fn set(&self, set: &str) -> Tree {
        let mut tree = Tree::new();
        for slot in ["boot", "root"] {
            let folder = self.folder.path().join(format!("{set}-{slot}"));
            gather(&folder, &folder, &mut tree);
        }
        tree
    }

    /// It has not become the device that it would be after an update.
    fn runs_on(&self) {
        assert_eq!(self.select(), "a default");
    }

    /// It has become exactly the device that an undisturbed update makes.
    fn is_updated(&self, set: &Tree) {
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

fn address(link: &Link, release: u64) -> String {
    format!("http://127.0.0.1:{}/v{release}.tseal", link.port)
}

fn gather(root: &Path, folder: &Path, tree: &mut Tree) {
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

/// The most that an update may take that was interrupted so often.
fn most(undisturbed: &Report, interruptions: u64) -> u64 {
    undisturbed.bytes() * 103 / 100 + interruptions * RANGE_BYTES
}

#[test]
fn cuts_every_200_kb_cost_a_range_each_at_most() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    for ending in ["close", "reset"] {
        let link = maker.link(&format!(
            "cut = {{ every-bytes = 200000, by = \"{ending}\" }}"
        ));
        let device = maker.device();
        let ran = device.install(&link, 2, &[]);
        assert_eq!(ran.code, 0, "{ending}: {}", ran.err);
        let report = link.report();
        println!(
            "{ending}: {} bytes undisturbed, {report:?}",
            undisturbed.bytes()
        );
        assert!(report.cuts >= 5, "{ending}: {report:?}");
        assert!(
            report.bytes() <= most(&undisturbed, report.cuts),
            "{ending}: {undisturbed:?} {report:?}"
        );
        device.is_updated(&set);
    }
}

#[test]
fn what_a_link_corrupts_is_never_installed() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(2);
    let link = maker.link("corrupt = { mean-bytes = 300000, times = 3, in = \"anywhere\" }");
    let device = maker.device();
    let mut stops = 0;
    loop {
        let ran = device.install(&link, 2, &[]);
        if ran.code == 0 {
            break;
        }
        // The bundle is not as signed, or the server's answer makes no sense.
        assert!(
            [20, 21, 22, 23, 30, 70, 71].contains(&ran.code),
            "{}: {}",
            ran.code,
            ran.err
        );
        device.runs_on();
        stops += 1;
        assert!(stops <= 3, "{}", ran.err);
    }
    let report = link.report();
    println!("{stops} stops, {report:?}");
    assert!(report.corrupted_bytes >= 2, "{report:?}");
    device.is_updated(&set);
}

#[test]
fn a_link_that_corrupts_without_end_never_costs_more_than_the_budget() {
    let maker = Maker::new();
    let (link, device) = (maker.link(""), maker.device());
    let budget = device.plan(&link, 2) + 20_000;
    for _ in 0..3 {
        let before = link.report();
        link.change(read("corrupt = { mean-bytes = 150000 }"), before.requests);
        let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
        assert!(ran.code != 0, "{}", ran.out);
        let since = link.report().since(&before);
        assert!(
            since.corrupted_bytes > 0 && since.body_bytes <= budget,
            "{since:?}"
        );
        device.runs_on();
    }
}

#[test]
fn a_silence_is_waited_out_and_costs_nothing() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    let link = maker.link("stall = { after-bytes = 400000, for-ms = 1500 }");
    let device = maker.device();
    let begin = Instant::now();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    assert!(begin.elapsed() >= Duration::from_millis(1500) && report.stalls == 1);
    assert!(
        report.bytes() <= most(&undisturbed, 0),
        "{undisturbed:?} {report:?}"
    );
    device.is_updated(&set);
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_without_the_file_is_not() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    let link = maker.link("refuse = { status = 503, times = 2, after-requests = 1 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    assert_eq!(report.refused, 2);
    assert!(
        report.bytes() <= most(&undisturbed, 2),
        "{undisturbed:?} {report:?}"
    );
    device.is_updated(&set);

    let link = maker.link("refuse = { status = 404, times = 9 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 70, "{}", ran.err);
    assert!(link.report().requests <= 2, "{:?}", link.report());
    device.runs_on();
}

#[test]
fn a_range_that_is_refused_ends_the_install_and_it_goes_on_later() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(2);
    let link = maker.link("refuse = { status = 416, times = 1, after-requests = 2 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert!(
        ran.code != 0,
        "a range that is there was refused: {}",
        ran.out
    );
    device.runs_on();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    device.is_updated(&set);
}

#[test]
fn a_bundle_that_is_replaced_under_way_is_noticed_and_the_new_one_installed_next() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(3);
    let link = maker.link("replace = { after-bytes = 300000, by = \"v3.tseal\" }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 71, "{}", ran.err);
    assert!(link.report().replaced > 0);
    device.runs_on();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    device.is_updated(&set);
}

#[test]
fn a_server_without_ranges_gives_the_whole_or_nothing() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    let whole = maker.bundle_bytes(2);
    assert!(undisturbed.bytes() < whole * 2 / 3);
    // Slow, so that what is sent before the agent hangs up is what the agent took to see it.
    let link = maker.link("no-ranges = true\nbits-per-second = 1000000");
    let device = maker.device();
    let ran = device.install(&link, 2, &["--budget", &(whole - 1).to_string()]);
    assert_eq!(ran.code, 37, "{}", ran.err);
    assert!(link.report().body_bytes < whole / 2, "{:?}", link.report());
    device.runs_on();

    let link = maker.link("no-ranges = true");
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    assert!(
        report.body_bytes <= whole && report.requests == 1,
        "{report:?}"
    );
    device.is_updated(&set);
}

#[test]
fn a_budget_that_is_too_small_is_refused_before_the_first_byte_of_data() {
    let maker = Maker::new();
    let (link, device) = (maker.link(""), maker.device());
    let plans = [device.plan(&link, 2), device.plan(&link, 2)];
    println!("planned: {plans:?} bytes");
    // The second finds the index where the first left it, as an install would.
    let budget = plans[1] - 1;
    let (set, before) = (device.set("b"), link.report());
    let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
    assert_eq!(ran.code, 37, "{}", ran.err);
    assert!(ran.err.contains("budget"), "{}", ran.err);
    let since = link.report().since(&before);
    assert!(since.body_bytes < budget / 10, "{since:?} of {budget}");
    assert!(device.set("b") == set, "nothing is written");
    device.runs_on();
}

#[test]
fn dropped_connections_are_tried_again() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(2);
    let link = maker.link("drop = { one-in = 2, times = 2 }\ncut = { every-bytes = 300000 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(link.report().dropped > 0, "{:?}", link.report());
    device.is_updated(&set);
}

/// Waits for what the agent's process or the link does next.
fn wait_for(mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !happened() {
        assert!(Instant::now() < end, "nothing happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ended(agent: &mut Child) -> bool {
    agent.try_wait().unwrap().is_some()
}

#[test]
fn an_agent_that_is_killed_goes_on_where_it_was() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    let (link, device) = (maker.link(""), maker.device());
    // What stands before the data is read again by each start.
    device.plan(&link, 2);
    let start = link.report();
    let large = u64::MAX.to_string();
    let mut moments = Moments::new(SEED, "kills");
    let mut kills = 0;
    for _ in 0..30 {
        let stalls = link.report().stalls;
        let after = 1 + moments.up_to(undisturbed.down_bytes / 6);
        link.change(read(&format!("stall = {{ after-bytes = {after} }}")), SEED);
        let url = address(&link, 2);
        let mut command = device.command(&["install", "--budget", &large, &url]);
        let mut agent = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(|| link.report().stalls > stalls || ended(&mut agent));
        if ended(&mut agent) {
            break;
        }
        agent.kill().unwrap();
        agent.wait().unwrap();
        device.runs_on();
        kills += 1;
    }
    link.change(Shape::default(), SEED);
    let ran = device.install(&link, 2, &["--budget", &large]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report().since(&start);
    println!(
        "{kills} kills, {} bytes undisturbed, {report:?}",
        undisturbed.bytes()
    );
    assert!(kills >= 5, "{report:?}");
    let most = most(&undisturbed, kills) + kills * start.bytes();
    assert!(report.bytes() <= most, "{most}: {undisturbed:?} {report:?}");
    device.is_updated(&set);
}
