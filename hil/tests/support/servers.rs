//! Servers that somebody else wrote, with certificates made here; and a wire that counts what goes over it.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use twinseal_hil::guard::{self, Guarded};
use twinseal_hil::programs::find_in_path;

/// Rounds of waiting for a server to listen.
const START_ROUNDS: u32 = 500;
const START_ROUND: Duration = Duration::from_millis(20);

/// An authority, and what it signed.
pub struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Its certificate is `ca.pem` of the folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        let folder = folder.to_owned();
        Self { folder, issuer }
    }

    /// A file beside its certificates.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Signs for a name: `name.pem` and `name.key`. The years are those of its window.
    pub fn sign(&self, name: &str, host: &str, years: std::ops::Range<i32>) -> Certificate {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        certificate
    }
}

/// A server, ended with this value.
pub struct Server {
    pub port: u16,
    folder: PathBuf,
    _process: Guarded,
}

impl Server {
    /// nginx with these servers; `PORT` in the text stands for its port, and `DIR` for its folder.
    pub fn nginx(folder: &Path, served: &Path, servers: &str) -> Self {
        let unpacked =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/appliance/tools/nginx");
        let program = Some(unpacked)
            .filter(|program| program.is_file())
            .or_else(|| find_in_path("nginx"))
            .expect("nginx is missing: scripts/appliance.sh");
        let text = format!(
            "daemon off; master_process off; pid DIR/pid; error_log DIR/log; events {{ worker_connections 64; }}\n\
             http {{ log_format all '$request_method $scheme $request_uri $status \"$http_authorization\" \"$ssl_client_s_dn\"';\n\
             access_log DIR/access all; default_type application/octet-stream; root \"{}\";\n\
             client_body_temp_path DIR/1; proxy_temp_path DIR/2; fastcgi_temp_path DIR/3; uwsgi_temp_path DIR/4;\n\
             scgi_temp_path DIR/5; {servers} }}\n",
            served.display()
        );
        Self::start(folder, &text, |folder| {
            let mut command = guard::command(&program);
            command.args(["-c", "conf", "-e", "log", "-p"]).arg(folder);
            command
        })
    }

    /// tinyproxy.
    pub fn proxy(folder: &Path) -> Self {
        let program = find_in_path("tinyproxy")
            .expect("tinyproxy is missing: apt-get install --no-install-recommends tinyproxy-bin");
        let text = "Port PORT\nListen 127.0.0.1\nTimeout 600\nLogFile \"DIR/access\"\nLogLevel Connect\nMaxClients 20\n\
                    BasicAuth user word\n";
        Self::start(folder, text, |folder| {
            let mut command = guard::command(&program);
            command.args(["-d", "-c"]).arg(folder.join("conf"));
            command
        })
    }

    /// Another program may take a port between our choice and the server's start.
    fn start(folder: &Path, text: &str, program: impl Fn(&Path) -> Command) -> Self {
        fs::create_dir_all(folder).unwrap();
        for _ in 0..5 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let text = text
                .replace("PORT", &port.to_string())
                .replace("DIR", folder.to_str().unwrap());
            fs::write(folder.join("conf"), text).unwrap();
            let mut command = program(folder);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let process = Guarded::start(command).unwrap();
            for _ in 0..START_ROUNDS {
                if process.wait(START_ROUND) {
                    break;
                }
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    let folder = folder.to_owned();
                    return Self {
                        port,
                        folder,
                        _process: process,
                    };
                }
            }
        }
        panic!("a server does not start: see {}", folder.display());
    }

    /// The lines of its log.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("access")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A wire to a port of this machine, on a port of its own.
pub struct Wire {
    pub port: u16,
    bytes: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Wire {
    /// Each connection is cut after so many bytes from the server.
    pub fn to(server: u16, cut_bytes: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let bytes = Arc::new(AtomicU64::new(0));
        let connections = Arc::new(AtomicU64::new(0));
        let (counted, opened) = (bytes.clone(), connections.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                opened.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
                let up = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (counted_up, counted) = (counted.clone(), counted.clone());
                thread::spawn(move || carry(up.0, up.1, u64::MAX, &counted_up));
                thread::spawn(move || carry(server, client, cut_bytes, &counted));
            }
        });
        Self {
            port,
            bytes,
            connections,
        }
    }

    /// What went over it, both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Carries bytes one way, at most so many, then ends both ways.
fn carry(mut from: TcpStream, mut to: TcpStream, most: u64, counted: &AtomicU64) {
    let (mut buffer, mut left) = ([0; 8192], most);
    while left > 0 {
        let piece = left.min(buffer.len() as u64) as usize;
        let Ok(taken @ 1..) = from.read(&mut buffer[..piece]) else {
            break;
        };
        // Before they are passed on: who has got them finds them counted.
        counted.fetch_add(taken as u64, Ordering::Relaxed);
        left -= taken as u64;
        if to.write_all(&buffer[..taken]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
