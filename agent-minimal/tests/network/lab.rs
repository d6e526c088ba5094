//! A network of two machines: this one, which has no address, and one that serves. A veth pair is the cable.
//!
//! Each test starts itself again in name spaces of its own, so nothing of this machine is touched and nothing is left.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, fmt, thread};
use twinseal_minimal::net::{Attendant, Patience};

/// The serving machine.
pub const SERVER: &str = "10.77.0.1";

/// An address at which nobody is.
pub const DEAD: &str = "10.77.0.77";

/// Another address of it, in a network to which only a router leads.
pub const BEHIND_ROUTER: &str = "192.0.2.9";

/// Set in the second start of a test.
const INSIDE: &str = "TWINSEAL_TEST_NETWORK";

/// The name space of the serving machine; its name is seen by nobody else, for `/run` is of this test alone.
const SERVERS: &str = "twinseal-recover-servers";

const SETUP: &str = "set -e
mount -t tmpfs none /run
ip netns add $SERVERS
ip link add client type veth peer name server netns $SERVERS
ip -n $SERVERS link set lo up
ip -n $SERVERS address add $SERVER/24 dev server
ip -n $SERVERS address add $BEHIND_ROUTER/32 dev lo
ip -n $SERVERS link set server up
exec \"$0\" --exact \"$1\" --nocapture";

/// Runs `test`, which is the test function called `name`, in the network.
pub fn in_network(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "sh", "-c", SETUP])
        .arg(env::current_exe().unwrap())
        .arg(name)
        .envs([(INSIDE, "1"), ("SERVERS", SERVERS), ("SERVER", SERVER)])
        .env("BEHIND_ROUTER", BEHIND_ROUTER)
        .env("PATH", path())
        .output()
        .expect("unshare (package util-linux) is needed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}{errors}");
    assert!(
        output.status.success() && text.contains("1 passed"),
        "the right to a network of its own, ip (iproute2), dnsmasq (dnsmasq-base) and nginx are needed: scripts/deps.sh test"
    );
}

/// Programs of the system, and those that were unpacked for the appliance.
fn path() -> String {
    let own = env::var("PATH").unwrap_or_default();
    let cache = env::var("TWINSEAL_CACHE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache").to_owned());
    format!("{own}:/usr/sbin:/sbin:{cache}/appliance/tools")
}

/// Runs `ip` on the serving machine's side.
pub fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(["-n", SERVERS])
        .args(arguments)
        .status();
    assert!(status.unwrap().success(), "ip {arguments:?}");
}

/// Gives this machine an address, for tests that use the kernel's network.
pub fn give_address() {
    for words in [
        "address replace 10.77.0.9/24 dev client",
        "link set client up",
    ] {
        let status = Command::new("ip").args(words.split(' ')).status();
        assert!(status.unwrap().success(), "ip {words}");
    }
}

/// Has the cable lose what is longer than so many bytes of IP.
pub fn lose_frames_beyond(bytes: &str) {
    // What the other end would leave to its hardware to cut up comes cut up.
    ip(&["link", "set", "server", "gso_max_segs", "1"]);
    let status = Command::new("ip")
        .args(["link", "set", "client", "mtu", bytes])
        .status();
    assert!(status.unwrap().success());
}

/// Puts a text in the place of a file of this machine, for this test alone: its mounts are its own.
pub fn put(path: &str, text: &str, folder: &Path) {
    let name = path.replace('/', "-");
    let own = folder.join(name);
    let is_new = !own.exists();
    std::fs::write(&own, text).unwrap();
    if is_new {
        let status = Command::new("mount")
            .arg("--bind")
            .arg(&own)
            .arg(path)
            .status();
        assert!(
            status.unwrap().success(),
            "{path} must be there to be covered"
        );
    }
}

/// Moves the calling thread to the serving machine.
pub fn move_to_server() {
    let space = File::open(Path::new("/run/netns").join(SERVERS)).unwrap();
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(space.as_fd(), kind).unwrap();
}

/// A program on the serving machine, until it is dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program on the serving machine.
pub fn start(command: &[&str]) -> Running {
    let child = Command::new("ip")
        .args(["netns", "exec", SERVERS])
        .args(command)
        .stdin(Stdio::null())
        .spawn();
    Running(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// Starts `nginx`, which serves the folder and logs each request, and waits until it listens.
pub fn start_nginx(folder: &Path) -> Running {
    let at = folder.display();
    let text = format!(
        "user root; daemon off; master_process off; pid {at}/pid; error_log {at}/errors; events {{}}\n\
         http {{ log_format short '$connection $status $http_range $http_if_range';\n\
         access_log {at}/requests short; client_body_temp_path {at}/1; proxy_temp_path {at}/2;\n\
         fastcgi_temp_path {at}/3; uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n\
         server {{ listen 80; root {at}/www; }} }}\n"
    );
    std::fs::write(folder.join("conf"), text).unwrap();
    let conf = folder.join("conf");
    let errors = folder.join("errors");
    let [conf, at, errors] = [&conf, folder, &errors].map(|path| path.to_str().unwrap());
    let nginx = start(&["nginx", "-c", conf, "-p", at, "-e", errors]);
    until_it_listens("nginx (scripts/appliance.sh, or package nginx-light) does not listen");
    nginx
}

/// Starts `dnsmasq`: addresses, a name, and one with two addresses.
pub fn start_dnsmasq(folder: &Path) -> Running {
    let leases = format!("--dhcp-leasefile={}", folder.join("leases").display());
    let known = format!("--address=/updates.example/{SERVER}");
    // Given in turns, once the one and once the other first.
    let several = [SERVER, DEAD].map(|address| format!("--address=/several.example/{address}"));
    let servers = [
        // Several are in the order in which they are to be used; at the other one nobody is.
        format!("--dhcp-option=option:router,{SERVER},{DEAD}"),
        format!("--dhcp-option=option:dns-server,{DEAD},{SERVER}"),
    ];
    start(&[
        "dnsmasq",
        // In the foreground, and as the user that it is.
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-ping",
        "--local=/example/",
        "--log-dhcp",
        "--interface=server",
        "--bind-interfaces",
        "--dhcp-range=10.77.0.50,10.77.0.60,1h",
        "--dhcp-authoritative",
        &known,
        &several[0],
        &several[1],
        &leases,
        &servers[0],
        &servers[1],
    ])
}

fn until_it_listens(complaint: &str) {
    let listens = thread::spawn(|| {
        move_to_server();
        let address = format!("{SERVER}:80").parse().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while std::time::Instant::now() < end {
            if std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return true;
            }
            thread::yield_now();
        }
        false
    });
    assert!(listens.join().unwrap(), "{complaint}");
}

/// Hears what is said.
#[derive(Default)]
pub struct Listener {
    lines: Mutex<Vec<String>>,
    /// Whether it has something better to do …
    called_away: AtomicBool,
    /// … which it has as soon as it hears this.
    words: Option<&'static str>,
    /// How often it was told that something is waited for.
    alive: AtomicUsize,
}

impl Listener {
    /// One that has something better to do as soon as it hears these words.
    pub fn called_away_by(words: &'static str) -> Self {
        Self {
            words: Some(words),
            ..Self::default()
        }
    }

    /// From now on it has something better to do.
    pub fn call_away(&self) {
        self.called_away.store(true, Ordering::SeqCst);
    }

    /// The same, and comes back when it has been told since that something is waited for.
    pub fn call_away_in_a_wait(&self) {
        let before = self.alive.load(Ordering::SeqCst);
        self.call_away();
        while self.alive.load(Ordering::SeqCst) < before + 2 {
            thread::yield_now();
        }
    }

    /// All lines that have a text in them.
    pub fn heard(&self, text: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).count()
    }
}

impl Attendant for Listener {
    fn say(&self, line: fmt::Arguments<'_>) {
        println!("said: {line}");
        let line = line.to_string();
        if self.words.is_some_and(|words| line.contains(words)) {
            self.call_away();
        }
        self.lines.lock().unwrap().push(line);
    }

    fn alive(&self) {
        self.alive.fetch_add(1, Ordering::SeqCst);
    }

    fn is_called_away(&self) -> bool {
        self.called_away.load(Ordering::SeqCst)
    }
}

/// Little of it, so that a test that runs out of it is short.
pub fn patience() -> Patience {
    let milliseconds = Duration::from_millis;
    Patience {
        // The kernel tells of a cable once a second at most.
        carrier: milliseconds(20_000),
        address: milliseconds(20_000),
        name: milliseconds(10_000),
        connect: milliseconds(3_000),
        head: milliseconds(1_000),
        idle: milliseconds(1_000),
        pace: milliseconds(800),
        pace_bytes: 4_096,
        pause: milliseconds(10),
        pause_max: milliseconds(40),
        tries: 3,
        progress_bytes: 64 * 1024,
    }
}
