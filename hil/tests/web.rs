//! Updates from real web servers: TLS with certificates of both sides, redirects, a real proxy; a rate, and hours of the day.

#[path = "support/field.rs"]
mod field;
#[path = "support/servers.rs"]
mod servers;
mod support;

use field::{Device, Maker, PIECE_BYTES, Ran};
use servers::{Authority, Fault, Server, Wire};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A maker, its authority, and a server with TLS.
struct Field {
    maker: Maker,
    authority: Authority,
}

impl Field {
    fn new() -> Self {
        let maker = Maker::new();
        let authority = Authority::new(&maker.folder.path().join("tls"), "one");
        authority.sign("server", "127.0.0.1", 2020..2090);
        authority.sign("device", "gateway-17", 2020..2090);
        Self { maker, authority }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.maker.folder.path().join(name)
    }

    /// A server; `more` goes into it.
    fn server(&self, name: &str, certificate: &str, more: &str) -> Server {
        let tls = format!(
            "ssl_certificate {}; ssl_certificate_key {};",
            self.authority.file(&format!("{certificate}.pem")).display(),
            self.authority.file(&format!("{certificate}.key")).display()
        );
        let text = format!("server {{ listen 127.0.0.1:PORT ssl; {tls} {more} }}");
        Server::nginx(&self.folder(name), &self.folder("served"), &text)
    }

    /// A server without TLS.
    fn plain(&self, name: &str, more: &str) -> Server {
        let text = format!("server {{ listen 127.0.0.1:PORT; {more} }}");
        Server::nginx(&self.folder(name), &self.folder("served"), &text)
    }

    /// A device that trusts the authority; `more` is said of its network too.
    fn device(&self, more: &str) -> Device {
        let device = self.maker.device();
        let trust = self.authority.file("ca.pem");
        device.describe(&format!(
            "[network]\ntrust = \"{}\"\n{more}\n",
            trust.display()
        ));
        device
    }

    fn identity(&self) -> String {
        let file = |name| self.authority.file(name).display().to_string();
        let (certificate, key) = (file("device.pem"), file("device.key"));
        format!("certificate = \"{certificate}\"\nkey = \"{key}\"\n")
    }
}

fn https(port: u16) -> String {
    format!("https://127.0.0.1:{port}/v2.tseal")
}

fn http(port: u16) -> String {
    format!("http://127.0.0.1:{port}/v2.tseal")
}

/// An event of a run.
fn event(ran: &Ran, name: &str) -> serde_json::Value {
    let read = |line| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    let mut events = ran.out.lines().map(read);
    events.rfind(|event| event["event"] == name).unwrap()
}

/// Bytes of the event `traffic`.
fn traffic(ran: &Ran) -> u64 {
    let traffic = event(ran, "traffic");
    traffic["received_bytes"].as_u64().unwrap() + traffic["sent_bytes"].as_u64().unwrap()
}

fn updated(device: &Device, words: &[&str]) -> Ran {
    let ran = device.run(&[&["--json", "install"], words].concat());
    assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
    assert!(device.select().starts_with("b trial"));
    ran
}

fn refused(device: &Device, words: &[&str], code: i32, why: &str) {
    let ran = device.run(&[&["install"], words].concat());
    assert_eq!(ran.code, code, "{}", ran.err);
    assert!(ran.err.contains(why), "{why}: {}", ran.err);
    device.runs_on();
}

#[test]
fn over_tls_every_byte_counts_and_the_plan_is_enough_to_the_byte() {
    let field = Field::new();
    for (name, versions) in [("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")] {
        let more = format!("ssl_protocols {versions};");
        let server = field.server(name, "server", &more);
        let (wire, device) = (Wire::to(server.port, Fault::None), field.device(""));
        let url = https(wire.port);
        let ran = device.run(&["--json", "plan", &url]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(traffic(&ran), wire.bytes());
        let budget = event(&ran, "plan")["network"]["install_bytes"].as_u64();
        let budget = budget.unwrap();
        let small = (budget - 1).to_string();
        refused(&device, &["--budget", &small, &url], 37, "budget");
        let before = wire.bytes();
        let ran = updated(&device, &["--budget", &budget.to_string(), &url]);
        let spent = wire.bytes() - before;
        println!("{versions}: {budget} bytes planned, {spent} spent");
        assert!(spent <= budget && spent >= budget * 93 / 100, "{spent}");
        assert_eq!(traffic(&ran), spent);
        assert_eq!(device.told("install-completed"), spent);
    }
}

#[test]
fn cuts_of_a_connection_with_tls_cost_a_range_and_a_handshake_each() {
    let field = Field::new();
    let server = field.server("cut", "server", "");
    let wire = Wire::to(server.port, Fault::None);
    updated(&field.device(""), &[&https(wire.port)]);
    let undisturbed = wire.bytes();
    let wire = Wire::to(server.port, Fault::Cut(200_000));
    updated(&field.device(""), &[&https(wire.port)]);
    let cuts = wire.connections() - 1;
    println!(
        "{undisturbed} undisturbed, {} with {cuts} cuts",
        wire.bytes()
    );
    assert!(cuts >= 5);
    assert!(wire.bytes() <= undisturbed * 103 / 100 + cuts * PIECE_BYTES);
}

#[test]
fn what_is_flipped_under_tls_is_asked_for_again_within_the_budget() {
    let field = Field::new();
    let server = field.server("flips", "server", "");
    let device = field.device("");
    let ran = device.run(&["--json", "plan", &https(server.port)]);
    let plan = event(&ran, "plan")["network"]["install_bytes"].as_u64();
    // Enough for the update and some of the new tries, and for all of them.
    for more in [60_000, 1_000_000] {
        let wire = Wire::to(server.port, Fault::Flip(150_000));
        let budget = plan.unwrap() + more;
        let device = field.device("");
        let words = [
            "install",
            "--budget",
            &budget.to_string(),
            &https(wire.port),
        ];
        let ran = device.run(&words);
        let (spent, connections) = (wire.bytes(), wire.connections());
        println!(
            "exit code {}, {spent} of {budget}, {connections} connections",
            ran.code
        );
        assert!(spent <= budget && connections > 1, "{}", ran.err);
        assert_eq!(ran.code, if more == 60_000 { 37 } else { 0 }, "{}", ran.err);
    }
}

#[test]
fn a_server_must_prove_who_it_is_and_a_wrong_clock_is_said() {
    let field = Field::new();
    let server = field.server("own", "server", "");
    // Trust in another authority.
    let other = Authority::new(&field.folder("other"), "another");
    let device = field.maker.device();
    let trust = |file: PathBuf| format!("[network]\ntrust = \"{}\"\n", file.display());
    // Without an anchor in the description those of the system count.
    for (anchors, code, why) in [
        (field.authority.file("ca.pem"), 0, ""),
        (other.file("ca.pem"), 70, "trust anchors"),
        (field.folder("none.pem"), 2, "no trust anchors"),
    ] {
        let mut plan = device.command(&["plan", &https(server.port)]);
        plan.env("SSL_CERT_FILE", anchors)
            .env_remove("SSL_CERT_DIR");
        let output = plan.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(why), "{why}: {error}");
    }
    device.describe(&trust(other.file("ca.pem")));
    refused(&device, &[&https(server.port)], 70, "trust anchors");
    device.describe(&trust(field.folder("none.pem")));
    refused(&device, &[&https(server.port)], 2, "none.pem");
    device.describe(&trust(field.authority.file("server.key")));
    refused(&device, &[&https(server.port)], 2, "no certificate");
    let device = field.device("");
    let by_name = format!("https://localhost:{}/v2.tseal", server.port);
    refused(&device, &[&by_name], 70, "localhost");
    field.authority.sign("old", "127.0.0.1", 2020..2021);
    let server = field.server("old", "old", "");
    let why = "good until 2021-01-01T00:00:00Z, and this device's clock says";
    refused(&device, &[&https(server.port)], 70, why);
    field.authority.sign("new", "127.0.0.1", 2089..2090);
    let server = field.server("new", "new", "");
    let why = "good from 2089-01-01T00:00:00Z, and this device's clock says";
    refused(&device, &[&https(server.port)], 70, why);
}

#[test]
fn a_server_may_ask_who_the_device_is() {
    let field = Field::new();
    let asks = format!(
        "ssl_client_certificate {}; ssl_verify_client on;",
        field.authority.file("ca.pem").display()
    );
    let server = field.server("asks", "server", &asks);
    let url = https(server.port);
    refused(&field.device(""), &[&url], 70, "status 400");
    // A key that belongs to another certificate.
    let device = field.device(&field.identity().replace("device.key", "server.key"));
    refused(&device, &[&url], 2, "server.key");
    let device = field.device(&field.identity());
    updated(&device, &[&url]);
    assert!(server.log().iter().any(|line| line.contains("CN=device")));
}

#[test]
fn a_redirect_is_followed_once_and_secrets_stay_behind() {
    let field = Field::new();
    let knows = format!(
        "ssl_client_certificate {}; ssl_verify_client optional;",
        field.authority.file("ca.pem").display()
    );
    let depot = field.server("depot", "server", &knows);
    let more = format!(
        "{knows} return 302 https://127.0.0.1:{}$request_uri;",
        depot.port
    );
    let front = field.server("front", "server", &more);
    let device = field.device(&field.identity());
    let url = format!("https://me:word@127.0.0.1:{}/v2.tseal", front.port);
    let ran = updated(&device, &[&url]);
    let requests = event(&ran, "traffic")["requests"].as_u64().unwrap();
    let (asked, served) = (front.log(), depot.log());
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked.len() + served.len(), requests as usize);
    assert!(asked[0].contains("Basic ") && asked[0].contains("CN=device"));
    assert!(
        served.iter().all(|line| line.ends_with("\"-\" \"-\"")),
        "{served:?}"
    );
}

#[test]
fn a_redirect_that_leads_nowhere_or_out_of_tls_is_refused() {
    let field = Field::new();
    let plain = field.plain("plain", "location = /circle { return 307 /circle; }");
    let device = field.device("");
    let circle = format!("http://127.0.0.1:{}/circle", plain.port);
    refused(&device, &[&circle], 70, "on and on");
    assert_eq!(plain.log().len(), 6);
    let more = format!("return 301 http://127.0.0.1:{}$request_uri;", plain.port);
    let server = field.server("down", "server", &more);
    refused(&device, &[&https(server.port)], 70, "from https: to http:");
    assert_eq!(plain.log().len(), 6, "nothing was asked without TLS");
}

#[test]
fn a_proxy_of_the_description_or_of_the_environment_is_used() {
    let field = Field::new();
    let (plain, server) = (field.plain("web", ""), field.server("tls", "server", ""));
    let proxy = Server::proxy(&field.folder("proxy"));
    let wire = Wire::to(proxy.port, Fault::None);
    let address = format!("http://user:word@127.0.0.1:{}", wire.port);
    // By the description: all bytes, those of the tunnel included.
    for url in [http(plain.port), https(server.port)] {
        let device = field.device(&format!("proxy = \"{address}\""));
        let before = wire.bytes();
        let ran = device.run(&["--json", "plan", &url]);
        assert_eq!(traffic(&ran), wire.bytes() - before, "{}", ran.err);
        let planned = event(&ran, "plan")["network"]["install_bytes"].as_u64();
        // This proxy closes a connection after each answer and does not say so: the first request that meets that is sent twice.
        let budget = planned.unwrap() + if url.starts_with("https") { 0 } else { 512 };
        let before = wire.bytes();
        let ran = updated(&device, &["--budget", &budget.to_string(), &url]);
        assert_eq!(traffic(&ran), wire.bytes() - before);
        let tries = event(&ran, "traffic")["tries"].as_u64();
        assert_eq!(tries, Some(0), "{}", ran.err);
    }
    let log = proxy.log().join("\n");
    let connect = format!("CONNECT 127.0.0.1:{}", server.port);
    let get = format!("GET http://127.0.0.1:{}/v2.tseal", plain.port);
    assert!(log.contains(&connect) && log.contains(&get), "{log}");
    // By the environment, and past it.
    let device = field.device("");
    let url = https(server.port);
    let asked = |no_proxy: &str| {
        let before = wire.bytes();
        let mut command = device.command(&["plan", &url]);
        command
            .env("https_proxy", &address)
            .env("no_proxy", no_proxy);
        assert!(command.output().unwrap().status.success());
        wire.bytes() - before
    };
    assert!(asked("example.org") > 1_000);
    assert_eq!(asked("127.0.0.1"), 0);
    // Without the password, and a proxy that is none.
    let bare = format!("proxy = \"http://127.0.0.1:{}\"", wire.port);
    refused(&field.device(&bare), &[&url], 70, "proxy");
    refused(&field.device(&bare), &[&http(plain.port)], 70, "status 407");
    let socks = field.device("proxy = \"socks5://127.0.0.1:1\"");
    refused(&socks, &[&url], 2, "address of the proxy");
}

#[test]
fn a_rate_is_kept_to_and_the_plan_says_how_long_it_takes() {
    let field = Field::new();
    let server = field.plain("web", "");
    let device = field.device("max-rate = 400000");
    let ran = device.run(&["--json", "plan", "--rate", "8000", &http(server.port)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let plan = event(&ran, "plan");
    let bytes = plan["network"]["install_bytes"].as_u64().unwrap();
    assert_eq!(plan["seconds"].as_u64(), Some(bytes.div_ceil(8_000)));
    let kinds = ["uki", "objects", "composefs", "images"].map(|kind| {
        plan[kind]["whole_bytes"].as_u64().unwrap() + plan[kind]["patch_bytes"].as_u64().unwrap()
    });
    assert_eq!(Some(kinds.iter().sum()), plan["fetch_bytes"].as_u64());
    assert!(kinds[..3].iter().all(|bytes| *bytes > 0), "{plan}");
    let begin = Instant::now();
    let ran = updated(&device, &[&http(server.port)]);
    let (took, bytes) = (begin.elapsed().as_secs_f64(), traffic(&ran));
    println!("{bytes} bytes in {took:.1} s");
    assert!(took >= bytes as f64 / 400_000.0 * 0.95);
}

#[test]
fn outside_of_its_hours_an_install_asks_for_nothing() {
    let field = Field::new();
    let server = field.plain("web", "");
    let wire = Wire::to(server.port, Fault::None);
    let (device, url) = (field.device(""), http(wire.port));
    let minute = |from_now: i64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let minute = (now.as_secs() as i64 / 60 + from_now).rem_euclid(24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    // Not yet: nothing is asked for, and the journal knows nothing of it; a plan says when.
    let closed = format!("{}-{}", minute(120), minute(180));
    let entries = device.run(&["history"]).out.lines().count();
    let ran = device.run(&["install", "--window", &closed, &url]);
    assert_eq!(ran.code, 72, "{}", ran.err);
    assert!(ran.err.contains("but from"), "{}", ran.err);
    assert_eq!(wire.bytes(), 0);
    assert_eq!(device.run(&["history"]).out.lines().count(), entries);
    let ran = device.run(&["plan", "--window", &closed, &url]);
    assert!(ran.out.contains("closed until"), "{}", ran.out);
    let open = format!("{}-{}", minute(-60), minute(120));
    let ran = updated(&device, &["--window", &open, &url]);
    assert!(traffic(&ran) > 0);
}
